//! Which instances are on which host.
//!
//! Most filters ask about a handful of uuids, so there is an index from uuid to row. The entries of each row are
//! chained, to look at all of them or to take them out again. An instance may be on two hosts at once while it moves.
//! Most of the memory that a host takes is for its instances, so an entry does not name its row; the end of its chain
//! does.
//!
//! What always holds: every chained entry is in the index, and its chain ends with its row.

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

/// In `first`, this says that the row has no instances. In `next` of an unused entry, it says that no other is unused.
const END: u32 = u32::MAX;
/// This bit of `next` says that the entry is the last one of its row, and that the other bits are the row.
const LAST: u32 = 1 << 31;
/// In place of a kind, this says that nothing but the uuid is known.
const NO_KIND: u32 = u32::MAX;

/// One instance on one row.
#[derive(Debug, Clone, Copy)]
struct InstanceEntry {
    uuid: Uuid,
    /// The index of the row's next entry, or the row itself with [`LAST`]. In an unused entry, the next unused one.
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

    /// The rows that an instance is on.
    pub(crate) fn rows_of(&self, uuid: Uuid) -> impl Iterator<Item = u32> {
        let entry = |at: &u32| self.entries[*at as usize];
        let found = self.index.iter_hash(self.hasher.hash_one(uuid)).map(entry);
        found.filter(move |entry| entry.uuid == uuid).map(|entry| self.row_of(entry))
    }

    /// The row that an entry's chain ends with.
    fn row_of(&self, mut entry: InstanceEntry) -> u32 {
        while entry.next & LAST == 0 {
            entry = self.entries[entry.next as usize];
        }
        entry.next & !LAST
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
        (at & LAST == 0).then(|| &self.entries[at as usize])
    }

    /// Records an instance on a row. Doing so again changes nothing.
    pub(crate) fn add(&mut self, row: usize, instance: &Instance<'_>) -> Result<(), BadImage> {
        let kind = InstanceKind {
            flavor: instance.flavor.map(Box::from),
            image: instance
                .image
                .map(|image| ImageProperties::read(image).map(|p| p.all()))
                .transpose()?
                .unwrap_or_default(),
        };
        if self.rows_of(instance.uuid).any(|at| at as usize == row) {
            return Ok(());
        }
        let kind = if kind == InstanceKind::default() { NO_KIND } else { self.kinds.acquire(&kind) };
        let next = if self.first[row] == END { row as u32 | LAST } else { self.first[row] };
        let entry = InstanceEntry { uuid: instance.uuid, next, kind };
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
                let at = u32::try_from(self.entries.len() - 1).ok().filter(|at| at & LAST == 0);
                at.expect("2^31 instances exceed any memory")
            }
        };
        self.first[row] = at;
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = hasher.hash_one(entry.uuid);
        self.index.insert_unique(hash, at, |&at| hasher.hash_one(entries[at as usize].uuid));
        Ok(())
    }

    /// Takes an instance off a row, if it is there.
    pub(crate) fn remove(&mut self, row: usize, uuid: Uuid) {
        let (mut before, mut at) = (None, self.first[row]);
        while let Some(entry) = self.entry(at).filter(|entry| entry.uuid != uuid) {
            (before, at) = (Some(at), entry.next);
        }
        let Some(&InstanceEntry { next, .. }) = self.entry(at) else { return };
        match before {
            None => self.first[row] = if next & LAST == 0 { next } else { END },
            Some(before) => self.entries[before as usize].next = next,
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
}
