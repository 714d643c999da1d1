//! The recorded kinds of requests, for the fleets of the engine's benchmark.

use std::collections::BTreeMap;

use novella_objects::{Flavor, Image, InstanceGroup, RequestSpec};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::fleet::read;

#[derive(Deserialize)]
struct RecordedRequests {
    requests: Vec<RecordedRequest>,
}

#[derive(Deserialize)]
struct RecordedRequest {
    vcpus: u32,
    memory_mb: u64,
    root_gb: u64,
    ephemeral_gb: u64,
    extra_specs: BTreeMap<String, String>,
    image: BTreeMap<String, Value>,
    hints: BTreeMap<String, Value>,
    group: Option<InstanceGroup>,
    force_hosts: Vec<String>,
    ignore_hosts: Vec<String>,
    target_host: Option<String>,
    instance_uuids: Vec<Uuid>,
    filters: String,
}

/// The first `wanted` distinct shapes among the recorded requests for Nova's default filters.
pub fn shapes(wanted: usize) -> Vec<RequestSpec> {
    let recorded: [RecordedRequests; 2] = [read("requests_1000.json.gz"), read("requests_100.json.gz")];
    let mut shapes: Vec<RequestSpec> = Vec::new();
    for request in recorded.into_iter().flat_map(|file| file.requests) {
        let shape = RequestSpec {
            flavor: Flavor {
                vcpus: request.vcpus,
                memory_mb: request.memory_mb,
                root_gb: request.root_gb,
                ephemeral_gb: request.ephemeral_gb,
                extra_specs: request.extra_specs,
                ..Flavor::default()
            },
            image: Some(Image { properties: request.image, ..Image::default() }),
            scheduler_hints: request.hints,
            instance_group: request.group,
            force_hosts: request.force_hosts.iter().map(|host| renamed(host)).collect(),
            ignore_hosts: request.ignore_hosts.iter().map(|host| renamed(host)).collect(),
            target_host: request.target_host.as_deref().map(renamed),
            ..RequestSpec::default()
        };
        if request.filters == "default" && request.instance_uuids.len() == 1 && !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    assert!(shapes.len() >= wanted, "only {} shapes are recorded", shapes.len());
    shapes.truncate(wanted);
    shapes
}

/// Names here have two digits more.
fn renamed(host: &str) -> String {
    host.replacen("cmp", "cmp00", 1)
}
