//! Answers a question that is complete in one document: fleet, options and requests.
//!
//! Left out: fleets and requests in separate documents; the caller builds an `Evaluator` for these.

use novella_host_manager::PolicyFile;
use novella_objects::document::{Fleet, Outcome, Question, Requests};

use crate::apply_policy::apply_policy;
use crate::bad_document::BadDocument;
use crate::evaluator::Evaluator;
use crate::options::EvaluationOptions;
use crate::read_fleet::host_table;

/// The answer to a question: the outcomes, and what their verdicts refer to.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The names of the filters that run, in their order, for each request that does not name its own.
    pub filters: Vec<String>,
    /// One outcome for each request.
    pub outcomes: Vec<Outcome>,
}

/// Answers a question that is complete in one document. A policy, if given, replaces the document's options and names.
/// Fails at the first part of the document that cannot be used.
pub fn answer(question: Question<'_>, policy: Option<&PolicyFile>) -> Result<Answered, BadDocument> {
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
    let mut evaluator = Evaluator::new(table, options, &asked.filter_sets)?.with_fleet(&fleet);
    let filters = evaluator.options().enabled_filters.iter().map(|filter| filter.name().to_owned()).collect();
    let outcomes = asked.requests.iter().enumerate().map(|(at, request)| evaluator.outcome(at, request));
    Ok(Answered { filters, outcomes: outcomes.collect::<Result<_, _>>()? })
}
