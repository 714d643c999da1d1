//! Distinct values as small numbers, the symbols, with a count of their references.
//!
//! A column holds a symbol where hosts have a text or a JSON value, so that equal values are compared and evaluated
//! once. Each row that holds a symbol owns one reference. Releasing the last one frees the value and the symbol, so
//! that hosts whose values keep changing do not grow the dictionary.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, Equivalent, HashTable};

/// Distinct values, each with a symbol and a count of references.
#[derive(Debug)]
pub struct Dictionary<V> {
    /// The values by symbol. `None` where a symbol is free.
    slots: Vec<Option<Slot<V>>>,
    /// The symbols that are free.
    free: Vec<u32>,
    /// The symbols by the hashes of their values.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Counts how often a symbol was given to a value or taken from one.
    pub(crate) changes: u64,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    references: u32,
    /// A number that no other value of the dictionary ever has.
    serial: u64,
}

impl<V> Default for Dictionary<V> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            changes: 0,
        }
    }
}

impl<V: Hash> Dictionary<V> {
    /// The symbol of a value, with one more reference. A value that is new gets a free symbol.
    pub fn acquire<Q>(&mut self, value: &Q) -> u32
    where
        Q: ?Sized + Hash + Equivalent<V>,
        V: for<'q> From<&'q Q>,
    {
        let hash = self.hasher.hash_one(value);
        let equal = |&at: &u32| self.slots[at as usize].as_ref().is_some_and(|s| value.equivalent(&s.value));
        if let Some(&symbol) = self.index.find(hash, equal) {
            if let Some(slot) = &mut self.slots[symbol as usize] {
                slot.references += 1;
            }
            return symbol;
        }
        self.changes += 1;
        let slot = Some(Slot { value: V::from(value), references: 1, serial: self.changes });
        let symbol = match self.free.pop() {
            Some(symbol) => {
                self.slots[symbol as usize] = slot;
                symbol
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("2^32 distinct values exceed any memory")
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, symbol, |&at| {
            slots[at as usize].as_ref().map_or(0, |slot| hasher.hash_one(&slot.value))
        });
        symbol
    }

    /// Adds a reference to a symbol that is in use.
    pub fn share(&mut self, symbol: u32) {
        self.slots[symbol as usize].as_mut().expect("a held symbol has a value").references += 1;
    }

    /// Drops one reference. True if it was the last, which frees the symbol.
    pub fn release(&mut self, symbol: u32) -> bool {
        let slot = self.slots[symbol as usize].as_mut().expect("a held symbol has a value");
        slot.references -= 1;
        if slot.references > 0 {
            return false;
        }
        self.changes += 1;
        let hash = self.hasher.hash_one(&slot.value);
        if let Ok(entry) = self.index.find_entry(hash, |&at| at == symbol) {
            entry.remove();
        }
        self.slots[symbol as usize] = None;
        self.free.push(symbol);
        true
    }

    /// The symbol of a value, if it is in use.
    pub fn find<Q>(&self, value: &Q) -> Option<u32>
    where
        Q: ?Sized + Hash + Equivalent<V>,
    {
        let equal = |&at: &u32| self.slots[at as usize].as_ref().is_some_and(|s| value.equivalent(&s.value));
        self.index.find(self.hasher.hash_one(value), equal).copied()
    }

    /// The value of a symbol that is in use.
    pub fn get(&self, symbol: u32) -> &V {
        &self.slots[symbol as usize].as_ref().expect("a held symbol has a value").value
    }

    /// A number that stands for the value of a symbol and is never given to another value, even if that reuses the
    /// symbol.
    pub fn serial(&self, symbol: u32) -> u64 {
        self.slots[symbol as usize].as_ref().expect("a held symbol has a value").serial
    }

    /// One more than the largest symbol ever given.
    pub fn symbols(&self) -> usize {
        self.slots.len()
    }

    /// All values in the order of their symbols. `None` where a symbol is free.
    pub fn iter(&self) -> impl Iterator<Item = Option<&V>> {
        self.slots.iter().map(|slot| slot.as_ref().map(|slot| &slot.value))
    }

    /// Copies of all values, each at the index of its symbol. `None` where a symbol is free.
    pub fn values_by_symbol(&self) -> Vec<Option<V>>
    where
        V: Clone,
    {
        self.slots.iter().map(|slot| slot.as_ref().map(|slot| slot.value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_symbol_and_the_last_reference_frees_it() {
        let mut d = Dictionary::<Box<str>>::default();
        let (a, b) = (d.acquire("a"), d.acquire("b"));
        assert_eq!(d.acquire("a"), a);
        d.release(a);
        assert_eq!(d.find("a"), Some(a));
        d.release(a);
        assert_eq!(d.find("a"), None);
        assert_eq!(d.acquire("c"), a, "the freed symbol is used again");
        assert_eq!((&**d.get(a), &**d.get(b)), ("c", "b"));
    }

    #[test]
    fn values_that_keep_changing_take_no_more_room() {
        let mut d = Dictionary::<Box<str>>::default();
        let mut held = d.acquire("0");
        for i in 1..1000 {
            d.release(held);
            held = d.acquire(i.to_string().as_str());
        }
        assert!(d.symbols() <= 2);
    }
}
