//! CPU policies, as simply as possible: what they ask of which host, and random policies.

use std::collections::BTreeSet;

use novella_objects::document::{InstanceNumaCell, InstanceNumaTopology};
use novella_objects::{Image, RequestSpec};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::Host;

type Rng = ChaCha8Rng;

/// The CPUs that the flavor and the image pin.
pub struct Pinned {
    pub dedicated: BTreeSet<u32>,
    pub mixed: bool,
    pub isolate: bool,
}

/// The flavor's value or else the image's, with its key. The test generates no two that contradict.
fn said<'r>(request: &'r RequestSpec, name: &str) -> Option<(String, &'r str)> {
    let (spec, property) = (format!("hw:{name}"), format!("hw_{name}"));
    let of_image = || request.image.as_ref()?.properties.get(&property)?.as_str();
    match request.flavor.extra_specs.get(&spec) {
        Some(word) => Some((spec, word)),
        None => of_image().map(|word| (property.clone(), word)),
    }
}

pub fn pinned(request: &RequestSpec) -> Option<Pinned> {
    let all: BTreeSet<u32> = (0..request.flavor.vcpus).collect();
    let mixed = match said(request, "cpu_policy").map(|(_, word)| word) {
        Some("dedicated") => false,
        Some("mixed") => true,
        _ => return None,
    };
    let mask = request.flavor.extra_specs.get("hw:cpu_dedicated_mask").map(String::as_str);
    let dedicated = match mask {
        Some("^0") => &all - &BTreeSet::from([0]),
        Some("0-1") => BTreeSet::from([0, 1]),
        Some(_) => BTreeSet::from([0]),
        None => all,
    };
    let isolate = said(request, "emulator_threads_policy").is_some_and(|(_, word)| word == "isolate");
    Some(Pinned { dedicated, mixed, isolate })
}

impl Pinned {
    /// The amounts of `PCPU` and of `VCPU`.
    pub fn amounts(&self, vcpus: u32) -> (u64, u64) {
        let own = self.dedicated.len() as u64;
        (own + u64::from(self.isolate), u64::from(vcpus) - own)
    }
}

/// The thread policy `require` or `isolate`, with the line of its trait.
pub fn threads(request: &RequestSpec) -> Option<(String, &str)> {
    let (key, word) = said(request, "cpu_thread_policy").filter(|(_, word)| *word != "prefer")?;
    Some((format!("{key}={word} (HW_CPU_HYPERTHREADING)"), word))
}

/// Whether a host says how many CPUs it has for pinning.
pub fn has_pcpus(host: &Host) -> bool {
    host.inventories.get("PCPU").is_some_and(|(inventory, _)| inventory.is_some())
}

/// The single cell that a request with pinned CPUs asks for.
pub fn cells(request: &RequestSpec) -> Option<InstanceNumaTopology> {
    let Pinned { dedicated, mixed, isolate } = pinned(request)?;
    let of_trait =
        request.flavor.extra_specs.get("trait:HW_CPU_HYPERTHREADING").map(|word| match word.as_str() {
            "required" => "require",
            _ => "isolate",
        });
    let thread_policy = said(request, "cpu_thread_policy").map(|(_, word)| word).or(of_trait);
    let cell = InstanceNumaCell {
        cpuset: (0..request.flavor.vcpus).filter(|cpu| !dedicated.contains(cpu)).collect(),
        pcpuset: dedicated.into_iter().collect(),
        memory_mb: request.flavor.memory_mb,
        cpu_policy: Some(if mixed { "mixed" } else { "dedicated" }.to_owned()),
        cpu_thread_policy: thread_policy.map(str::to_owned),
        ..InstanceNumaCell::default()
    };
    let emulator_threads_policy = isolate.then(|| "isolate".to_owned());
    Some(InstanceNumaTopology { cells: vec![cell], emulator_threads_policy })
}

/// Makes some requests pin CPUs, by the flavor or by the image.
pub fn pin(rng: &mut Rng, request: &mut RequestSpec) {
    let specs = &mut request.flavor.extra_specs;
    let gives_cpus =
        |(key, text): (&String, &String)| (key.ends_with(":PCPU") || key.ends_with(":VCPU")) && text != "0";
    let cells = request.numa_topology.is_some();
    if specs.iter().any(gives_cpus) {
        if let Some(image) = &mut request.image {
            image.properties.remove("hw_cpu_policy");
        }
        return;
    }
    if !rng.random_bool(0.35) {
        return;
    }
    let mut set = |key: &str, word: &str| specs.insert(key.to_owned(), word.to_owned());
    let by_image = rng.random_bool(0.3);
    if by_image {
        let image = request.image.get_or_insert_with(Image::default);
        image.properties.insert("hw_cpu_policy".to_owned(), json!("dedicated"));
    } else if request.flavor.vcpus > 1 && rng.random_bool(0.3) {
        set("hw:cpu_policy", "mixed");
        let masks = if request.flavor.vcpus > 2 { &["0", "^0", "0-1"][..] } else { &["0", "^0"] };
        set("hw:cpu_dedicated_mask", masks.choose(rng).unwrap());
        if let Some(image) = &mut request.image {
            image.properties.remove("hw_cpu_policy");
        }
    } else {
        set("hw:cpu_policy", "dedicated");
    }
    if rng.random_bool(0.3) {
        set("hw:emulator_threads_policy", ["isolate", "isolate", "share"].choose(rng).unwrap());
    }
    let image = request.image.as_ref();
    if image.is_some_and(|image| image.properties.contains_key("hw_cpu_thread_policy")) {
        return;
    }
    if rng.random_bool(0.4) {
        set("hw:cpu_thread_policy", ["require", "isolate", "prefer"].choose(rng).unwrap());
    } else if !cells && rng.random_bool(0.2) {
        set("trait:HW_CPU_HYPERTHREADING", ["required", "forbidden"].choose(rng).unwrap());
    }
}
