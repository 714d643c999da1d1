//! NUMA: whether the cells of an instance fit onto the cells of a host, and which goes onto which.
//!
//! A host reports its [`Topology`] with what is used of each cell. An instance has an [`InstanceTopology`] if its flavor or
//! image asks for NUMA nodes, page sizes or dedicated CPUs. [`fit`](fit()) maps each cell of the instance to a host cell of
//! its own, resolves page sizes and pins dedicated CPUs. [`Topology::usage_of`] says what that takes. Both follow Nova 34.
//!
//! Left out: how flavor and image express what they ask for.
//!
//! Known difference: among the free threads of one core, Nova takes those that a Python set happens to list first. This
//! code takes the lowest numbers. Later decisions do not depend on it.
//!
//! # Layout
//! - `pinning`: the host CPUs that an instance's dedicated CPUs are pinned to
//! - `fit`: the search for an arrangement of cells

mod fit;
mod pinning;

pub use crate::topology::{
    Cell, CellUsage, CpuPolicy, InstanceCell, InstanceTopology, Network, PAGES_ANY, PAGES_LARGE, PAGES_SMALL,
    Pages, ThreadPolicy, Topology, Usage, UsageError,
};
pub use fit::{FitError, Limits, MAX_PERMUTATIONS, Site, fit};
