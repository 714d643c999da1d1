//! The last decisions with their requests, for `get_decision` and `explain`.
//!
//! A ring of bounded size: the oldest decision is forgotten first. Ids are looked up from the newest on, because people
//! ask about what just happened.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

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

/// See the module's text.
#[derive(Default)]
pub struct Decisions {
    /// The decisions, each with the bytes that it takes.
    ring: VecDeque<(Decided, usize)>,
    /// How many bytes all of them take.
    bytes: usize,
    /// How many decisions were too large to be remembered.
    too_large: u64,
}

impl Decisions {
    /// Remembers one more, unless it is too large.
    pub fn push(&mut self, decided: Decided) {
        let bytes = bytes_of(&decided);
        if bytes > MAX_BYTES_OF_ONE {
            self.too_large += 1;
            return;
        }
        self.bytes += bytes;
        self.ring.push_back((decided, bytes));
        while self.ring.len() > REMEMBERED || self.bytes > MAX_BYTES {
            if let Some((_, bytes)) = self.ring.pop_front() {
                self.bytes -= bytes;
            }
        }
    }

    /// The decision of this id.
    pub fn get(&self, decision_id: &str) -> Option<&Decided> {
        let mut decisions = self.ring.iter().rev().map(|(decided, _)| decided);
        decisions.find(|decided| decided.decision.decision_id == decision_id)
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
        (0..=REMEMBERED).for_each(|id| decisions.push(decided(id, 1)));
        assert!(decisions.get("s-0").is_none());
        assert_eq!(decisions.get("s-1").unwrap().decision.decision_id, "s-1");
        let large = MAX_BYTES_OF_ONE / (2 * size_of::<Selection>());
        for id in 0..100 {
            decisions.push(decided(10_000 + id, large));
            assert!(decisions.bytes() <= MAX_BYTES);
        }
        assert!(decisions.get("s-4096").is_none() && decisions.get("s-10099").is_some());
        assert!(decisions.ring.len() < 40, "{} large decisions", decisions.ring.len());
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
        decisions.push(with_hint(10));
        let small = decisions.bytes();
        decisions.push(with_hint(50_000));
        assert!(decisions.bytes() - small > 50_000 * size_of::<serde_json::Value>());
        decisions.push(with_hint(400_000));
        assert!(decisions.get("s-50000").is_some() && decisions.get("s-400000").is_none());
        assert_eq!((decisions.too_large(), decisions.ring.len()), (1, 2));
    }
}
