//! What Nova asks of Placement, host by host, as simply as possible.

use std::collections::BTreeMap;

use novella_filter_scheduler::{Aggregate, FilterKind};
use novella_objects::{Flavor, Inventory, RequestSpec};

use super::pinning::{has_pcpus, pinned, threads};
use super::{Host, Naive, Tally, Verdict, keep, plain};

/// What a flavor takes and asks for, including what extra specs say.
pub struct Sizes {
    /// How many CPUs are asked for; `None` if none.
    pub vcpus: Option<u64>,
    pub memory_mb: Option<u64>,
    /// The disk in MiB, with swap.
    pub disk_mb: Option<u64>,
    pub disk_gb_taken: u64,
    /// The amount of each class over all groups, without zeros.
    pub classes: BTreeMap<String, u64>,
}

/// `(suffix, class, amount)` for all entries that Nova understands. The test generates no strange suffixes.
fn resources(request: &RequestSpec) -> Vec<(String, String, u64)> {
    let mut all = Vec::new();
    for (key, text) in &request.flavor.extra_specs {
        let Some((word, class)) = key.split_once(':') else { continue };
        let Some(suffix) = word.strip_prefix("resources") else { continue };
        let known = ["VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "VGPU", ENCRYPTION].contains(&class);
        if let (true, Ok(amount)) = (known || class.starts_with("CUSTOM_"), text.parse()) {
            all.push((suffix.to_owned(), class.to_owned(), amount));
        }
    }
    // These replace what the group without a suffix asks for itself.
    let mut set = |class: String, amount: u64| {
        all.retain(|(suffix, other, _)| !(suffix.is_empty() && *other == class));
        all.push((String::new(), class, amount));
    };
    let labels = request.flavor.extra_specs.get("hw:pmem").map_or("", String::as_str).split(',');
    let labels: Vec<_> = labels.map(str::trim).filter(|label| !label.is_empty()).collect();
    for label in &labels {
        let times = labels.iter().filter(|other| *other == label).count();
        set(format!("CUSTOM_PMEM_NAMESPACE_{}", label.to_uppercase()), times as u64);
    }
    if yes(request, "mem_encryption") {
        set(ENCRYPTION.to_owned(), 1);
    }
    all
}

const ENCRYPTION: &str = "MEM_ENCRYPTION_CONTEXT";

/// What the flavor or else the image says about a feature.
fn said<'r>(request: &'r RequestSpec, name: &str) -> Option<&'r str> {
    says(request, name).map(|(_, value)| value)
}

/// The key that says something about a feature, of the flavor or else of the image, and what it says.
fn says<'r>(request: &'r RequestSpec, name: &str) -> Option<(String, &'r str)> {
    let prefix = if name == "secure_boot" { "os" } else { "hw" };
    let (key, property) = (format!("{prefix}:{name}"), format!("{prefix}_{name}"));
    let of_image = request.image.as_ref().and_then(|image| image.properties.get(&property)?.as_str());
    let of_flavor = request.flavor.extra_specs.get(&key).map(String::as_str);
    let of_flavor = of_flavor.filter(|text| !text.is_empty()).map(|text| (key, text));
    of_flavor.or(of_image.filter(|text| !text.is_empty()).map(|text| (property, text)))
}

fn yes(request: &RequestSpec, name: &str) -> bool {
    ["true", "yes"].contains(&said(request, name).unwrap_or("no"))
}

/// `(suffix, trait)` for all entries with this word.
fn traits(flavor: &Flavor, said: &str) -> Vec<(String, String)> {
    let entries = flavor.extra_specs.iter().filter(|(_, text)| *text == said);
    let entries = entries.filter_map(|(key, _)| key.split_once(':'));
    entries
        .filter_map(|(word, name)| Some((word.strip_prefix("trait")?.to_owned(), name.to_owned())))
        .collect()
}

/// What an instance takes of a host, and what it asks for.
pub fn sizes(request: &RequestSpec, host: &Host) -> Sizes {
    let flavor = &request.flavor;
    let all = resources(request);
    let sum = |class: &str| {
        let of_class: Vec<u64> = all.iter().filter(|(_, c, _)| c == class).map(|(_, _, n)| *n).collect();
        (!of_class.is_empty()).then(|| of_class.iter().sum::<u64>())
    };
    let asked = |given: Option<u64>, own: u64| match given {
        Some(0) => None,
        Some(given) => Some(given),
        None => Some(own),
    };
    // root_gb unless volume-backed
    let own_disk_gb = if request.is_bfv { 0 } else { flavor.root_gb } + flavor.ephemeral_gb;
    let own_disk_gb = own_disk_gb + flavor.swap.div_ceil(1024);
    let pinned =
        pinned(request).filter(|_| ["VCPU", "PCPU"].iter().all(|class| sum(class).unwrap_or(0) == 0));
    let pinned = pinned.filter(|_| has_pcpus(host)).map(|pinned| pinned.amounts(flavor.vcpus));
    let cpus = if let Some((_, shared)) = pinned {
        Some(shared)
    } else if sum("PCPU").is_some() {
        Some(sum("VCPU").unwrap_or(0))
    } else {
        sum("VCPU")
    };
    let mut classes = BTreeMap::new();
    for (_, class, _) in &all {
        let amount = sum(class).unwrap();
        if amount > 0 && !["VCPU", "MEMORY_MB", "DISK_GB"].contains(&class.as_str()) {
            classes.insert(class.clone(), amount);
        }
    }
    if let Some((own, _)) = pinned.filter(|(own, _)| *own > 0) {
        classes.insert("PCPU".to_owned(), own);
    }
    Sizes {
        vcpus: asked(cpus, flavor.vcpus.into()),
        memory_mb: asked(sum("MEMORY_MB"), flavor.memory_mb),
        disk_mb: asked(sum("DISK_GB").map(|gb| 1024 * gb), 1024 * own_disk_gb),
        disk_gb_taken: sum("DISK_GB").unwrap_or(own_disk_gb),
        classes,
    }
}

type Term<'a> = (String, Box<dyn Fn(&Host) -> Verdict + 'a>);

fn in_one(host: &Host, ids: &[u32]) -> bool {
    ids.iter().any(|id| host.aggregates.contains(id))
}

impl Naive<'_> {
    /// The hosts of `list` that have what is asked for. `None` if the request fails before any host is looked at.
    pub(super) fn placement(
        &self,
        hosts: &[Host],
        list: &[usize],
        index: usize,
    ) -> Option<(Vec<usize>, Vec<Tally>)> {
        let mut list = list.to_vec();
        let mut tallies: Vec<Tally> = Vec::new();
        if !self.options.placement {
            return Some((list, tallies));
        }
        for (name, satisfies) in self.terms(hosts)? {
            if (index > 0 && !name.starts_with("resources:")) || (!tallies.is_empty() && list.is_empty()) {
                continue;
            }
            tallies.push(keep(name, hosts, &mut list, satisfies).0);
        }
        Some((list, tallies))
    }

    fn terms<'a>(&'a self, hosts: &'a [Host]) -> Option<Vec<Term<'a>>> {
        let (policy, request) = (&self.options.policy, self.request);
        let flavor = &request.flavor;
        let mut terms: Vec<Term<'a>> = Vec::new();
        let ids = |which: &dyn Fn(&Aggregate) -> bool| -> Vec<u32> {
            self.aggregates.iter().filter(|a| which(a)).map(|a| a.id).collect()
        };
        // Tuples of suffix, 0 for required, line and trait.
        let mut asked: Vec<(String, u8, String, String)> = Vec::new();
        for (said, order) in [("required", 0), ("forbidden", 1)] {
            for (suffix, name) in traits(flavor, said) {
                asked.push((suffix.clone(), order, format!("trait{suffix}:{name}={said}"), name));
            }
        }
        asked.sort();
        let mut asked: Vec<_> =
            asked.into_iter().map(|(_, order, line, name)| (line, name, order == 0)).collect();
        for (key, said) in request.image.iter().flat_map(|image| &image.properties) {
            if let (Some(name), Some("required")) = (key.strip_prefix("trait:"), said.as_str()) {
                asked.push((format!("{key}=required (image)"), name.to_owned(), true));
            }
        }
        if policy.limit_tenants_to_placement_aggregate {
            let named = |a: &Aggregate| {
                let mut tenants = a.metadata.iter().filter(|(key, _)| key.starts_with("filter_tenant_id"));
                tenants.any(|(_, value)| Some(value) == request.project_id.as_ref())
            };
            let ids = ids(&named);
            if !ids.is_empty() {
                let name = "require_tenant_aggregate".to_owned();
                terms.push((name, Box::new(move |host| plain(in_one(host, &ids)))));
            } else if policy.placement_aggregate_required_for_tenants {
                return None;
            }
        }
        if policy.enable_isolated_aggregate_filtering {
            let required: Vec<_> = asked.iter().filter(|(.., wanted)| *wanted).collect();
            let foreign = |a: &Aggregate| {
                let mut traits =
                    a.metadata.iter().filter(|(k, v)| k.starts_with("trait:") && *v == "required");
                traits.any(|(key, _)| !required.iter().any(|(_, name, _)| *key == format!("trait:{name}")))
            };
            let ids = ids(&foreign);
            if !ids.is_empty() {
                terms.push(("isolate_aggregates".to_owned(), Box::new(move |h| plain(!in_one(h, &ids)))));
            }
        }
        let list = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        for ids in &request.required_aggregates {
            let name = format!("aggregates:{}=required", list(ids));
            terms.push((name, Box::new(move |host| plain(in_one(host, ids)))));
        }
        if !request.forbidden_aggregates.is_empty() {
            let ids = &request.forbidden_aggregates;
            let name = format!("aggregates:{}=forbidden", list(ids));
            terms.push((name, Box::new(move |host| plain(!in_one(host, ids)))));
        }
        if !self.options.enabled_filters.contains(&FilterKind::AvailabilityZone) {
            terms.extend(self.zone_term(hosts));
        }
        let format = request.image.as_ref().and_then(|image| image.disk_format.as_deref());
        if policy.query_placement_for_image_type_support && !request.is_bfv && format == Some("qcow2") {
            let name = "COMPUTE_IMAGE_TYPE_QCOW2".to_owned();
            asked.push((format!("require_image_type_support ({name})"), name, true));
        }
        asked.push(("compute_status_filter".to_owned(), "COMPUTE_STATUS_DISABLED".to_owned(), false));
        if policy.image_metadata_prefilter {
            let property = |name: &str| request.image.as_ref()?.properties.get(name)?.as_str();
            if let Some(model) = property("hw_video_model") {
                let name = format!("COMPUTE_GRAPHICS_MODEL_{}", model.to_uppercase());
                asked.push((format!("transform_image_metadata (hw_video_model: {name})"), name, true));
            }
            if let Some(arch) = property("hw_architecture") {
                let name = format!("HW_ARCH_{}", arch.to_uppercase());
                asked.push((format!("transform_image_metadata (hw_architecture: {name})"), name, true));
            }
        }
        for (prefilter, name) in features(request)? {
            asked.push((format!("{prefilter} ({name})"), name, true));
        }
        let pinned = pinned(request);
        let falls_back =
            pinned.as_ref().is_some_and(|pinned| !pinned.mixed) && !policy.disable_fallback_pcpu_query;
        let threads = threads(request).map(|(line, word)| (line, word == "require"));
        let twice = |(_, wanted): &(String, bool)| {
            asked.iter().any(|(_, name, how)| name == "HW_CPU_HYPERTHREADING" && how == wanted)
        };
        let threads = threads.filter(|threads| !twice(threads));
        if let (Some((line, wanted)), false) = (&threads, falls_back) {
            asked.push((line.clone(), "HW_CPU_HYPERTHREADING".to_owned(), *wanted));
        }
        terms.extend(trait_terms(hosts, asked));
        if let (Some((line, wanted)), true) = (threads, falls_back) {
            let has = |host: &Host| host.traits.iter().any(|name| name == "HW_CPU_HYPERTHREADING");
            if wanted || hosts.iter().any(has) {
                terms.push((line, Box::new(move |h| plain(!has_pcpus(h) || has(h) == wanted))));
            }
        }
        let mut classes: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (_, class, amount) in resources(request).into_iter().filter(|(.., amount)| *amount > 0) {
            if !["VCPU", "MEMORY_MB", "DISK_GB"].contains(&class.as_str()) {
                classes.entry(class).or_default().push(amount);
            }
        }
        let given = resources(request)
            .iter()
            .any(|(_, class, amount)| *amount > 0 && ["VCPU", "PCPU"].contains(&class.as_str()));
        let own = pinned.map_or(0, |pinned| pinned.amounts(flavor.vcpus).0);
        if !given && own > 0 {
            classes.insert("PCPU".to_owned(), vec![own]);
        }
        for (class, each) in classes {
            let sum = each.iter().sum();
            let name = format!("resources:{class}={sum}");
            let others = falls_back && class == "PCPU";
            terms.push((
                name,
                Box::new(move |host| match others && !has_pcpus(host) {
                    true => Verdict::Pass,
                    false => fits(host, &class, sum, &each),
                }),
            ));
        }
        terms.extend(self.group_terms());
        Some(terms)
    }

    fn zone_term<'a>(&'a self, hosts: &[Host]) -> Option<Term<'a>> {
        let wanted = self.request.availability_zone.as_ref().filter(|zone| !zone.is_empty())?;
        let satisfies = move |host: &Host| {
            let of_host = self.aggregates.iter().filter(|a| host.aggregates.contains(&a.id));
            let zones: Vec<&String> = of_host.filter_map(|a| a.metadata.get("availability_zone")).collect();
            if zones.is_empty() { host.zone.as_ref() == Some(wanted) } else { zones.contains(&wanted) }
        };
        let named = self.aggregates.iter().any(|a| a.metadata.get("availability_zone") == Some(wanted));
        let somewhere = named || hosts.iter().any(satisfies);
        let name = "map_az_to_placement_aggregate".to_owned();
        somewhere.then(|| -> Term<'a> { (name, Box::new(move |host| plain(satisfies(host)))) })
    }

    fn group_terms<'a>(&self) -> Vec<Term<'a>> {
        let flavor = &self.request.flavor;
        let mut amounts: BTreeMap<String, u64> = BTreeMap::new();
        for (suffix, _, amount) in resources(self.request) {
            *amounts.entry(suffix).or_default() += amount;
        }
        for (suffix, _) in [traits(flavor, "required"), traits(flavor, "forbidden")].concat() {
            *amounts.entry(suffix).or_default() += 0;
        }
        let with_traits = |suffix: &String| {
            [traits(flavor, "required"), traits(flavor, "forbidden")]
                .concat()
                .iter()
                .any(|(s, _)| s == suffix)
        };
        amounts.retain(|suffix, sum| !suffix.is_empty() && (*sum > 0 || with_traits(suffix)));
        let mut names = Vec::new();
        if amounts.len() > 1 {
            match flavor.extra_specs.get("group_policy").map(String::as_str) {
                Some("none") => {}
                Some("isolate") => names.push("group_policy=isolate".to_owned()),
                _ => names.push("group_policy (missing)".to_owned()),
            }
        }
        if let Some((suffix, _)) = amounts.iter().rfind(|(_, sum)| **sum == 0) {
            names.push(format!("resources{suffix} (missing)"));
        }
        names.into_iter().map(|name| -> Term<'a> { (name, Box::new(|_| plain(false))) }).collect()
    }
}

/// The other traits that a flavor or an image stands for, by what asks for them. `None` if the request fails. The test
/// generates no contradictions.
fn features(request: &RequestSpec) -> Option<Vec<(String, String)>> {
    let mut asked: Vec<(String, String)> = Vec::new();
    let mut ask = |by: &str, name: &str| asked.push((by.to_owned(), name.to_owned()));
    if yes(request, "virtio_packed_ring") {
        ask("packed_virtqueue_filter", "COMPUTE_NET_VIRTIO_PACKED");
    }
    if yes(request, "ephemeral_encryption") {
        ask("ephemeral_encryption_filter", "COMPUTE_EPHEMERAL_ENCRYPTION");
        if let Some(format) = said(request, "ephemeral_encryption_format") {
            let name = format!("COMPUTE_EPHEMERAL_ENCRYPTION_{}", format.to_uppercase());
            ask("ephemeral_encryption_filter", &name);
        }
    }
    if said(request, "sound_model") == Some("virtio") {
        ask("virtio_sound_filter", "COMPUTE_SOUND_MODEL_VIRTIO");
    }
    if said(request, "tpm_version").is_some() {
        let ending = match request.flavor.extra_specs.get("hw:tpm_secret_security").map(String::as_str) {
            None | Some("" | "user") => "USER",
            Some("host") => "HOST",
            Some("deployment") => "DEPLOYMENT",
            Some(_) => return None,
        };
        ask("tpm_secret_security_filter", &format!("COMPUTE_SECURITY_TPM_SECRET_SECURITY_{ending}"));
    }
    if yes(request, "mem_encryption") {
        let model = said(request, "mem_encryption_model").unwrap_or("amd-sev");
        let name = match model {
            "intel-tdx" => "HW_CPU_X86_INTEL_TDX".to_owned(),
            amd => format!("HW_CPU_X86_{}", amd.to_uppercase().replace('-', "_")),
        };
        ask(&format!("memory encryption by {model}"), &name);
    }
    if let Some(version) = says(request, "tpm_version") {
        let line = |(key, value): &(String, &str)| format!("{key}={value}");
        let model = says(request, "tpm_model");
        let crb = model.as_ref().is_some_and(|(_, model)| *model == "tpm-crb");
        let by = line(model.as_ref().unwrap_or(&version));
        ask(&by, if crb { "COMPUTE_SECURITY_TPM_CRB" } else { "COMPUTE_SECURITY_TPM_TIS" });
        ask(&line(&version), &format!("COMPUTE_SECURITY_TPM_{}", version.1.replace('.', "_")));
    }
    for (name, value, needs) in [
        ("pci_numa_affinity_policy", "socket", "COMPUTE_SOCKET_PCI_NUMA_AFFINITY"),
        ("secure_boot", "required", "COMPUTE_SECURITY_UEFI_SECURE_BOOT"),
        ("maxphysaddr_mode", "passthrough", "COMPUTE_ADDRESS_SPACE_PASSTHROUGH"),
        ("maxphysaddr_mode", "emulate", "COMPUTE_ADDRESS_SPACE_EMULATED"),
    ] {
        if let Some((key, _)) = says(request, name).filter(|(_, said)| *said == value) {
            ask(&format!("{key}={value}"), needs);
        }
    }
    let property = |name: &str| request.image.as_ref()?.properties.get(name)?.as_str();
    if property("hw_firmware_stateless") == Some("true") && property("hw_firmware_type") == Some("uefi") {
        ask("hw_firmware_stateless", "COMPUTE_SECURITY_STATELESS_FIRMWARE");
    }
    Some(asked)
}

fn trait_terms<'a>(hosts: &[Host], asked: Vec<(String, String, bool)>) -> Vec<Term<'a>> {
    let mut terms: Vec<Term<'a>> = Vec::new();
    for (at, (line, name, wanted)) in asked.iter().enumerate() {
        let again = asked[..at].iter().any(|(_, other, how)| other == name && how == wanted);
        // A forbidden trait that no host has refuses nobody and has no line.
        let anybody = hosts.iter().any(|host| host.traits.contains(name));
        if !again && (*wanted || anybody) {
            let (name, wanted) = (name.clone(), *wanted);
            terms.push((line.clone(), Box::new(move |h| plain(h.traits.contains(&name) == wanted))));
        }
    }
    terms
}

fn fits(host: &Host, class: &str, sum: u64, each: &[u64]) -> Verdict {
    let Some((inventory, used)) = host.inventories.get(class).and_then(|(i, used)| Some((i.as_ref()?, used)))
    else {
        return Verdict::Reject(None);
    };
    let Inventory { total, reserved, min_unit, max_unit, step_size, allocation_ratio } = *inventory;
    let capacity = (total as f64 - reserved as f64) * allocation_ratio;
    if (used + sum) as f64 > capacity || sum > max_unit {
        let available = (capacity.floor() - *used as f64).min(max_unit as f64);
        return Verdict::Reject(Some((sum as f64, available)));
    }
    plain(each.iter().all(|n| min_unit <= *n && n.checked_rem(step_size) == Some(0)))
}
