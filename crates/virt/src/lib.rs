//! The hypervisor boundary: what this host has, and the instances that are built on it, through a [`ComputeDriver`].
//!
//! A [`Registry`] makes drivers by name. `linux` reads the host that it runs on, and `fake` is sized by configuration. A
//! driver asks its host through named [`Probe`]s. What always holds:
//!
//! - every value in [`HostStats`] says where it came from;
//! - if a probe fails or hangs, its last good value is reported, and [`HostStats::stale`] lists the probe with that value's
//!   age; a probe that never returned a value is an error, unless placement can do without its value;
//! - what an operator should know about the host is in [`HostStats::warnings`];
//! - a stuck probe delays one reading by its deadline, and later readings not at all; it is never started twice;
//! - nothing here starts a thread: calls that may block are run by the caller's [`BlockingExecutor`].
//!
//! Instances are built by drivers whose [`Abilities`] say so. `fake` does, and its guests are on a [`FakeHypervisor`], which can
//! outlive the driver. `linux` does not. A call about an instance can be repeated and dropped, and has no deadline of its own.
//!
//! Left out on purpose: what instances may use (the agent's claims say that), overrides by the operator, and libvirt, whose
//! driver has a crate of its own and is added with [`Registry::register`].
//!
//! # Layout
//! - `stats`: what a driver reads from its host
//! - `recording`: what was read, as a tree of files
//! - `cpu_traits`, `report`: what follows from the stats for a report
//! - `probe_error`, `driver_error`: why a value could not be read, or a driver could not be made
//! - `probe`: a question to the host, with a deadline and the last good answer
//! - `instance`, `instance_error`: what a driver is asked to build, what it has, and why it did not do what it was asked
//! - `fake_config`, `driver`: what drivers are made from, and what a driver is
//! - `fake`, `linux`: the two drivers
//! - `registry`: drivers by name

mod cpu_traits;
mod driver;
mod driver_error;
mod fake;
mod fake_config;
mod instance;
mod instance_error;
mod linux;
mod probe;
mod probe_error;
mod recording;
mod registry;
mod report;
mod stats;

pub use cpu_traits::cpu_traits;
pub use driver::{ComputeDriver, DEFAULT_PROBE_DEADLINE, DriverOptions};
pub use driver_error::DriverError;
pub use fake::{FakeDriver, FakeHypervisor};
pub use fake_config::{FakeConfig, FakeDevices, FakeStep};
pub use instance::{Abilities, CannotBuild, DriverInstance, InstanceSpec};
pub use instance_error::{Attempt, InstanceError};
pub use linux::LinuxDriver;
pub use probe::{BlockingExecutor, Completion, Probe, Reading};
pub use probe_error::ProbeError;
pub use recording::Recording;
pub use registry::{Constructor, Registry};
pub use report::{capabilities, measured, stale_probes};
pub use stats::{
    CpuInfo, CpuStats, CpuTopology, HostStats, MemPages, NumaNode, PciDevType, PciDevice, Probed, StaleProbe,
};
