//! What hosts have of further resource classes, and what is taken of them.
//!
//! A row lists its inventories. A class that a request asks for gets a column of how much still fits, which is kept up
//! to date from then on, so that asking is one comparison per block. A fleet without such classes pays nothing.
//!
//! What always holds:
//! - What is used is what the report counts (claims) and what is consumed on top. A report replaces only the former.
//! - What is consumed stays on the row, with or without an inventory of that class, until exactly that is given back.
//! - A column agrees with the rows.

use hashbrown::HashMap;
use novella_objects::Inventory;
use novella_resources::inventory;

use crate::table::block::{BLOCK, grow_to, lane};
use crate::table::dictionary::Dictionary;

/// The most classes that have a column at a time. Asking for one more drops the others, which are built again when
/// asked for.
const MAX_COLUMNS: usize = 64;

/// In a column, this says that the row has no inventory of the class.
pub(crate) const NO_INVENTORY: i32 = i32::MIN;

/// The inventories of all rows, with columns for the classes that requests ask for.
#[derive(Debug, Default)]
pub(crate) struct InventoryColumns {
    /// The names of the classes that rows hold.
    classes: Dictionary<Box<str>>,
    /// What each row holds. The list ends at the last row that ever held anything.
    rows: Vec<Vec<Held>>,
    /// The columns by the symbols of their classes.
    columns: HashMap<u32, Column>,
}

/// What one row holds of one class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// The symbol of the class.
    class: u32,
    /// The inventory that the host reports. `None` if it reports none, but something is consumed.
    pub(crate) inventory: Option<Inventory>,
    /// The amount that is used according to the host's report.
    pub(crate) used: u64,
    /// The amount that is consumed on top.
    pub(crate) consumed: u64,
}

/// How much of one class fits on each row. The lists end at the last row that ever held the class.
#[derive(Debug, Default)]
pub(crate) struct Column {
    /// The largest amount within capacity and `max_unit`, or [`NO_INVENTORY`].
    pub(crate) room: Vec<i32>,
    /// One bit per row: some amounts are refused although there is room for them (`min_unit`, `step_size`).
    pub(crate) picky: Vec<u64>,
}

/// What a host has of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassUsage<'t> {
    /// The name of the class.
    pub class: &'t str,
    /// The inventory that the host reports. `None` if it reports none, but an instance that takes of the class is
    /// placed there.
    pub inventory: Option<Inventory>,
    /// The amount that is used, reported and consumed together.
    pub used: u64,
}

impl Held {
    /// The amount that is used, reported and consumed together.
    fn in_use(&self) -> u64 {
        self.used.saturating_add(self.consumed)
    }

    fn room(&self) -> i32 {
        let room = |found| lane(inventory::room(found, self.in_use()));
        // An overfull host must not look like one without an inventory.
        self.inventory.as_ref().map_or(NO_INVENTORY, |found| room(found).max(NO_INVENTORY + 1))
    }

    fn is_picky(&self) -> bool {
        self.inventory.is_some_and(|found| found.min_unit > 1 || found.step_size != 1)
    }
}

impl Column {
    fn write(&mut self, row: usize, held: Option<&Held>) {
        let rows = self.room.len().max((row / BLOCK + 1) * BLOCK);
        grow_to(&mut self.room, rows, NO_INVENTORY);
        grow_to(&mut self.picky, rows / BLOCK, 0);
        self.room[row] = held.map_or(NO_INVENTORY, Held::room);
        let (word, bit) = (&mut self.picky[row / BLOCK], 1 << (row % BLOCK));
        *word = if held.is_some_and(Held::is_picky) { *word | bit } else { *word & !bit };
    }
}

impl InventoryColumns {
    /// Whether a row holds any class.
    pub(crate) fn has(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|held| !held.is_empty())
    }

    /// Replaces what a row reports: inventories and how much of each is used. Of a class listed twice, the last counts.
    /// Returns whether the row had reported anything else before.
    pub(crate) fn set<'t>(
        &mut self,
        row: usize,
        reported: impl Iterator<Item = (&'t str, Inventory, u64)> + Clone,
    ) -> bool {
        if self.reports(row, reported.clone()) {
            return false;
        }
        let before = std::mem::take(self.row(row));
        let consumed: HashMap<u32, u64> = before.iter().map(|held| (held.class, held.consumed)).collect();
        let mut now: Vec<Held> = Vec::with_capacity(reported.size_hint().0);
        let mut place_of: HashMap<u32, usize> = HashMap::new();
        for (name, inventory, used) in reported {
            let class = self.classes.acquire(name);
            let consumed = consumed.get(&class).copied().unwrap_or(0);
            let held = Held { class, inventory: Some(inventory), used, consumed };
            match place_of.insert(class, now.len()) {
                Some(earlier) => {
                    self.classes.release(class);
                    now[earlier] = held;
                    place_of.insert(class, earlier);
                }
                None => now.push(held),
            }
        }
        for held in &before {
            if held.consumed > 0 && !place_of.contains_key(&held.class) {
                self.classes.share(held.class);
                now.push(Held { inventory: None, used: 0, ..*held });
            }
        }
        for held in &before {
            if let Some(column) = self.columns.get_mut(&held.class) {
                column.write(row, None);
            }
        }
        for held in &now {
            if let Some(column) = self.columns.get_mut(&held.class) {
                column.write(row, Some(held));
            }
        }
        self.rows[row] = now;
        before.into_iter().for_each(|held| self.release(held.class));
        true
    }

    /// Whether this is what the row reported last.
    fn reports<'t>(&self, row: usize, mut reported: impl Iterator<Item = (&'t str, Inventory, u64)>) -> bool {
        for held in self.rows.get(row).into_iter().flatten() {
            let Some(inventory) = held.inventory else { continue };
            let same = |(class, other, used): (&str, Inventory, u64)| {
                *class == **self.classes.get(held.class) && other == inventory && used == held.used
            };
            if !reported.next().is_some_and(same) {
                return false;
            }
        }
        reported.next().is_none()
    }

    /// Forgets a row with all that is consumed on it.
    pub(crate) fn clear(&mut self, row: usize) {
        if self.has(row) {
            for held in std::mem::take(self.row(row)) {
                self.index(row, held.class);
                self.release(held.class);
            }
        }
    }

    /// Takes amounts on top of what the host reports, whether it has that much or not.
    pub(crate) fn consume(&mut self, row: usize, amounts: &[(Box<str>, u64)]) {
        for (name, amount) in amounts {
            let class = self.classes.acquire(&**name);
            let held = self.row(row);
            match held.iter_mut().find(|held| held.class == class) {
                Some(held) => {
                    held.consumed = held.consumed.saturating_add(*amount);
                    self.classes.release(class);
                }
                None => held.push(Held { class, inventory: None, used: 0, consumed: *amount }),
            }
            self.index(row, class);
        }
    }

    /// Undoes [`Self::consume`].
    pub(crate) fn give_back(&mut self, row: usize, amounts: &[(Box<str>, u64)]) {
        for (name, amount) in amounts {
            let Some(class) = self.classes.find(&**name) else { continue };
            let rows = self.row(row);
            let Some(at) = rows.iter().position(|held| held.class == class) else { continue };
            debug_assert!(rows[at].consumed >= *amount, "more given back than was consumed");
            rows[at].consumed = rows[at].consumed.saturating_sub(*amount);
            let gone = rows[at].consumed == 0 && rows[at].inventory.is_none();
            if gone {
                rows.swap_remove(at);
            }
            self.index(row, class);
            if gone {
                self.release(class);
            }
        }
    }

    /// What a row holds of one class. Reported and consumed amounts are separate.
    pub(crate) fn held(&self, row: usize, class: &str) -> Option<Held> {
        self.find(row, self.classes.find(class)).copied()
    }

    fn find(&self, row: usize, class: Option<u32>) -> Option<&Held> {
        self.rows.get(row)?.iter().find(|held| Some(held.class) == class)
    }

    /// Replaces the amounts of a class that the row holds.
    pub(crate) fn put(&mut self, row: usize, held: Held) {
        let found = self.row(row).iter_mut().find(|other| other.class == held.class);
        debug_assert!(found.is_some(), "what a row does not hold has no amounts");
        if let Some(found) = found {
            *found = held;
            self.index(row, held.class);
        }
    }

    fn row(&mut self, row: usize) -> &mut Vec<Held> {
        if self.rows.len() <= row {
            grow_to(&mut self.rows, row + 1, Vec::new());
        }
        &mut self.rows[row]
    }

    fn release(&mut self, class: u32) {
        if self.classes.release(class) {
            self.columns.remove(&class);
        }
    }

    fn index(&mut self, row: usize, class: u32) {
        if let Some(column) = self.columns.get_mut(&class) {
            column.write(row, self.rows[row].iter().find(|held| held.class == class));
        }
    }

    /// Makes sure that a class has a column, and returns the class's symbol. `None` if no row holds the class.
    pub(crate) fn build_column(&mut self, name: &str) -> Option<u32> {
        let class = self.classes.find(name)?;
        if !self.columns.contains_key(&class) {
            if self.columns.len() >= MAX_COLUMNS {
                self.columns.clear();
            }
            let mut column = Column::default();
            for (row, held) in self.rows.iter().enumerate() {
                if let Some(held) = held.iter().find(|held| held.class == class) {
                    column.write(row, Some(held));
                }
            }
            self.columns.insert(class, column);
        }
        Some(class)
    }

    /// The column of a class, if it was built.
    pub(crate) fn column(&self, class: u32) -> Option<&Column> {
        self.columns.get(&class)
    }

    /// Whether a row's inventory allows this amount of a class at all, whatever is used of it.
    pub(crate) fn allows(&self, row: usize, class: u32, amount: u64) -> bool {
        let found = self.find(row, Some(class)).and_then(|held| held.inventory);
        found.is_some_and(|found| inventory::allows(&found, amount))
    }

    /// How many instances fit on a row one after another if each takes all of these amounts of a class.
    pub(crate) fn times(&self, row: usize, class: Option<u32>, amounts: &[u64]) -> u64 {
        let held = self.find(row, class).and_then(|held| Some((held, held.inventory?)));
        held.map_or(0, |(held, found)| inventory::times(&found, held.in_use(), amounts))
    }

    /// How much of a class is used on a row, reported and consumed together.
    pub(crate) fn used(&self, row: usize, class: Option<u32>) -> u64 {
        self.find(row, class).map_or(0, Held::in_use)
    }

    /// All that a row holds, in the order of its report.
    pub(crate) fn of(&self, row: usize) -> impl Iterator<Item = ClassUsage<'_>> {
        self.rows.get(row).into_iter().flatten().map(|held| ClassUsage {
            class: self.classes.get(held.class),
            inventory: held.inventory,
            used: held.in_use(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(total: u64) -> Inventory {
        Inventory { total, ..Inventory::default() }
    }

    fn room(columns: &mut InventoryColumns, class: &str, row: usize) -> i32 {
        let Some(class) = columns.build_column(class) else { return NO_INVENTORY };
        columns.column(class).unwrap().room.get(row).copied().unwrap_or(NO_INVENTORY)
    }

    #[test]
    fn a_report_replaces_what_it_counts_and_nothing_else() {
        let mut c = InventoryColumns::default();
        c.set(5, std::iter::empty());
        assert!(c.rows.is_empty(), "no inventories cost nothing");
        c.set(5, [("G", gpus(8), 1)].into_iter());
        assert_eq!(room(&mut c, "G", 5), 7);
        let two = [("G".into(), 2), ("H".into(), 1)];
        c.consume(5, &two);
        assert_eq!((room(&mut c, "G", 5), room(&mut c, "H", 5)), (5, NO_INVENTORY));
        c.set(5, [("H", gpus(3), 0), ("G", gpus(4), 3)].into_iter());
        assert_eq!((room(&mut c, "G", 5), room(&mut c, "H", 5)), (-1, 2));
        c.set(5, std::iter::empty());
        assert_eq!(room(&mut c, "G", 5), NO_INVENTORY);
        c.give_back(5, &two);
        assert!(!c.has(5));
        assert_eq!(c.build_column("G"), None);
        assert!(c.columns.is_empty());
        c.set(5, [("G", gpus(4), 0)].into_iter());
        assert_eq!(room(&mut c, "G", 5), 4, "all was given back");
        c.clear(5);
        assert_eq!(c.classes.find("G"), None);
    }

    #[test]
    fn an_overfull_host_is_not_one_without() {
        let mut c = InventoryColumns::default();
        c.set(0, [("G", gpus(1), u64::MAX)].into_iter());
        assert_eq!(room(&mut c, "G", 0), NO_INVENTORY + 1);
        c.set(0, [("G", gpus(1), 0), ("G", gpus(2), 0)].into_iter());
        assert_eq!(room(&mut c, "G", 0), 2, "of a class listed twice, the last counts");
    }
}
