//! When tasks run: grid, late ticks, the forms of a mark, fuzzy delay. The clock is paused, and times are exact to the
//! millisecond.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use novella_periodic_task::{Runner, RunnerOptions, TaskStatus, periodic_tasks};
use tokio::time::{Instant, advance, sleep};

const NO_DELAY: Duration = Duration::ZERO;

fn options(periodic_interval: Duration, periodic_fuzzy_delay: Duration) -> RunnerOptions {
    RunnerOptions { periodic_interval, periodic_fuzzy_delay, seed: [3; 32] }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What ran, and how many milliseconds after the start.
struct Log {
    start: Instant,
    entries: Mutex<Vec<(&'static str, u64)>>,
}

impl Log {
    fn new() -> Self {
        Self { start: Instant::now(), entries: Mutex::default() }
    }

    fn add(&self, name: &'static str) {
        let at = u64::try_from(self.start.elapsed().as_millis()).expect("tests are short");
        self.entries.lock().expect("no test panics here").push((name, at));
    }

    fn all(&self) -> Vec<(&'static str, u64)> {
        self.entries.lock().expect("no test panics here").clone()
    }

    fn of(&self, name: &str) -> Vec<u64> {
        self.all().into_iter().filter(|entry| entry.0 == name).map(|entry| entry.1).collect()
    }
}

/// Every form of a mark at once.
struct Forms {
    log: Log,
    interval: Duration,
    ticks: u32,
    on: bool,
}

#[periodic_tasks]
impl Forms {
    #[periodic_task]
    async fn every_tick(&self) {
        self.log.add("every_tick");
    }

    #[periodic_task()]
    async fn also_every_tick(&self) {
        self.log.add("also_every_tick");
    }

    #[novella_periodic_task::periodic_task(spacing = "1m 5s")]
    async fn literal(&self) {
        self.log.add("literal");
    }

    #[periodic_task(spacing = self.interval * 3, run_immediately,)]
    async fn expression(&self) -> Result<(), String> {
        self.log.add("expression");
        Ok(())
    }

    #[periodic_task(spacing = Duration::ZERO)]
    async fn zero(&self) {
        self.log.add("zero");
    }

    #[periodic_task(ticks_between_runs = 2)]
    async fn every_third(&self) {
        self.log.add("every_third");
    }

    #[periodic_task(ticks_between_runs = self.ticks)]
    async fn every_tick_of_2012(&self) {
        self.log.add("every_tick_of_2012");
    }

    #[periodic_task(enabled = self.on, run_immediately = self.on)]
    async fn switched(&self) -> std::io::Result<()> {
        self.log.add("switched");
        Ok(())
    }

    #[periodic_task(spacing = Duration::MAX)]
    async fn once(&self) {
        self.log.add("once");
    }

    #[cfg(any())]
    #[periodic_task]
    async fn compiled_out(&self) {}

    #[periodic_task(spacing = "1h")]
    async fn r#loop(&self) {}

    async fn _not_a_task(&self, _argument: u32) {}
}

async fn run_forms(on: bool, fuzzy_delay: Duration) -> (Log, Vec<TaskStatus>) {
    let manager = Arc::new(Forms { log: Log::new(), interval: seconds(40), ticks: 0, on });
    let runner = Runner::start(manager.clone(), options(seconds(10), fuzzy_delay));
    sleep(seconds(135)).await;
    let status = runner.status();
    runner.shutdown().await;
    let manager = Arc::into_inner(manager).expect("a runner that was shut down lets go of its manager");
    (manager.log, status)
}

fn every(step: u64, first: u64, until: u64) -> Vec<u64> {
    (first..=until)
        .step_by(usize::try_from(step).expect("a small number"))
        .map(|second| second * 1000)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_form_runs_on_its_own_grid() {
    let (log, _) = run_forms(true, NO_DELAY).await;
    for tick in ["every_tick", "also_every_tick", "zero", "every_tick_of_2012", "switched"] {
        assert_eq!(log.of(tick), every(10, 0, 135), "{tick}");
    }
    assert_eq!(log.of("literal"), [0, 65_000, 130_000]);
    assert_eq!(log.of("expression"), [0, 120_000]);
    assert_eq!(log.of("every_third"), every(30, 20, 135));
    assert_eq!(log.of("once"), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_task_is_listed_and_does_not_run() {
    let (log, status) = run_forms(false, NO_DELAY).await;
    assert_eq!(log.of("switched"), []);
    let names: Vec<_> = status.iter().map(|task| (task.name, task.enabled)).collect();
    let expected = [
        ("every_tick", true),
        ("also_every_tick", true),
        ("literal", true),
        ("expression", true),
        ("zero", true),
        ("every_third", true),
        ("every_tick_of_2012", true),
        ("switched", false),
        ("once", true),
        ("loop", true),
    ];
    assert_eq!(names, expected, "in the order of the methods, without the one compiled out");
    assert_eq!(status[7].next_due, None);
    assert_eq!(status[8].next_due, None, "the clock does not reach so far");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    let (first, _) = run_forms(true, seconds(60)).await;
    let (second, _) = run_forms(true, seconds(60)).await;
    assert_eq!(first.all(), second.all());
    assert_ne!(first.of("every_tick"), every(10, 0, 135), "seed [3; 32] draws a delay");
}

struct Immediate(Log);

#[periodic_tasks]
impl Immediate {
    #[periodic_task(run_immediately)]
    async fn immediate(&self) {
        self.0.add("immediate");
    }

    #[periodic_task]
    async fn patient(&self) {
        self.0.add("patient");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fuzzy_delay_spreads_first_ticks_over_its_whole_range_and_spares_immediate_runs() {
    const FUZZY: u64 = 25_000;
    let mut firsts = Vec::new();
    for seed in 0..200 {
        println!("seed [{seed}; 32]");
        let manager = Arc::new(Immediate(Log::new()));
        let fuzzy = Duration::from_millis(FUZZY);
        let runner =
            Runner::start(manager.clone(), RunnerOptions { seed: [seed; 32], ..options(seconds(10), fuzzy) });
        sleep(seconds(60)).await;
        runner.shutdown().await;
        let (patient, immediate) = (manager.0.of("patient"), manager.0.of("immediate"));
        let first = patient[0];
        assert!(first <= FUZZY);
        assert!(patient.windows(2).all(|pair| pair[1] - pair[0] == 10_000), "{patient:?}");
        assert_eq!(immediate[0], 0);
        assert!(immediate[1] > 0 && immediate[1] <= 10_000, "no gap longer than the period: {immediate:?}");
        assert!(immediate[1..].iter().all(|at| at % 10_000 == first % 10_000), "{immediate:?} {first}");
        firsts.push(first);
    }
    // 200 even draws: that a given tenth of the range stays empty has odds of 0.9^200, under one in a billion.
    for tenth in 0..10 {
        let range = tenth * FUZZY / 10..(tenth + 1) * FUZZY / 10;
        assert!(firsts.iter().any(|first| range.contains(first)), "none in {range:?}");
    }
}

/// Each run takes the next of these durations, the last one for ever.
struct Busy {
    log: Log,
    takes: Mutex<Vec<u64>>,
}

#[periodic_tasks]
impl Busy {
    #[periodic_task(spacing = "10s")]
    async fn work(&self) {
        self.log.add("start");
        let takes = {
            let mut takes = self.takes.lock().expect("no test panics here");
            if takes.len() > 1 { takes.remove(0) } else { takes[0] }
        };
        sleep(Duration::from_millis(takes)).await;
        self.log.add("end");
    }

    #[periodic_task(spacing = "1s")]
    async fn neighbour(&self) {
        self.log.add("neighbour");
    }
}

fn busy(takes: &[u64]) -> (Arc<Busy>, Runner) {
    let manager = Arc::new(Busy { log: Log::new(), takes: Mutex::new(takes.to_vec()) });
    let runner = Runner::start(manager.clone(), options(seconds(10), NO_DELAY));
    (manager, runner)
}

#[tokio::test(start_paused = true)]
async fn run_time_does_not_add_up() {
    let (manager, runner) = busy(&[3_333]);
    sleep(seconds(100_005)).await;
    assert_eq!(manager.log.of("start"), every(10, 0, 100_005));
    assert_eq!(runner.status()[0].missed_ticks, 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_tick_runs_once_and_the_grid_goes_on() {
    // The run lasts one tick and a half: one run makes up for the missed tick, and the next is on the grid.
    let (manager, runner) = busy(&[15_000, 100]);
    sleep(seconds(35)).await;
    assert_eq!(manager.log.of("start"), [0, 15_000, 20_000, 30_000]);
    assert_eq!(runner.status()[0].missed_ticks, 0);

    // The run outlasts three ticks: one run makes up for all, and there is none at 40 s.
    let (manager, runner) = busy(&[39_000, 100]);
    sleep(seconds(65)).await;
    assert_eq!(manager.log.of("start"), [0, 39_000, 50_000, 60_000]);
    assert_eq!(runner.status()[0].missed_ticks, 3);
}

#[tokio::test(start_paused = true)]
async fn a_task_never_overlaps_itself_and_a_slow_one_delays_no_other() {
    let (manager, _runner) = busy(&[12_000]);
    sleep(seconds(100)).await;
    let events: Vec<_> =
        manager.log.all().into_iter().map(|entry| entry.0).filter(|event| *event != "neighbour").collect();
    assert!(events.len() >= 16, "{events:?}");
    assert!(
        events.chunks(2).all(|pair| pair[0] == "start" && pair.get(1).is_none_or(|event| *event == "end"))
    );
    assert_eq!(manager.log.of("neighbour"), every(1, 0, 99));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_process_does_not_replay_what_it_missed() {
    let (manager, runner) = busy(&[0]);
    sleep(Duration::from_millis(5_500)).await;
    // The clock jumps as if the process had been stopped: the ticks at 10, 20 .. 60 s pass unseen.
    advance(Duration::from_millis(59_500)).await;
    sleep(seconds(30)).await;
    assert_eq!(manager.log.of("start"), [0, 65_000, 70_000, 80_000, 90_000]);
    assert_eq!(runner.status()[0].missed_ticks, 5);
    let neighbour = manager.log.of("neighbour");
    assert_eq!(neighbour[..8], [0, 1_000, 2_000, 3_000, 4_000, 5_000, 65_000, 66_000]);
}

struct Generic<D> {
    driver: D,
    log: Log,
}

#[periodic_tasks]
impl<D> Generic<D>
where
    D: Fn() -> Duration + Send + Sync + 'static,
{
    #[periodic_task(spacing = (self.driver)())]
    async fn probe(&self) {
        self.log.add("probe");
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_may_be_generic() {
    let manager = Arc::new(Generic { driver: || seconds(7), log: Log::new() });
    let _runner = Runner::start(manager.clone(), options(seconds(10), NO_DELAY));
    sleep(seconds(15)).await;
    assert_eq!(manager.log.of("probe"), [0, 7_000, 14_000]);
}
