//! The agent as its peers see it: on the in-process bus under paused time, and as an executable.
//!
//! Always: what a test knows of the agent came over the bus, from its store, or out of its process. Nothing sleeps
//! for luck: in-process time is simulated, and a process is waited for by what it writes or how it ends.

mod bus;
mod commands;
mod executable;
mod faults;
mod hardware;
mod identity;
mod reports;
