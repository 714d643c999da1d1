//! Cases that the comparison with Nova found: small documents, each with Nova's own answer.
//!
//! `tests/conformance/found.json` in the workspace has them; its run.py asks both sides again and adds new ones.
//! Verdicts, errors (which filter, which host), order and picks must be equal, and weights up to 1e-9. The hosts that
//! are left before the filters must be equal too.

use std::path::Path;

use novella_fleet_documents::{EvaluationOptions, Evaluator, host_table};
use novella_objects::document::{OutcomeError, Question};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Found {
    what: String,
    document: Box<RawValue>,
    nova: Vec<Answer>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    /// The hosts that are left when the filters begin, and the hosts to which Placement grants a claim.
    Stage {
        candidates: Vec<usize>,
        picks: Vec<u32>,
        complete: bool,
    },
    Whole(Whole),
}

#[derive(Deserialize)]
struct Whole {
    verdict: String,
    errors: Vec<NovaError>,
    weights: Option<Vec<(u32, f64)>>,
    picks: Vec<u32>,
    complete: bool,
}

#[derive(Deserialize)]
struct NovaError {
    filter: Option<String>,
    host: Option<u32>,
}

#[test]
fn everything_found_before_is_as_nova_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/found.json");
    let text = std::fs::read_to_string(&path).expect("the workspace has it");
    let found: Vec<Found> = serde_json::from_str(&text).expect("it is a list of findings");
    assert!(!found.is_empty());
    for Found { what, document, nova } in found {
        let question: Question<'_> = serde_json::from_str(document.get()).expect(&what);
        let options = EvaluationOptions::read(&question.options).expect(&what);
        let table =
            host_table(&question.aggregates, &question.hosts, options.service_down_time_s).expect(&what);
        let mut evaluator = Evaluator::new(table, options, &question.filter_sets).expect(&what);
        assert_eq!(question.requests.len(), nova.len(), "{what}");
        for (at, (request, nova)) in question.requests.iter().zip(nova).enumerate() {
            let ours = evaluator.outcome(at, request).expect(&what);
            let nova = match nova {
                Answer::Whole(nova) => nova,
                Answer::Stage { candidates, picks, complete } => {
                    let left = ours.verdict.chars().enumerate().filter(|(_, verdict)| *verdict == '.');
                    assert_eq!(left.map(|(host, _)| host).collect::<Vec<_>>(), candidates, "{what}");
                    assert_eq!((ours.picks, ours.complete), (picks, complete), "{what}");
                    continue;
                }
            };
            assert_eq!(ours.verdict, nova.verdict, "{what}");
            let of_filters = ours.errors.iter().filter_map(|error| match error {
                OutcomeError::Filter { filter, host, .. } => Some((filter.clone(), *host)),
                _ => None,
            });
            let novas = nova.errors.iter().filter_map(|error| Some((error.filter.clone()?, error.host?)));
            assert_eq!(of_filters.collect::<Vec<_>>(), novas.collect::<Vec<_>>(), "{what}");
            assert_eq!(ours.complete, nova.complete, "{what}");
            if nova.errors.is_empty() {
                assert_eq!(ours.picks, nova.picks, "{what}");
                let weights = nova.weights.unwrap_or_default();
                assert_eq!(ours.weights.len(), weights.len(), "{what}");
                for (ours, nova) in ours.weights.iter().zip(weights) {
                    assert_eq!(ours.0, nova.0, "{what}");
                    assert!(
                        (ours.1 - nova.1).abs() <= 1e-9 * nova.1.abs().max(1.0),
                        "{what}: {ours:?} {nova:?}"
                    );
                }
            }
        }
    }
}
