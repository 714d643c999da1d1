//! The last decisions with their requests, for `get_decision` and `explain`.
//!
//! A ring of bounded size: the oldest decision is forgotten first. Ids are looked up from the newest on, because people
//! ask about what just happened.

use std::collections::VecDeque;
use std::sync::Arc;

use novella_host_manager::Resolved;
use novella_objects::Decision;

/// Maximum number of decisions that are remembered. Each takes about 3 KB with its request and explanation.
const REMEMBERED: usize = 4096;
/// Maximum number of host and instance names in all remembered decisions. One decision may hold thousands.
const MAX_NAMES: usize = 256 * 1024;

/// A decision with the request that it answers.
#[derive(Clone)]
pub struct Decided {
    /// The answer.
    pub decision: Arc<Decision>,
    /// What was asked.
    pub request: Arc<Resolved>,
}

/// See the module documentation.
#[derive(Default)]
pub struct Decisions {
    ring: VecDeque<Decided>,
    /// How many names the ring holds; see [`MAX_NAMES`].
    names: usize,
}

impl Decisions {
    /// Remembers another decision.
    pub fn push(&mut self, decided: Decided) {
        self.names += names(&decided);
        self.ring.push_back(decided);
        // The newest stays, however large: it was just answered.
        while self.ring.len() > REMEMBERED || (self.names > MAX_NAMES && self.ring.len() > 1) {
            if let Some(oldest) = self.ring.pop_front() {
                self.names -= names(&oldest);
            }
        }
    }

    /// The decision of this id.
    pub fn get(&self, decision_id: &str) -> Option<&Decided> {
        self.ring.iter().rev().find(|decided| decided.decision.decision_id == decision_id)
    }
}

fn names(decided: &Decided) -> usize {
    let selections = &decided.decision.selections;
    let selected: usize = selections.iter().map(|selection| 1 + selection.alternates.len()).sum();
    selected + decided.request.request().request_spec.instance_uuids.len()
}

#[cfg(test)]
mod tests {
    use novella_objects::{Explanation, Selection};
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
        let huge = MAX_NAMES / 2;
        decisions.push(decided(10_000, huge));
        assert!(decisions.get("s-1").is_none() && decisions.get("s-10000").is_some());
        decisions.push(decided(10_001, huge));
        assert!(decisions.get("s-10000").is_none() && decisions.get("s-10001").is_some());
        assert_eq!((decisions.ring.len(), decisions.names), (1, 2 * huge));
    }
}
