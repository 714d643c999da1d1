//! What every novella process is built on: [`Env`], configuration, logging, signals, health, graceful stop.
//!
//! What always holds: this is the only crate that asks the operating system for the time, for entropy, for a
//! blocking thread or for durable storage. A daemon gets all of them in one [`Env`], so the same code runs against
//! the system and inside a simulation that is repeatable from one seed.
//!
//! What it leaves out: everything about hosts, reports and placement, and the message bus.
//!
//! # Layout
//!
//! In reading order. A module uses only those above it.
//!
//! - `host_name`: the name of this machine.
//! - `failure`: exit codes, and an error that carries its own.
//! - [`env`](mod@env): [`Env`], the clock, randomness, blocking calls, durable state and metrics of one daemon.
//! - [`config`]: settings are declared, read from layers of sources, checked and explained.
//! - [`logging`]: events on standard error.
//! - [`args`]: the options that every program has.
//! - [`shutdown`]: signals, the grace period, the verdict.
//! - [`stall`]: finds out that this process did not run for a while.
//! - [`health`]: `/livez`, `/readyz`, `/metrics`, and the command that asks them.
//! - [`systemd`]: readiness, status and watchdog for systemd.
//! - [`exit`]: turns an error into one printed line and an exit code.

pub mod args;
pub mod config;
pub mod env;
pub mod exit;
mod failure;
pub mod health;
mod host_name;
pub mod logging;
pub mod printable;
pub mod shutdown;
pub mod stall;
pub mod systemd;

pub use env::{
    Blocking, BrokerLink, Change, Clock, CommitError, Env, FLUSH_AFTER, FileStore, Format, MAX_BEHIND,
    MAX_WAITING, MemoryStore, Metrics, Migration, Panicked, Random, Record, RecordWriter, Records,
    RecordsError, Sample, Store, StoreError, StoreFault, StoreLock, WriterMetrics,
};
pub use host_name::host_name;
