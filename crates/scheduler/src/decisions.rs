//! The last decisions with their requests, for `get_decision`, `list_decisions` and `explain`.
//!
//! A ring of bounded size: the oldest decision is forgotten first. Ids are looked up from the newest on, because people
//! ask about what just happened.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use novella_host_manager::Resolved;
use novella_objects::{Decision, Selection};

/// Maximum number of decisions that are remembered. Most take about 10 KB with their request and explanation, by the estimate here.
const REMEMBERED: usize = 4096;
/// Maximum number of bytes that all remembered decisions take together.
pub(crate) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Maximum number of bytes that one remembered decision takes. A larger one is answered, but not remembered.
const MAX_BYTES_OF_ONE: usize = 4 * 1024 * 1024;

/// What a decision without selections takes, with its explanation.
const DECISION: usize = 4096;
/// What a node of a JSON value takes. A request may be a short text with very many of them.
const NODE: usize = 40;

/// A decision with the request that it answers.
#[derive(Clone)]
pub struct Decided {
    /// The answer.
    pub decision: Arc<Decision>,
    /// What was asked.
    pub request: Arc<Resolved>,
}

/// A decision in the ring.
struct Remembered {
    decided: Decided,
    /// When it was answered.
    at: SystemTime,
    /// How many bytes it takes.
    bytes: usize,
}

/// See the module's text.
#[derive(Default)]
pub struct Decisions {
    /// The decisions in order.
    ring: VecDeque<Remembered>,
    /// How many bytes all of them take.
    bytes: usize,
    /// How many decisions were too large to be remembered.
    too_large: u64,
}

impl Decisions {
    /// Remembers one more, which was answered at this time, unless it is too large.
    pub fn push(&mut self, decided: Decided, at: SystemTime) {
        let bytes = bytes_of(&decided);
        if bytes > MAX_BYTES_OF_ONE {
            self.too_large += 1;
            return;
        }
        self.bytes += bytes;
        self.ring.push_back(Remembered { decided, at, bytes });
        while self.ring.len() > REMEMBERED || self.bytes > MAX_BYTES {
            if let Some(oldest) = self.ring.pop_front() {
                self.bytes -= oldest.bytes;
            }
        }
    }

    /// The decision of this id.
    pub fn get(&self, decision_id: &str) -> Option<&Decided> {
        let mut decisions = self.ring.iter().rev().map(|remembered| &remembered.decided);
        decisions.find(|decided| decided.decision.decision_id == decision_id)
    }

    /// The last decisions, newest first, each with the time when it was answered. A request for claims is decided several
    /// times under one id if hosts refuse; only the last of them is listed.
    pub fn last(&self, most: usize) -> Vec<(Decided, SystemTime)> {
        let mut seen = HashSet::new();
        let newest = self.ring.iter().rev();
        let of_each_id = newest.filter(|remembered| seen.insert(&remembered.decided.decision.decision_id));
        of_each_id.take(most).map(|remembered| (remembered.decided.clone(), remembered.at)).collect()
    }

    /// How many bytes the remembered decisions take, by estimate.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many decisions were too large to be remembered.
    pub fn too_large(&self) -> u64 {
        self.too_large
    }
}

/// About how many bytes a decision and its request take. All instances share one list of alternates.
fn bytes_of(Decided { decision, request }: &Decided) -> usize {
    let selections = &decision.selections;
    let selected = selections.iter().map(|s| size_of::<Selection>() + s.host.len() + s.nodename.len());
    let alternates = selections.first().map_or(&[][..], |selection| &selection.alternates);
    let names = alternates.iter().chain(&decision.notes).chain(decision.not_up.keys());
    let names = names.chain(decision.not_granted.keys()).chain(decision.not_granted.values());
    let names = names.chain(decision.refused_by.iter().flat_map(|refusal| [&refusal.host, &refusal.reason]));
    let text = names.map(|name| 2 * size_of::<String>() + name.len()).sum::<usize>();
    let mut length = JsonLength::default();
    // Writing into a counter does not fail, and a request that was read can be written.
    let _ = serde_json::to_writer(&mut length, request.request());
    DECISION + selected.sum::<usize>() + text + length.bytes + NODE * length.nodes
}

/// Counts a JSON text instead of keeping it.
#[derive(Default)]
struct JsonLength {
    bytes: usize,
    /// How many values there are, about.
    nodes: usize,
}

impl Write for JsonLength {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.bytes += text.len();
        self.nodes += text.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use novella_host_manager::{HostManager, HostManagerOptions};
    use novella_objects::{Explanation, SelectDestinations};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn decided(id: usize, selections: usize) -> Decided {
        let selection = Selection {
            instance_uuid: Uuid::nil(),
            host: "a".into(),
            nodename: "a".into(),
            weight: 0.0,
            alternates: ["b".into()].into(),
        };
        let decision = Arc::new(Decision {
            decision_id: format!("s-{id}"),
            selections: vec![selection; selections],
            refusal: None,
            explanation: Explanation::default(),
            dry_run: false,
            hold_s: 30,
            repeated: false,
            not_up: Default::default(),
            claimed: false,
            not_granted: Default::default(),
            refused_by: Vec::new(),
            policy_hash: String::new(),
            seed: None,
            notes: Vec::new(),
        });
        Decided { decision, request: Arc::default() }
    }

    #[test]
    fn the_oldest_give_way_to_many_decisions_and_to_large_ones() {
        let mut decisions = Decisions::default();
        (0..=REMEMBERED).for_each(|id| decisions.push(decided(id, 1), SystemTime::UNIX_EPOCH));
        assert!(decisions.get("s-0").is_none());
        assert_eq!(decisions.get("s-1").unwrap().decision.decision_id, "s-1");
        let large = MAX_BYTES_OF_ONE / (2 * size_of::<Selection>());
        for id in 0..100 {
            decisions.push(decided(10_000 + id, large), SystemTime::UNIX_EPOCH);
            assert!(decisions.bytes() <= MAX_BYTES);
        }
        assert!(decisions.get("s-4096").is_none() && decisions.get("s-10099").is_some());
        assert!(decisions.ring.len() < 40, "{} large decisions", decisions.ring.len());
    }

    #[test]
    fn the_last_are_listed_newest_first_and_each_id_once() {
        let mut decisions = Decisions::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (id, second) in [(1, 1), (2, 2), (2, 3), (3, 4)] {
            decisions.push(decided(id, 1), at(second));
        }
        let listed = |most| -> Vec<_> {
            let last = decisions.last(most).into_iter();
            last.map(|(decided, at)| (decided.decision.decision_id.clone(), at)).collect()
        };
        assert_eq!(
            listed(9),
            [("s-3".to_owned(), at(4)), ("s-2".to_owned(), at(3)), ("s-1".to_owned(), at(1))]
        );
        assert_eq!(listed(1).len(), 1);
    }

    /// The hint is short as a text and large in memory.
    #[test]
    fn a_request_counts_with_what_it_takes_and_one_that_is_too_large_is_not_remembered() {
        let manager = HostManager::new(HostManagerOptions::default(), "s1");
        let with_hint = |values: usize| {
            let hints = json!({"hint": vec![1; values]});
            let mut asked = SelectDestinations::default();
            asked.request_spec.spec.scheduler_hints = serde_json::from_value(hints).expect("hints");
            Decided { request: Arc::new(manager.resolve(asked).expect("no names")), ..decided(values, 1) }
        };
        let mut decisions = Decisions::default();
        decisions.push(with_hint(10), SystemTime::UNIX_EPOCH);
        let small = decisions.bytes();
        decisions.push(with_hint(50_000), SystemTime::UNIX_EPOCH);
        assert!(decisions.bytes() - small > 50_000 * size_of::<serde_json::Value>());
        decisions.push(with_hint(400_000), SystemTime::UNIX_EPOCH);
        assert!(decisions.get("s-50000").is_some() && decisions.get("s-400000").is_none());
        assert_eq!((decisions.too_large(), decisions.ring.len()), (1, 2));
    }
}
