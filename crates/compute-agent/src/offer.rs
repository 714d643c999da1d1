//! The hardware that a host offers to instances: CPU sets, pages that are not reserved, networks, PCI devices.
//!
//! The rules are those of Nova's libvirt driver. CPUs that are not online and cells that do not exist are refused when
//! the agent starts. If they disappear later, they are no longer offered and the reports go on.
//!
//! What it leaves out: what is in use. The claims say that.

use std::collections::BTreeMap;

use novella_objects::document::{MemoryPages, NetworkMetadata, NumaCell, NumaTopology, PciPool};
use novella_resources::cpu_set::{CpuSet, MAX_CPUS};
use novella_service::config::Problem;
use novella_virt::{HostStats, NumaNode};

use crate::config_sections::{ComputeConfig, NeutronConfig, PciConfig, ReservedPages};
use crate::pci::{self, DeviceSpec};

/// The part of the offer that the operator sets. The other part is what the driver reads from the host.
#[derive(Debug)]
pub struct Offer {
    shared: Option<CpuSet>,
    dedicated: Option<CpuSet>,
    /// How many pages are reserved for the host, by node and page size in KiB.
    reserved_pages: BTreeMap<(u32, u64), u64>,
    physnets: BTreeMap<String, Vec<u32>>,
    tunnel: Vec<u32>,
    devices: Vec<DeviceSpec>,
    monitors: bool,
}

impl Offer {
    /// The offer of these settings, or every problem in them. `monitors` says whether CPU metrics are wanted.
    pub fn new(
        compute: &ComputeConfig,
        huge_pages: &[ReservedPages],
        neutron: &NeutronConfig,
        pci: &PciConfig,
        monitors: bool,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let shared = cpu_set("compute.cpu_shared_set", &compute.cpu_shared_set, &mut problems);
        let dedicated = cpu_set("compute.cpu_dedicated_set", &compute.cpu_dedicated_set, &mut problems);
        if let (Some(shared), Some(dedicated)) = (&shared, &dedicated)
            && shared.meets(dedicated)
        {
            problems.push(Problem::new(
                &["compute.cpu_shared_set", "compute.cpu_dedicated_set"],
                format!("CPUs {} are in both sets", shared.and(dedicated)),
                "remove them from one of the sets",
            ));
        }
        let mut reserved_pages = BTreeMap::new();
        for pages in huge_pages {
            let (size, node) = (pages.size, pages.node);
            let size_kb = size.bytes() / 1024;
            if size_kb == 0 || reserved_pages.insert((node, size_kb), pages.count).is_some() {
                let what = match size_kb {
                    0 => format!("{size} is not a page size"),
                    _ => format!("pages of {size} on node {node} are listed twice"),
                };
                let fix =
                    r#"list each node and page size once, for example { node = 0, size = "2M", count = 64 }"#;
                problems.push(Problem::new(&["reserved.huge_pages"], what, fix));
            }
        }
        for (physnet, nodes) in &neutron.physnets {
            if physnet.is_empty() || nodes.is_empty() {
                problems.push(Problem::new(
                    &["neutron.physnets"],
                    format!("physical network {physnet:?} needs a name and at least one NUMA node"),
                    "write for example { physnet0 = [0] }",
                ));
            }
        }
        let mut devices = Vec::new();
        for (at, spec) in pci.device_spec.iter().enumerate() {
            match DeviceSpec::read(spec) {
                Ok(spec) => devices.push(spec),
                Err(error) => problems.push(Problem::new(
                    &["pci.device_spec"],
                    format!("entry {}: {error}", at + 1),
                    error.fix(),
                )),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            shared,
            dedicated,
            reserved_pages,
            physnets: neutron.physnets.clone(),
            tunnel: neutron.tunnel_numa_nodes.clone(),
            devices,
            monitors,
        })
    }

    /// Where the settings do not match the hardware of this host.
    pub fn problems(&self, stats: &HostStats) -> Vec<Problem> {
        let mut problems = Vec::new();
        let online = online(stats);
        for (key, set) in
            [("compute.cpu_shared_set", &self.shared), ("compute.cpu_dedicated_set", &self.dedicated)]
        {
            let missing = set.as_ref().map_or(CpuSet::EMPTY, |set| set.minus(&online));
            if !missing.is_empty() {
                let what = format!("this host has no CPU {missing} online");
                problems.push(Problem::new(&[key], what, format!("choose from {online}")));
            }
        }
        let nodes = &stats.numa.value;
        let ids: Vec<String> = nodes.iter().map(|node| node.id.to_string()).collect();
        let exists = |id: u32| nodes.iter().any(|node| node.id == id);
        let mut missing = |key, id: u32| {
            if !exists(id) {
                let fix = format!("choose from: {}", ids.join(", "));
                let fix =
                    if ids.is_empty() { "remove it: this host reports no NUMA nodes".into() } else { fix };
                problems.push(Problem::new(&[key], format!("this host has no NUMA node {id}"), fix));
            }
        };
        self.reserved_pages.keys().for_each(|(id, _)| missing("reserved.huge_pages", *id));
        self.physnets.values().flatten().for_each(|id| missing("neutron.physnets", *id));
        self.tunnel.iter().for_each(|id| missing("neutron.tunnel_numa_nodes", *id));
        for (&(id, size_kb), &count) in &self.reserved_pages {
            let Some(node) = nodes.iter().find(|node| node.id == id) else { continue };
            let pages = node.mempages.iter().find(|pages| pages.size_kb == size_kb);
            if pages.is_none_or(|pages| pages.total < count) {
                problems.push(Problem::new(
                    &["reserved.huge_pages"],
                    format!(
                        "node {id} has {} pages of {size_kb} KiB, fewer than the {count} reserved",
                        pages.map_or(0, |pages| pages.total)
                    ),
                    "reserve fewer, or raise the kernel's nr_hugepages",
                ));
            }
        }
        if self.monitors && stats.cpu_stats.is_none() {
            problems.push(Problem::new(
                &["compute_monitors"],
                "this driver does not measure CPU times",
                "remove the monitor",
            ));
        }
        problems
    }

    /// How many CPUs instances may share. `None` if the operator has set no CPU set.
    pub fn vcpus(&self, stats: &HostStats) -> Option<u32> {
        self.divides_cpus().then(|| count(&self.shared_cpus(&online(stats))))
    }

    /// Number of CPUs for instances with dedicated CPUs: Nova's PCPU. `None` unless the operator has set a dedicated set.
    pub fn pcpus(&self, stats: &HostStats) -> Option<u32> {
        self.dedicated.as_ref().map(|set| count(&set.and(&online(stats))))
    }

    /// The NUMA cells that are offered. `None` if the driver reports no nodes.
    pub fn numa_topology(&self, stats: &HostStats) -> Option<NumaTopology> {
        let nodes = &stats.numa.value;
        let online = online(stats);
        let shared = self.shared_cpus(&online);
        let dedicated = match (&self.dedicated, &self.shared) {
            (Some(set), _) => set.clone(),
            (None, Some(_)) => CpuSet::EMPTY,
            // If the operator sets neither, all CPUs can be pinned too.
            (None, None) => shared.clone(),
        };
        let cells = nodes.iter().map(|node| self.cell(node, &shared, &dedicated)).collect();
        (!nodes.is_empty()).then_some(NumaTopology { cells })
    }

    fn cell(&self, node: &NumaNode, shared: &CpuSet, dedicated: &CpuSet) -> NumaCell {
        let among = |set: &CpuSet, cpus: &[u32]| -> Vec<u32> {
            cpus.iter().copied().filter(|cpu| set.contains(*cpu)).collect()
        };
        let mut either = shared.clone();
        either.add(dedicated);
        let siblings = node.siblings.iter().map(|core| among(&either, core)).filter(|core| !core.is_empty());
        let mempages = node.mempages.iter().map(|pages| MemoryPages {
            size_kb: pages.size_kb,
            total: pages.total,
            used: 0,
            reserved: self.reserved_pages.get(&(node.id, pages.size_kb)).copied().unwrap_or(0),
        });
        let near = self.physnets.iter().filter(|(_, nodes)| nodes.contains(&node.id));
        let network_metadata = NetworkMetadata {
            physnets: near.map(|(physnet, _)| physnet.clone()).collect(),
            tunneled: self.tunnel.contains(&node.id),
        };
        NumaCell {
            id: node.id,
            cpuset: among(shared, &node.cpus),
            pcpuset: among(dedicated, &node.cpus),
            memory_mb: node.memory_mb,
            siblings: siblings.collect(),
            mempages: mempages.collect(),
            network_metadata: (network_metadata != NetworkMetadata::default()).then_some(network_metadata),
            socket: node.socket,
            ..NumaCell::default()
        }
    }

    /// Pools of the PCI devices that instances may have.
    pub fn pci_pools(&self, stats: &HostStats) -> Vec<PciPool> {
        pci::pools(&stats.pci_devices.value, &self.devices)
    }

    /// Numbers of the entries of `[pci] device_spec` that match no device of this host, from 1.
    pub fn idle_device_specs(&self, stats: &HostStats) -> Vec<usize> {
        pci::idle(&stats.pci_devices.value, &self.devices)
    }

    fn divides_cpus(&self) -> bool {
        self.shared.is_some() || self.dedicated.is_some()
    }

    fn shared_cpus(&self, online: &CpuSet) -> CpuSet {
        match &self.shared {
            Some(set) => set.and(online),
            None if self.dedicated.is_some() => CpuSet::EMPTY,
            None => online.clone(),
        }
    }
}

/// The host's CPUs. If the host reports no NUMA nodes, they are numbered without gaps.
fn online(stats: &HostStats) -> CpuSet {
    let cpus: Vec<u32> = match &stats.numa.value[..] {
        [] => (0..stats.vcpus.value).collect(),
        nodes => nodes.iter().flat_map(|node| node.cpus.iter().copied()).collect(),
    };
    // No kernel numbers CPUs beyond what a set holds. If one did, the settings could not name those CPUs.
    let cpus: Vec<u32> = cpus.into_iter().filter(|cpu| *cpu < MAX_CPUS).collect();
    CpuSet::of(&cpus).expect("larger numbers are left out")
}

fn count(cpus: &CpuSet) -> u32 {
    u32::try_from(cpus.len()).unwrap_or(u32::MAX)
}

/// The CPUs of a setting, or none if it is not set.
fn cpu_set(key: &str, text: &str, problems: &mut Vec<Problem>) -> Option<CpuSet> {
    if text.is_empty() {
        return None;
    }
    let mut refuse = |what: String| {
        problems.push(Problem::new(&[key], what, "write for example \"0-3,^2,8\": CPUs 0, 1, 3 and 8"));
        None
    };
    match text.parse::<CpuSet>() {
        Ok(set) if set.is_empty() => refuse("the set is empty".into()),
        Ok(set) => Some(set),
        Err(error) => refuse(error.to_string()),
    }
}
