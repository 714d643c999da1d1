//! The agent as its peers see it: on the in-process bus under paused time, and as an executable.
//!
//! What always holds: a test learns about the agent only from the bus, its store or its process. No test sleeps and hopes.
//! Time in process is simulated, and a test waits for what a process writes or for its end.

mod bus;
mod commands;
mod executable;
mod faults;
mod hardware;
mod identity;
mod instances;
mod process;
mod reload;
mod reports;
