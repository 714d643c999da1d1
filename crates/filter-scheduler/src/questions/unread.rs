//! Finds parts of a request that nothing looks at, and flavors that no host can ever take.
//!
//! Nova's API refuses an extra spec that it does not know; a filter that is not enabled is silent there too. Here such a
//! request is placed, and the answer names the parts that had no effect.
//!
//! What always holds: the answer follows from the request and the settings. A request without extra specs, hints,
//! devices and properties of an image costs nothing.
//!
//! Left out: what only the host's driver reads, such as `hw:watchdog_action` or `quota:cpu_shares`, unless its value
//! cannot be understood; extra specs in scopes that nobody here knows, which belong to an operator's own tools.

use std::fmt;

use novella_objects::{Flavor, Image, RequestSpec};
use novella_resources::{RESOURCE_CLASSES, SIZES, group_word, is_resource_class, resource_amount};

use crate::nova::image_properties::is_true;
use crate::nova::python;
use crate::prefilters::Prefilters;
use crate::request::asked;
use crate::settings::filter_kind::FilterKind;
use crate::settings::nearest::nearest;
use crate::settings::options::SchedulerOptions;
use crate::table::host_table::HostTable;

/// Something that is asked for and that nothing looks at. It reads `hw:numa_nodes=2, because NUMATopologyFilter is not
/// enabled`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What is asked for: an extra spec or a hint with its value, a zone, cells or devices.
    pub what: String,
    /// Why it does not count.
    pub reason: String,
    /// The known word that was probably meant, if one is similar.
    pub did_you_mean: Option<String>,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, because {}", self.what, self.reason)?;
        self.did_you_mean.iter().try_for_each(|near| write!(f, "; did you mean {near}?"))
    }
}

/// Who reads an extra spec of the scope `hw`.
#[derive(Clone, Copy)]
enum ReadBy {
    /// This filter.
    Filter(FilterKind),
    /// NUMATopologyFilter, if the value is one of these.
    Cells(&'static [&'static str]),
    /// What is asked of Placement before the filters.
    Prefilters,
    /// The host's driver, or a filter together with another extra spec that says so itself.
    Others,
}

/// Which values an extra spec of the scope `hw` can have.
#[derive(Clone, Copy)]
enum Values {
    /// They are checked where they are read: another value refuses the request.
    Checked,
    Flag,
    Number,
    OneOf(&'static [&'static str]),
}

use ReadBy::{Cells, Filter, Others, Prefilters as Asked};
use Values::{Checked, Flag, Number, OneOf};

/// The extra specs of the scope `hw`. A name that ends with a dot is followed by the number of a NUMA node.
const HW: [(&str, ReadBy, Values); 42] = [
    ("boot_menu", Others, Flag),
    ("cpu_cores", Others, Number),
    ("cpu_dedicated_mask", Others, Checked),
    ("cpu_max_cores", Others, Number),
    ("cpu_max_sockets", Others, Number),
    ("cpu_max_threads", Others, Number),
    ("cpu_policy", Cells(&["dedicated", "mixed"]), Checked),
    ("cpu_realtime", Others, Flag),
    ("cpu_realtime_mask", Others, Checked),
    ("cpu_sockets", Others, Number),
    ("cpu_thread_policy", Others, Checked),
    ("cpu_threads", Others, Number),
    ("emulator_threads_policy", Others, Checked),
    ("ephemeral_encryption", Asked, Flag),
    ("ephemeral_encryption_format", Asked, Checked),
    ("hide_hypervisor_id", Others, Flag),
    ("locked_memory", Others, Flag),
    ("max_cpu_cores", Others, Number),
    ("max_cpu_sockets", Others, Number),
    ("max_cpu_threads", Others, Number),
    ("maxphysaddr_bits", Filter(FilterKind::ComputeCapabilities), Number),
    ("maxphysaddr_mode", Others, OneOf(&["passthrough", "emulate"])),
    ("mem_encryption", Others, Flag),
    ("mem_encryption_model", Others, Checked),
    ("mem_page_size", Filter(FilterKind::NumaTopology), Checked),
    ("numa_cpus.", Filter(FilterKind::NumaTopology), Checked),
    ("numa_mem.", Filter(FilterKind::NumaTopology), Checked),
    ("numa_nodes", Filter(FilterKind::NumaTopology), Checked),
    ("pci_numa_affinity_policy", Others, Checked),
    ("pmem", Others, Checked),
    ("pmu", Others, Flag),
    ("redirected_usb_ports", Others, Number),
    ("serial_port_count", Others, Number),
    ("sound_model", Asked, Checked),
    ("tpm_model", Asked, Checked),
    ("tpm_secret_security", Asked, Checked),
    ("tpm_version", Asked, Checked),
    ("usb_model", Others, Checked),
    ("vif_multiqueue_enabled", Others, Flag),
    ("viommu_model", Others, OneOf(&["intel", "smmuv3", "virtio", "auto"])),
    ("virtio_packed_ring", Asked, Flag),
    ("watchdog_action", Others, OneOf(&["none", "pause", "poweroff", "reset", "disabled"])),
];

/// The words that Nova reads as false. Those that it reads as true are in [`is_true`].
const FALSE: [&str; 6] = ["0", "f", "false", "off", "n", "no"];

/// The scopes of extra specs that Nova knows, besides `resources` and `trait`, which may have a suffix.
const SCOPES: [&str; 14] = [
    "accel",
    "aggregate_instance_extra_specs",
    "capabilities",
    "hw",
    "hw_rng",
    "hw_video",
    "os",
    "pci_passthrough",
    "powervm",
    "quota",
    "resources",
    "trait",
    "vmware",
    "zvm",
];

/// The hints that filters read. `group` is looked up before the filters run, so it has none.
const HINTS: [(&str, Option<FilterKind>); 6] = [
    ("build_near_host_ip", Some(FilterKind::SimpleCidrAffinity)),
    ("cidr", Some(FilterKind::SimpleCidrAffinity)),
    ("different_host", Some(FilterKind::DifferentHost)),
    ("group", None),
    ("query", Some(FilterKind::Json)),
    ("same_host", Some(FilterKind::SameHost)),
];

const NO_PLACEMENT: &str = "scheduler.placement is false";

/// The parts of a request that nothing looks at.
pub fn unread(spec: &RequestSpec, options: &SchedulerOptions) -> Vec<Unread> {
    let specs = &spec.flavor.extra_specs;
    let mut found: Vec<_> =
        specs.iter().filter_map(|(key, value)| unread_extra_spec(key, value, options)).collect();
    let plain = |what: &str, reason: String| Unread { what: what.to_owned(), reason, did_you_mean: None };
    if asks_cells_elsewhere(spec) {
        let reason = without(options, &[FilterKind::NumaTopology]);
        found.extend(reason.map(|reason| plain("NUMA cells", reason)));
    }
    if !spec.pci_requests.is_empty() {
        let reason = without(options, &[FilterKind::PciPassthrough]);
        found.extend(reason.map(|reason| plain("PCI devices", reason)));
    } else if let Some(alias) = specs.get("pci_passthrough:alias") {
        let reason = "no PCI aliases are defined".to_owned();
        found.push(plain(&format!("pci_passthrough:alias={alias}"), reason));
    }
    if let Some(zone) = spec.availability_zone.as_deref().filter(|zone| !zone.is_empty())
        && !options.placement
    {
        let reason = without(options, &[FilterKind::AvailabilityZone]);
        found.extend(
            reason.map(|reason| plain(&format!("the zone {zone}"), format!("{reason} and {NO_PLACEMENT}"))),
        );
    }
    // Nova itself writes hints that begin with an underscore.
    for (name, value) in spec.scheduler_hints.iter().filter(|(name, _)| !name.starts_with('_')) {
        let what =
            format!("the hint {name}={}", value.as_str().map_or_else(|| value.to_string(), Into::into));
        match HINTS.iter().find(|(known, _)| known == name) {
            Some((_, kind)) => {
                let reason = kind.and_then(|kind| without(options, &[kind]));
                found.extend(reason.map(|reason| plain(&what, reason)));
            }
            None => found.push(Unread {
                what,
                reason: "no filter reads such a hint".to_owned(),
                did_you_mean: nearest(name, HINTS.iter().map(|(known, _)| *known)).map(str::to_owned),
            }),
        }
    }
    found
}

/// Why an extra spec does not count. `None` if something looks at it.
pub fn unread_extra_spec(key: &str, value: &str, options: &SchedulerOptions) -> Option<Unread> {
    let (reason, near) = match key.split_once(':') {
        None => unscoped(key, value, options)?,
        Some(("hw", name)) => hardware(name, value, options)?,
        Some(("capabilities", _)) => (without(options, &[FilterKind::ComputeCapabilities])?, None),
        Some(("aggregate_instance_extra_specs", _)) => {
            (without(options, &[FilterKind::AggregateInstanceExtraSpecs])?, None)
        }
        Some(("pci_passthrough", "alias")) => return None,
        Some(("pci_passthrough", name)) => (
            "there is no such extra spec".to_owned(),
            nearest(name, ["alias"].into_iter()).map(|near| format!("pci_passthrough:{near}")),
        ),
        Some((scope, name)) => match group_word(key) {
            Some("resources") => resource(scope, name, value, options)?,
            Some(_) => required_trait(value, options)?,
            None if SCOPES.contains(&scope) => return None,
            None => {
                let near = nearest(scope, SCOPES.into_iter())?;
                (format!("there is no scope {scope:?} of extra specs"), Some(format!("{near}:{name}")))
            }
        },
    };
    Some(Unread { what: format!("{key}={value}"), reason, did_you_mean: near })
}

/// Why no host can ever take an instance of this flavor, if its image asks for nothing. `None` if some host could. PCI
/// aliases are not looked at.
pub fn never_fits(flavor: &Flavor, options: &SchedulerOptions) -> Option<String> {
    let mut options = options.clone();
    options.policy.limit_tenants_to_placement_aggregate = false; // a project may have an aggregate
    let spec = RequestSpec { flavor: flavor.clone(), ..RequestSpec::default() };
    let mut table = HostTable::new();
    let prefilters =
        asked::read(&options, &spec).and_then(|asked| Prefilters::compile(&mut table, &asked, &options));
    match prefilters {
        Err(failure) => Some(failure.to_string()),
        Ok(prefilters) => {
            prefilters.impossible().map(|name| format!("{name}: no single host can satisfy this"))
        }
    }
}

/// Whether a request asks for NUMA cells other than by its extra specs.
fn asks_cells_elsewhere(spec: &RequestSpec) -> bool {
    let of_image = |image: &Image| {
        let asks = |name| image.properties.contains_key(name);
        asks("hw_numa_nodes")
            || asks("hw_mem_page_size")
            || image.properties.get("hw_cpu_policy").is_some_and(|policy| policy != "shared")
    };
    spec.numa_topology.is_some() || spec.image.as_ref().is_some_and(of_image)
}

/// That none of these filters is enabled, in words; `None` if one is.
fn without(options: &SchedulerOptions, readers: &[FilterKind]) -> Option<String> {
    if readers.iter().any(|kind| options.enabled_filters.contains(kind)) {
        return None;
    }
    Some(match readers {
        [one] => format!("{one} is not enabled"),
        several => {
            let names: Vec<_> = several.iter().map(|kind| kind.name()).collect();
            format!("neither {} is enabled", names.join(" nor "))
        }
    })
}

/// The reason why something does not count, and the extra spec that was probably meant.
type Reason = (String, Option<String>);

fn unscoped(key: &str, value: &str, options: &SchedulerOptions) -> Option<Reason> {
    match key {
        "group_policy" if !options.placement => Some((NO_PLACEMENT.to_owned(), None)),
        "group_policy" => unknown_value(value, &["none", "isolate"]),
        "hide_hypervisor_id" => None,
        _ => {
            let readers = [FilterKind::ComputeCapabilities, FilterKind::AggregateInstanceExtraSpecs];
            without(options, &readers).map(|reason| (reason, None))
        }
    }
}

fn hardware(name: &str, value: &str, options: &SchedulerOptions) -> Option<Reason> {
    let numbered = name.find('.').filter(|at| name[at + 1..].bytes().all(|byte| byte.is_ascii_digit()));
    let known = numbered.map_or(name, |at| &name[..=at]);
    let Some((_, read_by, values)) = HW.iter().find(|(hw, ..)| *hw == known) else {
        let (word, node) = numbered.map_or((name, ""), |at| name.split_at(at));
        let near = nearest(word, HW.iter().map(|(known, ..)| known.trim_end_matches('.')));
        let near = near.map(|near| format!("hw:{near}{node}"));
        return Some(("there is no such extra spec".to_owned(), near));
    };
    let bad_value = match values {
        Checked => None,
        Flag if is_true(value) || FALSE.contains(&python::strip(value).to_lowercase().as_str()) => None,
        Flag => Some(("its value is neither true nor false".to_owned(), None)),
        Number if python::int(value).is_some_and(|number| number >= 0) => None,
        Number => Some(("its value is not a whole number".to_owned(), None)),
        OneOf(known) => unknown_value(value, known),
    };
    if bad_value.is_some() {
        return bad_value;
    }
    let reason = match read_by {
        Filter(kind) => without(options, &[*kind]),
        Cells(values) if values.contains(&value) => without(options, &[FilterKind::NumaTopology]),
        Asked => (!options.placement).then(|| NO_PLACEMENT.to_owned()),
        Cells(_) | Others => None,
    };
    reason.map(|reason| (reason, None))
}

fn resource(scope: &str, class: &str, value: &str, options: &SchedulerOptions) -> Option<Reason> {
    if !is_resource_class(class) {
        let near = nearest(class, RESOURCE_CLASSES.into_iter()).map(|near| format!("{scope}:{near}"));
        return Some((
            format!("there is no resource class {class}; names of custom classes begin with CUSTOM_"),
            near,
        ));
    }
    if resource_amount(value).is_none() {
        return Some(("its value is not a whole number of 0 or more".to_owned(), None));
    }
    // The filters of CPUs, memory and disk read these classes themselves.
    let size = SIZES.contains(&class);
    (!size && !options.placement).then(|| (NO_PLACEMENT.to_owned(), None))
}

fn required_trait(value: &str, options: &SchedulerOptions) -> Option<Reason> {
    unknown_value(value, &["required", "forbidden"])
        .or_else(|| (!options.placement).then(|| (NO_PLACEMENT.to_owned(), None)))
}

/// That a value is none of the known ones; `None` if it is one.
fn unknown_value(value: &str, known: &[&str]) -> Option<Reason> {
    (!known.contains(&value)).then(|| {
        let near = nearest(value, known.iter().copied()).map(str::to_owned);
        (format!("its value is not {}", known.join(" or ")), near)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(filters: &[FilterKind]) -> SchedulerOptions {
        SchedulerOptions { enabled_filters: filters.to_vec(), ..SchedulerOptions::default() }
    }

    fn of_spec(key: &str, value: &str) -> Option<String> {
        unread_extra_spec(key, value, &SchedulerOptions::default()).map(|unread| unread.to_string())
    }

    #[test]
    fn an_extra_spec_that_is_written_wrongly_does_not_count() {
        for (key, value, said) in [
            ("hw:cpu_polcy", "dedicated", "there is no such extra spec; did you mean hw:cpu_policy?"),
            ("hw:numa_cpu.0", "0-1", "did you mean hw:numa_cpus.0?"),
            ("hw:boot_menu", "ture", "neither true nor false"),
            ("hw:cpu_sockets", "two", "not a whole number"),
            ("hw:watchdog_action", "rest", "did you mean reset?"),
            ("trait:CUSTOM_GOLD", "requried", "not required or forbidden; did you mean required?"),
            ("trait_a:CUSTOM_GOLD", "yes", "not required or forbidden"),
            ("resources:CUSTOM_GPU", "many", "not a whole number of 0 or more"),
            ("resources1:VGPUS", "1", "did you mean resources1:VGPU?"),
            ("resource:VGPU", "1", "did you mean resources:VGPU?"),
            ("group_policy", "isolated", "did you mean isolate?"),
            ("pci_passthrough:aliases", "gpu:1", "did you mean pci_passthrough:alias?"),
            (
                "aggregate_instance_extra_specs:ssd",
                "true",
                "AggregateInstanceExtraSpecsFilter is not enabled",
            ),
        ] {
            let told = of_spec(key, value).unwrap_or_default();
            assert!(told.starts_with(&format!("{key}={value}, because ")) && told.contains(said), "{told}");
        }
    }

    #[test]
    fn an_extra_spec_that_something_reads_is_not_mentioned() {
        for (key, value) in [
            ("hw:cpu_policy", "shared"),
            ("hw:watchdog_action", "reset"),
            ("hw:hide_hypervisor_id", "Yes"),
            ("hw:virtio_packed_ring", "0"),
            ("trait:CUSTOM_GOLD", "forbidden"),
            ("resources_a:CUSTOM_GPU", "1"),
            ("resources:VCPU", "0"),
            ("quota:cpu_shares", "10"),
            ("acme:rack", "7"),
            ("capabilities:cpu_arch", "x86_64"),
            ("hypervisor_type", "QEMU"),
            ("group_policy", "none"),
            ("pci_passthrough:alias", "gpu:1"),
        ] {
            assert_eq!(of_spec(key, value), None, "{key}={value}");
        }
    }

    #[test]
    fn what_a_filter_reads_that_is_not_enabled_does_not_count() {
        let specs = [
            ("hw:numa_nodes", "2"),
            ("hw:cpu_policy", "dedicated"),
            ("hw:maxphysaddr_bits", "42"),
            ("ssd", "1"),
        ];
        let spec = RequestSpec {
            flavor: Flavor {
                extra_specs: specs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
                ..Flavor::default()
            },
            scheduler_hints: serde_json::from_value(
                json!({"same_host": ["x"], "diferent_host": "y", "group": "g", "_nova_check_type": ["rebuild"]}),
            )
            .unwrap(),
            ..RequestSpec::default()
        };
        let told = |options: &SchedulerOptions| {
            unread(&spec, options).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&options(&[FilterKind::Compute])),
            [
                "hw:cpu_policy=dedicated, because NUMATopologyFilter is not enabled",
                "hw:maxphysaddr_bits=42, because ComputeCapabilitiesFilter is not enabled",
                "hw:numa_nodes=2, because NUMATopologyFilter is not enabled",
                "ssd=1, because neither ComputeCapabilitiesFilter nor AggregateInstanceExtraSpecsFilter is enabled",
                "the hint diferent_host=y, because no filter reads such a hint; did you mean different_host?",
                "the hint same_host=[\"x\"], because SameHostFilter is not enabled",
            ]
        );
        let readers = [FilterKind::NumaTopology, FilterKind::ComputeCapabilities, FilterKind::SameHost];
        assert_eq!(told(&options(&readers)).len(), 1, "the misspelt hint");
    }

    #[test]
    fn without_placement_traits_and_zones_do_not_count() {
        let spec = RequestSpec {
            flavor: Flavor {
                extra_specs: [("trait:CUSTOM_GOLD".to_owned(), "required".to_owned())].into(),
                ..Flavor::default()
            },
            availability_zone: Some("north".to_owned()),
            image: Some(Image {
                properties: [("hw_numa_nodes".to_owned(), json!(2))].into(),
                ..Image::default()
            }),
            ..RequestSpec::default()
        };
        let options = SchedulerOptions { placement: false, ..options(&[FilterKind::Compute]) };
        let told: Vec<_> = unread(&spec, &options).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "trait:CUSTOM_GOLD=required, because scheduler.placement is false",
                "NUMA cells, because NUMATopologyFilter is not enabled",
                "the zone north, because AvailabilityZoneFilter is not enabled and scheduler.placement is false",
            ]
        );
    }

    #[test]
    fn flavors_that_every_request_is_refused_for() {
        for (specs, said) in [
            (&[("hw:numa_nodes", "3")][..], "shared out evenly"),
            (&[("hw:cpu_policy", "Dedicated")], "is not a CPU policy"),
            (&[("hw:tpm_version", "3.0")], "it must be one of 1.2, 2.0"),
            (&[("resources_a:VGPU", "1"), ("resources_b:VGPU", "1")], "group_policy (missing)"),
            (&[("trait_a:CUSTOM_GOLD", "required")], "resources_a (missing)"),
        ] {
            let extra_specs = specs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let flavor = Flavor { vcpus: 4, memory_mb: 512, extra_specs, ..Flavor::default() };
            let why = never_fits(&flavor, &SchedulerOptions::default()).unwrap_or_default();
            assert!(why.contains(said), "{specs:?}: {why}");
        }
        let mut options = SchedulerOptions::default();
        options.policy.limit_tenants_to_placement_aggregate = true;
        options.policy.placement_aggregate_required_for_tenants = true;
        let flavor = Flavor { vcpus: 4, memory_mb: 512, ..Flavor::default() };
        assert_eq!(never_fits(&flavor, &options), None);
    }
}
