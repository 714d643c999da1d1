//! NUMA cells and PCI devices of the hosts that report them, and what placements take of them.
//!
//! Most hosts have none, or the same as many others. So a row holds the symbol of what it has left, and nothing is
//! stored until a first host reports devices. What is taken is kept apart, with one entry for each instance, and giving
//! back computes what is left from the report again. So after the last entry is gone, the host has exactly what it
//! reported.
//!
//! As in Nova, taking cannot refuse a placement. If it fails midway, what was taken before stays taken, and the
//! instance does not count as building.

use std::borrow::Borrow;
use std::sync::Arc;

use hashbrown::HashMap;
use novella_resources::numa::{self, Limits, Site};
use novella_resources::{DeviceUsage, Devices, pci};
use uuid::Uuid;

use crate::request::asked::Wanted;
use crate::table::dictionary::Dictionary;

/// What each host has left of its devices, and what instances take of them.
#[derive(Debug, Default)]
pub(crate) struct DeviceTable {
    /// What hosts report or have left, each distinct value once.
    distinct: Dictionary<SharedDevices>,
    /// The symbol of what each row has left, or [`NONE`]. The list ends at the last row that ever had devices.
    left: Vec<u32>,
    /// What is taken, by row. Rows of which nothing is taken are missing.
    pub(super) taken: HashMap<u32, Taken>,
}

/// In place of a symbol, this says that a host has no cells and no devices.
const NONE: u32 = u32::MAX;

/// Devices in the dictionary, where readers can share them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SharedDevices(Arc<Devices>);

impl From<&Devices> for SharedDevices {
    fn from(devices: &Devices) -> Self {
        Self(Arc::new(devices.clone()))
    }
}

impl Borrow<Devices> for SharedDevices {
    fn borrow(&self) -> &Devices {
        &self.0
    }
}

/// What is taken of one host.
#[derive(Debug)]
pub(super) struct Taken {
    /// The symbol of what the host reported, or [`NONE`].
    reported: u32,
    /// What each instance takes, in the order of taking.
    pub(super) entries: Vec<InstanceDevices>,
}

/// What one instance takes of a host.
#[derive(Debug)]
pub(super) struct InstanceDevices {
    pub(super) instance: Uuid,
    pub(super) usage: DeviceUsage,
}

impl DeviceTable {
    /// What a host has left, with a number that stands for exactly this value and is never given to another.
    pub(crate) fn at(&self, row: usize) -> Option<(&Arc<Devices>, u64)> {
        let symbol = *self.left.get(row).filter(|symbol| **symbol != NONE)?;
        Some((&self.distinct.get(symbol).0, self.distinct.serial(symbol)))
    }

    fn acquire(&mut self, devices: &Devices) -> u32 {
        if devices.is_empty() { NONE } else { self.distinct.acquire(devices) }
    }

    fn release(&mut self, symbol: u32) {
        if symbol != NONE {
            self.distinct.release(symbol);
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

    /// Replaces what a host reports. What is taken of it stays taken. Returns whether it reported anything else before.
    pub(super) fn report(&mut self, row: usize, devices: &Devices) -> bool {
        let symbol = self.acquire(devices);
        let Some(taken) = self.taken.get_mut(&(row as u32)) else {
            self.release(symbol);
            let changed = symbol != self.left.get(row).copied().unwrap_or(NONE);
            if changed {
                self.put(row, devices);
            }
            return changed;
        };
        let before = std::mem::replace(&mut taken.reported, symbol);
        self.release(before);
        if before != symbol {
            self.work_out(row);
        }
        before != symbol
    }

    /// Computes again what a host has left, if anything is taken of it.
    fn work_out(&mut self, row: usize) {
        let Some(taken) = self.taken.get(&(row as u32)) else { return };
        let mut devices = match taken.reported {
            NONE => Devices::default(),
            symbol => (*self.distinct.get(symbol).0).clone(),
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

    /// Takes what an instance wants, and writes into `wanted` where it went. `None` if that is nothing; else whether
    /// taking failed midway.
    pub(super) fn take(
        &mut self,
        row: usize,
        instance: Uuid,
        wanted: &mut Wanted,
        limits: Option<(f64, f64)>,
    ) -> Option<bool> {
        let none = Devices::default();
        let devices = self.at(row).map_or(&none, |(devices, _)| devices);
        let mut usage = DeviceUsage::default();
        usage.failed = fill(&mut usage, devices, wanted, limits).is_none();
        let failed = usage.failed;
        if usage == DeviceUsage::default() {
            return None;
        }
        self.put_taken(row, instance, usage);
        Some(failed)
    }

    /// Adds an entry for what an instance takes.
    pub(super) fn put_taken(&mut self, row: usize, instance: Uuid, usage: DeviceUsage) {
        let reported = self.left.get(row).copied().unwrap_or(NONE);
        let mut left = self.at(row).map(|(devices, _)| (**devices).clone()).unwrap_or_default();
        left.take(&usage);
        let taken = self.taken.entry(row as u32);
        let taken = taken.or_insert_with(|| Taken { reported: NONE, entries: Vec::new() });
        if taken.entries.is_empty() {
            taken.reported = reported;
            if let Some(left) = self.left.get_mut(row) {
                *left = NONE; // `taken.reported` owns this reference now
            }
        }
        taken.entries.push(InstanceDevices { instance, usage });
        self.put(row, &left);
    }

    /// Removes the latest entry of an instance. `None` if it has none; else whether taking had failed.
    pub(super) fn give_back(&mut self, row: usize, instance: Uuid) -> Option<bool> {
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

/// What is left after a request's only instance is placed. The limits are those of `HostTable::take_devices`.
pub(crate) fn left_after(devices: &Devices, wanted: &Wanted, limits: Option<(f64, f64)>) -> Devices {
    let mut usage = DeviceUsage::default();
    // Where taking fails midway, what was taken before stays taken.
    let _ = fill(&mut usage, devices, &mut wanted.clone(), limits);
    let mut left = devices.clone();
    left.take(&usage);
    left
}

/// Works out what an instance takes, as Nova's `HostState.consume_from_request` does, and writes into `wanted` where it
/// went. `None` where Nova raises an exception.
fn fill(
    taken: &mut DeviceUsage,
    devices: &Devices,
    wanted: &mut Wanted,
    limits: Option<(f64, f64)>,
) -> Option<()> {
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
            taken.numa = Some(topology.usage_of(wanted.cells.as_ref()?).ok()?);
        } else {
            wanted.cells = None; // the instances that follow ask for no cells either
        }
    }
    if wanted.pci_requests.is_empty() {
        return Some(());
    }
    let ids: Option<Vec<u32>> =
        wanted.cells.as_ref().map(|guest| guest.cells.iter().map(|cell| cell.id).collect());
    let topology = devices.numa.as_ref();
    let (usage, granted) = pci::usage_of(&devices.pci_pools, &wanted.pci_requests, ids.as_deref(), topology);
    taken.pci = Some(usage);
    (granted == Ok(true)).then_some(())
}
