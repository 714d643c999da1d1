//! The hypervisor boundary: what this host has, asked through a [`ComputeDriver`].
//!
//! A driver is made by name from a [`Registry`]; `linux` reads the host it runs on, `fake` is sized by configuration.
//! A driver asks its host through named [`Probe`]s. What always holds:
//!
//! - every value in [`HostStats`] says where it came from;
//! - a probe that fails or hangs is answered by its last good value and listed in [`HostStats::stale`] with that
//!   value's age; only a probe that never gave a value is an error;
//! - a stuck probe delays one reading by its deadline and later ones not at all, and is never started twice;
//! - nothing here starts a thread: calls that may block go through the [`BlockingExecutor`] of the caller.
//!
//! Left out on purpose: what instances use (the agent's claims say that), overrides by the operator, and libvirt,
//! whose driver lives in its own crate and joins by [`Registry::register`].

mod cpu_traits;
mod driver;
mod fake;
mod linux;
mod probe;
mod registry;
mod report;
mod stats;

pub use cpu_traits::cpu_traits;
pub use driver::{
    BlockingExecutor, ComputeDriver, DEFAULT_DISK_PATH, DEFAULT_PROBE_DEADLINE, DriverError, DriverOptions,
};
pub use fake::{FakeConfig, FakeDevices, FakeDriver, FakeStep};
pub use linux::LinuxDriver;
pub use probe::{Completion, Probe, ProbeError, Reading};
pub use registry::{Constructor, Registry};
pub use report::{capabilities, measured, stale_probes};
pub use stats::{
    CpuInfo, CpuStats, CpuTopology, HostStats, MemPages, NumaNode, PciDevType, PciDevice, Probed, StaleProbe,
};
