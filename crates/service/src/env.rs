//! `Env`: the only way for a daemon to reach time, randomness, threads, durable state and metrics.
//!
//! What always holds: an `Env` is cheap to clone and its clones share everything. [`Env::simulated`] touches neither
//! the clock, the disk, the entropy nor the threads of the machine, so a run on a paused, single-threaded tokio
//! runtime depends on its seed alone.
//!
//! What it leaves out: sleeping. `tokio::time` is used directly, because a paused runtime already simulates it.

mod blocking;
mod clock;
mod metrics;
mod random;
mod records;
mod sampled;
mod store;
mod store_error;

use std::{path::Path, sync::Arc};

pub(crate) use blocking::panic_message;
pub use blocking::{Blocking, Executor, Panicked};
pub use clock::Clock;
pub use metrics::Metrics;
pub use random::{EntropyError, Random};
pub use records::writer::{CommitError, FLUSH_AFTER, MAX_BEHIND, MAX_WAITING, RecordWriter, WriterMetrics};
pub use records::{Change, Format, Migration, Record, Records, RecordsError};
pub use sampled::{BrokerLink, Sample};
pub use store::{FileStore, MemoryStore, Store, StoreFault, StoreLock};
pub use store_error::StoreError;

/// Everything that a daemon may take from outside.
#[derive(Clone)]
pub struct Env {
    /// Monotonic and wall time.
    pub clock: Clock,
    /// Seeds and identifiers.
    pub random: Random,
    /// Where calls that block a thread are run.
    pub blocking: Blocking,
    /// What survives a restart.
    pub store: Arc<dyn Store>,
    /// This daemon's metrics registry.
    pub metrics: Metrics,
}

impl Env {
    /// The real system. State is kept in `state_dir`, or without one in memory, where it is lost with the process.
    ///
    /// Create it inside the tokio runtime that will use it. Nothing is written here: a directory that is absent is
    /// created by the first write.
    pub fn system(state_dir: Option<&Path>) -> Result<Env, EntropyError> {
        let store: Arc<dyn Store> = match state_dir {
            Some(dir) => Arc::new(FileStore::new(dir)),
            None => Arc::new(MemoryStore::new()),
        };
        Ok(Env {
            clock: Clock::system(),
            random: Random::from_system()?,
            blocking: Blocking::threads(),
            store,
            metrics: Metrics::new(),
        })
    }

    /// A simulated system that depends on `seed` alone: time is the (paused) tokio runtime's, blocking calls run in place,
    /// state is in memory. Create it inside the runtime, because its clock starts counting now.
    pub fn simulated(seed: u64) -> Env {
        Env {
            clock: Clock::simulated(),
            random: Random::from_number(seed),
            blocking: Blocking::inline(),
            store: Arc::new(MemoryStore::new()),
            metrics: Metrics::new(),
        }
    }

    /// An `Env` for one of several daemons in this process: the same clock and executor, randomness forked under
    /// `name`, its own metrics registry, and its own part of the store. The same name gives the same part of the
    /// store again, so that a daemon can be dropped and started again on what it had written.
    pub fn child(&self, name: &str) -> Env {
        Env {
            clock: self.clock.clone(),
            random: Random::from_seed(self.random.fork(name)),
            blocking: self.blocking.clone(),
            store: self.store.child(name),
            metrics: Metrics::new(),
        }
    }

    /// The same `Env` on another store.
    pub fn with_store(self, store: impl Store + 'static) -> Env {
        Env { store: Arc::new(store), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_seed_gives_the_same_run_twice_and_another_seed_another() {
        let run = |seed| {
            let env = Env::simulated(seed);
            let child = env.child("host-1");
            (env.random.uuid(), child.random.uuid(), child.random.fork("task"), env.clock.rfc3339())
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_shares_the_clock_but_neither_ids_metrics_nor_files() {
        let env = Env::simulated(1);
        let (a, b) = (env.child("a"), env.child("b"));
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        assert_eq!(a.clock.now(), b.clock.now());
        assert_ne!(a.random.uuid(), b.random.uuid());
        a.store.write_durable("identity", b"a").unwrap();
        assert_eq!(b.store.read("identity").unwrap(), None);
        assert_eq!(env.child("a").store.read("identity").unwrap().as_deref(), Some(&b"a"[..]));
    }

    #[tokio::test]
    async fn the_system_env_keeps_state_in_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::system(Some(dir.path())).unwrap();
        env.child("h").store.write_durable("x", b"1").unwrap();
        assert_eq!(std::fs::read(dir.path().join("h/x")).unwrap(), b"1");
        assert_ne!(env.random.uuid(), Env::system(None).unwrap().random.uuid());
    }
}
