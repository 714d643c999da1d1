//! Fuzzes all that comes off the wire: recorded messages, changed at random, through the decoder into a scheduler's map.
//!
//! Always holds, whatever is sent: nothing panics (a panic that is caught on the way counts), no answer is an internal
//! error, the map keeps its limits (of bytes, too) and forgets what is gone, memory stays below a limit, and no step takes
//! longer than [`STEP_LIMIT`]. A seed is one history of [`STEPS`] steps on a scheduler of its own, so that it can be repeated alone.
//! What fails is made as small as still fails, printed and left with exit code 1.
//!
//! `NOVELLA_FUZZ_SECONDS` runs seed after seed for so long (`make fuzz`), `NOVELLA_FUZZ_SEED` starts there and
//! `NOVELLA_FUZZ_EXECUTIONS` ends after so many messages. `corpus.jsonl` is recorded by `record.py`; `made.jsonl` holds
//! by hand what such a small fleet does not say: NUMA cells, PCI devices, groups, every option of a request.
//!
//! Left out: AMQP frames and field tables, which lapin reads, and the broker, which `tests/interop/malformed.rs` has.

mod corpus;
mod mutator;
mod shrink;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use world::{Step, World};

/// Steps of one seed.
const STEPS: usize = 1_000;
/// Of a run that is not told how long to go on.
const SECONDS: u64 = 10;
/// The longest that one message may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// Resident memory of the whole process: a body of 16 MiB in each thread, several times over.
const MEMORY_LIMIT: usize = 512 << 20;

/// What a thread is at.
struct Busy {
    seed: u64,
    step: usize,
    since: Instant,
}

/// What the threads of a run share.
struct Run {
    next_seed: AtomicU64,
    messages: AtomicU64,
    /// Messages that could be dispatched.
    requests: AtomicU64,
    ended: AtomicU64,
    busy: Vec<Mutex<Option<Busy>>>,
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty() && value != "0")?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, not a number")))
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long to search is real time; what is found depends on the seed alone"
)]
fn nothing_off_the_wire_does_harm() {
    let first = number("NOVELLA_FUZZ_SEED").unwrap_or(1);
    let limit = Duration::from_secs(number("NOVELLA_FUZZ_SECONDS").unwrap_or(SECONDS));
    let executions = number("NOVELLA_FUZZ_EXECUTIONS").unwrap_or(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let run = Run {
        next_seed: AtomicU64::new(first),
        messages: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        ended: AtomicU64::new(0),
        busy: (0..threads).map(|_| Mutex::new(None)).collect(),
    };
    world::note_panics();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for own in &run.busy {
            scope.spawn(|| {
                let _ended = Ended(&run.ended);
                while began.elapsed() < limit && run.messages.load(Ordering::Relaxed) < executions {
                    history(&run, own, run.next_seed.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        watch(&run, began, threads as u64);
    });
    println!("{}; nothing panicked, hung or grew", progress(&run, first, began));
    let (messages, requests) = (run.messages.into_inner(), run.requests.into_inner());
    assert!(requests * 4 > messages, "of {messages} messages only {requests} came as far as an endpoint");
}

/// Counts a thread that ends, by a panic too.
struct Ended<'a>(&'a AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One seed.
fn history(run: &Run, own: &Mutex<Option<Busy>>, seed: u64) {
    let steps = mutator::history(seed, STEPS);
    let mut world = World::new(seed);
    for (number, step) in steps.iter().enumerate() {
        set(own, Some(Busy { seed, step: number, since: now() }));
        if let Err(what) = world.take(step) {
            set(own, None); // making it smaller takes its time
            report(seed, &what, shrink::smallest(seed, &steps[..=number]));
        }
    }
    if let Err(what) = world.end() {
        set(own, None);
        report(seed, &what, shrink::smallest(seed, &steps));
    }
    set(own, None);
    run.messages.fetch_add(world.messages, Ordering::Relaxed);
    run.requests.fetch_add(world.requests, Ordering::Relaxed);
}

fn set(own: &Mutex<Option<Busy>>, busy: Option<Busy>) {
    *own.lock().unwrap_or_else(PoisonError::into_inner) = busy;
}

#[expect(clippy::disallowed_methods, reason = "a hang is measured in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Looks for hangs and for memory until all threads have ended, and says now and then how far they are.
fn watch(run: &Run, began: Instant, threads: u64) {
    let (first, mut said) = (run.next_seed.load(Ordering::Relaxed), began);
    while run.ended.load(Ordering::Relaxed) < threads {
        std::thread::sleep(Duration::from_millis(20));
        let too_large = resident() > MEMORY_LIMIT;
        for own in &run.busy {
            let busy = own.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(Busy { seed, step, since }) = &*busy else { continue };
            if too_large || since.elapsed() > STEP_LIMIT {
                let what = if too_large { "memory grows without bound" } else { "a step takes too long" };
                let steps = mutator::history(*seed, STEPS);
                let last = step.saturating_sub(9);
                report(
                    *seed,
                    &format!("{what}, at step {step}; it and those before"),
                    steps[last..=*step].to_vec(),
                );
            }
        }
        if said.elapsed() > Duration::from_secs(30) {
            said = now();
            println!("{}", progress(run, first, began));
        }
    }
}

fn progress(run: &Run, first: u64, began: Instant) -> String {
    let (messages, requests) = (run.messages.load(Ordering::Relaxed), run.requests.load(Ordering::Relaxed));
    let seeds = run.next_seed.load(Ordering::Relaxed) - first;
    let seconds = began.elapsed().as_secs_f64();
    format!(
        "{messages} executions in {seconds:.0} s, {:.0}/s, {requests} of them requests that an endpoint or the map took, \
         {seeds} seeds from {first}, {} MB resident",
        messages as f64 / seconds,
        resident() >> 20
    )
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("the kernel tells");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number of pages") * 4096
}

/// The end of a run that failed.
fn report(seed: u64, what: &str, steps: Vec<Step>) -> ! {
    eprintln!("\nFAILED: {what}\nagain: make fuzz SEED={seed} SECONDS=1\nsmallest history:");
    for step in &steps {
        eprintln!("  {step}");
    }
    std::process::exit(1);
}
