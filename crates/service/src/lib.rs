//! The frame that every novella process stands in: [`Env`], configuration, logging, signals, health, graceful stop.
//!
//! What always holds: this is the only crate that asks the operating system for the time, for entropy, for a
//! blocking thread or for durable storage. A daemon gets all of them in one [`Env`], so the same code runs against
//! the system and inside a simulation that is repeatable from one seed.
//!
//! What it leaves out: everything that knows of hosts, reports or placement, and the message bus.

pub mod args;
pub mod config;
pub mod env;
pub mod exit;
pub mod health;
mod host_name;
pub mod logging;
pub mod shutdown;
pub mod stall;
pub mod systemd;

pub use env::{
    Blocking, Clock, Env, Fault, FileStore, MemoryStore, Metrics, Panicked, Random, Sample, Store,
    StoreError, StoreLock,
};
pub use host_name::host_name;
