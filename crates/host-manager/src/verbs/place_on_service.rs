//! Placement on services other than compute: volumes, by what their drivers reported in Folsom.
//!
//! The rules are those of Cinder's first filter scheduler (Grizzly), which read these reports: a host has
//! `floor(free_capacity_gb × (1 − reserved_percentage / 100))` GiB to give, `infinite` and `unknown` are room for
//! everything, a host that reports no free capacity has none, and the host with the most is taken. What differs: what was
//! placed is subtracted until its hold has passed or was released, and not only until the next report, which may be
//! older. A report lists no volumes, so nothing else can confirm one. There are few such services, so nothing here is
//! kept in columns.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::nova::operators::Requirement;
use novella_objects::{
    Decision, Explanation, FilterTally, HostState as Status, NearestMiss, Refusal, RequestSpec, Scored,
    SelectDestinations, Selection, WeigherScore,
};
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::promises::holds::Hold;
use crate::promises::spec_hash::spec_hash;
use crate::report::reported::{Reported, Words, json};
use crate::verbs::place::{conflict, full, refuse, repeat};
use crate::verbs::watch::advance;

/// What a host has of which the report says `infinite` or `unknown`: more than any one volume may ask.
pub(crate) const UNLIMITED_GB: f64 = i32::MAX as f64;
/// Ranked hosts that an answer shows.
const SHOWN: usize = 5;

/// A host of the service, as the filters see it.
struct Candidate<'a> {
    host: &'a str,
    status: Status,
    words: Words<'a>,
    /// GiB to give, less what is held; absent: it reports none.
    room: Option<f64>,
}

impl Candidate<'_> {
    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        let (_, text) = self.words.extra.iter().rev().find(|(known, _)| *known == key)?;
        Some(match json(text) {
            serde_json::Value::String(text) => text.into(),
            _ => Cow::Borrowed(*text),
        })
    }

    fn zone(&self) -> Option<Cow<'_, str>> {
        self.words.availability_zone.map(Cow::Borrowed).or_else(|| self.text("availability_zone"))
    }
}

/// GiB that a service's report leaves to give.
fn room(reported: &Reported) -> Option<f64> {
    let words = reported.words();
    let value = |key: &str| {
        let found = words.extra.iter().rev().find(|(known, _)| *known == key);
        found.map(|(_, text)| json(text))
    };
    let free = match value("free_capacity_gb")? {
        serde_json::Value::String(text) if text == "infinite" || text == "unknown" => {
            return Some(UNLIMITED_GB);
        }
        free => free.as_f64()?,
    };
    let reserved = value("reserved_percentage").and_then(|percent| percent.as_f64()).unwrap_or(0.0);
    Some((free * (1.0 - reserved / 100.0)).floor().clamp(0.0, UNLIMITED_GB))
}

/// Decides where on `service` the request's instances go, each of the size of the flavor's root disk, and holds that
/// unless it is a dry run.
pub(crate) fn select_service(
    map: &mut HostMap,
    service: &str,
    request: &SelectDestinations,
    decision_id: String,
    now: Duration,
) -> Decision {
    advance(map, now);
    map.holds.expire(now);
    let spec = &request.request_spec;
    let hash = spec_hash(spec);
    let mut earlier = Vec::new();
    let mut known = None;
    for uuid in &spec.instance_uuids {
        let Some(hold) = map.holds.0.get(uuid) else { continue };
        if *hold.service != *service || hold.spec_hash != hash {
            let host = hold.host.to_string();
            return conflict(map, decision_id, request, *uuid, Some(host));
        }
        known = Some((Arc::clone(&hold.decision_id), hold.expires.saturating_sub(now)));
        earlier.push(selection(*uuid, &hold.host, 0.0));
    }
    if earlier.len() == spec.instance_uuids.len() {
        return repeat(map, decision_id, request, earlier, known);
    }
    let held = map.holds.0.len() + map.reservations.len() + spec.instance_uuids.len();
    if !request.dry_run && held > map.options.max_reservations {
        let refusal = Refusal::NoValidHost { reason: full(map), placeable: 0 };
        return refuse(map, decision_id, request, refusal);
    }
    let rest: Vec<Uuid> =
        spec.instance_uuids.iter().filter(|uuid| !map.holds.0.contains_key(*uuid)).copied().collect();
    let (picks, explanation) = pick(map, service, spec, rest.len(), now);
    let decided = Decision {
        explanation,
        policy_hash: map.policy_hash.clone(),
        ..refuse(map, decision_id, request, Refusal::NoValidHost { reason: String::new(), placeable: 0 })
    };
    if picks.len() < rest.len() {
        let reason = format!("No valid host was found. No {service} host has {} GiB to give.", size(spec));
        let placeable = u32::try_from(picks.len()).unwrap_or(u32::MAX);
        return Decision { refusal: Some(Refusal::NoValidHost { reason, placeable }), ..decided };
    }
    let selections = spec.instance_uuids.iter().filter_map(|uuid| {
        let before = earlier.iter().find(|selection| selection.instance_uuid == *uuid);
        let now = rest.iter().position(|wanted| wanted == uuid);
        before.cloned().or_else(|| now.map(|at| selection(*uuid, &picks[at].0, picks[at].1)))
    });
    let mut decided = Decision { refusal: None, selections: selections.collect(), ..decided };
    if !request.dry_run {
        let hold = request.hold_s.map_or(map.options.reservation_ttl, Duration::from_secs);
        let hold = hold.min(map.options.max_hold);
        decided.hold_s = hold.as_secs();
        let decision_id: Arc<str> = decided.decision_id.as_str().into();
        for (uuid, (host, _)) in rest.into_iter().zip(&picks) {
            let hold = Hold {
                service: service.into(),
                host: host.as_str().into(),
                gb: size(spec),
                spec_hash: hash,
                decision_id: Arc::clone(&decision_id),
                expires: now.saturating_add(hold),
            };
            map.holds.0.insert(uuid, hold);
            map.counters.reserved += 1;
        }
    }
    decided
}

/// Hosts and weights for up to `count` instances, and how they were chosen.
fn pick(
    map: &HostMap,
    service: &str,
    spec: &RequestSpec,
    count: usize,
    now: Duration,
) -> (Vec<(String, f64)>, Explanation) {
    let of_service = map.services.iter().filter(|(_, state)| *state.service == *service);
    let mut passing: Vec<Candidate<'_>> = of_service
        .map(|(host, state)| Candidate {
            host,
            status: state.status(&map.outages, &map.options, now),
            words: state.reported.words(),
            room: room(&state.reported).map(|room| room - map.holds.held_gb(service, host)),
        })
        .collect();
    passing.sort_by(|a, b| a.host.cmp(b.host));
    let mut explanation = Explanation {
        hosts: count_of(&passing),
        suspect_hosts: passing.iter().filter(|c| c.status == Status::Suspect).count() as u32,
        ..Explanation::default()
    };
    let wanted = size(spec) as f64;
    let same = |name: &String, host: &str| name.eq_ignore_ascii_case(host);
    let requirements: Vec<_> = spec
        .flavor
        .extra_specs
        .iter()
        .filter_map(|(key, text)| {
            let name = key.strip_prefix("capabilities:").or((!key.contains(':')).then_some(key.as_str()))?;
            Some((name.to_owned(), Requirement::parse(text)))
        })
        .collect();
    type Test<'t> = (&'static str, Box<dyn Fn(&Candidate<'_>) -> bool + 't>);
    let tests: [Test<'_>; 5] = [
        ("ServiceUpFilter", Box::new(|c| matches!(c.status, Status::Up | Status::Suspect))),
        (
            "HostNameFilter",
            Box::new(|c| {
                let named = |names: &[String]| names.iter().any(|name| same(name, c.host));
                !named(&spec.ignore_hosts)
                    && spec.target_host.as_ref().is_none_or(|name| same(name, c.host))
                    && (spec.force_hosts.is_empty() || named(&spec.force_hosts))
            }),
        ),
        (
            "AvailabilityZoneFilter",
            Box::new(|c| {
                let default = &map.options.default_availability_zone;
                spec.availability_zone
                    .as_ref()
                    .is_none_or(|zone| c.zone().as_deref().unwrap_or(default) == zone)
            }),
        ),
        (
            "CapabilitiesFilter",
            Box::new(|c| {
                let holds = |(key, requirement): &(String, Requirement)| {
                    c.text(key).is_some_and(|text| requirement.matches(&text).unwrap_or(false))
                };
                requirements.iter().all(holds)
            }),
        ),
        ("CapacityFilter", Box::new(|c| c.room.is_some_and(|room| room >= wanted))),
    ];
    for (name, test) in tests {
        let hosts_in = count_of(&passing);
        let (pass, refused): (Vec<_>, Vec<_>) = passing.into_iter().partition(|c| test(c));
        passing = pass;
        let nearest =
            refused.iter().filter_map(|c| Some((c.host, c.room?))).max_by(|a, b| a.1.total_cmp(&b.1));
        let nearest_miss = nearest.filter(|_| name == "CapacityFilter").map(|(host, room)| NearestMiss {
            host: host.to_owned(),
            wanted,
            available: room,
            unit: "GiB".into(),
        });
        let hosts_out = count_of(&passing);
        explanation.filters.push(FilterTally { filter: name.into(), hosts_in, hosts_out, nearest_miss });
    }
    let mut rooms: Vec<(&str, f64)> = passing.iter().filter_map(|c| Some((c.host, c.room?))).collect();
    let mut picks = Vec::new();
    for _ in 0..count {
        // The most room; of equals the first by name.
        rooms.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let Some(best) = rooms.first().copied().filter(|best| best.1 >= wanted) else { break };
        explanation.ranking = ranking(&rooms, wanted);
        picks.push((best.0.to_owned(), explanation.ranking[0].weight));
        rooms[0].1 -= wanted;
    }
    (picks, explanation)
}

fn size(spec: &RequestSpec) -> u64 {
    spec.flavor.root_gb
}

fn count_of(candidates: &[Candidate<'_>]) -> u32 {
    u32::try_from(candidates.len()).unwrap_or(u32::MAX)
}

fn selection(instance_uuid: Uuid, host: &str, weight: f64) -> Selection {
    let (host, nodename) = (host.to_owned(), host.to_owned());
    Selection { instance_uuid, host, nodename, weight, alternates: Vec::new() }
}

/// The hosts that can still take one, best first, weighed as Nova weighs: each value put between the least and the most.
fn ranking(rooms: &[(&str, f64)], wanted: f64) -> Vec<Scored> {
    let able: Vec<_> = rooms.iter().filter(|(_, room)| *room >= wanted).collect();
    let (most, least) = (able.first().map_or(0.0, |c| c.1), able.last().map_or(0.0, |c| c.1));
    let scored = |&&(host, raw): &&(&str, f64)| {
        let normalised = if most > least { (raw - least) / (most - least) } else { 0.0 };
        let share = WeigherScore {
            weigher: "CapacityWeigher".into(),
            raw,
            range: (least, most),
            normalised,
            multiplier: 1.0,
        };
        Scored { host: host.to_owned(), weight: normalised, weighers: vec![share] }
    };
    able.iter().take(SHOWN).map(scored).collect()
}
