//! Checks that documents are read as Nova reads the same compute nodes and requests, and that refusals name the place.

use novella_filter_scheduler::HostTable;
use novella_fleet_documents::{EvaluationOptions, answer, apply_policy, host_table, request_spec};
use novella_host_manager::PolicyFile;
use novella_objects::HostStatus;
use novella_objects::document::{Fleet, Host, Options, Outcome, OutcomeError, Question, Request, Requests};
use serde_json::{Value, json};

fn table(hosts: &Value) -> Result<HostTable, String> {
    let text = hosts.to_string();
    let hosts: Vec<Host<'_>> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    host_table(&[], &hosts, 60.0).map_err(|bad| bad.to_string())
}

fn ask(question: &Value) -> Result<Vec<Outcome>, String> {
    let text = question.to_string();
    let question: Question<'_> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    answer(question, None).map(|answered| answered.outcomes).map_err(|bad| bad.to_string())
}

#[test]
fn amounts_are_those_of_novas_host_state() {
    let host = |more: Value| {
        let mut host = json!({"host": "a", "vcpus": 8, "vcpus_used": 3, "memory_mb": 1000, "memory_mb_used": 600,
            "local_gb": 100, "local_gb_used": 30});
        host.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        table(&json!([host])).map(|table| {
            let row = table.rows().next().unwrap();
            let host = table.view(row);
            (host.free_memory_mb(), host.free_disk_mb() / 1024.0)
        })
    };
    assert_eq!(host(json!({})), Ok((400.0, 70.0)), "nothing told: the difference");
    assert_eq!(host(json!({"free_ram_mb": -24, "free_disk_gb": -7})), Ok((-24.0, -7.0)), "overfull");
    assert_eq!(host(json!({"free_disk_gb": 60, "disk_available_least": 50})), Ok((400.0, 50.0)));
    assert_eq!(host(json!({"free_disk_gb": 60, "disk_available_least": 65})), Ok((400.0, 60.0)));
    assert_eq!(host(json!({"free_disk_gb": 60, "disk_available_least": -1})), Ok((400.0, -1.0)));
    assert_eq!(host(json!({"disk_available_least": 69})), Ok((400.0, 69.0)));
    assert_eq!(host(json!({"disk_available_least": 71})), Ok((400.0, 70.0)));
    assert_eq!(host(json!({"free_disk_gb": null})), Ok((0.0, 0.0)), "it has never reported");
    for (more, error) in [
        (
            json!({"free_ram_mb": 1001}),
            "hosts[0](a).free_ram_mb: 1001 is more than memory_mb, 1000, and cannot be free",
        ),
        (
            json!({"free_disk_gb": 101}),
            "hosts[0](a).free_disk_gb: 101 is more than local_gb, 100, and cannot be free",
        ),
        (json!({"vcpus": 1_u64 << 31}), "hosts[0](a).amounts: vcpus_total is 2147483648, more than"),
        (json!({"cpu_allocation_ratio": 0.0}), "hosts[0](a).amounts: cpu_allocation_ratio is 0, but must be"),
        (
            json!({"resources": {"MEMORY_MB": {"total": 9}}}),
            "hosts[0](a).resources.MEMORY_MB: the host's total",
        ),
        (
            json!({"stats": {"num_instances": "many"}}),
            "hosts[0](a).stats.num_instances: \"many\" is not a whole number",
        ),
        (json!({"stats": {"x": 1}, "facts": {"x": 1}}), "hosts[0](a).facts.x: this fact is in stats too"),
        (
            json!({"instances": [{"uuid": "00000000-0000-0000-0000-000000000001", "image": {"hw_architecture": "z80"}}]}),
            "hosts[0](a).instances[0].image: image property hw_architecture is",
        ),
    ] {
        let refused = host(more).unwrap_err();
        assert!(refused.starts_with(error), "{refused}");
    }
}

#[test]
fn counts_are_told_or_taken_from_stats() {
    let hosts = json!([
        {"host": "a", "stats": {"num_instances": " 5 ", "io_workload": "2", "failed_builds": 1}},
        {"host": "b", "stats": {"num_instances": "5"}, "num_instances": 7, "num_io_ops": 8, "failed_builds": 9},
        {"host": "c"},
    ]);
    let table = table(&hosts).unwrap();
    let counts: Vec<_> = table
        .rows()
        .map(|row| *table.view(row).reported())
        .map(|reported| (reported.num_instances, reported.num_io_ops, reported.failed_builds))
        .collect();
    assert_eq!(counts, [(5, 2, 1), (7, 8, 9), (0, 0, 0)]);
}

#[test]
fn a_service_is_up_for_its_time_and_that_second() {
    let hosts = json!([
        {"host": "a", "last_seen_age_s": 60},
        {"host": "b", "last_seen_age_s": 60.001},
        {"host": "c", "last_seen_age_s": -60},
        {"host": "d", "last_seen_age_s": -60.5},
        {"host": "e", "disabled": true},
        {"host": "f", "forced_down": true},
        {"host": "g", "last_seen_age_s": 3600, "suspect": true},
    ]);
    let table = table(&hosts).unwrap();
    let states: Vec<_> = table.rows().map(|row| table.view(row).status()).collect();
    use HostStatus::{Disabled, Down, Suspect, Up};
    assert_eq!(states, [Up, Down, Up, Down, Disabled, Down, Suspect]);
    let options = |settings: Value| {
        let options: Options = serde_json::from_value(settings).unwrap();
        EvaluationOptions::read(&options).map(|options| options.service_down_time_s)
    };
    assert_eq!(options(json!({})), Ok(60.0));
    assert_eq!(options(json!({"service_down_time": 11})), Ok(11.0));
    assert_eq!(options(json!({"service_down_time": 10})), Ok(25.0), "as Nova corrects it");
    assert_eq!(options(json!({"service_down_time": 60, "report_interval": 61})), Ok(152.0));
}

#[test]
fn what_is_asked_before_the_filters_is_no_verdict_of_theirs() {
    let mut question = json!({
        "options": {"filters": ["RamFilter"]}, "aggregates": [{"id": 1}, {"id": 2}],
        "hosts": [
            {"host": "a", "memory_mb": 9, "aggregates": [1]},
            {"host": "b", "aggregates": [1], "traits": ["CUSTOM_A"]},
            {"host": "c", "memory_mb": 9, "aggregates": [1, 2], "traits": ["CUSTOM_A"]},
            {"host": "d", "memory_mb": 9, "aggregates": [1], "traits": ["CUSTOM_A"],
                "resources": {"CUSTOM_GPU": {"total": 4, "used": 2}}},
            {"host": "e", "memory_mb": 9, "traits": ["CUSTOM_A"], "resources": {"CUSTOM_GPU": {"total": 4}}},
        ],
        "requests": [{"memory_mb": 1, "extra_specs": {"trait:CUSTOM_A": "required"}, "required_aggregates": [[1]],
            "forbidden_aggregates": [2], "num_instances": 2}],
    });
    let verdict =
        |question: &Value| ask(question).map(|mut all| (all[0].verdict.clone(), all.remove(0).picks));
    assert_eq!(verdict(&question), Ok(("-a-.-".to_owned(), vec![3, 3])));
    question["requests"][0]["extra_specs"]["resources:CUSTOM_GPU"] = json!("2");
    assert_eq!(verdict(&question), Ok(("---.-".to_owned(), vec![3])), "the second finds none left");
    question["options"]["placement"] = json!(false);
    assert_eq!(verdict(&question).map(|(verdict, _)| verdict), Ok(".a...".to_owned()));
}

#[test]
fn two_hosts_of_one_name_are_refused() {
    let error = table(&json!([{"host": "a"}, {"host": "a", "node": "other"}])).unwrap_err();
    assert_eq!(
        error,
        "hosts[1](a).host: another host has this name; each host is listed once, with one node"
    );
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let question = |change: fn(&mut Value)| {
        let mut question = json!({
            "schema": 1, "options": {"filters": ["ComputeFilter"]}, "filter_sets": {"few": ["RamFilter"]},
            "aggregates": [{"id": 1}], "hosts": [{"host": "a"}], "requests": [{"vcpus": 1}],
        });
        change(&mut question);
        ask(&question).unwrap_err()
    };
    for (change, error) in [
        (
            (|q| q["schema"] = json!(2)) as fn(&mut Value),
            "this is version 2 of the schema; only version 1 is known",
        ),
        (|q| q["hosts"][0]["vcpu"] = json!(1), "unknown field `vcpu`"),
        (|q| q["requests"][0]["ram"] = json!(1), "unknown field `ram`"),
        (
            |q| q["options"]["filters"][0] = json!("CompFilter"),
            "options.filters[0]: there is no filter \"CompFilter\"",
        ),
        (
            |q| q["options"]["weighers"] = json!(["RamWeigher"]),
            "options.weighers[0]: there is no weigher \"RamWeigher\"",
        ),
        (
            |q| q["options"]["multipliers"] = json!({"Ram": 1}),
            "options.multipliers: there is no weigher \"Ram\"",
        ),
        (|q| q["options"]["ram_weight"] = json!(1), "options.ram_weight: there is no such option"),
        (|q| q["options"]["max_attempts"] = json!("x"), "options.max_attempts: invalid type: string \"x\""),
        (|q| q["options"]["max_attempts"] = json!(0), "options: max_attempts must be at least 1"),
        (|q| q["filter_sets"]["few"] = json!(["x"]), "filter_sets.few[0]: there is no filter \"x\""),
        (
            |q| q["requests"][0]["filters"] = json!("many"),
            "requests[0].filters: there is no filter set \"many\"; choose one of few",
        ),
        (|q| q["requests"][0]["filters"] = json!(["x"]), "requests[0].filters[0]: there is no filter \"x\""),
        (
            |q| q["requests"][0]["filters"] = json!(["RamFilter", "RamFilter"]),
            "requests[0].filters: RamFilter is listed",
        ),
        (
            |q| q["requests"][0]["num_instances"] = json!(0),
            "requests[0].num_instances: 0 instances were asked for; a request may",
        ),
        (|q| q["requests"][0]["instance_uuids"] = json!([1]), "expected a formatted UUID string"),
        (
            |q| q["hosts"][0]["numa_topology"] = json!({"cells": [{"id": 1}, {"id": 1}]}),
            "hosts[0](a).devices: numa_topology: two cells have the id 1",
        ),
        (
            |q| q["aggregates"] = json!([{"id": 1}, {"id": 1}]),
            "aggregates[1].id: 1 is the id of another aggregate",
        ),
    ] {
        let refused = question(change);
        assert!(refused.contains(error), "{refused:?} should say {error:?}");
    }
}

#[test]
fn uuids_are_made_up_where_none_are_given() {
    let uuids = |request: Value| {
        let request: Request = serde_json::from_value(request).unwrap();
        request_spec(&request).map(|spec| spec.instance_uuids).map_err(|bad| bad.to_string())
    };
    let three = uuids(json!({"num_instances": 3})).unwrap();
    assert_eq!(three.len(), 3);
    assert_eq!(uuids(json!({"num_instances": 3})).unwrap(), three, "the same each time");
    assert_eq!(uuids(json!({})).unwrap(), three[..1]);
    assert_eq!(uuids(json!({"instance_uuids": three})).unwrap(), three);
    assert!(
        uuids(json!({"instance_uuids": three, "num_instances": 2})).unwrap_err().contains("3 uuids for 2")
    );
}

#[test]
fn a_filters_error_is_data() {
    let mut question = json!({
        "options": {"filters": ["ComputeFilter", "JsonFilter", "ComputeCapabilitiesFilter"]},
        "hosts": [
            {"host": "a", "disabled": true},
            {"host": "b", "stats": {"speed": "fast"}},
            {"host": "c", "stats": {"speed": "3"}},
            {"host": "d", "stats": {"speed": "4"}},
        ],
        "requests": [{"id": "fast ones", "extra_specs": {"capabilities:speed": "= 3"}}],
    });
    let [outcome] = ask(&question).unwrap().try_into().unwrap();
    assert_eq!((outcome.verdict.as_str(), outcome.complete), ("a!..", false));
    assert_eq!((outcome.picks.len(), outcome.weights.len()), (0, 0), "in Nova the request ends here");
    let [OutcomeError::Filter { filter, host: 1, reason }] = &outcome.errors[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(filter, "ComputeCapabilitiesFilter");
    assert!(reason.contains("fast"), "{reason}");
    question["options"]["on_filter_error"] = json!("reject_host");
    let [outcome] = ask(&question).unwrap().try_into().unwrap();
    assert_eq!((outcome.verdict.as_str(), outcome.complete, outcome.errors.len()), ("a!..", true, 1));
    assert_eq!((outcome.picks.as_slice(), outcome.weights.len()), (&[2][..], 2));
}

#[test]
fn picks_end_where_no_host_is_left() {
    let question = json!({
        "options": {"filters": ["RamFilter"], "weighers": ["RAMWeigher"]},
        "hosts": [
            {"host": "a", "memory_mb": 5, "local_gb": 9},
            {"host": "b", "memory_mb": 3, "local_gb": 9},
            {"host": "c", "memory_mb": 1, "local_gb": 9},
        ],
        "requests": [
            {"memory_mb": 2, "num_instances": 3}, {"memory_mb": 2, "num_instances": 4}, {"target_host": "z"},
        ],
    });
    let [fits, too_many, nowhere] = ask(&question).unwrap().try_into().unwrap();
    assert_eq!((fits.complete, fits.picks.as_slice(), fits.verdict.as_str()), (true, &[0, 0, 1][..], "..a"));
    assert_eq!((too_many.complete, too_many.picks.as_slice()), (false, &[0, 0, 1][..]));
    assert_eq!(too_many.weights, [(0, 1.0), (1, 0.6)]);
    assert_eq!((nowhere.complete, nowhere.verdict.as_str(), nowhere.picks.len()), (false, "---", 0));
}

#[test]
fn options_that_are_written_read_as_they_were() {
    let options: Options = serde_json::from_value(json!({
        "filters": ["RamFilter", "JsonFilter"], "weighers": ["CPUWeigher", "BuildFailureWeigher"],
        "multipliers": {"CPUWeigher": -2.5, "RAMWeigher": 7.0}, "build_failure_weight_multiplier": 3,
        "on_filter_error": "reject_host", "isolated_hosts": ["a"], "metrics_required": false,
        "image_properties_default_architecture": "x86_64", "service_down_time": 75.5, "host_subset_size": 3,
    }))
    .unwrap();
    let read = EvaluationOptions::read(&options).unwrap();
    assert_ne!(read, EvaluationOptions::default());
    let text = serde_json::to_string(&read.write()).unwrap();
    let again: Options = serde_json::from_str(&text).unwrap();
    assert_eq!(EvaluationOptions::read(&again), Ok(read), "{text}");
}

const DEVICES: &str = "[filter_scheduler]\nenabled_filters = ['PciPassthroughFilter']\n";

#[test]
fn a_document_s_request_may_name_aliases_too() {
    let text = format!(
        "{DEVICES}[[pci.alias]]\nname = 'gpu'\nvendor_id = '10DE'\nproduct_id = '1eb8'\n\
         [flavors.large]\nvcpus = 8\nmemory_mb = 1024\nextra_specs = {{ 'pci_passthrough:alias' = 'gpu:2' }}\n"
    );
    let policy = PolicyFile::parse(&text).unwrap();
    let apply = |requests: serde_json::Value| {
        let mut requests: Requests = serde_json::from_value(json!({ "requests": requests })).unwrap();
        apply_policy(&policy, &mut Fleet::default(), &mut requests).map(|()| requests.requests)
    };
    let requests = apply(json!([
        {"vcpus": 1, "extra_specs": {"pci_passthrough:alias": "gpu:1"}},
        {"flavor_name": "large"},
        {"vcpus": 1},
    ]));
    let counts =
        requests.unwrap().iter().map(|r| r.pci_requests.iter().map(|p| p.count).sum()).collect::<Vec<u32>>();
    assert_eq!(counts, [1, 2, 0]);
    let unknown =
        apply(json!([{"vcpus": 1}, {"extra_specs": {"pci_passthrough:alias": "fpga:1"}}])).unwrap_err();
    assert_eq!(unknown.place, "requests[1].extra_specs");
    assert!(unknown.reason.contains("fpga"), "{unknown}");
}
