//! Reading and writing NUMA cells, PCI devices, and what an instance takes of them, in the form of documents, reports
//! and messages.
//!
//! What always holds: what was written is read again as exactly the same value. Amounts that cannot be calculated with,
//! and lists that are too long, are refused.

use novella_objects::document::{MemoryPages, NetworkMetadata, NumaCell, NumaTopology, PciPool};
use serde_json::Value;

use crate::cpu_set::CpuSet;
use crate::devices::{DeviceUsage, Devices};
use crate::numa::{self, Network};
use crate::pci;

/// Why NUMA cells or PCI devices are refused, in a request or in a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadDevices(pub String);

/// The largest amount or count of a cell, so that no sum or product of a fit overflows.
const MAX_OF_CELL: u64 = 1 << 40;
/// The most NUMA cells of one host. The largest machines have 64.
const MAX_CELLS: usize = 128;
/// The most page sizes of one cell. No architecture has more than a handful.
const MAX_PAGE_SIZES: usize = 16;
/// The most bytes that all CPU sets of one host may take. A set takes as many bits as its largest number; 2,048 CPUs
/// with their cores take half of this.
const MAX_SETS: usize = 1 << 19;
/// The most PCI pools of one host, and the most kinds of devices that one instance has.
const MAX_POOLS: usize = 1024;

/// The key of the device type among a pool's tags. A document has the type in a field beside the tags.
const DEV_TYPE: &str = "dev_type";

impl Devices {
    /// Reads the cells and pools of a document.
    pub fn read(topology: Option<&NumaTopology>, pools: &[PciPool]) -> Result<Self, BadDevices> {
        let within = |field: &'static str| move |BadDevices(reason)| BadDevices(format!("{field}: {reason}"));
        Ok(Self {
            numa: topology.map(read_cells).transpose().map_err(within("numa_topology"))?,
            pci_pools: read_pools(pools).map_err(within("pci_pools"))?,
        })
    }

    /// Writes cells and pools, for [`Self::read`] to read again.
    pub fn write(&self) -> (Option<NumaTopology>, Vec<PciPool>) {
        let topology = self
            .numa
            .as_ref()
            .map(|numa| NumaTopology { cells: numa.cells.iter().map(write_cell).collect() });
        (topology, self.pci_pools.iter().map(|pool| write_pool(pool, pool.count)).collect())
    }
}

impl DeviceUsage {
    /// Reads what an instance takes, as a claim or another scheduler says it.
    pub fn read(cells: &[novella_objects::CellUsage], devices: &[PciPool]) -> Result<Self, BadDevices> {
        at_most("cells", cells.len(), MAX_CELLS)?;
        let cell = |given: &novella_objects::CellUsage| {
            let bad = |reason: String| BadDevices(format!("cell {}: {reason}", given.id));
            if given.memory_mb.unsigned_abs() > MAX_OF_CELL {
                return Err(bad(format!("memory_mb is {}, beyond {MAX_OF_CELL}", given.memory_mb)));
            }
            if !(1..=MAX_OF_CELL).contains(&given.pagesize_kb) {
                return Err(bad(format!("pagesize_kb is {}, not 1 to {MAX_OF_CELL}", given.pagesize_kb)));
            }
            Ok(numa::CellUsage {
                id: given.id,
                memory_mb: given.memory_mb,
                cpus: given.vcpus.into(),
                pinned: CpuSet::of(&given.pinned_cpus).map_err(|large| bad(large.to_string()))?,
                pagesize_kb: given.pagesize_kb as i64,
            })
        };
        let cells = cells.iter().map(cell).collect::<Result<Vec<_>, _>>()?;
        let devices = devices.iter().map(|given| (read_pool(given), given.count));
        at_most("pci devices", devices.len(), MAX_POOLS)?;
        let devices = devices.map(|(kind, count)| Ok((kind?, count))).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            numa: (!cells.is_empty()).then_some(numa::Usage { cells }),
            pci: (!devices.is_empty()).then_some(pci::Usage(devices)),
            failed: false,
        })
    }

    /// Writes what an instance takes, for [`Self::read`] to read again.
    pub fn write(&self) -> (Vec<novella_objects::CellUsage>, Vec<PciPool>) {
        let cells = self.numa.iter().flat_map(|usage| &usage.cells);
        let cells = cells.map(|cell| novella_objects::CellUsage {
            id: cell.id,
            vcpus: u32::try_from(cell.cpus).unwrap_or(u32::MAX),
            pinned_cpus: cell.pinned.iter().collect(),
            memory_mb: cell.memory_mb,
            pagesize_kb: cell.pagesize_kb.unsigned_abs(),
        });
        let devices = self.pci.iter().flat_map(|usage| &usage.0);
        (cells.collect(), devices.map(|(kind, count)| write_pool(kind, *count)).collect())
    }
}

fn at_most(what: &str, count: usize, limit: usize) -> Result<(), BadDevices> {
    if count > limit { Err(BadDevices(format!("{count} {what}, more than {limit}"))) } else { Ok(()) }
}

/// Reads the NUMA cells of a host. Two cells of one id are refused, and so are amounts and lists that are too large.
pub fn read_cells(topology: &NumaTopology) -> Result<numa::Topology, BadDevices> {
    at_most("cells", topology.cells.len(), MAX_CELLS)?;
    let sets = |cell: &NumaCell| {
        let own = [&cell.cpuset, &cell.pcpuset, &cell.pinned_cpus];
        let largest = own.into_iter().chain(&cell.siblings).filter_map(|set| set.iter().max());
        largest.map(|cpu| *cpu as usize / 8).sum::<usize>()
    };
    at_most("bytes of CPU sets", topology.cells.iter().map(sets).sum(), MAX_SETS)?;
    let cells = topology.cells.iter().map(read_cell).collect::<Result<Vec<_>, _>>()?;
    for (at, cell) in cells.iter().enumerate() {
        if cells[..at].iter().any(|other| other.id == cell.id) {
            return Err(BadDevices(format!("two cells have the id {}", cell.id)));
        }
    }
    Ok(numa::Topology { cells })
}

fn read_cell(given: &NumaCell) -> Result<numa::Cell, BadDevices> {
    let bad = |reason: String| BadDevices(format!("cell {}: {reason}", given.id));
    let set = |cpus: &[u32]| CpuSet::of(cpus).map_err(|large| bad(large.to_string()));
    let amount = |name: &str, value: u64| match value {
        0..=MAX_OF_CELL => Ok(value as i64),
        _ => Err(bad(format!("{name} is {value}, more than {MAX_OF_CELL}"))),
    };
    at_most("page sizes", given.mempages.len(), MAX_PAGE_SIZES).map_err(|BadDevices(reason)| bad(reason))?;
    let pages = given.mempages.iter().map(|pages| {
        if pages.size_kb == 0 {
            return Err(bad("pages of 0 KiB".to_owned()));
        }
        Ok(numa::Pages {
            size_kb: amount("size_kb", pages.size_kb)?,
            total: amount("total", pages.total)?,
            used: amount("used", pages.used)?,
            reserved: amount("reserved", pages.reserved)?,
        })
    });
    Ok(numa::Cell {
        id: given.id,
        cpuset: set(&given.cpuset)?,
        pcpuset: set(&given.pcpuset)?,
        memory_mb: amount("memory_mb", given.memory_mb)?,
        cpu_usage: amount("cpu_usage", given.cpu_usage)?,
        memory_usage_mb: amount("memory_usage_mb", given.memory_usage_mb)?,
        pinned_cpus: set(&given.pinned_cpus)?,
        siblings: given.siblings.iter().map(|core| set(core)).collect::<Result<_, _>>()?,
        mempages: pages.collect::<Result<_, _>>()?,
        network: given.network_metadata.as_ref().map(network),
        socket: given.socket.map(i64::from),
    })
}

fn write_cell(cell: &numa::Cell) -> NumaCell {
    let set = |set: &CpuSet| set.iter().collect::<Vec<_>>();
    let amount = |value: i64| u64::try_from(value).unwrap_or(0);
    NumaCell {
        id: cell.id,
        cpuset: set(&cell.cpuset),
        pcpuset: set(&cell.pcpuset),
        memory_mb: amount(cell.memory_mb),
        cpu_usage: amount(cell.cpu_usage),
        memory_usage_mb: amount(cell.memory_usage_mb),
        pinned_cpus: set(&cell.pinned_cpus),
        siblings: cell.siblings.iter().map(set).collect(),
        mempages: cell
            .mempages
            .iter()
            .map(|pages| MemoryPages {
                size_kb: amount(pages.size_kb),
                total: amount(pages.total),
                used: amount(pages.used),
                reserved: amount(pages.reserved),
            })
            .collect(),
        network_metadata: cell.network.as_ref().map(|network| NetworkMetadata {
            physnets: network.physnets.iter().map(|name| name.to_string()).collect(),
            tunneled: network.tunneled,
        }),
        socket: cell.socket.and_then(|socket| u32::try_from(socket).ok()),
    }
}

/// Reads the free PCI devices of a host, and sorts them in the order in which they are given out.
pub fn read_pools(given: &[PciPool]) -> Result<Vec<pci::Pool>, BadDevices> {
    at_most("pools", given.len(), MAX_POOLS)?;
    let mut pools = given.iter().map(read_pool).collect::<Result<Vec<_>, _>>()?;
    pci::sort(&mut pools);
    Ok(pools)
}

fn read_pool(given: &PciPool) -> Result<pci::Pool, BadDevices> {
    let mut tags = pci::Tags::from([(DEV_TYPE.into(), Some(given.dev_type.as_str().into()))]);
    for (key, value) in &given.tags {
        tags.insert(key.as_str().into(), tag(key, value)?);
    }
    Ok(pci::Pool {
        vendor_id: given.vendor_id.as_str().into(),
        product_id: given.product_id.as_str().into(),
        numa_node: given.numa_node,
        count: given.count,
        tags,
    })
}

fn write_pool(pool: &pci::Pool, count: u32) -> PciPool {
    let text = |value: &Option<Box<str>>| value.as_deref().map_or(Value::Null, Value::from);
    let tags = pool.tags.iter().filter(|(key, _)| &***key != DEV_TYPE);
    PciPool {
        vendor_id: pool.vendor_id.to_string(),
        product_id: pool.product_id.to_string(),
        dev_type: pool.tags.get(DEV_TYPE).and_then(Option::as_deref).unwrap_or_default().to_owned(),
        numa_node: pool.numa_node,
        count,
        tags: tags.map(|(key, value)| (key.to_string(), text(value))).collect(),
    }
}

/// Reads a property of a device, which Nova keeps as text. `None` is JSON's null; lists and objects are refused.
pub fn tag(key: &str, value: &Value) -> Result<Option<Box<str>>, BadDevices> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.as_str().into())),
        Value::Bool(value) => Ok(Some(if *value { "True" } else { "False" }.into())),
        Value::Number(number) => Ok(Some(number.to_string().into())),
        Value::Array(_) | Value::Object(_) => {
            Err(BadDevices(format!("PCI property {key:?} is {value}; it must be a string")))
        }
    }
}

/// Reads the names of physical networks, and whether there are tunneled ones.
pub fn network(given: &NetworkMetadata) -> Network {
    let physnets = given.physnets.iter().map(|name| name.as_str().into()).collect();
    Network { physnets, tunneled: given.tunneled }
}
