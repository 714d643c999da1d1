//! CPUs that a policy pins: on hosts that dedicate CPUs to it (`PCPU`), on hosts that do not, and on hosts that have
//! both.

mod common;

use common::{DRY, add, answer, request, scheduler, uuids};
use novella_filter_scheduler::{
    FilterScheduler, HostTable, Policy, Resources, Row, Running, SchedulerOptions, Selected, Terms,
    change_request, eligible, inspect, near_misses, search_fixes, try_changes,
};
use novella_objects::{Change, FilterOutcome, Grouping, Image, Inventory, Quantity, RequestSpec};
use serde_json::json;
use uuid::Uuid;

const DEDICATED: (&str, &str) = ("hw:cpu_policy", "dedicated");
const MIXED: [(&str, &str); 2] = [("hw:cpu_policy", "mixed"), ("hw:cpu_dedicated_mask", "^0")];

/// `apart` has 4 CPUs for pinning and none to share. `both` has 4 of each. `shared` has 4 and does not divide them.
/// `silent` does not say how many it has.
fn fleet() -> HostTable {
    let mut table = HostTable::new();
    for (name, vcpus_total, pcpus) in
        [("apart", 0, Some(4)), ("both", 4, Some(4)), ("shared", 4, None), ("silent", 0, None)]
    {
        let resources =
            Resources { vcpus_total, memory_mb_total: 65_536, disk_gb_total: 100, ..Resources::default() };
        let row = add(&mut table, name, name, &resources);
        table.set_inventories(row, pcpus.map(|total| ("PCPU", inventory(total), 0)).into_iter());
    }
    table
}

fn inventory(total: u64) -> Inventory {
    Inventory { total, max_unit: total, ..Inventory::default() }
}

const ONE: [Uuid; 1] = [Uuid::from_u128(1)];

fn on(host: &str, asked: RequestSpec) -> RequestSpec {
    RequestSpec { target_host: Some(host.to_owned()), ..asked }
}

fn default_scheduler() -> FilterScheduler {
    scheduler(SchedulerOptions::default())
}

fn place(table: &mut HostTable, asked: &RequestSpec) -> Selected {
    answer(SchedulerOptions::default(), table, asked, 1, &Terms::default())
}

/// The hosts that one instance of a kind could be placed on, in fleet order.
fn fitting(table: &mut HostTable, options: SchedulerOptions, asked: &RequestSpec) -> Vec<String> {
    let mut engine = scheduler(options);
    let rows: Vec<Row> = table.rows().collect();
    let told = rows.into_iter().map(|row| inspect(&mut engine, table, asked, ONE[0], row).unwrap());
    told.filter(|told| told.passes).map(|told| told.host).collect()
}

fn fits(table: &mut HostTable, asked: &RequestSpec) -> Vec<String> {
    fitting(table, SchedulerOptions::default(), asked)
}

/// How many VCPU and PCPU are in use.
fn used(table: &HostTable, host: &str) -> (u64, u64) {
    let row = table.row_of(host).unwrap();
    let pcpus = table.inventories(row).find(|held| held.class == "PCPU").map_or(0, |held| held.used);
    (table.view(row).used().vcpus, pcpus)
}

#[test]
fn a_policy_takes_the_class_that_the_host_has() {
    for (vcpus, specs, apart, both, shared) in [
        (2, &[DEDICATED][..], Some((0, 2)), Some((0, 2)), Some((2, 0))),
        (
            2,
            &[DEDICATED, ("hw:emulator_threads_policy", "isolate")],
            Some((0, 3)),
            Some((0, 3)),
            Some((2, 0)),
        ),
        (3, &MIXED, None, Some((1, 2)), None),
        (2, &[("resources:PCPU", "2")], Some((0, 2)), Some((0, 2)), None),
        (2, &[("resources:VCPU", "2")], None, Some((2, 0)), Some((2, 0))),
        (2, &[], None, Some((2, 0)), Some((2, 0))),
    ] {
        for (host, takes) in [("apart", apart), ("both", both), ("shared", shared)] {
            let mut table = fleet();
            let asked = on(host, request(vcpus, specs));
            let placed = place(&mut table, &asked);
            assert_eq!(placed.failure.is_none(), takes.is_some(), "{specs:?} on {host}: {placed:?}");
            assert_eq!(used(&table, host), takes.unwrap_or_default(), "{specs:?} on {host}");
        }
    }
}

#[test]
fn an_image_pins_as_a_flavor_does() {
    let mut table = fleet();
    let properties = [("hw_cpu_policy".to_owned(), json!("dedicated"))].into();
    let asked = RequestSpec { image: Some(Image { properties, ..Image::default() }), ..request(4, &[]) };
    assert_eq!(fits(&mut table, &asked), ["apart", "both", "shared", "silent"]);
    place(&mut table, &on("both", asked.clone()));
    assert_eq!(used(&table, "both"), (0, 4));
    assert_eq!(fits(&mut table, &asked), ["apart", "shared", "silent"]);
}

#[test]
fn a_failure_and_a_dry_run_give_back_what_was_taken_of_each_kind() {
    let mut table = fleet();
    let mut asked = request(2, &[DEDICATED]);
    asked.ignore_hosts = vec!["silent".to_owned()];
    let uuids = uuids(13);
    let mut engine = default_scheduler();
    let placed = engine.select(&mut table, &asked, &uuids, &Terms::default());
    // Two instances fit on the PCPUs of `apart` and two on those of `both`. Eight fit on the four VCPUs of `shared`,
    // which are given out four times each.
    assert!(placed.failure.unwrap().to_string().contains("not enough hosts"));
    let nothing =
        |table: &HostTable| ["apart", "both", "shared"].map(|host| used(table, host)) == [(0, 0); 3];
    assert!(nothing(&table));
    let dry = engine.select(&mut table, &asked, &uuids[..12], &DRY);
    assert!(dry.failure.is_none() && dry.picks.len() == 12 && nothing(&table));
    engine.select(&mut table, &asked, &uuids[..12], &Terms::default());
    assert_eq!(["apart", "both", "shared"].map(|host| used(&table, host)), [(0, 4), (0, 4), (16, 0)]);
}

#[test]
fn shared_cpus_are_no_way_around_pcpus_that_are_taken() {
    let mut table = fleet();
    let row = table.row_of("both").unwrap();
    table.set_inventories(row, [("PCPU", inventory(4), 2)].into_iter());
    let asked = request(4, &[DEDICATED]);
    let mut engine = default_scheduler();
    let said = inspect(&mut engine, &mut table, &asked, ONE[0], row).unwrap();
    let line = said.filters.iter().find(|filter| filter.filter == "resources:PCPU=4").unwrap();
    assert_eq!(line.verdict, FilterOutcome::Refuses);
    let reason = line.reason.as_deref().unwrap();
    assert!(reason.starts_with("PCPU 4 asked, 2 free"), "{reason}");
    assert_eq!(line.miss.as_ref().unwrap().text(), "both short by 2 PCPU");
    let of_core = said.filters.iter().find(|filter| filter.filter == "CoreFilter").unwrap();
    assert_eq!(of_core.verdict, FilterOutcome::Passes, "which is asked for none");
    assert!(place(&mut table, &on("both", asked.clone())).failure.is_some());
    let forced = RequestSpec { force_hosts: vec!["both".to_owned()], ..asked };
    assert!(place(&mut table, &forced).failure.is_some(), "nor is force, which skips filters");
}

#[test]
fn instances_that_share_keep_off_hosts_without_cpus_to_share() {
    let mut table = fleet();
    let asked = request(1, &[]);
    assert_eq!(fits(&mut table, &asked), ["both", "shared", "silent"]);
    let row = table.row_of("apart").unwrap();
    let said = inspect(&mut default_scheduler(), &mut table, &asked, ONE[0], row).unwrap();
    let refused = said.filters.iter().find(|filter| filter.verdict == FilterOutcome::Refuses).unwrap();
    let reason = "asked 1 vCPU, but all CPUs of the host are dedicated";
    assert_eq!((&*refused.filter, refused.reason.as_deref()), ("CoreFilter", Some(reason)));
    // CPUs that were dedicated may no longer be dedicated.
    table.set_inventories(row, std::iter::empty());
    assert_eq!(fits(&mut table, &asked), ["apart", "both", "shared", "silent"], "0 is unknown again");
}

#[test]
fn thread_policies_ask_for_a_trait_where_pcpus_are_asked() {
    let alone = || SchedulerOptions {
        policy: Policy { disable_fallback_pcpu_query: true, ..Policy::default() },
        ..SchedulerOptions::default()
    };
    let mut table = fleet();
    let row = table.row_of("both").unwrap();
    table.set_traits(row, ["HW_CPU_HYPERTHREADING"].into_iter());
    for (word, fallen_back, not) in [
        ("require", &["both", "shared", "silent"][..], &["both"][..]),
        ("isolate", &["apart", "shared", "silent"], &["apart"]),
        ("prefer", &["apart", "both", "shared", "silent"], &["apart", "both"]),
    ] {
        let asked = request(1, &[DEDICATED, ("hw:cpu_thread_policy", word)]);
        assert_eq!(fits(&mut table, &asked), fallen_back, "{word}");
        assert_eq!(fitting(&mut table, alone(), &asked), not, "{word}");
    }
    let asked = request(1, &[DEDICATED, ("hw:cpu_thread_policy", "require")]);
    let mut engine = default_scheduler();
    let asked = on("apart", asked);
    let selected = engine.select(&mut table, &asked, &ONE, &Terms::default());
    let line = selected.explanation.filters.iter().find(|line| line.hosts_out == 0).unwrap();
    assert_eq!(line.filter, "hw:cpu_thread_policy=require (HW_CPU_HYPERTHREADING)");
    let given = request(1, &[DEDICATED, ("trait:HW_CPU_HYPERTHREADING", "required")]);
    assert_eq!(fits(&mut table, &given), ["both"], "a trait that is asked by name is asked of all");
}

#[test]
fn how_many_more_fit_is_counted_by_what_each_host_takes() {
    let mut table = fleet();
    let mut engine = default_scheduler();
    let mut counted = |asked: &RequestSpec| {
        let open = eligible(&mut engine, &mut table, asked).unwrap();
        let counted = open.count(Some(Grouping::Host), Some(Grouping::Host), &Running::default());
        counted.groups.iter().map(|group| (group.name.clone(), group.fits)).collect::<Vec<_>>()
    };
    let by_host = |fits: [u64; 4]| {
        ["apart", "both", "shared", "silent"].map(str::to_owned).into_iter().zip(fits).collect::<Vec<_>>()
    };
    // Four VCPUs are given out four times each. If a host does not say how many CPUs it has, its memory is the limit.
    assert_eq!(counted(&request(2, &[DEDICATED])), by_host([2, 2, 8, 64]));
    assert_eq!(counted(&request(1, &[])), by_host([0, 16, 16, 64]));
    assert_eq!(counted(&request(3, &MIXED)), by_host([0, 2, 0, 0]));
}

#[test]
fn what_runs_on_pcpus_has_to_move_when_its_host_is_lost() {
    let mut table = fleet();
    for name in ["shared", "silent"] {
        let row = table.row_of(name).unwrap();
        table.remove(row);
    }
    let row = table.row_of("both").unwrap();
    table.set_inventories(row, [("PCPU", inventory(4), 4)].into_iter());
    let mut engine = default_scheduler();
    let open = eligible(&mut engine, &mut table, &request(2, &[DEDICATED])).unwrap();
    let reserve = open.count(None, Some(Grouping::Host), &Running::default()).reserve.unwrap();
    // Without `apart` nothing fits; without `both` its two instances take what fits on `apart`.
    assert_eq!((reserve.fits, reserve.moved), (0, 0), "{reserve:?}");
    let row = table.row_of("apart").unwrap();
    table.set_inventories(row, [("PCPU", inventory(8), 0)].into_iter());
    let open = eligible(&mut engine, &mut table, &request(2, &[DEDICATED])).unwrap();
    let reserve = open.count(None, Some(Grouping::Host), &Running::default()).reserve.unwrap();
    assert_eq!((reserve.lost.as_str(), reserve.moved, reserve.fits), ("apart", 0, 0), "nothing runs on it");
}

#[test]
fn fewer_cpus_or_an_instance_gone_help_and_no_ratio_does() {
    let mut table = fleet();
    let row = table.row_of("both").unwrap();
    table.set_inventories(row, [("PCPU", inventory(4), 1)].into_iter());
    let asked = on("both", request(4, &[DEDICATED]));
    let mut engine = default_scheduler();
    let misses = near_misses(&mut engine, &mut table, &asked, &ONE).unwrap().expect("it does not fit");
    let fixes = search_fixes(&asked, 1, &misses, |changes| {
        try_changes(&mut engine, &mut table, &asked, &ONE, changes)
    });
    let changes: Vec<_> = fixes.fixes.iter().flat_map(|fix| &fix.changes).collect();
    let fewer = Change::Ask { amount: Quantity::Vcpus, from: 4, to: 3 };
    assert!(changes.contains(&&fewer), "{changes:?}");
    let class = || Quantity::Class("PCPU".to_owned());
    assert!(changes.contains(&&Change::Free { host: "both".to_owned(), amount: class(), by: 1 }));
    assert!(!changes.iter().any(|change| matches!(change, Change::RaiseRatio { .. })), "{changes:?}");
    let mut smaller = asked.clone();
    change_request(&mut smaller, &mut &ONE[..], &fewer);
    assert_eq!(place(&mut table, &smaller).failure, None);
}
