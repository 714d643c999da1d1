//! The host-state map: reports in, rows out.
