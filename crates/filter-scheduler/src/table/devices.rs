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

use crate::request::asked::Wanted;
use crate::table::dictionary::Dictionary;

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
    pub fn take(&mut self, usage: &DeviceUsage) {
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

    pub(super) fn count(&self) -> u32 {
        self.pci_pools.iter().fold(0, |sum, pool| sum.saturating_add(pool.count))
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct DeviceTable {
    kinds: Dictionary<Kind>,
    /// Symbol by row of what is left, or [`NONE`]; as long as the last row that was told of.
    left: Vec<u32>,
    pub(super) taken: HashMap<u32, Taken>,
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
pub(super) struct Taken {
    /// Symbol of what it reported, or [`NONE`].
    reported: u32,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) instance: Uuid,
    pub(super) usage: DeviceUsage,
}

/// What one instance takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceUsage {
    /// Its part of the host's NUMA cells.
    pub numa: Option<numa::Usage>,
    /// Its PCI devices.
    pub pci: Option<pci::Usage>,
    /// Taking failed midway.
    pub failed: bool,
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
        usage.failed = usage.fill(devices, wanted, limits).is_none();
        let failed = usage.failed;
        if usage == DeviceUsage::default() {
            return None;
        }
        self.put_taken(row, instance, usage);
        Some(failed)
    }

    /// Notes what an instance takes.
    pub(super) fn put_taken(&mut self, row: usize, instance: Uuid, usage: DeviceUsage) {
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
