//! ImagePropertiesFilter: what an image needs against what hosts can run.

use std::fmt;

use crate::filters::tally::Passes;
use crate::nova::image_properties::{ImageProperties, Property, architecture};
use crate::nova::json::Json;
use crate::nova::version::{Predicate, Version};
use crate::request::asked::Asked;
use crate::settings::options::Policy;
use crate::table::block::refill;
use crate::table::capabilities::CapabilityKind;
use crate::table::host_table::HostTable;

/// What an image asks for, with the answers so far.
#[derive(Debug)]
pub(super) struct Support {
    /// The words for architecture, hypervisor type and VM mode. All must be in one of the triples that a host supports.
    wanted: Vec<String>,
    /// What the hypervisor's version must be.
    version: Option<Predicate>,
    /// The requirement on the version as the image has it, for people to read.
    requested: Option<String>,
    /// Whether the image asks for `hw_maxphysaddr_bits`. Nova looks for these in a host's cpu_info, which is a text,
    /// and raises an exception.
    maxphysaddr_bits: bool,
    /// The symbol of the key `supported_instances`. `None` if no host reports it.
    key: Option<u32>,
    /// Whether each value of `supported_instances` has what is wanted, by its symbol. `None` if it was not looked at
    /// yet.
    triples: Vec<Option<bool>>,
    /// The hypervisor versions met so far, each with whether it satisfies `version`. A fleet runs few.
    versions: Vec<(i64, bool)>,
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wanted.join(", "))?;
        self.requested.iter().try_for_each(|version| write!(f, ", version {version}"))
    }
}

impl Support {
    pub(super) fn compile(asked: &Asked<'_>, table: &mut HostTable, policy: &Policy) -> Option<Self> {
        let image: &ImageProperties = &asked.image;
        let default = policy.image_properties_default_architecture.as_deref().and_then(architecture);
        let of_image = |name| image.get_text(name).map(str::to_owned);
        let wanted =
            [of_image("hw_architecture").or(default), of_image("img_hv_type"), of_image("hw_vm_mode")];
        let wanted: Vec<String> = wanted.into_iter().flatten().collect();
        if wanted.is_empty() {
            return None;
        }
        Some(Self {
            wanted,
            requested: of_image("img_hv_requested_version"),
            version: image.get_text("img_hv_requested_version").and_then(Predicate::parse),
            maxphysaddr_bits: image.get("hw_maxphysaddr_bits").is_some_and(Property::truthy),
            key: table.capabilities.build_column(CapabilityKind::Attribute, "supported_instances"),
            triples: vec![None; table.capabilities.values()],
            versions: Vec::new(),
        })
    }

    pub(super) fn ask(&mut self, table: &HostTable, row: usize) -> Passes {
        let Some(symbol) = table.capabilities.symbols(self.key).at(row) else { return Ok(false) };
        let wanted = &self.wanted;
        let supported = *self.triples[symbol as usize]
            .get_or_insert_with(|| supports(&table.capabilities.value(symbol).value, wanted));
        if !supported || !self.runs(table.columns.exact[row].hypervisor_version) {
            return Ok(false);
        }
        if self.maxphysaddr_bits {
            return Err("hw_maxphysaddr_bits cannot be compared with cpu_info, which is a text".to_owned());
        }
        Ok(true)
    }

    /// Forgets all answers about values, and makes room for those about `symbols` values.
    pub(super) fn forget_values(&mut self, symbols: usize) {
        refill(&mut self.triples, symbols, None);
    }

    /// Whether a hypervisor version is good enough. Zero, which is unknown, always is.
    fn runs(&mut self, number: i64) -> bool {
        let Some(predicate) = self.version.as_ref().filter(|_| number != 0) else { return true };
        if let Some((_, holds)) = self.versions.iter().find(|(known, _)| *known == number) {
            return *holds;
        }
        let holds = predicate.holds(&Version::of_hypervisor(number));
        self.versions.push((number, holds));
        holds
    }
}

fn supports(triples: &Json, wanted: &[String]) -> bool {
    let Json::List(triples) = triples else { return false };
    let stands = |triple: &Json, word: &String| match triple {
        Json::List(parts) => parts.iter().any(|part| matches!(part, Json::Text(text) if **text == **word)),
        _ => false,
    };
    triples.iter().any(|triple| wanted.iter().all(|word| stands(triple, word)))
}
