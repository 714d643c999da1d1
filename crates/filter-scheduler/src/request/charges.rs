//! What an instance of a request takes from a host.
//!
//! What always holds: it is what a placement of the request consumes.
//!
//! Left out: the NUMA cells and PCI devices that it takes (`table/devices.rs`).

use novella_objects::RequestSpec;
use novella_resources::Charges;

use crate::nova::image_properties::ImageProperties;
use crate::request::features;
use crate::request::pinning::Pinning;

/// What an instance of the request takes from a host. Policies that cannot be understood count as none, because such a
/// request is refused before it takes anything.
pub fn charges(spec: &RequestSpec) -> Charges {
    let says = |extra_spec: &str, property: &str| {
        spec.flavor.extra_specs.contains_key(extra_spec)
            || spec.image.as_ref().is_some_and(|image| image.properties.contains_key(property))
    };
    let (pins, encrypts) =
        (says("hw:cpu_policy", "hw_cpu_policy"), says("hw:mem_encryption", "hw_mem_encryption"));
    if !pins && !encrypts {
        return Charges::new(&spec.local_flavor(), None, false);
    }
    let image = spec.image.as_ref().and_then(|image| ImageProperties::read(image).ok()).unwrap_or_default();
    let pinning = Pinning::read(spec, &image).unwrap_or_default();
    let encrypted = matches!(features::memory_encryption(&spec.flavor, &image), Ok(Some(_)));
    Charges::new(&spec.local_flavor(), pinning.cpus.as_ref(), encrypted)
}
