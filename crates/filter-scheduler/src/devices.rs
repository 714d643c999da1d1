//! NUMA cells and PCI devices of the hosts that report them, and what placements take of them.
//!
//! Most hosts have none, or the same as many others: a row holds the symbol of what it has left, and the table nothing
//! until a first host reports. What is taken stands beside it, one entry for each instance, so that giving back works
//! out what is left anew from the report: after the last entry is gone the host is what it was, exactly.
//!
//! As in Nova, taking cannot refuse a placement. If it fails midway, what was taken before stays taken, and the instance
//! is not counted as one that builds.

use std::borrow::Borrow;
use std::sync::Arc;

use hashbrown::HashMap;
use novella_resources::numa::{self, Limits, Site};
use novella_resources::pci;
use uuid::Uuid;

use crate::dictionary::Dictionary;
use crate::host_table::{HostTable, Row};

/// What a host has besides amounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Devices {
    /// Its NUMA cells, if it reports them.
    pub numa: Option<numa::Topology>,
    /// Its free PCI devices, in the order in which they are given.
    pub pci_pools: Vec<pci::Pool>,
}

impl Devices {
    fn is_empty(&self) -> bool {
        self.numa.is_none() && self.pci_pools.is_empty()
    }

    /// Its cells, if there are any.
    pub(crate) fn cells(&self) -> Option<&numa::Topology> {
        self.numa.as_ref().filter(|topology| !topology.cells.is_empty())
    }

    /// Takes what an instance takes. What is not there is passed over.
    pub(crate) fn take(&mut self, usage: &DeviceUsage) {
        if let (Some(topology), Some(usage)) = (&mut self.numa, &usage.numa) {
            topology.take(usage);
        }
        if let Some(usage) = &usage.pci {
            pci::take(&mut self.pci_pools, usage);
        }
    }

    /// What is left when a request's one instance has been placed; limits as in [`HostTable::take_devices`].
    pub(crate) fn without(&self, wanted: &Wanted, limits: Option<(f64, f64)>) -> Self {
        let mut usage = DeviceUsage::default();
        // Where taking fails midway, what was taken before stays taken.
        let _ = usage.fill(self, &mut wanted.clone(), limits);
        let mut left = self.clone();
        left.take(&usage);
        left
    }

    fn count(&self) -> u32 {
        self.pci_pools.iter().fold(0, |sum, pool| sum.saturating_add(pool.count))
    }
}

/// What an instance asks for besides amounts, as the instances of its request before it have left it: Nova writes into
/// the request where the last one went, and takes it from there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Its NUMA cells, if it has any.
    pub(crate) cells: Option<numa::InstanceTopology>,
    pub(crate) pci_requests: Vec<pci::Request>,
    pub(crate) network: Option<numa::Network>,
    /// Whether full cells are preferred.
    pub(crate) packing: bool,
}

impl Wanted {
    /// True if it asks for nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.cells.is_none() && self.pci_requests.is_empty()
    }

    pub(crate) fn limits(&self, cpu_ratio: f64, ram_ratio: f64) -> Limits<'_> {
        Limits {
            cpu_allocation_ratio: cpu_ratio,
            ram_allocation_ratio: ram_ratio,
            network: self.network.as_ref(),
        }
    }

    pub(crate) fn site<'a>(&self, topology: &'a numa::Topology, pools: &'a [pci::Pool]) -> Site<'a> {
        Site { topology, pools, packing: self.packing }
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct DeviceTable {
    kinds: Dictionary<Kind>,
    /// Symbol by row of what is left, or [`NONE`]; as long as the last row that was told of.
    left: Vec<u32>,
    taken: HashMap<u32, Taken>,
}

const NONE: u32 = u32::MAX;

/// What stands in the dictionary.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind(Arc<Devices>);

impl From<&Devices> for Kind {
    fn from(devices: &Devices) -> Self {
        Self(Arc::new(devices.clone()))
    }
}

impl Borrow<Devices> for Kind {
    fn borrow(&self) -> &Devices {
        &self.0
    }
}

/// What is taken of one host.
#[derive(Debug)]
struct Taken {
    /// Symbol of what it reported, or [`NONE`].
    reported: u32,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    instance: Uuid,
    usage: DeviceUsage,
}

/// What one instance takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DeviceUsage {
    pub(crate) numa: Option<numa::Usage>,
    pub(crate) pci: Option<pci::Usage>,
    /// Taking failed midway.
    pub(crate) failed: bool,
}

impl DeviceTable {
    /// What a host has left, with a number that stands for exactly that and is never given to anything else.
    pub(crate) fn at(&self, row: usize) -> Option<(&Arc<Devices>, u64)> {
        let symbol = *self.left.get(row).filter(|symbol| **symbol != NONE)?;
        Some((&self.kinds.get(symbol).0, self.kinds.serial(symbol)))
    }

    fn acquire(&mut self, devices: &Devices) -> u32 {
        if devices.is_empty() { NONE } else { self.kinds.acquire(devices) }
    }

    fn release(&mut self, symbol: u32) {
        if symbol != NONE {
            self.kinds.release(symbol);
        }
    }

    fn put(&mut self, row: usize, devices: &Devices) {
        let symbol = self.acquire(devices);
        if self.left.len() <= row {
            if symbol == NONE {
                return;
            }
            self.left.resize(row + 1, NONE);
        }
        let before = std::mem::replace(&mut self.left[row], symbol);
        self.release(before);
    }

    /// Replaces what a host reports. What is taken of it stays taken.
    fn report(&mut self, row: usize, devices: &Devices) {
        if !self.taken.contains_key(&(row as u32)) {
            return self.put(row, devices);
        }
        let symbol = self.acquire(devices);
        if let Some(taken) = self.taken.get_mut(&(row as u32)) {
            let before = std::mem::replace(&mut taken.reported, symbol);
            self.release(before);
        }
        self.work_out(row);
    }

    /// Works out anew what a host has left that something is taken of.
    fn work_out(&mut self, row: usize) {
        let Some(taken) = self.taken.get(&(row as u32)) else { return };
        let mut devices = match taken.reported {
            NONE => Devices::default(),
            symbol => (*self.kinds.get(symbol).0).clone(),
        };
        taken.entries.iter().for_each(|entry| devices.take(&entry.usage));
        self.put(row, &devices);
    }

    /// Forgets a host.
    pub(crate) fn clear(&mut self, row: usize) {
        if let Some(taken) = self.taken.remove(&(row as u32)) {
            self.release(taken.reported);
        }
        self.put(row, &Devices::default());
    }

    /// Takes what an instance wants, and writes into `wanted` where it went. `None` if the host has nothing of what is
    /// asked; else whether taking failed.
    fn take(
        &mut self,
        row: usize,
        instance: Uuid,
        wanted: &mut Wanted,
        limits: Option<(f64, f64)>,
    ) -> Option<bool> {
        let none = Devices::default();
        let devices = self.at(row).map_or(&none, |(devices, _)| devices);
        let mut usage = DeviceUsage::default();
        usage.failed = usage.fill(devices, wanted, limits).is_none();
        let failed = usage.failed;
        if usage == DeviceUsage::default() {
            return None;
        }
        self.put_taken(row, instance, usage);
        Some(failed)
    }

    /// Notes what an instance takes.
    fn put_taken(&mut self, row: usize, instance: Uuid, usage: DeviceUsage) {
        let reported = self.left.get(row).copied().unwrap_or(NONE);
        let taken = self.taken.entry(row as u32);
        let taken = taken.or_insert_with(|| Taken { reported: NONE, entries: Vec::new() });
        if taken.entries.is_empty() {
            taken.reported = reported;
            if let Some(left) = self.left.get_mut(row) {
                *left = NONE; // its reference is now the report's
            }
        }
        taken.entries.push(Entry { instance, usage });
        self.work_out(row);
    }

    /// Ends what an instance takes, the latest if it stands there more than once. `None` if it takes nothing; else whether
    /// taking had failed.
    fn give_back(&mut self, row: usize, instance: Uuid) -> Option<bool> {
        let taken = self.taken.get_mut(&(row as u32))?;
        let at = taken.entries.iter().rposition(|entry| entry.instance == instance)?;
        let entry = taken.entries.remove(at);
        self.work_out(row);
        if self.taken[&(row as u32)].entries.is_empty()
            && let Some(taken) = self.taken.remove(&(row as u32))
        {
            self.release(taken.reported);
        }
        Some(entry.usage.failed)
    }
}

impl DeviceUsage {
    /// Nova's consume. `None` where it raises an exception.
    fn fill(&mut self, devices: &Devices, wanted: &mut Wanted, limits: Option<(f64, f64)>) -> Option<()> {
        let Wanted { pci_requests, network, packing, .. } = &*wanted;
        let mut cells = wanted.cells.clone();
        if let (Some(topology), Some(guest)) = (devices.cells(), &mut cells) {
            let limits = limits.map(|(cpu_allocation_ratio, ram_allocation_ratio)| Limits {
                cpu_allocation_ratio,
                ram_allocation_ratio,
                network: network.as_ref(),
            });
            let site = Site { topology, pools: &devices.pci_pools, packing: *packing };
            let fits = numa::fit(site, guest, limits, pci_requests);
            wanted.cells = cells;
            if fits.ok()? {
                self.numa = Some(topology.usage_of(wanted.cells.as_ref()?).ok()?);
            } else {
                wanted.cells = None; // and so it is for the instances that follow
            }
        }
        if wanted.pci_requests.is_empty() {
            return Some(());
        }
        let ids: Option<Vec<u32>> =
            wanted.cells.as_ref().map(|guest| guest.cells.iter().map(|cell| cell.id).collect());
        let topology = devices.numa.as_ref();
        let (usage, granted) =
            pci::usage_of(&devices.pci_pools, &wanted.pci_requests, ids.as_deref(), topology);
        self.pci = Some(usage);
        (granted == Ok(true)).then_some(())
    }
}

impl HostTable {
    /// Replaces what the host reports of NUMA cells and PCI devices. What placements took of them stays taken.
    pub fn set_devices(&mut self, row: Row, devices: &Devices) {
        self.devices.report(row.index(), devices);
        self.devices_changed(row);
    }

    /// What the host has left of NUMA cells and PCI devices.
    pub fn devices(&self, row: Row) -> Option<&Devices> {
        self.shared_devices(row).map(|devices| &**devices)
    }

    /// The same, to be kept: a copy costs nothing.
    pub(crate) fn shared_devices(&self, row: Row) -> Option<&Arc<Devices>> {
        self.devices.at(row.index()).map(|(devices, _)| devices)
    }

    /// What was taken for an instance, if anything; the latest if it was more than once.
    pub(crate) fn taken_devices(&self, row: Row, instance: Uuid) -> Option<&DeviceUsage> {
        let taken = self.devices.taken.get(&row.0)?;
        taken.entries.iter().rfind(|entry| entry.instance == instance).map(|entry| &entry.usage)
    }

    /// Takes for an instance what another table gave it.
    pub(crate) fn put_taken_devices(&mut self, row: Row, instance: Uuid, usage: &DeviceUsage) {
        self.devices.put_taken(row.index(), instance, usage.clone());
        self.columns.exact[row.index()].not_building += u32::from(usage.failed);
        self.devices_changed(row);
    }

    /// Takes what an instance wants, with limits (ratios of CPU and memory) where NUMATopologyFilter decided. True if
    /// there is something to be given back.
    pub(crate) fn take_devices(
        &mut self,
        row: Row,
        instance: Uuid,
        wanted: &mut Wanted,
        limits: Option<(f64, f64)>,
    ) -> bool {
        let Some(failed) = self.devices.take(row.index(), instance, wanted, limits) else { return false };
        self.columns.exact[row.index()].not_building += u32::from(failed);
        self.devices_changed(row);
        true
    }

    /// Gives back what [`Self::take_devices`] took for an instance, if anything; the latest if it did so more than once.
    pub(crate) fn give_back_devices(&mut self, row: Row, instance: Uuid) {
        if let Some(failed) = self.devices.give_back(row.index(), instance) {
            self.columns.exact[row.index()].not_building -= u32::from(failed);
            self.devices_changed(row);
        }
    }

    fn devices_changed(&mut self, row: Row) {
        let count = self.devices.at(row.index()).map_or(0, |(devices, _)| devices.count());
        self.columns.exact[row.index()].pci_devices = count;
        self.columns.derive(row.index());
        self.stamps.touch(row);
    }
}
