//! One placement on the fleet of a document, for comparison with the time that Nova takes for the same document in the
//! same run. `scripts/conformance.sh speed` writes the document, asks both and prints the ratio.
//!
//!     NOVELLA_DOCUMENT=FILE cargo bench -p novella-fleet-documents --bench document
//!
//! For the document's first request it prints, separated by tabs: the number of hosts, then the fastest and the median
//! microseconds of the first request of a shape, and of the same request again. Every placement is consumed, and its
//! explanation gets new memory. Giving the placement back and reading the document are not measured. Without a document
//! it prints nothing.

use std::time::{Duration, Instant};

use novella_filter_scheduler::{Amounts, FilterScheduler, HostTable, Terms};
use novella_fleet_documents::{EvaluationOptions, host_table, request_spec};
use novella_objects::document::Question;
use novella_objects::{PlacementRequest, RequestSpec};
use uuid::Uuid;

/// How many samples each figure has.
const SAMPLES: u64 = 2_000;

fn main() {
    let Some(path) = std::env::var_os("NOVELLA_DOCUMENT") else {
        println!("NOVELLA_DOCUMENT names no document; scripts/conformance.sh speed makes some");
        return;
    };
    let text = std::fs::read_to_string(&path).expect("the document can be read");
    let question: Question<'_> = serde_json::from_str(&text).expect("it is a document");
    let options = EvaluationOptions::read(&question.options).expect("its options can be worked with");
    let mut table = host_table(&question.aggregates, &question.hosts, options.service_down_time_s)
        .expect("its hosts can be worked with");
    let PlacementRequest { spec, instance_uuids, .. } =
        request_spec(&question.requests[0]).expect("its first request can be worked with");
    let mut engine = FilterScheduler::new(options.scheduler).expect("its options can be worked with");
    // A different amount of memory is a different shape, but hardly changes a verdict.
    let first = samples(|at| {
        let mut other = spec.clone();
        other.flavor.memory_mb += at;
        place(&mut engine, &mut table, &other, &instance_uuids)
    });
    let again = samples(|_| place(&mut engine, &mut table, &spec, &instance_uuids));
    println!("{}\t{}\t{}", table.len(), shown(first), shown(again));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn place(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
    instances: &[Uuid],
) -> Duration {
    let began = Instant::now();
    let selected = engine.select(table, spec, instances, &Terms::default());
    let took = began.elapsed();
    assert_eq!(selected.failure, None, "the request must be one that finds a host");
    for pick in &selected.picks {
        table.give_back(pick.row, &Amounts::of_flavor(&spec.flavor));
    }
    took
}

fn samples(mut take: impl FnMut(u64) -> Duration) -> Vec<Duration> {
    let mut samples: Vec<_> = (0..SAMPLES).map(&mut take).collect();
    samples.sort();
    samples
}

fn shown(sorted: Vec<Duration>) -> String {
    let micros = |at: usize| sorted[at].as_secs_f64() * 1e6;
    format!("{:.1}\t{:.1}", micros(0), micros(sorted.len() / 2))
}
