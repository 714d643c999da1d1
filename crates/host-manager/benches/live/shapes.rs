//! The recorded kinds of requests, for the fleets of the engine's benchmark.

use novella_objects::document::{FilterChoice, Requests};
use novella_objects::{Flavor, Image, RequestSpec};

use crate::fleet::read;

/// The first `wanted` distinct shapes among the recorded requests for Nova's default filters.
pub fn shapes(wanted: usize) -> Vec<RequestSpec> {
    let recorded: [Requests; 2] = [read("requests_1000.json.gz"), read("requests_100.json.gz")];
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
            image: Some(Image { properties: request.image.unwrap_or_default(), ..Image::default() }),
            scheduler_hints: request.hints,
            instance_group: request.group,
            force_hosts: request.force_hosts.iter().map(|host| renamed(host)).collect(),
            ignore_hosts: request.ignore_hosts.iter().map(|host| renamed(host)).collect(),
            target_host: request.target_host.as_deref().map(renamed),
            ..RequestSpec::default()
        };
        let default = request.filters == Some(FilterChoice::Set("default".to_owned()));
        if default && request.instance_uuids.len() == 1 && !shapes.contains(&shape) {
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
