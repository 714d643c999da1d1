//! The NUMA cells and PCI devices of a report, and what its claims take of them.
//!
//! The scheduler reads reports this way, and the host reads its own, so that both count the same.
//!
//! Left out: which instance gets which device.

use novella_objects::{CellUsage, Claim, Json, MemoryPages, NovellaReport, NumaTopology, PciPool};
use serde::de::DeserializeOwned;

use crate::devices::{DeviceUsage, Devices};
use crate::devices_on_the_wire::{BadDevices, read_cells, read_pools};

/// The page size of a cell that reports none, in KiB. Without a page size, the use of the cell's memory cannot be
/// counted.
const USUAL_PAGE_KB: u64 = 4;

/// Why cells or devices of a report cannot be counted with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct BadReportedDevices {
    /// The key of the report.
    pub key: &'static str,
    /// What is wrong there.
    pub reason: BadDevices,
}

impl Devices {
    /// What a host has, whatever claims take of it.
    pub fn of_report(report: &NovellaReport<'_>) -> Result<Self, BadReportedDevices> {
        let mut topology: Option<NumaTopology> =
            parse("novella.numa_topology", report.numa_topology.as_ref())?;
        for cell in topology.iter_mut().flat_map(|topology| &mut topology.cells) {
            if cell.mempages.is_empty() {
                let total = cell.memory_mb.saturating_mul(1024 / USUAL_PAGE_KB);
                cell.mempages.push(MemoryPages { size_kb: USUAL_PAGE_KB, total, used: 0, reserved: 0 });
            }
        }
        let pools: Option<Vec<PciPool>> = parse("novella.pci_pools", report.pci_pools.as_ref())?;
        Ok(Self {
            numa: topology.as_ref().map(read_cells).transpose().map_err(bad("novella.numa_topology"))?,
            pci_pools: read_pools(&pools.unwrap_or_default()).map_err(bad("novella.pci_pools"))?,
        })
    }
}

impl DeviceUsage {
    /// What a claim takes of cells and devices. `None` if it takes none.
    pub fn of_claim(claim: &Claim<'_>) -> Result<Option<Self>, BadReportedDevices> {
        if !claim.takes_devices() {
            return Ok(None);
        }
        let cells: Option<Vec<CellUsage>> =
            parse("novella.claims.numa_topology", claim.numa_topology.as_ref())?;
        let pools: Option<Vec<PciPool>> = parse("novella.claims.pci", claim.pci.as_ref())?;
        let usage = Self::read(&cells.unwrap_or_default(), &pools.unwrap_or_default());
        usage.map(Some).map_err(bad("novella.claims"))
    }
}

fn parse<T: DeserializeOwned>(
    key: &'static str,
    text: Option<&Json<'_>>,
) -> Result<Option<T>, BadReportedDevices> {
    let value = text.map(|text| serde_json::from_str(text.get())).transpose();
    value.map_err(|error| bad(key)(BadDevices(error.to_string())))
}

fn bad(key: &'static str) -> impl Fn(BadDevices) -> BadReportedDevices {
    move |reason| BadReportedDevices { key, reason }
}
