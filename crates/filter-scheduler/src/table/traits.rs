//! Which host has which traits: one bit per host for each trait that requests name.
//!
//! A fleet has few distinct sets of traits, so a row holds the symbol of its set. A trait that a request names gets a
//! column of bits, which is kept up to date from then on. A fleet without traits pays nothing.
//!
//! What always holds: a set owns one reference to each of its names; a column agrees with the rows. Memory follows what
//! hosts have now.

use hashbrown::HashMap;

use crate::table::block::{BLOCK, Row, grow_to};
use crate::table::dictionary::Dictionary;

/// The most traits that have a column at a time. Asking about one more drops the others, which are built again when
/// asked about.
const MAX_COLUMNS: usize = 256;

/// In place of a set, this says that a row has no traits.
const NONE: u32 = u32::MAX;

/// The traits of all rows, with columns for the traits that requests name.
#[derive(Debug, Default)]
pub(crate) struct TraitColumns {
    /// The names of the traits that rows have.
    names: Dictionary<Box<str>>,
    /// The distinct sets of traits, as symbols of names in the order of the report.
    sets: Dictionary<Box<[u32]>>,
    /// The symbol of each row's set, or [`NONE`]. The list ends at the last block that ever had traits.
    rows: Vec<u32>,
    /// A column for each trait that requests name: one bit per row, set if the row has the trait. Rows beyond the end
    /// do not have it.
    columns: HashMap<u32, Vec<u64>>,
}

/// The traits of all hosts at one instant.
#[derive(Debug, Clone)]
pub struct TraitSnapshot {
    rows: Vec<u32>,
    sets: Vec<Vec<String>>,
}

impl TraitSnapshot {
    /// The traits of a row, in the order of its report.
    pub fn of(&self, row: Row) -> &[String] {
        let set = self.rows.get(row.index()).filter(|set| **set != NONE);
        set.map_or(&[], |set| &self.sets[*set as usize])
    }
}

impl TraitColumns {
    /// Replaces the traits of a row. Returns whether they are others than before.
    pub(crate) fn set<'t>(&mut self, row: usize, traits: impl Iterator<Item = &'t str> + Clone) -> bool {
        let before = self.rows.get(row).copied().unwrap_or(NONE);
        if before == NONE && traits.clone().next().is_none() {
            return false;
        }
        if before != NONE {
            let held = self.sets.get(before).iter().map(|&name| &**self.names.get(name));
            if held.eq(traits.clone()) {
                return false;
            }
        }
        if self.rows.len() <= row {
            grow_to(&mut self.rows, (row / BLOCK + 1) * BLOCK, NONE);
        }
        let now = self.acquire(traits);
        self.rows[row] = now;
        let (word, bit) = (row / BLOCK, 1 << (row % BLOCK));
        if before != NONE {
            for name in self.sets.get(before) {
                if let Some(column) = self.columns.get_mut(name) {
                    column[word] &= !bit;
                }
            }
            self.release(before);
        }
        if now != NONE {
            for name in self.sets.get(now) {
                if let Some(column) = self.columns.get_mut(name) {
                    column.resize(column.len().max(word + 1), 0);
                    column[word] |= bit;
                }
            }
        }
        true
    }

    /// The symbol of a set, with one more reference.
    fn acquire<'t>(&mut self, traits: impl Iterator<Item = &'t str>) -> u32 {
        let names: Box<[u32]> = traits.map(|name| self.names.acquire(name)).collect();
        if names.is_empty() {
            return NONE;
        }
        let known = self.sets.find(&*names).is_some();
        let set = self.sets.acquire(&*names);
        if known {
            // The set has its own references already.
            for &name in &*names {
                self.names.release(name);
            }
        }
        set
    }

    fn release(&mut self, set: u32) {
        let names = self.sets.get(set).clone();
        if self.sets.release(set) {
            for name in names {
                if self.names.release(name) {
                    self.columns.remove(&name);
                }
            }
        }
    }

    /// Counts how often a trait got its first host or lost its last one.
    pub(crate) fn changes(&self) -> u64 {
        self.names.changes
    }

    /// A copy of all rows' traits. Each distinct set is copied once.
    pub(crate) fn snapshot(&self) -> TraitSnapshot {
        let name = |name: &u32| self.names.get(*name).to_string();
        let names = |set: Option<&Box<[u32]>>| set.into_iter().flatten().map(name).collect();
        TraitSnapshot { rows: self.rows.clone(), sets: self.sets.iter().map(names).collect() }
    }

    /// The traits of a row, in the order of its report.
    pub(crate) fn of(&self, row: usize) -> impl Iterator<Item = &str> {
        let set = self.rows.get(row).copied().filter(|&set| set != NONE);
        let names = set.map_or(&[][..], |set| self.sets.get(set));
        names.iter().map(|&name| &**self.names.get(name))
    }

    /// Makes sure that a trait has a column, and returns the trait's symbol. `None` if no host has the trait.
    pub(crate) fn build_column(&mut self, name: &str) -> Option<u32> {
        let name = self.names.find(name)?;
        if !self.columns.contains_key(&name) {
            if self.columns.len() >= MAX_COLUMNS {
                self.columns.clear();
            }
            let mut column = vec![0; self.rows.len().div_ceil(BLOCK)];
            for (row, &set) in self.rows.iter().enumerate() {
                if set != NONE && self.sets.get(set).contains(&name) {
                    column[row / BLOCK] |= 1 << (row % BLOCK);
                }
            }
            self.columns.insert(name, column);
        }
        Some(name)
    }

    /// The hosts of a block that have a trait, one bit each. The trait's column must be there.
    pub(crate) fn having(&self, name: u32, block: usize) -> u64 {
        self.columns.get(&name).and_then(|column| column.get(block)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(traits: &mut TraitColumns, row: usize, names: &[&str]) {
        traits.set(row, names.iter().copied());
    }

    #[test]
    fn columns_follow_the_rows() {
        let mut t = TraitColumns::default();
        set(&mut t, 3, &[]);
        assert!(t.rows.is_empty(), "no traits cost nothing");
        set(&mut t, 70, &["A", "B"]);
        set(&mut t, 3, &["B", "A"]);
        assert_eq!(t.of(3).collect::<Vec<_>>(), ["B", "A"]);
        let a = t.build_column("A").unwrap();
        assert_eq!((t.having(a, 0), t.having(a, 1)), (1 << 3, 1 << 6));
        set(&mut t, 200, &["A"]);
        set(&mut t, 3, &["B"]);
        assert_eq!((t.having(a, 0), t.having(a, 3), t.having(a, 9)), (0, 1 << 8, 0));
        let b = t.build_column("B").unwrap();
        assert_eq!((t.having(b, 0), t.having(b, 1)), (1 << 3, 1 << 6));
        set(&mut t, 70, &[]);
        set(&mut t, 3, &[]);
        assert_eq!(t.build_column("B"), None, "nobody has it");
        assert!(!t.columns.contains_key(&b));
        assert_eq!(t.build_column("A"), Some(a));
        assert_eq!(t.having(a, 3), 1 << 8);
    }

    #[test]
    fn hosts_whose_traits_keep_changing_take_no_more_room() {
        let mut t = TraitColumns::default();
        for i in 0..2000 {
            let name = format!("CUSTOM_{i}");
            set(&mut t, i % 3, &[&name, "COMMON"]);
            t.build_column(&name);
        }
        assert!(
            t.names.symbols() < 10 && t.sets.symbols() < 10,
            "{} {}",
            t.names.symbols(),
            t.sets.symbols()
        );
        assert!(t.columns.len() <= 3);
    }
}
