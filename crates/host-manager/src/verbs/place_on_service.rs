//! Places volumes: placement on services other than compute, by what their drivers reported in Folsom.
//!
//! The rules are those of Cinder's first filter scheduler (Grizzly), which read these reports. A host has
//! `floor(free_capacity_gb × (1 − reserved_percentage / 100))` GiB free. `infinite` and `unknown` mean room for
//! everything, and a host that reports no free capacity has none. The host with the most room is taken. There are two
//! differences. What was placed is subtracted until its hold ends, and not only until the next report, which may be
//! older; a report lists no volumes, so nothing else can confirm one. And suspect hosts come last, as on compute. There
//! are few such services, so nothing here is kept in columns.
//!
//! What always holds: the same instances with the same request get the same answer while their holds last.
//!
//! Left out: creating the volume.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use novella_filter_scheduler::nova::operators::Requirement;
use novella_filter_scheduler::{SUSPECT_WEIGHER, suspect_multiplier};
use novella_objects::{
    Decision, Explanation, FilterTally, HostStatus, NearestMiss, PlacementRequest, Refusal, RequestSpec,
    Scored, Selection, WeigherScore,
};

use crate::map::host_map::HostMap;
use crate::policy::resolved::Resolved;
use crate::promises::holds::Hold;
use crate::promises::spec_hash::spec_hash;
use crate::report::reported::{Reported, Words, json};
use crate::report::services::ServiceState;
use crate::verbs::place::{answer, conflict, full, hold, refuse, repeat, selection_by_name};
use crate::verbs::watch::advance;

/// The room of a host that reports `infinite` or `unknown`, in GiB. It is more than any one volume may ask for.
pub(crate) const UNLIMITED_GB: f64 = i32::MAX as f64;
/// How many ranked hosts an answer shows.
const SHOWN: usize = 5;

/// A host of the service, as the filters see it.
struct Candidate<'a> {
    host: &'a str,
    status: HostStatus,
    /// What the service reported.
    words: Words<'a>,
    /// The free room in GiB, without what is held. `None` if the host reports no free capacity.
    room: Option<f64>,
}

impl Candidate<'_> {
    /// A reported value as text, as requirements compare it.
    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        let text = self.words.extra_text(key)?;
        Some(match json(text) {
            serde_json::Value::String(text) => text.into(),
            _ => Cow::Borrowed(text),
        })
    }

    fn zone(&self) -> Option<Cow<'_, str>> {
        self.words.availability_zone.map(Cow::Borrowed).or_else(|| self.text("availability_zone"))
    }
}

/// The free room in GiB according to a report, without what the host reserves.
fn room(reported: &Reported) -> Option<f64> {
    let words = reported.words();
    let value = |key: &str| words.extra_text(key).map(json);
    let free = match value("free_capacity_gb")? {
        serde_json::Value::String(text) if text == "infinite" || text == "unknown" => {
            return Some(UNLIMITED_GB);
        }
        free => free.as_f64()?,
    };
    let reserved = value("reserved_percentage").and_then(|percent| percent.as_f64()).unwrap_or(0.0);
    Some((free * (1.0 - reserved / 100.0)).floor().clamp(0.0, UNLIMITED_GB))
}

/// Decides where on `service` the request's instances go. Each has the size of the flavor's root disk. Holds them
/// unless it is a dry run.
pub(crate) fn select_service(
    map: &mut HostMap,
    service: &str,
    request: &Resolved,
    decision_id: String,
    now: Duration,
) -> Decision {
    let (by, request) = (request.by(), request.request());
    advance(map, now);
    map.holds.expire(now);
    let PlacementRequest { instance_uuids, spec, .. } = &request.request_spec;
    let hash = spec_hash(spec);
    let mut earlier = Vec::with_capacity(instance_uuids.len());
    let mut known = None;
    let mut rest = Vec::new();
    for &uuid in instance_uuids {
        let Some(hold) = map.holds.get(&uuid) else {
            rest.push(uuid);
            earlier.push(None);
            continue;
        };
        if *hold.service != *service || hold.spec_hash != hash {
            let host = hold.host.to_string();
            return conflict(map, decision_id, request, uuid, Some(host));
        }
        known = Some((Arc::clone(&hold.decision_id), hold.expires.saturating_sub(now)));
        earlier.push(Some(selection_by_name(uuid, &hold.host, 0.0)));
    }
    if rest.is_empty() {
        let selections: Vec<_> = earlier.into_iter().flatten().collect();
        let not_up = not_up(map, service, &selections, now);
        return Decision { not_up, ..repeat(map, decision_id, request, selections, known) };
    }
    let held = map.holds.len() + map.reservations.len() + instance_uuids.len();
    if !request.dry_run && held > map.options.max_reservations {
        let refusal = Refusal::NoValidHost { reason: full(map), placeable: 0 };
        return refuse(map, decision_id, request, refusal);
    }
    let (picks, explanation) = pick(map, service, spec, rest.len(), now);
    let decided = Decision { explanation, ..answer(map, decision_id, request) };
    if picks.len() < rest.len() {
        let reason = format!("No valid host was found. No {service} host has {} GiB free.", size(spec));
        let placeable = u32::try_from(picks.len()).unwrap_or(u32::MAX);
        return Decision { refusal: Some(Refusal::NoValidHost { reason, placeable }), ..decided };
    }
    let mut new =
        rest.iter().zip(&picks).map(|(uuid, (host, weight))| selection_by_name(*uuid, host, *weight));
    let in_order = earlier.into_iter().filter_map(|earlier| earlier.or_else(|| new.next()));
    let selections: Vec<_> = in_order.collect();
    let not_up = not_up(map, service, &selections, now);
    let mut decided = Decision { selections, not_up, ..decided };
    if !request.dry_run {
        let hold = hold(map, request);
        decided.hold_s = hold.as_secs();
        let decision_id: Arc<str> = decided.decision_id.as_str().into();
        for (uuid, (host, _)) in rest.into_iter().zip(&picks) {
            let hold = Hold {
                service: service.into(),
                host: host.as_str().into(),
                gb: size(spec),
                spec_hash: hash,
                decision_id: Arc::clone(&decision_id),
                user: by.owner.clone(),
                holder: by.holder.clone(),
                expires: now.saturating_add(hold),
            };
            map.holds.add(uuid, hold);
            map.counters.reserved += 1;
        }
    }
    decided
}

/// The hosts of an answer that are not up.
fn not_up(
    map: &HostMap,
    service: &str,
    selections: &[Selection],
    now: Duration,
) -> BTreeMap<String, HostStatus> {
    let of_service = map.services.iter().filter(|(_, state)| *state.service == *service);
    let status = |(host, state): (&str, &ServiceState)| {
        (host.to_owned(), state.status(&map.outages, &map.options, now))
    };
    let chosen: HashSet<&str> = selections.iter().map(|selection| selection.host.as_str()).collect();
    let named = of_service.filter(|(host, _)| chosen.contains(host)).map(status);
    named.filter(|(_, status)| *status != HostStatus::Up).collect()
}

/// Picks hosts for up to `count` instances. Returns each with its weight, and how they were chosen.
fn pick(
    map: &HostMap,
    service: &str,
    spec: &RequestSpec,
    count: usize,
    now: Duration,
) -> (Vec<(String, f64)>, Explanation) {
    let fleet = candidates(map, service, now);
    let mut explanation = Explanation {
        hosts: count_of(&fleet),
        suspect_hosts: fleet.iter().filter(|c| c.status == HostStatus::Suspect).count() as u32,
        ..Explanation::default()
    };
    let request = VolumeRequest::new(spec, &map.options.default_availability_zone);
    let passing = filter(fleet, &request, &mut explanation.filters);
    let picks = take_roomiest(&passing, request.gb, count, &mut explanation.ranking);
    if picks.len() < count {
        // The refused instance finds the fleet as the ones before it left it, and so it is told.
        let mut left = candidates(map, service, now);
        let mut taken: HashMap<&str, f64> = HashMap::new();
        picks.iter().for_each(|(host, _)| *taken.entry(host.as_str()).or_default() += request.gb);
        for candidate in &mut left {
            let taken = taken.get(candidate.host).copied().unwrap_or(0.0);
            candidate.room = candidate.room.map(|room| room - taken);
        }
        explanation.filters.clear();
        explanation.ranking.clear();
        filter(left, &request, &mut explanation.filters);
    }
    (picks, explanation)
}

/// The hosts of a service, in order of their names.
fn candidates<'m>(map: &'m HostMap, service: &str, now: Duration) -> Vec<Candidate<'m>> {
    let of_service = map.services.iter().filter(|(_, state)| *state.service == *service);
    let candidate = |(host, state): (&'m str, &'m ServiceState)| Candidate {
        host,
        status: state.status(&map.outages, &map.options, now),
        words: state.reported.words(),
        room: room(&state.reported).map(|room| room - map.holds.held_gb(service, host)),
    };
    let mut candidates: Vec<_> = of_service.map(candidate).collect();
    candidates.sort_by(|a, b| a.host.cmp(b.host));
    candidates
}

/// What the filters ask of a host.
struct VolumeRequest<'a> {
    spec: &'a RequestSpec,
    /// The size of each volume, in GiB.
    gb: f64,
    /// The hosts that must not be chosen, in lower case.
    ignored: HashSet<String>,
    /// The hosts of which one must be chosen, in lower case. Any host may be chosen if it is empty.
    forced: HashSet<String>,
    /// The reported keys that extra specs ask about, each with what its value must be.
    requirements: Vec<(&'a str, Requirement)>,
    /// The zone of hosts that report none.
    default_zone: &'a str,
}

impl<'a> VolumeRequest<'a> {
    fn new(spec: &'a RequestSpec, default_zone: &'a str) -> Self {
        let requirement = |(key, text): (&'a String, &'a String)| {
            let name = key.strip_prefix("capabilities:").or((!key.contains(':')).then_some(key.as_str()))?;
            Some((name, Requirement::parse(text)))
        };
        let requirements = spec.flavor.extra_specs.iter().filter_map(requirement).collect();
        let lower_case = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self {
            spec,
            gb: size(spec) as f64,
            ignored: lower_case(&spec.ignore_hosts),
            forced: lower_case(&spec.force_hosts),
            requirements,
            default_zone,
        }
    }

    fn considers(&self, candidate: &Candidate<'_>) -> bool {
        let host = candidate.host.to_ascii_lowercase();
        let target = self.spec.target_host.as_ref();
        !self.ignored.contains(&host)
            && target.is_none_or(|name| name.eq_ignore_ascii_case(candidate.host))
            && (self.forced.is_empty() || self.forced.contains(&host))
    }

    fn is_in_zone(&self, candidate: &Candidate<'_>) -> bool {
        let wanted = self.spec.availability_zone.as_ref();
        wanted.is_none_or(|zone| candidate.zone().as_deref().unwrap_or(self.default_zone) == zone)
    }

    fn has_capabilities(&self, candidate: &Candidate<'_>) -> bool {
        self.requirements.iter().all(|(key, requirement)| {
            candidate.text(key).is_some_and(|text| requirement.matches(&text).unwrap_or(false))
        })
    }

    fn fits(&self, candidate: &Candidate<'_>) -> bool {
        candidate.room.is_some_and(|room| room >= self.gb)
    }
}

type ServiceFilter = fn(&VolumeRequest<'_>, &Candidate<'_>) -> bool;

/// The filters by name, in the order in which they run.
const FILTERS: [(&str, ServiceFilter); 5] = [
    ("ServiceUpFilter", |_, candidate| matches!(candidate.status, HostStatus::Up | HostStatus::Suspect)),
    ("HostNameFilter", |request, candidate| request.considers(candidate)),
    ("AvailabilityZoneFilter", |request, candidate| request.is_in_zone(candidate)),
    ("CapabilitiesFilter", |request, candidate| request.has_capabilities(candidate)),
    (CAPACITY_FILTER, |request, candidate| request.fits(candidate)),
];

/// The filter that compares numbers, so that it has a nearest miss.
const CAPACITY_FILTER: &str = "CapacityFilter";

/// Returns the candidates that pass all filters, and notes what each filter did.
fn filter<'c>(
    candidates: Vec<Candidate<'c>>,
    request: &VolumeRequest<'_>,
    tallies: &mut Vec<FilterTally>,
) -> Vec<Candidate<'c>> {
    let mut passing = candidates;
    for (name, passes) in FILTERS {
        let hosts_in = count_of(&passing);
        let (pass, refused): (Vec<_>, Vec<_>) = passing.into_iter().partition(|c| passes(request, c));
        passing = pass;
        let nearest =
            refused.iter().filter_map(|c| Some((c.host, c.room?))).max_by(|a, b| a.1.total_cmp(&b.1));
        let nearest_miss = nearest.filter(|_| name == CAPACITY_FILTER).map(|(host, room)| NearestMiss {
            host: host.to_owned(),
            wanted: request.gb,
            available: room,
            unit: "GiB".into(),
        });
        let hosts_out = count_of(&passing);
        tallies.push(FilterTally { filter: name.into(), hosts_in, hosts_out, nearest_miss });
    }
    passing
}

/// Takes the host with the most room for each of up to `count` instances; of equal hosts, the first by name. A suspect
/// host is taken only if no other has room. Returns the hosts with their weights. `told` is the ranking for the last instance.
/// One instance costs the logarithm of the number of hosts.
fn take_roomiest<'c>(
    passing: &[Candidate<'c>],
    wanted: f64,
    count: usize,
    told: &mut Vec<Scored>,
) -> Vec<(String, f64)> {
    let mut rooms = Rooms::default();
    for candidate in passing {
        let Some(gb) = candidate.room.filter(|gb| *gb >= wanted) else { continue };
        let suspect = candidate.status == HostStatus::Suspect;
        rooms.of(suspect).insert(Room { host: candidate.host, gb, suspect });
    }
    let mut picks = Vec::new();
    while picks.len() < count {
        let Some(best) = rooms.iter().next().copied() else { break };
        let left = Room { gb: best.gb - wanted, ..best };
        let is_last = picks.len() + 1 == count || (rooms.iter().nth(1).is_none() && left.gb < wanted);
        let ranked = rooms.ranking(if is_last { SHOWN } else { 1 });
        picks.push((best.host.to_owned(), ranked[0].weight));
        if is_last {
            *told = ranked;
        }
        let same = rooms.of(best.suspect);
        same.remove(&best);
        if left.gb >= wanted {
            same.insert(left);
        }
    }
    picks
}

/// A host that has room.
#[derive(Debug, Clone, Copy)]
struct Room<'a> {
    host: &'a str,
    /// The room, in GiB.
    gb: f64,
    suspect: bool,
}

impl Ord for Room<'_> {
    /// The roomier host is less, and of equal ones the first by name.
    fn cmp(&self, other: &Self) -> Ordering {
        other.gb.total_cmp(&self.gb).then_with(|| self.host.cmp(other.host))
    }
}

impl PartialOrd for Room<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Room<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Room<'_> {}

/// The hosts that still have room for one volume.
#[derive(Debug, Default)]
struct Rooms<'a> {
    heard: BTreeSet<Room<'a>>,
    suspect: BTreeSet<Room<'a>>,
}

impl<'a> Rooms<'a> {
    fn of(&mut self, suspect: bool) -> &mut BTreeSet<Room<'a>> {
        if suspect { &mut self.suspect } else { &mut self.heard }
    }

    /// All rooms, best first.
    fn iter(&self) -> impl Iterator<Item = &Room<'a>> {
        self.heard.iter().chain(&self.suspect)
    }

    /// The best `shown` hosts with their weights. As in Nova, the weight is the value normalised between the smallest and
    /// the largest.
    fn ranking(&self, shown: usize) -> Vec<Scored> {
        let ends = [&self.heard, &self.suspect].into_iter().flat_map(|rooms| [rooms.first(), rooms.last()]);
        let ends: Vec<&Room<'_>> = ends.flatten().collect();
        let bounds = |of: fn(&Room<'_>) -> f64| {
            let values = ends.iter().map(|room| of(room));
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
        };
        let capacity: fn(&Room<'_>) -> f64 = |room| room.gb;
        let suspect: fn(&Room<'_>) -> f64 = |room| f64::from(u8::from(room.suspect));
        let mut weighers = vec![("CapacityWeigher", capacity, bounds(capacity), 1.0)];
        if !self.suspect.is_empty() {
            weighers.push((SUSPECT_WEIGHER, suspect, bounds(suspect), suspect_multiplier(1.0)));
        }
        let scored = |room: &Room<'_>| {
            let shares = weighers.iter().map(|&(weigher, value, range, multiplier)| {
                let (raw, width) = (value(room), range.1 - range.0);
                let normalised = if width > 0.0 { (raw - range.0) / width } else { 0.0 };
                WeigherScore { weigher: weigher.into(), raw, range, normalised, multiplier }
            });
            let weighers: Vec<_> = shares.collect();
            let weight = weighers.iter().fold(0.0, |sum, share| sum + share.multiplier * share.normalised);
            Scored { host: room.host.to_owned(), weight, weighers }
        };
        self.iter().take(shown).map(scored).collect()
    }
}

/// The size of each volume, in GiB.
fn size(spec: &RequestSpec) -> u64 {
    spec.flavor.root_gb
}

fn count_of(candidates: &[Candidate<'_>]) -> u32 {
    u32::try_from(candidates.len()).unwrap_or(u32::MAX)
}
