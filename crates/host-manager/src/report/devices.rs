//! The NUMA cells and PCI devices of a report, and what its claims take of them.
//!
//! What always holds: the table gets what is left when all claims are subtracted. Reservations are subtracted there
//! separately, each until a report lists its claim. So a report replaces, and never adds.
//!
//! Left out: which instance gets which device. The engine decides that.

use novella_filter_scheduler::{BadDevices, DeviceUsage, Devices, read_cells, read_pools};
use novella_objects::document::{MemoryPages, NumaTopology, PciPool};
use novella_objects::{Capabilities, CellUsage, Claim, Json, PciPoolDetail};
use serde::de::DeserializeOwned;

use crate::report::outcome::{BadReport, Fault};

/// The page size of a cell that reports none, in KiB. Without a page size, the use of the cell's memory cannot be
/// counted.
const USUAL_PAGE_KB: u64 = 4;

/// What a host has left, according to its report. Fails if cells or devices cannot be counted with.
pub(crate) fn devices(caps: &Capabilities<'_>) -> Result<Devices, BadReport> {
    let Some(report) = caps.novella.as_deref() else { return Ok(Devices::default()) };
    let mut topology: Option<NumaTopology> = parse("novella.numa_topology", report.numa_topology.as_ref())?;
    for cell in topology.iter_mut().flat_map(|topology| &mut topology.cells) {
        if cell.mempages.is_empty() {
            let total = cell.memory_mb.saturating_mul(1024 / USUAL_PAGE_KB);
            cell.mempages.push(MemoryPages { size_kb: USUAL_PAGE_KB, total, used: 0, reserved: 0 });
        }
    }
    let pools: Option<Vec<PciPool>> = parse("novella.pci_pools", report.pci_pools.as_ref())?;
    let mut devices = Devices {
        numa: topology.as_ref().map(read_cells).transpose().map_err(bad("novella.numa_topology"))?,
        pci_pools: read_pools(&pools.unwrap_or_default()).map_err(bad("novella.pci_pools"))?,
    };
    devices.take_all(report.claims.iter().filter_map(|claim| usage(claim).transpose()))?;
    Ok(devices)
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

/// Whether a claim takes NUMA cells or PCI devices.
pub(crate) fn takes_devices(claim: &Claim<'_>) -> bool {
    claim.numa_topology.is_some() || claim.pci.is_some()
}

fn usage(claim: &Claim<'_>) -> Result<Option<DeviceUsage>, BadReport> {
    if !takes_devices(claim) {
        return Ok(None);
    }
    let cells: Option<Vec<CellUsage>> = parse("novella.claims.numa_topology", claim.numa_topology.as_ref())?;
    let pools: Option<Vec<PciPool>> = parse("novella.claims.pci", claim.pci.as_ref())?;
    let usage = DeviceUsage::read(&cells.unwrap_or_default(), &pools.unwrap_or_default());
    usage.map(Some).map_err(bad("novella.claims"))
}

fn parse<T: DeserializeOwned>(key: &'static str, text: Option<&Json<'_>>) -> Result<Option<T>, BadReport> {
    let value = text.map(|text| serde_json::from_str(text.get())).transpose();
    value.map_err(|error| bad(key)(BadDevices(error.to_string())))
}

fn bad(key: &'static str) -> impl Fn(BadDevices) -> BadReport {
    move |reason| BadReport { key, fault: Fault::Devices(reason) }
}
