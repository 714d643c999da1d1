//! Reproduces Nova's own decisions.
//!
//! `tests/oracle/` has two seeded fleets, 200 requests for each, and the answers of the filters and weighers of Nova
//! 34.0.0. For each request these are: one verdict per host (a point if it passed, the letter of the filter that
//! dropped it, a dash if it was never filtered), the weights of the hosts that passed, and the picks. Each instance's
//! share is consumed before the next is placed. Verdicts, order and picks must be equal, and weights up to 1e-9.

use std::fs::File;
use std::path::Path;

use novella_fleet_documents::{EvaluationOptions, Evaluator, host_table};
use novella_objects::document::{Fleet, Options, Requests, Results};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name);
    let file = File::open(&path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    std::io::read_to_string(flate2::read::GzDecoder::new(file)).expect("it is gzipped text")
}

fn same_verdicts_weights_and_picks(hosts: usize) {
    let [fleet, requests, nova] =
        ["fleet", "requests", "nova"].map(|file| read(&format!("{file}_{hosts}.json.gz")));
    let fleet: Fleet<'_> = serde_json::from_str(&fleet).expect("a good fleet");
    let requests: Requests = serde_json::from_str(&requests).expect("good requests");
    let nova: Results = serde_json::from_str(&nova).expect("good results");
    assert_eq!((fleet.hosts.len(), requests.requests.len(), nova.results.len()), (hosts, 200, 200));
    let options = Options { weighers: Some(nova.weighers), settings: nova.config, ..Options::default() };
    let options = EvaluationOptions::read(&options).expect("good options");
    assert_eq!(options, EvaluationOptions::default(), "what is not told is as where this was recorded");
    let table =
        host_table(&fleet.aggregates, &fleet.hosts, options.service_down_time_s).expect("a good fleet");
    let mut evaluator = Evaluator::new(table, options, &requests.filter_sets).expect("good options");
    let (mut weights, mut picks) = (0, 0);
    for (at, (request, expected)) in requests.requests.iter().zip(&nova.results).enumerate() {
        let outcome = evaluator.outcome(at, request).expect("a good request");
        let id = &expected.id;
        assert_eq!(outcome.id, *id);
        assert_eq!(outcome.verdict, expected.verdict, "verdicts of request {id:?}");
        assert_eq!(outcome.errors, [], "request {id:?}");
        let order = |weights: &[(u32, f64)]| weights.iter().map(|(host, _)| *host).collect::<Vec<_>>();
        assert_eq!(order(&outcome.weights), order(&expected.weights), "order of request {id:?}");
        for ((host, weight), (_, nova)) in outcome.weights.iter().zip(&expected.weights) {
            let tolerance = 1e-9 * nova.abs().max(1.0);
            assert!((weight - nova).abs() <= tolerance, "request {id:?}, host {host}: {weight}, not {nova}");
            weights += 1;
        }
        assert_eq!(outcome.picks, expected.picks, "picks of request {id:?}");
        assert_eq!(outcome.complete, expected.complete, "request {id:?}");
        picks += outcome.picks.len();
    }
    println!("{hosts} hosts: 200 requests, {} verdicts, {weights} weights, {picks} picks", 200 * hosts);
}

#[test]
fn a_hundred_hosts() {
    same_verdicts_weights_and_picks(100);
}

#[test]
fn a_thousand_hosts() {
    same_verdicts_weights_and_picks(1000);
}
