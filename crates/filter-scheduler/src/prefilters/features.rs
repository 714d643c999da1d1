//! Prefilters for features that not every host's driver can give an instance. A flavor asks for a feature by `hw:NAME`,
//! an image by `hw_NAME`.
//!
//! What always holds, as in Nova: a request is refused if flavor and image disagree, or if either asks for a value that
//! does not exist.
//!
//! Left out: which hosts have a feature. A feature becomes a trait that the host must report.

use novella_objects::Flavor;

use crate::nova::image_properties::{ImageProperties, Property, is_true};
use crate::request::failure::{BadFeature, Failure};

/// Pairs of a prefilter's name and the trait that it requires, in Nova's order.
type Traits = Vec<(&'static str, String)>;

const ENCRYPTION_FORMATS: [&str; 3] = ["plain", "luks", "luksv2"];
const SOUND_MODELS: [&str; 8] = ["sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"];
const TPM_VERSIONS: [&str; 2] = ["1.2", "2.0"];
const TPM_MODELS: [&str; 2] = ["tpm-tis", "tpm-crb"];
const TPM_SECRET_SECURITIES: [&str; 3] = ["user", "host", "deployment"];

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
        Feature { extra_spec: concat!("hw:", $name), property: concat!("hw_", $name) }
    };
}

/// The traits that a host must have for the features that the flavor and the image ask for. Fails if the two disagree
/// or ask for something that does not exist.
pub(super) fn required(flavor: &Flavor, image: &ImageProperties) -> Result<Traits, Failure> {
    let asked = FeatureRequest { flavor, image };
    let mut traits = Traits::new();
    if asked.truth(feature!("virtio_packed_ring"))? {
        traits.push(("packed_virtqueue_filter", "COMPUTE_NET_VIRTIO_PACKED".to_owned()));
    }
    if asked.truth(feature!("ephemeral_encryption"))? {
        let name = "COMPUTE_EPHEMERAL_ENCRYPTION";
        traits.push(("ephemeral_encryption_filter", name.to_owned()));
        if let Some(format) = asked.one_of(feature!("ephemeral_encryption_format"), &ENCRYPTION_FORMATS)? {
            traits.push(("ephemeral_encryption_filter", format!("{name}_{}", format.to_uppercase())));
        }
    }
    if asked.one_of(feature!("sound_model"), &SOUND_MODELS)? == Some("virtio") {
        traits.push(("virtio_sound_filter", "COMPUTE_SOUND_MODEL_VIRTIO".to_owned()));
    }
    if asked.tpm()? {
        // Only the flavor decides, because the image of an existing server cannot be changed.
        let security = asked.extra_spec("hw:tpm_secret_security").filter(|text| !text.is_empty());
        let security = security.unwrap_or("user");
        if !TPM_SECRET_SECURITIES.contains(&security) {
            let reason = format!("Scheduling failed: TPM secret security '{security}' is not supported.");
            return Err(Failure::NoValidHost { reason, placeable: 0 });
        }
        let name = format!("COMPUTE_SECURITY_TPM_SECRET_SECURITY_{}", security.to_uppercase());
        traits.push(("tpm_secret_security_filter", name));
    }
    Ok(traits)
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

    fn truth(&self, Feature { extra_spec, property }: Feature) -> Result<bool, Failure> {
        let flavor = self.extra_spec(extra_spec).map(is_true);
        let image = self.image.get(property).map(Property::truthy);
        match (flavor, image) {
            (Some(flavor), Some(image)) if flavor != image => bad(format!(
                "{extra_spec} of the flavor means {flavor}, and {property} of the image means {image}"
            )),
            (flavor, image) => Ok(flavor.or(image).unwrap_or(false)),
        }
    }

    fn one_of(
        &self,
        Feature { extra_spec, property }: Feature,
        known: &[&str],
    ) -> Result<Option<&'a str>, Failure> {
        let flavor = self.extra_spec(extra_spec).filter(|text| !text.is_empty());
        let image = self.image.get_text(property);
        if let (Some(flavor), Some(image)) = (flavor, image)
            && flavor != image
        {
            return bad(format!(
                "{extra_spec} of the flavor is {flavor:?}, and {property} of the image is {image:?}"
            ));
        }
        match flavor.or(image) {
            Some(value) if !known.contains(&value) => {
                bad(format!("{property} is {value:?}; it must be one of {}", known.join(", ")))
            }
            value => Ok(value),
        }
    }

    /// Whether the instance gets a TPM. Fails if its version and model do not go together.
    fn tpm(&self) -> Result<bool, Failure> {
        let Some(version) = self.one_of(feature!("tpm_version"), &TPM_VERSIONS)? else { return Ok(false) };
        if self.one_of(feature!("tpm_model"), &TPM_MODELS)? == Some("tpm-crb") && version != "2.0" {
            return bad(format!("tpm_model tpm-crb needs tpm_version 2.0, not {version}"));
        }
        Ok(true)
    }
}

fn bad<T>(reason: String) -> Result<T, Failure> {
    Err(Failure::Feature(BadFeature(reason)))
}
