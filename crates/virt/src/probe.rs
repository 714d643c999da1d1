//! Probes: each asks the host one question, with a deadline, and keeps the last good answer and its age.
//!
//! ```text
//!          begin (only when idle)              finish(Ok): last_good replaced, problem cleared
//!   idle ─────────────────────────▶ running ──────────────────────────────────────────────────▶ idle
//!                                     │  ▲     finish(Err), or dropped: problem noted
//!                          deadline   ▼  │
//!                                   overdue: problem noted; readers no longer wait; nothing is started again
//! ```
//!
//! What always holds: at most one run of a probe is under way, so a hung file system costs one thread and not one for each
//! report. The deadline counts from the start of the run, so only the first reader of a hung run waits for it. A late
//! answer is kept, because it is newer than the one before. An age counts from the start of the run, so it is never too
//! small.
//!
//! Left out: what runs the job. A probe hands out a [`Completion`], and its holder answers when it can.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::driver_error::DriverError;
use crate::probe_error::{ProbeError, chain};
use crate::stats::StaleProbe;

/// Runs a job that may block for ever. It needs a thread that can be lost to such a job; tests may run the job inline.
///
/// A job that is dropped without being run counts as a failed probe, so an executor may drop its jobs when it shuts down.
pub type BlockingExecutor = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// The answer of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<T> {
    /// The newest good value.
    pub value: T,
    /// How old the value is and why, if the newest run gave none. If there is no value at all, the age of the question.
    pub stale: Option<StaleProbe>,
}

/// A named question to the host.
pub struct Probe<T> {
    name: &'static str,
    attempt: Cow<'static, str>,
    next_step: Cow<'static, str>,
    state: watch::Sender<State<T>>,
    start: Box<dyn Fn(Completion<T>) + Send + Sync>,
}

struct State<T> {
    /// Number of runs begun and ended since the driver was made. A run is under way when they differ.
    begun: u64,
    ended: u64,
    begun_at: Option<Instant>,
    last_good: Option<(T, Instant)>,
    problem: Option<Arc<ProbeError>>,
}

impl<T: Clone + Send + Sync + 'static> Probe<T> {
    /// A probe whose runs are begun by `start`. In the error of a probe that never gave a value, `attempt` follows "cannot",
    /// and `next_step` ends the sentence.
    pub fn new(
        name: &'static str,
        attempt: impl Into<Cow<'static, str>>,
        next_step: impl Into<Cow<'static, str>>,
        start: impl Fn(Completion<T>) + Send + Sync + 'static,
    ) -> Self {
        let state = State { begun: 0, ended: 0, begun_at: None, last_good: None, problem: None };
        Self {
            name,
            attempt: attempt.into(),
            next_step: next_step.into(),
            state: watch::Sender::new(state),
            start: Box::new(start),
        }
    }

    /// A probe whose runs call `read` on the executor.
    pub fn blocking(
        name: &'static str,
        attempt: impl Into<Cow<'static, str>>,
        next_step: impl Into<Cow<'static, str>>,
        executor: BlockingExecutor,
        read: impl Fn() -> Result<T, ProbeError> + Send + Sync + 'static,
    ) -> Self {
        let read = Arc::new(read);
        Self::new(name, attempt, next_step, move |completion| {
            let read = Arc::clone(&read);
            executor(Box::new(move || completion.finish(read())));
        })
    }

    /// The newest value. If `refresh` is true or there is no value yet, the host is asked, and the answer is awaited until
    /// `deadline` after that run began.
    pub async fn read(&self, refresh: bool, deadline: Duration) -> Result<Reading<T>, DriverError> {
        if refresh || self.state.borrow().last_good.is_none() {
            self.run(deadline).await;
        }
        self.reading()
    }

    /// The same, but while a run hangs and there was never an answer, the value is `absent`. This is for a value that may be
    /// missing for a while.
    pub async fn read_or(
        &self,
        absent: T,
        refresh: bool,
        deadline: Duration,
    ) -> Result<Reading<T>, DriverError> {
        match self.read(refresh, deadline).await {
            Err(DriverError::NoReading { source, .. }) if matches!(*source, ProbeError::Overdue { .. }) => {
                Ok(Reading { value: absent, stale: Some(self.never_answered(chain(&*source))) })
            }
            read => read,
        }
    }

    /// The same, but the value is `None` as long as there was never an answer, whatever the reason. It is for a value that
    /// no report needs.
    pub async fn read_optional(&self, refresh: bool, deadline: Duration) -> Reading<Option<T>> {
        match self.read(refresh, deadline).await {
            Ok(Reading { value, stale }) => Reading { value: Some(value), stale },
            Err(DriverError::NoReading { source, .. }) => {
                Reading { value: None, stale: Some(self.never_answered(chain(&*source))) }
            }
            Err(error) => Reading { value: None, stale: Some(self.never_answered(chain(&error))) },
        }
    }

    fn never_answered(&self, reason: String) -> StaleProbe {
        let age = self.state.borrow().begun_at.map_or(Duration::ZERO, |at| at.elapsed());
        StaleProbe { probe: self.name, age, reason }
    }

    async fn run(&self, deadline: Duration) {
        let (run, begun_at) = self.begin_unless_running();
        let mut state = self.state.subscribe();
        let answered = timeout_at(begun_at + deadline, state.wait_for(|s| s.ended >= run)).await.is_ok();
        if !answered {
            fail(&self.state, self.name, ProbeError::Overdue { after: deadline }, |s| s.ended < run);
        }
    }

    /// Begins a run unless one is under way. Returns the number and the start of the run that is under way then.
    fn begin_unless_running(&self) -> (u64, Instant) {
        let now = Instant::now();
        let mut begin = false;
        let mut run = (0, now);
        self.state.send_modify(|s| {
            begin = s.begun == s.ended;
            if begin {
                s.begun += 1;
                s.begun_at = Some(now);
            }
            run = (s.begun, s.begun_at.unwrap_or(now));
        });
        if begin {
            // The state's lock is not held here, because an executor that runs the job inline finishes it in this call.
            let state = self.state.clone();
            (self.start)(Completion { name: self.name, state, begun_at: now, open: true });
        }
        run
    }

    fn reading(&self) -> Result<Reading<T>, DriverError> {
        let state = self.state.borrow();
        match (&state.last_good, &state.problem) {
            (Some((value, read_at)), problem) => Ok(Reading {
                value: value.clone(),
                stale: problem.as_deref().map(|problem| StaleProbe {
                    probe: self.name,
                    age: read_at.elapsed(),
                    reason: chain(problem),
                }),
            }),
            (None, problem) => Err(DriverError::NoReading {
                probe: self.name,
                attempt: self.attempt.clone(),
                next_step: self.next_step.clone(),
                source: problem.clone().unwrap_or_else(|| Arc::new(ProbeError::Lost)),
            }),
        }
    }
}

/// The duty to answer one run of a probe. If it is dropped without an answer, the run counts as lost.
pub struct Completion<T> {
    name: &'static str,
    state: watch::Sender<State<T>>,
    begun_at: Instant,
    open: bool,
}

impl<T> Completion<T> {
    /// Ends the run with its result.
    pub fn finish(mut self, result: Result<T, ProbeError>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<T, ProbeError>) {
        self.open = false;
        match result {
            Ok(value) => {
                let mut recovered = false;
                self.state.send_modify(|s| {
                    s.ended = s.begun;
                    s.last_good = Some((value, self.begun_at));
                    recovered = s.problem.take().is_some();
                });
                if recovered {
                    tracing::info!(probe = self.name, "host probe answers again");
                }
            }
            Err(error) => fail(&self.state, self.name, error, |s| {
                s.ended = s.begun;
                true
            }),
        }
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if self.open {
            self.settle(Err(ProbeError::Lost));
        }
    }
}

/// Notes a problem if `applies` returns true. It is logged once, and not at every report while it lasts.
fn fail<T>(
    state: &watch::Sender<State<T>>,
    name: &'static str,
    error: ProbeError,
    applies: impl FnOnce(&mut State<T>) -> bool,
) {
    let error = Arc::new(error);
    let mut first = false;
    state.send_modify(|s| {
        if applies(s) {
            first = s.problem.replace(Arc::clone(&error)).is_none();
        }
    });
    if first {
        tracing::warn!(probe = name, error = chain(&*error), "host probe failed");
    }
}
