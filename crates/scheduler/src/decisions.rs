//! The last decisions with their requests, so that `get_decision` and `explain` can tell why.
//!
//! A ring with a bound: the oldest is forgotten first. Ids are looked up by scanning from the newest, because people ask
//! about what just happened.

use std::collections::VecDeque;
use std::sync::Arc;

use novella_objects::{Decision, RequestSpec};

/// Decisions remembered. With request and explanation each takes about 3 KB.
const REMEMBERED: usize = 4096;
/// Host names and instances of all of them together: one decision may hold thousands.
const MAX_NAMES: usize = 256 * 1024;

/// See the module.
#[derive(Default)]
pub struct Decisions {
    ring: VecDeque<Remembered>,
    names: usize,
}

struct Remembered {
    decision: Arc<Decision>,
    request: RequestSpec,
}

impl Decisions {
    /// Remembers one, and what was asked.
    pub fn push(&mut self, decision: Arc<Decision>, request: RequestSpec) {
        let remembered = Remembered { decision, request };
        self.names += names(&remembered);
        self.ring.push_back(remembered);
        // The newest stays, however large: it was just answered.
        while self.ring.len() > REMEMBERED || (self.names > MAX_NAMES && self.ring.len() > 1) {
            if let Some(oldest) = self.ring.pop_front() {
                self.names -= names(&oldest);
            }
        }
    }

    /// The decision of this id.
    pub fn get(&self, decision_id: &str) -> Option<Arc<Decision>> {
        self.find(decision_id).map(|remembered| remembered.decision.clone())
    }

    /// The same with its request.
    pub fn get_with_request(&self, decision_id: &str) -> Option<(Arc<Decision>, RequestSpec)> {
        self.find(decision_id).map(|remembered| (remembered.decision.clone(), remembered.request.clone()))
    }

    fn find(&self, decision_id: &str) -> Option<&Remembered> {
        self.ring.iter().rev().find(|remembered| remembered.decision.decision_id == decision_id)
    }
}

fn names(remembered: &Remembered) -> usize {
    let selections = &remembered.decision.selections;
    let selected: usize = selections.iter().map(|selection| 1 + selection.alternates.len()).sum();
    selected + remembered.request.instance_uuids.len()
}

#[cfg(test)]
mod tests {
    use novella_objects::{Explanation, Selection};
    use uuid::Uuid;

    use super::*;

    fn decision(id: usize, selections: usize) -> Arc<Decision> {
        let selection = Selection {
            instance_uuid: Uuid::nil(),
            host: "a".into(),
            nodename: "a".into(),
            weight: 0.0,
            alternates: vec!["b".into()],
        };
        Arc::new(Decision {
            decision_id: format!("s-{id}"),
            selections: vec![selection; selections],
            refusal: None,
            explanation: Explanation::default(),
            dry_run: false,
            hold_s: 30,
            repeated: false,
            policy_hash: String::new(),
            seed: None,
        })
    }

    #[test]
    fn the_oldest_give_way_to_many_decisions_and_to_large_ones() {
        let mut decisions = Decisions::default();
        let request = RequestSpec::default;
        (0..=REMEMBERED).for_each(|id| decisions.push(decision(id, 1), request()));
        assert!(decisions.get("s-0").is_none());
        assert_eq!(decisions.get("s-1").unwrap().decision_id, "s-1");
        let huge = MAX_NAMES / 2;
        decisions.push(decision(10_000, huge), request());
        assert!(decisions.get("s-1").is_none() && decisions.get("s-10000").is_some());
        decisions.push(decision(10_001, huge), request());
        assert!(decisions.get("s-10000").is_none() && decisions.get("s-10001").is_some());
        assert_eq!((decisions.ring.len(), decisions.names), (1, 2 * huge));
    }
}
