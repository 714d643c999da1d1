//! The commands that ask a scheduler, an agent or the engine, one file each.
//!
//! A command gets a [`Bus`](crate::connect::Bus) and a [`Console`](crate::output::Console), so that tests need neither a
//! broker nor a terminal. It returns the exit code.
//!
//! Layout, in reading order; shared parts come first:
//! - `request`: the options that describe a request
//! - `documents`: files of fleets and requests
//! - `decision`: a decision as tables and documents
//! - `place`, `explain`, `decision_list`, `release`: decisions
//! - `server`: instances
//! - `host`, `zone`, `service`, `scheduler`, `ping`: what runs
//! - `policy`, `flavor`, `aggregate`, `group`: policies, and what they define
//! - `capacity`, `snapshot`, `evaluate`: whole fleets
//! - `completion`: the script for shells

pub mod aggregate;
pub mod capacity;
pub mod completion;
mod decision;
pub mod decision_list;
mod documents;
pub mod evaluate;
pub mod explain;
pub mod flavor;
pub mod group;
pub mod host;
pub mod ping;
pub mod place;
pub mod policy;
pub mod release;
mod request;
pub mod scheduler;
pub mod server;
pub mod service;
pub mod snapshot;
pub mod zone;
