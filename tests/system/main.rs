//! Whole daemons in one process: schedulers, agents with fake drivers and an operator, on the in-process bus, under one
//! thread and paused time. A run depends on its seed alone; a failing test prints it.

mod authority;
mod claims;
mod cluster;
mod devices;
mod hardware;
mod identities;
mod instances;
mod invented;
mod log;
mod placing;
mod poison;
mod poisons;
mod policy;
mod quotas;
mod repeatable;
mod replay;
mod schedulers;
mod silence;
mod simulation;
mod starting;
mod stopping;
mod stub_host;
