//! NUMA cells and PCI devices of a host together, and the part of them that an instance takes.
//!
//! What always holds: what is taken lists results and not rules, so everyone who takes it leaves the same.
//!
//! Left out: which cells and devices an instance gets ([`numa`], [`pci`]), and who has taken what.

use crate::numa;
use crate::pci;

/// The NUMA cells and free PCI devices of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Devices {
    /// The NUMA cells. `None` if the host does not report any.
    pub numa: Option<numa::Topology>,
    /// The free PCI devices, in the order in which they are given out.
    pub pci_pools: Vec<pci::Pool>,
}

impl Devices {
    /// Whether the host has neither.
    pub fn is_empty(&self) -> bool {
        self.numa.is_none() && self.pci_pools.is_empty()
    }

    /// The NUMA cells, if there is at least one.
    pub fn cells(&self) -> Option<&numa::Topology> {
        self.numa.as_ref().filter(|topology| !topology.cells.is_empty())
    }

    /// Takes what an instance takes. Cells and devices that are not there are passed over.
    pub fn take(&mut self, usage: &DeviceUsage) {
        if let (Some(topology), Some(usage)) = (&mut self.numa, &usage.numa) {
            topology.take(usage);
        }
        if let Some(usage) = &usage.pci {
            pci::take(&mut self.pci_pools, usage);
        }
    }

    /// Takes what many instances take. Fails with the first usage that failed, with a part of the others taken.
    pub fn take_all<E>(&mut self, usages: impl Iterator<Item = Result<DeviceUsage, E>>) -> Result<(), E> {
        let mut taken = pci::TakenDevices::default();
        for usage in usages {
            let usage = usage?;
            if let (Some(topology), Some(usage)) = (&mut self.numa, &usage.numa) {
                topology.take(usage);
            }
            usage.pci.iter().for_each(|usage| taken.add(usage));
        }
        taken.take_from(&mut self.pci_pools);
        Ok(())
    }

    /// The number of free PCI devices.
    pub fn count(&self) -> u32 {
        self.pci_pools.iter().fold(0, |sum, pool| sum.saturating_add(pool.count))
    }
}

/// The part of a host's NUMA cells and PCI devices that one instance takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceUsage {
    /// What is taken of the NUMA cells, if anything.
    pub numa: Option<numa::Usage>,
    /// The PCI devices that are taken, if any.
    pub pci: Option<pci::Usage>,
    /// Whether taking failed midway.
    pub failed: bool,
}
