//! Hosts as Placement's resource providers: their traits, and what they have of further resource classes.

use novella_objects::Inventory;
use novella_resources::Allocation;

use crate::host_table::{HostTable, Row};
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
    /// consumed on top stays.
    pub fn set_inventories<'t>(
        &mut self,
        row: Row,
        reported: impl Iterator<Item = (&'t str, Inventory, u64)>,
    ) {
        self.stamps.touch(row);
        self.inventories.set(row.index(), reported);
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

    /// Gives back what [`Self::allocate`] took.
    pub fn deallocate(&mut self, row: Row, allocation: &Allocation) {
        self.give_back(row, &allocation.amounts);
        self.inventories.give_back(row.index(), &allocation.resources);
    }
}
