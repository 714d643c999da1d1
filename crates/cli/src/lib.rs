//! The operator's command line: novella.
//!
//! What always holds: data goes to standard output and messages go to standard error. The exit codes are those of
//! `exit_codes`. A reader that closes the pipe early is a success. Colours and redrawing need a terminal.
//!
//! Most commands are thin: they ask a scheduler over RPC and show the answer. `demo` runs the daemons' own code on a bus
//! in this process, `swarm` runs agents against a real broker, and `evaluate` and `capacity --hosts` ask the engine
//! directly.
//!
//! # Layout
//!
//! In reading order; a module imports only those below it in this list:
//! - `dispatch`: runs the command of the command line
//! - `usage`: errors of the command line, in two lines
//! - `args`: the command line as a whole
//! - `swarm`: `novella swarm`
//! - `demo`: `novella demo`
//! - `commands`: every other command, one file each
//! - `connect`: the connection to the bus, and failures of calls
//! - `output`: tables and machine formats
//! - `settings`: what can be configured
//! - `latencies`: percentiles of measured times
//! - `units`: sizes and times as people write and read them
//! - `exit_codes`: the exit codes

mod args;
mod commands;
mod connect;
mod demo;
mod dispatch;
mod exit_codes;
mod latencies;
mod output;
mod settings;
mod swarm;
mod units;
mod usage;

#[cfg(test)]
mod tests;

pub use dispatch::run;
