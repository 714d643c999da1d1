//! Reads what Nova would ask of Placement for a request: from extra specs, the image, the settings and the aggregates.
//!
//! What always holds: what is asked twice appears once. Names are those that Nova or the flavor uses, so that an
//! explanation shows them.
//!
//! Left out: which hosts satisfy it (`prefilters/mod.rs`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use novella_resources::{GroupPolicy, PCPU, RequestGroups, SIZES};

use crate::nova::image_properties::{ImageProperties, Property};
use crate::request::asked::Asked;
use crate::request::failure::Failure;
use crate::request::features;
use crate::request::pinning::{HYPERTHREADING, Hyperthreading, Pinning};
use crate::settings::filter_kind::FilterKind;
use crate::settings::options::SchedulerOptions;
use crate::table::aggregates::{Aggregate, ZONE_KEY};
use crate::table::bitmap::bits;
use crate::table::block::BLOCK;
use crate::table::host_table::HostTable;

/// The trait of hosts whose compute service is disabled. Nova's agents set it, and its prefilter forbids it for every
/// request, a forced host included.
pub const COMPUTE_STATUS_DISABLED: &str = "COMPUTE_STATUS_DISABLED";

/// The name of the prefilter that forbids [`COMPUTE_STATUS_DISABLED`].
pub(crate) const STATUS_FILTER: &str = "compute_status_filter";

/// What a request asks of Placement, by kind.
#[derive(Debug, Default)]
pub(super) struct PlacementQuery<'r> {
    /// For each condition on aggregates: its name, the ids, and whether a host must be in one of them or in none.
    pub(super) aggregates: Vec<(String, Vec<u32>, bool)>,
    /// The hosts of the requested zone, one bit per row, if the zone restricts anything.
    pub(super) zone: Option<Vec<u64>>,
    pub(super) traits: Vec<TraitTerm>,
    /// For each resource class, the amount that each group asks for.
    pub(super) resources: BTreeMap<Cow<'r, str>, Vec<u64>>,
    /// Whether hosts without an inventory of `PCPU` pass, because the instance's CPUs then count as shared ones.
    pub(super) falls_back: bool,
    /// How many groups have a suffix.
    pub(super) suffixed: usize,
    /// Whether suffixed groups must be on different providers, if the flavor says so.
    pub(super) policy: Option<GroupPolicy>,
    /// The suffix of a group that asks for traits but not for resources, if there is one.
    pub(super) without_resources: Option<&'r str>,
}

/// A condition on a trait.
#[derive(Debug)]
pub(super) struct TraitTerm {
    pub(super) name: String,
    /// The name of the trait.
    pub(super) of: String,
    /// Whether a host must have the trait or must not have it.
    pub(super) wanted: bool,
    /// Whether all hosts are asked, or only those with an inventory of `PCPU`.
    pub(super) of_all: bool,
}

/// Metadata keys that begin with this name the projects that an aggregate is for.
const TENANT_METADATA_KEY: &str = "filter_tenant_id";

/// The image formats for which Placement has a trait.
const DISK_FORMATS: [&str; 11] =
    ["AKI", "AMI", "ARI", "ISO", "QCOW2", "RAW", "VDI", "VHD", "VHDX", "VMDK", "PLOOP"];

/// For which values of an image property there is a trait.
enum Endings {
    /// For these.
    These(&'static [&'static str]),
    /// For all that Nova knows but this one.
    AllBut(&'static str),
}

/// The image properties that stand for traits. Each has the beginning of the trait's name and the endings that exist.
const IMAGE_TRAITS: [(&str, &str, Endings); 7] = [
    ("hw_cdrom_bus", "COMPUTE_STORAGE_BUS", STORAGE_BUSES),
    ("hw_disk_bus", "COMPUTE_STORAGE_BUS", STORAGE_BUSES),
    (
        "hw_video_model",
        "COMPUTE_GRAPHICS_MODEL",
        Endings::These(&["BOCHS", "CIRRUS", "GOP", "NONE", "QXL", "VGA", "VIRTIO", "VMVGA", "XEN"]),
    ),
    (
        "hw_vif_model",
        "COMPUTE_NET_VIF_MODEL",
        Endings::These(&[
            "E1000",
            "E1000E",
            "IGB",
            "LAN9118",
            "NE2K_PCI",
            "NETFRONT",
            "PCNET",
            "RTL8139",
            "SPAPR_VLAN",
            "SRIOV",
            "VIRTIO",
            "VMXNET",
            "VMXNET3",
        ]),
    ),
    ("hw_architecture", "HW_ARCH", Endings::AllBut("ARMV7L")),
    (
        "hw_emulation_architecture",
        "COMPUTE_ARCH",
        Endings::These(&["AARCH64", "MIPSEL", "PPC64LE", "RISCV64", "S390X", "X86_64"]),
    ),
    // Nova builds a trait from `COMPUTE_VIOMMU` and the model, but no such trait exists. So the image adds no trait at
    // all.
    ("hw_viommu_model", "COMPUTE_VIOMMU", Endings::These(&[])),
];

const STORAGE_BUSES: Endings =
    Endings::These(&["FDC", "IDE", "LXC", "SATA", "SCSI", "UML", "USB", "VIRTIO", "XEN"]);

impl<'r> PlacementQuery<'r> {
    pub(super) fn of(
        table: &HostTable,
        asked: &Asked<'r>,
        options: &SchedulerOptions,
    ) -> Result<Self, Failure> {
        let mut query = Self::default();
        let mut groups = RequestGroups::read(&asked.spec.flavor.extra_specs);
        if asked.encryption.is_some() {
            groups.encrypt_memory();
        }
        query.read_groups(groups, &asked.image);
        query.require_tenant_aggregate(table, asked, options)?;
        query.map_az_to_placement_aggregate(table, asked, options);
        query.isolate_aggregates(table, options);
        query.require_image_type_support(asked, options);
        query.ask(STATUS_FILTER.to_owned(), COMPUTE_STATUS_DISABLED, false);
        query.transform_image_metadata(&asked.image, options);
        let spec = asked.spec;
        for (line, name) in features::required(&spec.flavor, &asked.image, asked.encryption)? {
            query.ask(line, &name, true);
        }
        query.translate_pinning_policies(&asked.pinning, options);
        for ids in &spec.required_aggregates {
            query.aggregates.push((format!("aggregates:{}=required", list(ids)), ids.clone(), true));
        }
        if !spec.forbidden_aggregates.is_empty() {
            let ids = &spec.forbidden_aggregates;
            query.aggregates.push((format!("aggregates:{}=forbidden", list(ids)), ids.clone(), false));
        }
        Ok(query)
    }

    fn read_groups(&mut self, groups: RequestGroups<'r>, image: &ImageProperties) {
        self.policy = groups.policy;
        for (suffix, group) in groups.groups {
            let some = group.resources.values().any(|amount| *amount > 0);
            for (class, amount) in group.resources.into_iter().filter(|(_, amount)| *amount > 0) {
                if !SIZES.contains(&&*class) {
                    self.resources.entry(class).or_default().push(amount);
                }
            }
            let traits = !(group.required.is_empty() && group.forbidden.is_empty());
            if !suffix.is_empty() && (some || traits) {
                self.suffixed += 1;
                if !some {
                    self.without_resources = Some(suffix);
                }
            }
            for name in group.required {
                self.ask(format!("trait{suffix}:{name}=required"), name, true);
            }
            for name in group.forbidden {
                self.ask(format!("trait{suffix}:{name}=forbidden"), name, false);
            }
        }
        if let Some(Property::List(names)) = image.get("traits_required") {
            for name in names {
                self.ask(format!("trait:{name}=required (image)"), name, true);
            }
        }
    }

    fn asks(&self, of: &str, wanted: bool) -> bool {
        self.traits.iter().any(|known| known.of == of && known.wanted == wanted)
    }

    /// Requires or forbids a trait, unless that is done already.
    fn ask(&mut self, name: String, of: &str, wanted: bool) {
        if !self.asks(of, wanted) {
            self.traits.push(TraitTerm { name, of: of.to_owned(), wanted, of_all: true });
        }
    }

    /// Reads the CPU and thread policies. If hosts without an inventory of `PCPU` are accepted, the thread policy is asked
    /// only of hosts that have one; otherwise it is asked of every host.
    fn translate_pinning_policies(&mut self, pinning: &Pinning, options: &SchedulerOptions) {
        self.falls_back = pinning.falls_back(&options.policy);
        if let Some(cpus) = pinning.cpus.filter(|cpus| cpus.own > 0) {
            self.resources.entry(PCPU.into()).or_default().push(cpus.own);
        }
        if let Some(Hyperthreading { required: wanted, line: name }) = pinning.hyperthreading.clone()
            && !self.asks(HYPERTHREADING, wanted)
        {
            let (of, of_all) = (HYPERTHREADING.to_owned(), !self.falls_back);
            self.traits.push(TraitTerm { name, of, wanted, of_all });
        }
    }

    fn require_tenant_aggregate(
        &mut self,
        table: &HostTable,
        asked: &Asked<'_>,
        options: &SchedulerOptions,
    ) -> Result<(), Failure> {
        if !options.policy.limit_tenants_to_placement_aggregate {
            return Ok(());
        }
        let project = asked.spec.project_id.as_ref();
        let is_for = |aggregate: &&Aggregate| {
            let tenants = aggregate.metadata.iter().filter(|(key, _)| key.starts_with(TENANT_METADATA_KEY));
            tenants.map(|(_, tenant)| tenant).any(|tenant| Some(tenant) == project)
        };
        let ids: Vec<u32> = table.aggregates.defined().filter(is_for).map(|aggregate| aggregate.id).collect();
        if !ids.is_empty() {
            self.aggregates.push(("require_tenant_aggregate".to_owned(), ids, true));
        } else if options.policy.placement_aggregate_required_for_tenants {
            let reason = "Scheduling failed: No hosts available for tenant".to_owned();
            return Err(Failure::NoValidHost { reason, placeable: 0 });
        }
        Ok(())
    }

    fn map_az_to_placement_aggregate(
        &mut self,
        table: &HostTable,
        asked: &Asked<'_>,
        options: &SchedulerOptions,
    ) {
        let zone = match asked.spec.availability_zone.as_deref() {
            None | Some("") => return,
            Some(zone) => zone,
        };
        if options.enabled_filters.contains(&FilterKind::AvailabilityZone) {
            return;
        }
        let facts = table.aggregates.facts();
        let own = table.zones.find(zone);
        let in_zone = |row: usize| {
            let facts = &facts[table.aggregates.set_of(row) as usize];
            let mut zones = facts.raw(ZONE_KEY).peekable();
            match zones.peek() {
                Some(_) => zones.any(|named| named == zone),
                None => own == Some(table.columns.zone[row]),
            }
        };
        let mut rows = vec![0; table.columns.present.len()];
        for row in bits(&table.columns.present).filter(|row| in_zone(*row)) {
            rows[row / BLOCK] |= 1 << (row % BLOCK);
        }
        let named =
            |aggregate: &Aggregate| aggregate.metadata.get(ZONE_KEY).is_some_and(|named| named == zone);
        if rows.iter().any(|word| *word != 0) || table.aggregates.defined().any(named) {
            self.zone = Some(rows);
        }
    }

    fn isolate_aggregates(&mut self, table: &HostTable, options: &SchedulerOptions) {
        if !options.policy.enable_isolated_aggregate_filtering {
            return;
        }
        let isolated = |aggregate: &&Aggregate| {
            let traits = aggregate.metadata.iter().filter(|(_, value)| *value == "required");
            traits.filter_map(|(key, _)| key.strip_prefix("trait:")).any(|name| !self.asks(name, true))
        };
        let ids: Vec<u32> =
            table.aggregates.defined().filter(isolated).map(|aggregate| aggregate.id).collect();
        if !ids.is_empty() {
            self.aggregates.push(("isolate_aggregates".to_owned(), ids, false));
        }
    }

    fn require_image_type_support(&mut self, asked: &Asked<'_>, options: &SchedulerOptions) {
        if !options.policy.query_placement_for_image_type_support || asked.spec.is_bfv {
            return;
        }
        let format = asked.spec.image.as_ref().and_then(|image| image.disk_format.as_ref());
        let Some(format) = format.map(|format| format.to_uppercase()) else { return };
        if DISK_FORMATS.contains(&format.as_str()) {
            let name = format!("COMPUTE_IMAGE_TYPE_{format}");
            self.ask(format!("require_image_type_support ({name})"), &name, true);
        } else {
            tracing::warn!(format, "no trait exists for this image format, so none is required");
        }
    }

    /// If one property has no trait, no trait is required at all, as in Nova.
    fn transform_image_metadata(&mut self, image: &ImageProperties, options: &SchedulerOptions) {
        if !options.policy.image_metadata_prefilter {
            return;
        }
        let mut names = Vec::new();
        for (property, beginning, endings) in IMAGE_TRAITS {
            let Some(value) = image.get(property).map(Property::text) else { continue };
            let ending = value.replace('-', "_").to_uppercase();
            let exists = match endings {
                Endings::These(known) => known.contains(&ending.as_str()),
                Endings::AllBut(unknown) => ending != unknown,
            };
            if !exists {
                tracing::warn!(
                    property,
                    value,
                    "no trait exists for this property value, so the image requires no traits"
                );
                return;
            }
            names.push((property, format!("{beginning}_{ending}")));
        }
        for (property, name) in names {
            self.ask(format!("transform_image_metadata ({property}: {name})"), &name, true);
        }
    }
}

/// The ids as text for people.
fn list(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
