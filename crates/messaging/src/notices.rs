//! Log lines about peers, at a bounded rate: a peer that sends rubbish must not fill the disk with our complaints.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One line per kind and peer within this time.
const QUIET: Duration = Duration::from_secs(60);
/// Kinds and peers remembered; beyond them only the counters speak.
const MAX_REMEMBERED: usize = 256;

/// Who a message without user id came from, in logs.
pub(crate) const NOBODY: &str = "unknown";
/// First bytes of a malformed body that are logged.
const SHOWN_BYTES: usize = 40;

/// The start of a body, for people.
pub(crate) fn start_of(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).into_owned()
}

/// Remembers what was said about whom.
#[derive(Default)]
pub(crate) struct Notices(Mutex<BTreeMap<(Kind, Peer), (Instant, u64)>>);

type Kind = &'static str;
type Peer = String;

impl Notices {
    /// Whether to log now, and if so how many times it was kept quiet since the last line.
    pub(crate) fn due(&self, kind: Kind, peer: &str) -> Option<u64> {
        let now = Instant::now();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, kept)) = said.get_mut(&(kind, peer.to_owned())) {
            if now.duration_since(*last) < QUIET {
                *kept += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(kept));
        }
        if said.len() >= MAX_REMEMBERED {
            said.retain(|_, (last, _)| now.duration_since(*last) < QUIET);
            if said.len() >= MAX_REMEMBERED {
                return None;
            }
        }
        said.insert((kind, peer.to_owned()), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_kind_and_peer_and_minute() {
        let notices = Notices::default();
        assert_eq!(notices.due("json", "a"), Some(0));
        for _ in 0..5 {
            assert_eq!(notices.due("json", "a"), None);
        }
        assert_eq!(notices.due("json", "b"), Some(0));
        assert_eq!(notices.due("user", "a"), Some(0));
        tokio::time::advance(QUIET).await;
        assert_eq!(notices.due("json", "a"), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let notices = Notices::default();
        let lines = (0..1000).filter(|n| notices.due("json", &n.to_string()).is_some()).count();
        assert_eq!(lines, MAX_REMEMBERED);
        tokio::time::advance(QUIET).await;
        assert_eq!(notices.due("json", "new"), Some(0));
    }
}
