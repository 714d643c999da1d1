//! The commands. Each takes an API client and a [`Console`](crate::output::Console), so that tests can drive it without
//! a broker and a terminal, and gives the exit code.

pub mod capacity;
pub mod completion;
mod decision;
pub mod evaluate;
pub mod explain;
pub mod host;
pub mod ping;
pub mod place;
pub mod policy;
pub mod release;
mod request;
pub mod scheduler;
pub mod service;
pub mod snapshot;

#[cfg(test)]
mod tests;
