//! Calls that block a thread: file writes, driver probes.
//!
//! What always holds: a call starts when [`Blocking::run`] is called, whether or not the answer is awaited, and a
//! panic in it comes back as an error. In a simulation it runs in place, so its order is the program's order.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use tokio::{runtime::Handle, sync::oneshot};

/// By how much the work of [`Blocking::drive`] is less urgent than that of other threads, as `nice` counts it. On a busy
/// core it gets about a tenth, and makes way at once for a thread that wakes up.
const LOWER_PRIORITY: i32 = 10;

/// Runs a boxed call somewhere. `novella-virt` takes this for its probes.
pub type Executor = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Where blocking calls run.
#[derive(Clone)]
pub struct Blocking {
    execute: Executor,
    /// Whether calls run on the caller's own thread.
    in_place: bool,
}

/// A blocking call panicked, or was never started because the runtime is shutting down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a blocking call panicked: {message}")]
pub struct Panicked {
    /// What the panic said.
    pub message: String,
}

impl Blocking {
    /// On tokio's pool of blocking threads.
    #[expect(clippy::disallowed_methods, reason = "the one place that starts blocking threads")]
    pub(super) fn threads() -> Blocking {
        // The join handle is dropped on purpose: `run` reports through its own channel, and `as_executor`'s callers
        // through theirs.
        Blocking { execute: Arc::new(|call| drop(tokio::task::spawn_blocking(call))), in_place: false }
    }

    /// In place, on the caller's own thread.
    pub(super) fn inline() -> Blocking {
        Blocking { execute: Arc::new(|call| call()), in_place: true }
    }

    /// Starts `call` and resolves to what it returned. Outside a simulation it needs a tokio runtime around it.
    pub fn run<T, F>(&self, call: F) -> impl Future<Output = Result<T, Panicked>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        (self.execute)(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(call))
                .map_err(|payload| Panicked { message: panic_message(payload.as_ref()) });
            // An error here means that nobody waits for the result any more.
            drop(answer.send(result));
        }));
        async move {
            answered.await.unwrap_or_else(|_| {
                Err(Panicked { message: "not started, the runtime is shutting down".to_owned() })
            })
        }
    }

    /// Drives a future that computes for long, where it holds up nothing else: on a thread of its own, which gets the
    /// processor when no other thread of this machine wants it more. Resolves when the future is done, or has panicked.
    /// Outside a simulation it needs a tokio runtime around it.
    pub fn drive<F>(&self, work: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let in_place = self.in_place;
        async move {
            if in_place {
                return work.await;
            }
            let (runtime, (done, ended)) = (Handle::current(), oneshot::channel::<()>());
            let run = move || {
                // Where the system does not allow it, the work competes like any other.
                _ = rustix::process::nice(LOWER_PRIORITY);
                runtime.block_on(work);
                drop(done);
            };
            if let Err(error) = thread::Builder::new().name("questions".into()).spawn(run) {
                tracing::error!(%error, "cannot start a thread for a question");
            }
            // The sender is dropped at the end, after a panic too. The panic hook has logged it, and whoever waits for a
            // result sees that there is none.
            drop(ended.await);
        }
    }

    /// The executor alone, for a crate that must not depend on this one. A panic in a call given to it is caught here.
    pub fn as_executor(&self) -> Executor {
        let execute = self.execute.clone();
        Arc::new(move |call| {
            execute(Box::new(move || {
                // The panic hook has logged it; the caller sees its own channel closed.
                drop(catch_unwind(AssertUnwindSafe(call)));
            }));
        })
    }
}

/// The text of a panic's payload.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no message)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn threads_run_elsewhere_and_report_a_panic() {
        let blocking = Blocking::threads();
        let here = thread::current().id();
        assert_ne!(blocking.run(|| thread::current().id()).await.unwrap(), here);
        let error = blocking.run(|| panic!("disk {} gone", 3)).await.unwrap_err();
        assert_eq!(error.to_string(), "a blocking call panicked: disk 3 gone");
    }

    #[tokio::test]
    async fn inline_runs_at_once_and_here() {
        let blocking = Blocking::inline();
        let here = thread::current().id();
        let (sent, received) = std::sync::mpsc::channel();
        let answer = blocking.run(move || sent.send(thread::current().id()));
        assert_eq!(received.try_recv(), Ok(here), "ran before it was awaited");
        answer.await.unwrap().unwrap();
        assert_eq!(blocking.run(|| panic!("no")).await, Err::<(), _>(Panicked { message: "no".into() }));
    }

    #[tokio::test]
    async fn a_future_is_driven_elsewhere_or_in_place() {
        for (blocking, elsewhere) in [(Blocking::threads(), true), (Blocking::inline(), false)] {
            let here = thread::current().id();
            let (sent, received) = std::sync::mpsc::channel();
            let work = async move {
                tokio::task::yield_now().await;
                sent.send(thread::current().id()).unwrap();
            };
            blocking.drive(work).await;
            assert_eq!(received.try_recv().unwrap() != here, elsewhere);
        }
        Blocking::threads().drive(async { panic!("contained") }).await;
    }

    #[test]
    fn a_panic_does_not_pass_through_the_executor() {
        Blocking::inline().as_executor()(Box::new(|| panic!("contained")));
    }
}
