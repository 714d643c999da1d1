//! Placement's fit rule: whether a host has room for an amount of one resource class.
//!
//! The rule is `used + amount ≤ (total − reserved) × allocation_ratio`, `min_unit ≤ amount ≤ max_unit`, and `amount` is a
//! multiple of `step_size`. The product is a double and is not cut, as in Placement. The sums are whole numbers. An
//! inventory that makes no sense (a step of zero, more reserved than there is) has room for nothing and is not an error.

use novella_objects::Inventory;

/// `(total − reserved) × allocation_ratio`. Negative if more is reserved than there is.
pub fn capacity(inventory: &Inventory) -> f64 {
    (i128::from(inventory.total) - i128::from(inventory.reserved)) as f64 * inventory.allocation_ratio
}

/// The largest amount that is within capacity and `max_unit` when `used` is taken. Negative if the host is overfull.
pub fn room(inventory: &Inventory, used: u64) -> i64 {
    // `used + amount` is whole, so comparing it with a double is comparing it with the double's floor.
    let left = (capacity(inventory).floor() as i128).saturating_sub(i128::from(used)); // `as` saturates
    let most = left.min(i128::from(inventory.max_unit));
    most.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Whether a request may ask for `amount` at all, however empty the host is.
pub fn allows(inventory: &Inventory, amount: u64) -> bool {
    (inventory.min_unit..=inventory.max_unit).contains(&amount)
        && amount.checked_rem(inventory.step_size) == Some(0)
}

/// Whether `amount` fits beside `used`.
pub fn fits(inventory: &Inventory, used: u64, amount: u64) -> bool {
    allows(inventory, amount) && i128::from(amount) <= i128::from(room(inventory, used))
}

/// How many instances fit beside `used`, one after another. Each asks for all of `amounts`: each amount must be allowed,
/// and their sum must be within `max_unit`.
pub fn times(inventory: &Inventory, used: u64, amounts: &[u64]) -> u64 {
    let sum = amounts.iter().fold(0u64, |sum, amount| sum.saturating_add(*amount));
    if sum > inventory.max_unit || !amounts.iter().all(|&amount| allows(inventory, amount)) {
        return 0;
    }
    let left = room(&Inventory { max_unit: u64::MAX, ..*inventory }, used);
    u64::try_from(left).unwrap_or(0).checked_div(sum).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gpus(change: impl FnOnce(&mut Inventory)) -> Inventory {
        let mut inventory = Inventory { total: 10, ..Inventory::default() };
        change(&mut inventory);
        inventory
    }

    #[test]
    fn each_bound_of_an_inventory_holds() {
        assert!(fits(&gpus(|_| {}), 0, 10));
        assert!(!fits(&gpus(|_| {}), 1, 10));
        assert!(!fits(&gpus(|i| i.reserved = 1), 0, 10));
        assert!(fits(&gpus(|i| i.allocation_ratio = 1.5), 5, 10));
        assert!(!fits(&gpus(|i| i.allocation_ratio = 1.5), 6, 10));
        assert!(fits(&gpus(|i| i.allocation_ratio = 0.35), 0, 3), "3.5 is not cut before it is compared");
        assert!(!fits(&gpus(|i| i.allocation_ratio = 0.35), 0, 4));
        assert!(!fits(&gpus(|i| i.max_unit = 4), 0, 5));
        assert!(!fits(&gpus(|i| i.min_unit = 4), 0, 3));
        assert!(!fits(&gpus(|i| i.step_size = 4), 0, 6));
        assert!(fits(&gpus(|i| i.step_size = 4), 0, 8));
    }

    #[test]
    fn nonsense_has_room_for_nothing() {
        assert!(!fits(&gpus(|i| i.step_size = 0), 0, 1));
        assert!(!fits(&gpus(|i| i.reserved = 11), 0, 1));
        assert_eq!(room(&gpus(|i| i.reserved = u64::MAX), u64::MAX), i64::MIN);
        assert_eq!(room(&gpus(|i| (i.total, i.allocation_ratio) = (u64::MAX, 1e6)), 0), i64::MAX);
    }

    proptest! {
        /// Counting in one step is counting one after another.
        #[test]
        fn times_is_one_after_another(total in 0u64..200, reserved in 0u64..20, used in 0u64..200, max_unit in 1u64..40,
            step_size in 0u64..4, allocation_ratio in 0.1f64..3.0, amounts in prop::collection::vec(1u64..20, 1..3)) {
            let inventory = Inventory { total, reserved, max_unit, step_size, allocation_ratio, min_unit: 1 };
            let sum: u64 = amounts.iter().sum();
            let (mut taken, mut placed) = (used, 0);
            while amounts.iter().all(|&n| allows(&inventory, n)) && sum as i64 <= room(&inventory, taken) {
                (taken, placed) = (taken + sum, placed + 1);
            }
            prop_assert_eq!(times(&inventory, used, &amounts), placed);
        }

        /// The whole-number comparison decides as the rule's doubles do.
        #[test]
        fn room_is_the_rule(total in 1u64..1 << 31, reserved in 0u64..1 << 31, used in 0u64..1 << 32, amount in 1u64..1 << 31,
            max_unit in 1u64..1 << 31, min_unit in 1u64..50, step_size in 1u64..9, allocation_ratio in 0.01f64..20.0) {
            let inventory = Inventory { total, reserved, min_unit, max_unit, step_size, allocation_ratio };
            let within = (used + amount) as f64 <= (total as f64 - reserved as f64) * allocation_ratio;
            let rule = within && min_unit <= amount && amount <= max_unit && amount % step_size == 0;
            prop_assert_eq!(fits(&inventory, used, amount), rule);
        }
    }
}
