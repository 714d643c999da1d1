//! Requests and their answers: named hosts, capabilities, errors, limits, and the words of refusals and explanations.

mod common;

use common::{DRY, add, answer, picks, scheduler, uuids};
use novella_filter_scheduler::{
    Amounts, Failure, HostTable, MAX_MULTIPLIER, OnFilterError, Resources, Row, SUSPECT_WEIGHER,
    SchedulerOptions, Selected, Terms, Unusable, WeigherKind,
};
use novella_objects::{AllocationRatios, HostStatus, MAX_AMOUNT, MAX_INSTANCES, RequestSpec};

/// Hosts `h0`, `h1`, ... with 8 CPUs, the given free MiB of 16 GiB, and 100 GiB.
fn fleet(free_memory_mb: &[u64]) -> HostTable {
    let mut table = HostTable::new();
    for (at, free) in free_memory_mb.iter().enumerate() {
        let resources = Resources {
            vcpus_total: 8,
            memory_mb_total: 16_384,
            memory_mb_used: 16_384 - free,
            disk_gb_total: 100,
            ..Resources::default()
        };
        add(&mut table, &format!("h{at}"), &format!("n{at}"), &resources);
    }
    table
}

fn report(table: &mut HostTable, host: &str, attributes: &str, facts: &str) {
    common::report(table, table.row_of(host).unwrap(), attributes, facts);
}

fn request() -> RequestSpec {
    common::request(1, &[])
}

fn select(table: &mut HostTable, request: &RequestSpec, instances: u128) -> Selected {
    answer(SchedulerOptions::default(), table, request, instances, &Terms::default())
}

fn names(table: &HostTable, rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| table.host(*row).to_owned()).collect()
}

#[test]
fn two_equal_hosts_take_turns_as_nova_has_them() {
    let mut table = fleet(&[8192, 8192]);
    let selected = select(&mut table, &request(), 6);
    assert_eq!(picks(&table, &selected), ["h0", "h1", "h1", "h0", "h0", "h1"]);
}

#[test]
fn a_lone_candidate_is_not_weighed() {
    let mut table = fleet(&[512, 4096]);
    let selected = select(&mut table, &request(), 1);
    assert_eq!((picks(&table, &selected), selected.picks[0].weight), (vec!["h1".to_owned()], 0.0));
    assert_eq!(selected.explanation.ranking.len(), 1);
    assert!(selected.explanation.ranking[0].weighers.is_empty() && selected.alternates.is_empty());
}

#[test]
fn a_refusal_names_the_host_that_lacked_least() {
    let mut table = fleet(&[512, 900, 100]);
    let selected = select(&mut table, &request(), 1);
    let failure = selected.failure.unwrap();
    assert_eq!(failure.to_string(), "No valid host was found. There are not enough hosts available.");
    let ram = selected.explanation.filters.last().unwrap();
    assert_eq!((&*ram.filter, ram.hosts_in, ram.hosts_out), ("RamFilter", 3, 0));
    let miss = ram.nearest_miss.as_ref().unwrap();
    assert_eq!(miss.text(), "h1 short by 124 MiB");
    assert_eq!((miss.wanted, miss.available, &*miss.unit), (1024.0, 900.0, "MiB"));
}

#[test]
fn disk_is_explained_in_gib_and_counts_swap() {
    let mut table = fleet(&[8192]);
    let mut request = request();
    (request.flavor.root_gb, request.flavor.swap) = (100, 512);
    let selected = select(&mut table, &request, 1);
    let disk = selected.explanation.filters.last().unwrap();
    assert_eq!(disk.nearest_miss.as_ref().unwrap().text(), "h0 short by 1 GiB");
}

#[test]
fn all_or_nothing() {
    let mut table = fleet(&[2048, 1024]);
    let before: Vec<_> = table.rows().map(|row| table.view(row).used()).collect();
    let selected = select(&mut table, &request(), 4);
    assert!(matches!(selected.failure, Some(Failure::NoValidHost { placeable: 3, .. })));
    assert!(selected.picks.is_empty());
    assert_eq!(table.rows().map(|row| table.view(row).used()).collect::<Vec<_>>(), before);
}

#[test]
fn a_refused_request_for_many_accounts_for_every_host() {
    let mut table = fleet(&[1024, 512, 1000, 100]);
    let mut many = request();
    many.ignore_hosts = vec!["h3".to_owned()];
    let selected = select(&mut table, &many, 2);
    assert!(matches!(selected.failure, Some(Failure::NoValidHost { placeable: 1, .. })));
    let filters = &selected.explanation.filters;
    let first = filters.first().unwrap();
    assert_eq!((first.hosts_in, filters.last().unwrap().hosts_out), (3, 0));
    let ram = filters.iter().find(|tally| tally.filter == "RamFilter").unwrap();
    assert_eq!((ram.hosts_in, ram.hosts_out), (3, 0), "one host passed for the first instance only");
    assert_eq!(ram.nearest_miss.as_ref().unwrap().text(), "h2 short by 24 MiB");
}

#[test]
fn a_pick_is_consumed_and_a_dry_run_is_not() {
    let mut table = fleet(&[8192, 4096]);
    // IoOpsWeigher would send the second instance elsewhere, because the first one is being built.
    let by_memory = vec![(WeigherKind::Ram, 1.0)];
    let mut scheduler = scheduler(SchedulerOptions { weighers: by_memory, ..SchedulerOptions::default() });
    let dry = scheduler.select(&mut table, &request(), &uuids(2), &DRY);
    let h0 = table.row_of("h0").unwrap();
    assert_eq!(table.view(h0).consumed(), Amounts::default());
    let real = scheduler.select(&mut table, &request(), &uuids(2), &Terms::default());
    assert_eq!(real.picks, dry.picks);
    assert_eq!(table.view(h0).consumed(), Amounts { vcpus: 2, memory_mb: 2048, disk_gb: 2, instances: 2 });
    let limits = scheduler.limits(&mut table, &request(), &[real.picks[0].row]).unwrap()[0];
    assert_eq!((limits.vcpus, limits.memory_mb, limits.disk_gb), (Some(32.0), Some(16_384.0), Some(100.0)));
}

#[test]
fn alternates_follow_in_order_and_are_never_picked_hosts() {
    let mut table = fleet(&[4096, 8192, 6144, 5120, 2048]);
    let selected = select(&mut table, &request(), 1);
    assert_eq!(picks(&table, &selected), ["h1"]);
    assert_eq!(names(&table, &selected.alternates), ["h2", "h3"]);
    let selected = select(&mut table, &request(), 4);
    let picked = picks(&table, &selected);
    assert!(names(&table, &selected.alternates).iter().all(|host| !picked.contains(host)));
}

#[test]
fn any_host_that_is_up_comes_before_any_suspect_one() {
    let multipliers = [
        SchedulerOptions::default().weighers,
        vec![(WeigherKind::Ram, MAX_MULTIPLIER), (WeigherKind::Cpu, -MAX_MULTIPLIER)],
        vec![(WeigherKind::Ram, 0.0)],
        Vec::new(),
    ];
    for weighers in multipliers {
        let mut table = fleet(&[16_384, 1024, 8192, 2048, 4096]);
        for host in ["h0", "h2"] {
            table.set_status(table.row_of(host).unwrap(), HostStatus::Suspect);
        }
        let options = SchedulerOptions { weighers, max_attempts: 5, ..SchedulerOptions::default() };
        let order = |table: &mut HostTable, options: &SchedulerOptions| {
            let selected = answer(options.clone(), table, &request(), 1, &DRY);
            (picks(table, &selected), names(table, &selected.alternates), selected)
        };
        let (picked, alternates, selected) = order(&mut table, &options);
        let suspects = &alternates[alternates.len() - 2..];
        assert_eq!(suspects, ["h0", "h2"], "{picked:?} {alternates:?} {:?}", options.weighers);
        let shown = selected.explanation.ranking.last().unwrap().weighers.last().unwrap();
        assert_eq!((&*shown.weigher, shown.raw, shown.range), (SUSPECT_WEIGHER, 1.0, (0.0, 1.0)));

        let random = SchedulerOptions { host_subset_size: 5, ..options.clone() };
        for seed in 0..50 {
            let terms = Terms { seed, ..DRY };
            let selected = answer(random.clone(), &mut table, &request(), 1, &terms);
            assert!(!["h0", "h2"].contains(&&*picks(&table, &selected)[0]), "seed {seed}");
        }
        // If there is no other host, they are weighed as ever.
        for host in ["h1", "h3", "h4"] {
            table.set_status(table.row_of(host).unwrap(), HostStatus::Down);
        }
        let (picked, alternates, _) = order(&mut table, &options);
        assert_eq!((picked, alternates), (vec!["h0".to_owned()], vec!["h2".to_owned()]));
    }
}

#[test]
fn a_known_shape_notices_when_suspects_come_and_go() {
    let mut table = fleet(&[8192, 4096, 2048]);
    let mut scheduler = scheduler(SchedulerOptions::default());
    let h0 = table.row_of("h0").unwrap();
    let mut ask = |table: &mut HostTable| {
        let selected = scheduler.select(table, &request(), &uuids(1), &DRY);
        let weighers = selected.explanation.ranking[0].weighers.len();
        (picks(table, &selected).remove(0), weighers, selected.picks[0].weight)
    };
    let usual = WeigherKind::DEFAULT.len();
    let before = ask(&mut table);
    assert_eq!((&*before.0, before.1), ("h0", usual));
    table.set_status(h0, HostStatus::Suspect);
    for _ in 0..2 {
        let (host, weighers, _) = ask(&mut table);
        assert_eq!((&*host, weighers), ("h1", usual + 1));
    }
    table.set_status(h0, HostStatus::Up);
    assert_eq!(ask(&mut table), before, "to the last bit");
}

#[test]
fn a_forced_host_is_taken_even_down_but_not_beyond_its_room() {
    let mut table = fleet(&[1024, 8192]);
    let h0 = table.row_of("h0").unwrap();
    table.set_status(h0, HostStatus::Down);
    let forced = RequestSpec { force_hosts: vec!["H0".into()], ..request() };
    let selected = select(&mut table, &forced, 1);
    assert_eq!(picks(&table, &selected), ["h0"]);
    let ran: Vec<_> = selected.explanation.filters.iter().map(|f| &*f.filter).collect();
    assert_eq!(ran, ["RamFilter", "CoreFilter", "DiskFilter"], "what Placement judges in Nova");
    let full = select(&mut table, &forced, 1);
    assert!(matches!(full.failure, Some(Failure::NoValidHost { placeable: 0, .. })));
    let alone = SchedulerOptions { placement: false, ..SchedulerOptions::default() };
    let selected = answer(alone, &mut table, &forced, 1, &Terms::default());
    assert_eq!(picks(&table, &selected), ["h0"], "without Placement nobody asks");
    assert_eq!(table.view(h0).free_memory_mb(), -1024.0);
    let check = |kind: serde_json::Value| RequestSpec {
        scheduler_hints: [("_nova_check_type".to_owned(), kind)].into(),
        ..forced.clone()
    };
    let checked = check(serde_json::json!("live"));
    assert!(select(&mut table, &checked, 1).failure.is_some(), "a check runs the filters");
    for rebuild in [serde_json::json!("rebuild"), serde_json::json!(["rebuild"])] {
        let selected = select(&mut table, &check(rebuild), 1);
        assert_eq!(picks(&table, &selected), ["h0"], "a rebuild asks for no room");
    }
    let ignored = RequestSpec { ignore_hosts: vec!["h0".into()], ..forced };
    assert!(select(&mut table, &ignored, 1).failure.is_some(), "ignoring wins over forcing");
}

#[test]
fn a_host_that_does_not_exist_is_named() {
    let mut table = fleet(&[8192]);
    let expected = "No valid host was found. No such host - host: H0 node: None ";
    let target = RequestSpec { target_host: Some("H0".into()), ..request() };
    assert_eq!(
        select(&mut table, &target, 1).failure.unwrap().to_string(),
        expected,
        "the target's name is exact"
    );
    let forced = RequestSpec { force_hosts: vec!["h9".into()], ..request() };
    assert_eq!(select(&mut table, &forced, 1).failure.unwrap().to_string(), expected.replace("H0", "h9"));
}

#[test]
fn suspect_hosts_are_candidates_and_counted() {
    let mut table = fleet(&[8192, 4096]);
    table.set_status(table.row_of("h0").unwrap(), HostStatus::Suspect);
    let selected = select(&mut table, &request(), 1);
    assert_eq!(names(&table, &selected.alternates), ["h0"], "a candidate, after the other");
    assert_eq!((selected.explanation.hosts, selected.explanation.suspect_hosts), (2, 1));
}

#[test]
fn what_no_fleet_could_hold_is_refused_as_such() {
    let mut table = fleet(&[8192]);
    let mut big = request();
    big.flavor.memory_mb = MAX_AMOUNT + 1;
    let text = select(&mut table, &big, 1).failure.unwrap().to_string();
    assert_eq!(text, "memory_mb is 2147483648; it must be at most 2147483647");
    let mut overflowing = request();
    (overflowing.flavor.root_gb, overflowing.flavor.swap) = (u64::MAX, u64::MAX);
    assert!(matches!(select(&mut table, &overflowing, 1).failure, Some(Failure::Invalid { .. })));
    for instances in [0, MAX_INSTANCES as u128 + 1] {
        assert!(matches!(select(&mut table, &request(), instances).failure, Some(Failure::Invalid { .. })));
    }
}

#[test]
fn an_empty_fleet_refuses() {
    let mut table = HostTable::new();
    let selected = select(&mut table, &request(), 1);
    assert!(matches!(selected.failure, Some(Failure::NoValidHost { placeable: 0, .. })));
    assert_eq!(selected.explanation.hosts, 0);
}

#[test]
fn capabilities_are_asked_as_nova_asks_them() {
    let cpu_info =
        r#"{"arch":"x86_64","topology":{"cores":4},"features":["pge","sse"],"maxphysaddr":{"bits":46}}"#;
    let attributes = format!(
        r#""cpu_info":{},"hypervisor_type":"QEMU","hypervisor_version":8002001,"enabled":true,"nothing":null,
        "host_memory_free":300,"#,
        serde_json::json!(cpu_info)
    );
    let facts = r#""rack":"r1","psu":2,"gpu":{"model":"t4","count":2},"unset":null,"hypervisor_type":"hidden",
        "nothing":5,"json":"{\"a\":\"{\\\"b\\\":1}\"}""#;
    for (key, requirement, fits) in [
        // keys of the report itself
        ("capabilities:cpu_info:arch", "x86_64", true),
        ("capabilities:cpu_info:topology:cores", ">= 4", true),
        ("capabilities:cpu_info:topology:cores", "5", false),
        ("capabilities:cpu_info:topology:cores:x", "4", false),
        ("capabilities:cpu_info:features", "<all-in> pge sse", true),
        ("capabilities:cpu_info:features:0", "pge", false),
        ("capabilities:cpu_info:topology", "{'cores': 4}", true),
        ("capabilities:cpu_info", "<in> x86_64", true),
        ("capabilities:hypervisor_type", "s== QEMU", true),
        ("hypervisor_type", "QEMU", true),
        ("hypervisor_type", "hidden", false),
        ("capabilities:hypervisor_type:x", "QEMU", false),
        ("hypervisor_version", ">= 8000000", true),
        ("capabilities:host_memory_free", "= 301", false),
        ("enabled", "True", true),
        ("capabilities:disk_available", "= 0", false),
        // values that the table has
        ("capabilities:cpu_allocation_ratio", "4", false),
        ("capabilities:cpu_allocation_ratio", "== 4", true),
        ("free_ram_mb", "8192", true),
        ("capabilities:free_disk_mb", ">= 102400", true),
        ("capabilities:vcpus_total:x", "8", false),
        ("capabilities:hypervisor_hostname", "n0", true),
        ("capabilities:num_instances", "0", true),
        // facts
        ("rack", "r1", true),
        ("capabilities:rack", "r2", false),
        ("capabilities:stats:rack", "r1", true),
        ("capabilities:stats", "x", false),
        ("stats", "x", false),
        ("psu", "== 2", true),
        ("capabilities:gpu:model", "t4", true),
        ("capabilities:gpu:model:x", "t4", false),
        ("capabilities:json:a:b", "1", true),
        ("unset", "x", false),
        ("nothing", "5", true),
        // keys that no host has
        ("colour", "red", true),
        ("capabilities:colour", "red", false),
        ("capabilities", "x", true),
        ("capabilities:", "x", false),
        ("hw:colour", "red", true),
        ("", "x", true),
        ("hw:maxphysaddr_bits", "46", true),
        ("hw:maxphysaddr_bits", "47", false),
        ("hw:maxphysaddr_bits", "", false),
    ] {
        let mut table = fleet(&[8192]);
        report(&mut table, "h0", &attributes, facts);
        let mut request = request();
        request.flavor.extra_specs.insert(key.into(), requirement.into());
        let selected = select(&mut table, &request, 1);
        assert_eq!(selected.failure.is_none(), fits, "{key} = {requirement:?}");
        assert!(selected.filter_errors.is_empty());
    }
}

#[test]
fn a_host_that_never_reported_has_no_capabilities() {
    for (key, fits) in [
        ("capabilities:cpu_info:arch", false),
        ("cpu_info", false),
        ("hypervisor_version", false),
        ("rack", true),
    ] {
        let mut table = fleet(&[8192]);
        let mut request = request();
        request.flavor.extra_specs.insert(key.into(), "s!= x".into());
        assert_eq!(select(&mut table, &request, 1).failure.is_none(), fits, "{key}");
    }
}

#[test]
fn an_undecidable_host_is_refused_and_counted_or_fails_the_request() {
    let mut table = fleet(&[8192, 4096, 2048]);
    report(&mut table, "h0", "", r#""psu":"two""#);
    report(&mut table, "h1", "", r#""psu":2"#);
    report(&mut table, "h2", "", r#""psu":"zwei""#);
    let mut request = request();
    request.flavor.extra_specs.insert("capabilities:psu".into(), ">= 2".into());
    let selected = select(&mut table, &request, 1);
    assert_eq!(picks(&table, &selected), ["h1"]);
    let (count, error) = &selected.filter_errors[0];
    assert_eq!(*count, 2);
    let text = "ComputeCapabilitiesFilter could not decide about host h0: extra spec \">= 2\": \"two\" is not a number";
    assert_eq!(error.to_string(), text);
    let options =
        SchedulerOptions { on_filter_error: OnFilterError::FailRequest, ..SchedulerOptions::default() };
    let selected = answer(options, &mut table, &request, 1, &Terms::default());
    assert_eq!(selected.failure, Some(Failure::Filter(error.clone())));
}

#[test]
fn more_questions_than_columns_are_all_answered() {
    let mut table = fleet(&[8192, 4096]);
    let facts: Vec<_> = (0..100).map(|at| format!(r#""f{at}":{at}"#)).collect();
    report(&mut table, "h1", "", &facts.join(","));
    let mut request = request();
    for at in 0..100 {
        request.flavor.extra_specs.insert(format!("capabilities:f{at}"), format!("== {at}"));
    }
    let selected = select(&mut table, &request, 1);
    assert_eq!(picks(&table, &selected), ["h1"]);
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let options = SchedulerOptions {
        host_subset_size: 5,
        shuffle_best_same_weighed_hosts: true,
        ..SchedulerOptions::default()
    };
    let mut scheduler = scheduler(options);
    let mut picked = |seed| {
        let mut table = fleet(&[8192; 20]);
        let selected =
            scheduler.select(&mut table, &request(), &uuids(5), &Terms { seed, ..Terms::default() });
        picks(&table, &selected)
    };
    assert_eq!(picked(1), picked(1));
    assert!((2..10).any(|seed| picked(seed) != picked(1)), "the seed has a say");
}

#[test]
fn rows_are_stable_and_the_lowest_free_one_is_taken() {
    let mut table = fleet(&[1; 70]);
    let row = table.row_of("h3").unwrap();
    assert_eq!(table.insert("h3", "renamed"), row);
    assert_eq!(table.view(row).nodename(), "renamed");
    table.set_zone(row, Some("az"));
    table.consume(row, &Amounts { vcpus: 1, memory_mb: 1, disk_gb: 1, instances: 1 });
    table.remove(row);
    assert_eq!((table.len(), table.row_of("h3"), table.count(HostStatus::Up)), (69, None, 69));
    let again = table.insert("new", "new");
    assert_eq!(again, row);
    let view = table.view(again);
    assert_eq!((view.consumed(), view.zone(), view.status()), (Amounts::default(), None, HostStatus::Down));
    assert_eq!(table.rows().nth(3), Some(again), "fleet order is row order");
    assert_eq!(table.snapshot().hosts().count(), 70);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut table = fleet(&[8192, 4096]);
    let h0 = table.row_of("h0").unwrap();
    table.set_zone(h0, Some("az1"));
    let snapshot = table.snapshot();
    table.set_zone(h0, Some("az2"));
    table.consume(h0, &Amounts { memory_mb: 1, instances: 1, ..Amounts::default() });
    table.remove(table.row_of("h1").unwrap());
    let hosts: Vec<_> = snapshot.hosts().map(|h| (h.host(), h.zone(), h.free_memory_mb())).collect();
    assert_eq!(hosts, [("h0", Some("az1"), 8192.0), ("h1", None, 4096.0)]);
}

#[test]
fn resources_that_cannot_be_held_change_nothing() {
    let mut table = fleet(&[8192]);
    let row = table.row_of("h0").unwrap();
    let before = *table.view(row).reported();
    let error = table.set_resources(row, &Resources { memory_mb_total: 1 << 31, ..before }).unwrap_err();
    assert_eq!(error, Unusable::TooLarge { field: "memory_mb_total", value: 1 << 31 });
    for ram in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let ratios = AllocationRatios { ram, ..before.ratios };
        let error = table.set_resources(row, &Resources { ratios, ..before }).unwrap_err();
        assert!(matches!(error, Unusable::Ratio { field: "ram_allocation_ratio", .. }));
    }
    assert_eq!(*table.view(row).reported(), before);
}
