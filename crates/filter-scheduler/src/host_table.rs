//! The fleet as columns: what every filter and weigher reads.
//!
//! One row per host. What a placement scans is kept as one array per quantity (how much still fits, the weighers' raw
//! values, the zone's symbol), already derived, so that a filter is a comparison of an array with a constant and a
//! weigher is a product of an array with a constant. What is only read for single rows (names, exact amounts) lies
//! beside it, row by row.
//!
//! What always holds:
//! - The derived columns of a row follow from its reported resources and what is consumed on top, after every call.
//! - `used = reported used + consumed`. A report ([`HostTable::set_resources`]) replaces the reported part only.
//! - Fleet order is row order. A new host takes the lowest free row, so a fleet that only grows is in insertion order.
//! - Every change of a row stamps its block ([`Stamps`]): what was worked out about other blocks still holds.
//! - Columns are padded to whole blocks of 64 rows; a row without a host fails every test by its `present` bit.
//!
//! Left out: when a host reports, who it is, how long reservations hold. That is the host manager's.

use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use novella_objects::{AllocationRatios, Capabilities, HostState as Status};
use novella_resources::{Amounts, Capacity, Limits, MB_PER_GB, Room};

use crate::aggregates::{Aggregate, Aggregates};
use crate::bitmap::bits;
use crate::capability_columns::CapabilityColumns;
use crate::columns::{RawColumn, RoomColumn};
use crate::devices::DeviceTable;
use crate::dictionary::Dictionary;
use crate::image::BadImage;
use crate::instances::{Instance, Instances};
use crate::inventory_columns::InventoryColumns;
use crate::names::{Names, folded_hash, name_at, same_folded};
use crate::trait_columns::TraitColumns;

/// Rows are scanned in blocks of this many: one bit each in a word.
pub(crate) const BLOCK: usize = 64;

/// Largest total or used amount that a row holds, in its own unit: 2 PiB of memory, 2 EiB of disk.
///
/// Rows are scanned as 32-bit lanes. A request for more than a lane holds fits nowhere and is refused as such.
pub const MAX_AMOUNT: u64 = i32::MAX as u64;

/// The zone symbol of a host that names none.
pub(crate) const NO_ZONE: u32 = u32::MAX;

/// Where a host is in the table. Stable while the host is present; a later host may get the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub(crate) u32);

impl Row {
    /// For arrays kept beside the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a host says it has and uses; replaces what it said before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resources {
    /// CPUs to share; zero if unknown, or if the host sets them apart ([`HostTable::has_pcpus`]) none.
    pub vcpus_total: u64,
    /// Reserved and claimed CPUs.
    pub vcpus_used: u64,
    /// MiB.
    pub memory_mb_total: u64,
    /// Reserved and claimed MiB.
    pub memory_mb_used: u64,
    /// GiB.
    pub disk_gb_total: u64,
    /// Reserved and claimed GiB.
    pub disk_gb_used: u64,
    /// Overcommit; each within [`MIN_RATIO`] and [`MAX_RATIO`].
    pub ratios: AllocationRatios,
    /// Instances on the host.
    pub num_instances: u32,
    /// Nova's `io_workload`: instances that build, resize, ...
    pub num_io_ops: u32,
    /// Builds that failed in a row.
    pub failed_builds: u32,
}

impl Resources {
    /// Whether a row can hold these.
    pub fn check(&self) -> Result<(), Unusable> {
        for (field, value) in [
            ("vcpus_total", self.vcpus_total),
            ("vcpus_used", self.vcpus_used),
            ("memory_mb_total", self.memory_mb_total),
            ("memory_mb_used", self.memory_mb_used),
            ("disk_gb_total", self.disk_gb_total),
            ("disk_gb_used", self.disk_gb_used),
        ] {
            if value > MAX_AMOUNT {
                return Err(Unusable::TooLarge { field, value });
            }
        }
        for (field, value) in [
            ("cpu_allocation_ratio", self.ratios.cpu),
            ("ram_allocation_ratio", self.ratios.ram),
            ("disk_allocation_ratio", self.ratios.disk),
        ] {
            if !(MIN_RATIO..=MAX_RATIO).contains(&value) {
                return Err(Unusable::Ratio { field, value });
            }
        }
        Ok(())
    }
}

/// Why a row keeps its old resources.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// An amount beyond what a row holds.
    #[error("{field} is {value}, more than the largest amount this scheduler can hold, {MAX_AMOUNT}")]
    TooLarge {
        /// Of [`Resources`].
        field: &'static str,
        /// As given.
        value: u64,
    },
    /// A ratio that no fit can be computed with.
    #[error("{field} is {value}, but must be a number from {MIN_RATIO} to {MAX_RATIO}")]
    Ratio {
        /// As in configuration.
        field: &'static str,
        /// As given.
        value: f64,
    },
}

/// Smallest allocation ratio. Ratios within these bounds keep every weighed value well inside the range of `f32`.
pub const MIN_RATIO: f64 = 1.0e-3;

/// Largest allocation ratio.
pub const MAX_RATIO: f64 = 1.0e6;

/// See the module's text.
#[derive(Debug, Default)]
pub struct HostTable {
    pub(crate) columns: Columns,
    names: Arc<Vec<Option<Names>>>,
    by_name: HashTable<u32>,
    hasher: DefaultHashBuilder,
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

/// When what changed. A revision is a number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    /// Tells this table from any other.
    pub(crate) table: Arc<()>,
    /// Of the newest change.
    pub(crate) revision: u64,
    /// By block: the revision that last changed one of its rows.
    pub(crate) blocks: Vec<u64>,
    /// By block: the same for all but amounts, which change with every placement.
    pub(crate) described: Vec<u64>,
    /// The revision that last added, removed or renamed a host.
    pub(crate) names: u64,
    /// The revision that last put an instance on a host or took one away.
    pub(crate) instances: u64,
}

impl Stamps {
    /// Something of a row has changed, or is about to.
    pub(crate) fn touch(&mut self, row: Row) {
        self.touch_amounts(row);
        self.described[row.index() / BLOCK] = self.revision;
    }

    /// Nothing but amounts of a row has changed.
    fn touch_amounts(&mut self, row: Row) {
        self.revision += 1;
        self.blocks[row.index() / BLOCK] = self.revision;
    }

    fn name(&mut self, row: Row) {
        self.touch(row);
        self.names = self.revision;
    }

    fn instance(&mut self, row: Row) {
        self.touch(row);
        self.instances = self.revision;
    }
}

/// The cell of each host, where somebody told.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    names: Dictionary<Box<str>>,
    /// By row; as long as the last row that was told of.
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

/// The arrays that are scanned, and the exact amounts behind them. All have the same, padded, length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    /// Largest number of CPUs that still fits; see [`Room`].
    pub(crate) room_vcpus: RoomColumn,
    /// The same for MiB of memory.
    pub(crate) room_memory_mb: RoomColumn,
    /// The same for MiB of disk.
    pub(crate) room_disk_mb: RoomColumn,
    /// RAMWeigher's raw value, MiB.
    pub(crate) free_memory_mb: RawColumn,
    /// CPUWeigher's raw value.
    pub(crate) free_vcpus: RawColumn,
    /// DiskWeigher's raw value in GiB; Nova's is 1024 times this, which changes no normalised bit.
    pub(crate) free_disk_gb: RawColumn,
    /// NumInstancesWeigher's.
    pub(crate) num_instances: RawColumn,
    /// IoOpsWeigher's.
    pub(crate) num_io_ops: RawColumn,
    /// BuildFailureWeigher's.
    pub(crate) failed_builds: RawColumn,
    /// HypervisorVersionWeigher's.
    pub(crate) hypervisor_version: RawColumn,
    /// PCIWeigher's.
    pub(crate) few_pci_devices: RawColumn,
    /// Symbol in [`HostTable::zones`], or [`NO_ZONE`].
    pub(crate) zone: Vec<u32>,
    /// One bit per row: a host is there.
    pub(crate) present: Vec<u64>,
    /// So many blocks at the beginning have a host in each row, or more.
    full: usize,
    /// One bit per row: it passes ComputeFilter.
    pub(crate) serving: Vec<u64>,
    /// One bit per row: it has an inventory of `PCPU`.
    pub(crate) has_pcpus: Vec<u64>,
    pub(crate) exact: Vec<Exact>,
    /// Hosts per status, in the order of the enum.
    pub(crate) status_counts: [u32; 4],
}

/// What one row holds exactly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exact {
    pub(crate) reported: Resources,
    pub(crate) consumed: Amounts,
    pub(crate) status: Status,
    /// Zero if it does not say.
    pub(crate) hypervisor_version: i64,
    /// PCI devices to give away.
    pub(crate) pci_devices: u32,
    /// Of the consumed instances, those that do not count as building: their devices could not be taken.
    pub(crate) not_building: u32,
    /// It has an inventory of `PCPU`, so that its VCPUs are those that are left to share, if any.
    pub(crate) has_pcpus: bool,
}

/// PCIWeigher does not tell more devices than this apart.
const MANY_PCI_DEVICES: u32 = 99;

impl Exact {
    const EMPTY: Self = Self {
        reported: Resources {
            vcpus_total: 0,
            vcpus_used: 0,
            memory_mb_total: 0,
            memory_mb_used: 0,
            disk_gb_total: 0,
            disk_gb_used: 0,
            ratios: AllocationRatios { cpu: 1.0, ram: 1.0, disk: 1.0 },
            num_instances: 0,
            num_io_ops: 0,
            failed_builds: 0,
        },
        consumed: Amounts { vcpus: 0, memory_mb: 0, disk_gb: 0, instances: 0 },
        status: Status::Down,
        hypervisor_version: 0,
        pci_devices: 0,
        not_building: 0,
        has_pcpus: false,
    };

    pub(crate) fn capacity(&self) -> Capacity {
        let Resources { vcpus_total, .. } = self.reported;
        Capacity {
            vcpus: (vcpus_total > 0 || self.has_pcpus).then_some(vcpus_total),
            memory_mb: self.reported.memory_mb_total,
            disk_gb: self.reported.disk_gb_total,
            ratios: self.reported.ratios,
        }
    }

    pub(crate) fn used(&self) -> Amounts {
        Amounts {
            vcpus: self.reported.vcpus_used,
            memory_mb: self.reported.memory_mb_used,
            disk_gb: self.reported.disk_gb_used,
            instances: self.reported.num_instances,
        }
        .plus(self.consumed)
    }

    /// CPUWeigher: `vcpus_total × cpu_allocation_ratio - vcpus_used`.
    pub(crate) fn free_vcpus(&self) -> f64 {
        self.reported.vcpus_total as f64 * self.reported.ratios.cpu - self.used().vcpus as f64
    }

    /// RAMWeigher's value, MiB. Negative on an overfull host.
    pub(crate) fn free_memory_mb(&self) -> f64 {
        self.reported.memory_mb_total as f64 - self.used().memory_mb as f64
    }

    /// GiB. Negative on an overfull host.
    pub(crate) fn free_disk_gb(&self) -> f64 {
        self.reported.disk_gb_total as f64 - self.used().disk_gb as f64
    }

    /// Reported and consumed: Nova counts each instance that it places as one that builds.
    pub(crate) fn num_io_ops(&self) -> u64 {
        let building = self.consumed.instances - self.not_building.min(self.consumed.instances);
        u64::from(self.reported.num_io_ops) + u64::from(building)
    }

    /// PCIWeigher's value: the fewer devices a host has, the better.
    pub(crate) fn few_pci_devices(&self) -> u32 {
        MANY_PCI_DEVICES + 1 - self.pci_devices.min(MANY_PCI_DEVICES)
    }
}

impl HostTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a host that is down and has nothing, or returns the row it already has, renaming its node.
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
        }
        let row = Row(u32::try_from(index).expect("a table of 2^32 hosts exceeds any memory"));
        Arc::make_mut(&mut self.names)[index] = Some(names);
        self.columns.present[index / BLOCK] |= 1 << (index % BLOCK);
        self.columns.status_counts[Status::Down as usize] += 1;
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
        columns.exact[row.index()] = Exact::EMPTY;
        columns.present[row.index() / BLOCK] &= !(1 << (row.index() % BLOCK));
        columns.full = columns.full.min(row.index() / BLOCK);
        columns.serving[row.index() / BLOCK] &= !(1 << (row.index() % BLOCK));
        columns.has_pcpus[row.index() / BLOCK] &= !(1 << (row.index() % BLOCK));
        columns.derive(row.index());
        columns.hypervisor_version.set(row.index(), 0.0);
        Arc::make_mut(&mut self.names)[row.index()] = None;
        self.stamps.name(row);
        self.stamps.instance(row);
    }

    /// Gives the host of `row` another name, its row and all it holds staying. False, and no change, if the name is taken.
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

    /// The rows of all hosts of this name, letter case aside.
    pub(crate) fn rows_of_any_case(&self, host: &str) -> impl Iterator<Item = Row> {
        let hash = folded_hash(&self.hasher, host);
        let same = move |&at: &u32| same_folded(name_at(&self.names, at as usize), host);
        self.by_name.iter_hash(hash).copied().filter(same).map(Row)
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// True when there is no host.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All rows with a host, in fleet order.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        bits(&self.columns.present).map(|at| Row(at as u32))
    }

    /// Replaces what the host reported. What is consumed on top stays. On error nothing changes.
    pub fn set_resources(&mut self, row: Row, resources: &Resources) -> Result<(), Unusable> {
        resources.check()?;
        if self.columns.exact[row.index()].reported != *resources {
            self.columns.exact[row.index()].reported = *resources;
            self.columns.derive(row.index());
            self.stamps.touch_amounts(row);
        }
        Ok(())
    }

    /// Takes amounts on top of what the host reported. Free amounts may become negative.
    pub fn consume(&mut self, row: Row, amounts: &Amounts) {
        let consumed = &mut self.columns.exact[row.index()].consumed;
        *consumed = consumed.plus(*amounts);
        self.columns.derive(row.index());
        self.stamps.touch_amounts(row);
    }

    /// Gives back what [`Self::consume`] took.
    pub fn give_back(&mut self, row: Row, amounts: &Amounts) {
        let consumed = &mut self.columns.exact[row.index()].consumed;
        debug_assert!(consumed.instances >= amounts.instances, "more given back than was consumed");
        *consumed = consumed.minus(*amounts);
        self.columns.derive(row.index());
        self.stamps.touch_amounts(row);
    }

    /// Replaces all amounts and the status of a row, to try something out.
    pub(crate) fn set_exact(&mut self, row: Row, exact: Exact) {
        self.set_status(row, exact.status);
        self.columns.exact[row.index()] = exact;
        self.columns.derive(row.index());
        self.stamps.touch(row);
    }

    /// Says whether the host may be given work: up and suspect hosts may.
    pub fn set_status(&mut self, row: Row, status: Status) {
        let columns = &mut self.columns;
        if columns.exact[row.index()].status == status {
            return;
        }
        self.stamps.touch(row);
        let (word, bit) = (&mut columns.serving[row.index() / BLOCK], 1 << (row.index() % BLOCK));
        match status {
            Status::Up | Status::Suspect => *word |= bit,
            Status::Disabled | Status::Down => *word &= !bit,
        }
        let before = std::mem::replace(&mut columns.exact[row.index()].status, status);
        columns.status_counts[before as usize] -= 1;
        columns.status_counts[status as usize] += 1;
    }

    /// The availability zone that the host's own configuration names; `None` leaves it to the scheduler's default.
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
        self.stamps.touch(row);
    }

    /// Replaces what extra specs can ask about: the report's top-level keys and the operator's facts.
    pub fn set_capabilities(&mut self, row: Row, capabilities: &Capabilities<'_>) {
        let version = capabilities.hypervisor_version.unwrap_or(0);
        if self.capabilities.set(row.index(), capabilities) {
            self.stamps.touch(row);
        }
        self.columns.exact[row.index()].hypervisor_version = version;
        self.columns.hypervisor_version.set(row.index(), version as f64);
    }

    /// Defines the aggregates, all anew. Which ids a host is in stays.
    pub fn set_aggregates(&mut self, aggregates: impl IntoIterator<Item = Aggregate>) {
        self.aggregates.define(aggregates);
    }

    /// Puts the host into exactly these aggregates. An id that is not defined says nothing until it is.
    pub fn set_host_aggregates(&mut self, row: Row, ids: &[u32]) {
        if self.aggregates.set_row(row.index(), ids) {
            self.stamps.touch(row);
        }
    }

    /// Ids of the aggregates that the host is in, in order.
    pub fn aggregates_of(&self, row: Row) -> &[u32] {
        self.aggregates.ids(row.index())
    }

    /// Notes that an instance is on the host. Does not consume anything.
    pub fn add_instance(&mut self, row: Row, instance: &Instance<'_>) -> Result<(), BadImage> {
        self.stamps.instance(row);
        self.instances.add(row.index(), instance)
    }

    /// Undoes [`Self::add_instance`].
    pub fn remove_instance(&mut self, row: Row, instance: uuid::Uuid) {
        self.stamps.instance(row);
        self.instances.remove(row.index(), instance);
    }

    /// The cell that the host belongs to.
    pub fn set_cell(&mut self, row: Row, cell: Option<&str>) {
        self.stamps.touch(row);
        self.cells.set(row.index(), cell);
    }

    /// One row.
    pub fn view(&self, row: Row) -> HostState<'_> {
        let zone = self.columns.zone[row.index()];
        let own = (zone != NO_ZONE).then(|| &**self.zones.get(zone));
        HostState {
            row,
            names: self.names[row.index()].as_ref().expect("a row is viewed while its host is present"),
            exact: &self.columns.exact[row.index()],
            zone: self.aggregates.facts()[self.aggregates.set_of(row.index()) as usize].zone().or(own),
        }
    }

    /// The host's name.
    pub fn host(&self, row: Row) -> &str {
        name_at(&self.names, row.index())
    }

    /// How many hosts have this status.
    pub fn count(&self, status: Status) -> u32 {
        self.columns.status_counts[status as usize]
    }

    /// A copy of names, amounts, status and zones for readers of the whole fleet, so that they hold no lock while they
    /// read: names are shared, amounts copied (see `benches/placement.rs` for what that takes).
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

/// Many rows at one instant; see [`HostTable::snapshot`].
#[derive(Debug, Clone)]
pub struct Snapshot {
    names: Arc<Vec<Option<Names>>>,
    exact: Vec<Exact>,
    zone: Vec<u32>,
    zones: Vec<Option<Box<str>>>,
    set: Vec<u32>,
    /// By set of aggregates.
    zone_of_set: Vec<Option<Box<str>>>,
}

impl Snapshot {
    /// All hosts, in fleet order.
    pub fn hosts(&self) -> impl Iterator<Item = HostState<'_>> {
        self.names.iter().zip(&self.exact).zip(self.zone.iter().zip(&self.set)).enumerate().filter_map(
            |(at, ((names, exact), (&zone, &set)))| {
                let own = self.zones.get(zone as usize).and_then(|z| z.as_deref());
                let zone = self.zone_of_set[set as usize].as_deref().or(own);
                names.as_ref().map(|names| HostState { row: Row(at as u32), names, exact, zone })
            },
        )
    }
}

/// A read view of one row: Nova's HostState.
#[derive(Debug, Clone, Copy)]
pub struct HostState<'a> {
    row: Row,
    names: &'a Names,
    exact: &'a Exact,
    zone: Option<&'a str>,
}

impl<'a> HostState<'a> {
    /// Its row.
    pub fn row(&self) -> Row {
        self.row
    }

    /// Its amounts.
    pub(crate) fn exact(&self) -> &'a Exact {
        self.exact
    }

    /// Service host name.
    pub fn host(&self) -> &'a str {
        self.names.host()
    }

    /// Compute node name.
    pub fn nodename(&self) -> &'a str {
        self.names.nodename()
    }

    /// Whether it may be given work.
    pub fn status(&self) -> Status {
        self.exact.status
    }

    /// Its zone: that of its aggregates' metadata (several are joined by commas), or else its own, if it names one.
    pub fn zone(&self) -> Option<&'a str> {
        self.zone
    }

    /// What it reported last.
    pub fn reported(&self) -> &'a Resources {
        &self.exact.reported
    }

    /// What is consumed on top of that.
    pub fn consumed(&self) -> Amounts {
        self.exact.consumed
    }

    /// Reported and consumed together.
    pub fn used(&self) -> Amounts {
        self.exact.used()
    }

    /// Instances that build, resize or move, those consumed among them.
    pub fn num_io_ops(&self) -> u64 {
        self.exact.num_io_ops()
    }

    /// The largest single instance that still fits.
    pub fn room(&self) -> Room {
        self.exact.capacity().room(&self.exact.used())
    }

    /// Total × ratio.
    pub fn limits(&self) -> Limits {
        self.exact.capacity().limits()
    }

    /// CPUWeigher's raw value.
    pub fn free_vcpus(&self) -> f64 {
        self.exact.free_vcpus()
    }

    /// RAMWeigher's raw value.
    pub fn free_memory_mb(&self) -> f64 {
        self.exact.free_memory_mb()
    }

    /// DiskWeigher's raw value.
    pub fn free_disk_mb(&self) -> f64 {
        self.exact.free_disk_gb() * MB_PER_GB as f64
    }
}

impl Columns {
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
        grow_to(&mut self.zone, rows, NO_ZONE);
        self.present.push(0);
        self.serving.push(0);
        self.has_pcpus.push(0);
        grow_to(&mut self.exact, rows, Exact::EMPTY);
    }

    /// Recomputes what follows from a row's exact amounts.
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

/// Lengthens a column by an eighth at a time: doubling would leave half of a large fleet's memory unused.
pub(crate) fn grow_to<T: Clone>(column: &mut Vec<T>, rows: usize, empty: T) {
    if rows > column.capacity() {
        column.reserve_exact(rows - column.len() + column.len() / 16);
    }
    column.resize(rows, empty);
}

/// Into a 32-bit lane. Cutting changes no decision: requests above [`MAX_AMOUNT`] are refused before any comparison.
pub(crate) fn lane(value: i64) -> i32 {
    value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}
