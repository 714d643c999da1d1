//! The placement engine by itself, at 100 to a million hosts, each figure beside its target and beside the naive engine
//! of the tests in the same run.
//!
//!     cargo bench -p novella-filter-scheduler --bench scale -- [ROW...]
//!
//! Rows whose names begin with the words of an argument run (`single`, `single_1000`), or all. One line each, tab-separated: row, fleet, unit, fastest
//! sample, median, the naive engine's fastest, target. Every placement is consumed, and given back before the next sample;
//! an explanation is recorded except in the row that shows what it costs.

mod fleet;
#[path = "../../tests/naive/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod naive;

use std::time::{Duration, Instant};

use fleet::{Fleet, Kind, fleet, options, request, uuids};
use novella_filter_scheduler::{Amounts, FilterScheduler, HostTable, Selected, Terms};
use novella_objects::RequestSpec;
use uuid::Uuid;

/// Longest time that samples of one row are taken for.
const SAMPLING: Duration = Duration::from_secs(2);

/// Most samples of one row.
const SAMPLES: usize = 20_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let run = |row: &str| {
        wanted.is_empty() || wanted.iter().any(|name| row == name || row.starts_with(&format!("{name}_")))
    };
    println!("row\tfleet\tunit\tfastest\tmedian\tnaive\ttarget");
    for kind in [Kind::Oracle, Kind::Equal] {
        for (hosts, target) in [
            (100, None),
            (1_000, Some(8.0)),
            (10_000, Some(50.0)),
            (100_000, Some(450.0)),
            (1_000_000, Some(6_000.0)),
        ] {
            if run(&format!("single_{hosts}")) {
                single(kind, hosts, target);
            }
        }
        for (hosts, instances, target) in [(1_000, 100, 300.0), (10_000, 1_000, 5_000.0)] {
            if run(&format!("instances_{hosts}")) {
                several(kind, hosts, instances, target);
            }
        }
        for hosts in [1_000, 10_000] {
            if run(&format!("explain_{hosts}")) {
                explain(kind, hosts);
            }
        }
    }
}

/// Fastest and median of samples, in microseconds. `once` prepares, measures and tidies up.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn sample(mut once: impl FnMut(u64) -> Duration) -> (f64, f64) {
    let (mut samples, began) = (Vec::new(), Instant::now());
    for number in 0.. {
        samples.push(once(number).as_secs_f64() * 1e6);
        if samples.len() >= SAMPLES || (samples.len() >= 5 && began.elapsed() > SAMPLING) {
            break;
        }
    }
    samples.sort_unstable_by(f64::total_cmp);
    (samples[0], samples[samples.len() / 2])
}

fn show(
    row: &str,
    kind: Kind,
    unit: &str,
    (best, median): (f64, f64),
    naive: Option<f64>,
    target: Option<f64>,
) {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    let (naive, target) = (number(naive), number(target));
    println!("{row}\t{kind:?}\t{unit}\t{best:.1}\t{median:.1}\t{naive}\t{target}");
}

/// An engine with what it reuses from answer to answer.
struct Engine {
    scheduler: FilterScheduler,
    selected: Selected,
}

impl Engine {
    fn new() -> Self {
        let scheduler = FilterScheduler::new(options()).expect("the options are good");
        Self { scheduler, selected: Selected::default() }
    }

    /// The time of one decision, of which nothing stays.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn place(
        &mut self,
        table: &mut HostTable,
        request: &RequestSpec,
        instances: &[Uuid],
        terms: &Terms,
    ) -> Duration {
        let start = Instant::now();
        self.scheduler.select_into(table, request, instances, terms, &mut self.selected);
        let took = start.elapsed();
        assert_eq!(self.selected.failure, None);
        for pick in &self.selected.picks {
            table.give_back(pick.row, &Amounts::of_flavor(&request.flavor));
        }
        took
    }
}

/// What the naive engine needs for a request that the engine has just decided; both must have decided alike.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn naive(fleet: &Fleet, request: &RequestSpec, instances: &[Uuid], got: &Selected, times: usize) -> f64 {
    let (options, terms) = (options(), Terms::default());
    let naive = naive::Naive {
        options: &options,
        request,
        instances,
        terms: &terms,
        aggregates: &fleet.aggregates,
        guest: Default::default(),
    };
    let mut fastest = f64::INFINITY;
    for _ in 0..times {
        let mut hosts = fleet.naive.clone();
        let start = Instant::now();
        let outcome = naive.select(&mut hosts);
        fastest = fastest.min(start.elapsed().as_secs_f64() * 1e6);
        let naive::Outcome::Placed { picks, .. } = outcome else { panic!("the naive engine placed nothing") };
        let names = got.picks.iter().map(|pick| (fleet.table.host(pick.row).to_owned(), pick.weight));
        assert!(names.eq(picks), "the engines disagree");
    }
    fastest
}

/// One instance: the first request of a shape. A known shape, between reports, is in the host manager's `live`.
fn single(kind: Kind, hosts: usize, target: Option<f64>) {
    let mut fleet = fleet(kind, hosts, 0, true);
    let (mut engine, terms) = (Engine::new(), Terms::default());
    let (plain, one) = (request(0), uuids(1));
    engine.place(&mut fleet.table, &plain, &one, &terms);
    let of_naive = naive(&fleet, &plain, &one, &engine.selected, if hosts <= 100_000 { 3 } else { 1 });
    fleet.naive = Vec::new();
    let first = sample(|number| engine.place(&mut fleet.table, &request(1 + number), &one, &terms));
    show(&format!("single_{hosts}_first"), kind, "us", first, Some(of_naive), target);
}

/// Many instances in one request, of a new shape each time.
fn several(kind: Kind, hosts: usize, instances: usize, target: f64) {
    let mut fleet = fleet(kind, hosts, 0, true);
    let (mut engine, terms) = (Engine::new(), Terms::default());
    // The naive engine takes seconds for all of them, so it gets a hundred, and its time is scaled.
    let hundred = (request(0), uuids(100));
    let all = uuids(instances as u128);
    engine.place(&mut fleet.table, &hundred.0, &hundred.1, &terms);
    let of_naive = naive(&fleet, &hundred.0, &hundred.1, &engine.selected, 1) * instances as f64 / 100.0;
    let placed = sample(|number| {
        let request = request(1 + number);
        engine.place(&mut fleet.table, &request, &all, &terms)
    });
    show(&format!("instances_{hosts}_{instances}"), kind, "us", placed, Some(of_naive), Some(target));
}

/// What the explanation adds, in percent, to a decision about a new shape; sample by sample in turns.
fn explain(kind: Kind, hosts: usize) {
    let mut table = fleet(kind, hosts, 0, false).table;
    let (mut engine, with) = (Engine::new(), Terms::default());
    let without = Terms { unexplained: true, ..with };
    let (mut plain, one) = (Vec::new(), uuids(1));
    let explained = sample(|number| {
        plain.push(engine.place(&mut table, &request(2 * number), &one, &without).as_secs_f64() * 1e6);
        engine.place(&mut table, &request(2 * number + 1), &one, &with)
    });
    plain.sort_unstable_by(f64::total_cmp);
    let (best, median) = (explained.0 / plain[0], explained.1 / plain[plain.len() / 2]);
    let percent = ((best - 1.0) * 100.0, (median - 1.0) * 100.0);
    show(&format!("explain_{hosts}"), kind, "%", percent, None, Some(20.0));
}
