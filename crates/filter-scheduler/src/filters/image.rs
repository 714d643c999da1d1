//! ImagePropertiesFilter: what an image needs against what hosts can run.
//!
//! Known difference to Nova: `hw_maxphysaddr_bits` is compared with the bits in a host's `cpu_info`. Nova means to, and has
//! tests for it, but it keeps `cpu_info` as a text, and raises an exception when it looks into the text.

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
    /// The `hw_maxphysaddr_bits` of the image: how many bits physical addresses must have. `None` if any number is accepted.
    address_bits: Option<i128>,
    /// The symbol of the key `cpu_info`. `None` if no host reports it, or if no bits are asked for.
    cpu_info: Option<u32>,
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
        self.requested.iter().try_for_each(|version| write!(f, ", version {version}"))?;
        self.address_bits.iter().try_for_each(|bits| write!(f, ", addresses of {bits} bits"))
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
        let address_bits = match image.get("hw_maxphysaddr_bits") {
            Some(Property::Int(bits)) if *bits != 0 => Some(*bits),
            _ => None,
        };
        let mut column = |name| table.capabilities.build_column(CapabilityKind::Attribute, name);
        let (key, cpu_info) = (column("supported_instances"), address_bits.and_then(|_| column("cpu_info")));
        Some(Self {
            wanted,
            requested: of_image("img_hv_requested_version"),
            version: image.get_text("img_hv_requested_version").and_then(Predicate::parse),
            address_bits,
            cpu_info,
            key,
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
        let reported = self.address_bits_of(table, row);
        Ok(self.address_bits.zip(reported).is_none_or(|(asked, bits)| bits >= asked))
    }

    /// How many bits the physical addresses of a host have, if the image asks for a number and the host reports one.
    pub(super) fn address_bits_of(&self, table: &HostTable, row: usize) -> Option<i128> {
        let cpu_info = table.capabilities.value(table.capabilities.symbols(self.cpu_info).at(row)?);
        let cpu_info = cpu_info.tree.as_ref().unwrap_or(&cpu_info.value);
        match cpu_info.get("maxphysaddr")?.get("bits")? {
            Json::Int(bits) if *bits != 0 => Some(*bits),
            _ => None,
        }
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
