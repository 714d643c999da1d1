//! Which instances are on which host.
//!
//! Most filters ask about a handful of uuids, so there is an index from uuid to row. The entries of each row are
//! chained in both directions, to look at all of them or to take one out again. An instance may be on two hosts at once
//! while it moves, and on a few more when moves fail. More than [`MAX_ROWS_PER_INSTANCE`] are a fault: the index does
//! not list the further ones, so that nobody walks a list that grows with the fault.
//!
//! What always holds: every chained entry is in the index. Adding, finding and removing an instance take the same time,
//! however many instances a host has and however many hosts claim the instance.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use novella_objects::Image;
use serde_json::Value;
use uuid::Uuid;

use crate::nova::image_properties::{self, BadImage, ImageProperties, Property};
use crate::table::block::grow_to;
use crate::table::dictionary::Dictionary;

/// An instance on a host, as far as the placement of other instances depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Instance<'a> {
    /// The instance's uuid.
    pub uuid: Uuid,
    /// The id of the instance's flavor, or the flavor's name if it has no id.
    pub flavor: Option<&'a str>,
    /// The image that the instance was made from.
    pub image: Option<&'a Image>,
}

/// The flavor and image of an instance, which it has in common with many others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct InstanceKind {
    pub(crate) flavor: Option<Box<str>>,
    /// The properties of the image. Empty if it is not known.
    pub(crate) image: Box<[(Box<str>, Property)]>,
}

impl InstanceKind {
    /// The id or name of the flavor, if it is known.
    pub fn flavor(&self) -> Option<&str> {
        self.flavor.as_deref()
    }

    /// The properties of the image, in the form in which an image has them.
    pub fn image_properties(&self) -> BTreeMap<String, Value> {
        image_properties::write(&self.image)
    }
}

impl From<&InstanceKind> for InstanceKind {
    fn from(kind: &InstanceKind) -> Self {
        kind.clone()
    }
}

/// How many hosts the index lists for one instance at most.
pub const MAX_ROWS_PER_INSTANCE: usize = 8;

/// In place of an index of an entry, this says that there is none: the row has no instances, or a chain ends.
const END: u32 = u32::MAX;
/// In place of a kind, this says that nothing but the uuid is known.
const NO_KIND: u32 = u32::MAX;

/// One instance on one row.
#[derive(Debug, Clone, Copy)]
struct InstanceEntry {
    uuid: Uuid,
    row: u32,
    /// The index of the row's previous entry, or [`END`].
    previous: u32,
    /// The index of the row's next entry, or [`END`]. In an unused entry, the next unused one.
    next: u32,
    /// The symbol of the instance's kind, or [`NO_KIND`].
    kind: u32,
}

/// The instances of all rows.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    /// All entries. Used ones are chained from `first`, and unused ones from `free`.
    entries: Vec<InstanceEntry>,
    /// The index of the first unused entry, if there is one.
    free: Option<u32>,
    /// The index of each row's first entry, or [`END`].
    first: Vec<u32>,
    /// The indices of used entries by the hashes of their uuids.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    kinds: Dictionary<InstanceKind>,
}

impl Instances {
    pub(crate) fn grow(&mut self, rows: usize) {
        grow_to(&mut self.first, rows, END);
    }

    /// The rows that an instance is on, at most [`MAX_ROWS_PER_INSTANCE`].
    pub(crate) fn rows_of(&self, uuid: Uuid) -> impl Iterator<Item = u32> {
        let entry = |at: &u32| self.entries[*at as usize];
        let found = self.index.iter_hash(self.hasher.hash_one(uuid)).map(entry);
        found.filter(move |entry| entry.uuid == uuid).map(|entry| entry.row)
    }

    /// The index of the entry of an instance on a row.
    fn find(&self, row: usize, uuid: Uuid) -> Option<u32> {
        let is_it = |at: &u32| {
            let entry = &self.entries[*at as usize];
            entry.uuid == uuid && entry.row as usize == row
        };
        self.index.find(self.hasher.hash_one(uuid), is_it).copied()
    }

    /// The kinds of a row's instances, as far as they are known.
    pub(crate) fn kinds_on(&self, row: usize) -> impl Iterator<Item = Option<&InstanceKind>> {
        let chain = std::iter::successors(self.entry(self.first[row]), |entry| self.entry(entry.next));
        chain.map(|entry| (entry.kind != NO_KIND).then(|| self.kinds.get(entry.kind)))
    }

    /// The instances of a row, each with the symbol of its kind if that is known.
    pub(crate) fn on(&self, row: usize) -> impl Iterator<Item = (Uuid, Option<u32>)> {
        let chain = std::iter::successors(self.entry(self.first[row]), |entry| self.entry(entry.next));
        chain.map(|entry| (entry.uuid, Some(entry.kind).filter(|kind| *kind != NO_KIND)))
    }

    /// All kinds, each at the index of its symbol. `None` where a symbol is free.
    pub(crate) fn kinds(&self) -> Vec<Option<InstanceKind>> {
        self.kinds.values_by_symbol()
    }

    /// The entry at an index. `None` if a chain ended there.
    fn entry(&self, at: u32) -> Option<&InstanceEntry> {
        (at != END).then(|| &self.entries[at as usize])
    }

    /// Records an instance on a row. Doing so again changes nothing. Returns false, without recording it, if
    /// [`MAX_ROWS_PER_INSTANCE`] other rows have the instance.
    pub(crate) fn add(&mut self, row: usize, instance: &Instance<'_>) -> Result<bool, BadImage> {
        let mut others = 0;
        for at in self.rows_of(instance.uuid) {
            if at as usize == row {
                return Ok(true);
            }
            others += 1;
        }
        if others >= MAX_ROWS_PER_INSTANCE {
            return Ok(false);
        }
        let kind = InstanceKind {
            flavor: instance.flavor.map(Box::from),
            image: instance
                .image
                .map(|image| ImageProperties::read(image).map(|p| p.all()))
                .transpose()?
                .unwrap_or_default(),
        };
        let kind = if kind == InstanceKind::default() { NO_KIND } else { self.kinds.acquire(&kind) };
        let next = self.first[row];
        let entry = InstanceEntry { uuid: instance.uuid, row: row as u32, previous: END, next, kind };
        let at = match self.free {
            Some(at) => {
                let next = self.entries[at as usize].next;
                self.free = (next != END).then_some(next);
                self.entries[at as usize] = entry;
                at
            }
            None => {
                if self.entries.len() == self.entries.capacity() {
                    // Doubling would leave up to half of the memory unused.
                    self.entries.reserve_exact(self.entries.len() / 8 + 64);
                }
                self.entries.push(entry);
                let at = u32::try_from(self.entries.len() - 1).ok().filter(|at| *at != END);
                at.expect("2^32 instances exceed any memory")
            }
        };
        self.first[row] = at;
        if next != END {
            self.entries[next as usize].previous = at;
        }
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = hasher.hash_one(entry.uuid);
        self.index.insert_unique(hash, at, |&at| hasher.hash_one(entries[at as usize].uuid));
        Ok(true)
    }

    /// Takes an instance off a row, if it is there.
    pub(crate) fn remove(&mut self, row: usize, uuid: Uuid) {
        let Some(at) = self.find(row, uuid) else { return };
        let InstanceEntry { previous, next, .. } = self.entries[at as usize];
        match previous {
            END => self.first[row] = next,
            previous => self.entries[previous as usize].next = next,
        }
        if next != END {
            self.entries[next as usize].previous = previous;
        }
        self.forget(at);
    }

    /// Takes all instances off a row.
    pub(crate) fn clear(&mut self, row: usize) {
        let mut at = std::mem::replace(&mut self.first[row], END);
        while let Some(&InstanceEntry { next, .. }) = self.entry(at) {
            self.forget(at);
            at = next;
        }
    }

    /// Frees an entry that is in no chain any more.
    fn forget(&mut self, at: u32) {
        let InstanceEntry { uuid, kind, .. } = self.entries[at as usize];
        if let Ok(found) = self.index.find_entry(self.hasher.hash_one(uuid), |&other| other == at) {
            found.remove();
        }
        if kind != NO_KIND {
            self.kinds.release(kind);
        }
        self.entries[at as usize].next = self.free.unwrap_or(END);
        self.free = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(uuid: u128, flavor: Option<&str>) -> Instance<'_> {
        Instance { uuid: Uuid::from_u128(uuid), flavor, image: None }
    }

    #[test]
    fn instances_come_move_and_go() {
        let mut i = Instances::default();
        i.grow(64);
        for (row, uuid) in [(0, 1), (0, 2), (0, 3), (5, 2), (0, 1)] {
            i.add(row, &instance(uuid, (uuid == 3).then_some("small"))).unwrap();
        }
        let rows = |i: &Instances, uuid| {
            let mut rows: Vec<_> = i.rows_of(Uuid::from_u128(uuid)).collect();
            rows.sort_unstable();
            rows
        };
        assert_eq!((rows(&i, 1), rows(&i, 2), rows(&i, 4)), (vec![0], vec![0, 5], vec![]));
        let flavors: Vec<_> = i.kinds_on(0).map(|kind| kind.and_then(|k| k.flavor.as_deref())).collect();
        assert_eq!(flavors, [Some("small"), None, None]);
        i.remove(0, Uuid::from_u128(2));
        i.remove(0, Uuid::from_u128(9));
        assert_eq!((rows(&i, 2), i.kinds_on(0).count()), (vec![5], 2));
        i.clear(0);
        assert_eq!((rows(&i, 1), rows(&i, 3), i.kinds_on(0).count()), (vec![], vec![], 0));
        for round in 0..100 {
            i.add(round % 64, &instance(1000 + round as u128, None)).unwrap();
            i.remove(round % 64, Uuid::from_u128(1000 + round as u128));
        }
        assert_eq!(i.entries.len(), 4, "freed entries are used again");
    }

    #[test]
    fn an_instance_that_very_many_hosts_claim_is_listed_for_a_few_of_them() {
        let mut i = Instances::default();
        i.grow(128);
        let known: Vec<_> = (0..100).map(|row| i.add(row, &instance(1, None)).unwrap()).collect();
        assert_eq!(known.iter().filter(|known| **known).count(), MAX_ROWS_PER_INSTANCE);
        assert_eq!(i.rows_of(Uuid::from_u128(1)).count(), MAX_ROWS_PER_INSTANCE);
        assert!(i.add(0, &instance(1, None)).unwrap(), "it is on this row already");
        i.remove(99, Uuid::from_u128(1));
        assert_eq!(i.rows_of(Uuid::from_u128(1)).count(), MAX_ROWS_PER_INSTANCE, "row 99 is not listed");
        i.remove(3, Uuid::from_u128(1));
        assert!(i.add(99, &instance(1, None)).unwrap(), "there is room again");
        assert_eq!((i.kinds_on(3).count(), i.kinds_on(99).count()), (0, 1));
    }

    #[test]
    fn entries_in_the_middle_of_a_chain_can_be_taken_out() {
        let mut i = Instances::default();
        i.grow(64);
        let on = |i: &Instances| {
            let mut uuids: Vec<_> = i.on(7).map(|(uuid, _)| uuid.as_u128()).collect();
            uuids.sort_unstable();
            uuids
        };
        (1..=5).for_each(|uuid| _ = i.add(7, &instance(uuid, None)).unwrap());
        for (gone, left) in [(3, &[1, 2, 4, 5][..]), (5, &[1, 2, 4]), (1, &[2, 4]), (2, &[4]), (4, &[])] {
            i.remove(7, Uuid::from_u128(gone));
            assert_eq!(on(&i), left);
        }
    }
}
