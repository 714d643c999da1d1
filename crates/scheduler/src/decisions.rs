//! The last decisions, so that `get_decision` can tell why.
//!
//! A ring with a bound: the oldest is forgotten first. Ids are looked up by scanning from the newest, because people ask
//! about what just happened.

use std::collections::VecDeque;
use std::sync::Arc;

use novella_objects::Decision;

/// Decisions remembered. With an explanation each takes about 2 KB.
const REMEMBERED: usize = 4096;

/// See the module.
#[derive(Default)]
pub struct Decisions(VecDeque<Arc<Decision>>);

impl Decisions {
    /// Remembers one.
    pub fn push(&mut self, decision: Arc<Decision>) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(decision);
    }

    /// The decision of this id.
    pub fn get(&self, decision_id: &str) -> Option<Arc<Decision>> {
        self.0.iter().rev().find(|d| d.decision_id == decision_id).cloned()
    }
}
