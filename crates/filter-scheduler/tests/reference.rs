//! Compares the engine with a naive one that follows the rules directly: a list of structs, every filter on every host,
//! every weight computed, full stable sorts. Both must agree on picks, weights to the last bit, alternates, tallies and
//! nearest misses. A failing case prints its seed; `REFERENCE_SEED=n` runs that one alone.
//!
//! One engine and one table answer a series of requests with few shapes, while hosts change in between. So what the
//! engine keeps about shapes is compared with answers computed from scratch.

mod changes;
mod common;
mod naive;

use std::cell::RefCell;
use std::collections::BTreeMap;

use common::{Rng, report, seeds, set};
use naive::policy::{QUERIES_ERROR, QUERIES_NOT, QUERIES_OR, QUERIES_ROOM};
use naive::{Host, Naive, Outcome, devices, explained, pinning};
use novella_filter_scheduler::{
    Aggregate, Failure, FilterKind, FilterScheduler, HostTable, Instance, OnFilterError, Policy, Resources,
    Row, SUSPECT_WEIGHER, SchedulerOptions, Selected, Terms, WeigherKind,
};
use novella_objects::document::{NumaTopology, PciPool};
use novella_objects::{
    AllocationRatios, Flavor, HostStatus, Image, InstanceGroup, Inventory, RequestSpec, Retry,
};
use novella_resources::Devices;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

/// How many cases one run has. Each is a fleet with some requests.
const CASES: u64 = 14_000;

/// How many requests all cases together have at least.
const DECISIONS: u32 = 100_000;

/// The beginnings of the lines of prefilters.
const PLACEMENT: [&str; 28] = [
    "require_tenant_aggregate",
    "map_az_to_placement_aggregate",
    "isolate_aggregates",
    "require_image_type_support",
    "compute_status_filter",
    "transform_image_metadata",
    "packed_virtqueue_filter",
    "ephemeral_encryption_filter",
    "virtio_sound_filter",
    "tpm_secret_security_filter",
    "aggregates:",
    "trait:",
    "trait1:",
    "resources:CUSTOM_GPU",
    "resources:CUSTOM_X",
    "resources:VGPU",
    "resources:PCPU",
    "resources:MEM_ENCRYPTION_CONTEXT",
    "resources:CUSTOM_PMEM_NAMESPACE_4GB",
    "memory encryption by",
    "hw:tpm_version",
    "hw:tpm_model",
    "hw:pci_numa_affinity_policy",
    "os:secure_boot",
    "hw_maxphysaddr_mode",
    "hw_firmware_stateless",
    "hw:cpu_thread_policy",
    "hw_cpu_thread_policy",
];

#[test]
fn the_engine_decides_as_the_rules_do() {
    let mut seen = Seen::new();
    let all_ran = seeds::each("REFERENCE_SEED", CASES, case, |case| {
        case.into_iter().for_each(|(word, times)| *seen.entry(word).or_default() += times);
    });
    if !all_ran {
        return;
    }
    let outcomes = [("one", 3000), ("several", 2000), ("refused", 1000), ("errors", 100)];
    let counts = outcomes.map(|(outcome, _)| seen[outcome]);
    let decisions: u32 = counts.iter().sum();
    let [one, several, refused, errors] = counts;
    println!("{decisions} decisions: {one} one, {several} several, {refused} refused, {errors} errors");
    assert!(decisions >= DECISIONS, "{seen:?}");
    // If the generator no longer reaches an outcome, the test would check nothing.
    for (outcome, least) in outcomes {
        assert!(seen[outcome] > least, "{outcome} {seen:?}");
    }
    let filters = FilterKind::ALL.into_iter().filter(|kind| *kind != FilterKind::AllHosts);
    let weighers = WeigherKind::ALL.map(WeigherKind::name).into_iter().chain([SUSPECT_WEIGHER]);
    for kind in filters.map(FilterKind::name).chain(weighers) {
        assert!(seen.get(kind).is_some_and(|times| *times > 30), "{kind} {seen:?}");
    }
    for word in PLACEMENT {
        let times: u32 = seen.iter().filter(|(name, _)| name.starts_with(word)).map(|(_, n)| n).sum();
        assert!(times > 30, "{word} {seen:?}");
    }
}

/// How many requests had each outcome, and how often each filter, prefilter and weigher told hosts apart.
type Seen = BTreeMap<String, u32>;

fn note(seen: &mut Seen, expected: &Outcome, got: &Selected) {
    let outcome = match expected {
        Outcome::Placed { picks, .. } if picks.len() == 1 => "one",
        Outcome::Placed { .. } => "several",
        Outcome::Failed { .. } => "refused",
        Outcome::Error { .. } => "errors",
    };
    let filters = got.explanation.filters.iter();
    let refusing = filters.filter(|t| t.hosts_out > 0 && t.hosts_out < t.hosts_in).map(|t| &*t.filter);
    let weighers = got.explanation.ranking.iter().take(1).flat_map(|scored| &scored.weighers);
    let telling = weighers.filter(|w| w.range.0 < w.range.1 && w.multiplier != 0.0).map(|w| &*w.weigher);
    for word in refusing.chain(telling).chain([outcome]) {
        *seen.entry(word.to_owned()).or_default() += 1;
    }
}

fn case(seed: u64) -> Seen {
    let mut seen = Seen::new();
    let mut rng = Rng::seed_from_u64(seed);
    let options = options(&mut rng);
    let (mut table, mut hosts) = fleet(&mut rng);
    let aggregates = if rng.random_bool(0.6) { aggregates(&mut rng) } else { Vec::new() };
    table.set_aggregates(aggregates.iter().cloned());
    let mut engine = FilterScheduler::new(options.clone()).expect("generated options are good");
    let mut aggregates = aggregates;
    let shapes: Vec<_> = (0..rng.random_range(1..=3)).map(|_| request(&mut rng, &hosts)).collect();
    for step in 0..rng.random_range(4..=12) {
        for _ in 0..if step == 0 { 0 } else { rng.random_range(0..4) } {
            changes::one(&mut rng, &mut table, &mut hosts, &mut aggregates);
        }
        let request = shapes.choose(&mut rng).expect("there is one").clone();
        let instances = uuids(&mut rng);
        let terms = Terms {
            seed: rng.random(),
            dry_run: rng.random_bool(0.2),
            alternates: rng.random_bool(0.5).then(|| rng.random_range(0..5)),
            unexplained: false,
        };
        let naive = Naive {
            options: &options,
            request: &request,
            instances: &instances,
            terms: &terms,
            aggregates: &aggregates,
            guest: RefCell::default(),
        };
        let before = hosts.clone();
        let expected = naive.select(&mut hosts);
        if !matches!(expected, Outcome::Placed { .. }) || terms.dry_run {
            hosts = before.clone();
        }
        for (host, before) in hosts.iter_mut().zip(&before) {
            host.instances.clone_from(&before.instances); // noted for the request's group only
        }
        if seed.is_multiple_of(20) {
            explained::each_host_as_it_is_decided(&mut engine, &mut table, &request, instances[0]);
        }
        let got = engine.select(&mut table, &request, &instances, &terms);
        note(&mut seen, &expected, &got);
        if got.failure.is_none() {
            explained::winner_is_the_placed(&table, &got);
        }
        compare(&table, &expected, &got, &format!("{request:#?}\n{options:#?}\n{terms:?}"));
        for host in &hosts {
            let row = table.row_of(&host.name).expect("no host vanished");
            let (used, has) = (table.view(row).used(), &host.resources);
            assert_eq!(
                (used.vcpus, used.memory_mb, used.disk_gb),
                (has.vcpus_used, has.memory_mb_used, has.disk_gb_used),
                "{}",
                host.name
            );
            let held =
                table.inventories(row).map(|held| (held.class.to_owned(), (held.inventory, held.used)));
            assert_eq!(held.collect::<BTreeMap<_, _>>(), host.inventories, "{}", host.name);
            let devices = Devices::read(host.numa.as_ref(), &host.pools).expect("generated devices are good");
            let left = table.devices(row).cloned().unwrap_or_default();
            assert_eq!(left, devices, "{}: {request:#?}", host.name);
        }
    }
    seen
}

fn compare(table: &HostTable, expected: &Outcome, got: &Selected, context: &str) {
    let name = |row: &Row| table.host(*row).to_owned();
    let tallies: Vec<_> = got
        .explanation
        .filters
        .iter()
        .map(|tally| {
            let miss =
                tally.nearest_miss.as_ref().map(|miss| (miss.host.clone(), miss.wanted, miss.available));
            (tally.filter.to_string(), tally.hosts_in, tally.hosts_out, miss)
        })
        .collect();
    match expected {
        Outcome::Placed { picks, alternates, tallies: expected, ranking } => {
            assert_eq!(got.failure, None, "{context}");
            let got_picks: Vec<_> = got.picks.iter().map(|p| (name(&p.row), p.weight.to_bits())).collect();
            let picks: Vec<_> = picks.iter().map(|(host, weight)| (host.clone(), weight.to_bits())).collect();
            assert_eq!(got_picks, picks, "{context}");
            assert_eq!(got.alternates.iter().map(name).collect::<Vec<_>>(), *alternates, "{context}");
            assert_eq!(tallies, *expected, "{context}");
            let got_ranking: Vec<_> =
                got.explanation.ranking.iter().map(|s| (s.host.clone(), s.weight)).collect();
            assert_eq!(got_ranking, *ranking, "{context}");
            for scored in got.explanation.ranking.iter().filter(|scored| !scored.weighers.is_empty()) {
                let sum = scored.weighers.iter().fold(0.0, |sum, w| sum + w.multiplier * w.normalised);
                assert_eq!(sum.to_bits(), scored.weight.to_bits(), "shares add up to the weight; {context}");
            }
        }
        Outcome::Failed { placeable, tallies: expected } => {
            assert!(got.picks.is_empty() && got.alternates.is_empty());
            match &got.failure {
                Some(Failure::NoValidHost { placeable: got, .. }) => assert_eq!(got, placeable, "{context}"),
                other => panic!("{other:?} instead of a refusal at {placeable}\n{context}"),
            }
            assert_eq!(tallies, *expected, "{context}");
        }
        Outcome::Error { filter } => match &got.failure {
            Some(Failure::Filter(error)) => assert_eq!(error.filter, *filter, "{context}"),
            other => panic!("{other:?} instead of an error in {filter}\n{context}"),
        },
    }
}

fn options(rng: &mut Rng) -> SchedulerOptions {
    let all = rng.random_bool(0.6);
    let mut enabled_filters = if all { FilterKind::ALL.to_vec() } else { FilterKind::DEFAULT.to_vec() };
    if all && rng.random_bool(0.8) {
        // All filters together would leave few hosts, so some of them run, in random order.
        enabled_filters.shuffle(rng);
        enabled_filters.truncate(rng.random_range(1..8));
    } else if rng.random_bool(0.5) {
        enabled_filters.shuffle(rng);
        enabled_filters.truncate(rng.random_range(0..=enabled_filters.len()));
    }
    for kind in [FilterKind::NumaTopology, FilterKind::PciPassthrough] {
        // Few hosts and requests are affected by these filters.
        if rng.random_bool(0.15) && !enabled_filters.contains(&kind) {
            enabled_filters.insert(0, kind);
        }
    }
    let kinds = if rng.random_bool(0.6) {
        WeigherKind::ALL.to_vec()
    } else {
        vec![WeigherKind::Ram, WeigherKind::Cpu, WeigherKind::Disk]
    };
    let mut weighers: Vec<_> = kinds
        .into_iter()
        .map(|kind| {
            let multiplier: f64 = *[1.0, 1.0, 1.0, 0.0, -1.0, 0.3, 2.5, 1000.0, -1e6].choose(rng).unwrap();
            let positive =
                [WeigherKind::Pci, WeigherKind::SoftAffinity, WeigherKind::SoftAntiAffinity].contains(&kind);
            (kind, if positive { multiplier.abs() } else { multiplier })
        })
        .collect();
    weighers.shuffle(rng);
    if rng.random_bool(0.2) {
        weighers.truncate(rng.random_range(0..=2));
    }
    SchedulerOptions {
        enabled_filters,
        weighers,
        host_subset_size: if rng.random_bool(0.8) { 1 } else { rng.random_range(1..10) },
        shuffle_best_same_weighed_hosts: rng.random_bool(0.15),
        max_attempts: rng.random_range(1..5),
        default_availability_zone: if rng.random_bool(0.5) { "nova" } else { "az1" }.to_owned(),
        on_filter_error: if rng.random_bool(0.5) {
            OnFilterError::FailRequest
        } else {
            OnFilterError::RejectHost
        },
        runners_up: rng.random_range(0..5),
        placement: rng.random_bool(0.9),
        policy: policy(rng),
    }
}

fn policy(rng: &mut Rng) -> Policy {
    let prefilters = rng.random_bool(0.3);
    let some = |rng: &mut Rng, words: &[&str]| -> Vec<String> {
        words.iter().filter(|_| rng.random_bool(0.4)).map(|word| (*word).to_owned()).collect()
    };
    Policy {
        max_io_ops_per_host: rng.random_range(0..9),
        max_instances_per_host: *[1, 5, 50, 1 << 40].choose(rng).unwrap(),
        isolated_hosts: some(rng, &["Host000", "Host003", "Host007", "nobody"]),
        isolated_images: some(rng, &["i1", "i2"]),
        restrict_isolated_hosts_to_isolated_images: rng.random_bool(0.5),
        metrics_weight_setting: some(rng, &["cpu.frequency=0.5", "numa=-2"]),
        metrics_required: false,
        limit_tenants_to_placement_aggregate: prefilters && rng.random_bool(0.4),
        placement_aggregate_required_for_tenants: rng.random_bool(0.3),
        query_placement_for_image_type_support: prefilters && rng.random_bool(0.4),
        enable_isolated_aggregate_filtering: prefilters && rng.random_bool(0.4),
        image_metadata_prefilter: prefilters && rng.random_bool(0.4),
        disable_fallback_pcpu_query: rng.random_bool(0.3),
        ..Policy::default()
    }
}

fn aggregates(rng: &mut Rng) -> Vec<Aggregate> {
    (1..=4)
        .map(|id| {
            let mut metadata = BTreeMap::new();
            let mut set = |rng: &mut Rng, key, chance, values: &[&str]| {
                set(rng, &mut metadata, key, chance, values);
            };
            set(rng, "tier", 0.5, &["a", "b , c", "1", "x,2", ""]);
            set(rng, "rack", 0.3, &["1", "2", "3", "x", "1,x"]);
            set(rng, "max_io_ops_per_host", 0.3, &["3", "100", "-1", "5.0x"]);
            set(rng, "max_instances_per_host", 0.3, &["2", "30", "many"]);
            set(rng, "instance_type", 0.3, &["small", "large, small", "", "tiny"]);
            set(rng, "filter_tenant_id", 0.2, &["p1", "p2, p3"]);
            set(rng, "filter_tenant_id2", 0.1, &["p1"]);
            set(rng, "availability_zone", 0.1, &["az1", "az2", "az1,az2"]);
            set(rng, "trait:CUSTOM_A", 0.2, &["required", "forbidden"]);
            set(rng, "trait:CUSTOM_B", 0.1, &["required"]);
            set(rng, "os_distro", 0.3, &["debian", "fedora,debian", "arch"]);
            set(rng, "hw_architecture", 0.2, &["x86_64", "aarch64,x86_64"]);
            for ratio in ["ram_allocation_ratio", "cpu_allocation_ratio", "disk_allocation_ratio"] {
                set(rng, ratio, 0.3, &["1.5", "0.9", "4", "x", "1"]);
            }
            for kind in WeigherKind::ALL {
                set(rng, kind.multiplier_key(), 0.15, &["2.5", "-0.5", "0", "x", "1", "1e3"]);
            }
            Aggregate { id, name: format!("a{id}"), metadata }
        })
        .collect()
}

/// No device, or more devices than PCIWeigher tells apart, or some number in between.
pub fn many_devices(rng: &mut Rng) -> Vec<PciPool> {
    let count = *[0, 0, 3, 99, 200].choose(rng).unwrap();
    if count == 0 { Vec::new() } else { vec![PciPool { count, ..PciPool::default() }] }
}

/// A random fleet. Its hosts have few distinct sizes, so that ties are common.
fn fleet(rng: &mut Rng) -> (HostTable, Vec<Host>) {
    let mut table = HostTable::new();
    let mut hosts = Vec::new();
    let count = match rng.random_range(0..20) {
        0 => rng.random_range(0..3),
        1..3 => rng.random_range(60..200),
        _ => rng.random_range(1..80),
    };
    let kinds = kinds(rng);
    for at in 0..count {
        let name = format!("Host{at:03}");
        let host = host(rng, name.clone(), at, &kinds);
        // Rows are freed and used again, so that fleet order is not the order of names.
        let row = table.insert(&name, &format!("node-{name}"));
        if rng.random_bool(0.1) {
            table.remove(row);
            continue;
        }
        write(&mut table, row, &host);
        hosts.push((row, host));
    }
    for _ in 0..rng.random_range(0..3) {
        if !hosts.is_empty() {
            let (row, _) = hosts.swap_remove(rng.random_range(0..hosts.len()));
            table.remove(row);
        }
    }
    hosts.sort_by_key(|(row, _)| *row);
    assert_eq!(table.rows().collect::<Vec<_>>(), hosts.iter().map(|(row, _)| *row).collect::<Vec<_>>());
    (table, hosts.into_iter().map(|(_, host)| host).collect())
}

/// The few sizes and ratios that the hosts of a case have, and how busy these are.
struct Kinds {
    sizes: Vec<(u64, u64, u64)>,
    ratios: Vec<AllocationRatios>,
    busy: f64,
    /// NUMA cells and PCI devices of few kinds, because finding room on them takes long.
    devices: Vec<(NumaTopology, Vec<PciPool>)>,
}

fn kinds(rng: &mut Rng) -> Kinds {
    let kinds = rng.random_range(1..6);
    let sizes: Vec<_> = (0..kinds)
        .map(|_| {
            let steps = |rng: &mut Rng, unit: u64| unit * rng.random_range(1..9);
            (steps(rng, 4) * u64::from(rng.random_bool(0.95)), steps(rng, 4096), steps(rng, 50))
        })
        .collect();
    let ratios: Vec<_> = (0..rng.random_range(1..3))
        .map(|_| AllocationRatios {
            cpu: *[4.0, 4.0, 1.1, 16.0, 0.7].choose(rng).unwrap(),
            ram: *[1.0, 1.5, 1.1].choose(rng).unwrap(),
            disk: *[1.0, 1.0, 1.3].choose(rng).unwrap(),
        })
        .collect();
    let busy = rng.random_range(0.0..1.0);
    let devices = if rng.random_bool(0.3) { rng.random_range(1..4) } else { 0 };
    let devices = (0..devices).map(|_| (devices::topology(rng), devices::pools(rng))).collect();
    Kinds { sizes, ratios, busy, devices }
}

fn host(rng: &mut Rng, name: String, at: usize, kinds: &Kinds) -> Host {
    let Kinds { sizes, ratios, busy, devices } = kinds;
    let (vcpus, memory, disk) = *sizes.choose(rng).unwrap();
    let part = |rng: &mut Rng, of: u64, unit: u64| {
        if rng.random_bool(*busy) { unit * rng.random_range(0..=(of / unit) * 5 / 4) } else { 0 }
    };
    let resources = Resources {
        vcpus_total: vcpus,
        vcpus_used: part(rng, vcpus.max(4), 1),
        memory_mb_total: memory,
        memory_mb_used: part(rng, memory, 512),
        disk_gb_total: disk,
        disk_gb_used: part(rng, disk, 10),
        ratios: *ratios.choose(rng).unwrap(),
        num_instances: *[0, 1, 5, 60, 20_000_001].choose(rng).unwrap(),
        num_io_ops: rng.random_range(0..10),
        failed_builds: *[0, 0, 0, 1, 4].choose(rng).unwrap(),
    };
    let up = HostStatus::Up;
    let status =
        *[up, up, up, HostStatus::Suspect, HostStatus::Disabled, HostStatus::Down].choose(rng).unwrap();
    let host = Host {
        zone: [None, Some("az1"), Some("az2")].choose(rng).unwrap().map(str::to_owned),
        arch: [None, Some("x86_64"), Some("aarch64")].choose(rng).unwrap().map(str::to_owned),
        rack: rng.random_bool(0.8).then(|| rng.random_range(0..4)),
        aggregates: (1..=5).filter(|_| rng.random_bool(0.2)).collect(),
        instances: (0..rng.random_range(0..4)).map(|_| Uuid::from_u128(rng.random_range(0..200))).collect(),
        hypervisor_version: *[0, 2, 6_002_000, 8_002_001, 123_456_789].choose(rng).unwrap(),
        pools: many_devices(rng),
        cell: [None, Some("c1"), Some("c2")].choose(rng).unwrap().map(str::to_owned),
        ip: rng.random_bool(0.9).then(|| format!("10.0.{}.{}", rng.random_range(0..3), at)),
        supported: rng.random_bool(0.9).then(|| {
            let arch = *["x86_64", "aarch64"].choose(rng).unwrap();
            vec![[arch, "qemu", "hvm"].map(str::to_owned), [arch, "xen", "exe"].map(str::to_owned)]
        }),
        metrics: [("cpu.frequency", 2000), ("numa", 7)]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value + rng.random_range(0..3)))
            .filter(|(_, value)| value % 5 != 2)
            .collect(),
        traits: traits(rng),
        inventories: inventories(rng),
        ..Host::new(name, resources, status)
    };
    let mut host = with_kinds(rng, host);
    if let Some((numa, pools)) = devices.choose(rng)
        && rng.random_bool(0.9)
    {
        (host.numa, host.pools) = (rng.random_bool(0.9).then(|| numa.clone()), pools.clone());
    }
    host
}

const TRAITS: [&str; 26] = [
    "CUSTOM_A",
    "CUSTOM_B",
    "HW_ARCH_X86_64",
    "HW_ARCH_AARCH64",
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_STATUS_DISABLED",
    "COMPUTE_NET_VIRTIO_PACKED",
    "COMPUTE_EPHEMERAL_ENCRYPTION",
    "COMPUTE_EPHEMERAL_ENCRYPTION_LUKS",
    "COMPUTE_SOUND_MODEL_VIRTIO",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_USER",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_HOST",
    "COMPUTE_SECURITY_TPM_1_2",
    "COMPUTE_SECURITY_TPM_2_0",
    "COMPUTE_SECURITY_TPM_TIS",
    "COMPUTE_SECURITY_TPM_CRB",
    "COMPUTE_SECURITY_UEFI_SECURE_BOOT",
    "COMPUTE_SECURITY_STATELESS_FIRMWARE",
    "COMPUTE_ADDRESS_SPACE_PASSTHROUGH",
    "COMPUTE_ADDRESS_SPACE_EMULATED",
    "COMPUTE_SOCKET_PCI_NUMA_AFFINITY",
    "HW_CPU_X86_AMD_SEV",
    "HW_CPU_X86_AMD_SEV_ES",
    "HW_CPU_X86_AMD_SEV_SNP",
    "HW_CPU_X86_INTEL_TDX",
    "HW_CPU_HYPERTHREADING",
];

/// Random traits of a host: it has most of them, and few hosts are disabled.
fn traits(rng: &mut Rng) -> Vec<String> {
    let has = |name: &&&str| rng.random_bool(if **name == "COMPUTE_STATUS_DISABLED" { 0.02 } else { 0.7 });
    TRAITS.iter().filter(has).map(|&name| name.to_owned()).collect()
}

/// Random inventories: some that amounts fill exactly, and some that limits keep from being filled.
fn inventories(rng: &mut Rng) -> BTreeMap<String, (Option<Inventory>, u64)> {
    let mut all = BTreeMap::new();
    for class in ["CUSTOM_GPU", "CUSTOM_X", "VGPU", "PCPU", "MEM_ENCRYPTION_CONTEXT", PMEM_4GB, PMEM_16GB] {
        if rng.random_bool(0.3) {
            continue;
        }
        let total = rng.random_range(0..12);
        let inventory = Inventory {
            total,
            reserved: *[0, 0, 1, 5].choose(rng).unwrap(),
            min_unit: *[1, 1, 1, 2].choose(rng).unwrap(),
            max_unit: *[total, u64::MAX, 3].choose(rng).unwrap(),
            step_size: *[1, 1, 2, 3, 0].choose(rng).unwrap(),
            allocation_ratio: *[1.0, 1.0, 1.5, 0.35, 3.0].choose(rng).unwrap(),
        };
        all.insert(class.to_owned(), (Some(inventory), rng.random_range(0..5)));
    }
    all
}

/// Random flavors and images of the instances.
fn with_kinds(rng: &mut Rng, mut host: Host) -> Host {
    for _ in &host.instances {
        host.instance_flavors.push((*["small", "large"].choose(rng).unwrap()).to_owned());
        let distro = ("os_distro".to_owned(), (*["debian", "arch"].choose(rng).unwrap()).to_owned());
        let mode = ("hw_vm_mode".to_owned(), "hvm".to_owned());
        host.instance_images.push([distro, mode].into_iter().filter(|_| rng.random_bool(0.7)).collect());
    }
    host
}

fn write(table: &mut HostTable, row: Row, host: &Host) {
    let mut more = format!(r#""hypervisor_version":{},"#, host.hypervisor_version);
    if let Some(ip) = &host.ip {
        more += &format!(r#""host_ip":"{ip}","#);
    }
    if let Some(supported) = &host.supported {
        more += &format!(r#""supported_instances":{},"#, serde_json::json!(supported));
    }
    let metric = |(name, value): (&String, &i64)| serde_json::json!({"name": name, "value": value});
    more += &format!(r#""metrics":{},"#, serde_json::Value::from_iter(host.metrics.iter().map(metric)));
    table.set_traits(row, host.traits.iter().map(String::as_str));
    write_inventories(table, row, host);
    let ids: Vec<u32> = host.aggregates.iter().rev().copied().collect();
    table.set_host_aggregates(row, &ids);
    let devices = Devices::read(host.numa.as_ref(), &host.pools).expect("generated devices are good");
    table.set_devices(row, &devices);
    table.set_cell(row, host.cell.as_deref());
    for ((uuid, flavor), image) in
        host.instances.iter().zip(&host.instance_flavors).zip(&host.instance_images)
    {
        let properties = image.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let image = Image { properties, ..Image::default() };
        let instance = Instance { uuid: *uuid, flavor: Some(flavor), image: Some(&image) };
        table.add_instance(row, &instance).expect("generated images are good");
    }
    table.set_resources(row, &host.resources).expect("generated resources are good");
    table.set_status(row, host.status);
    table.set_zone(row, host.zone.as_deref());
    let arch = host.arch.as_ref().map_or(String::new(), |arch| format!(r#""cpu_info":{{"arch":"{arch}"}},"#));
    let rack = host.rack.map_or(String::new(), |rack| format!(r#""rack":{rack}"#));
    report(table, row, &(arch + &more), &rack);
}

fn write_inventories(table: &mut HostTable, row: Row, host: &Host) {
    let inventory = |(class, (found, used)): (_, &(Option<Inventory>, u64))| {
        (String::as_str(class), found.expect("generated with one"), *used)
    };
    table.set_inventories(row, host.inventories.iter().map(inventory));
}

fn request(rng: &mut Rng, hosts: &[Host]) -> RequestSpec {
    let some = |rng: &mut Rng| match hosts.choose(rng) {
        Some(host) if rng.random_bool(0.9) => host.name.clone(),
        _ => "nobody".to_owned(),
    };
    let mut extra_specs = BTreeMap::new();
    let arch = ["x86_64", "s== aarch64", "<or> x86_64 <or> aarch64", "= 1"];
    set(rng, &mut extra_specs, "capabilities:cpu_info:arch", 0.3, &arch);
    let rack = *["rack", "capabilities:rack", "hw:rack", "vcpus", "update"].choose(rng).unwrap();
    set(rng, &mut extra_specs, rack, 0.3, &[">= 1", "== 2", "3", "<in> 1"]);
    let tier = ["a", "<or> a <or> b", "= 1", "c"];
    set(rng, &mut extra_specs, "aggregate_instance_extra_specs:tier", 0.2, &tier);
    let placement = rng.random_bool(0.4);
    let vcpus = rng.random_range(0..6);
    if placement {
        ask_of_placement(rng, &mut extra_specs, vcpus);
    }
    let change_case = rng.random_bool(0.5);
    let numa_topology = rng.random_bool(0.4).then(|| devices::guest(rng));
    let cased = |name: String| if change_case { name.to_uppercase() } else { name };
    let mut request = RequestSpec {
        flavor: Flavor {
            name: (*["small", "large", "huge"].choose(rng).unwrap()).to_owned(),
            vcpus,
            memory_mb: 512 * rng.random_range(0..10),
            root_gb: 10 * rng.random_range(0..4),
            ephemeral_gb: rng.random_range(0..2) * 5,
            swap: *[0, 0, 512].choose(rng).unwrap(),
            extra_specs,
            ..Flavor::default()
        },
        availability_zone: [None, None, None, Some("az1"), Some("az2"), Some("nova"), Some("az9"), Some("")]
            .choose(rng)
            .unwrap()
            .map(str::to_owned),
        force_hosts: if rng.random_bool(0.1) {
            (0..rng.random_range(1..4)).map(|_| cased(some(rng))).collect()
        } else {
            Vec::new()
        },
        ignore_hosts: if rng.random_bool(0.2) {
            (0..rng.random_range(1..9)).map(|_| cased(some(rng))).collect()
        } else {
            Vec::new()
        },
        target_host: rng.random_bool(0.05).then(|| some(rng)),
        required_aggregates: (0..if placement { rng.random_range(0..12) / 10 } else { 0 })
            .map(|_| vec![1, rng.random_range(2..6)])
            .collect(),
        forbidden_aggregates: (1..5).filter(|_| placement && rng.random_bool(0.05)).collect(),
        is_bfv: rng.random_bool(0.2),
        scheduler_hints: hints(rng),
        project_id: [None, Some("p1"), Some("p3"), Some("p9")].choose(rng).unwrap().map(str::to_owned),
        image: rng.random_bool(0.5).then(|| image(rng, numa_topology.is_some())),
        numa_topology,
        pci_requests: if rng.random_bool(0.4) { devices::requests(rng) } else { Vec::new() },
        network_metadata: rng.random_bool(0.2).then(|| devices::network(rng)),
        instance_group: rng.random_bool(0.4).then(|| group(rng, hosts)),
        retry: rng.random_bool(0.3).then(|| {
            let host = some(rng);
            Retry {
                num_attempts: 1,
                hosts: vec![(host.clone(), format!("node-{host}")), (host, "other".into())],
            }
        }),
        target_cell: [None, Some("c1"), Some("c9")].choose(rng).unwrap().map(str::to_owned),
        allow_cross_cell_move: rng.random_bool(0.5),
        ..RequestSpec::default()
    };
    if placement {
        ask_for_features(rng, &mut request);
    }
    pinning::pin(rng, &mut request);
    request
}

const PMEM_4GB: &str = "CUSTOM_PMEM_NAMESPACE_4GB";
const PMEM_16GB: &str = "CUSTOM_PMEM_NAMESPACE_16GB";

/// Asks for features that stand for traits and classes, without contradictions.
fn ask_for_features(rng: &mut Rng, request: &mut RequestSpec) {
    let specs = &mut request.flavor.extra_specs;
    let models: &[&str] = match specs.get("hw:tpm_version").map(String::as_str) {
        Some("2.0") => &["tpm-tis", "tpm-crb"],
        _ => &["tpm-tis"],
    };
    set(rng, specs, "hw:tpm_model", 0.5, models);
    set(rng, specs, "os:secure_boot", 0.1, &["required", "required", "disabled"]);
    if request.pci_requests.is_empty() {
        set(rng, specs, "hw:pci_numa_affinity_policy", 0.1, &["socket", "socket", "legacy"]);
    }
    if request.numa_topology.is_some() {
        set(rng, specs, "hw:pmem", 0.15, &["4GB", "4GB,16gb", "4GB, 4GB"]);
        set(rng, specs, &format!("resources:{PMEM_4GB}"), 0.05, &["3"]);
    }
    let Some(image) = &mut request.image else { return };
    set(rng, &mut image.properties, "hw_maxphysaddr_mode", 0.1, &["passthrough", "emulate"]);
    set(rng, &mut image.properties, "hw_firmware_type", 0.5, &["uefi", "uefi", "bios"]);
    set(rng, &mut image.properties, "hw_firmware_stateless", 0.1, &["true", "no"]);
    if !rng.random_bool(0.15) {
        return;
    }
    let model = *["amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx"].choose(rng).unwrap();
    image.properties.insert("hw_firmware_type".to_owned(), "uefi".into());
    if ["amd-sev-snp", "intel-tdx"].contains(&model) {
        image.properties.insert("hw_firmware_stateless".to_owned(), "true".into());
        image.properties.insert("hw_video_model".to_owned(), "none".into());
    }
    if rng.random_bool(0.5) {
        specs.insert("hw:mem_encryption".to_owned(), "yes".to_owned());
        specs.insert("hw:mem_encryption_model".to_owned(), model.to_owned());
    } else {
        image.properties.insert("hw_mem_encryption".to_owned(), "true".into());
        image.properties.insert("hw_mem_encryption_model".to_owned(), model.into());
    }
}

/// Asks for random traits and amounts, often several of one kind.
fn ask_of_placement(rng: &mut Rng, specs: &mut BTreeMap<String, String>, vcpus: u32) {
    for word in ["", "", "1", "_x"] {
        let name = *[TRAITS[0], TRAITS[1], "CUSTOM_NOBODY"].choose(rng).unwrap();
        set(rng, specs, &format!("trait{word}:{name}"), 0.15, &["required", "forbidden", "maybe"]);
        let class = *["CUSTOM_GPU", "CUSTOM_GPU", "CUSTOM_X", "VGPU", "GPU"].choose(rng).unwrap();
        let amounts = ["0", "1", "2", "3", "4", "-1", "99999999999"];
        set(rng, specs, &format!("resources{word}:{class}"), 0.15, &amounts);
        let class = *["VCPU", "MEMORY_MB", "DISK_GB"].choose(rng).unwrap();
        set(rng, specs, &format!("resources{word}:{class}"), 0.04, &["0", "1", "3", "100"]);
    }
    // Either all CPUs are pinned or none, and not beside shared ones, because Nova refuses other requests.
    if !specs.keys().any(|key| key.ends_with(":VCPU")) {
        let word = *["", "", "1"].choose(rng).unwrap();
        let amount = if rng.random_bool(0.8) { vcpus } else { 0 };
        set(rng, specs, &format!("resources{word}:PCPU"), 0.2, &[&amount.to_string()]);
    }
    set(rng, specs, "hw:virtio_packed_ring", 0.15, &["true", "no"]);
    set(rng, specs, "hw:tpm_version", 0.15, &["1.2", "2.0"]);
    set(rng, specs, "hw:tpm_secret_security", 0.15, &["user", "host", "host", "", "vault"]);
    set(rng, specs, "group_policy", 0.3, &["none", "none", "isolate"]);
}

fn uuids(rng: &mut Rng) -> Vec<Uuid> {
    let instances = match rng.random_range(0..10) {
        0 => rng.random_range(2..30),
        1..4 => rng.random_range(2..5),
        _ => 1,
    };
    (0..instances).map(Uuid::from_u128).collect()
}

fn hints(rng: &mut Rng) -> BTreeMap<String, serde_json::Value> {
    let mut hints = BTreeMap::new();
    let uuids = |rng: &mut Rng| {
        let uuids: Vec<_> =
            (0..rng.random_range(0..9)).map(|_| Uuid::from_u128(rng.random_range(0..200))).collect();
        serde_json::json!(uuids)
    };
    for name in ["same_host", "different_host"] {
        if rng.random_bool(0.2) {
            hints.insert(name.to_owned(), uuids(rng));
        }
    }
    set(rng, &mut hints, "_nova_check_type", 0.1, &["live"]);
    set(rng, &mut hints, "query", 0.3, &[QUERIES_ROOM, QUERIES_NOT, QUERIES_OR, QUERIES_ERROR]);
    set(rng, &mut hints, "build_near_host_ip", 0.2, &["10.0.0.1", "10.0.1.1", "10.0.2.1"]);
    hints
}

fn image(rng: &mut Rng, cells: bool) -> Image {
    let mut properties = BTreeMap::new();
    let mut set = |rng: &mut Rng, name, values: &[&str]| set(rng, &mut properties, name, 0.4, values);
    set(rng, "hw_architecture", &["x86_64", "aarch64"]);
    set(rng, "hw_vm_mode", &["hvm", "exe", "xen"]);
    set(rng, "img_hv_type", &["qemu", "xen"]);
    set(rng, "os_distro", &["debian", "arch"]);
    set(rng, "trait:CUSTOM_A", &["required", "no", "no"]);
    set(rng, "hw_sound_model", &["virtio", "usb", "usb"]);
    set(rng, "hw_ephemeral_encryption", &["yes", "no", "no"]);
    set(rng, "hw_ephemeral_encryption_format", &["luks"]);
    if cells {
        set(rng, "hw_cpu_policy", &["dedicated"]);
        set(rng, "hw_cpu_thread_policy", &["require", "prefer"]);
    }
    Image {
        id: [None, Some("i1"), Some("i9")].choose(rng).unwrap().map(str::to_owned),
        properties,
        disk_format: [None, Some("qcow2"), Some("floppy")].choose(rng).unwrap().map(str::to_owned),
    }
}

fn group(rng: &mut Rng, hosts: &[Host]) -> InstanceGroup {
    let policies = ["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity", "legacy"];
    let members = rng.random_range(0..60);
    let most = rng.random_bool(0.4).then(|| rng.random_range(0..5).to_string());
    InstanceGroup {
        name: String::new(),
        policy: (*policies.choose(rng).unwrap()).to_owned(),
        members: (0..members).map(|_| Uuid::from_u128(rng.random_range(0..200))).collect(),
        hosts: if rng.random_bool(0.5) {
            hosts.iter().filter(|_| rng.random_bool(0.3)).map(|host| host.name.clone()).collect()
        } else {
            Vec::new()
        },
        rules: most.map(|most| ("max_server_per_host".to_owned(), most)).into_iter().collect(),
    }
}
