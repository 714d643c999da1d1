//! Amounts and inventories: what fits where; shared by scheduler and host.
