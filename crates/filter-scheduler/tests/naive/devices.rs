//! Random NUMA cells and PCI devices of hosts and of requests.

use std::collections::BTreeMap;

use novella_objects::document::{
    InstanceNumaCell, InstanceNumaTopology, MemoryPages, NetworkMetadata, NumaCell, NumaTopology, PciPool,
    PciRequest,
};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

type Rng = ChaCha8Rng;

pub fn topology(rng: &mut Rng) -> NumaTopology {
    let threads = *[1, 2, 2, 4].choose(rng).unwrap();
    NumaTopology { cells: (0..rng.random_range(1..5)).map(|id| cell(rng, id, threads)).collect() }
}

/// A host with eight CPUs.
fn cell(rng: &mut Rng, id: u32, threads: usize) -> NumaCell {
    let cpus: Vec<u32> = (8 * id..8 * id + 8).collect();
    let siblings: Vec<Vec<u32>> = cpus.chunks(threads).map(<[u32]>::to_vec).collect();
    let (cpuset, pcpuset) = match rng.random_range(0..4) {
        0 => (cpus, Vec::new()),
        1 => (Vec::new(), cpus),
        2 => (cpus.clone(), cpus),
        _ => (cpus[4..].to_vec(), cpus[..4].to_vec()),
    };
    let pinned = *[0.0, 0.0, 0.3].choose(rng).unwrap();
    let memory_mb = *[1024, 4096, 8192].choose(rng).unwrap();
    let sizes: &[u64] = [&[4][..], &[4, 2048], &[4, 2048, 1_048_576], &[]].choose(rng).unwrap();
    let pages = |size_kb: &u64| {
        let total = memory_mb * 1024 / size_kb / sizes.len() as u64;
        MemoryPages { size_kb: *size_kb, total, used: total / 8, reserved: total / 16 }
    };
    NumaCell {
        id,
        pinned_cpus: pcpuset.iter().copied().filter(|_| rng.random_bool(pinned)).collect(),
        cpuset,
        pcpuset,
        memory_mb,
        cpu_usage: rng.random_range(0..6),
        memory_usage_mb: *[0, 256, 1024].choose(rng).unwrap(),
        siblings: if rng.random_bool(0.95) { siblings } else { Vec::new() },
        mempages: sizes.iter().map(pages).collect(),
        network_metadata: rng.random_bool(0.4).then(|| network(rng)),
        socket: rng.random_bool(0.9).then_some(id / 2),
    }
}

pub fn network(rng: &mut Rng) -> NetworkMetadata {
    let names = ["physnet0", "physnet1"].into_iter().filter(|_| rng.random_bool(0.4));
    NetworkMetadata { physnets: names.map(str::to_owned).collect(), tunneled: rng.random_bool(0.3) }
}

/// The pools in the order in which devices are given: those with the fewest properties first.
pub fn pools(rng: &mut Rng) -> Vec<PciPool> {
    let pool = |rng: &mut Rng| {
        let mut tags = BTreeMap::new();
        for (key, value) in
            [("physical_network", "PhysNet0"), ("remote_managed", "true"), ("live_migratable", "true")]
        {
            if rng.random_bool(0.2) {
                tags.insert(key.to_owned(), value.into());
            }
        }
        PciPool {
            vendor_id: (*["8086", "10de"].choose(rng).unwrap()).to_owned(),
            product_id: (*["10ca", "1DB4"].choose(rng).unwrap()).to_owned(),
            dev_type: (*["type-PCI", "type-PCI", "type-VF", "type-PF", "vdpa"].choose(rng).unwrap())
                .to_owned(),
            numa_node: *[None, Some(0), Some(1), Some(2)].choose(rng).unwrap(),
            count: *[0, 1, 2, 4, 90].choose(rng).unwrap(),
            tags,
        }
    };
    let mut pools: Vec<_> = (0..rng.random_range(0..4)).map(|_| pool(rng)).collect();
    pools.sort_by_key(|pool| pool.tags.len());
    pools
}

pub fn requests(rng: &mut Rng) -> Vec<PciRequest> {
    let request = |rng: &mut Rng| {
        let spec = |rng: &mut Rng| {
            let mut spec: BTreeMap<String, Value> = BTreeMap::new();
            for (key, chance, values) in [
                ("vendor_id", 0.7, ["8086", "10DE"]),
                ("product_id", 0.3, ["10CA", "1db4"]),
                ("dev_type", 0.2, ["type-PF", "type-VF"]),
                ("physical_network", 0.1, ["physnet0", "other"]),
                ("remote_managed", 0.1, ["True", "false"]),
                ("live_migratable", 0.1, ["true", "false"]),
                ("traits", 0.1, ["CUSTOM_A", "CUSTOM_B"]),
            ] {
                if rng.random_bool(chance) {
                    spec.insert(key.to_owned(), json!(values.choose(rng).unwrap()));
                }
            }
            spec
        };
        let policies = [None, Some("required"), Some("legacy"), Some("preferred"), Some("socket")];
        PciRequest {
            count: rng.random_range(0..3),
            spec: (0..*[1, 1, 1, 2, 0].choose(rng).unwrap()).map(|_| spec(rng)).collect(),
            numa_policy: policies.choose(rng).unwrap().map(str::to_owned),
            alias_name: rng.random_bool(0.5).then(|| "alias".to_owned()),
        }
    };
    (0..rng.random_range(1..3)).map(|_| request(rng)).collect()
}

pub fn guest(rng: &mut Rng) -> InstanceNumaTopology {
    let policy =
        *[None, Some("shared"), Some("dedicated"), Some("dedicated"), Some("mixed")].choose(rng).unwrap();
    let pins = policy.is_some_and(|policy| policy != "shared");
    let threads = *[None, Some("prefer"), Some("isolate"), Some("require")].choose(rng).unwrap();
    let pagesize = *[None, None, Some(-1), Some(-2), Some(-3), Some(2048)].choose(rng).unwrap();
    let each = rng.random_range(0..4);
    let cells = (0..*[1, 1, 2, 3].choose(rng).unwrap()).map(|id| {
        let cpus: Vec<u32> = (each * id..each * id + each).collect();
        let dedicated = |_: &&u32| match policy {
            Some("dedicated") => true,
            Some("mixed") => rng.random_bool(0.5),
            _ => false,
        };
        let pcpuset: Vec<u32> = cpus.iter().filter(dedicated).copied().collect();
        InstanceNumaCell {
            id,
            cpuset: cpus.into_iter().filter(|cpu| !pcpuset.contains(cpu)).collect(),
            pcpuset,
            memory_mb: *[1, 128, 512, 1024].choose(rng).unwrap(),
            pagesize,
            cpu_policy: policy.map(str::to_owned),
            cpu_thread_policy: threads.filter(|_| pins).map(str::to_owned),
        }
    });
    let cells = cells.collect();
    let isolate = pins && rng.random_bool(0.3);
    InstanceNumaTopology { cells, emulator_threads_policy: isolate.then(|| "isolate".to_owned()) }
}
