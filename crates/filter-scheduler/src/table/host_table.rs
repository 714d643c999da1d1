//! The fleet as columns: what every filter and weigher reads.
//!
//! There is one row per host. What a placement scans is kept as one array per quantity (how much still fits, the
//! weighers' raw values, the zone's symbol). These arrays hold derived values, so that a filter compares an array with
//! a constant and a weigher multiplies an array by a constant. What is only read for single rows (names, exact amounts)
//! is kept row by row.
//!
//! What always holds:
//! - The derived columns of a row follow from its reported resources and what is consumed on top, after every call.
//! - `used = reported used + consumed`. A report ([`HostTable::set_resources`]) replaces the reported part only.
//! - Fleet order is row order. A new host takes the lowest free row, so a fleet that only grows is in insertion order.
//! - Every change of a row stamps its block ([`Stamps`]), so that results about other blocks can be kept.
//! - Columns are padded to whole blocks of 64 rows; a row without a host fails every test by its `present` bit.
//!
//! Left out: when a host reports, who it is, and how long reservations hold. The host manager knows these.

use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use novella_objects::{Capabilities, HostStatus};
use novella_resources::Amounts;

use crate::nova::image_properties::BadImage;
use crate::settings::filter_kind::FilterKind;
use crate::table::aggregates::{Aggregate, Aggregates};
use crate::table::amounts::{Exact, Resources, Unusable};
use crate::table::bitmap::bits;
use crate::table::block::{BLOCK, Row, clear, grow_to, lane, set};
use crate::table::capabilities::{CapabilityColumns, Changed};
use crate::table::columns::{RawColumn, RoomColumn};
use crate::table::devices::DeviceTable;
use crate::table::dictionary::Dictionary;
use crate::table::instances::{Instance, InstanceKind, Instances};
use crate::table::inventories::InventoryColumns;
use crate::table::names::{Names, folded_hash, name_at, same_folded};
use crate::table::traits::TraitColumns;
use crate::table::view::{HostState, Snapshot};

/// The zone symbol of a host that names none.
pub(crate) const NO_ZONE: u32 = u32::MAX;

/// The fleet: one row per host, with its amounts, names, zone, capabilities, traits, inventories, devices and
/// instances.
#[derive(Debug, Default)]
pub struct HostTable {
    pub(crate) columns: Columns,
    /// The names of each row, shared with snapshots. `None` where no host is.
    names: Arc<Vec<Option<Names>>>,
    /// The rows by the hashes of their hosts' names, case removed.
    by_name: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The availability zones that hosts name in their own configuration.
    pub(crate) zones: Dictionary<Box<str>>,
    pub(crate) capabilities: CapabilityColumns,
    pub(crate) aggregates: Aggregates,
    pub(crate) instances: Instances,
    pub(crate) cells: Cells,
    pub(crate) traits: TraitColumns,
    pub(crate) inventories: InventoryColumns,
    pub(crate) devices: DeviceTable,
    pub(crate) stamps: Stamps,
}

/// When each part of the table changed last. Every change has a revision, a number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    /// Tells this table from any other.
    pub(crate) table: Arc<()>,
    /// The revision of the newest change.
    pub(crate) revision: u64,
    /// For each block, the revision that last changed one of its rows.
    pub(crate) blocks: Vec<u64>,
    /// For each block, the revision that last changed anything but amounts, which change with every placement.
    pub(crate) described: Vec<u64>,
    /// By block: the revision of the newest change of a measured value, such as free memory. These differ in nearly every
    /// report of a real host, and few requests read them.
    pub(crate) measured: Vec<u64>,
    /// The revision that last added, removed or renamed a host.
    pub(crate) names: u64,
    /// The revision that last put an instance on a host or took one away.
    pub(crate) instances: u64,
}

impl Stamps {
    /// Notes a change of what a steady filter may read of a row.
    pub(crate) fn describe(&mut self, row: Row) {
        self.touch(row);
        self.described[row.index() / BLOCK] = self.revision;
    }

    /// Notes a change of a row that no steady filter reads.
    pub(crate) fn touch(&mut self, row: Row) {
        self.revision += 1;
        self.blocks[row.index() / BLOCK] = self.revision;
    }

    /// Notes a change of a measured value of a row, and of nothing else.
    fn measure(&mut self, row: Row) {
        self.revision += 1;
        self.measured[row.index() / BLOCK] = self.revision;
    }

    fn name(&mut self, row: Row) {
        self.describe(row);
        self.names = self.revision;
    }

    fn instance(&mut self, row: Row) {
        self.touch(row);
        self.instances = self.revision;
    }
}

/// The cell (in Nova's sense) that each host belongs to, if that is known.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    names: Dictionary<Box<str>>,
    /// The symbol of each row's cell. The list ends at the last row whose cell was ever known.
    rows: Vec<Option<u32>>,
}

impl Cells {
    fn set(&mut self, row: usize, cell: Option<&str>) {
        if self.rows.len() <= row {
            if cell.is_none() {
                return;
            }
            self.rows.resize(row + 1, None);
        }
        let cell = cell.map(|cell| self.names.acquire(cell));
        if let Some(before) = std::mem::replace(&mut self.rows[row], cell) {
            self.names.release(before);
        }
    }

    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        self.rows.get(row).copied().flatten().map(|cell| &**self.names.get(cell))
    }
}

/// The arrays that are scanned, and the exact amounts from which they are derived. All are padded to the same number of
/// rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    /// The largest number of CPUs that still fits.
    pub(crate) room_vcpus: RoomColumn,
    /// The largest memory that still fits, in MiB.
    pub(crate) room_memory_mb: RoomColumn,
    /// The largest disk that still fits, in MiB.
    pub(crate) room_disk_mb: RoomColumn,
    /// RAMWeigher's raw value in MiB.
    pub(crate) free_memory_mb: RawColumn,
    /// CPUWeigher's raw value.
    pub(crate) free_vcpus: RawColumn,
    /// DiskWeigher's raw value in GiB. Nova's is 1024 times this, which changes no normalised bit.
    pub(crate) free_disk_gb: RawColumn,
    /// NumInstancesWeigher's raw value.
    pub(crate) num_instances: RawColumn,
    /// IoOpsWeigher's raw value.
    pub(crate) num_io_ops: RawColumn,
    /// BuildFailureWeigher's raw value.
    pub(crate) failed_builds: RawColumn,
    /// HypervisorVersionWeigher's raw value.
    pub(crate) hypervisor_version: RawColumn,
    /// PCIWeigher's raw value.
    pub(crate) few_pci_devices: RawColumn,
    /// 1 for a suspect host, otherwise 0.
    pub(crate) suspect: RawColumn,
    /// The symbol of the host's own zone in [`HostTable::zones`], or [`NO_ZONE`].
    pub(crate) zone: Vec<u32>,
    /// One bit per row: a host is there.
    pub(crate) present: Vec<u64>,
    /// How many blocks at the beginning are known to have a host in each row. The search for a free row starts there.
    full: usize,
    /// One bit per row: the host passes ComputeFilter.
    pub(crate) serving: Vec<u64>,
    /// One bit per row: the host has an inventory of `PCPU`.
    pub(crate) has_pcpus: Vec<u64>,
    pub(crate) exact: Vec<Exact>,
    /// The number of hosts with each status, in the order of the enum.
    pub(crate) status_counts: [u32; 4],
}

impl HostTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a host that is down and has nothing. A host that is there already keeps its row, and its node is renamed.
    pub fn insert(&mut self, host: &str, nodename: &str) -> Row {
        let names = Names::new(host, nodename);
        if let Some(row) = self.row_of(host) {
            if self.names[row.index()].as_ref().is_some_and(|known| known.nodename() != nodename) {
                Arc::make_mut(&mut self.names)[row.index()] = Some(names);
                self.stamps.name(row);
            }
            return row;
        }
        let index = self.columns.lowest_free();
        if index == self.columns.exact.len() {
            self.columns.grow();
            self.capabilities.grow(self.columns.exact.len());
            self.aggregates.grow(self.columns.exact.len());
            self.instances.grow(self.columns.exact.len());
            grow_to(Arc::make_mut(&mut self.names), self.columns.exact.len(), None);
            self.stamps.blocks.push(0);
            self.stamps.described.push(0);
            self.stamps.measured.push(0);
        }
        let row = Row(u32::try_from(index).expect("a table of 2^32 hosts exceeds any memory"));
        Arc::make_mut(&mut self.names)[index] = Some(names);
        set(&mut self.columns.present, row);
        self.columns.status_counts[HostStatus::Down as usize] += 1;
        let (names, hasher) = (&self.names, &self.hasher);
        let rehash = |&at: &u32| folded_hash(hasher, name_at(names, at as usize));
        self.by_name.insert_unique(folded_hash(hasher, host), row.0, rehash);
        self.columns.derive(index);
        self.stamps.name(row);
        row
    }

    /// Forgets a host with all that was consumed on it.
    pub fn remove(&mut self, row: Row) {
        let hash = folded_hash(&self.hasher, self.host(row));
        if let Ok(entry) = self.by_name.find_entry(hash, |&at| at == row.0) {
            entry.remove();
        }
        let columns = &mut self.columns;
        if columns.zone[row.index()] != NO_ZONE {
            self.zones.release(columns.zone[row.index()]);
        }
        self.capabilities.clear(row.index());
        self.aggregates.set_row(row.index(), &[]);
        self.instances.clear(row.index());
        self.cells.set(row.index(), None);
        self.traits.set(row.index(), std::iter::empty());
        self.inventories.clear(row.index());
        self.devices.clear(row.index());
        columns.status_counts[columns.exact[row.index()].status as usize] -= 1;
        columns.zone[row.index()] = NO_ZONE;
        columns.exact[row.index()] = Exact::empty();
        clear(&mut columns.present, row);
        columns.full = columns.full.min(row.index() / BLOCK);
        clear(&mut columns.serving, row);
        clear(&mut columns.has_pcpus, row);
        columns.derive(row.index());
        columns.hypervisor_version.set(row.index(), 0.0);
        columns.suspect.set(row.index(), 0.0);
        Arc::make_mut(&mut self.names)[row.index()] = None;
        self.stamps.name(row);
        self.stamps.instance(row);
    }

    /// Renames the host of `row`, which keeps its row and all that it holds. False, without any change, if the name is
    /// taken.
    pub fn rename(&mut self, row: Row, host: &str, nodename: &str) -> bool {
        if self.row_of(host).is_some_and(|holder| holder != row) {
            return false;
        }
        let hash = folded_hash(&self.hasher, self.host(row));
        if let Ok(entry) = self.by_name.find_entry(hash, |&at| at == row.0) {
            entry.remove();
        }
        Arc::make_mut(&mut self.names)[row.index()] = Some(Names::new(host, nodename));
        let (names, hasher) = (&self.names, &self.hasher);
        let rehash = |&at: &u32| folded_hash(hasher, name_at(names, at as usize));
        self.by_name.insert_unique(folded_hash(hasher, host), row.0, rehash);
        self.stamps.name(row);
        true
    }

    /// The row of the host of exactly this name.
    pub fn row_of(&self, host: &str) -> Option<Row> {
        self.rows_of_any_case(host).find(|&row| self.host(row) == host)
    }

    /// The rows of all hosts of this name, with letter case ignored.
    pub(crate) fn rows_of_any_case(&self, host: &str) -> impl Iterator<Item = Row> {
        let hash = folded_hash(&self.hasher, host);
        let same = move |&at: &u32| same_folded(name_at(&self.names, at as usize), host);
        self.by_name.iter_hash(hash).copied().filter(same).map(Row)
    }

    /// How many hosts have this name if letter case is ignored.
    pub fn count_of_any_case(&self, host: &str) -> usize {
        self.rows_of_any_case(host).count()
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no host.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All rows with a host, in fleet order.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        bits(&self.columns.present).map(|at| Row(at as u32))
    }

    /// Replaces the amounts that the host reported. What is consumed on top stays. On error nothing changes.
    pub fn set_resources(&mut self, row: Row, resources: &Resources) -> Result<(), Unusable> {
        resources.check()?;
        if self.columns.exact[row.index()].reported != *resources {
            self.columns.exact[row.index()].reported = *resources;
            self.columns.derive(row.index());
            self.stamps.touch(row);
        }
        Ok(())
    }

    /// Takes amounts on top of what the host reported. Free amounts may become negative.
    pub fn consume(&mut self, row: Row, amounts: &Amounts) {
        let consumed = &mut self.columns.exact[row.index()].consumed;
        *consumed = consumed.plus(*amounts);
        self.columns.derive(row.index());
        self.stamps.touch(row);
    }

    /// Gives back what [`Self::consume`] took.
    pub fn give_back(&mut self, row: Row, amounts: &Amounts) {
        let consumed = &mut self.columns.exact[row.index()].consumed;
        debug_assert!(consumed.instances >= amounts.instances, "more given back than was consumed");
        *consumed = consumed.minus(*amounts);
        self.columns.derive(row.index());
        self.stamps.touch(row);
    }

    /// Replaces all amounts and the status of a row, to try something out.
    pub(crate) fn set_exact(&mut self, row: Row, exact: Exact) {
        self.set_status(row, exact.status);
        self.columns.exact[row.index()] = exact;
        self.columns.derive(row.index());
        self.stamps.describe(row);
    }

    /// Sets the host's status. Instances are placed only on hosts that are up or suspect.
    pub fn set_status(&mut self, row: Row, status: HostStatus) {
        let columns = &mut self.columns;
        if columns.exact[row.index()].status == status {
            return;
        }
        self.stamps.describe(row);
        match status {
            HostStatus::Up | HostStatus::Suspect => set(&mut columns.serving, row),
            HostStatus::Disabled | HostStatus::Down => clear(&mut columns.serving, row),
        }
        columns.suspect.set(row.index(), f64::from(u8::from(status == HostStatus::Suspect)));
        let before = std::mem::replace(&mut columns.exact[row.index()].status, status);
        columns.status_counts[before as usize] -= 1;
        columns.status_counts[status as usize] += 1;
    }

    /// Sets the availability zone that the host's own configuration names. `None` leaves it to the scheduler's default.
    pub fn set_zone(&mut self, row: Row, zone: Option<&str>) {
        let slot = &mut self.columns.zone[row.index()];
        if *slot == NO_ZONE && zone.is_none() {
            return;
        }
        if *slot != NO_ZONE {
            if zone == Some(&**self.zones.get(*slot)) {
                return;
            }
            self.zones.release(*slot);
        }
        *slot = zone.map_or(NO_ZONE, |zone| self.zones.acquire(zone));
        self.stamps.describe(row);
    }

    /// Replaces what extra specs can ask about the host: the report's top-level keys and the operator's facts.
    pub fn set_capabilities(&mut self, row: Row, capabilities: &Capabilities<'_>) {
        let version = capabilities.hypervisor_version.unwrap_or(0);
        match self.capabilities.set(row.index(), capabilities) {
            Changed { words: true, .. } => self.stamps.describe(row),
            Changed { measured: true, .. } => self.stamps.measure(row),
            Changed { .. } => {}
        }
        self.columns.exact[row.index()].hypervisor_version = version;
        self.columns.hypervisor_version.set(row.index(), version as f64);
    }

    /// Replaces the definitions of all aggregates. Each host keeps the ids that it is in.
    pub fn set_aggregates(&mut self, aggregates: impl IntoIterator<Item = Aggregate>) {
        self.aggregates.define(aggregates);
    }

    /// Puts the host into exactly these aggregates. An id that is not defined has no effect until it is.
    pub fn set_host_aggregates(&mut self, row: Row, ids: &[u32]) {
        if self.aggregates.set_row(row.index(), ids) {
            self.stamps.describe(row);
        }
    }

    /// The ids of the aggregates that the host is in, in ascending order.
    pub fn aggregates_of(&self, row: Row) -> &[u32] {
        self.aggregates.ids(row.index())
    }

    /// The allocation ratio that the host's aggregates set for a filter that reads it from them, such as
    /// AggregateCoreFilter. `None` if they set none, or the filter reads none.
    pub fn ratio_of_aggregates(&self, filter: FilterKind, row: Row) -> Option<f64> {
        let facts = &self.aggregates.facts()[self.aggregates.set_of(row.index()) as usize];
        facts.ratio(filter.aggregate_key()?)
    }

    /// Records that an instance is on the host, and consumes nothing. Fails, without recording it, if the image's properties
    /// cannot be understood.
    pub fn add_instance(&mut self, row: Row, instance: &Instance<'_>) -> Result<(), BadImage> {
        self.stamps.instance(row);
        self.instances.add(row.index(), instance)
    }

    /// Undoes [`Self::add_instance`].
    pub fn remove_instance(&mut self, row: Row, instance: uuid::Uuid) {
        self.stamps.instance(row);
        self.instances.remove(row.index(), instance);
    }

    /// The hosts that an instance is recorded on.
    pub fn rows_with(&self, instance: uuid::Uuid) -> impl Iterator<Item = Row> {
        self.instances.rows_of(instance).map(Row)
    }

    /// The instances recorded on a host, each with the symbol of its kind if that is known.
    pub fn instances_on(&self, row: Row) -> impl Iterator<Item = (uuid::Uuid, Option<u32>)> {
        self.instances.on(row.index())
    }

    /// The kinds of instances, each at the index of its symbol. `None` where a symbol is free.
    pub fn instance_kinds(&self) -> Vec<Option<InstanceKind>> {
        self.instances.kinds()
    }

    /// The cell that the host belongs to.
    pub fn cell(&self, row: Row) -> Option<&str> {
        self.cells.get(row.index())
    }

    /// Sets the cell that the host belongs to.
    pub fn set_cell(&mut self, row: Row, cell: Option<&str>) {
        if self.cell(row) != cell {
            self.stamps.touch(row);
            self.cells.set(row.index(), cell);
        }
    }

    /// A view of one row, on which there must be a host.
    pub fn view(&self, row: Row) -> HostState<'_> {
        let zone = self.columns.zone[row.index()];
        let own = (zone != NO_ZONE).then(|| &**self.zones.get(zone));
        let of_set = self.aggregates.facts()[self.aggregates.set_of(row.index()) as usize].zone();
        HostState {
            row,
            names: self.names[row.index()].as_ref().expect("a row is viewed while its host is present"),
            exact: &self.columns.exact[row.index()],
            of_set,
            zone: of_set.or(own),
        }
    }

    /// The host's name.
    pub fn host(&self, row: Row) -> &str {
        name_at(&self.names, row.index())
    }

    /// A number that grows with every change of a row, and perhaps of its neighbours.
    pub fn revision(&self, row: Row) -> u64 {
        let block = row.index() / BLOCK;
        self.stamps.blocks[block].max(self.stamps.measured[block])
    }

    /// How many hosts have this status.
    pub fn count(&self, status: HostStatus) -> u32 {
        self.columns.status_counts[status as usize]
    }

    /// A copy of names, amounts, status and zones for readers of the whole fleet, so that they hold no lock while they
    /// read. Names are shared and amounts are copied; `benches/placement.rs` measures what that takes.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            names: Arc::clone(&self.names),
            exact: self.columns.exact.clone(),
            zone: self.columns.zone.clone(),
            zones: self.zones.values_by_symbol(),
            set: self.aggregates.rows().to_vec(),
            zone_of_set: self.aggregates.facts().iter().map(|facts| facts.zone().map(Into::into)).collect(),
        }
    }
}

impl Columns {
    /// The lowest row without a host, which may be one beyond the last row.
    fn lowest_free(&mut self) -> usize {
        let full = self.present[self.full..].iter().take_while(|word| **word == u64::MAX).count();
        self.full += full;
        let word = self.present.get(self.full);
        word.map_or(self.exact.len(), |word| self.full * BLOCK + word.trailing_ones() as usize)
    }

    /// Adds one block of empty rows.
    fn grow(&mut self) {
        let rows = self.exact.len() + BLOCK;
        self.room_vcpus.grow(rows);
        self.room_memory_mb.grow(rows);
        self.room_disk_mb.grow(rows);
        self.free_memory_mb.grow(rows);
        self.free_vcpus.grow(rows);
        self.free_disk_gb.grow(rows);
        self.num_instances.grow(rows);
        self.num_io_ops.grow(rows);
        self.failed_builds.grow(rows);
        self.hypervisor_version.grow(rows);
        self.few_pci_devices.grow(rows);
        self.suspect.grow(rows);
        grow_to(&mut self.zone, rows, NO_ZONE);
        self.present.push(0);
        self.serving.push(0);
        self.has_pcpus.push(0);
        grow_to(&mut self.exact, rows, Exact::empty());
    }

    /// Computes again what follows from a row's exact amounts.
    pub(crate) fn derive(&mut self, row: usize) {
        let exact = &self.exact[row];
        let room = exact.capacity().room(&exact.used());
        let rooms = [lane(room.vcpus), lane(room.memory_mb), lane(room.disk_mb)];
        self.room_vcpus.set(row, rooms[0]);
        self.room_memory_mb.set(row, rooms[1]);
        self.room_disk_mb.set(row, rooms[2]);
        self.free_memory_mb.set(row, exact.free_memory_mb());
        self.free_vcpus.set(row, exact.free_vcpus());
        self.free_disk_gb.set(row, exact.free_disk_gb());
        self.num_instances.set(row, f64::from(exact.used().instances));
        self.num_io_ops.set(row, exact.num_io_ops() as f64);
        self.failed_builds.set(row, f64::from(exact.reported.failed_builds));
        self.few_pci_devices.set(row, f64::from(exact.few_pci_devices()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(table: &mut HostTable, row: Row, text: &str) {
        table.set_capabilities(row, &serde_json::from_str(text).unwrap());
        table.set_traits(row, ["HW_CPU_X86_AVX2"].into_iter());
        table.set_inventories(row, [("CUSTOM_GPU", Default::default(), 0)].into_iter());
        table.set_devices(row, &Default::default());
        table.set_cell(row, None);
    }

    #[test]
    fn a_report_of_other_measured_values_makes_nobody_look_again() {
        let mut table = HostTable::new();
        let row = table.insert("a", "a");
        report(&mut table, row, r#"{"host_memory_free":1,"disk_available":2,"rack":"r1"}"#);
        let before = (table.stamps.blocks[0], table.stamps.described[0]);
        report(&mut table, row, r#"{"host_memory_free":3,"disk_available":4,"rack":"r1"}"#);
        assert_eq!((table.stamps.blocks[0], table.stamps.described[0]), before);
        assert_eq!(table.stamps.measured[0], table.stamps.revision);
        report(&mut table, row, r#"{"host_memory_free":3,"disk_available":4,"rack":"r2"}"#);
        assert_eq!(table.stamps.described[0], table.stamps.revision);
    }
}
