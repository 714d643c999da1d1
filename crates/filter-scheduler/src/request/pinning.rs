//! What CPU policies ask of Placement: Nova's `_translate_pinning_policies`, and whether its second query is made.
//!
//! `dedicated` asks for all CPUs as `PCPU`, `mixed` for some, with one more where the emulator's threads are isolated; a
//! thread policy asks for a host with simultaneous multithreading or for one without. Amounts that extra specs give
//! themselves stay as given.
//!
//! A host without an inventory of `PCPU` may pin CPUs all the same, as before there were two classes. For such hosts Nova
//! asks a second time, for `VCPU` and no trait, unless the policy is `mixed` or an option says not to. Nova takes what
//! that query finds on any host, and leaves it to NUMATopologyFilter to refuse those that have an inventory of `PCPU` and
//! no room in it. Here such a host is asked once, for what the first query asks.

use novella_objects::RequestSpec;
use novella_resources::numa::{CpuPolicy, ThreadPolicy};
use novella_resources::{Charges, PinnedCpus, gives_cpus};

use crate::nova::image_properties::ImageProperties;
use crate::request::instance_topology::{self, BadDevices, CpuPolicies};
use crate::settings::options::Policy;

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pinning {
    policy: CpuPolicy,
    /// How the CPUs are divided; `None`: all are shared, or extra specs give their numbers.
    pub(crate) cpus: Option<PinnedCpus>,
    /// Whether simultaneous multithreading is required or forbidden.
    pub(crate) hyperthreading: Option<Hyperthreading>,
}

/// Asked by a thread policy.
#[derive(Debug, Clone)]
pub(crate) struct Hyperthreading {
    pub(crate) required: bool,
    /// For people: who asks.
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

/// What an instance of the request takes. A request that cannot be understood is refused before it takes anything.
pub fn charges(spec: &RequestSpec) -> Charges {
    let of_image = spec.image.as_ref().is_some_and(|image| image.properties.contains_key("hw_cpu_policy"));
    if !of_image && !spec.flavor.extra_specs.contains_key("hw:cpu_policy") {
        return Charges::new(&spec.local_flavor(), None);
    }
    let image = spec.image.as_ref().and_then(|image| ImageProperties::read(image).ok());
    let pinning = Pinning::read(spec, &image.unwrap_or_default()).unwrap_or_default();
    Charges::new(&spec.local_flavor(), pinning.cpus.as_ref())
}
