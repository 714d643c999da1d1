//! What a host has left of its NUMA cells and PCI devices, according to its report.
//!
//! What always holds: the table gets what is left when all claims are subtracted. Reservations are subtracted there
//! separately, each until a report lists its claim. So a report replaces, and never adds.
//!
//! Left out: which instance gets which device. The engine decides that.

use novella_objects::document::PciPool;
use novella_objects::{Capabilities, PciPoolDetail};
use novella_resources::{BadReportedDevices, DeviceUsage, Devices};

use crate::report::outcome::{BadReport, Fault};

/// What a host has left, according to its report. Fails if cells or devices cannot be counted with.
pub(crate) fn devices(caps: &Capabilities<'_>) -> Result<Devices, BadReport> {
    let Some(report) = caps.novella.as_deref() else { return Ok(Devices::default()) };
    let mut devices = Devices::of_report(report)?;
    devices.take_all(report.claims.iter().filter_map(|claim| DeviceUsage::of_claim(claim).transpose()))?;
    Ok(devices)
}

impl From<BadReportedDevices> for BadReport {
    fn from(BadReportedDevices { key, reason }: BadReportedDevices) -> Self {
        Self { key, fault: Fault::Devices(reason) }
    }
}

/// The devices that a host reported, each kind with how many are left.
pub(crate) fn shown(reported: &str, left: &[PciPool]) -> Vec<PciPoolDetail> {
    let pools: Vec<PciPool> = serde_json::from_str(reported).unwrap_or_default();
    let mut left = left.to_vec();
    let shown = pools.into_iter().map(|pool| {
        let mut free = 0;
        for other in &mut left {
            if *other == (PciPool { count: other.count, ..pool.clone() }) {
                let taken = other.count.min(pool.count - free);
                other.count -= taken;
                free += taken;
            }
        }
        PciPoolDetail { free, pool }
    });
    shown.collect()
}
