//! Instances: the guests that the host's driver builds for claims, from the request to the end.
//!
//! # Layout
//! - `machine`: what each request, outcome and reading makes of the state of one instance
//! - `failures`: the builds that failed lately, and how many in a row
//! - `counters`: how often builds were started and how they ended
//! - `manager`: takes requests, writes them and tells reports about them
//! - `driving`: calls the driver until the guests are as they should be

mod counters;
mod driving;
mod failures;
mod machine;
pub(crate) mod manager;
