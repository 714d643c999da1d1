//! The shapes that are kept, found by hash. Operators have few flavors, so few shapes answer nearly all requests.
//!
//! What always holds: a shape that is handed out is compiled for the table as it is now. Memory is bounded by
//! [`MAX_SHAPES`] and [`MAX_BYTES`]. When there is no room, the shape that was unused for longest is dropped.
//!
//! Left out: what a shape knows (`shape.rs`).

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};
use novella_objects::{Flavor, Image, RequestSpec};

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
        let hash = hash(&self.hasher, spec);
        let known = self.places.find(hash, |at| same(&self.shapes[*at].key, spec)).copied();
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
        shape.key = key(spec);
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

/// All that may matter to a filter or a weigher, in a form that is cheap to compare first.
fn hash(hasher: &DefaultHashBuilder, spec: &RequestSpec) -> u64 {
    let Flavor { name, id, vcpus, memory_mb, root_gb, ephemeral_gb, swap, extra_specs } = &spec.flavor;
    let mut state = hasher.build_hasher();
    (vcpus, memory_mb, root_gb, ephemeral_gb, swap).hash(&mut state);
    (name, id, extra_specs, &spec.availability_zone, &spec.project_id).hash(&mut state);
    let image = spec.image.as_ref().map(|image: &Image| (&image.id, image.properties.len()));
    (image, &spec.force_hosts, &spec.ignore_hosts, &spec.target_host).hash(&mut state);
    for (name, value) in &spec.scheduler_hints {
        (name, value.as_str(), value.as_array().map(Vec::len)).hash(&mut state);
    }
    if let Some(group) = &spec.instance_group {
        (&group.policy, &group.members, group.hosts.len()).hash(&mut state);
    }
    state.finish()
}

/// A request's shape: the request without what tells it from others of its shape.
fn key(spec: &RequestSpec) -> RequestSpec {
    RequestSpec {
        instance_uuids: Vec::new(),
        flavor: spec.flavor.clone(),
        availability_zone: spec.availability_zone.clone(),
        force_hosts: spec.force_hosts.clone(),
        ignore_hosts: spec.ignore_hosts.clone(),
        target_host: spec.target_host.clone(),
        target_node: spec.target_node.clone(),
        target_cell: spec.target_cell.clone(),
        allow_cross_cell_move: spec.allow_cross_cell_move,
        force_nodes: spec.force_nodes.clone(),
        image: spec.image.clone(),
        instance_group: spec.instance_group.clone(),
        retry: spec.retry.clone(),
        scheduler_hints: spec.scheduler_hints.clone(),
        project_id: spec.project_id.clone(),
        required_aggregates: spec.required_aggregates.clone(),
        forbidden_aggregates: spec.forbidden_aggregates.clone(),
        is_bfv: spec.is_bfv,
        numa_topology: spec.numa_topology.clone(),
        pci_requests: spec.pci_requests.clone(),
        network_metadata: spec.network_metadata.clone(),
        attempt: 0,
    }
}

/// Whether two requests have one shape. Takes the request apart, so that a new field cannot be forgotten here.
fn same(key: &RequestSpec, spec: &RequestSpec) -> bool {
    let RequestSpec {
        instance_uuids: _,
        flavor,
        availability_zone,
        force_hosts,
        ignore_hosts,
        target_host,
        target_node,
        target_cell,
        allow_cross_cell_move,
        force_nodes,
        image,
        instance_group,
        retry,
        scheduler_hints,
        project_id,
        required_aggregates,
        forbidden_aggregates,
        is_bfv,
        numa_topology,
        pci_requests,
        network_metadata,
        attempt: _,
    } = spec;
    key.flavor == *flavor
        && key.availability_zone == *availability_zone
        && key.force_hosts == *force_hosts
        && key.ignore_hosts == *ignore_hosts
        && key.target_host == *target_host
        && key.target_node == *target_node
        && key.target_cell == *target_cell
        && key.allow_cross_cell_move == *allow_cross_cell_move
        && key.force_nodes == *force_nodes
        && key.image == *image
        && key.instance_group == *instance_group
        && key.retry == *retry
        && key.scheduler_hints == *scheduler_hints
        && key.project_id == *project_id
        && key.required_aggregates == *required_aggregates
        && key.forbidden_aggregates == *forbidden_aggregates
        && key.is_bfv == *is_bfv
        && key.numa_topology == *numa_topology
        && key.pci_requests == *pci_requests
        && key.network_metadata == *network_metadata
}
