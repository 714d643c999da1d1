//! Who is told to act on a request that cannot be decided: its caller, or the operator whose policy stands in the way.

mod bed;

use std::collections::BTreeMap;

use futures_util::FutureExt;
use novella_messaging::{CallError, RequestContext};
use novella_objects::{
    CapacityQuery, Explain, Flavor, InstanceGroup, PlacementRequest, RequestSpec, SelectDestinations,
};
use novella_rpcapi::{NovaSchedulerEndpoint, NovaSelectDestinations, POLICY_ERROR, SchedulerEndpoint};
use novella_scheduler::SchedulerManager;
use novella_service::Env;
use serde_json::json;
use uuid::Uuid;

/// Errors of filters and weighers fail the request, as in Nova. The metadata of the aggregate is not a number, no host
/// reports the metric, soft affinity has no weigher, and the alias of the flavor is not defined.
const POLICY: &str = r#"
[scheduler]
on_filter_error = "fail_request"
[filter_scheduler]
enabled_filters = ["AggregateInstanceExtraSpecsFilter", "JsonFilter"]
weight_classes = ["RAMWeigher", "MetricsWeigher"]
[metrics]
weight_setting = ["cpu.percent=1.0"]
[aggregates.fast]
hosts = ["*"]
metadata = { speed = "very" }
[flavors.gpu]
vcpus = 1
memory_mb = 512
extra_specs = { "pci_passthrough:alias" = "gpu:1" }
"#;

fn flavor(extra_specs: &[(&str, &str)]) -> Flavor {
    let extra_specs = extra_specs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Flavor { vcpus: 1, memory_mb: 512, extra_specs: extra_specs.collect(), ..Flavor::default() }
}

fn spec(extra_specs: &[(&str, &str)]) -> RequestSpec {
    RequestSpec { flavor: flavor(extra_specs), ..RequestSpec::default() }
}

fn one(spec: RequestSpec) -> PlacementRequest {
    PlacementRequest { instance_uuids: vec![Uuid::from_u128(77)], spec, attempt: 1 }
}

/// The key of the policy that an error names; `None` if the error is the caller's.
fn key(error: CallError) -> Option<String> {
    match error {
        CallError::BadArguments { .. } => None,
        CallError::Failed(remote) => {
            assert_eq!((&*remote.module, &*remote.class), ("novella", POLICY_ERROR));
            let key = remote.kwargs["key"].as_str().expect("a key").to_owned();
            assert!(remote.message.contains(&key), "{}", remote.message);
            Some(key)
        }
        other => panic!("neither the caller's nor the operator's: {other:?}"),
    }
}

fn placed(manager: &SchedulerManager, request: SelectDestinations) -> Option<String> {
    let context = RequestContext::default();
    let answer = SchedulerEndpoint::select_destinations(manager, &context, request);
    key(answer.now_or_never().expect("it never waits").expect_err("it cannot be decided"))
}

#[test]
fn a_fault_of_the_policy_names_its_key_and_one_of_the_request_does_not() {
    let manager = bed::manager(&Env::system(None).expect("entropy"), POLICY, 2);
    let of_group = RequestSpec {
        instance_group: Some(InstanceGroup {
            policy: "soft-affinity".to_owned(),
            ..InstanceGroup::default()
        }),
        scheduler_hints: BTreeMap::from([("group".to_owned(), json!("web"))]),
        ..spec(&[])
    };
    let with_query = RequestSpec {
        scheduler_hints: BTreeMap::from([("query".to_owned(), json!("[\"almost\"]"))]),
        ..spec(&[])
    };
    let cases = [
        (spec(&[("speed", ">= 4")]), None, Some("aggregates")),
        (spec(&[]), None, Some("metrics.weight_setting")),
        (of_group, None, Some("filter_scheduler.weight_classes")),
        (spec(&[]), Some("gpu"), Some("flavors.gpu.extra_specs")),
        (spec(&[("pci_passthrough:alias", "gpu:1")]), None, None),
        (spec(&[]), Some("unheard-of"), None),
        (spec(&[("hw:tpm_version", "1.1")]), None, None),
        (with_query, None, None),
    ];
    let mut faults = 0;
    let none = PlacementRequest { instance_uuids: Vec::new(), ..one(spec(&[])) };
    let cases = cases.map(|(spec, flavor, wanted)| (one(spec), flavor, wanted));
    for (request_spec, flavor, wanted) in cases.into_iter().chain([(none, None, None)]) {
        let flavor = flavor.map(str::to_owned);
        let context = format!("{request_spec:?} {flavor:?}");
        let request = SelectDestinations { request_spec, flavor, ..SelectDestinations::default() };
        assert_eq!(placed(&manager, request).as_deref(), wanted, "{context}");
        faults += u64::from(wanted.is_some());
        assert_eq!(manager.policy_faults(), faults, "{context}");
    }
}

#[test]
fn every_call_tells_the_two_apart() {
    let manager = bed::manager(&Env::system(None).expect("entropy"), POLICY, 2);
    let nova = |spec: RequestSpec| {
        let request = NovaSelectDestinations {
            instance_uuids: vec![Uuid::from_u128(77)],
            spec,
            instances: 1,
            alternates: true,
        };
        let context = RequestContext::default();
        let answer = NovaSchedulerEndpoint::select_destinations(&*manager, &context, request).now_or_never();
        key(answer.expect("it never waits").expect_err("it cannot be decided"))
    };
    assert_eq!(nova(spec(&[("speed", ">= 4")])).as_deref(), Some("aggregates"));
    assert_eq!(nova(spec(&[("hw:tpm_version", "1.1")])), None);

    let explain = |spec: RequestSpec, flavor: Option<&str>| {
        let flavor = flavor.map(str::to_owned);
        let args = Explain { request_spec: Some(one(spec)), flavor, ..Explain::default() };
        let answer = manager.explain(args).now_or_never();
        key(answer.expect("it never waits").expect_err("it cannot be decided"))
    };
    assert_eq!(explain(spec(&[("speed", ">= 4")]), None).as_deref(), Some("aggregates"));
    assert_eq!(explain(spec(&[]), Some("unheard-of")), None);

    let capacity = |names: &[&str], flavors: Vec<Flavor>| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let query = CapacityQuery { names, flavors, ..CapacityQuery::default() };
        let answer = manager.capacity(query).now_or_never();
        key(answer.expect("it never waits").expect_err("it cannot be counted"))
    };
    assert_eq!(capacity(&["gpu"], Vec::new()).as_deref(), Some("flavors.gpu.extra_specs"));
    assert_eq!(capacity(&[], vec![flavor(&[("pci_passthrough:alias", "gpu:1")])]), None);
}
