//! Image properties with the types and spellings of Nova's `ImageMetaProps`.
//!
//! Legacy names are read first, so that a current name overrides its legacy one. Properties that Nova does not know are
//! dropped. Architecture, hypervisor type and VM mode are brought to one spelling each; an unknown one is an error, and
//! so is a version requirement that cannot be read.
//!
//! Known difference: the other enumerations (buses, models, policies) are kept as written and not checked.

use std::collections::BTreeMap;

use novella_objects::Image;
use serde_json::Value;

use crate::nova::python;
use crate::nova::version::Predicate;

/// What is wrong with an image's properties.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image property {property} is {value:?}, which is not a {expected}")]
pub struct BadImage {
    /// The property's current name, even if the image uses a legacy one.
    pub property: String,
    /// The value as the image has it.
    pub value: String,
    /// The kind of value that Nova accepts, for example `whole number`.
    pub expected: &'static str,
}

/// The value of one property, in the type that Nova gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Property {
    Bool(bool),
    Int(i128),
    Text(Box<str>),
    List(Vec<Box<str>>),
}

/// The properties of one image, by their current names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ImageProperties(BTreeMap<&'static str, Property>);

/// How the text of a property is read and checked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Bool,
    Int,
    Text,
    Architecture,
    Hypervisor,
    VmMode,
    Version,
}

/// Every property that Nova 34 keeps, sorted by name. Nova's lists are missing, because an image has a property of its
/// own for each item of a list.
const KNOWN: [(&str, Type); 81] = {
    use Type::{Architecture, Bool, Hypervisor, Int, Text, Version, VmMode};
    [
        ("hw_architecture", Architecture),
        ("hw_auto_disk_config", Text),
        ("hw_boot_menu", Bool),
        ("hw_cdrom_bus", Text),
        ("hw_cpu_cores", Int),
        ("hw_cpu_max_cores", Int),
        ("hw_cpu_max_sockets", Int),
        ("hw_cpu_max_threads", Int),
        ("hw_cpu_policy", Text),
        ("hw_cpu_realtime_mask", Text),
        ("hw_cpu_sockets", Int),
        ("hw_cpu_thread_policy", Text),
        ("hw_cpu_threads", Int),
        ("hw_device_id", Int),
        ("hw_disk_bus", Text),
        ("hw_disk_type", Text),
        ("hw_emulation_architecture", Architecture),
        ("hw_ephemeral_encryption", Bool),
        ("hw_ephemeral_encryption_format", Text),
        ("hw_ephemeral_encryption_secret_uuid", Text),
        ("hw_firmware_stateless", Bool),
        ("hw_firmware_type", Text),
        ("hw_floppy_bus", Text),
        ("hw_input_bus", Text),
        ("hw_ipxe_boot", Bool),
        ("hw_locked_memory", Bool),
        ("hw_machine_type", Text),
        ("hw_maxphysaddr_bits", Int),
        ("hw_maxphysaddr_mode", Text),
        ("hw_mem_encryption", Bool),
        ("hw_mem_encryption_model", Text),
        ("hw_mem_page_size", Text),
        ("hw_numa_nodes", Int),
        ("hw_pci_numa_affinity_policy", Text),
        ("hw_pmu", Bool),
        ("hw_pointer_model", Text),
        ("hw_qemu_guest_agent", Bool),
        ("hw_redirected_usb_ports", Int),
        ("hw_rescue_bus", Text),
        ("hw_rescue_device", Text),
        ("hw_rng_model", Text),
        ("hw_scsi_model", Text),
        ("hw_serial_port_count", Int),
        ("hw_sound_model", Text),
        ("hw_time_hpet", Bool),
        ("hw_tpm_model", Text),
        ("hw_tpm_version", Text),
        ("hw_usb_model", Text),
        ("hw_video_model", Text),
        ("hw_video_ram", Int),
        ("hw_vif_model", Text),
        ("hw_vif_multiqueue_enabled", Bool),
        ("hw_viommu_model", Text),
        ("hw_virtio_packed_ring", Bool),
        ("hw_vm_mode", VmMode),
        ("hw_watchdog_action", Text),
        ("img_bdm_v2", Bool),
        ("img_bittorrent", Bool),
        ("img_cache_in_nova", Bool),
        ("img_compression_level", Int),
        ("img_config_drive", Text),
        ("img_hide_hypervisor_id", Bool),
        ("img_hv_requested_version", Version),
        ("img_hv_type", Hypervisor),
        ("img_linked_clone", Bool),
        ("img_owner_id", Text),
        ("img_root_device_name", Text),
        ("img_signature", Text),
        ("img_signature_certificate_uuid", Text),
        ("img_signature_hash_method", Text),
        ("img_signature_key_type", Text),
        ("img_use_agent", Bool),
        ("img_version", Int),
        ("os_admin_user", Text),
        ("os_command_line", Text),
        ("os_distro", Text),
        ("os_require_quiesce", Bool),
        ("os_secure_boot", Text),
        ("os_skip_agent_inject_files_at_boot", Bool),
        ("os_skip_agent_inject_ssh", Bool),
        ("os_type", Text),
    ]
};

/// Legacy names, each with the current name that replaced it.
const LEGACY: [(&str, &str); 20] = [
    ("architecture", "hw_architecture"),
    ("owner_id", "img_owner_id"),
    ("vmware_disktype", "hw_disk_type"),
    ("vmware_image_version", "img_version"),
    ("vmware_ostype", "os_distro"),
    ("auto_disk_config", "hw_auto_disk_config"),
    ("ipxe_boot", "hw_ipxe_boot"),
    ("xenapi_device_id", "hw_device_id"),
    ("xenapi_image_compression_level", "img_compression_level"),
    ("vmware_linked_clone", "img_linked_clone"),
    ("xenapi_use_agent", "img_use_agent"),
    ("xenapi_skip_agent_inject_ssh", "os_skip_agent_inject_ssh"),
    ("xenapi_skip_agent_inject_files_at_boot", "os_skip_agent_inject_files_at_boot"),
    ("cache_in_nova", "img_cache_in_nova"),
    ("vm_mode", "hw_vm_mode"),
    ("bittorrent", "img_bittorrent"),
    ("bdm_v2", "img_bdm_v2"),
    ("root_device_name", "img_root_device_name"),
    ("hypervisor_version_requires", "img_hv_requested_version"),
    ("hypervisor_type", "img_hv_type"),
];

const ARCHITECTURES: [&str; 34] = [
    "alpha",
    "armv6",
    "armv7l",
    "armv7b",
    "aarch64",
    "cris",
    "i686",
    "ia64",
    "lm32",
    "m68k",
    "microblaze",
    "microblazeel",
    "mips",
    "mipsel",
    "mips64",
    "mips64el",
    "openrisc",
    "parisc",
    "parisc64",
    "ppc",
    "ppcle",
    "ppc64",
    "ppc64le",
    "ppcemb",
    "s390",
    "s390x",
    "sh4",
    "sh4eb",
    "sparc",
    "sparc64",
    "unicore32",
    "x86_64",
    "xtensa",
    "xtensaeb",
];

const HYPERVISOR_TYPES: [&str; 22] = [
    "baremetal",
    "bhyve",
    "docker",
    "fake",
    "hyperv",
    "ironic",
    "kqemu",
    "kvm",
    "lxc",
    "lxd",
    "openvz",
    "parallels",
    "phyp",
    "prsm",
    "qemu",
    "test",
    "uml",
    "vbox",
    "vmware",
    "vz",
    "xen",
    "zvm",
];

const VM_MODES: [&str; 4] = ["hvm", "xen", "uml", "exe"];

/// Nova's spelling of an architecture, whose letter case does not matter. `None` if Nova does not know it.
pub fn architecture(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let name = match name.as_str() {
        "i386" | "i486" | "i586" | "x86_32" | "x86_32p" => "i686",
        "amd64" => "x86_64",
        other => other,
    };
    ARCHITECTURES.contains(&name).then(|| name.to_owned())
}

fn hypervisor_type(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let name = if name == "xapi" { "xen" } else { &name };
    HYPERVISOR_TYPES.contains(&name).then(|| name.to_owned())
}

fn vm_mode(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let name = match name.as_str() {
        "pv" => "xen",
        "hv" | "baremetal" => "hvm",
        other => other,
    };
    VM_MODES.contains(&name).then(|| name.to_owned())
}

impl Property {
    /// The text that Python's `str(value)` gives.
    pub fn text(&self) -> String {
        match self {
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Int(value) => value.to_string(),
            Self::Text(text) => text.to_string(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| python::quote(item)).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    /// What Python's `bool(value)` gives.
    pub(crate) fn truthy(&self) -> bool {
        match self {
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
        }
    }
}

impl ImageProperties {
    pub(crate) fn read(image: &Image) -> Result<Self, BadImage> {
        let mut properties = Self::default();
        if image.properties.is_empty() {
            return Ok(properties);
        }
        for (legacy, current) in LEGACY {
            properties.take(image, legacy, current)?;
        }
        if let Some(adapter) = image.properties.get("vmware_adaptertype").map(text).filter(|a| !a.is_empty())
        {
            let bus = if adapter == "ide" { "ide" } else { "scsi" };
            properties.0.insert("hw_disk_bus", Property::Text(bus.into()));
            if bus == "scsi" {
                properties.0.insert("hw_scsi_model", Property::Text(adapter.into()));
            }
        }
        // An image has few properties and `KNOWN` is sorted, so each of the image's is looked up there.
        for key in image.properties.keys() {
            if let Ok(at) = KNOWN.binary_search_by(|(known, _)| known.cmp(&key.as_str())) {
                properties.take(image, key, KNOWN[at].0)?;
            }
        }
        let required = image.properties.iter().filter(|(_, value)| text(value) == "required");
        let traits: Vec<_> =
            required.filter_map(|(key, _)| key.strip_prefix("trait:")).map(Box::from).collect();
        if !traits.is_empty() {
            properties.0.insert("traits_required", Property::List(traits));
        }
        Ok(properties)
    }

    fn take(&mut self, image: &Image, from: &str, name: &'static str) -> Result<(), BadImage> {
        let Some(value) = image.properties.get(from).filter(|value| !value.is_null()) else { return Ok(()) };
        let Ok(at) = KNOWN.binary_search_by(|(known, _)| known.cmp(&name)) else { return Ok(()) };
        let text = text(value);
        let bad = |expected| BadImage { property: name.to_owned(), value: text.clone(), expected };
        let owned = |text: Option<String>, expected| {
            text.map(|text| Property::Text(text.into())).ok_or_else(|| bad(expected))
        };
        let property = match KNOWN[at].1 {
            Type::Bool => Property::Bool(is_true(&text)),
            Type::Int => Property::Int(python::int(&text).ok_or_else(|| bad("whole number"))?),
            Type::Text => Property::Text(text.as_str().into()),
            Type::Architecture => owned(architecture(&text), "known architecture")?,
            Type::Hypervisor => owned(hypervisor_type(&text), "known hypervisor type")?,
            Type::VmMode => owned(vm_mode(&text), "known VM mode")?,
            Type::Version => {
                Predicate::parse(&text).ok_or_else(|| bad("version requirement"))?;
                Property::Text(text.as_str().into())
            }
        };
        self.0.insert(name, property);
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Property> {
        self.0.get(name)
    }

    /// The value of a property that is a text. `None` if it is missing or of another type.
    pub(crate) fn get_text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Property::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All properties, sorted by name.
    pub(crate) fn all(&self) -> Box<[(Box<str>, Property)]> {
        self.0.iter().map(|(name, value)| (Box::from(*name), value.clone())).collect()
    }
}

/// Writes properties as an image has them; [`ImageProperties::read`] reads them back unchanged.
pub(crate) fn write(properties: &[(Box<str>, Property)]) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (name, value) in properties {
        match value {
            // `traits_required` is the only list, and an image has one property for each trait.
            Property::List(traits) => {
                all.extend(traits.iter().map(|name| (format!("trait:{name}"), Value::from("required"))));
            }
            value => {
                all.insert(name.to_string(), value.text().into());
            }
        }
    }
    all
}

/// The text that Python's `str(value)` gives for a value from the image service.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

/// Whether Nova takes a text for true. Every other text is false.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(python::strip(text).to_lowercase().as_str(), "1" | "t" | "true" | "on" | "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(properties: Value) -> Result<ImageProperties, BadImage> {
        let properties = serde_json::from_value(properties).unwrap();
        ImageProperties::read(&Image { properties, ..Image::default() })
    }

    #[test]
    fn known_names_are_in_order() {
        assert!(KNOWN.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn names_and_spellings_become_one() {
        let read = read(json!({
            "architecture": "i386", "hw_architecture": "AMD64", "hypervisor_type": "xapi", "vm_mode": "HV",
            "hw_boot_menu": "Yes", "hw_video_ram": " 64 ", "os_type": "linux", "unknown": 1,
            "trait:CUSTOM_A": "required", "trait:CUSTOM_B": "forbidden",
        }))
        .unwrap();
        let text = |name| read.get(name).map(Property::text);
        assert_eq!(text("hw_architecture").as_deref(), Some("x86_64"));
        assert_eq!(text("img_hv_type").as_deref(), Some("xen"));
        assert_eq!(text("hw_vm_mode").as_deref(), Some("hvm"));
        assert_eq!(text("hw_boot_menu").as_deref(), Some("True"));
        assert_eq!(text("hw_video_ram").as_deref(), Some("64"));
        assert_eq!(text("traits_required").as_deref(), Some("['CUSTOM_A']"));
        assert_eq!(text("unknown"), None);
        let written = Image { properties: write(&read.all()), ..Image::default() };
        assert_eq!(ImageProperties::read(&written).unwrap(), read);
    }

    #[test]
    fn what_nova_refuses_is_refused() {
        for (name, value) in [
            ("hw_architecture", "z80"),
            ("img_hv_type", "KVMX"),
            ("hw_vm_mode", ""),
            ("hw_video_ram", "1.5"),
            ("img_hv_requested_version", "~=6"),
        ] {
            let error = read(json!({ name: value })).unwrap_err();
            assert_eq!((error.property.as_str(), error.value.as_str()), (name, value));
        }
    }
}
