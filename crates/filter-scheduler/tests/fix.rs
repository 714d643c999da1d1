//! Checks suggested fixes. Each, applied from outside, makes the request fit. If it changes one amount, no smaller
//! change does. A single amount that would be enough is found. The search leaves the table as it was. A failing case
//! prints its seed; `FIX_SEED=n` runs that one alone.

mod common;

use std::collections::BTreeMap;

use common::{Rng, add, scheduler, seeds, set, uuids};
use novella_filter_scheduler::{
    Aggregate, COMPUTE_STATUS_DISABLED, FilterKind, FilterScheduler, HostTable, Instance, MAX_TRIALS, Policy,
    Resources, SchedulerOptions, Terms, change_request, near_misses, search_fixes, try_changes,
};
use novella_objects::{
    AllocationRatios, Change, Fixes, Flavor, HostStatus, InstanceGroup, Inventory, Part, Quantity,
    RequestSpec,
};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

const CASES: u64 = 1500;

/// One host as the test keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Host {
    name: String,
    resources: Resources,
    status: HostStatus,
    zone: Option<&'static str>,
    arch: &'static str,
    aggregates: Vec<u32>,
    /// The inventory of `CUSTOM_GPU` that it reports, and how much is used.
    gpus: Option<(Inventory, u64)>,
    traits: &'static [&'static str],
    /// How many members of the server group were on it before.
    member: Option<Uuid>,
}

#[test]
fn every_suggestion_works_and_no_smaller_amount_does() {
    let kinds = [
        "ask MemoryMb",
        "ask Vcpus",
        "ask DiskGb",
        "ask Instances",
        "drop",
        "free",
        "raise",
        "enable",
        "pair",
        "ask CUSTOM_GPU",
        "free CUSTOM_GPU",
        "raise CUSTOM_GPU",
        "set ram_allocation_ratio",
        "set max_instances_per_host",
        "group limit",
    ];
    seeds::reaching("FIX_SEED", CASES, case, &kinds, 15);
}

fn case(seed: u64) -> Vec<String> {
    let mut rng = Rng::seed_from_u64(seed);
    let hosts = fleet(&mut rng);
    let aggregates = aggregates(&mut rng);
    let mut engine = scheduler(options(&mut rng));
    let (spec, instances) = request(&mut rng);
    let mut table = table(&hosts, &aggregates);
    let Some(misses) = near_misses(&mut engine, &mut table, &spec, &instances).unwrap() else {
        return Vec::new();
    };
    let found = search_fixes(&spec, instances.len(), &misses, |changes| {
        try_changes(&mut engine, &mut table, &spec, &instances, changes)
    });
    for (host, row) in hosts.iter().zip(table.rows()) {
        let view = table.view(row);
        assert_eq!((*view.reported(), view.status()), (host.resources, host.status), "as it was");
        assert_eq!(view.consumed(), Default::default());
        let held = table.inventories(row).next().and_then(|held| Some((held.inventory?, held.used)));
        assert_eq!(held, host.gpus, "as it was");
    }
    assert_eq!(found.cut.is_some(), found.trials == MAX_TRIALS, "{found:#?}");
    let context = || format!("{spec:#?}\n{found:#?}\n{hosts:#?}");
    let mut place = |changes: &[Change]| placed(&mut engine, &hosts, &aggregates, &spec, &instances, changes);
    assert_eq!(place(&[]), None, "{}", context());
    let mut kinds = Vec::new();
    for fix in &found.fixes {
        assert_eq!(place(&fix.changes).as_ref(), Some(&fix.host), "{fix:?}\n{}", context());
        for smaller in smaller(&mut rng, fix.changes.last().unwrap()) {
            let mut changes = fix.changes.clone();
            *changes.last_mut().unwrap() = smaller;
            assert_eq!(place(&changes), None, "{changes:?} is smaller than {fix:?}\n{}", context());
        }
        kinds.extend(fix.changes.iter().map(kind));
        if fix.changes.len() == 2 {
            kinds.push("pair".to_owned());
            for change in &fix.changes {
                let alone = place(std::slice::from_ref(change));
                assert_eq!(alone, None, "{change:?} is enough alone\n{}", context());
            }
        }
    }
    let sizes: Vec<_> = found.fixes.iter().map(|fix| (fix.changes.len(), fix.size)).collect();
    assert!(sizes.is_sorted(), "{sizes:?}");
    if found.cut.is_none() {
        complete(&found, &spec, instances.len(), &mut place, &context);
    }
    kinds
}

/// Every single change that would be enough is found.
fn complete(
    found: &Fixes,
    spec: &RequestSpec,
    instances: usize,
    place: &mut impl FnMut(&[Change]) -> Option<String>,
    context: &impl Fn() -> String,
) {
    let told = |change: &dyn Fn(&Change) -> bool| {
        found.fixes.iter().any(|fix| fix.changes.len() == 1 && change(&fix.changes[0]))
    };
    for (amount, from, least) in [
        (Quantity::MemoryMb, spec.flavor.memory_mb, 1),
        (Quantity::Vcpus, spec.flavor.vcpus.into(), 1),
        (Quantity::DiskGb, spec.flavor.disk_gb(), 0),
        (Quantity::Instances, instances as u64, 1),
        (Quantity::Class("CUSTOM_GPU".to_owned()), gpus_of(spec), 1),
    ] {
        let least = Change::Ask { amount: amount.clone(), from, to: least };
        let Change::Ask { to, .. } = least else { unreachable!() };
        let helps = from > to && place(&[least]).is_some();
        let told = told(&|change| matches!(change, Change::Ask { amount: other, .. } if *other == amount));
        assert_eq!(told, helps, "less {amount:?}\n{}", context());
    }
    let mut parts = Vec::new();
    parts.extend(spec.availability_zone.clone().map(Part::AvailabilityZone));
    parts.extend(spec.flavor.extra_specs.keys().cloned().map(Part::ExtraSpec));
    parts.extend(spec.instance_group.iter().map(|group| Part::ServerGroup(group.policy.clone())));
    for part in parts {
        let change = Change::Drop { part };
        let helps = place(std::slice::from_ref(&change)).is_some();
        assert_eq!(told(&|other| *other == change), helps, "{change:?}\n{}", context());
    }
}

fn kind(change: &Change) -> String {
    match change {
        Change::Ask { amount: Quantity::Class(class), .. } => format!("ask {class}"),
        Change::Free { amount: Quantity::Class(class), .. } => format!("free {class}"),
        Change::RaiseRatio { amount: Quantity::Class(class), .. } => format!("raise {class}"),
        Change::SetMetadata { key, .. } => format!("set {key}"),
        Change::RaiseGroupLimit { .. } => "group limit".to_owned(),
        Change::Ask { amount, .. } => format!("ask {amount:?}"),
        Change::Drop { .. } => "drop".to_owned(),
        Change::Free { .. } => "free".to_owned(),
        Change::RaiseRatio { .. } => "raise".to_owned(),
        Change::Enable { .. } => "enable".to_owned(),
    }
}

/// The next smaller amount, and a random smaller one.
fn smaller(rng: &mut Rng, change: &Change) -> Vec<Change> {
    match change {
        Change::Ask { amount, from, to } => [to + 1, rng.random_range(to + 1..=*from)]
            .map(|to| Change::Ask { amount: amount.clone(), from: *from, to })
            .to_vec(),
        Change::Free { host, amount, by } => [by - 1, rng.random_range(0..*by)]
            .map(|by| Change::Free { host: host.clone(), amount: amount.clone(), by })
            .to_vec(),
        Change::RaiseRatio { host, amount, from, to } => {
            let hundredth = (to * 100.0).round() - 1.0;
            vec![Change::RaiseRatio {
                host: host.clone(),
                amount: amount.clone(),
                from: *from,
                to: hundredth / 100.0,
            }]
        }
        Change::SetMetadata { aggregate, id, key, from, to } => {
            let step = if key.starts_with("max_") { 1.0 } else { 0.01 };
            let to = ((to.parse::<f64>().unwrap() - step) * 100.0).round() / 100.0;
            let (aggregate, key, from) = (aggregate.clone(), key.clone(), from.clone());
            vec![Change::SetMetadata { aggregate, id: *id, key, from, to: to.to_string() }]
        }
        Change::RaiseGroupLimit { from, to } => {
            vec![Change::RaiseGroupLimit { from: *from, to: to - 1 }]
        }
        Change::Drop { .. } | Change::Enable { .. } => Vec::new(),
    }
}

/// The host that the request gets on a new fleet with these changes.
fn placed(
    engine: &mut FilterScheduler,
    hosts: &[Host],
    aggregates: &[Aggregate],
    spec: &RequestSpec,
    mut instances: &[Uuid],
    changes: &[Change],
) -> Option<String> {
    let (mut hosts, mut spec, mut aggregates) = (hosts.to_vec(), spec.clone(), aggregates.to_vec());
    for change in changes {
        match change {
            Change::Free { host, amount: Quantity::Class(_), by } => {
                of(&mut hosts, host).gpus.as_mut().expect("it has some").1 -= by;
            }
            Change::RaiseRatio { host, amount: Quantity::Class(_), to, .. } => {
                of(&mut hosts, host).gpus.as_mut().expect("it has some").0.allocation_ratio = *to;
            }
            Change::SetMetadata { id, key, from, to, .. } => {
                let aggregate = aggregates.iter_mut().find(|aggregate| aggregate.id == *id).unwrap();
                assert_eq!(aggregate.metadata.insert(key.clone(), to.clone()).as_ref(), Some(from));
            }
            Change::Free { host, amount, by } => {
                let resources = &mut of(&mut hosts, host).resources;
                match amount {
                    Quantity::Vcpus => resources.vcpus_used -= by,
                    Quantity::MemoryMb => resources.memory_mb_used -= by,
                    Quantity::DiskGb => resources.disk_gb_used -= by,
                    Quantity::Instances => resources.num_instances -= *by as u32,
                    Quantity::Class(_) => unreachable!(),
                }
            }
            Change::RaiseRatio { host, amount, to, .. } => {
                let ratios = &mut of(&mut hosts, host).resources.ratios;
                match amount {
                    Quantity::Vcpus => ratios.cpu = *to,
                    Quantity::MemoryMb => ratios.ram = *to,
                    Quantity::DiskGb => ratios.disk = *to,
                    Quantity::Instances | Quantity::Class(_) => panic!("instances have no ratio"),
                }
            }
            Change::Enable { host, .. } => of(&mut hosts, host).status = HostStatus::Up,
            of_request => change_request(&mut spec, &mut instances, of_request),
        }
    }
    let mut table = table(&hosts, &aggregates);
    let selected = engine.select(&mut table, &spec, instances, &Terms::default());
    selected.picks.first().map(|pick| table.host(pick.row).to_owned())
}

fn of<'h>(hosts: &'h mut [Host], name: &str) -> &'h mut Host {
    hosts.iter_mut().find(|host| host.name == name).expect("a host of the fleet")
}

fn table(hosts: &[Host], aggregates: &[Aggregate]) -> HostTable {
    let mut table = HostTable::new();
    table.set_aggregates(aggregates.iter().cloned());
    for host in hosts {
        let row = table.insert(&host.name, &host.name);
        table.set_resources(row, &host.resources).expect("resources that a row holds");
        table.set_status(row, host.status);
        table.set_zone(row, host.zone);
        table.set_host_aggregates(row, &host.aggregates);
        let report = format!(r#"{{"cpu_info":{{"arch":"{}"}}}}"#, host.arch);
        table.set_capabilities(row, &serde_json::from_str(&report).unwrap());
        let gpus = host.gpus.map(|(inventory, used)| ("CUSTOM_GPU", inventory, used));
        table.set_inventories(row, gpus.into_iter());
        table.set_traits(row, host.traits.iter().copied());
        if let Some(uuid) = host.member {
            table.add_instance(row, &Instance { uuid, flavor: None, image: None }).unwrap();
        }
    }
    table
}

fn fleet(rng: &mut Rng) -> Vec<Host> {
    let full = rng.random_range(0.3..1.0);
    (0..rng.random_range(1..25))
        .map(|at| {
            let mut used =
                |of: u64| if rng.random_bool(full) { rng.random_range(of / 2..=of) } else { of / 4 };
            let resources = Resources {
                vcpus_total: 16,
                vcpus_used: used(30),
                memory_mb_total: 16_384,
                memory_mb_used: used(16_384),
                disk_gb_total: 200,
                disk_gb_used: used(210),
                ratios: AllocationRatios { cpu: 2.0, ..AllocationRatios::default() },
                num_instances: rng.random_range(0..9),
                ..Resources::default()
            };
            Host {
                name: format!("h{at}"),
                resources,
                status: *[
                    HostStatus::Up,
                    HostStatus::Up,
                    HostStatus::Up,
                    HostStatus::Disabled,
                    HostStatus::Down,
                ]
                .choose(rng)
                .unwrap(),
                zone: *[None, Some("az1"), Some("az2")].choose(rng).unwrap(),
                arch: if rng.random_bool(0.7) { "x86_64" } else { "aarch64" },
                aggregates: (1..3).filter(|_| rng.random_bool(0.3)).collect(),
                gpus: rng.random_bool(0.5).then(|| gpus(rng)),
                traits: if rng.random_bool(0.6) { &["CUSTOM_FAST"] } else { &[] },
                member: rng.random_bool(0.3).then(|| Uuid::from_u128(1000 + at)),
            }
        })
        .collect()
}

fn gpus(rng: &mut Rng) -> (Inventory, u64) {
    let total = rng.random_range(1..6);
    let inventory = Inventory {
        total,
        reserved: rng.random_range(0..2),
        max_unit: *[2, 4, u64::MAX].choose(rng).unwrap(),
        allocation_ratio: *[1.0, 1.5].choose(rng).unwrap(),
        ..Inventory::default()
    };
    (inventory, rng.random_range(0..=total))
}

/// How many GPUs the flavor asks for.
fn gpus_of(spec: &RequestSpec) -> u64 {
    spec.flavor.extra_specs.get("resources:CUSTOM_GPU").map_or(0, |text| text.parse().unwrap())
}

fn aggregates(rng: &mut Rng) -> Vec<Aggregate> {
    let metadata = |rng: &mut Rng| {
        let mut metadata = BTreeMap::new();
        for key in ["ram_allocation_ratio", "max_instances_per_host", "tier"] {
            set(rng, &mut metadata, key, 0.5, &["1", "2", "3", "4"]);
        }
        metadata
    };
    (1..3).map(|id| Aggregate { id, name: format!("a{id}"), metadata: metadata(rng) }).collect()
}

fn options(rng: &mut Rng) -> SchedulerOptions {
    let mut enabled_filters = FilterKind::DEFAULT.to_vec();
    let further = [
        FilterKind::ServerGroupAntiAffinity,
        FilterKind::NumInstances,
        FilterKind::AggregateNumInstances,
        FilterKind::AggregateRam,
        FilterKind::AggregateInstanceExtraSpecs,
    ];
    enabled_filters.extend(further.into_iter().filter(|_| rng.random_bool(0.4)));
    if enabled_filters.contains(&FilterKind::AggregateRam) {
        enabled_filters.retain(|kind| *kind != FilterKind::Ram); // else it refuses too
    }
    if rng.random_bool(0.3) {
        enabled_filters.shuffle(rng);
    }
    let policy = Policy { max_instances_per_host: rng.random_range(3..30), ..Policy::default() };
    SchedulerOptions { enabled_filters, policy, ..SchedulerOptions::default() }
}

fn request(rng: &mut Rng) -> (RequestSpec, Vec<Uuid>) {
    let instances = if rng.random_bool(0.6) { 1 } else { rng.random_range(2..12) };
    let uuids: Vec<_> = (0..instances).map(Uuid::from_u128).collect();
    let mut extra_specs = BTreeMap::new();
    set(rng, &mut extra_specs, "capabilities:cpu_info:arch", 0.3, &["aarch64"]);
    set(rng, &mut extra_specs, "aggregate_instance_extra_specs:tier", 0.1, &["2"]);
    set(rng, &mut extra_specs, "resources:CUSTOM_GPU", 0.4, &["1", "2", "3", "4", "5"]);
    set(rng, &mut extra_specs, "trait:CUSTOM_FAST", 0.1, &["required", "forbidden"]);
    let spec = RequestSpec {
        flavor: Flavor {
            vcpus: rng.random_range(1..20),
            memory_mb: rng.random_range(1..20) * 1000,
            root_gb: rng.random_range(0..150),
            ephemeral_gb: *[0, 0, 20].choose(rng).unwrap(),
            swap: *[0, 0, 1500].choose(rng).unwrap(),
            extra_specs,
            ..Flavor::default()
        },
        availability_zone: rng.random_bool(0.4).then(|| "az1".to_owned()),
        instance_group: rng.random_bool(0.35).then(|| InstanceGroup {
            policy: "anti-affinity".to_owned(),
            members: (1000..1025).map(Uuid::from_u128).chain(uuids.iter().copied()).collect(),
            ..InstanceGroup::default()
        }),
        ..RequestSpec::default()
    };
    (spec, uuids)
}

/// ComputeFilter and the trait of disabled hosts say the same. A forced request is refused by the trait alone.
#[test]
fn a_disabled_host_is_enabled_by_one_change() {
    let mut table = HostTable::new();
    let resources = Resources {
        vcpus_total: 8,
        memory_mb_total: 4096,
        memory_mb_used: 3584,
        disk_gb_total: 100,
        ..Resources::default()
    };
    let row = add(&mut table, "h1", "h1", &resources);
    table.set_status(row, HostStatus::Disabled);
    table.set_traits(row, ["CUSTOM_A", COMPUTE_STATUS_DISABLED].into_iter());
    let mut engine = scheduler(SchedulerOptions::default());
    let mut fixes = |spec: &RequestSpec| {
        let misses = near_misses(&mut engine, &mut table, spec, &uuids(1)).unwrap().expect("it is refused");
        let found = search_fixes(spec, 1, &misses, |changes| {
            try_changes(&mut engine, &mut table, spec, &uuids(1), changes)
        });
        assert_eq!(table.traits(row).collect::<Vec<_>>(), ["CUSTOM_A", COMPUTE_STATUS_DISABLED], "as it was");
        found.fixes.into_iter().map(|fix| fix.changes).collect::<Vec<_>>()
    };
    let enable = Change::Enable { host: "h1".to_owned(), state: HostStatus::Disabled };
    let forced = |spec| RequestSpec { force_hosts: vec!["h1".to_owned()], ..spec };
    let plain = || common::request(1, &[]);
    let small = || RequestSpec { flavor: Flavor { memory_mb: 512, ..plain().flavor }, ..plain() };
    assert_eq!(fixes(&small()), [[enable.clone()]]);
    assert_eq!(fixes(&forced(small())), [[enable.clone()]]);
    for larger in [plain(), forced(plain())] {
        let found = fixes(&larger);
        assert!(found.iter().any(|changes| changes.len() == 2 && changes.contains(&enable)), "{found:?}");
    }
}
