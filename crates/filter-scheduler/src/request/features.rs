//! Features that not every host can give an instance, such as a TPM or encrypted memory. A flavor asks for a feature by an
//! extra spec (`hw:NAME`, `os:NAME`), an image by a property (`hw_NAME`, `os_NAME`).
//!
//! Each feature becomes a trait that the host must report. Encrypted memory also takes a unit of a resource class.
//!
//! What always holds, as in Nova: a request is refused if flavor and image disagree, or if either asks for a value that
//! does not exist.
//!
//! Left out: which hosts report the traits (`prefilters/`).

use novella_objects::Flavor;

use crate::nova::image_properties::{ImageProperties, Property, is_true};
use crate::request::failure::{BadFeature, Failure};

/// Pairs of what asks for a trait, for people to read, and the trait. They are in Nova's order.
type Traits = Vec<(String, String)>;

const ENCRYPTION_FORMATS: [&str; 3] = ["plain", "luks", "luksv2"];
const SOUND_MODELS: [&str; 8] = ["sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"];
const TPM_VERSIONS: [&str; 2] = ["1.2", "2.0"];
const TPM_MODELS: [&str; 2] = ["tpm-tis", "tpm-crb"];
const TPM_SECRET_SECURITIES: [&str; 3] = ["user", "host", "deployment"];
const PCI_NUMA_POLICIES: [&str; 4] = ["required", "legacy", "preferred", "socket"];
const SECURE_BOOTS: [&str; 3] = ["required", "disabled", "optional"];
const ADDRESS_MODES: [&str; 2] = ["passthrough", "emulate"];

/// The names of a feature in a flavor and in an image. They are constants, because they are read for every new shape.
#[derive(Clone, Copy)]
struct Feature {
    /// The key of the extra spec, such as `hw:tpm_version`.
    extra_spec: &'static str,
    /// The name of the image property, such as `hw_tpm_version`.
    property: &'static str,
}

macro_rules! feature {
    ($name:literal) => {
        feature!("hw", $name)
    };
    ($prefix:literal, $name:literal) => {
        Feature { extra_spec: concat!($prefix, ":", $name), property: concat!($prefix, "_", $name) }
    };
}

/// A kind of memory encryption.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryEncryption {
    /// The name of the model, as flavors and images have it.
    model: &'static str,
    /// The trait of hosts whose CPUs have it.
    needs: &'static str,
    /// Whether the firmware must be stateless.
    stateless_firmware: bool,
    /// Whether the instance must not have a video device.
    no_video: bool,
}

/// The models of memory encryption. The first is Nova's default.
const MEMORY_ENCRYPTIONS: [MemoryEncryption; 4] = {
    let sev = MemoryEncryption {
        model: "amd-sev",
        needs: "HW_CPU_X86_AMD_SEV",
        stateless_firmware: false,
        no_video: false,
    };
    [
        MemoryEncryption { ..sev },
        MemoryEncryption { model: "amd-sev-es", needs: "HW_CPU_X86_AMD_SEV_ES", ..sev },
        MemoryEncryption {
            model: "amd-sev-snp",
            needs: "HW_CPU_X86_AMD_SEV_SNP",
            stateless_firmware: true,
            ..sev
        },
        MemoryEncryption {
            model: "intel-tdx",
            needs: "HW_CPU_X86_INTEL_TDX",
            stateless_firmware: true,
            no_video: true,
        },
    ]
};

/// How the memory of an instance is encrypted; `None` if it is not. Fails if the flavor and the image disagree, or if the
/// image lacks what the model needs.
pub(crate) fn memory_encryption(
    flavor: &Flavor,
    image: &ImageProperties,
) -> Result<Option<&'static MemoryEncryption>, Failure> {
    const MODEL: Feature = feature!("mem_encryption_model");
    let asked = FeatureRequest { flavor, image };
    let Some(by) = asked.truth(feature!("mem_encryption"))? else { return Ok(None) };
    let of_flavor = asked.extra_spec(MODEL.extra_spec);
    let of_image = image.get_text(MODEL.property);
    if let (Some(flavor), Some(image)) = (of_flavor, of_image)
        && flavor != image
    {
        return conflict(MODEL, flavor, image);
    }
    let name = of_image.or(of_flavor).filter(|name| !name.is_empty()).unwrap_or(MEMORY_ENCRYPTIONS[0].model);
    let Some(model) = MEMORY_ENCRYPTIONS.iter().find(|known| known.model == name) else {
        let known = MEMORY_ENCRYPTIONS.each_ref().map(|known| known.model);
        let key = if of_image.is_some() { MODEL.property } else { MODEL.extra_spec };
        return unknown(key, name, &known);
    };
    if image.get_text("hw_firmware_type") != Some("uefi") {
        return bad(format!("{by} needs hw_firmware_type=uefi in the image"));
    }
    if let Some(machine) = image.get_text("hw_machine_type").filter(|machine| !machine.contains("q35")) {
        return bad(format!("{by} needs hw_machine_type=q35 in the image, not {machine}"));
    }
    if model.stateless_firmware && !stateless_firmware(image) {
        return bad(format!("memory encryption by {name} needs hw_firmware_stateless=true in the image"));
    }
    if model.no_video && image.get_text("hw_video_model") != Some("none") {
        return bad(format!("memory encryption by {name} needs hw_video_model=none in the image"));
    }
    Ok(Some(model))
}

/// Whether the image asks for firmware that keeps nothing. As in Nova, only UEFI firmware can be asked to.
fn stateless_firmware(image: &ImageProperties) -> bool {
    image.get("hw_firmware_stateless").is_some_and(Property::truthy)
        && image.get_text("hw_firmware_type") == Some("uefi")
}

/// The traits that a host must have for the features that the flavor and the image ask for. Fails if the two disagree
/// or ask for something that does not exist.
pub(crate) fn required(
    flavor: &Flavor,
    image: &ImageProperties,
    encryption: Option<&MemoryEncryption>,
) -> Result<Traits, Failure> {
    let asked = FeatureRequest { flavor, image };
    let mut traits = Traits::new();
    let mut ask = |by: &str, name: &str| traits.push((format!("{by} ({name})"), name.to_owned()));

    // Nova's prefilters, by whose names these are shown.
    if asked.truth(feature!("virtio_packed_ring"))?.is_some() {
        ask("packed_virtqueue_filter", "COMPUTE_NET_VIRTIO_PACKED");
    }
    if asked.truth(feature!("ephemeral_encryption"))?.is_some() {
        const NAME: &str = "COMPUTE_EPHEMERAL_ENCRYPTION";
        ask("ephemeral_encryption_filter", NAME);
        if let Some(format) = asked.one_of(feature!("ephemeral_encryption_format"), &ENCRYPTION_FORMATS)? {
            let name = format!("{NAME}_{}", format.value.to_uppercase());
            ask("ephemeral_encryption_filter", &name);
        }
    }
    let sound = asked.one_of(feature!("sound_model"), &SOUND_MODELS)?;
    if sound.is_some_and(|model| model.value == "virtio") {
        ask("virtio_sound_filter", "COMPUTE_SOUND_MODEL_VIRTIO");
    }
    let tpm = asked.tpm()?;
    if tpm.is_some() {
        // Only the flavor decides, because the image of an existing server cannot be changed.
        let security = asked.extra_spec("hw:tpm_secret_security").filter(|text| !text.is_empty());
        let security = security.unwrap_or("user");
        if !TPM_SECRET_SECURITIES.contains(&security) {
            let reason = format!("Scheduling failed: TPM secret security '{security}' is not supported.");
            return Err(Failure::NoValidHost { reason, placeable: 0 });
        }
        let name = format!("COMPUTE_SECURITY_TPM_SECRET_SECURITY_{}", security.to_uppercase());
        ask("tpm_secret_security_filter", &name);
    }

    // What Nova adds when it makes the query of a request. It is shown by the name of what asks for it.
    if let Some(encryption) = encryption {
        ask(&format!("memory encryption by {}", encryption.model), encryption.needs);
    }
    if let Some(Tpm { version, model }) = tpm {
        let crb = model.is_some_and(|model| model.value == "tpm-crb");
        let name = if crb { "COMPUTE_SECURITY_TPM_CRB" } else { "COMPUTE_SECURITY_TPM_TIS" };
        ask(&model.unwrap_or(version).line(), name);
        let two = version.value == "2.0";
        ask(&version.line(), if two { "COMPUTE_SECURITY_TPM_2_0" } else { "COMPUTE_SECURITY_TPM_1_2" });
    }
    let affinity = asked.one_of(feature!("pci_numa_affinity_policy"), &PCI_NUMA_POLICIES)?;
    if let Some(socket) = affinity.filter(|policy| policy.value == "socket") {
        ask(&socket.line(), "COMPUTE_SOCKET_PCI_NUMA_AFFINITY");
    }
    let boot = asked.one_of(feature!("os", "secure_boot"), &SECURE_BOOTS)?;
    if let Some(secure) = boot.filter(|boot| boot.value == "required") {
        ask(&secure.line(), "COMPUTE_SECURITY_UEFI_SECURE_BOOT");
    }
    if let Some(mode) = asked.one_of(feature!("maxphysaddr_mode"), &ADDRESS_MODES)? {
        let passthrough = mode.value == "passthrough";
        let ending = if passthrough { "PASSTHROUGH" } else { "EMULATED" };
        ask(&mode.line(), &format!("COMPUTE_ADDRESS_SPACE_{ending}"));
    }
    if stateless_firmware(image) {
        ask("hw_firmware_stateless", "COMPUTE_SECURITY_STATELESS_FIRMWARE");
    }
    Ok(traits)
}

/// A value that a flavor or an image asks for.
#[derive(Clone, Copy)]
struct Said<'a> {
    /// The key of the extra spec, or the name of the image property.
    key: &'static str,
    value: &'a str,
}

impl Said<'_> {
    /// The setting, for people to read.
    fn line(self) -> String {
        format!("{}={}", self.key, self.value)
    }
}

/// The TPM that an instance gets.
#[derive(Clone, Copy)]
struct Tpm<'a> {
    version: Said<'a>,
    /// The model. `None` if none is asked for, which is Nova's `tpm-tis`.
    model: Option<Said<'a>>,
}

/// The flavor and the image of a request, which ask for features.
struct FeatureRequest<'a> {
    flavor: &'a Flavor,
    image: &'a ImageProperties,
}

impl<'a> FeatureRequest<'a> {
    fn extra_spec(&self, key: &str) -> Option<&'a str> {
        self.flavor.extra_specs.get(key).map(String::as_str)
    }

    /// What asks for a feature that is there or not: the extra spec or the property. `None` if neither does.
    fn truth(&self, Feature { extra_spec, property }: Feature) -> Result<Option<&'static str>, Failure> {
        let flavor = self.extra_spec(extra_spec).map(is_true);
        let image = self.image.get(property).map(Property::truthy);
        match (flavor, image) {
            (Some(flavor), Some(image)) if flavor != image => bad(format!(
                "{extra_spec} of the flavor means {flavor}, and {property} of the image means {image}"
            )),
            (Some(true), _) => Ok(Some(extra_spec)),
            (_, Some(true)) => Ok(Some(property)),
            _ => Ok(None),
        }
    }

    fn one_of(&self, feature: Feature, known: &[&str]) -> Result<Option<Said<'a>>, Failure> {
        let Feature { extra_spec, property } = feature;
        let flavor = self.extra_spec(extra_spec).filter(|text| !text.is_empty());
        let image = self.image.get_text(property);
        if let (Some(flavor), Some(image)) = (flavor, image)
            && flavor != image
        {
            return conflict(feature, flavor, image);
        }
        let of_flavor = flavor.map(|value| Said { key: extra_spec, value });
        match of_flavor.or(image.map(|value| Said { key: property, value })) {
            Some(said) if !known.contains(&said.value) => unknown(said.key, said.value, known),
            said => Ok(said),
        }
    }

    /// The TPM that the instance gets, if it gets one. Fails if its version and model do not go together.
    fn tpm(&self) -> Result<Option<Tpm<'a>>, Failure> {
        let Some(version) = self.one_of(feature!("tpm_version"), &TPM_VERSIONS)? else { return Ok(None) };
        let model = self.one_of(feature!("tpm_model"), &TPM_MODELS)?;
        if model.is_some_and(|model| model.value == "tpm-crb") && version.value != "2.0" {
            return bad(format!("tpm_model tpm-crb needs tpm_version 2.0, not {}", version.value));
        }
        Ok(Some(Tpm { version, model }))
    }
}

fn bad<T>(reason: String) -> Result<T, Failure> {
    Err(Failure::Feature(BadFeature(reason)))
}

fn conflict<T>(Feature { extra_spec, property }: Feature, flavor: &str, image: &str) -> Result<T, Failure> {
    bad(format!("{extra_spec} of the flavor is {flavor:?}, and {property} of the image is {image:?}"))
}

fn unknown<T>(key: &str, value: &str, known: &[&str]) -> Result<T, Failure> {
    bad(format!("{key} is {value:?}; it must be one of {}", known.join(", ")))
}
