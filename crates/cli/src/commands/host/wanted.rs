//! Selects the hosts for `novella host list`, and finds names on the command line that match nothing.
//!
//! What always holds: a name, pattern, zone, aggregate, trait or fact that no host of the fleet has is reported. If a host
//! has it but does not meet the other conditions, that is not an error.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use novella_host_manager::HostPattern;
use novella_objects::{HostStatus, HostSummary};
use novella_service::exit::Failure;
use serde_json::Value;

use crate::exit_codes::{NOT_FOUND, PARTIAL};
use crate::units;

/// The next step for a host that is not known.
pub const SEE_ALL: &str = "`novella host list` shows the hosts that it knows";

/// The conditions on the hosts that are listed. A host must meet all that are given.
#[derive(Debug, Default, Args)]
pub struct WantedHosts {
    /// Only these hosts: names, `cmp-*`, `cmp-[001-100]`
    #[arg(value_name = "HOST")]
    pub hosts: Vec<HostPattern>,
    /// Only hosts in this state; separate several by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<StateArg>,
    /// Only hosts in this availability zone; separate several by commas
    #[arg(long, value_name = "ZONE", alias = "availability-zone", value_delimiter = ',')]
    pub az: Vec<String>,
    /// Only hosts in this aggregate of the policy; repeat it for hosts that are in all of several
    #[arg(long = "aggregate", value_name = "NAME")]
    pub aggregates: Vec<String>,
    /// Only hosts that report this trait; repeat it for hosts that report all of several
    #[arg(long = "trait", value_name = "TRAIT")]
    pub traits: Vec<String>,
    /// Only hosts that report this fact; repeat it for hosts that report all of several
    #[arg(long = "fact", value_name = "KEY=VALUE", value_parser = units::parse_pair)]
    pub facts: Vec<(String, String)>,
}

/// The argument of --state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// Reports in time
    Up,
    /// Silent, but perhaps because of the scheduler, the broker or the network
    Suspect,
    /// Disabled by an operator
    Disabled,
    /// Silent for too long, or stopped
    Down,
}

impl StateArg {
    /// Whether it is the word for this state.
    fn is(self, state: HostStatus) -> bool {
        self.to_possible_value().is_some_and(|value| value.get_name() == state.as_str())
    }
}

/// Names on the command line that no host has.
#[derive(Debug)]
pub struct Missing {
    what: Vec<String>,
    next: Vec<String>,
}

impl Missing {
    /// The failure that reports them. Its exit code depends on whether other hosts are listed.
    pub fn failure(self, others: bool) -> Failure {
        let code = if others { PARTIAL } else { NOT_FOUND };
        Failure::new(code, self.what.join("; ")).next(self.next.join("; "))
    }
}

impl WantedHosts {
    /// Whether the scheduler must be asked for facts.
    pub fn needs_facts(&self) -> bool {
        !self.facts.is_empty()
    }

    /// The hosts that meet all conditions.
    pub fn of(&self, mut hosts: Vec<HostSummary>) -> Vec<HostSummary> {
        hosts.retain(|host| {
            (self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(&host.host)))
                && (self.state.is_empty() || self.state.iter().any(|state| state.is(host.state)))
                && (self.az.is_empty() || zones(host).any(|zone| self.az.iter().any(|wanted| wanted == zone)))
                && self.aggregates.iter().all(|name| host.aggregates.contains(name))
                && self.traits.iter().all(|name| host.traits.contains(name))
                && self
                    .facts
                    .iter()
                    .all(|(key, value)| host.facts.get(key).is_some_and(|fact| is(fact, value)))
        });
        hosts
    }

    /// The names that no host of the fleet has. `None` if there are none.
    pub fn missing(&self, all: &[HostSummary]) -> Option<Missing> {
        let mut missing = Missing { what: Vec::new(), next: Vec::new() };
        let mut note = |what: String, next: String| {
            missing.what.push(what);
            missing.next.push(next);
        };
        let unknown = |pattern: &&HostPattern| !all.iter().any(|host| pattern.matches(&host.host));
        let unknown: Vec<_> = self.hosts.iter().filter(unknown).map(HostPattern::as_str).collect();
        if !unknown.is_empty() {
            note(format!("the scheduler knows no host {}", unknown.join(", ")), SEE_ALL.to_owned());
        }
        let zones = names(all.iter().flat_map(zones));
        for zone in self.az.iter().filter(|zone| !zones.contains(zone.as_str())) {
            note(format!("no host is in zone {zone}"), listed("the zones are", &zones));
        }
        let aggregates = names(all.iter().flat_map(|host| &host.aggregates).map(String::as_str));
        for name in self.aggregates.iter().filter(|name| !aggregates.contains(name.as_str())) {
            note(
                format!("no host is in aggregate {name}"),
                format!(
                    "{}; `novella aggregate list` shows how they are defined",
                    listed("the aggregates with hosts are", &aggregates)
                ),
            );
        }
        for name in self.traits.iter().filter(|name| !all.iter().any(|host| host.traits.contains(name))) {
            let next = "`novella host list -c host -c traits` shows the traits of each host";
            note(format!("no host reports the trait {name}"), next.to_owned());
        }
        let facts = names(all.iter().flat_map(|host| host.facts.keys()).map(String::as_str));
        for (key, value) in &self.facts {
            if !facts.contains(key.as_str()) {
                note(format!("no host reports a fact {key}"), listed("the facts are", &facts));
            } else if !all.iter().any(|host| host.facts.get(key).is_some_and(|fact| is(fact, value))) {
                let next = "`novella host list -c host -c facts` shows the facts of each host";
                note(format!("no host reports the fact {key}={value}"), next.to_owned());
            }
        }
        (!missing.what.is_empty()).then_some(missing)
    }
}

/// The zones of a host. If its aggregates name several, they are separated by commas.
pub fn zones(host: &HostSummary) -> impl Iterator<Item = &str> {
    host.availability_zone.split(',').map(str::trim)
}

/// The next step after a zone that has no hosts.
pub fn zones_there_are(all: &[HostSummary]) -> String {
    listed("the zones are", &names(all.iter().flat_map(zones)))
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    all.collect()
}

fn listed(what: &str, names: &BTreeSet<&str>) -> String {
    if names.is_empty() {
        return "there are none".to_owned();
    }
    format!("{what} {}", names.iter().copied().collect::<Vec<_>>().join(", "))
}

/// Whether a fact has the value that was written on the command line. Numbers are compared as numbers.
fn is(fact: &Value, written: &str) -> bool {
    match fact {
        Value::String(text) => text == written,
        Value::Number(number) => written.parse().is_ok_and(|written: f64| number.as_f64() == Some(written)),
        other => serde_json::from_str(written).is_ok_and(|written: Value| written == *other),
    }
}
