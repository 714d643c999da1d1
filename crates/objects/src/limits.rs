//! Limits of what may be asked and reported. Every crate that checks one of them takes it from here.
//!
//! Left out: limits of one program's own memory or time, which are beside the code that needs them, and the largest CPU
//! number, which belongs to the CPU sets of `novella-resources`.

/// Largest amount of one resource on one host or in one request, in the resource's unit (MiB, GiB or pieces).
///
/// The scheduler keeps amounts in 32-bit signed columns. Larger values are refused when they arrive, so that no
/// comparison can overflow.
pub const MAX_AMOUNT: u64 = i32::MAX as u64;

/// Largest number of CPUs of one host. A report with more must be wrong.
pub const MAX_VCPUS: u64 = 1 << 20;

/// Largest number of instances in one request. It bounds how long one placement may hold the host map's lock.
pub const MAX_INSTANCES: usize = 10_000;

/// Largest number of alternates (next best hosts) that a request may ask for with each instance.
pub const MAX_ALTERNATES: u32 = 32;
