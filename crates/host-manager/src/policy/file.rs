//! The scheduler's policy: one TOML text that says how hosts are chosen, which hosts belong together, and what requests
//! may name. It has the options of filters and weighers, aggregates, flavors, server groups and PCI aliases.
//!
//! Where Nova has a database, novella has this text and the hosts' reports. `config/policy.toml` shows every key.
//!
//! What always holds: a text is accepted as a whole or refused as a whole, with every problem and its line. Equal
//! policies have equal hashes, however they are written.
//!
//! Left out: files, reloading, and which hosts are in an aggregate now. To add an option, add it to `keys.rs` and to
//! `config/policy.toml`.

use std::collections::BTreeMap;
use std::fmt;

use novella_filter_scheduler::SchedulerOptions;
use novella_objects::document::PciAlias;
use novella_objects::{Flavor, PolicyChange, PolicyProblem};
use serde_json::{Map, Value as Json, json};
use toml_edit::Document;

use crate::fnv::Fnv;
use crate::policy::catalog::{self, GroupRule};
use crate::policy::keys::{self, POLICY_KEYS};
use crate::policy::membership::{self, AggregateRule, HostFacts};
use crate::policy::read::{self, Reader};
use crate::policy::{diff, findings, pci_alias};

/// A policy that was read and checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyFile {
    /// The filters, the weighers, and their options.
    pub options: SchedulerOptions,
    /// The aggregates, in the order of their names.
    pub aggregates: Vec<AggregateRule>,
    /// The flavors, by name.
    pub flavors: BTreeMap<String, Flavor>,
    /// The rules of server groups, by name.
    pub server_groups: BTreeMap<String, GroupRule>,
    /// The rule of groups that are not in `server_groups`. If it is absent, such groups are refused.
    pub server_group_defaults: Option<GroupRule>,
    /// The PCI aliases, by name.
    pub pci_aliases: BTreeMap<String, PciAlias>,
    /// Parts that nothing can use, such as a flavor that every request is refused for. The rest of the policy works.
    pub unusable: Vec<PolicyProblem>,
    /// Warnings about settings that are probably a mistake, but do no harm.
    pub warnings: Vec<PolicyProblem>,
}

/// A refused policy, with every reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadPolicy {
    /// The problems, in the order of their lines. There is at least one.
    pub problems: Vec<PolicyProblem>,
}

impl fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "the policy has {count} problem{}", if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// The sections that do not hold options, but entries named by the operator.
const CATALOGUES: [&str; 5] = ["aggregates", "flavors", "server_groups", "server_group_defaults", "pci"];

impl PolicyFile {
    /// Reads and checks a policy. Fails with every problem at once.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let mut reader = Reader::new(text);
        let document = Document::parse(text).map_err(|error| {
            let what = format!("not valid TOML: {}", error.message().trim().replace('\n', ", "));
            reader.problem(&error.span(), "", what, "correct this line; strings need quotes");
            BadPolicy { problems: std::mem::take(&mut reader.problems) }
        })?;
        let mut policy = Self::default();
        let mut draft = keys::OptionsDraft::default();
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
        if reader.problems.is_empty() {
            let contents = findings::Contents {
                options: &policy.options,
                aggregates: &policy.aggregates,
                flavors: &policy.flavors,
                pci_aliases: &policy.pci_aliases,
            };
            findings::note(&fields, &contents, &mut reader);
        }
        let Reader { mut problems, mut unusable, mut warnings, .. } = reader;
        for list in [&mut problems, &mut unusable, &mut warnings] {
            list.sort_by_key(|problem| problem.line);
        }
        (policy.unusable, policy.warnings) = (unusable, warnings);
        if problems.is_empty() { Ok(policy) } else { Err(BadPolicy { problems }) }
    }

    /// The ids of the aggregates that a host is in.
    pub fn aggregates_of(&self, host: &HostFacts<'_>) -> Vec<u32> {
        let holding = self.aggregates.iter().filter(|rule| rule.holds(host));
        holding.map(|rule| rule.aggregate.id).collect()
    }

    /// The flavor with this name or id.
    pub fn flavor(&self, name: &str) -> Option<&Flavor> {
        self.flavors.get(name).or_else(|| self.flavors.values().find(|flavor| flavor.id == name))
    }

    /// The rule of the server group with this name, or the default rule.
    pub fn server_group(&self, name: &str) -> Option<&GroupRule> {
        self.server_groups.get(name).or(self.server_group_defaults.as_ref())
    }

    /// The policy as one JSON value: options at their keys, then the catalogues by name. Options that are not set are
    /// left out.
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

    /// What an operator should look at although the policy is accepted, in words: first what nothing can use, then the
    /// warnings.
    pub fn findings(&self) -> impl Iterator<Item = &PolicyProblem> {
        self.unusable.iter().chain(&self.warnings)
    }

    /// The hash of the policy, as 16 hexadecimal digits. Equal policies have equal hashes on every scheduler.
    pub fn hash(&self) -> String {
        let mut hash = Fnv::new();
        serde_json::to_writer(&mut hash, &self.to_json()).expect("hashing cannot fail");
        format!("{:016x}", hash.finish())
    }

    /// What `after` changes in this policy.
    pub fn differences(&self, after: &Self) -> Vec<PolicyChange> {
        after.differences_from(&self.to_json())
    }

    /// What this policy changes in another one, of which [`Self::to_json`]'s value is known.
    pub fn differences_from(&self, before: &Json) -> Vec<PolicyChange> {
        diff::differences(before, &self.to_json())
    }
}
