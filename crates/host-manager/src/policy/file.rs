//! The scheduler's policy: one TOML text that says how hosts are chosen, which of them belong together, and what requests
//! may name: options of filters and weighers, aggregates, flavors, server groups, PCI aliases.
//!
//! Where Nova has a database, novella has this text and the hosts' reports. `config/policy.toml` shows every key.
//!
//! What always holds: a text is taken as a whole or refused as a whole, with every problem by its line. Equal policies
//! have equal hashes, however they are written down.
//!
//! Left out: files, reloading, and who is in an aggregate now. To add an option: a line in `keys.rs` and one in the file.

use std::collections::BTreeMap;
use std::fmt;

use novella_filter_scheduler::{Failure, SchedulerOptions};
use novella_objects::document::{PciAlias, PciRequest};
use novella_objects::{Flavor, Image, PolicyChange, PolicyProblem};
use serde_json::{Map, Value as Json, json};
use toml_edit::Document;

use crate::fnv::Fnv;
use crate::policy::catalog::{self, GroupRule};
use crate::policy::keys::{self, POLICY_KEYS};
use crate::policy::membership::{self, AggregateRule, HostFacts};
use crate::policy::read::{self, Reader};
use crate::policy::{diff, pci_alias};

/// A policy that was checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyFile {
    /// Filters, weighers and their options.
    pub options: SchedulerOptions,
    /// In the order of their names.
    pub aggregates: Vec<AggregateRule>,
    /// By name.
    pub flavors: BTreeMap<String, Flavor>,
    /// Server groups by name.
    pub server_groups: BTreeMap<String, GroupRule>,
    /// What groups ask for that are not among them; without it they are refused.
    pub server_group_defaults: Option<GroupRule>,
    /// PCI aliases by name.
    pub pci_aliases: BTreeMap<String, PciAlias>,
    /// What is probably not meant, but harms nothing.
    pub warnings: Vec<PolicyProblem>,
}

/// A policy that is refused; every reason at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadPolicy {
    /// Never empty; in the order of the lines.
    pub problems: Vec<PolicyProblem>,
}

impl fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "the policy has {count} problem{}", if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Sections that are no options; each entry has a name of the operator's.
const CATALOGUES: [&str; 5] = ["aggregates", "flavors", "server_groups", "server_group_defaults", "pci"];

impl PolicyFile {
    /// Reads and checks a policy as a whole.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let mut reader = Reader::new(text);
        let document = Document::parse(text).map_err(|error| {
            let what = format!("not valid TOML: {}", error.message().trim().replace('\n', ", "));
            reader.problem(&error.span(), "", what, "correct this line; texts need quotes");
            BadPolicy { problems: std::mem::take(&mut reader.problems) }
        })?;
        let mut policy = Self::default();
        let mut draft = keys::Draft::default();
        let fields = read::fields("", document.as_table());
        for field in &fields {
            let section = format!("{}.", field.name);
            if POLICY_KEYS.iter().any(|known| known.key.starts_with(&section)) {
                for option in reader.fields(&field.key, field.item) {
                    draft.set(&option, &mut reader);
                }
            } else if POLICY_KEYS.iter().any(|known| known.key == field.name) {
                draft.set(field, &mut reader);
            } else if !CATALOGUES.contains(&field.name) {
                let sections =
                    POLICY_KEYS.iter().map(|known| known.key.split('.').next().unwrap_or(known.key));
                let known = CATALOGUES.into_iter().chain(sections);
                reader.unknown(&field.at, &field.key, ("section or option", field.name), known);
            }
        }
        policy.options = draft.finish(&mut reader);
        for field in &fields {
            match field.name {
                "aggregates" => policy.aggregates = membership::read(field, &mut reader),
                "flavors" => policy.flavors = catalog::read_flavors(field, &mut reader),
                "pci" => policy.pci_aliases = pci_alias::read(field, &policy.options, &mut reader),
                "server_groups" => {
                    for group in reader.fields(&field.key, field.item) {
                        let rule = catalog::read_group(&group, &policy.options, &mut reader);
                        policy.server_groups.extend(rule.map(|rule| (group.name.to_owned(), rule)));
                    }
                }
                "server_group_defaults" => {
                    policy.server_group_defaults = catalog::read_group(field, &policy.options, &mut reader);
                }
                _ => {}
            }
        }
        let Reader { mut problems, warnings, .. } = reader;
        problems.sort_by_key(|problem| problem.line);
        policy.warnings = warnings;
        if problems.is_empty() { Ok(policy) } else { Err(BadPolicy { problems }) }
    }

    /// The aggregates of a host, by id.
    pub fn aggregates_of(&self, host: &HostFacts<'_>) -> Vec<u32> {
        let holding = self.aggregates.iter().filter(|rule| rule.holds(host));
        holding.map(|rule| rule.aggregate.id).collect()
    }

    /// The flavor of this name or id.
    pub fn flavor(&self, name: &str) -> Option<&Flavor> {
        self.flavors.get(name).or_else(|| self.flavors.values().find(|flavor| flavor.id == name))
    }

    /// The PCI requests of a flavor with those that its aliases mean; `None` if it names none, or `given` has them already.
    pub fn pci_requests(
        &self,
        flavor: &Flavor,
        image: Option<&Image>,
        given: &[PciRequest],
    ) -> Result<Option<Vec<PciRequest>>, Failure> {
        pci_alias::pci_requests(&self.pci_aliases, flavor, image, given)
    }

    /// What the server group of this name asks for.
    pub fn server_group(&self, name: &str) -> Option<&GroupRule> {
        self.server_groups.get(name).or(self.server_group_defaults.as_ref())
    }

    /// The policy as one value: options at their keys, then the catalogues by name. What is unset is left out.
    pub fn to_json(&self) -> Json {
        let mut out = Map::new();
        for key in POLICY_KEYS {
            let value = key.value(&self.options);
            if value.is_null() {
                continue;
            }
            match key.key.split_once('.') {
                None => out.insert(key.key.to_owned(), value),
                Some((section, name)) => {
                    let section = out.entry(section).or_insert_with(|| json!({}));
                    section.as_object_mut().and_then(|section| section.insert(name.to_owned(), value))
                }
            };
        }
        let aggregates: Map<_, _> =
            self.aggregates.iter().map(|rule| (rule.aggregate.name.clone(), rule.to_json())).collect();
        let groups: Map<_, _> =
            self.server_groups.iter().map(|(name, rule)| (name.clone(), rule.to_json())).collect();
        out.insert("aggregates".into(), aggregates.into());
        out.insert("flavors".into(), json!(self.flavors));
        out.insert("server_groups".into(), groups.into());
        if !self.pci_aliases.is_empty() {
            out.insert("pci".into(), json!({"alias": self.pci_aliases}));
        }
        if let Some(defaults) = &self.server_group_defaults {
            out.insert("server_group_defaults".into(), defaults.to_json());
        }
        out.into()
    }

    /// 16 hexadecimal digits, equal for equal policies on every scheduler.
    pub fn hash(&self) -> String {
        let mut hash = Fnv::new();
        serde_json::to_writer(&mut hash, &self.to_json()).expect("hashing cannot fail");
        format!("{:016x}", hash.finish())
    }

    /// What `after` changes.
    pub fn differences(&self, after: &Self) -> Vec<PolicyChange> {
        after.differences_from(&self.to_json())
    }

    /// What this policy changes in one that is known as [`Self::to_json`] gives it.
    pub fn differences_from(&self, before: &Json) -> Vec<PolicyChange> {
        diff::differences(before, &self.to_json())
    }
}
