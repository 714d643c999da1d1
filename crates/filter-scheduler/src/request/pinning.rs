//! What CPU policies ask of Placement: Nova's `_translate_pinning_policies`, and whether its second query is made.
//!
//! `dedicated` asks for all CPUs as `PCPU`, and `mixed` for some of them. If the emulator's threads are isolated, one
//! more is asked for. A thread policy asks for a host with simultaneous multithreading or for one without. Amounts that
//! extra specs give themselves stay as given.
//!
//! A host without an inventory of `PCPU` may still pin CPUs, as hosts did before there were two classes. For such hosts
//! Nova asks a second time, for `VCPU` and without the trait, unless the policy is `mixed` or an option forbids it.
//! Nova takes what that query finds on any host, and leaves it to NUMATopologyFilter to refuse hosts that have an
//! inventory of `PCPU` and no room in it. Here, a host with an inventory of `PCPU` is asked once, for what the first
//! query asks.

use novella_objects::RequestSpec;
use novella_resources::numa::{CpuPolicy, ThreadPolicy};
use novella_resources::{BadDevices, PinnedCpus, gives_cpus};

use crate::nova::image_properties::ImageProperties;
use crate::request::instance_topology::{self, CpuPolicies};
use crate::settings::options::Policy;

/// What the CPU policies of one request ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pinning {
    policy: CpuPolicy,
    /// How many CPUs are pinned and how many are shared. `None` if all are shared, or if extra specs give the numbers
    /// themselves.
    pub(crate) cpus: Option<PinnedCpus>,
    /// Whether simultaneous multithreading is required or forbidden. `None` if neither.
    pub(crate) hyperthreading: Option<Hyperthreading>,
}

/// What a thread policy asks about a host's simultaneous multithreading.
#[derive(Debug, Clone)]
pub(crate) struct Hyperthreading {
    /// True if a host must have it, false if it must not.
    pub(crate) required: bool,
    /// The setting that asks, for people to read.
    pub(crate) line: String,
}

/// The trait of a host with simultaneous multithreading.
pub(crate) const HYPERTHREADING: &str = "HW_CPU_HYPERTHREADING";

impl Pinning {
    pub(crate) fn read(spec: &RequestSpec, image: &ImageProperties) -> Result<Self, BadDevices> {
        if spec.flavor.extra_specs.is_empty() && spec.image.is_none() {
            return Ok(Self::default());
        }
        let CpuPolicies { policy, threads, isolate_emulator_threads, dedicated } =
            instance_topology::cpu_policies(spec, image)?;
        let shared = (spec.flavor.vcpus - dedicated).into();
        let own = u64::from(dedicated) + u64::from(isolate_emulator_threads);
        let cpus = (policy.pins() && !gives_cpus(&spec.flavor)).then_some(PinnedCpus { own, shared });
        let (required, name) = match threads {
            Some(ThreadPolicy::Require) => (true, "require"),
            Some(ThreadPolicy::Isolate) => (false, "isolate"),
            Some(ThreadPolicy::Prefer) | None => return Ok(Self { policy, cpus, hyperthreading: None }),
        };
        const KEY: &str = "hw:cpu_thread_policy";
        let of_flavor = spec.flavor.extra_specs.get(KEY).is_some_and(|text| text == name);
        let key = if of_flavor { KEY } else { "hw_cpu_thread_policy" };
        let line = format!("{key}={name} ({HYPERTHREADING})");
        Ok(Self { policy, cpus, hyperthreading: Some(Hyperthreading { required, line }) })
    }

    /// Whether hosts without an inventory of `PCPU` are asked for `VCPU` instead.
    pub(crate) fn falls_back(&self, options: &Policy) -> bool {
        self.policy == CpuPolicy::Dedicated && self.cpus.is_some() && !options.disable_fallback_pcpu_query
    }
}
