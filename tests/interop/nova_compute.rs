//! A compute service of Nova 34 is given what we send: its serializer makes objects of what we wrote.

use novella_messaging::{RpcClient, Target, Version};
use novella_rpcapi::{NovaSelection, SchedulerLimits};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bed;
use crate::nova::Nova;
use crate::support::variable;

fn selection(host: &str) -> NovaSelection {
    NovaSelection {
        compute_node_uuid: Uuid::from_u128(7),
        service_host: host.into(),
        nodename: format!("node-{host}"),
        cell_uuid: Uuid::from_u128(8),
        limits: SchedulerLimits { vcpu: Some(64), memory_mb: Some(98_304), ..SchedulerLimits::default() },
        availability_zone: "nova".into(),
    }
}

/// A request of Nova's conductor, as recorded.
fn request_spec() -> Value {
    let recorded = include_str!("../../crates/nova-objects/tests/recorded/primitives.jsonl");
    serde_json::from_str(recorded.lines().next().expect("a line")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn novas_compute_makes_objects_of_what_we_send() {
    let Some(bed) = bed::shared("nova's compute").await else { return };
    let interpreter = variable("nova's compute", "NOVELLA_TEST_PYTHON").expect("the bed has it too");
    let mut nova = Nova::start(&interpreter, &bed.python_url());
    let serve = json!({"serve": {"topic": bed.topic, "exchange": bed.exchange, "server": "cmp1"}});
    let instance = nova.ask(&serve).await.expect("it serves, and shows an instance");
    let client = RpcClient::new(bed.transport(&bed.our_url(), "client").await, [9; 32]);
    let target = Target { exchange: bed.exchange.clone(), ..Target::topic(&bed.topic).server("cmp1") };
    let target = target.version(Version::new(6, 0));
    let args = json!({
        "instance": instance, "image": {"id": "i"}, "request_spec": request_spec(), "filter_properties": {},
        "admin_password": null, "injected_files": null, "requested_networks": null, "security_groups": null,
        "block_device_mapping": null, "node": "node-cmp1", "limits": {"vcpu": 64, "memory_mb": 98_304},
        "host_list": [selection("cmp1").to_primitive(), selection("cmp2").to_primitive()], "accel_uuids": [],
    });
    let built = client.call::<Value>(&target, "build_and_run_instance", &args, bed::patient());
    let built = built.await.expect("built");
    let expected = json!({
        "instance": ["Instance", instance["nova_object.data"]["uuid"]],
        "request_spec": ["RequestSpec", request_spec()["nova_object.data"]["num_instances"]],
        "host_list": [
            ["Selection", "cmp1", "node-cmp1", ["SchedulerLimits", 64, 98_304]],
            ["Selection", "cmp2", "node-cmp2", ["SchedulerLimits", 64, 98_304]],
        ],
        "limits": {"vcpu": 64, "memory_mb": 98_304},
    });
    assert_eq!(built["seen"], expected);
    assert!(built["request_id"].as_str().is_some_and(|id| id.starts_with("req-")), "{built}");
}
