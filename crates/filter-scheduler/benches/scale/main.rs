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

use fleet::{Fleet, Kind, fleet, next_report, options, request, shapes};
use novella_filter_scheduler::{Amounts, FilterScheduler, HostTable, Row, Selected, Terms};
use novella_objects::{HostState as Status, RequestSpec};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
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
        for (hosts, to_first, to_repeated) in [
            (100, None, None),
            (1_000, Some(8.0), None),
            (10_000, Some(50.0), None),
            (100_000, Some(450.0), Some(60.0)),
            (1_000_000, Some(6_000.0), Some(500.0)),
        ] {
            if run(&format!("single_{hosts}")) {
                single(kind, hosts, to_first, to_repeated);
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
    if run("sustained_5000") {
        sustained(5_000);
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
    fn place(&mut self, table: &mut HostTable, request: &RequestSpec, terms: &Terms) -> Duration {
        let start = Instant::now();
        self.scheduler.select_into(table, request, terms, &mut self.selected);
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
fn naive(fleet: &Fleet, request: &RequestSpec, got: &Selected, times: usize) -> f64 {
    let (options, terms) = (options(), Terms::default());
    let naive = naive::Naive {
        options: &options,
        request,
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

/// One instance: the first request of a shape, and a known shape after 100 hosts reported something new.
fn single(kind: Kind, hosts: usize, to_first: Option<f64>, to_repeated: Option<f64>) {
    let mut fleet = fleet(kind, hosts, 0, true);
    let (mut engine, terms) = (Engine::new(), Terms::default());
    let repeated = request(1, 0);
    engine.place(&mut fleet.table, &repeated, &terms);
    let of_naive = naive(&fleet, &repeated, &engine.selected, if hosts <= 100_000 { 3 } else { 1 });
    fleet.naive = Vec::new();
    let first = sample(|number| engine.place(&mut fleet.table, &request(1, 1 + number), &terms));
    show(&format!("single_{hosts}_first"), kind, "us", first, Some(of_naive), to_first);
    engine.place(&mut fleet.table, &repeated, &terms);
    let rows: Vec<Row> = fleet.table.rows().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut reported: Vec<Row> = Vec::new();
    let again = sample(|_| {
        // Half of them say again what they said first, so that the fleet stays what it is.
        for row in reported.drain(..) {
            fleet.table.set_resources(row, &fleet.reported[row.index()]).expect("a good report");
        }
        for _ in 0..50.min(hosts / 20) {
            let row = rows[rng.random_range(0..rows.len())];
            let report = next_report(&mut rng, &fleet.table, row);
            fleet.table.set_resources(row, &report).expect("a good report");
            reported.push(row);
        }
        engine.place(&mut fleet.table, &repeated, &terms)
    });
    show(&format!("single_{hosts}_repeated"), kind, "us", again, Some(of_naive), to_repeated);
}

/// Many instances in one request, of a new shape each time.
fn several(kind: Kind, hosts: usize, instances: usize, target: f64) {
    let mut fleet = fleet(kind, hosts, 0, true);
    let (mut engine, terms) = (Engine::new(), Terms::default());
    // The naive engine takes seconds for all of them, so it gets a hundred, and its time is scaled.
    let hundred = request(100, 0);
    engine.place(&mut fleet.table, &hundred, &terms);
    let of_naive = naive(&fleet, &hundred, &engine.selected, 1) * instances as f64 / 100.0;
    let placed = sample(|number| {
        let request = request(instances as u128, 1 + number);
        engine.place(&mut fleet.table, &request, &terms)
    });
    show(&format!("instances_{hosts}_{instances}"), kind, "us", placed, Some(of_naive), Some(target));
}

/// What the explanation adds, in percent, to a decision about a new shape; sample by sample in turns.
fn explain(kind: Kind, hosts: usize) {
    let mut table = fleet(kind, hosts, 0, false).table;
    let (mut engine, with) = (Engine::new(), Terms::default());
    let without = Terms { unexplained: true, ..with };
    let mut plain = Vec::new();
    let explained = sample(|number| {
        plain.push(engine.place(&mut table, &request(1, 2 * number), &without).as_secs_f64() * 1e6);
        engine.place(&mut table, &request(1, 2 * number + 1), &with)
    });
    plain.sort_unstable_by(f64::total_cmp);
    let (best, median) = (explained.0 / plain[0], explained.1 / plain[plain.len() / 2]);
    let percent = ((best - 1.0) * 100.0, (median - 1.0) * 100.0);
    show(&format!("explain_{hosts}"), kind, "%", percent, None, Some(20.0));
}

/// Decisions one after the other: the recorded kinds of requests, drawn by Zipf's law, while hosts report and fill, until
/// those that are up are filled to 80 %. What the naive engine could do is what one plain request takes it.
fn sustained(hosts: usize) {
    const SHAPES: usize = 64;
    const FULL: f64 = 0.8;
    const MOST: u32 = 1_000_000;
    let mut fleet = fleet(Kind::Oracle, hosts, 8, true);
    let mut engine = Engine::new();
    let plain = request(1, 0);
    engine.place(&mut fleet.table, &plain, &Terms::default());
    let of_naive = 1e6 / naive(&fleet, &plain, &engine.selected, 3);
    let mut table = fleet.table;
    for row in table.rows().collect::<Vec<_>>() {
        // From empty hosts; what is placed is theirs.
        let mut empty = *table.view(row).reported();
        (empty.vcpus_used, empty.memory_mb_used, empty.disk_gb_used, empty.num_instances) = (0, 0, 0, 0);
        table.set_resources(row, &empty).expect("good resources");
    }
    let mut shapes = shapes(SHAPES);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let zipf: Vec<f64> = (1..=SHAPES).map(|rank| (rank as f64).powf(-1.1)).collect();
    let total: f64 = zipf.iter().sum();
    let (mut decisions, mut placed, mut reported, mut filled) = (0u32, 0u32, 0, 0.0);
    let mut uuid = 1u128 << 80;
    let rows: Vec<Row> = table.rows().collect();
    let began = cpu_time();
    while filled < FULL && decisions < MOST {
        let mut at = rng.random_range(0.0..total);
        let shape = zipf.iter().position(|share| {
            at -= share;
            at < 0.0
        });
        let request = &mut shapes[shape.unwrap_or(SHAPES - 1)];
        uuid += 1;
        request.instance_uuids.clear();
        request.instance_uuids.push(Uuid::from_u128(uuid));
        engine.scheduler.select_into(&mut table, request, &Terms::default(), &mut engine.selected);
        decisions += 1;
        if decisions % 64 == 0 {
            // Every host reports once in ten seconds, and then says itself what was placed on it.
            let due = ((cpu_time() - began).as_secs_f64() * hosts as f64 / 10.0) as usize;
            while reported < due {
                settle(&mut table, rows[reported % hosts]);
                reported += 1;
            }
        }
        placed += u32::from(engine.selected.failure.is_none());
        if decisions % 1024 == 0 {
            filled = fill(&table, &rows);
        }
    }
    let rate = f64::from(decisions) / (cpu_time() - began).as_secs_f64();
    let filled = 100.0 * filled;
    eprintln!(
        "sustained: {decisions} decisions, {placed} placed, {reported} reports; hosts filled to {filled:.0} %"
    );
    show(
        &format!("sustained_{hosts}"),
        Kind::Oracle,
        "per s, at least",
        (rate, rate),
        Some(of_naive),
        Some(50_000.0),
    );
}

/// How full the hosts are that are up, each by what is scarcest on it.
fn fill(table: &HostTable, rows: &[Row]) -> f64 {
    let (mut sum, mut hosts) = (0.0, 0u32);
    for host in rows.iter().map(|row| table.view(*row)).filter(|host| host.status() == Status::Up) {
        let (used, of) = (host.used(), host.limits());
        let memory = used.memory_mb as f64 / of.memory_mb;
        sum += memory.max(used.vcpus as f64 / of.vcpus).max(used.disk_gb as f64 / of.disk_gb);
        hosts += 1;
    }
    sum / f64::from(hosts.max(1))
}

/// Time that this process was running, which other work on the machine does not lengthen. A rate over seconds has no
/// fastest sample.
fn cpu_time() -> Duration {
    let status = std::fs::read_to_string("/proc/self/schedstat").expect("Linux says so");
    let nanoseconds =
        status.split(' ').next().and_then(|word| word.parse().ok()).expect("it begins with a number");
    Duration::from_nanos(nanoseconds)
}

/// A host reports what was placed on it.
fn settle(table: &mut HostTable, row: Row) {
    let (consumed, mut report) = (table.view(row).consumed(), *table.view(row).reported());
    report.vcpus_used += consumed.vcpus;
    report.memory_mb_used += consumed.memory_mb;
    report.disk_gb_used += consumed.disk_gb;
    report.num_instances += consumed.instances;
    table.give_back(row, &consumed);
    table.set_resources(row, &report).expect("a good report");
}
