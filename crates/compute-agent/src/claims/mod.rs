//! Claims and holds: what this host has granted, and why it refuses.
//!
//! # Layout
//! - `record`: what is written to the store, and how
//! - `book`: what is granted now, and whether one more fits
//! - `counters`: how often claims were granted or refused
//! - `tracker`: the book with its store: nothing is acknowledged before it is on the disk

pub(crate) mod book;
pub(crate) mod counters;
pub(crate) mod record;
pub(crate) mod tracker;
