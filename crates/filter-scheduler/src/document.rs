//! Placement questions asked in documents (`novella_objects::document`), and answered in them.
//!
//! An [`Evaluator`] is built from a fleet, options and filter sets, and answers requests about the fleet as it stands in
//! the document: nothing that it is asked changes it. What this version cannot take into account is refused by name,
//! never left out of the answer.
//!
//! Left out: files, lines and texts.

pub(crate) mod devices;
mod evaluator;
mod groups;
mod hosts;
mod options;
pub(crate) mod policy;
mod request;

use novella_objects::document::{Outcome, Question};

pub use evaluator::Evaluator;
pub use groups::Groups;
pub use hosts::host_table;
pub use options::{EvaluationOptions, filter_kinds};
pub use policy::apply_policy;
pub use request::request_spec;

/// Why a document cannot be worked with: what, where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct BadDocument {
    /// A path, such as `hosts[3].free_ram_mb`; a host's or request's own name stands behind it in parentheses.
    pub place: String,
    /// What is wrong, and what would do.
    pub reason: String,
}

/// Answers a question that stands in one document.
pub fn answer(question: &Question<'_>) -> Result<Vec<Outcome>, BadDocument> {
    let options = EvaluationOptions::read(&question.options)?;
    let table = host_table(&question.aggregates, &question.hosts, options.service_down_time_s)?;
    let defaults = question.server_group_defaults.as_ref();
    let groups = Groups::of(&question.server_groups, defaults, &question.hosts);
    let mut evaluator = Evaluator::new(table, options, &question.filter_sets)?.with_groups(groups);
    question.requests.iter().enumerate().map(|(at, request)| evaluator.outcome(at, request)).collect()
}

impl BadDocument {
    fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }

    /// The same, at its place in something larger.
    fn within(self, outer: &str) -> Self {
        Self { place: format!("{outer}.{}", self.place), reason: self.reason }
    }
}
