//! The engine against a naive one written straight from the rules: a list of structs, every filter on every host, every
//! weight computed, full stable sorts. Both must agree on picks, weights to the last bit, alternates, tallies and nearest
//! misses. A failing case prints its seed; `REFERENCE_SEED=n` runs that one alone.

mod naive;

use naive::{Host, Naive, Outcome};
use novella_filter_scheduler::{
    Failure, FilterKind, FilterScheduler, HostTable, OnFilterError, Resources, Row, SchedulerOptions,
    Selected, Status, Terms, WeigherKind,
};
use novella_objects::{AllocationRatios, Flavor, RequestSpec};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// Cases of one run. Each is a fleet with one to three requests.
const CASES: u64 = 10_000;

type Rng = ChaCha8Rng;

#[test]
fn the_engine_decides_as_the_rules_do() {
    if let Ok(seed) = std::env::var("REFERENCE_SEED") {
        case(seed.parse().expect("REFERENCE_SEED is a number"));
        return;
    }
    let mut seen = Seen::default();
    for seed in 0..CASES {
        match std::panic::catch_unwind(|| case(seed)) {
            Ok(case) => seen.add(&case),
            Err(panic) => {
                eprintln!("failed at REFERENCE_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // A generator that no longer reaches an outcome would test nothing.
    assert!(seen.one > 3000 && seen.several > 2000 && seen.refused > 1000 && seen.errors > 100, "{seen:?}");
}

/// How many requests ended how.
#[derive(Debug, Default)]
struct Seen {
    one: u32,
    several: u32,
    refused: u32,
    errors: u32,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.one += other.one;
        self.several += other.several;
        self.refused += other.refused;
        self.errors += other.errors;
    }
}

fn case(seed: u64) -> Seen {
    let mut seen = Seen::default();
    let mut rng = Rng::seed_from_u64(seed);
    let options = options(&mut rng);
    let (mut table, mut hosts) = fleet(&mut rng);
    let mut engine = FilterScheduler::new(options.clone()).expect("generated options are good");
    for _ in 0..rng.random_range(1..=3) {
        let request = request(&mut rng, &hosts);
        let terms = Terms {
            seed: rng.random(),
            dry_run: rng.random_bool(0.2),
            alternates: rng.random_bool(0.5).then(|| rng.random_range(0..5)),
        };
        let naive = Naive { options: &options, request: &request, terms: &terms };
        let before = hosts.clone();
        let expected = naive.select(&mut hosts);
        if matches!(expected, Outcome::Failed { .. }) || terms.dry_run {
            hosts = before;
        }
        match &expected {
            Outcome::Placed { picks, .. } if picks.len() == 1 => seen.one += 1,
            Outcome::Placed { .. } => seen.several += 1,
            Outcome::Failed { .. } => seen.refused += 1,
            Outcome::Error { .. } => seen.errors += 1,
        }
        let got = engine.select(&mut table, &request, &terms);
        compare(&table, &expected, &got, &format!("{request:#?}\n{options:#?}\n{terms:?}"));
        for host in &hosts {
            let row = table.row_of(&host.name).expect("no host vanished");
            let used = table.view(row).used();
            assert_eq!(
                (used.vcpus, used.memory_mb, used.disk_gb),
                (host.vcpus_used, host.memory_used, host.disk_used),
                "{}",
                host.name
            );
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
            (tally.filter.clone(), tally.hosts_in, tally.hosts_out, miss)
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
    let mut enabled_filters = FilterKind::DEFAULT.to_vec();
    if rng.random_bool(0.5) {
        enabled_filters.shuffle(rng);
        enabled_filters.truncate(rng.random_range(0..=enabled_filters.len()));
    }
    let mut weighers: Vec<_> = WeigherKind::DEFAULT
        .into_iter()
        .map(|kind| (kind, *[1.0, 1.0, 1.0, 0.0, -1.0, 0.3, 2.5, 1000.0, -1e6].choose(rng).unwrap()))
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
        ..SchedulerOptions::default()
    }
}

/// Few distinct sizes, so that ties are the rule.
fn fleet(rng: &mut Rng) -> (HostTable, Vec<Host>) {
    let mut table = HostTable::new();
    let mut hosts = Vec::new();
    let count = if rng.random_bool(0.1) { rng.random_range(0..3) } else { rng.random_range(1..200) };
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
    for at in 0..count {
        let name = format!("Host{at:03}");
        let (vcpus, memory, disk) = *sizes.choose(rng).unwrap();
        let part = |rng: &mut Rng, of: u64, unit: u64| {
            if rng.random_bool(busy) { unit * rng.random_range(0..=(of / unit) * 5 / 4) } else { 0 }
        };
        let host = Host {
            name: name.clone(),
            vcpus,
            vcpus_used: part(rng, vcpus.max(4), 1),
            memory,
            memory_used: part(rng, memory, 512),
            disk,
            disk_used: part(rng, disk, 10),
            ratios: *ratios.choose(rng).unwrap(),
            status: *[Status::Up, Status::Up, Status::Up, Status::Suspect, Status::Disabled, Status::Down]
                .choose(rng)
                .unwrap(),
            zone: [None, Some("az1"), Some("az2")].choose(rng).unwrap().map(str::to_owned),
            arch: [None, Some("x86_64"), Some("aarch64")].choose(rng).unwrap().map(str::to_owned),
            rack: rng.random_bool(0.8).then(|| rng.random_range(0..4)),
        };
        // Rows are given back and taken again, so that fleet order is not the order of names.
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

fn write(table: &mut HostTable, row: Row, host: &Host) {
    let resources = Resources {
        vcpus_total: host.vcpus,
        vcpus_used: host.vcpus_used,
        memory_mb_total: host.memory,
        memory_mb_used: host.memory_used,
        disk_gb_total: host.disk,
        disk_gb_used: host.disk_used,
        ratios: host.ratios,
        ..Resources::default()
    };
    table.set_resources(row, &resources).expect("generated resources are good");
    table.set_status(row, host.status);
    table.set_zone(row, host.zone.as_deref());
    let arch = host.arch.as_ref().map_or(String::new(), |arch| format!(r#""cpu_info":{{"arch":"{arch}"}},"#));
    let rack = host.rack.map_or(String::new(), |rack| format!(r#""rack":{rack}"#));
    let report = format!(
        r#"{{{arch}"novella":{{"uuid":"00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,"seq":1,
        "sent_at":"","interval_ms":1,"facts":{{{rack}}}}}}}"#
    );
    table.set_capabilities(row, &serde_json::from_str(&report).expect("generated report is good"));
}

fn request(rng: &mut Rng, hosts: &[Host]) -> RequestSpec {
    let some = |rng: &mut Rng| match hosts.choose(rng) {
        Some(host) if rng.random_bool(0.9) => host.name.clone(),
        _ => "nobody".to_owned(),
    };
    let mut extra_specs = Vec::new();
    if rng.random_bool(0.3) {
        let value = *["x86_64", "s== aarch64", "<or> x86_64 <or> aarch64", "= 1"].choose(rng).unwrap();
        extra_specs.push(("capabilities:cpu_info:arch".to_owned(), value.to_owned()));
    }
    if rng.random_bool(0.3) {
        let key = *["rack", "capabilities:rack", "hw:rack"].choose(rng).unwrap();
        let value = *[">= 1", "== 2", "3", "<in> 1"].choose(rng).unwrap();
        extra_specs.push((key.to_owned(), value.to_owned()));
    }
    let instances = if rng.random_bool(0.4) { 1 } else { rng.random_range(1..30) };
    let change_case = rng.random_bool(0.5);
    let cased = |name: String| if change_case { name.to_uppercase() } else { name };
    RequestSpec {
        instance_uuids: (0..instances).map(Uuid::from_u128).collect(),
        flavor: Flavor {
            vcpus: rng.random_range(0..6),
            memory_mb: 512 * rng.random_range(0..10),
            root_gb: 10 * rng.random_range(0..4),
            ephemeral_gb: rng.random_range(0..2) * 5,
            swap: *[0, 0, 512].choose(rng).unwrap(),
            extra_specs: extra_specs.into_iter().collect(),
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
        scheduler_hints: rng
            .random_bool(0.1)
            .then(|| ("_nova_check_type".to_owned(), serde_json::json!("live")))
            .into_iter()
            .collect(),
        ..RequestSpec::default()
    }
}
