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

use novella_objects::document::{Fleet, Outcome, Question, Requests};

use crate::PolicyFile;

pub use evaluator::Evaluator;
use groups::Groups;
pub use hosts::host_table;
pub use options::{EvaluationOptions, filter_kinds};
pub use policy::apply_policy;
pub use request::{request_of, request_spec};

/// Why a document cannot be worked with: what, where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct BadDocument {
    /// A path, such as `hosts[3].free_ram_mb`; a host's or request's own name stands behind it in parentheses.
    pub place: String,
    /// What is wrong, and what would do.
    pub reason: String,
}

/// Answers a question that stands in one document, by a policy if there is one.
pub fn answer(question: Question<'_>, policy: Option<&PolicyFile>) -> Result<Vec<Outcome>, BadDocument> {
    let Question {
        options, filter_sets, aggregates, server_groups, server_group_defaults, pci_aliases, ..
    } = question;
    let hosts = question.hosts;
    let mut fleet =
        Fleet { aggregates, server_groups, server_group_defaults, pci_aliases, hosts, ..Fleet::default() };
    let mut asked = Requests { filter_sets, requests: question.requests, ..Requests::default() };
    let mut options = EvaluationOptions::read(&options)?;
    if let Some(policy) = policy {
        apply_policy(policy, &mut fleet, &mut asked)?;
        options.scheduler = policy.options.clone();
    }
    let table = host_table(&fleet.aggregates, &fleet.hosts, options.service_down_time_s)?;
    let mut evaluator = Evaluator::new(table, options, &asked.filter_sets)?.with_names_of(&fleet);
    asked.requests.iter().enumerate().map(|(at, request)| evaluator.outcome(at, request)).collect()
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
