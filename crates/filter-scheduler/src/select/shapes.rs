//! The shapes that are kept, found by hash. Operators have few flavors, so few shapes answer nearly all requests.
//!
//! What always holds: a shape that is handed out is compiled for the table as it is now. Memory is bounded by
//! [`MAX_SHAPES`] and [`MAX_BYTES`]. When there is no room, the shape that was unused for longest is dropped.
//!
//! Left out: what a shape knows (`shape.rs`).

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use novella_objects::RequestSpec;

use crate::prefilters::Prefilters;
use crate::request::asked;
use crate::request::failure::Failure;
use crate::select::compiled::{Compiled, named};
use crate::select::shape::Shape;
use crate::settings::options::SchedulerOptions;
use crate::table::host_table::HostTable;

/// How many shapes are kept at most. All of them are looked at to find the one that was unused for longest.
pub(crate) const MAX_SHAPES: usize = 128;

/// How many bytes the scans of all shapes may take together, not counting the shape in use. This is enough for 6 shapes
/// of a million hosts.
const MAX_BYTES: usize = 16 << 20;

/// The shapes that are kept.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    /// One entry for each shape, with the same index. They are stored apart from the shapes, because all entries are
    /// looked at to find the one that was unused for longest.
    entries: Vec<Entry>,
    shapes: Vec<Shape>,
    /// The index of each shape, found by the hash of its requests.
    places: HashTable<usize>,
    /// The number of requests so far.
    clock: u64,
    /// The index of the shape that was used last. Its size may have changed since it was added to `bytes`.
    last: usize,
    /// The sum of the `bytes` of all entries.
    bytes: usize,
    hasher: DefaultHashBuilder,
}

/// What is kept about a shape to find it and to drop it.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// The hash of the shape's requests.
    hash: u64,
    /// The value of [`Shapes::clock`] when the shape was last used; 0 if the entry is free.
    used: u64,
    /// How many bytes the scan of the shape took when it was last looked at.
    bytes: usize,
}

impl Shapes {
    /// The shape of a request, compiled for the table as it is now. Fails if the request cannot be answered at all.
    pub(crate) fn compiled(
        &mut self,
        options: &SchedulerOptions,
        table: &mut HostTable,
        spec: &RequestSpec,
    ) -> Result<&mut Shape, Failure> {
        asked::check(spec)?;
        let shape = self.of(spec);
        if !shape.revalidate(table) {
            shape.forget();
            let asked = asked::read(options, spec)?;
            let prefilters = Prefilters::compile(table, &asked, options)?;
            let named = named(table, spec)?;
            let compiled = Compiled::new(options, table, &asked, prefilters, named);
            shape.set(table, asked.image, compiled);
        }
        Ok(shape)
    }

    /// The shape of a request. A new shape is not compiled yet.
    fn of(&mut self, spec: &RequestSpec) -> &mut Shape {
        self.clock += 1;
        let hash = self.hasher.hash_one(spec);
        let known = self.places.find(hash, |at| self.shapes[*at].key == *spec).copied();
        let at = known.unwrap_or_else(|| self.add(hash, spec));
        self.entries[at].used = self.clock;
        self.last = at;
        &mut self.shapes[at]
    }

    fn add(&mut self, hash: u64, spec: &RequestSpec) -> usize {
        if let (Some(entry), Some(shape)) = (self.entries.get_mut(self.last), self.shapes.get(self.last)) {
            let before = std::mem::replace(&mut entry.bytes, shape.bytes());
            self.bytes = self.bytes - before + entry.bytes;
        }
        let at = if self.entries.len() < MAX_SHAPES && self.bytes <= MAX_BYTES {
            self.entries.push(Entry::default());
            self.shapes.push(Shape::default());
            self.entries.len() - 1
        } else {
            self.oldest().unwrap_or(0)
        };
        self.remove(at);
        self.entries[at] = Entry { hash, used: self.clock, bytes: 0 };
        self.places.insert_unique(hash, at, |at| self.entries[*at].hash);
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.oldest().filter(|oldest| *oldest != at)
        {
            self.remove(oldest);
            self.shapes[oldest] = Shape::default();
        }
        // The new shape uses the memory of the one that was dropped.
        let shape = &mut self.shapes[at];
        shape.key.clone_from(spec);
        shape.forget();
        at
    }

    /// Frees an entry, so that its shape is no longer found.
    fn remove(&mut self, at: usize) {
        let entry = std::mem::take(&mut self.entries[at]);
        self.bytes -= entry.bytes;
        if let Ok(place) = self.places.find_entry(entry.hash, |place| *place == at) {
            place.remove();
        }
    }

    /// The index of a free entry, or else of the shape that was unused for longest.
    fn oldest(&self) -> Option<usize> {
        (0..self.entries.len()).min_by_key(|at| self.entries[*at].used)
    }
}
