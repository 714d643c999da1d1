//! Checks that counting what fits agrees with placing one by one until nothing fits: on the live map, and on a snapshot of
//! it. A failing case prints its seed; `NOVELLA_TEST_SEED=n` runs that one alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::{FilterScheduler, Running};
use novella_fleet_documents::{EvaluationOptions, Evaluator, MapSnapshot, host_table};
use novella_host_manager::{Applied, HostManager, HostManagerOptions, PolicyFile};
use novella_objects::document::{Fleet, Host};
use novella_objects::{FlavorCapacity, Grouping, PlacementRequest, RequestSpec, SelectDestinations};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::json;
use uuid::Uuid;

const CASES: u64 = 250;
/// The fleets are small. More instances than this never fit.
const MANY: u64 = 2_000;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Run {
    rng: ChaCha8Rng,
    manager: HostManager,
    engine: FilterScheduler,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let policy = PolicyFile::parse(&policy(&mut rng)).unwrap();
        let engine = FilterScheduler::new(policy.options.clone()).unwrap();
        let mut manager = HostManager::new(HostManagerOptions::default(), "s1");
        manager.set_policy(Arc::new(policy));
        let mut run = Self { rng, manager, engine };
        (0..1 + below(&mut run.rng, 6)).for_each(|number| run.report(number));
        run
    }

    fn report(&mut self, number: u64) {
        let rng = &mut self.rng;
        let claims: Vec<_> = (0..below(rng, 4))
            .map(|at| {
                json!({"uuid": Uuid::from_u128(u128::from(number << 8 | at)), "vcpus": 1 + below(rng, 3),
                    "memory_mb": 512 << below(rng, 3), "disk_gb": 1, "flavor": "small",
                    "group": one(rng, &["apart", "together", "other"])})
            })
            .collect();
        let cells: Vec<_> = (0..1 + below(rng, 2))
            .map(|id| {
                json!({"id": id, "cpuset": (8 * id..8 * id + 4).collect::<Vec<_>>(),
                    "pcpuset": (8 * id + 4..8 * id + 8).collect::<Vec<_>>(), "memory_mb": 8192, "siblings": (8 * id..8 * id + 8).map(|cpu| [cpu]).collect::<Vec<_>>(),
                    "mempages": [{"size_kb": 4, "total": 1_572_864}, {"size_kb": 2048, "total": below(rng, 1024)}]})
            })
            .collect();
        let report =
            json!({"vcpus": 16, "host_memory_total": 16_384, "disk_total": 20 + below(rng, 30), "novella": {
            "uuid": Uuid::from_u128(1_000_000 + u128::from(number)), "incarnation": 1, "nonce": 1, "seq": 1,
            "sent_at": "", "interval_ms": 10_000, "claims": claims, "reserved": {"memory_mb": 512},
            "traits": one(rng, &["", "CUSTOM_A"]).split_whitespace().collect::<Vec<_>>(),
            "resources": {"CUSTOM_GPU": {"total": below(rng, 5)}},
            "allocation_ratios": {"cpu": 1.5, "ram": 1.0, "disk": 1.0},
            "availability_zone": one(rng, &["north", "south"]),
            "numa_topology": {"cells": cells},
            "pci_pools": [{"vendor_id": "8086", "product_id": "154c", "dev_type": "type-VF", "numa_node": 0,
                "count": below(rng, 4)}]}})
            .to_string();
        let applied = self.manager.apply_report(
            None,
            "compute",
            &format!("h{number}"),
            &serde_json::from_str(&report).unwrap(),
            s(0),
        );
        assert_eq!(applied, Applied::New);
    }

    /// A request, and in words what kind it is.
    fn request(&mut self) -> (RequestSpec, Vec<&'static str>) {
        let rng = &mut self.rng;
        let mut asked = json!({"flavor": {"name": "f", "id": "f", "vcpus": 1 + below(rng, 3), "memory_mb": 512 << below(rng, 4),
            "root_gb": below(rng, 3), "extra_specs": {}}});
        let mut kinds = Vec::new();
        let specs = &mut asked["flavor"]["extra_specs"];
        match below(rng, 8) {
            0 => specs["hw:cpu_policy"] = "dedicated".into(),
            1 => specs["hw:mem_page_size"] = one(rng, &["large", "small"]).into(),
            2 => specs["hw:numa_nodes"] = "1".into(),
            3 => specs["resources:CUSTOM_GPU"] = "1".into(),
            4 => specs["trait:CUSTOM_A"] = one(rng, &["required", "forbidden"]).into(),
            _ => {}
        }
        if below(rng, 4) == 0 {
            specs["pci_passthrough:alias"] = "vf:1".into();
            kinds.push("alias");
        }
        if below(rng, 3) == 0 {
            asked["flavor"]["swap"] = (1 + below(rng, 3000)).into();
            kinds.push("swap");
        }
        if below(rng, 2) == 0 {
            let group = one(rng, &["apart", "together", "alone", "other"]);
            asked["scheduler_hints"] = json!({"group": group});
            kinds.push(group);
        }
        if below(rng, 4) == 0 {
            asked["availability_zone"] = "north".into();
        }
        (serde_json::from_value(asked).unwrap(), kinds)
    }

    fn asked(&self, spec: &RequestSpec, instance: u128) -> SelectDestinations {
        let instance_uuids = vec![Uuid::from_u128(1 << 100 | instance)];
        SelectDestinations {
            request_spec: PlacementRequest { instance_uuids, spec: spec.clone(), attempt: 1 },
            ..Default::default()
        }
    }

    fn counted(&mut self, spec: &RequestSpec) -> FlavorCapacity {
        let request = self.manager.resolve(self.asked(spec, 0)).unwrap();
        let eligible = self.manager.eligible(&mut self.engine, &request, s(1)).unwrap();
        eligible.count(None, None, &Running::default())
    }

    fn counted_on_snapshot(&mut self, spec: &RequestSpec) -> FlavorCapacity {
        let snapshot = MapSnapshot::new(self.manager.copy(s(1)), self.engine.options());
        let head = serde_json::to_string(&snapshot.head()).unwrap();
        let hosts: Vec<_> = snapshot.hosts(0).map(|host| serde_json::to_string(&host).unwrap()).collect();
        let mut fleet: Fleet<'_> = serde_json::from_str(&head).unwrap();
        fleet.hosts = hosts.iter().map(|host| serde_json::from_str::<Host<'_>>(host).unwrap()).collect();
        let options = EvaluationOptions::read(fleet.options.as_ref().unwrap()).unwrap();
        let table = host_table(&fleet.aggregates, &fleet.hosts, options.service_down_time_s).unwrap();
        let evaluator = Evaluator::new(table, options, &Default::default()).unwrap();
        let mut evaluator = evaluator.with_fleet(&fleet);
        evaluator.eligible(self.asked(spec, 0).request_spec).unwrap().count(None, None, &Running::default())
    }

    /// Places instances one by one until one is refused.
    fn placed(&mut self, spec: &RequestSpec) -> u64 {
        for at in 0..MANY {
            let request = self.manager.resolve(self.asked(spec, u128::from(at))).unwrap();
            let placed =
                self.manager.select_destinations(&mut self.engine, &request, format!("s1-{at}"), at, s(1));
            if placed.unwrap().decision.refusal.is_some() {
                return at;
            }
        }
        MANY
    }
}

fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

fn one<'a>(rng: &mut ChaCha8Rng, of: &[&'a str]) -> &'a str {
    of[below(rng, of.len() as u64) as usize]
}

/// A policy with some of the filters that a request can meet. Those that groups and aliases need are always enabled.
fn policy(rng: &mut ChaCha8Rng) -> String {
    let mut filters = vec![
        "ComputeFilter",
        "RamFilter",
        "ServerGroupAffinityFilter",
        "ServerGroupAntiAffinityFilter",
        "PciPassthroughFilter",
    ];
    let further = [
        "CoreFilter",
        "AggregateCoreFilter",
        "DiskFilter",
        "NUMATopologyFilter",
        "AvailabilityZoneFilter",
        "NumInstancesFilter",
    ];
    filters.extend(further.into_iter().filter(|_| !rng.next_u64().is_multiple_of(3)));
    let on_error = one(rng, &["fail_request", "reject_host"]);
    format!(
        r#"
[scheduler]
on_filter_error = "{on_error}"
[filter_scheduler]
enabled_filters = {filters:?}
[aggregates.dense]
hosts = ["h[0-2]"]
metadata = {{ cpu_allocation_ratio = "2.5" }}
[server_groups.apart]
policy = "anti-affinity"
max_server_per_host = 3
[server_groups.together]
policy = "affinity"
[server_groups.alone]
policy = "affinity"
[server_groups.other]
policy = "soft-anti-affinity"
[[pci.alias]]
name = "vf"
vendor_id = "8086"
product_id = "154c"
"#
    )
}

#[test]
fn counting_agrees_with_placing_on_the_map_and_on_a_snapshot() {
    let seeds: std::ops::Range<u64> = match std::env::var("NOVELLA_TEST_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).expect("NOVELLA_TEST_SEED is a number"),
        Err(_) => 0..CASES,
    };
    let mut seen = BTreeSet::new();
    for seed in seeds.clone() {
        let mut run = Run::new(seed);
        let (spec, kinds) = run.request();
        let counted = run.counted(&spec);
        let on_snapshot = run.counted_on_snapshot(&spec);
        let placed = run.placed(&spec);
        assert_eq!(
            (counted.fits, on_snapshot.fits),
            (placed, placed),
            "counted on the map and on its snapshot, and placed; NOVELLA_TEST_SEED={seed}\n{spec:#?}\n{:?}",
            run.engine.options().enabled_filters
        );
        assert!(counted.asked_once.is_empty(), "NOVELLA_TEST_SEED={seed}: {:?}", counted.asked_once);
        assert_eq!(on_snapshot.eligible, counted.eligible, "NOVELLA_TEST_SEED={seed}");
        seen.extend(kinds.into_iter().filter(|_| placed > 0));
    }
    let all = ["alias", "alone", "apart", "other", "swap", "together"];
    assert!(seeds.start + 1 == seeds.end || seen.iter().eq(all.iter()), "{seen:?}");
}

/// Counts instances of a flavor on a fleet from a document.
fn on_document(fleet: &serde_json::Value, spec: serde_json::Value) -> u64 {
    let text = fleet.to_string();
    let fleet: Fleet<'_> = serde_json::from_str(&text).unwrap();
    let options = EvaluationOptions::read(&fleet.options.clone().unwrap_or_default()).unwrap();
    let table = host_table(&fleet.aggregates, &fleet.hosts, options.service_down_time_s).unwrap();
    let evaluator = Evaluator::new(table, options, &Default::default()).unwrap();
    let mut evaluator = evaluator.with_fleet(&fleet);
    let spec: RequestSpec = serde_json::from_value(spec).unwrap();
    let asked = PlacementRequest { instance_uuids: vec![Uuid::nil()], spec, attempt: 1 };
    evaluator.eligible(asked).unwrap().count(None, None, &Running::default()).fits
}

#[test]
fn a_document_defines_groups_and_aliases_and_has_no_image() {
    let pool = json!([{"vendor_id": "8086", "product_id": "154c", "dev_type": "type-PCI", "count": 3}]);
    let host = |name: &str, group: Option<&str>| {
        let uuid = Uuid::from_u128(name.as_bytes()[0].into());
        let instances: Vec<_> =
            group.map(|group| json!({"uuid": uuid, "group": group})).into_iter().collect();
        json!({"host": name, "vcpus": 64, "memory_mb": 16_384, "local_gb": 100, "pci_pools": pool, "instances": instances})
    };
    let fleet = json!({
        "schema": 1,
        "options": {"filters": ["ComputeFilter", "RamFilter", "CoreFilter", "DiskFilter", "NUMATopologyFilter",
            "PciPassthroughFilter", "ServerGroupAffinityFilter", "ServerGroupAntiAffinityFilter"]},
        "server_groups": {"apart": {"policy": "anti-affinity"}, "together": {"policy": "affinity"},
            "begun": {"policy": "affinity"}},
        "pci_aliases": {"nic": {"specs": [{"vendor_id": "8086", "product_id": "154c"}]}},
        "hosts": [host("a", Some("apart")), host("b", Some("begun")), host("c", None)],
    });
    let flavor = json!({"vcpus": 1, "memory_mb": 1024});
    for (spec, fits) in [
        (json!({"flavor": flavor}), 48),
        (json!({"flavor": flavor, "scheduler_hints": {"group": "apart"}}), 2),
        (json!({"flavor": flavor, "scheduler_hints": {"group": "together"}}), 16),
        (json!({"flavor": flavor, "scheduler_hints": {"group": "begun"}}), 16),
        (
            json!({"flavor": {"vcpus": 1, "memory_mb": 1024, "extra_specs": {"pci_passthrough:alias": "nic:2"}}}),
            3,
        ),
        (json!({"flavor": {"vcpus": 1, "memory_mb": 512, "root_gb": 10, "swap": 10_240}}), 15),
        (json!({"flavor": {"vcpus": 1, "memory_mb": 512, "swap": 51_200}}), 6),
    ] {
        assert_eq!(on_document(&fleet, spec.clone()), fits, "{spec}");
    }
}

#[test]
fn amounts_count_on_a_document_whose_filters_leave_them_to_placement() {
    let host = json!({"host": "a", "vcpus": 4, "memory_mb": 16_384, "local_gb": 100});
    let dense = json!([{"id": 1, "name": "dense", "metadata": {"ram_allocation_ratio": "2.0"}}]);
    let mut fleet = json!({"schema": 1, "aggregates": dense, "hosts": [host]});
    fleet["hosts"][0]["aggregates"] = json!([1]);
    let spec = json!({"flavor": {"vcpus": 1, "memory_mb": 4096}});
    assert_eq!(on_document(&fleet, spec.clone()), 4, "Nova's own filters");
    // A scheduler that counts memory only is asked as it is.
    fleet["options"] = json!({"filters": ["AggregateRamFilter"]});
    assert_eq!(on_document(&fleet, spec), 8);
}

#[test]
fn what_a_host_of_a_document_holds_back_is_no_instance() {
    let host = |name: &str, reserved: serde_json::Value| {
        json!({"host": name, "vcpus": 16, "memory_mb": 16_384, "memory_mb_used": 4096, "local_gb": 100,
            "reserved": reserved})
    };
    let fleet =
        json!({"schema": 1, "hosts": [host("a", json!({"memory_mb": 4096})), host("b", json!(null))]});
    let text = fleet.to_string();
    let fleet: Fleet<'_> = serde_json::from_str(&text).unwrap();
    let table = host_table(&fleet.aggregates, &fleet.hosts, 60.0).unwrap();
    let evaluator = Evaluator::new(table, EvaluationOptions::default(), &Default::default()).unwrap();
    let mut evaluator = evaluator.with_fleet(&fleet);
    let flavor = json!({"flavor": {"vcpus": 1, "memory_mb": 1024}});
    let spec: RequestSpec = serde_json::from_value(flavor).unwrap();
    let asked = PlacementRequest { instance_uuids: vec![Uuid::nil()], spec, attempt: 1 };
    let running = evaluator.running();
    let counted = evaluator.eligible(asked).unwrap().count(None, Some(Grouping::Host), &running);
    // 12 fit on each host. Four run on `b`, and move to `a` if it is lost.
    let reserve = counted.reserve.unwrap();
    assert_eq!((counted.fits, reserve.lost.as_str(), reserve.moved, reserve.fits), (24, "b", 4, 8));
}
