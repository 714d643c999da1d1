//! Requests as the real Nova 34 serializes them (tests/interop/nova_client.py wrote `recorded/primitives.jsonl` from
//! `recorded/requests.jsonl`), and what becomes of them when they are changed.

use novella_nova_objects::{NovaSelection, ObjectError, request_spec};
use novella_objects::document::Request;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

fn lines<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn requests() -> Vec<Request> {
    lines(include_str!("recorded/requests.jsonl"))
}

fn primitives() -> Vec<Value> {
    lines(include_str!("recorded/primitives.jsonl"))
}

#[test]
fn nothing_of_a_request_is_lost() {
    let (requests, primitives) = (requests(), primitives());
    assert_eq!(requests.len(), primitives.len());
    for (asked, primitive) in requests.iter().zip(&primitives) {
        let read = request_spec(primitive).expect("Nova wrote it");
        let spec = &read.spec;
        assert_eq!(read.instance_uuid, asked.instance_uuids.first().copied());
        assert_eq!(read.num_instances as usize, asked.instance_uuids.len());
        let flavor = &spec.flavor;
        assert_eq!((flavor.vcpus, flavor.memory_mb), (asked.vcpus, asked.memory_mb));
        assert_eq!(
            (flavor.root_gb, flavor.ephemeral_gb, flavor.swap),
            (asked.root_gb, asked.ephemeral_gb, asked.swap)
        );
        assert_eq!(flavor.name, asked.flavor_name.clone().unwrap_or_default());
        assert_eq!(flavor.id, asked.flavor_id.clone().unwrap_or_default());
        assert_eq!(flavor.extra_specs, asked.extra_specs);
        assert_eq!(spec.availability_zone, asked.availability_zone);
        assert_eq!(spec.force_hosts, asked.force_hosts);
        assert_eq!(spec.force_nodes, asked.force_nodes);
        assert_eq!(spec.ignore_hosts, asked.ignore_hosts);
        assert_eq!((&spec.target_host, &spec.target_node), (&asked.target_host, &asked.target_node));
        assert_eq!(spec.target_cell.is_some(), asked.target_cell.is_some());
        assert_eq!(spec.allow_cross_cell_move, asked.allow_cross_cell_move);
        assert_eq!(spec.project_id, asked.project_id);
        assert_eq!(spec.scheduler_hints, asked.hints);
        assert_eq!(spec.pci_requests, asked.pci_requests);
        match (&spec.instance_group, &asked.group) {
            (None, None) => {}
            (Some(group), Some(asked)) => {
                assert_eq!((&group.policy, &group.members), (&asked.policy, &asked.members));
                assert_eq!((&group.hosts, &group.rules), (&asked.hosts, &asked.rules));
                assert!(Uuid::try_parse(&group.name).is_ok(), "{}", group.name);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(spec.network_metadata.is_some(), asked.network_metadata.is_some());
    }
}

#[test]
fn typed_properties_are_read_as_the_image_service_has_them() {
    let image = request_spec(&primitives()[0]).expect("Nova wrote it").spec.image.expect("an image");
    assert_eq!(image.id.as_deref(), Some("11111111-aaaa-4bbb-8ccc-222222222222"));
    let expected = json!({
        "hw_architecture": "x86_64", "hw_boot_menu": true, "hw_numa_nodes": 2, "img_hv_requested_version": ">=6.0",
        "hw_numa_cpus.0": "0", "hw_numa_cpus.1": "1", "hw_numa_mem.0": "512", "hw_numa_mem.1": "1536",
        "trait:CUSTOM_A": "required",
    });
    assert_eq!(serde_json::to_value(image.properties).unwrap(), expected);
}

#[test]
fn numa_cells_networks_and_pinned_cpus_are_read() {
    let first = request_spec(&primitives()[0]).expect("Nova wrote it").spec;
    let topology = first.numa_topology.expect("cells");
    let cells: Vec<_> = topology
        .cells
        .iter()
        .map(|cell| (cell.id, cell.cpuset.clone(), cell.memory_mb, cell.pagesize))
        .collect();
    assert_eq!(cells, [(0, vec![0], 512, Some(-2)), (1, vec![1], 1536, Some(-2))]);
    let network = first.network_metadata.expect("networks");
    assert_eq!(network.physnets, ["physnet0", "physnet1"]);
    assert!(network.tunneled);
    let second = request_spec(&primitives()[1]).expect("Nova wrote it").spec;
    let cell = &second.numa_topology.expect("a cell").cells[0];
    assert_eq!((&*cell.pcpuset, cell.cpu_policy.as_deref()), (&[0][..], Some("dedicated")));
}

/// An object as Nova writes it.
fn object(name: &str, version: &str, data: Value) -> Value {
    json!({"nova_object.name": name, "nova_object.namespace": "nova", "nova_object.version": version,
        "nova_object.data": data})
}

fn changed(change: impl FnOnce(&mut Value)) -> Result<(), ObjectError> {
    let mut primitive = primitives().swap_remove(0);
    change(&mut primitive);
    request_spec(&primitive).map(|_| ())
}

#[test]
fn versions_are_judged_as_nova_judges_them() {
    let at = |version: &str| changed(|spec| spec["nova_object.version"] = version.into());
    for accepted in ["1.15", "1.15.0", "1.15.9", "1.14", "1.0", "1.3.7"] {
        assert_eq!(at(accepted), Ok(()), "{accepted}");
    }
    for refused in ["1.16", "2.0", "0.9", "1.16.1"] {
        let error = at(refused).unwrap_err();
        let text = format!("Version {refused} of RequestSpec is not supported, supported version is 1.15");
        assert_eq!(error.to_string(), text);
    }
    for malformed in ["", "1", "x.y", "1.2.3.4"] {
        assert!(matches!(at(malformed), Err(ObjectError::BadValue { .. })), "{malformed}");
    }
    // The third part is passed over in the outermost object only.
    let flavor = |version: &str| {
        changed(|spec| spec["nova_object.data"]["flavor"]["nova_object.version"] = version.into())
    };
    assert_eq!(flavor("1.1"), Ok(()));
    assert!(matches!(flavor("1.3"), Err(ObjectError::IncompatibleVersion { name, .. }) if name == "Flavor"));
    assert!(matches!(flavor("1.2.1"), Err(ObjectError::IncompatibleVersion { .. })));
}

#[test]
fn headers_and_fields_are_named_when_they_are_wrong() {
    let data = |field: &str, value: Value| changed(|spec| spec["nova_object.data"][field] = value);
    assert_eq!(data("a_field_of_tomorrow", json!(7)), Ok(()));
    assert_eq!(data("project_id", json!(5)), Ok(()), "scalars become texts");
    for (field, value, says) in [
        ("flavor", Value::Null, "RequestSpec 1.15: flavor is null"),
        ("num_instances", json!("many"), "num_instances is \"many\"; expected a whole number"),
        ("instance_uuid", json!("x"), "instance_uuid is \"x\"; expected a UUID"),
        ("ignore_hosts", json!("cmp1"), "ignore_hosts is \"cmp1\"; expected a list"),
        ("image", json!({}), "image is {}; expected an object of the right kind"),
    ] {
        let error = data(field, value).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let error = changed(|spec| {
        spec["nova_object.data"]["flavor"]["nova_object.data"].as_object_mut().unwrap().remove("vcpus");
    });
    assert_eq!(error.unwrap_err().to_string(), "Flavor 1.2 has no vcpus");
    let error = changed(|spec| spec["nova_object.namespace"] = "cinder".into()).unwrap_err();
    assert_eq!(error, ObjectError::Unsupported("cinder.RequestSpec".into()));
    let error =
        changed(|spec| drop(spec.as_object_mut().unwrap().remove("nova_object.namespace"))).unwrap_err();
    assert!(matches!(error, ObjectError::NoKey { key: "nova_object.namespace", .. }), "{error}");
}

#[test]
fn what_only_placement_can_promise_is_refused_by_name() {
    for (field, value, says) in [
        (
            "requested_resources",
            json!([object("RequestGroup", "1.3", json!({}))]),
            "RequestSpec.requested_resources",
        ),
        (
            "requested_destination",
            object("Destination", "1.4", json!({"aggregates": ["11111111-aaaa-4bbb-8ccc-222222222222"]})),
            "Destination.aggregates",
        ),
        (
            "request_level_params",
            object("RequestLevelParams", "1.1", json!({"root_required": ["CUSTOM_A"]})),
            "RequestLevelParams.root_required",
        ),
    ] {
        let error = changed(|spec| spec["nova_object.data"][field] = value).unwrap_err();
        assert!(error.to_string().starts_with(says), "{error}");
    }
}

#[test]
fn hosts_tried_before_are_read() {
    let node = object("ComputeNode", "1.19", json!({"host": "cmp1", "hypervisor_hostname": "node1"}));
    let list = object("ComputeNodeList", "1.17", json!({"objects": [node]}));
    let retries = object("SchedulerRetries", "1.1", json!({"num_attempts": 2, "hosts": list}));
    let mut primitive = primitives().swap_remove(0);
    primitive["nova_object.data"]["retry"] = retries;
    let spec = request_spec(&primitive).expect("as Nova writes it").spec;
    let retry = spec.retry.expect("a retry");
    assert_eq!(retry.num_attempts, 2);
    assert_eq!(retry.hosts, [("cmp1".to_owned(), "node1".to_owned())]);
}

#[test]
fn a_selection_is_written_at_its_lowest_version() {
    let selection = NovaSelection {
        compute_node_uuid: Uuid::nil(),
        service_host: "cmp1".into(),
        nodename: "node1".into(),
        cell_uuid: Uuid::nil(),
        limits: Default::default(),
        availability_zone: "nova".into(),
    };
    let primitive = selection.to_primitive();
    assert_eq!(
        (&primitive["nova_object.name"], &primitive["nova_object.version"]),
        (&json!("Selection"), &json!("1.1"))
    );
    assert_eq!(primitive["nova_object.data"]["allocation_request"], "null");
    assert_eq!(selection.to_dict(), json!({"host": "cmp1", "nodename": "node1", "limits": {}}));
}

/// All places in a value, as paths.
fn places(value: &Value, here: String, all: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, entry) in entries {
                places(entry, format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                places(item, format!("{here}/{at}"), all);
            }
        }
        _ => {}
    }
    all.push(here);
}

proptest! {
    /// Any value at any place is read or refused, and an error is a sentence of bounded length.
    #[test]
    fn any_change_is_read_or_refused(
        which in 0..3_usize,
        at in any::<prop::sample::Index>(),
        with in prop_oneof![
            Just(Value::Null), Just(json!(-1)), Just(json!(1e300)), Just(json!("text")), Just(json!([])),
            Just(json!({})), Just(json!([[null]])), Just(json!({"nova_object.name": "Flavor"})),
            any::<i64>().prop_map(Value::from), ".{0,200}".prop_map(Value::from),
        ],
    ) {
        let mut primitive = primitives().swap_remove(which);
        let mut all = Vec::new();
        places(&primitive, String::new(), &mut all);
        *primitive.pointer_mut(at.get(&all).as_str()).expect("a place of it") = with;
        if let Err(error) = request_spec(&primitive) {
            prop_assert!(error.to_string().len() < 1_000, "{error}");
        }
    }
}
