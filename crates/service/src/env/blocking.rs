//! Calls that block a thread: file writes, driver probes.
//!
//! What always holds: a call starts when [`Blocking::run`] is called, whether or not the answer is awaited, and a
//! panic in it comes back as an error. In a simulation it runs in place, so its order is the program's order.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::oneshot;

/// Runs a boxed call somewhere. `novella-virt` takes this for its probes.
pub type Executor = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Where blocking calls run.
#[derive(Clone)]
pub struct Blocking {
    execute: Executor,
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
        Blocking { execute: Arc::new(|call| drop(tokio::task::spawn_blocking(call))) }
    }

    /// In place, on the caller's own thread.
    pub(super) fn inline() -> Blocking {
        Blocking { execute: Arc::new(|call| call()) }
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
    use std::thread;

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

    #[test]
    fn a_panic_does_not_pass_through_the_executor() {
        Blocking::inline().as_executor()(Box::new(|| panic!("contained")));
    }
}
