//! Which instances are on which host.
//!
//! Most filters ask about a handful of uuids, so there is an index from uuid to row. The instances of a row lie in a chain
//! of small groups, to look at all of them. Only the first group of a chain may have room left: a new instance goes into
//! it, and fills the place of one that goes. So any instance is taken out in the same time, without a link back.
//!
//! An instance may be on two hosts at once while it moves, and on more when moves fail.
//!
//! What always holds: every instance of a chain is in the index, and only a chain's first group has room. Adding, finding
//! and removing an instance take the same time, however many instances a host has, for each row that has the instance.
//!
//! Left out: a limit of the rows that have one instance. Who takes reports from others needs one.

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

/// In place of an index of a group, this says that there is none: the row has no instances, or a chain ends.
const END: u32 = u32::MAX;
/// In place of a kind, this says that nothing but the uuid is known.
const NO_KIND: u32 = u32::MAX;
/// How many instances are in one group. With four, a host of twenty instances takes a fifth less than with one, and
/// seldom more than two places are empty.
const GROUP: usize = 4;

/// Some instances of one row.
#[derive(Debug, Clone, Copy)]
struct Group {
    row: u32,
    /// The index of the row's next group, which is full, or [`END`]. In an unused group, the next unused one.
    next: u32,
    /// How many places are used. They are the first ones.
    used: u32,
    /// The symbol of each instance's kind, or [`NO_KIND`].
    kinds: [u32; GROUP],
    uuids: [Uuid; GROUP],
}

/// Where an instance is: which place of which group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(u32);

impl Place {
    fn of(group: u32, at: u32) -> Self {
        Self(group * GROUP as u32 + at)
    }

    fn group(self) -> usize {
        self.0 as usize / GROUP
    }

    fn at(self) -> usize {
        self.0 as usize % GROUP
    }
}

/// The instances of all rows.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    /// All groups. Used ones are chained from `first`, and unused ones from `free`.
    groups: Vec<Group>,
    /// The index of the first unused group, if there is one.
    free: Option<u32>,
    /// The index of each row's first group, or [`END`].
    first: Vec<u32>,
    /// The places of instances by the hashes of their uuids.
    index: HashTable<Place>,
    hasher: DefaultHashBuilder,
    kinds: Dictionary<InstanceKind>,
}

impl Instances {
    pub(crate) fn grow(&mut self, rows: usize) {
        grow_to(&mut self.first, rows, END);
    }

    /// The rows that an instance is on.
    pub(crate) fn rows_of(&self, uuid: Uuid) -> impl Iterator<Item = u32> {
        let found = self.index.iter_hash(self.hasher.hash_one(uuid));
        found.filter(move |place| self.uuid(**place) == uuid).map(|place| self.groups[place.group()].row)
    }

    fn uuid(&self, place: Place) -> Uuid {
        self.groups[place.group()].uuids[place.at()]
    }

    /// The groups of a row.
    fn chain(&self, row: usize) -> impl Iterator<Item = &Group> {
        let group = |at: u32| (at != END).then(|| &self.groups[at as usize]);
        std::iter::successors(group(self.first[row]), move |before| group(before.next))
    }

    /// The kinds of a row's instances, as far as they are known.
    pub(crate) fn kinds_on(&self, row: usize) -> impl Iterator<Item = Option<&InstanceKind>> {
        self.on(row).map(|(_, kind)| kind.map(|kind| self.kinds.get(kind)))
    }

    /// The instances of a row, each with the symbol of its kind if that is known.
    pub(crate) fn on(&self, row: usize) -> impl Iterator<Item = (Uuid, Option<u32>)> {
        self.chain(row).flat_map(|group| {
            let kinds = group.kinds.map(|kind| (kind != NO_KIND).then_some(kind));
            group.uuids.into_iter().zip(kinds).take(group.used as usize)
        })
    }

    /// All kinds, each at the index of its symbol. `None` where a symbol is free.
    pub(crate) fn kinds(&self) -> Vec<Option<InstanceKind>> {
        self.kinds.values_by_symbol()
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
        let first = match self.first[row] {
            first if first != END && (self.groups[first as usize].used as usize) < GROUP => first,
            next => {
                let empty = [Uuid::nil(); GROUP];
                let first = self.put_group(Group {
                    row: row as u32,
                    next,
                    used: 0,
                    kinds: [NO_KIND; GROUP],
                    uuids: empty,
                });
                self.first[row] = first;
                first
            }
        };
        let group = &mut self.groups[first as usize];
        let place = Place::of(first, group.used);
        group.used += 1;
        (group.kinds[place.at()], group.uuids[place.at()]) = (kind, instance.uuid);
        let (groups, hasher) = (&self.groups, &self.hasher);
        let hash_of = |place: &Place| hasher.hash_one(groups[place.group()].uuids[place.at()]);
        self.index.insert_unique(hasher.hash_one(instance.uuid), place, hash_of);
        Ok(())
    }

    /// The index at which a new group is kept.
    fn put_group(&mut self, group: Group) -> u32 {
        if let Some(at) = self.free {
            let next = std::mem::replace(&mut self.groups[at as usize], group).next;
            self.free = (next != END).then_some(next);
            return at;
        }
        if self.groups.len() == self.groups.capacity() {
            // Doubling would leave up to half of the memory unused.
            self.groups.reserve_exact(self.groups.len() / 8 + 16);
        }
        self.groups.push(group);
        let at = u32::try_from(self.groups.len() - 1).ok().filter(|at| *at < u32::MAX / GROUP as u32);
        at.expect("2^32 instances exceed any memory")
    }

    /// Takes an instance off a row, if it is there.
    pub(crate) fn remove(&mut self, row: usize, uuid: Uuid) {
        let groups = &self.groups;
        let is_it = |place: &Place| {
            let group = &groups[place.group()];
            group.row as usize == row && group.uuids[place.at()] == uuid
        };
        let Ok(found) = self.index.find_entry(self.hasher.hash_one(uuid), is_it) else { return };
        let (gone, _) = found.remove();
        self.release(self.groups[gone.group()].kinds[gone.at()]);

        let first = self.first[row];
        let group = &mut self.groups[first as usize];
        group.used -= 1;
        let last = Place::of(first, group.used);
        let (kind, moved) = (group.kinds[last.at()], group.uuids[last.at()]);
        if gone != last {
            let indexed = self.index.find_mut(self.hasher.hash_one(moved), |place| *place == last);
            *indexed.expect("every instance of a chain is in the index") = gone;
            let hole = &mut self.groups[gone.group()];
            (hole.kinds[gone.at()], hole.uuids[gone.at()]) = (kind, moved);
        }
        if self.groups[first as usize].used == 0 {
            self.first[row] = self.put_away(first);
        }
    }

    /// Takes all instances off a row.
    pub(crate) fn clear(&mut self, row: usize) {
        while self.first[row] != END {
            let first = self.first[row];
            let Group { used, kinds, uuids, .. } = self.groups[first as usize];
            for at in 0..used {
                let hash = self.hasher.hash_one(uuids[at as usize]);
                let indexed = self.index.find_entry(hash, |place| *place == Place::of(first, at));
                indexed.expect("every instance of a chain is in the index").remove();
                self.release(kinds[at as usize]);
            }
            self.first[row] = self.put_away(first);
        }
    }

    fn release(&mut self, kind: u32) {
        if kind != NO_KIND {
            self.kinds.release(kind);
        }
    }

    /// Frees a group that is the first of its chain, and returns the next one.
    fn put_away(&mut self, group: u32) -> u32 {
        let next = std::mem::replace(&mut self.groups[group as usize].next, self.free.unwrap_or(END));
        self.free = Some(group);
        next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

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
        assert_eq!(flavors, [None, None, Some("small")]);
        i.remove(0, Uuid::from_u128(2));
        i.remove(0, Uuid::from_u128(9));
        assert_eq!((rows(&i, 2), i.kinds_on(0).count()), (vec![5], 2));
        i.clear(0);
        assert_eq!((rows(&i, 1), rows(&i, 3), i.kinds_on(0).count()), (vec![], vec![], 0));
        for round in 0..100 {
            i.add(round % 64, &instance(1000 + round as u128, None)).unwrap();
            i.remove(round % 64, Uuid::from_u128(1000 + round as u128));
        }
        assert_eq!(i.groups.len(), 2, "freed groups are used again");
    }

    proptest! {
        /// Checked against a set of pairs, with few rows and uuids, so that groups fill, empty and are used again.
        #[test]
        fn instances_are_where_they_were_put(steps in prop::collection::vec((0..12u8, 0..4usize, 0..30u128), 1..400)) {
            let (mut instances, mut expected) = (Instances::default(), BTreeSet::new());
            instances.grow(64);
            for (verb, row, uuid) in steps {
                match verb {
                    0 => {
                        instances.clear(row);
                        expected.retain(|(at, _)| *at != row);
                    }
                    1..=4 => {
                        instances.remove(row, Uuid::from_u128(uuid));
                        expected.remove(&(row, uuid));
                    }
                    _ => {
                        let flavor = format!("{}", uuid % 3);
                        instances.add(row, &instance(uuid, Some(&flavor).filter(|f| *f != "0").map(String::as_str))).unwrap();
                        expected.insert((row, uuid));
                    }
                }
                for row in 0..4 {
                    let mut on: Vec<_> = instances.on(row).map(|(uuid, _)| uuid.as_u128()).collect();
                    on.sort_unstable();
                    let there = expected.iter().filter(|(at, _)| *at == row).map(|(_, uuid)| *uuid);
                    prop_assert_eq!(on, there.collect::<Vec<_>>());
                    for (uuid, kind) in instances.on(row) {
                        let flavor = kind.map_or("0", |kind| instances.kinds.get(kind).flavor().unwrap());
                        prop_assert_eq!(flavor, format!("{}", uuid.as_u128() % 3));
                    }
                }
                for uuid in 0..30 {
                    let mut rows: Vec<_> = instances.rows_of(Uuid::from_u128(uuid)).collect();
                    rows.sort_unstable();
                    let there = expected.iter().filter(|(_, at)| *at == uuid).map(|(row, _)| *row as u32);
                    prop_assert_eq!(rows, there.collect::<Vec<_>>());
                }
                prop_assert_eq!(instances.index.len(), expected.len());
            }
        }
    }
}
