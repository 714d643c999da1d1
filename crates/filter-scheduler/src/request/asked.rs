//! A request, read once: the image's properties, NUMA cells, PCI devices, CPU policies and memory encryption that it asks
//! for.
//!
//! What always holds: what [`read`] returns has passed [`check`], so its amounts fit the table's columns.
//!
//! Left out: traits and resource classes, which the prefilters read.

use novella_objects::{MAX_AMOUNT, MAX_INSTANCES, RequestSpec};
use novella_resources::numa::{self, Limits, Site};
use novella_resources::{Demand, pci};
use serde_json::Value;

use crate::nova::image_properties::ImageProperties;
use crate::request::failure::Failure;
use crate::request::features::{self, MemoryEncryption};
use crate::request::instance_topology;
use crate::request::pinning::Pinning;
use crate::settings::options::SchedulerOptions;

/// A request, read once.
#[derive(Debug)]
pub(crate) struct Asked<'r> {
    pub(crate) spec: &'r RequestSpec,
    pub(crate) image: ImageProperties,
    /// The NUMA cells and PCI devices that the request's first instance wants.
    pub(crate) wanted: Wanted,
    /// What the request's CPU policies ask for.
    pub(crate) pinning: Pinning,
    /// How the memory of an instance is encrypted. `None` if it is not.
    pub(crate) encryption: Option<&'static MemoryEncryption>,
}

impl Asked<'_> {
    /// Whether the request only checks an instance that is rebuilt on its host. Few filters run for such a request.
    pub(crate) fn is_rebuild(&self) -> bool {
        match self.spec.scheduler_hints.get("_nova_check_type") {
            Some(Value::Array(items)) => items.len() == 1 && items[0] == "rebuild",
            Some(text) => text == "rebuild",
            None => false,
        }
    }
}

/// What an instance asks for besides amounts. Placing it changes what the next instance of the request asks for,
/// because Nova writes into the request where an instance went and starts the next one from there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// The instance's NUMA cells. `None` if it asks for none.
    pub(crate) cells: Option<numa::InstanceTopology>,
    pub(crate) pci_requests: Vec<pci::DeviceRequest>,
    pub(crate) network: Option<numa::Network>,
    /// Whether full cells of a host are preferred to empty ones.
    pub(crate) packing: bool,
}

impl Wanted {
    /// Whether the instance asks for neither cells nor devices.
    pub(crate) fn is_nothing(&self) -> bool {
        self.cells.is_none() && self.pci_requests.is_empty()
    }

    pub(crate) fn limits(&self, cpu_ratio: f64, ram_ratio: f64) -> Limits<'_> {
        Limits {
            cpu_allocation_ratio: cpu_ratio,
            ram_allocation_ratio: ram_ratio,
            network: self.network.as_ref(),
        }
    }

    pub(crate) fn site<'a>(&self, topology: &'a numa::Topology, pools: &'a [pci::Pool]) -> Site<'a> {
        Site { topology, pools, packing: self.packing }
    }
}

/// Reads a request, and refuses one that is too large or that cannot be understood.
pub(crate) fn read<'r>(options: &SchedulerOptions, spec: &'r RequestSpec) -> Result<Asked<'r>, Failure> {
    check(spec)?;
    let image = spec.image.as_ref().map(ImageProperties::read).transpose().map_err(Failure::Image)?;
    let image = image.unwrap_or_default();
    let wanted = Wanted {
        cells: instance_topology::of_request(spec, &image).map_err(Failure::Devices)?,
        pci_requests: instance_topology::pci_requests(spec, &image).map_err(Failure::Devices)?,
        network: spec.network_metadata.as_ref().map(novella_resources::network),
        packing: options.policy.packing_host_numa_cells_allocation_strategy,
    };
    let pinning = Pinning::read(spec, &image).map_err(Failure::Devices)?;
    let encryption = features::memory_encryption(&spec.flavor, &image)?;
    Ok(Asked { spec, image, wanted, pinning, encryption })
}

/// Refuses amounts that no fleet could hold, so that every later comparison fits 32 bits.
pub(crate) fn check(request: &RequestSpec) -> Result<(), Failure> {
    let demand = Demand::of_flavor(&request.local_flavor());
    for (what, value) in [
        ("vcpus", demand.vcpus),
        ("memory_mb", demand.memory_mb),
        ("disk with swap, in MiB,", demand.disk_mb),
    ] {
        if let Some(value) = value.filter(|value| *value > MAX_AMOUNT) {
            return Err(Failure::Invalid { what, value, bound: format!("at most {MAX_AMOUNT}") });
        }
    }
    Ok(())
}

/// Refuses numbers of instances that no fleet could hold.
pub(crate) fn check_count(instances: usize) -> Result<(), Failure> {
    if !(1..=MAX_INSTANCES).contains(&instances) {
        let bound = format!("from 1 to {MAX_INSTANCES}");
        return Err(Failure::Invalid { what: "the number of instances", value: instances as u64, bound });
    }
    Ok(())
}
