//! Hosts as Placement's resource providers: their traits, and what they have of further resource classes.

use novella_objects::Inventory;
use novella_resources::{Allocation, Charges, PCPU};

use crate::host_table::{BLOCK, HostTable, Row};
use crate::inventory_columns::ClassUsage;

impl HostTable {
    /// Replaces the host's traits.
    pub fn set_traits<'t>(&mut self, row: Row, traits: impl Iterator<Item = &'t str> + Clone) {
        self.stamps.touch(row);
        self.traits.set(row.index(), traits);
    }

    /// The host's traits, in the order of its report.
    pub fn traits(&self, row: Row) -> impl Iterator<Item = &str> {
        self.traits.of(row.index())
    }

    /// Replaces what the host reports of further resource classes: inventories, and how much of each is used. What is
    /// consumed on top stays. An inventory of `PCPU` says that the host's VCPUs are those that are left to share.
    pub fn set_inventories<'t>(
        &mut self,
        row: Row,
        reported: impl Iterator<Item = (&'t str, Inventory, u64)>,
    ) {
        self.stamps.touch(row);
        self.inventories.set(row.index(), reported);
        let pcpus = self.inventories.held(row.index(), PCPU);
        self.set_has_pcpus(row, pcpus.is_some_and(|held| held.inventory.is_some()));
    }

    /// Whether the host has an inventory of `PCPU`: pinned CPUs are asked and taken of that then, and not of its VCPUs.
    pub fn has_pcpus(&self, row: Row) -> bool {
        self.columns.exact[row.index()].has_pcpus
    }

    fn set_has_pcpus(&mut self, row: Row, has_pcpus: bool) {
        let columns = &mut self.columns;
        if columns.exact[row.index()].has_pcpus != has_pcpus {
            let (word, bit) = (&mut columns.has_pcpus[row.index() / BLOCK], 1 << (row.index() % BLOCK));
            *word = if has_pcpus { *word | bit } else { *word & !bit };
            columns.exact[row.index()].has_pcpus = has_pcpus;
            columns.derive(row.index());
        }
    }

    /// What the host has of further resource classes, and what is used of it.
    pub fn inventories(&self, row: Row) -> impl Iterator<Item = ClassUsage<'_>> {
        self.inventories.of(row.index())
    }

    /// Takes all that an instance takes on top of what the host reported, there or not; see [`Self::consume`].
    pub fn allocate(&mut self, row: Row, allocation: &Allocation) {
        self.consume(row, &allocation.amounts);
        self.inventories.consume(row.index(), &allocation.resources);
    }

    /// Takes of a host what it is charged; see [`Self::allocate`].
    pub(crate) fn charge(&mut self, row: Row, charges: &Charges) {
        self.allocate(row, charges.on(|| self.has_pcpus(row)));
    }

    /// Undoes [`Self::charge`], the host's inventories being the same as then.
    pub(crate) fn discharge(&mut self, row: Row, charges: &Charges) {
        self.deallocate(row, charges.on(|| self.has_pcpus(row)));
    }

    /// Gives back what [`Self::allocate`] took.
    pub fn deallocate(&mut self, row: Row, allocation: &Allocation) {
        self.give_back(row, &allocation.amounts);
        self.inventories.give_back(row.index(), &allocation.resources);
    }
}
