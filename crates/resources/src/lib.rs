//! Amounts, inventories, NUMA cells and PCI devices: what fits where. Scheduler and host share this code, so that they
//! cannot disagree.
//!
//! Everything here is arithmetic on values that are passed in. Units are MiB for memory and GiB for disk, except that disk
//! is compared in MiB, as in Nova's DiskFilter.
//!
//! Left out: who holds which amounts, and any state.
//!
//! # Layout
//! - [`cpu_set`]: sets of CPU numbers
//! - [`inventory`]: Placement's fit rule for one resource class
//! - `request_groups`: what a flavor's extra specs ask of Placement
//! - `amounts`: what one instance of a flavor asks of a host, and what it takes
//! - `capacity`: how much of CPUs, memory and disk still fits
//! - `pinned_cpus`: the same for instances whose CPUs a policy pins
//! - `topology`: NUMA cells of hosts and instances, and what an instance takes of them
//! - [`pci`]: PCI devices of hosts, and whether requests for them can be granted
//! - `devices`: the NUMA cells and PCI devices of a host together, and the part that an instance takes
//! - `devices_on_the_wire`: how reports, documents and messages say that
//! - `devices_of_reports`: those of a report, and what its claims take of them
//! - `host_limits`: whether one more instance fits on a host
//! - [`numa`]: which cell of an instance goes onto which cell of a host

mod amounts;
mod capacity;
pub mod cpu_set;
mod devices;
mod devices_of_reports;
mod devices_on_the_wire;
mod host_limits;
pub mod inventory;
pub mod numa;
pub mod pci;
mod pinned_cpus;
mod request_groups;
mod topology;

pub use amounts::{Allocation, Amounts, ClassAmounts, Demand, MB_PER_GB, by_class};
pub use capacity::{Amount, Capacity, Limits, Room};
pub use devices::{DeviceUsage, Devices};
pub use devices_of_reports::BadReportedDevices;
pub use devices_on_the_wire::{BadDevices, network, read_cells, read_pools, tag};
pub use host_limits::{HostLimits, Taken};
pub use pinned_cpus::{Charges, PCPU, PinnedCpus, gives_cpus};
pub use request_groups::{
    Group, GroupPolicy, RESOURCE_CLASSES, RequestGroups, SIZES, group_word, is_resource_class,
    resource_amount,
};
