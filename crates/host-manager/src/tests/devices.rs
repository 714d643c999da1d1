//! NUMA cells and PCI devices of reports: reservations and claims take them, they are given back, and peers learn of
//! them.

use std::collections::BTreeSet;

use novella_filter_scheduler::{FilterKind, FilterScheduler, SchedulerOptions};
use novella_objects::document::{NumaCell, NumaTopology, PciPool, PciRequest};
use novella_objects::{CellUsage, Image};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::report::outcome::Fault;
use crate::tests::*;

fn json(value: &impl serde::Serialize) -> Option<Json<'static>> {
    Some(Json::of(value).unwrap())
}

/// Two cells with four dedicated CPUs each, in cores of two; the first cell has two shared CPUs.
fn topology() -> NumaTopology {
    let cell = |id: u32| NumaCell {
        id,
        cpuset: if id == 0 { vec![8, 9] } else { Vec::new() },
        pcpuset: (4 * id..4 * id + 4).collect(),
        memory_mb: 8192,
        siblings: vec![vec![4 * id, 4 * id + 1], vec![4 * id + 2, 4 * id + 3]],
        ..NumaCell::default()
    };
    NumaTopology { cells: vec![cell(0), cell(1)] }
}

fn pool(count: u32) -> PciPool {
    PciPool {
        vendor_id: "8086".into(),
        product_id: "1572".into(),
        dev_type: "type-VF".into(),
        count,
        ..PciPool::default()
    }
}

fn report(n: u128) -> Report {
    Report { numa_topology: json(&topology()), pci_pools: json(&[pool(3)]), ..Report::of(n) }
}

fn engine() -> FilterScheduler {
    let mut options = SchedulerOptions::default();
    options.enabled_filters.extend([FilterKind::NumaTopology, FilterKind::PciPassthrough]);
    FilterScheduler::new(options).unwrap()
}

/// A flavor with CPUs of its own and devices; without either, it has shared CPUs.
fn asking(uuid: u128, pinned: u32, devices: u32) -> SelectDestinations {
    let mut asked = request([uuid], Amounts { vcpus: u64::from(pinned.max(1)), ..SMALL });
    let spec = &mut asked.request_spec.spec;
    if pinned > 0 {
        spec.flavor.extra_specs.insert("hw:cpu_policy".into(), "dedicated".into());
    }
    spec.image = Some(Image::default());
    if devices > 0 {
        let kind = [("vendor_id".to_owned(), "8086".into()), ("product_id".to_owned(), "1572".into())];
        let spec_of = vec![kind.into_iter().collect()];
        spec.pci_requests = vec![PciRequest { count: devices, spec: spec_of, ..PciRequest::default() }];
    }
    asked
}

fn choose(m: &mut HostManager, engine: &mut FilterScheduler, asked: &SelectDestinations, t: u64) -> Decision {
    let decision_id = format!("{}-{t}-{}", m.map.scheduler, asked.request_spec.instance_uuids[0]);
    select(m, engine, asked, decision_id, s(t)).unwrap()
}

/// The claim with which a host confirms what was reserved.
fn confirmed(reserve: &Reserve) -> Claim<'static> {
    let entry = &reserve.entries[0];
    Claim {
        uuid: entry.uuid,
        vcpus: entry.vcpus,
        memory_mb: entry.memory_mb,
        disk_gb: entry.disk_gb,
        numa_topology: if entry.numa_topology.is_empty() { None } else { json(&entry.numa_topology) },
        pci: if entry.pci.is_empty() { None } else { json(&entry.pci) },
        ..Claim::default()
    }
}

fn pinned(m: &HostManager, host: &str) -> BTreeSet<u32> {
    let shown = m.detail(host, s(0)).unwrap().numa_topology.unwrap();
    shown.cells.into_iter().flat_map(|cell| cell.pinned_cpus).collect()
}

fn free_devices(m: &HostManager, host: &str) -> u32 {
    m.detail(host, s(0)).unwrap().pci_pools.iter().map(|pool| pool.free).sum()
}

#[test]
fn cells_are_given_until_none_is_left_and_come_back_exactly() {
    let (mut m, mut h, mut engine) = (manager(), report(1), engine());
    assert_eq!(h.send(&mut m, s(0)), Applied::New);
    let row = m.table().row_of("h1").unwrap();
    let untouched = m.table().devices(row).cloned();
    let mut told = Vec::new();
    for uuid in 1..=4 {
        let decision = choose(&mut m, &mut engine, &asking(uuid, 2, 0), 1);
        assert_eq!(decision.refusal, None, "instance {uuid}");
        told.push(m.to_reserve(&decision, s(1)).unwrap());
    }
    assert_eq!(pinned(&m, "h1"), (0..8).collect());
    let refused = choose(&mut m, &mut engine, &asking(5, 2, 0), 1);
    let by: Vec<_> = refused.explanation.filters.iter().filter(|f| f.hosts_out < f.hosts_in).collect();
    assert_eq!((by.len(), &*by[0].filter), (1, "NUMATopologyFilter"), "{refused:?}");

    // A report that was made before the claims gives nothing back. A report that lists a claim twice takes nothing
    // twice.
    h.send(&mut m, s(2));
    assert_eq!(pinned(&m, "h1").len(), 8);
    h.claims = told[..2].iter().map(confirmed).collect();
    assert_eq!(h.send(&mut m, s(3)), Applied::Updated { gap: 0, settled: 2 });
    assert_eq!(pinned(&m, "h1").len(), 8);
    m.expire(s(40));
    assert_eq!(pinned(&m, "h1").len(), 4, "the other two were never confirmed");
    h.claims.remove(0);
    h.send(&mut m, s(41));
    assert_eq!(pinned(&m, "h1").len(), 2);
    h.claims.clear();
    h.send(&mut m, s(42));
    assert_eq!(m.table().devices(row).cloned(), untouched);
    assert_eq!(choose(&mut m, &mut engine, &asking(6, 4, 0), 43).refusal, None);
}

#[test]
fn devices_are_given_until_none_is_left_and_come_back_exactly() {
    let (mut m, mut h, mut engine) = (manager(), report(1), engine());
    h.send(&mut m, s(0));
    let first = choose(&mut m, &mut engine, &asking(1, 0, 2), 1);
    let told = m.to_reserve(&first, s(1)).unwrap();
    assert_eq!(told.entries[0].pci, [pool(2)]);
    let refused = choose(&mut m, &mut engine, &asking(2, 0, 2), 1);
    let by: Vec<_> = refused.explanation.filters.iter().filter(|f| f.hosts_out < f.hosts_in).collect();
    assert_eq!((by.len(), &*by[0].filter), (1, "PciPassthroughFilter"), "{refused:?}");
    h.claims = vec![confirmed(&told)];
    h.send(&mut m, s(2));
    assert_eq!(free_devices(&m, "h1"), 1);
    assert_eq!(choose(&mut m, &mut engine, &asking(3, 0, 1), 2).refusal, None);
    assert_eq!(free_devices(&m, "h1"), 0);
    m.release("s1-2-00000000-0000-0000-0000-000000000003", &[], None).unwrap().unwrap();
    h.claims.clear();
    h.send(&mut m, s(3));
    assert_eq!(free_devices(&m, "h1"), 3);
    // There are fewer devices than before; the new ones replace the old ones.
    h.pci_pools = json(&[pool(1)]);
    h.send(&mut m, s(4));
    assert_eq!(free_devices(&m, "h1"), 1);
}

#[test]
fn a_reservation_goes_along_with_the_name_of_its_host() {
    let (mut m, mut engine) = (manager(), engine());
    let mut old = report(1);
    old.send(&mut m, s(0));
    let decision = choose(&mut m, &mut engine, &asking(1, 2, 1), 1);
    assert_eq!(decision.refusal, None);
    let before = (pinned(&m, "h1"), free_devices(&m, "h1"));
    // A known machine with another name takes over the name of the silent one.
    let mut new = Report { host: "h2".into(), ..report(2) };
    new.send(&mut m, s(1));
    m.release("nothing", &[], None).unwrap();
    let mut long = asking(2, 2, 1);
    long.hold_s = Some(1000);
    long.request_spec.spec.force_hosts = vec!["h1".into()];
    assert_eq!(choose(&mut m, &mut engine, &long, 2).refusal, None);
    m.expire(s(100));
    new.host = "h1".into();
    assert!(matches!(new.send(&mut m, s(101)), Applied::Renamed { .. }));
    assert_eq!((pinned(&m, "h1").len(), free_devices(&m, "h1")), (before.0.len(), before.1));
}

#[test]
fn a_bad_part_is_named_and_changes_nothing() {
    let (mut m, mut h, mut engine) = (manager(), report(1), engine());
    h.send(&mut m, s(0));
    choose(&mut m, &mut engine, &asking(1, 2, 1), 1);
    let row = m.table().row_of("h1").unwrap();
    let before = m.table().devices(row).cloned();
    let twice = NumaTopology { cells: vec![NumaCell::default(), NumaCell::default()] };
    let many = NumaTopology { cells: (0..129).map(|id| NumaCell { id, ..NumaCell::default() }).collect() };
    // A few bytes must not become many in memory.
    let wide =
        NumaTopology { cells: vec![NumaCell { siblings: vec![vec![65_535]; 1000], ..NumaCell::default() }] };
    let beyond = NumaCell { cpuset: vec![u32::MAX], ..NumaCell::default() };
    let cells = CellUsage { pagesize_kb: 0, ..CellUsage::default() };
    let claimed = |numa_topology| vec![Claim { numa_topology, ..claim(9, SMALL) }];
    let list = serde_json::json!([{"vendor_id": "8086", "product_id": "1", "dev_type": "type-PCI", "count": 1, "x": []}]);
    let numa = "novella.numa_topology";
    for (key, bad) in [
        (numa, Report { numa_topology: json(&twice), ..h.clone() }),
        (numa, Report { numa_topology: json(&many), ..h.clone() }),
        (numa, Report { numa_topology: json(&wide), ..h.clone() }),
        (numa, Report { numa_topology: json(&NumaTopology { cells: vec![beyond] }), ..h.clone() }),
        (numa, Report { numa_topology: json(&[1]), ..h.clone() }),
        ("novella.pci_pools", Report { pci_pools: json(&"none"), ..h.clone() }),
        ("novella.pci_pools", Report { pci_pools: json(&list), ..h.clone() }),
        ("capabilities", Report { pci_pools: json(&vec![pool(1); 1025]), ..h.clone() }),
        ("novella.claims", Report { claims: claimed(json(&[cells])), ..h.clone() }),
        ("novella.claims.numa_topology", Report { claims: claimed(json(&7)), ..h.clone() }),
    ] {
        let Applied::Bad(refused) = bad.clone().send(&mut m, s(2)) else { panic!("{key} was taken") };
        assert_eq!(refused.key, key, "{refused}");
        assert!(matches!(refused.fault, Fault::Devices(_) | Fault::TooLong(_)), "{refused}");
        assert_eq!(m.table().devices(row).cloned(), before, "{refused}");
    }
    assert_eq!(m.counters().bad, 10);
    assert!(matches!(h.send(&mut m, s(3)), Applied::Updated { .. }));
    // A new host is refused if a part of its report is bad.
    let mut stranger = Report { numa_topology: json(&twice), ..Report::of(5) };
    assert!(matches!(stranger.send(&mut m, s(3)), Applied::Bad(_)));
    assert_eq!(m.table().len(), 1);
}

/// Sends a host's next report to both schedulers.
fn report_to_both(schedulers: &mut [(HostManager, FilterScheduler); 2], host: &mut Report, now: u64) {
    for (m, _) in schedulers {
        assert!(host.clone().send(m, s(now)).is_accepted());
    }
    host.seq += 1;
}

/// What one instance has, as the decision said.
#[derive(Clone)]
struct Held {
    host: String,
    told: Reserve,
    expires: u64,
    by: usize,
    claimed: bool,
}

/// Two schedulers that send each other their reservations, three hosts, and everything that can happen to an instance.
/// After each step both schedulers have left exactly what was reported minus what claims and reservations take, and no
/// CPU is given twice.
fn history(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: u64| rng.next_u64() % bound;
    let mut schedulers =
        ["s1", "s2"].map(|name| (HostManager::new(HostManagerOptions::default(), name), engine()));
    let mut hosts: Vec<Report> = (1..=3).map(report).collect();
    let mut held: Vec<Held> = Vec::new();
    let (mut now, mut next) = (0, 1);
    let tell = |m: &mut HostManager, told: &Reserve, now| m.reserve(told, s(now));
    for host in &mut hosts {
        report_to_both(&mut schedulers, host, 0);
    }
    for _ in 0..120 {
        match below(10) {
            0..=3 => {
                let by = below(2) as usize;
                let asked = asking(next, [0, 1, 2, 4][below(4) as usize], below(2) as u32);
                next += 1;
                let (m, engine) = &mut schedulers[by];
                let decision = choose(m, engine, &asked, now);
                let Some(told) = m.to_reserve(&decision, s(now)) else { continue };
                let host = told.entries[0].host.clone();
                tell(&mut schedulers[1 - by].0, &told, now);
                held.push(Held { host, told, expires: now + 30, by, claimed: false });
            }
            4 | 5 if !held.is_empty() => {
                let at = below(held.len() as u64) as usize;
                held[at].claimed = true;
            }
            6 if !held.is_empty() => {
                let at = below(held.len() as u64) as usize;
                let gone = held.swap_remove(at);
                if !gone.claimed {
                    let (m, _) = &mut schedulers[gone.by];
                    let told = m.release(&gone.told.decision_id, &[], None).unwrap();
                    let told = told.expect("it was held");
                    tell(&mut schedulers[1 - gone.by].0, &told, now);
                }
            }
            7 => now += below(12),
            _ => {}
        }
        // Hosts report their claims, and both schedulers get the reports.
        for host in &mut hosts {
            let of_it = held.iter().filter(|held| held.claimed && held.host == host.host);
            host.claims = of_it.map(|held| confirmed(&held.told)).collect();
            report_to_both(&mut schedulers, host, now);
        }
        held.retain(|held| held.claimed || held.expires > now);
        for (m, _) in &mut schedulers {
            m.expire(s(now));
        }
        for host in &hosts {
            let of_it: Vec<_> = held.iter().filter(|held| held.host == host.host).collect();
            let cells = || of_it.iter().flat_map(|held| &held.told.entries[0].numa_topology);
            let cpus: Vec<u32> = cells().flat_map(|cell| cell.pinned_cpus.iter().copied()).collect();
            let distinct: BTreeSet<u32> = cpus.iter().copied().collect();
            assert_eq!(distinct.len(), cpus.len(), "a CPU of {} was given twice", host.host);
            let devices: u32 = of_it.iter().flat_map(|held| &held.told.entries[0].pci).map(|p| p.count).sum();
            let memory: i64 = cells().map(|cell| cell.memory_mb).sum();
            for (m, _) in &schedulers {
                assert_eq!(pinned(m, &host.host), distinct, "{} on {}", m.map.scheduler, host.host);
                assert_eq!(free_devices(m, &host.host), 3 - devices);
                let shown = m.detail(&host.host, s(now)).unwrap().numa_topology.unwrap();
                assert_eq!(shown.cells.iter().map(|cell| cell.memory_usage_mb as i64).sum::<i64>(), memory);
            }
        }
    }
}

#[test]
fn two_schedulers_never_give_a_cpu_or_device_twice() {
    each_seed(15, history);
}
