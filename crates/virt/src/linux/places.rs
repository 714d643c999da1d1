//! The socket and the core of each CPU, from sysfs or else from `/proc/cpuinfo`.
//!
//! Some virtual machines and containers have neither. Then each CPU counts as a core of its own, and all are in one socket.

use std::collections::BTreeMap;

use super::cpuinfo::CpuInfo;
use super::tree::{CPUINFO, Tree};
use crate::probe_error::ProbeError;

/// Where a CPU is.
#[derive(Clone, Default)]
pub(super) struct Place {
    /// The kernel's number of the socket. `None` if it does not know.
    pub(super) socket: Option<u32>,
    /// The CPUs of the core, ascending. The CPU itself is one of them.
    pub(super) core: Vec<u32>,
}

/// The places of these CPUs.
pub(super) fn read(tree: &Tree, online: &[u32]) -> Result<BTreeMap<u32, Place>, ProbeError> {
    let (mut sockets, mut cores) = (BTreeMap::new(), BTreeMap::new());
    for &cpu in online {
        let directory = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        // The list of siblings identifies a core. `core_id` does not, because it starts again in each die.
        let siblings = tree.id_list(&format!("{directory}/thread_siblings_list"))?;
        cores.extend(siblings.filter(|core| core.contains(&cpu)).map(|core| (cpu, core)));
        // The kernel writes -1 if it does not know the socket.
        let socket = tree.optional(&format!("{directory}/physical_package_id"))?;
        sockets.extend(socket.map(|socket| (cpu, socket.parse().ok())));
    }
    let complete = online.iter().all(|cpu| sockets.contains_key(cpu) && cores.contains_key(cpu));
    let text = if complete { None } else { tree.text_if_there(CPUINFO)? }.unwrap_or_default();
    let mut described = described(&CpuInfo::parse(&text));
    let place = |&cpu: &u32| {
        let other = described.remove(&cpu).unwrap_or_else(|| Place { socket: None, core: vec![cpu] });
        let socket = sockets.remove(&cpu).unwrap_or(other.socket);
        (cpu, Place { socket, core: cores.remove(&cpu).unwrap_or(other.core) })
    };
    Ok(online.iter().map(place).collect())
}

/// The places that `/proc/cpuinfo` names, on x86 and LoongArch.
fn described(info: &CpuInfo<'_>) -> BTreeMap<u32, Place> {
    let mut same_id: BTreeMap<(Option<u32>, u32), Vec<u32>> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for cpu in info.processors() {
        let socket = info.number(cpu, &["physical id", "package"]);
        match info.number(cpu, &["core id", "core"]) {
            Some(core) => same_id.entry((socket, core)).or_default().push(cpu),
            None => drop(places.insert(cpu, Place { socket, core: vec![cpu] })),
        }
    }
    for ((socket, _), mut cpus) in same_id {
        // Core numbers start again in each die, so these may be several cores. The threads of one core have APIC numbers
        // that follow each other.
        cpus.sort_by_key(|&cpu| (info.number(cpu, &["apicid"]), cpu));
        for threads in cpus.chunks(threads_per_core(info, cpus[0]).unwrap_or(cpus.len())) {
            let mut core = threads.to_vec();
            core.sort_unstable();
            places.extend(threads.iter().map(|&cpu| (cpu, Place { socket, core: core.clone() })));
        }
    }
    places
}

/// Number of threads in a core: those of the socket, shared out to its cores.
fn threads_per_core(info: &CpuInfo<'_>, cpu: u32) -> Option<usize> {
    let (threads, cores) = (info.number(cpu, &["siblings"])?, info.number(cpu, &["cpu cores"])?);
    // Rounded up, because some threads may be offline.
    let threads = if cores == 0 { 0 } else { threads.div_ceil(cores) };
    usize::try_from(threads).ok().filter(|threads| *threads > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(text: &str) -> Vec<Vec<u32>> {
        let mut cores: Vec<_> =
            described(&CpuInfo::parse(text)).into_values().map(|place| place.core).collect();
        cores.dedup();
        cores
    }

    #[test]
    fn core_numbers_that_start_again_in_each_die_are_not_threads() {
        let cpu = |number: u32, core: u32, siblings: u32| {
            format!(
                "processor : {number}\nphysical id : 0\nsiblings : {siblings}\ncore id : {core}\ncpu cores : 4\n\
                 apicid : {number}\n\n"
            )
        };
        let dies: String = [0, 1, 0, 1].iter().zip(0..).map(|(&core, number)| cpu(number, core, 4)).collect();
        assert_eq!(cores(&dies), [[0], [1], [2], [3]]);
        // The same with two threads in each core, of which one is offline.
        let threads: String =
            [0, 0, 1, 1, 0, 0, 1].iter().zip(0..).map(|(&core, number)| cpu(number, core, 7)).collect();
        assert_eq!(cores(&threads), [vec![0, 1], vec![2, 3], vec![4, 5], vec![6]]);
    }

    #[test]
    fn a_cpu_without_a_core_number_is_a_core() {
        assert_eq!(
            cores("processor : 0\n\nprocessor : 1\ncpu cores : 0\nsiblings : 2\ncore id : 3\n"),
            [[0], [1]]
        );
    }
}
