//! A probe's deadline, last good value and age, and that it never runs twice at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use novella_virt::{BlockingExecutor, Completion, Probe, ProbeError};
use tokio::time::{Instant, advance};

use crate::chain;

const DEADLINE: Duration = Duration::from_secs(5);

/// A probe whose runs stay open until the test ends them.
struct ByHand {
    probe: Probe<u32>,
    open: Arc<Mutex<VecDeque<Completion<u32>>>>,
}

impl ByHand {
    fn new() -> Self {
        let open = Arc::new(Mutex::new(VecDeque::new()));
        let runs = Arc::clone(&open);
        let start = move |completion| runs.lock().unwrap().push_back(completion);
        Self { probe: Probe::new("disk", "measure the disk", "look at the disk", start), open }
    }

    fn open(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    fn end(&self) -> Completion<u32> {
        self.open.lock().unwrap().pop_front().expect("a run is open")
    }

    /// Reads, and ends the run that this begins with `result`.
    async fn read_with(&self, result: Result<u32, ProbeError>) -> (u32, Option<Duration>) {
        let (reading, ()) = tokio::join!(biased; self.probe.read(true, DEADLINE), async {
            self.end().finish(result);
        });
        let reading = reading.expect("there is a value");
        (reading.value, reading.stale.map(|s| s.age))
    }

    async fn read(&self) -> (u32, Option<Duration>) {
        let reading = self.probe.read(true, DEADLINE).await.expect("there is a value");
        (reading.value, reading.stale.map(|s| s.age))
    }
}

fn broken() -> Result<u32, ProbeError> {
    Err(ProbeError::Other("broken".into()))
}

#[tokio::test(start_paused = true)]
async fn a_good_value_is_fresh_and_answers_until_a_refresh() {
    let hand = ByHand::new();
    assert_eq!(hand.read_with(Ok(1)).await, (1, None));
    advance(Duration::from_secs(60)).await;
    let reading = hand.probe.read(false, DEADLINE).await.unwrap();
    assert_eq!((reading.value, reading.stale), (1, None));
    assert_eq!(hand.open(), 0, "no run was begun without refresh");
    assert_eq!(hand.read_with(Ok(2)).await, (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_answered_by_the_last_good_value_and_its_age() {
    let hand = ByHand::new();
    hand.read_with(Ok(7)).await;
    advance(Duration::from_secs(10)).await;
    assert_eq!(hand.read_with(broken()).await, (7, Some(Duration::from_secs(10))));
    advance(Duration::from_secs(10)).await;
    let stale = hand.probe.read(false, DEADLINE).await.unwrap().stale.unwrap();
    assert_eq!((stale.probe, stale.age, stale.reason.as_str()), ("disk", Duration::from_secs(20), "broken"));
    assert_eq!(hand.read_with(Ok(8)).await, (8, None), "a good run clears the problem");
}

#[tokio::test(start_paused = true)]
async fn a_first_failure_names_probe_attempt_and_next_step() {
    let hand = ByHand::new();
    let (reading, ()) = tokio::join!(biased; hand.probe.read(false, DEADLINE), async {
        hand.end().finish(broken());
    });
    assert_eq!(
        chain(&reading.unwrap_err()),
        "host probe disk has no value yet: cannot measure the disk; look at the disk: broken"
    );
    assert_eq!(hand.read_with(Ok(1)).await, (1, None), "and the next run may succeed");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_run_costs_one_deadline_and_is_not_begun_twice() {
    let hand = ByHand::new();
    hand.read_with(Ok(1)).await;
    let begun = Instant::now();
    assert_eq!(hand.read().await, (1, Some(DEADLINE)));
    assert_eq!(begun.elapsed(), DEADLINE);
    for tick in 2..5 {
        advance(DEADLINE).await;
        let asked = Instant::now();
        assert_eq!(hand.read().await, (1, Some(DEADLINE * tick)));
        assert_eq!(asked.elapsed(), Duration::ZERO, "the deadline has passed once and for all");
        assert_eq!(hand.open(), 1, "still the one run");
    }
    hand.end().finish(Ok(2));
    let reading = hand.probe.read(false, DEADLINE).await.unwrap();
    assert_eq!((reading.value, reading.stale), (2, None), "a late answer is an answer");
    assert_eq!(hand.read_with(Ok(3)).await, (3, None), "and the probe runs again");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_first_run_is_an_error_until_it_answers() {
    let hand = ByHand::new();
    let error = hand.probe.read(true, DEADLINE).await.unwrap_err();
    assert!(
        chain(&error).ends_with("no answer within 5s; the probe still runs and is not started again"),
        "{error}"
    );
    hand.end().finish(Ok(4));
    assert_eq!(hand.probe.read(false, DEADLINE).await.unwrap().value, 4);
}

#[tokio::test(start_paused = true)]
async fn readers_at_one_time_share_one_run() {
    let hand = ByHand::new();
    let (a, b, ()) = tokio::join!(biased; hand.probe.read(true, DEADLINE), hand.probe.read(true, DEADLINE), async {
        assert_eq!(hand.open(), 1);
        hand.end().finish(Ok(5));
    });
    assert_eq!((a.unwrap().value, b.unwrap().value), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_leaves_its_run_behind() {
    let hand = ByHand::new();
    let gone = tokio::time::timeout(Duration::from_secs(1), hand.probe.read(true, DEADLINE)).await;
    assert!(gone.is_err());
    hand.end().finish(Ok(6));
    assert_eq!(hand.probe.read(false, DEADLINE).await.unwrap().value, 6);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_job_is_a_lost_run_and_not_a_stuck_one() {
    let drops: BlockingExecutor = Arc::new(drop);
    let probe: Probe<u32> = Probe::blocking("p", "try", "see", drops, || Ok(1));
    let asked = Instant::now();
    for _ in 0..2 {
        let error = probe.read(true, DEADLINE).await.unwrap_err();
        assert!(chain(&error).ends_with("the probe ended without an answer"), "{error}");
    }
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_panicking_read_fails_its_probe_only() {
    let threads: BlockingExecutor = Arc::new(|job| drop(std::thread::spawn(job)));
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let probe = Probe::blocking("p", "try", "see", threads, move || {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        assert!(run != 1, "the second run panics");
        Ok(run)
    });
    assert_eq!(probe.read(true, DEADLINE).await.unwrap().value, 0);
    let second = probe.read(true, DEADLINE).await.unwrap();
    assert_eq!((second.value, second.stale.is_some()), (0, true));
    assert_eq!(probe.read(true, DEADLINE).await.unwrap().value, 2);
}

#[tokio::test]
async fn a_thread_that_hangs_holds_up_nobody() {
    let threads: BlockingExecutor = Arc::new(|job| drop(std::thread::spawn(job)));
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let probe = Probe::blocking("p", "try", "see", threads, move || {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        if run == 1 {
            held.lock().unwrap().recv().map_err(|error| ProbeError::Other(error.into()))?;
        }
        Ok(run)
    });
    let short = Duration::from_millis(20);
    assert_eq!(probe.read(true, DEADLINE).await.unwrap().value, 0);
    for _ in 0..3 {
        let reading = probe.read(true, short).await.unwrap();
        assert_eq!((reading.value, reading.stale.is_some()), (0, true));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 2, "one stuck thread, not three");
    release.send(()).unwrap();
    // The stuck run ends some time. A reader with a long deadline waits for it or begins the next one.
    let answered = loop {
        let reading = probe.read(true, DEADLINE).await.unwrap();
        if reading.stale.is_none() {
            break reading.value;
        }
        tokio::task::yield_now().await;
    };
    assert!(answered >= 1);
}
