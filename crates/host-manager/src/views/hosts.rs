//! The hosts as people and dashboards see them.
//!
//! What always holds: a reader of the whole fleet holds the lock only to copy a [`HostListing`], in steps between which others
//! have the map, and makes its rows without it.
//!
//! Left out: output formats, and the clocks of hosts, which the scheduler compares with its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::{FilterKind, HostState, Row, Snapshot, TraitSnapshot};
use novella_objects::document::UsedInventory;
use novella_objects::{Claim, Entries, HostAmounts, HostDetail, HostSummary, HostWarning, NovellaReport};
use novella_resources::Devices;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::map::record::Record;
use crate::policy::file::PolicyFile;
use crate::report::devices;
use crate::report::grants::GrantRef;
use crate::report::newcomers::Answers;
use crate::report::reported::{Text, Words, raw};
use crate::views::copy::used_inventories;
use crate::views::gathering::Gathering;

/// The hosts that were copied so far for a listing. It takes several steps, so that the map is never locked for long.
#[derive(Debug, Default)]
pub struct ListingInProgress {
    hosts: Gathering<ListedHost>,
    facts: bool,
}

impl ListingInProgress {
    /// A listing that has the facts that the hosts reported, if `facts` is true.
    pub fn new(facts: bool) -> Self {
        Self { facts, ..Self::default() }
    }
}

/// What is needed to list the hosts, at one instant.
#[derive(Debug, Clone)]
pub struct HostListing {
    table: Snapshot,
    /// What the table does not have.
    notes: Gathering<ListedHost>,
    traits: TraitSnapshot,
    policy: Arc<PolicyFile>,
    default_zone: String,
    /// The time of the listing.
    now: Duration,
}

/// What the summary of a host needs in addition to the table.
#[derive(Debug, Clone)]
struct ListedHost {
    uuid: Option<Uuid>,
    /// When the last report came.
    heard: Duration,
    /// How many reservations count on the host.
    held: u32,
    unlisted_claims: u32,
    disabled_reason: Option<Box<str>>,
    /// The warnings, each with the time until which it is shown.
    warnings: Vec<(HostWarning, Duration)>,
    stale_probes: Vec<(Box<str>, u64)>,
    /// Whether the host did not answer under its own queue.
    no_answer: bool,
    resources: BTreeMap<String, UsedInventory>,
    capacity: HostAmounts,
    /// The ids of the aggregates that the host is in.
    aggregates: Box<[u32]>,
    /// The facts as JSON text, if they were asked for.
    facts: Vec<(Box<str>, Box<str>)>,
}

impl ListedHost {
    fn new(map: &HostMap, row: Row) -> Self {
        let record = map.record(row);
        Self {
            uuid: record.identity.map(|identity| identity.uuid),
            heard: record.hearing.heard,
            held: record.held,
            unlisted_claims: record.unlisted_claims,
            disabled_reason: record.reported.disabled_reason().map(Into::into),
            warnings: record.warnings.clone(),
            stale_probes: record.stale_probes.clone(),
            no_answer: record.answers == Answers::No,
            resources: used_inventories(map, row),
            capacity: capacity(map, row),
            aggregates: map.table.aggregates_of(row).into(),
            facts: Vec::new(),
        }
    }

    fn with_facts(self, record: &Record) -> Self {
        let facts = record.reported.words().facts;
        Self { facts: facts.iter().map(|(key, text)| ((*key).into(), (*text).into())).collect(), ..self }
    }

    fn summary(
        self,
        host: &HostState<'_>,
        traits: Vec<String>,
        policy: &PolicyFile,
        default_zone: &str,
        now: Duration,
    ) -> HostSummary {
        let shown = self.warnings.into_iter().filter(|(_, until)| *until > now).map(|(warning, _)| warning);
        let silent = self.no_answer.then_some(HostWarning::NoAnswer);
        let stale = self.stale_probes.into_iter();
        let stale = stale.map(|(probe, age_ms)| HostWarning::StaleProbe { probe: probe.into(), age_ms });
        let (reported, used, held) = (host.reported(), host.used(), host.consumed());
        let named = policy.aggregates.iter().filter(|rule| self.aggregates.contains(&rule.aggregate.id));
        // A fact that is nested too deep to be read is shown as text.
        let fact = |text: Box<str>| serde_json::from_str(&text).unwrap_or_else(|_| text.into_string().into());
        let facts = self.facts.into_iter();
        HostSummary {
            host: host.host().to_owned(),
            uuid: self.uuid,
            state: host.status(),
            availability_zone: host.zone().unwrap_or(default_zone).to_owned(),
            conflicting_zones: host.conflicting_zones().map(str::to_owned).collect(),
            vcpus: reported.vcpus_total,
            vcpus_used: used.vcpus,
            memory_mb: reported.memory_mb_total,
            memory_mb_used: used.memory_mb,
            disk_gb: reported.disk_gb_total,
            disk_gb_used: used.disk_gb,
            capacity: Some(self.capacity),
            held: Some(HostAmounts { vcpus: held.vcpus, memory_mb: held.memory_mb, disk_gb: held.disk_gb }),
            instances: reported.num_instances,
            resources: self.resources,
            traits,
            aggregates: named.map(|rule| rule.aggregate.name.clone()).collect(),
            facts: facts.map(|(key, text)| (key.into(), fact(text))).collect(),
            reservations: self.held,
            report_age_s: now.saturating_sub(self.heard).as_secs_f64(),
            disabled_reason: self.disabled_reason.map(Into::into),
            warnings: shown.chain(silent).chain(stale).collect(),
            unlisted_claims: self.unlisted_claims,
            clock_offset_s: None,
        }
    }
}

impl HostListing {
    /// One summary per host, in fleet order.
    pub fn summaries(self) -> Vec<HostSummary> {
        let Self { table, notes, traits, policy, default_zone, now } = self;
        let summary = |(host, note): (HostState<'_>, ListedHost)| {
            note.summary(&host, traits.of(host.row()).to_vec(), &policy, &default_zone, now)
        };
        table.hosts().zip(notes.into_values()).map(summary).collect()
    }
}

/// How much of each amount may be used on a host, in all. A ratio that the host's aggregates set counts if a filter that
/// is enabled reads it, and then in place of the host's own ratio or beside it, as the enabled filters ask.
fn capacity(map: &HostMap, row: Row) -> HostAmounts {
    let (view, enabled) = (map.table.view(row), &map.policy.options.enabled_filters);
    let reported = view.reported();
    let of = |total: u64, own: f64, by_host: FilterKind, by_aggregate: FilterKind| {
        let of_aggregates =
            enabled.contains(&by_aggregate).then(|| map.table.ratio_of_aggregates(by_aggregate, row));
        let ratio = match of_aggregates.flatten() {
            Some(ratio) if enabled.contains(&by_host) => ratio.min(own),
            Some(ratio) => ratio,
            None => own,
        };
        (total as f64 * ratio) as u64
    };
    let ratios = reported.ratios;
    HostAmounts {
        vcpus: of(reported.vcpus_total, ratios.cpu, FilterKind::Core, FilterKind::AggregateCore),
        memory_mb: of(reported.memory_mb_total, ratios.ram, FilterKind::Ram, FilterKind::AggregateRam),
        disk_gb: of(reported.disk_gb_total, ratios.disk, FilterKind::Disk, FilterKind::AggregateDisk),
    }
}

/// See [`HostManager::list_some`](crate::HostManager::list_some).
pub(crate) fn list_some(map: &HostMap, listing: &mut ListingInProgress) -> bool {
    let ListingInProgress { hosts, facts } = listing;
    hosts.step(map, |map, row| listed(map, row, *facts))
}

/// See [`HostManager::finish_list`](crate::HostManager::finish_list).
pub(crate) fn finish_list(map: &HostMap, listing: ListingInProgress, now: Duration) -> HostListing {
    let ListingInProgress { hosts: mut notes, facts } = listing;
    notes.finish(map, |map, row| listed(map, row, facts));
    HostListing {
        table: map.table.snapshot(),
        notes,
        traits: map.table.traits_snapshot(),
        policy: Arc::clone(&map.policy),
        default_zone: map.options.default_availability_zone.clone(),
        now,
    }
}

fn listed(map: &HostMap, row: Row, facts: bool) -> ListedHost {
    let listed = ListedHost::new(map, row);
    if facts { listed.with_facts(map.record(row)) } else { listed }
}

/// Everything that is known of one host. The list of its ended instances is not kept, so it is empty.
pub(crate) fn detail(map: &HostMap, host: &str, now: Duration) -> Option<HostDetail> {
    let row = map.table.row_of(host)?;
    let record = map.record(row);
    let words = record.reported.words();
    let mut capabilities = record.reported.to_json(&words, &map.texts);
    if record.identity.is_some() {
        capabilities.insert("novella".into(), novella_part(map, row, record, &words));
    }
    let view = map.table.view(row);
    let (numa_topology, left) = map.table.devices(row).map(Devices::write).unwrap_or_default();
    let pools = record.reported.text(Text::PciPools, &map.texts);
    Some(HostDetail {
        summary: ListedHost::new(map, row).summary(
            &view,
            map.table.traits(row).map(str::to_owned).collect(),
            &map.policy,
            &map.options.default_availability_zone,
            now,
        ),
        capabilities: Value::Object(capabilities),
        incarnation: record.identity.map(|identity| identity.incarnation),
        seq: record.identity.map(|identity| identity.seq),
        sent_at: record.identity.map(|_| record.sent_at.clone()),
        resource: resource(&view),
        numa_topology,
        pci_pools: pools.map_or_else(Vec::new, |reported| devices::shown(reported, &left)),
    })
}

/// Nova's `show_host_resources`: totals and what is in use. Claims do not name a project, so `usage`, which is by
/// project, is empty.
pub(crate) fn show_host_resources(map: &HostMap, host: &str) -> Option<Value> {
    let row = map.table.row_of(host)?;
    Some(json!({ "resource": resource(&map.table.view(row)), "usage": {} }))
}

/// Novella's own part of the host's last report, as JSON.
fn novella_part(map: &HostMap, row: Row, record: &Record, words: &Words<'_>) -> Value {
    let Some(identity) = record.identity else { return Value::Null };
    let text = |text| record.reported.text(text, &map.texts).map(raw);
    let report = NovellaReport {
        uuid: identity.uuid,
        incarnation: identity.incarnation,
        nonce: identity.nonce,
        seq: identity.seq,
        sent_at: record.sent_at.as_str().into(),
        interval_ms: record.interval_ms,
        goodbye: record.hearing.goodbye,
        disabled_reason: words.disabled_reason.map(Into::into),
        availability_zone: words.availability_zone.map(Into::into),
        reserved: record.reserved,
        allocation_ratios: map.table.view(row).reported().ratios,
        grants: record.grants_claims,
        disk_available_least: record.disk_available_least,
        claims: listed_claims(record),
        holds: Vec::new(),
        ended: Vec::new(),
        failed_instances: Entries::default(),
        traits: words.traits.iter().map(|text| (*text).into()).collect(),
        resources: words.resources.clone(),
        facts: Entries(words.facts.iter().map(|(key, text)| ((*key).into(), raw(text))).collect()),
        measured: record.measured,
        num_io_ops: map.table.view(row).reported().num_io_ops,
        failed_builds: map.table.view(row).reported().failed_builds,
        stale_probes: Entries(
            record.stale_probes.iter().map(|(probe, age)| ((&**probe).into(), *age)).collect(),
        ),
        host_ip: words.host_ip.map(Into::into),
        supported_instances: text(Text::SupportedInstances),
        metrics: record.reported.metrics().map(raw),
        numa_topology: text(Text::NumaTopology),
        pci_pools: text(Text::PciPools),
    };
    serde_json::to_value(&report).expect("a report is made of what JSON has")
}

/// The claims as they were reported.
fn listed_claims(record: &Record) -> Vec<Claim<'_>> {
    let mut claims = record.claims.list();
    for (at, grant) in record.grants.iter() {
        let GrantRef { decision, user, rank, spec_hash, migration, instance } = grant;
        let (decision, user, instance) = (decision.map(Into::into), user.map(Into::into), instance.map(raw));
        claims[at] = Claim { decision, user, rank, spec_hash, migration, instance, ..claims[at].clone() };
    }
    claims
}

fn resource(host: &HostState<'_>) -> Value {
    let (reported, used) = (host.reported(), host.used());
    json!({
        "vcpus": reported.vcpus_total,
        "memory_mb": reported.memory_mb_total,
        "local_gb": reported.disk_gb_total,
        "vcpus_used": used.vcpus,
        "memory_mb_used": used.memory_mb,
        "local_gb_used": used.disk_gb,
    })
}
