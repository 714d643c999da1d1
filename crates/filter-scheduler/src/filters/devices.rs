//! NUMATopologyFilter and PciPassthroughFilter: whether what a host has left of its cells and devices is enough.
//!
//! A fit takes long to compute, so hosts that have the same left and the same ratios are asked once. What a request
//! wants changes from one of its instances to the next (see [`Wanted`]), so answers are kept by what was wanted.

use hashbrown::HashMap;
use novella_resources::numa::{self, InstanceTopology};
use novella_resources::{Devices, pci};

use crate::filters::cell_refusal::{self, Ratios};
use crate::filters::tally::Passes;
use crate::request::asked::{Asked, Wanted};
use crate::table::host_table::HostTable;

/// For how many different wants of one request answers are kept. If there are more, all are forgotten.
const MAX_WANTS: usize = 64;

/// NUMATopologyFilter, for one request.
#[derive(Debug)]
pub(crate) struct CellQuestion {
    /// What the current instance wants.
    wanted: Wanted,
    /// Whether a thread policy is asked for that hosts without hardware threads cannot follow.
    needs_threads: bool,
    /// The different cells that were wanted so far.
    wants: Vec<Option<InstanceTopology>>,
    /// The index in `wants` of what is wanted now.
    want: u32,
    /// The answers so far, by index in `wants`, serial number of what a host has left, and bits of its ratios of CPU
    /// and memory.
    verdicts: HashMap<(u32, u64, [u64; 2]), Passes>,
}

impl CellQuestion {
    /// `None` if every host passes.
    pub(super) fn compile(asked: &Asked<'_>, wanted: &Wanted) -> Option<Self> {
        let either = |key: &str, property: &str, word: &str| {
            asked.spec.flavor.extra_specs.get(key).is_some_and(|text| text == word)
                || asked.image.get_text(property) == Some(word)
        };
        let needs_threads = either("hw:cpu_policy", "hw_cpu_policy", "dedicated")
            && either("hw:cpu_thread_policy", "hw_cpu_thread_policy", "require");
        let mut question = Self {
            wanted: Wanted::default(),
            needs_threads,
            wants: Vec::new(),
            want: 0,
            verdicts: HashMap::new(),
        };
        question.wants(wanted);
        (needs_threads || question.wanted.cells.is_some()).then_some(question)
    }

    /// Takes note of what the next instance wants.
    pub(super) fn wants(&mut self, wanted: &Wanted) {
        self.wanted = wanted.clone();
        let want = wanted.cells.as_ref().map(|topology| {
            let mut topology = topology.clone();
            for cell in &mut topology.cells {
                // Where the last instance was pinned does not matter to the next.
                cell.pinning.clear();
                cell.reserved = Default::default();
            }
            topology
        });
        let known = self.wants.iter().position(|known| *known == want);
        let at = known.unwrap_or_else(|| {
            if self.wants.len() == MAX_WANTS {
                self.wants.clear();
                self.verdicts.clear();
            }
            self.wants.push(want);
            self.wants.len() - 1
        });
        self.want = at as u32;
    }

    pub(super) fn ask(&mut self, table: &HostTable, row: usize) -> Passes {
        let ratios = table.columns.exact[row].reported.ratios;
        let Some((devices, serial)) = table.devices.at(row) else {
            return self.judge(&Devices::default(), (ratios.cpu, ratios.ram));
        };
        let key = (self.want, serial, [ratios.cpu.to_bits(), ratios.ram.to_bits()]);
        if let Some(verdict) = self.verdicts.get(&key) {
            return verdict.clone();
        }
        let verdict = self.judge(devices, (ratios.cpu, ratios.ram));
        self.verdicts.insert(key, verdict.clone());
        verdict
    }

    /// The answer for a host that has these devices left, with its ratios of CPU and memory.
    fn judge(&self, devices: &Devices, (cpu, ram): (f64, f64)) -> Passes {
        let Some(topology) = devices.cells() else { return Ok(self.wanted.cells.is_none()) };
        if self.needs_threads && !topology.has_threads() {
            return Ok(false);
        }
        let Some(guest) = &self.wanted.cells else { return Ok(true) };
        let site = self.wanted.site(topology, &devices.pci_pools);
        let limits = self.wanted.limits(cpu, ram);
        let verdict = numa::fit(site, &mut guest.clone(), Some(limits), &self.wanted.pci_requests);
        verdict.map_err(|error| error.to_string())
    }

    /// What a host that was refused has, and what was asked.
    pub(super) fn refusal(&self, table: &HostTable, row: usize) -> String {
        let guest = self.wanted.cells.as_ref();
        let cells = table.devices.at(row).and_then(|(devices, _)| devices.cells());
        let Some(topology) = cells else {
            return format!("it reports no NUMA cells, asked {}", guest.map_or(0, |guest| guest.cells.len()));
        };
        if self.needs_threads && !topology.has_threads() {
            return "its cores have no threads, which hw:cpu_thread_policy requires".to_owned();
        }
        let Some(guest) = guest else {
            return "it cannot provide the NUMA cells that are asked for".to_owned();
        };
        let surroundings = match (self.wanted.pci_requests.is_empty(), &self.wanted.network) {
            (false, Some(_)) => Some("the PCI devices and networks"),
            (false, None) => Some("the PCI devices"),
            (true, Some(_)) => Some("the networks"),
            (true, None) => None,
        };
        let ratios = table.columns.exact[row].reported.ratios;
        cell_refusal::refusal(topology, guest, Ratios { cpu: ratios.cpu, ram: ratios.ram }, surroundings)
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}

/// PciPassthroughFilter's answer for a host that has these devices left.
fn judge(requests: &[pci::DeviceRequest], pools: &[pci::Pool]) -> Passes {
    pci::supports(pools, requests, None, None).map_err(|error| error.to_string())
}

/// What a filter asks of cells or devices, taken out of a compiled filter so that it outlives the table's lock. With
/// it, the instances that fit on one host can be counted.
#[derive(Debug)]
pub(crate) enum DeviceBound {
    Cells(Box<CellQuestion>),
    Devices(Vec<pci::DeviceRequest>),
}

impl DeviceBound {
    /// Whether the filter passes a host that has these devices left, with its ratios of CPU and memory. A host that it
    /// cannot decide about is refused.
    pub(crate) fn passes(&self, devices: &Devices, ratios: (f64, f64)) -> bool {
        let verdict = match self {
            Self::Cells(question) => question.judge(devices, ratios),
            Self::Devices(requests) => judge(requests, &devices.pci_pools),
        };
        verdict == Ok(true)
    }

    /// The name of what is asked for, as results show it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Cells(_) => "numa_cells",
            Self::Devices(_) => "pci_devices",
        }
    }
}

/// PciPassthroughFilter, for one request.
#[derive(Debug)]
pub(super) struct DeviceQuestion {
    pub(super) requests: Vec<pci::DeviceRequest>,
    /// The answers so far, by the serial number of what a host has left.
    verdicts: HashMap<u64, Passes>,
}

impl DeviceQuestion {
    /// `None` if every host passes.
    pub(super) fn compile(wanted: &Wanted) -> Option<Self> {
        let requests = wanted.pci_requests.clone();
        (!requests.is_empty()).then(|| Self { requests, verdicts: HashMap::new() })
    }

    pub(super) fn ask(&mut self, table: &HostTable, row: usize) -> Passes {
        let Some((devices, left)) = table.devices.at(row) else { return judge(&self.requests, &[]) };
        let verdict = self.verdicts.entry(left);
        verdict.or_insert_with(|| judge(&self.requests, &devices.pci_pools)).clone()
    }

    /// What a host that was refused has, and what was asked.
    pub(super) fn refusal(&self, table: &HostTable, row: usize) -> String {
        let pools = table.devices.at(row).map_or(&[][..], |(devices, _)| &devices.pci_pools);
        let has = list(pools.iter().map(|pool| {
            let node = pool.numa_node.map_or_else(String::new, |node| format!(" on NUMA node {node}"));
            format!("{} of {}:{}{node}", pool.count, pool.vendor_id, pool.product_id)
        }));
        let asked = list(self.requests.iter().map(|request| {
            let specs = request.spec.iter().map(|spec| {
                let tags =
                    spec.iter().map(|(key, value)| format!("{key}={}", value.as_deref().unwrap_or("")));
                tags.collect::<Vec<_>>().join(" ")
            });
            format!("{} of {}", request.count, specs.collect::<Vec<_>>().join(" or "))
        }));
        match has.is_empty() {
            true => format!("it has no free PCI devices, asked [{asked}]"),
            false => format!("its free PCI devices are [{has}], asked [{asked}]"),
        }
    }
}
