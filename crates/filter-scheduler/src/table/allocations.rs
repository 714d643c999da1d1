//! Hosts as Placement's resource providers: their traits, inventories of further resource classes, NUMA cells and PCI
//! devices, and what instances take of these.

use std::sync::Arc;

use novella_objects::Inventory;
use novella_resources::{Allocation, Charges, DeviceUsage, Devices, PCPU};
use uuid::Uuid;

use crate::request::asked::Wanted;
use crate::table::block::{Row, clear, set};
use crate::table::host_table::HostTable;
use crate::table::inventories::ClassUsage;
use crate::table::traits::TraitSnapshot;

impl HostTable {
    /// Replaces the host's traits.
    pub fn set_traits<'t>(&mut self, row: Row, traits: impl Iterator<Item = &'t str> + Clone) {
        if self.traits.set(row.index(), traits) {
            self.stamps.touch(row);
        }
    }

    /// The host's traits, in the order of its report.
    pub fn traits(&self, row: Row) -> impl Iterator<Item = &str> {
        self.traits.of(row.index())
    }

    /// A copy of all hosts' traits, for readers of the whole fleet.
    pub fn traits_snapshot(&self) -> TraitSnapshot {
        self.traits.snapshot()
    }

    /// Replaces what the host reports of further resource classes: inventories, and how much of each is used. What is
    /// consumed on top stays. An inventory of `PCPU` says that the host's VCPUs are those that are left to share.
    pub fn set_inventories<'t>(
        &mut self,
        row: Row,
        reported: impl Iterator<Item = (&'t str, Inventory, u64)> + Clone,
    ) {
        if !self.inventories.set(row.index(), reported) {
            return;
        }
        self.stamps.touch(row);
        let pcpus = self.inventories.held(row.index(), PCPU);
        self.set_has_pcpus(row, pcpus.is_some_and(|held| held.inventory.is_some()));
    }

    /// Whether the host has an inventory of `PCPU`. Pinned CPUs are then taken from that inventory and not from the
    /// VCPUs.
    pub fn has_pcpus(&self, row: Row) -> bool {
        self.columns.exact[row.index()].has_pcpus
    }

    fn set_has_pcpus(&mut self, row: Row, has_pcpus: bool) {
        let columns = &mut self.columns;
        if columns.exact[row.index()].has_pcpus != has_pcpus {
            let put = if has_pcpus { set } else { clear };
            put(&mut columns.has_pcpus, row);
            columns.exact[row.index()].has_pcpus = has_pcpus;
            columns.derive(row.index());
        }
    }

    /// What the host has of further resource classes, and how much of each is used.
    pub fn inventories(&self, row: Row) -> impl Iterator<Item = ClassUsage<'_>> {
        self.inventories.of(row.index())
    }

    /// Takes all that an instance takes, on top of what the host reported and whether the host has it or not; see
    /// [`Self::consume`].
    pub fn allocate(&mut self, row: Row, allocation: &Allocation) {
        self.consume(row, &allocation.amounts);
        self.inventories.consume(row.index(), &allocation.resources);
    }

    /// Takes what an instance is charged on this host, which depends on [`Self::has_pcpus`]; see [`Self::allocate`].
    pub fn charge(&mut self, row: Row, charges: &Charges) {
        self.allocate(row, charges.on(|| self.has_pcpus(row)));
    }

    /// Undoes [`Self::charge`]. [`Self::has_pcpus`] must be as it was then.
    pub fn discharge(&mut self, row: Row, charges: &Charges) {
        self.deallocate(row, charges.on(|| self.has_pcpus(row)));
    }

    /// Gives back what [`Self::allocate`] took.
    pub fn deallocate(&mut self, row: Row, allocation: &Allocation) {
        self.give_back(row, &allocation.amounts);
        self.inventories.give_back(row.index(), &allocation.resources);
    }

    /// Replaces the NUMA cells and PCI devices that the host reports. What placements took of them stays taken.
    pub fn set_devices(&mut self, row: Row, devices: &Devices) {
        if self.devices.report(row.index(), devices) {
            self.devices_changed(row);
        }
    }

    /// The NUMA cells and PCI devices that the host has left. `None` if it has neither.
    pub fn devices(&self, row: Row) -> Option<&Devices> {
        self.shared_devices(row).map(|devices| &**devices)
    }

    /// What [`Self::devices`] returns, as a pointer that is cheap to keep.
    pub fn shared_devices(&self, row: Row) -> Option<&Arc<Devices>> {
        self.devices.at(row.index()).map(|(devices, _)| devices)
    }

    /// What was taken for an instance, if anything. If that happened more than once, the latest.
    pub fn taken_devices(&self, row: Row, instance: Uuid) -> Option<&DeviceUsage> {
        let taken = self.devices.taken.get(&row.0)?;
        taken.entries.iter().rfind(|entry| entry.instance == instance).map(|entry| &entry.usage)
    }

    /// Takes for an instance exactly what another table gave it.
    pub fn put_taken_devices(&mut self, row: Row, instance: Uuid, usage: &DeviceUsage) {
        self.devices.put_taken(row.index(), instance, usage.clone());
        self.columns.exact[row.index()].not_building += u32::from(usage.failed);
        self.devices_changed(row);
    }

    /// Takes the cells and devices that an instance wants, and writes into `wanted` where it went. `limits` are the
    /// ratios of CPU and memory, and `None` if NUMATopologyFilter did not decide. True if there is something to give
    /// back.
    pub(crate) fn take_devices(
        &mut self,
        row: Row,
        instance: Uuid,
        wanted: &mut Wanted,
        limits: Option<(f64, f64)>,
    ) -> bool {
        let Some(failed) = self.devices.take(row.index(), instance, wanted, limits) else { return false };
        self.columns.exact[row.index()].not_building += u32::from(failed);
        self.devices_changed(row);
        true
    }

    /// Gives back what `take_devices` took for an instance, if anything. If that happened more than once, the
    /// latest is given back.
    pub fn give_back_devices(&mut self, row: Row, instance: Uuid) {
        if let Some(failed) = self.devices.give_back(row.index(), instance) {
            self.columns.exact[row.index()].not_building -= u32::from(failed);
            self.devices_changed(row);
        }
    }

    fn devices_changed(&mut self, row: Row) {
        let count = self.devices.at(row.index()).map_or(0, |(devices, _)| devices.count());
        self.columns.exact[row.index()].pci_devices = count;
        self.columns.derive(row.index());
        self.stamps.touch(row);
    }
}
