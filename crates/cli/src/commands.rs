//! The commands. Each takes an API client and a [`Console`](crate::output::Console), so that tests can drive it without
//! a broker and a terminal, and gives the exit code.

pub mod completion;
pub mod decision;
pub mod evaluate;
mod explain;
pub mod host;
pub mod ping;
pub mod place;
pub mod release;
pub mod scheduler;
pub mod service;

#[cfg(test)]
mod tests;
