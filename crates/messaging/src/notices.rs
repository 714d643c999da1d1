//! Limits how often problems with a peer are logged, so that a peer that sends garbage cannot fill the disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Per kind of complaint and peer, one line is logged in this time.
const QUIET: Duration = Duration::from_secs(60);
/// How many pairs of kind and peer are remembered. Complaints about further ones are not logged, only counted.
const MAX_REMEMBERED: usize = 256;

/// The name in the log for the sender of a message without user id.
pub(crate) const NOBODY: &str = "unknown";
/// How many bytes of a malformed body are logged.
const SHOWN_BYTES: usize = 40;

/// The start of a body, for the log.
pub(crate) fn start_of(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).into_owned()
}

/// How many bytes of a method's name are logged or sent back.
const SHOWN_METHOD: usize = 100;
/// How many bytes of a reason are logged or sent back. A reason names what is wrong, which a peer chose.
const SHOWN_REASON: usize = 1000;

/// The name of a method as it is shown. No endpoint has a long one.
pub(crate) fn shown_method(method: &str) -> Cow<'_, str> {
    beginning(method, SHOWN_METHOD)
}

/// A reason as it is shown.
pub(crate) fn shown_reason(reason: String) -> String {
    match beginning(&reason, SHOWN_REASON) {
        Cow::Owned(cut) => cut,
        Cow::Borrowed(_) => reason,
    }
}

/// The beginning of a text of a peer, with how much is left out: at most so many bytes of it are shown.
pub fn beginning(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return text.into();
    }
    let shown = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}... ({} bytes more)", &text[..shown], text.len() - shown).into()
}

/// Remembers the complaints of each kind about each peer.
#[derive(Default)]
pub(crate) struct Notices(Mutex<BTreeMap<(&'static str, String), Complaints>>);

/// Complaints of one kind about one peer.
struct Complaints {
    /// When the last one was logged.
    logged: Instant,
    /// How many came since then.
    suppressed: u64,
}

impl Notices {
    /// Notes a complaint. If it should be logged now, returns how many were suppressed since the last line, else `None`.
    pub(crate) fn take_turn(&self, kind: &'static str, peer: &str) -> Option<u64> {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(&(kind, peer.to_owned())) {
            if now.duration_since(known.logged) < QUIET {
                known.suppressed += 1;
                return None;
            }
            known.logged = now;
            return Some(std::mem::take(&mut known.suppressed));
        }
        if all.len() >= MAX_REMEMBERED {
            all.retain(|_, known| now.duration_since(known.logged) < QUIET);
            if all.len() >= MAX_REMEMBERED {
                return None;
            }
        }
        all.insert((kind, peer.to_owned()), Complaints { logged: now, suppressed: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shown_by_its_beginning() {
        assert_eq!(beginning("short", 200), "short");
        let long = "\u{e9}".repeat(1_000_000);
        let shown = beginning(&long, 200);
        assert!(shown.len() < 300 && shown.ends_with("... (1999800 bytes more)"), "{shown}");
    }

    #[test]
    fn a_method_of_a_megabyte_is_not_a_line_of_a_megabyte() {
        let shown = shown_method("select_destinations").into_owned();
        assert_eq!(shown, "select_destinations");
        let long = "\u{e9}".repeat(1 << 19);
        assert!(shown_method(&long).ends_with("\u{e9}... (1048476 bytes more)"));
        assert!(shown_reason(long).len() < 1100);
    }

    #[tokio::test(start_paused = true)]
    async fn one_line_per_kind_and_peer_and_minute() {
        let notices = Notices::default();
        assert_eq!(notices.take_turn("json", "a"), Some(0));
        for _ in 0..5 {
            assert_eq!(notices.take_turn("json", "a"), None);
        }
        assert_eq!(notices.take_turn("json", "b"), Some(0));
        assert_eq!(notices.take_turn("user", "a"), Some(0));
        tokio::time::advance(QUIET).await;
        assert_eq!(notices.take_turn("json", "a"), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let notices = Notices::default();
        let lines = (0..1000).filter(|n| notices.take_turn("json", &n.to_string()).is_some()).count();
        assert_eq!(lines, MAX_REMEMBERED);
        tokio::time::advance(QUIET).await;
        assert_eq!(notices.take_turn("json", "new"), Some(0));
    }
}
