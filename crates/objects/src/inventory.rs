//! Amounts of resource classes on a host, in the terms of Placement's inventories.

use serde::{Deserialize, Serialize};

/// What a host has of one resource class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// How much there is.
    pub total: u64,
    /// How much of the total is held back and not given to instances.
    pub reserved: u64,
    /// Smallest amount that one request may ask for.
    pub min_unit: u64,
    /// Largest amount that one request may ask for.
    pub max_unit: u64,
    /// A request's amount must be a multiple of this.
    pub step_size: u64,
    /// Overcommit: the capacity is (total − reserved) × this.
    pub allocation_ratio: f64,
}

impl Default for Inventory {
    fn default() -> Self {
        Self { total: 0, reserved: 0, min_unit: 1, max_unit: u64::MAX, step_size: 1, allocation_ratio: 1.0 }
    }
}

/// An [`Inventory`] with what is used of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsedInventory {
    /// How much there is.
    pub total: u64,
    /// How much of the total is held back and not given to instances.
    pub reserved: u64,
    /// Smallest amount that one request may ask for.
    pub min_unit: u64,
    /// Largest amount that one request may ask for.
    pub max_unit: u64,
    /// A request's amount must be a multiple of this.
    pub step_size: u64,
    /// Overcommit: the capacity is (total − reserved) × this.
    pub allocation_ratio: f64,
    /// How much instances have taken.
    pub used: u64,
}

impl UsedInventory {
    /// An inventory of which this much is used.
    pub fn new(inventory: Inventory, used: u64) -> Self {
        let Inventory { total, reserved, min_unit, max_unit, step_size, allocation_ratio } = inventory;
        Self { total, reserved, min_unit, max_unit, step_size, allocation_ratio, used }
    }
}

impl Default for UsedInventory {
    fn default() -> Self {
        Self::new(Inventory::default(), 0)
    }
}
