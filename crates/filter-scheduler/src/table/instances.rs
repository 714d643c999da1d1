//! Which instances are on which host.
//!
//! Filters ask about a handful of uuids, never about all instances of a host, so there is an index from uuid to row, and
//! per row a chain to take all of its instances out again. An instance may be on two hosts at once while it moves.
//! Instances are most of what a host takes, so an entry does not name its row: the end of its chain does.
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

/// An instance on a host, as far as others' placement depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Instance<'a> {
    /// Which.
    pub uuid: Uuid,
    /// Of its flavor: the id, or the name when it has no other.
    pub flavor: Option<&'a str>,
    /// What it was made from.
    pub image: Option<&'a Image>,
}

/// What instances have in common with many others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct InstanceKind {
    pub(crate) flavor: Option<Box<str>>,
    /// Its image's properties.
    pub(crate) image: Box<[(Box<str>, Property)]>,
}

impl InstanceKind {
    /// The name or id of its flavor, if that is known.
    pub fn flavor(&self) -> Option<&str> {
        self.flavor.as_deref()
    }

    /// The properties of its image, as JSON.
    pub fn image_properties(&self) -> BTreeMap<String, Value> {
        image_properties::write(&self.image)
    }
}

impl From<&InstanceKind> for InstanceKind {
    fn from(kind: &InstanceKind) -> Self {
        kind.clone()
    }
}

/// Of a row: it has no instances. Of the unused entries: there is no further one.
const END: u32 = u32::MAX;
/// In `next`: this entry is the last one of the row that the other bits name.
const LAST: u32 = 1 << 31;
/// Nothing is known besides the uuid.
const NO_KIND: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    uuid: Uuid,
    /// The next entry of the row, or the row itself with [`LAST`].
    next: u32,
    kind: u32,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    /// Used ones are chained from `first`, unused ones from `free`.
    entries: Vec<Entry>,
    free: Option<u32>,
    /// By row: the first entry.
    first: Vec<u32>,
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

    fn row_of(&self, mut entry: Entry) -> u32 {
        while entry.next & LAST == 0 {
            entry = self.entries[entry.next as usize];
        }
        entry.next & !LAST
    }

    /// What is known of the instances of a row besides their uuids.
    pub(crate) fn kinds_on(&self, row: usize) -> impl Iterator<Item = Option<&InstanceKind>> {
        let chain = std::iter::successors(self.entry(self.first[row]), |entry| self.entry(entry.next));
        chain.map(|entry| (entry.kind != NO_KIND).then(|| self.kinds.get(entry.kind)))
    }

    /// The instances of a row, each with the symbol of its kind, if it has one.
    pub(crate) fn on(&self, row: usize) -> impl Iterator<Item = (Uuid, Option<u32>)> {
        let chain = std::iter::successors(self.entry(self.first[row]), |entry| self.entry(entry.next));
        chain.map(|entry| (entry.uuid, Some(entry.kind).filter(|kind| *kind != NO_KIND)))
    }

    /// All kinds, by symbol.
    pub(crate) fn kinds(&self) -> Vec<Option<InstanceKind>> {
        self.kinds.values_by_symbol()
    }

    fn entry(&self, at: u32) -> Option<&Entry> {
        (at & LAST == 0).then(|| &self.entries[at as usize])
    }

    /// Notes an instance on a row; once is enough.
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
        let entry = Entry { uuid: instance.uuid, next, kind };
        let at = match self.free {
            Some(at) => {
                let next = self.entries[at as usize].next;
                self.free = (next != END).then_some(next);
                self.entries[at as usize] = entry;
                at
            }
            None => {
                if self.entries.len() == self.entries.capacity() {
                    // Doubling would leave up to half of it unused.
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
        let Some(&Entry { next, .. }) = self.entry(at) else { return };
        match before {
            None => self.first[row] = if next & LAST == 0 { next } else { END },
            Some(before) => self.entries[before as usize].next = next,
        }
        self.forget(at);
    }

    /// Takes all instances off a row.
    pub(crate) fn clear(&mut self, row: usize) {
        let mut at = std::mem::replace(&mut self.first[row], END);
        while let Some(&Entry { next, .. }) = self.entry(at) {
            self.forget(at);
            at = next;
        }
    }

    /// Frees an entry that is in no chain any more.
    fn forget(&mut self, at: u32) {
        let Entry { uuid, kind, .. } = self.entries[at as usize];
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
