//! Applies one report to the map.
//!
//! What always holds: everything that can refuse a report is checked before anything is written, so a refused report
//! leaves the host as it was. The usual report differs from the last one in a few numbers. It costs comparisons, and no
//! allocation.
//!
//! Left out: who may report (`report/identity.rs`, `report/quarrel.rs`, `report/owner.rs`), and which values are refused (`report/check.rs`).

use std::time::Duration;

use novella_filter_scheduler::{COMPUTE_STATUS_DISABLED, Resources, Row, Unusable};
use novella_objects::{Capabilities, Claim, HostStatus, HostWarning};
use novella_resources::{DeviceUsage, Devices};
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::map::record::{Record, inventories, resources};
use crate::promises::reservations::{Place, ReservationKind};
use crate::report::check;
use crate::report::claims::{ClaimChange, KindRef};
use crate::report::devices;
use crate::report::grants::Grants;
use crate::report::identity::{Identity, IdentityVerdict, KnownHost, NameHolder, Presence, judge};
use crate::report::kept::{self, Kept};
use crate::report::liveness::{Hearing, Liveness};
use crate::report::outcome::{Applied, BadReport, Event, Fault};
use crate::report::owner;
use crate::report::quarrel::{Quarrel, Sign};
use crate::report::reported::{ReportDifference, long_text_bytes};
use crate::report::services::{COMPUTE, kept_of_report};
use crate::verbs::adopt_holds::adopt_holds;
use crate::verbs::enforce_policy::join_aggregates;
use crate::verbs::make_room::make_room;

/// The report of a compute host, and when it came.
struct Arrival<'a> {
    host: &'a str,
    caps: &'a Capabilities<'a>,
    /// Who reports; `None` if the reporter has no identity.
    identity: Option<Identity>,
    /// The broker user of the reporter; `None` if the message has none.
    user: Option<&'a str>,
    now: Duration,
}

impl<'a> Arrival<'a> {
    /// The node name in the report, or the host name if there is none.
    fn nodename(&self) -> &'a str {
        self.caps.hypervisor_hostname.as_deref().unwrap_or(self.host)
    }

    /// Whether the process says that it stops.
    fn is_goodbye(&self) -> bool {
        self.caps.novella.as_ref().is_some_and(|report| report.goodbye)
    }
}

/// What a report changes. It exists only if nothing refused the report.
struct Plan {
    /// Which parts of the report differ from the last one.
    difference: ReportDifference,
    /// The change of the claims, if there is one.
    claims: Option<ClaimChange>,
    /// What the host says of the claims that it granted, if that has changed.
    grants: Option<Grants>,
    resources: Resources,
    /// What is left of NUMA cells and PCI devices, if that may have changed.
    devices: Option<Devices>,
    /// How many bytes are kept of the report.
    kept: Kept,
}

/// Applies the report of a service on a host, and counts the outcome.
pub(crate) fn apply_report(
    map: &mut HostMap,
    user: Option<&str>,
    service_name: &str,
    host: &str,
    caps: &Capabilities<'_>,
    now: Duration,
) -> Applied {
    let applied = admit(map, user, service_name, host, caps, now).unwrap_or_else(Applied::Bad);
    map.counters.count(&applied);
    applied
}

fn admit(
    map: &mut HostMap,
    user: Option<&str>,
    service_name: &str,
    host: &str,
    caps: &Capabilities<'_>,
    now: Duration,
) -> Result<Applied, BadReport> {
    check::host_name("host", host)?;
    if let Some(owner) = map.options.host_user.as_deref().and_then(|rule| owner::refused(rule, host, user)) {
        return Ok(Applied::OtherUser { owner });
    }
    if service_name != COMPUTE {
        check::host_name("service_name", service_name)?;
        if let Some(owner) = map.services.owner(service_name, host)
            && Some(owner) != user
        {
            return Ok(Applied::OtherUser { owner: owner.to_owned() });
        }
        check::words(caps)?;
        let kept_before = map.services.kept_of(service_name, host);
        map.admit_bytes(kept_before, kept_of_report(caps), Some(caps))?;
        if !map.services.knows(host) && !map.newcomers.admit(user, map.options.new_hosts_per_minute, now) {
            return Ok(Applied::TooManyNew);
        }
        map.next_watch = map.next_watch.min(now.saturating_add(map.options.forget_after));
        let HostMap { services, texts, options, .. } = map;
        return Ok(services.apply(user, service_name, host, caps, texts, options, now));
    }
    check::integers(caps)?;
    let by_name = map.table.row_of(host);
    if by_name.is_none() && map.table.count_of_any_case(host) >= check::MAX_SAME_BUT_CASE {
        return Err(BadReport { key: "host", fault: Fault::SameButCase });
    }
    let Some(report) = caps.novella.as_deref() else {
        let arrival = Arrival { host, caps, identity: None, user, now };
        return match by_name {
            Some(row) if map.record(row).identity.is_some() => Ok(Applied::NoIdentityIgnored),
            Some(row) => match other_user(map, row, &arrival) {
                Some(refused) => Ok(refused),
                None => update(map, row, &arrival, 0),
            },
            None => insert(map, &arrival),
        };
    };
    check::numbers(report, map.options.max_claims_per_host)?;
    let presented =
        Identity { uuid: report.uuid, incarnation: report.incarnation, nonce: report.nonce, seq: report.seq };
    admit_identified(map, by_name, presented, &Arrival { host, caps, identity: Some(presented), user, now })
}

fn admit_identified(
    map: &mut HostMap,
    by_name: Option<Row>,
    presented: Identity,
    arrival: &Arrival<'_>,
) -> Result<Applied, BadReport> {
    let held_name = by_name.and_then(|row| map.record(row).identity);
    let same_name = held_name.is_some_and(|holder| holder.uuid == presented.uuid);
    let by_uuid = if same_name { by_name } else { map.by_identity.get(&presented.uuid).copied() };
    let known = by_uuid.and_then(|row| {
        let record = map.record(row);
        let (presence, quarrel) = (presence(map, row, arrival.now), record.quarrel.is_open(arrival.now));
        Some(KnownHost { identity: record.identity?, same_name, presence, quarrel })
    });
    let other = by_name.filter(|_| !same_name);
    let holder = other.map_or(NameHolder::Nobody, |row| name_holder(map, row, arrival.now));
    let verdict = judge(known, holder, presented, arrival.is_goodbye());
    if verdict.may_change_the_host() {
        for row in by_uuid.into_iter().chain(by_name) {
            if let Some(refused) = other_user(map, row, arrival) {
                return Ok(refused);
            }
        }
    }
    match verdict {
        IdentityVerdict::Insert => insert(map, arrival),
        IdentityVerdict::Update { gap } => {
            let row = by_uuid.expect("only a known identity is updated");
            let applied = update(map, row, arrival, gap)?;
            match known {
                Some(known) if known.presence == Presence::Silent => {
                    map.expect_again(row);
                    end_conflicts(map, row);
                }
                Some(known) if !presented.is_process(&known.identity) => {
                    map.expect_again(row);
                    let until = until_forgotten(map, arrival);
                    map.record_mut(row).quarrel.replaced(known.identity, arrival.now, until);
                }
                _ => {}
            }
            Ok(applied)
        }
        IdentityVerdict::Rename { gap, previous } => {
            let row = by_uuid.expect("only a known identity is renamed");
            let from = map.table.host(row).to_owned();
            let plan = plan(map, row, arrival.caps)?;
            let arrived = take_name(map, row, by_name, arrival);
            write(map, row, arrival, plan, gap);
            settle_arrived(map, row, arrived);
            join_aggregates(map, row);
            end_conflicts(map, row);
            map.note(Event::Renamed { host: arrival.host.to_owned(), from: from.clone() });
            note_takeover(map, row, previous, arrival);
            Ok(Applied::Renamed { from, previous })
        }
        IdentityVerdict::Adopt { previous } => {
            let row = by_name.expect("only a known name is adopted");
            update(map, row, arrival, 0)?;
            end_conflicts(map, row);
            note_takeover(map, row, previous, arrival);
            Ok(Applied::TakenOver { previous })
        }
        IdentityVerdict::Stale => match known {
            Some(known) if known.same_name && !presented.is_process(&known.identity) => {
                older(map, by_uuid.expect("it is known"), presented, arrival)
            }
            _ => Ok(Applied::Stale),
        },
        IdentityVerdict::TooFar => {
            note_clone(map, by_uuid.expect("only a known identity has a number to exceed"), arrival);
            Ok(Applied::TooFar)
        }
        IdentityVerdict::Cloned => {
            let row = by_uuid.expect("only a known identity is cloned");
            let until = until_forgotten(map, arrival);
            let quarrel = &mut map.record_mut(row).quarrel;
            if quarrel.is_open(arrival.now) && !arrival.is_goodbye() {
                quarrel.open(until);
            }
            Ok(note_clone(map, row, arrival))
        }
        IdentityVerdict::DuplicateName => {
            let row = by_name.expect("only a known name is duplicated");
            note_conflict(map, row, HostWarning::DuplicateName { other: presented.uuid }, arrival);
            let holder = held_name.expect("only an identity holds a name against others").uuid;
            Ok(Applied::DuplicateName { holder })
        }
    }
}

fn name_holder(map: &HostMap, row: Row, now: Duration) -> NameHolder {
    let record = map.record(row);
    match record.identity {
        None => NameHolder::Anonymous,
        Some(holder) if record.hearing.is_silent(&map.outages, map.options.service_down_time, now) => {
            NameHolder::Silent(holder.uuid)
        }
        Some(_) => NameHolder::Live,
    }
}

/// Whether the process that last reported for a row is still there.
fn presence(map: &HostMap, row: Row, now: Duration) -> Presence {
    let record = map.record(row);
    if record.hearing.own_silence(&map.outages, now) > map.options.service_down_time {
        Presence::Silent
    } else if record.hearing.goodbye && record.contested_until <= now && !record.quarrel.may_return(now) {
        Presence::Left
    } else {
        Presence::Here
    }
}

/// Why a report is refused for a host that belongs to another broker user.
fn other_user(map: &mut HostMap, row: Row, arrival: &Arrival<'_>) -> Option<Applied> {
    let owner = map.record(row).owner.as_deref().filter(|owner| Some(*owner) != arrival.user)?.to_owned();
    let user = arrival.user.unwrap_or(owner::NO_USER).to_owned();
    note_conflict(map, row, HostWarning::OtherUser { user }, arrival);
    Some(Applied::OtherUser { owner })
}

/// Judges the report of a process that is older than the one that has the host of the same name.
fn older(
    map: &mut HostMap,
    row: Row,
    presented: Identity,
    arrival: &Arrival<'_>,
) -> Result<Applied, BadReport> {
    if arrival.is_goodbye() {
        return Ok(Applied::Stale);
    }
    let until = until_forgotten(map, arrival);
    match map.record_mut(row).quarrel.hear(presented, arrival.now, until) {
        Sign::Late => Ok(Applied::Stale),
        Sign::Alive => Ok(note_clone(map, row, arrival)),
        Sign::NotReplaced => {
            let applied = update(map, row, arrival, 0)?;
            map.record_mut(row).quarrel.open(until);
            note_clone(map, row, arrival);
            Ok(applied)
        }
    }
}

/// Until when another process is remembered that reported now.
fn until_forgotten(map: &HostMap, arrival: &Arrival<'_>) -> Duration {
    arrival.now.saturating_add(map.options.service_down_time)
}

/// Shows that another process uses the identity of a host.
fn note_clone(map: &mut HostMap, row: Row, arrival: &Arrival<'_>) -> Applied {
    let host = map.table.host(row).to_owned();
    if !arrival.is_goodbye() {
        let until = until_forgotten(map, arrival);
        map.record_mut(row).contested_until = until;
    }
    note_conflict(map, row, HostWarning::ClonedIdentity { other_host: arrival.host.to_owned() }, arrival);
    Applied::Cloned { host }
}

/// Shows that another process uses the name or the identity of a host. Its refused reports come again with every
/// interval, so the warning is shown until they have stopped or it says goodbye.
fn note_conflict(map: &mut HostMap, row: Row, warning: HostWarning, arrival: &Arrival<'_>) {
    let host = map.table.host(row).to_owned();
    if arrival.is_goodbye() {
        if map.record_mut(row).unwarn(&warning) {
            map.note(Event::ConflictOver { host, warning });
        }
        return;
    }
    let until = until_forgotten(map, arrival);
    map.conflicts.insert(row);
    if map.record_mut(row).warn(warning.clone(), arrival.now, until) {
        map.note(Event::Conflict { host, warning });
    }
}

/// Ends what was shown of other processes, because one of them now has the host.
fn end_conflicts(map: &mut HostMap, row: Row) {
    let record = map.record_mut(row);
    record.contested_until = Duration::ZERO;
    record.quarrel = Quarrel::default();
    record.warnings.retain(|(warning, _)| !warning.is_conflict());
    map.conflicts.remove(&row);
}

fn note_takeover(map: &mut HostMap, row: Row, previous: Option<Uuid>, arrival: &Arrival<'_>) {
    if let (Some(previous), Some(Identity { uuid, .. })) = (previous, arrival.identity) {
        let until = arrival.now.saturating_add(map.options.forget_after);
        map.record_mut(row).warn(HostWarning::TakenOver { previous }, arrival.now, until);
        map.note(Event::TakenOver { host: arrival.host.to_owned(), previous, uuid });
    }
}

fn insert(map: &mut HostMap, arrival: &Arrival<'_>) -> Result<Applied, BadReport> {
    if !map.newcomers.admit(arrival.user, map.options.new_hosts_per_minute, arrival.now) {
        return Ok(Applied::TooManyNew);
    }
    if map.table.len() >= map.options.max_hosts && !make_room(map, arrival.now) {
        map.refused_at = Some(arrival.now);
        return Ok(Applied::TooMany);
    }
    let row = map.table.insert(arrival.host, arrival.nodename());
    if map.records.len() <= row.index() {
        map.records.resize_with(row.index() + 1, || None);
    }
    let answers = map.newcomers.expect(row, arrival.now);
    map.records[row.index()] = Some(Box::new(Record { answers, ..Record::new(arrival.now) }));
    match plan(map, row, arrival.caps) {
        Err(bad) => {
            map.remove(row);
            Err(bad)
        }
        Ok(plan) => {
            let arrived = map.reservations.arrive(arrival.host, row);
            arrived.iter().for_each(|uuid| map.hold(*uuid));
            map.table.set_status(row, HostStatus::Up); // so that the first report does not count as a return
            let goodbye = write(map, row, arrival, plan, 0).is_none();
            join_aggregates(map, row);
            end_what_is_too_large(map, row, &arrived);
            Ok(if goodbye { Applied::Goodbye } else { Applied::New })
        }
    }
}

fn update(map: &mut HostMap, row: Row, arrival: &Arrival<'_>, gap: u64) -> Result<Applied, BadReport> {
    let plan = plan(map, row, arrival.caps)?;
    let nodename = arrival.nodename();
    if map.table.view(row).nodename() != nodename {
        map.table.insert(arrival.host, nodename);
    }
    let other_words = plan.difference.in_words();
    let settled = write(map, row, arrival, plan, gap);
    if other_words {
        join_aggregates(map, row);
    }
    Ok(settled.map_or(Applied::Goodbye, |settled| Applied::Updated { gap, settled }))
}

/// Checks everything that can refuse a report, and works out what the report changes. Does not change anything.
fn plan(map: &mut HostMap, row: Row, caps: &Capabilities<'_>) -> Result<Plan, BadReport> {
    let record = map.record(row);
    let difference = record.reported.compare(caps, &map.texts);
    if difference.in_text() {
        check::words(caps)?;
    }
    let listed: &[Claim<'_>] = caps.novella.as_ref().map_or(&[], |report| &report.claims);
    let claims = record.claims.compare(listed)?;
    let grants = record.grants.compare(listed);
    if grants.is_some() {
        listed.iter().try_for_each(check::grant)?;
    }
    for hold in caps.novella.iter().flat_map(|report| &report.holds) {
        check::claim(hold)?;
        check::grant(hold)?;
        DeviceUsage::of_claim(hold)?;
    }
    let kept = kept_bytes(record, difference, claims.as_ref(), grants.as_ref(), caps);
    if kept != record.kept || difference.in_long_text() {
        map.admit_bytes(record.kept.own(), kept, difference.in_long_text().then_some(caps))?;
    }
    let reported = caps.novella.iter().flat_map(|report| &report.claims);
    let takers = || record.claims.take_devices() || reported.clone().any(Claim::takes_devices);
    let devices = difference.in_devices() || (claims.is_some() && takers());
    let devices = devices.then(|| devices::devices(caps)).transpose()?;
    let resources = resources(caps);
    if *map.table.view(row).reported() != resources {
        resources.check().map_err(unusable)?;
    }
    Ok(Plan { difference, claims, grants, resources, devices, kept })
}

/// How many bytes are kept of a report, of which only the parts that differ are counted again.
fn kept_bytes(
    record: &Record,
    difference: ReportDifference,
    claims: Option<&ClaimChange>,
    grants: Option<&Grants>,
    caps: &Capabilities<'_>,
) -> Kept {
    let report = caps.novella.as_deref();
    let extras = |change: &ClaimChange| change.new_extras().unwrap_or_else(|| record.claims.extras());
    Kept {
        words: if difference.in_words() { kept::words(caps) } else { record.kept.words },
        metrics: if difference.in_metrics() { kept::metrics(caps) } else { record.kept.metrics },
        claims: claims.map_or(record.kept.claims, |change| kept::claims(report, extras(change))),
        grants: grants.map_or(record.kept.grants, Grants::bytes),
        probes: kept::probes(report),
        long_texts: if difference.in_long_text() { long_text_bytes(caps) } else { record.kept.long_texts },
    }
}

/// Writes a report that nothing refused. Returns how many reservations it settled, or `None` if it is a goodbye.
fn write(map: &mut HostMap, row: Row, arrival: &Arrival<'_>, plan: Plan, gap: u64) -> Option<u32> {
    let Arrival { caps, identity, user, now, .. } = *arrival;
    let HostMap { table, records, texts, .. } = map;
    let record = records[row.index()].as_deref_mut().expect("every host in the table has a record");
    if *table.view(row).reported() != plan.resources {
        table.set_resources(row, &plan.resources).expect("the plan checked the resources");
    }
    if plan.difference.any() {
        record.reported.replace(caps, plan.difference, texts);
        table.set_capabilities(row, caps);
    }
    if plan.difference.in_words() {
        let zone = caps.novella.as_ref().and_then(|report| report.availability_zone.as_deref());
        table.set_zone(row, zone);
        // Nova's agents give the trait to Placement. Here the host says that it is disabled, and this is what it means.
        let disabled = record.reported.disabled.then_some(COMPUTE_STATUS_DISABLED);
        let traits = caps.novella.iter().flat_map(|report| &report.traits).map(|name| &**name);
        table.set_traits(row, traits.filter(|name| Some(*name) != disabled).chain(disabled));
    }
    if plan.difference.in_words() || plan.claims.is_some() {
        table.set_inventories(row, inventories(caps).into_iter());
    }
    if let Some(devices) = &plan.devices {
        table.set_devices(row, devices);
    }
    record.refresh(caps);
    if let Some(grants) = plan.grants {
        record.grants = grants;
    }
    if record.owner.is_none() {
        record.owner = user.map(Into::into);
    }
    let kept_before = std::mem::replace(&mut record.kept, plan.kept);
    map.kept_of_hosts = map.kept_of_hosts - kept_before.own() + plan.kept.own();
    let before = std::mem::replace(&mut record.identity, identity);
    let same_process = before.zip(identity).is_some_and(|(before, now)| now.is_process(&before));
    let before = before.map(|identity| identity.uuid);
    map.counters.missed = map.counters.missed.saturating_add(gap);
    if gap > 0 && !std::mem::replace(&mut record.ask_again, true) {
        map.ask_again.push(row);
    }
    if before != identity.map(|identity| identity.uuid) {
        before.map(|uuid| map.by_identity.remove(&uuid));
        identity.map(|identity| map.by_identity.insert(identity.uuid, row));
    }
    let unlisted = map.record(row).unlisted_claims;
    let mut settled = plan.claims.map_or(0, |change| change_claims(map, row, change));
    if unlisted > 0 || map.record(row).unlisted_claims > 0 {
        list_claims_again(map, row, unlisted);
    }
    settled += end_ended(map, row, caps);
    let holds: &[Claim<'_>] = caps.novella.as_ref().map_or(&[], |report| &report.holds);
    adopt_holds(map, row, holds, same_process, now);
    map.counters.settled += u64::from(settled);
    hear(map, row, caps, now).then_some(settled)
}

/// Applies a new list of claims. Returns how many reservations it settled.
fn change_claims(map: &mut HostMap, row: Row, change: ClaimChange) -> u32 {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let owned = |text: Option<&str>| text.map(Box::<str>::from);
    let claims = &mut map.records[row.index()].as_deref_mut().expect("a host has a record").claims;
    let before = claims.rows().len();
    claims.apply(
        change,
        |uuid, group| gone.push((uuid, owned(group))),
        |uuid, more| {
            let KindRef { group, flavor, image } = more;
            come.push((
                uuid,
                ReservationKind { group: owned(group), flavor: owned(flavor), image: owned(image) },
            ));
        },
    );
    map.claims = map.claims - before + claims.rows().len();
    gone.sort_unstable_by_key(|(uuid, _)| *uuid);
    let settled = settle(map, row, come.iter().map(|(uuid, _)| *uuid).collect());
    let HostMap { table, records, members, .. } = map;
    for (uuid, group) in &gone {
        members.go(table, row, *uuid, group.as_deref());
    }
    let mut unlisted = 0;
    for (uuid, kind) in &come {
        unlisted += u32::from(!members.come(table, row, *uuid, kind.borrowed()));
    }
    records[row.index()].as_deref_mut().expect("a host has a record").unlisted_claims += unlisted;
    map.unlisted_claims += unlisted as usize;
    if !gone.is_empty() {
        // A list may name an instance twice, and a reservation may name it too. So what disappeared may still be there.
        let gone: Vec<_> = gone.into_iter().map(|(uuid, _)| uuid).collect();
        map.note_claims(row, &gone);
        if map.record(row).held > 0 {
            gone.iter().for_each(|uuid| map.note_reservation(row, uuid));
        }
    }
    settled
}

/// Ends the reservations of these instances that the host's claims settle: those on the host itself, if the claim takes no
/// less than was reserved. Other reservations stay, and what is wrong is noted. Returns how many ended.
fn settle(map: &mut HostMap, row: Row, mut instances: Vec<Uuid>) -> u32 {
    if map.reservations.is_empty() {
        return 0;
    }
    instances.retain(|uuid| map.reservations.get(uuid).is_some());
    if instances.is_empty() {
        return 0;
    }
    instances.sort_unstable();
    let (mut settled, mut unsettled) = (0, None);
    for claim in map.record(row).claims.find(&instances) {
        let uuid = claim.row.uuid;
        let Some(reservation) = map.reservations.get(&uuid) else { continue };
        let own = reservation.place == Place::Row(row);
        if own && claim.covers(&reservation.allocation) {
            settled += u32::from(map.end_reservation(&uuid));
            continue;
        }
        let held_on = match &reservation.place {
            Place::Row(row) => map.table.host(*row),
            Place::Awaited(host) => host,
        };
        let (_, claims) = unsettled.get_or_insert_with(|| ((uuid, held_on.to_owned()), 0));
        *claims += 1;
        if own {
            map.reservations.also_claimed(&uuid, true);
        }
    }
    if let Some(((instance, held_on), claims)) = unsettled {
        map.counters.unsettled += u64::from(claims);
        let host = map.table.host(row).to_owned();
        map.note(Event::ClaimDoesNotSettle { host, instance, held_on, claims });
    }
    settled
}

/// Lists all claims of a host in the table again, as far as other hosts leave room, and counts those that are not listed.
/// `before` is how many were not. It runs while a host has such claims, because other hosts may have ended theirs.
fn list_claims_again(map: &mut HostMap, row: Row, before: u32) {
    let HostMap { table, records, members, .. } = map;
    let record = records[row.index()].as_deref_mut().expect("a host has a record");
    let mut first = None;
    let mut unlisted = 0;
    for (uuid, kind) in record.claims.with_kinds() {
        if !members.come(table, row, uuid, kind) {
            first = first.or(Some(uuid));
            unlisted += 1;
        }
    }
    map.unlisted_claims -= std::mem::replace(&mut record.unlisted_claims, unlisted) as usize;
    map.unlisted_claims += unlisted as usize;
    let host = table.host(row).to_owned();
    match first {
        Some(instance) if before == 0 => {
            map.note(Event::ClaimedTooOften { host, instance, claims: unlisted })
        }
        None if before > 0 => map.note(Event::ClaimsListed { host }),
        _ => {}
    }
}

/// Ends the reservations on a host for the instances that the report lists as ended. Returns how many.
fn end_ended(map: &mut HostMap, row: Row, caps: &Capabilities<'_>) -> u32 {
    let Some(report) = caps.novella.as_deref() else { return 0 };
    if map.record(row).held == 0 {
        return 0;
    }
    let here = Place::Row(row);
    let mut settled = 0;
    for uuid in &report.ended {
        if map.reservations.get(uuid).is_some_and(|r| r.place == here) {
            settled += u32::from(map.end_reservation(uuid));
        }
    }
    settled
}

/// Notes that the host was heard. Returns false if the report is a goodbye.
fn hear(map: &mut HostMap, row: Row, caps: &Capabilities<'_>, now: Duration) -> bool {
    let goodbye = caps.novella.as_ref().is_some_and(|report| report.goodbye);
    let before = map.table.view(row).status();
    let record = map.record_mut(row);
    record.hearing = Hearing::new(now, goodbye);
    let liveness = if goodbye { Liveness::Down } else { Liveness::Up };
    let status = record.status(liveness);
    if status != before {
        map.table.set_status(row, status);
        let host = map.table.host(row).to_owned();
        match (before, status) {
            (_, HostStatus::Down) => map.note(Event::Left { host }),
            (HostStatus::Suspect | HostStatus::Down, _) => map.note(Event::Back { host, before }),
            _ => {}
        }
    }
    let watch = if goodbye { map.options.forget_after } else { map.options.service_down_time };
    map.next_watch = map.next_watch.min(now.saturating_add(watch));
    !goodbye
}

/// Renames a row. A row that has the name, because it is silent or without identity, is removed. The reservations there
/// were made for the name, so they move to the renamed row.
/// Returns their instances.
fn take_name(map: &mut HostMap, row: Row, holder: Option<Row>, arrival: &Arrival<'_>) -> Vec<Uuid> {
    let mut arrived = Vec::new();
    if let Some(holder) = holder {
        arrived = map.reservations.change_row(holder, row);
        for uuid in &arrived {
            let group = map.reservations.get(uuid).and_then(|reservation| reservation.kind().group);
            map.members.forget(holder, *uuid, group);
        }
        map.remove(holder);
    }
    let renamed = map.table.rename(row, arrival.host, arrival.nodename());
    debug_assert!(renamed, "the name was freed");
    arrived.extend(map.reservations.arrive(arrival.host, row));
    arrived.iter().for_each(|uuid| map.hold(*uuid));
    end_what_is_too_large(map, row, &arrived);
    arrived
}

/// Settles reservations that came to a row which already lists their instances.
fn settle_arrived(map: &mut HostMap, row: Row, arrived: Vec<Uuid>) {
    for uuid in &arrived {
        map.reservations.also_claimed(uuid, true);
    }
    let settled = settle(map, row, arrived);
    map.counters.settled += u64::from(settled);
}

/// Ends those of these reservations for which the host is not large enough. Peers made them before the host was known.
fn end_what_is_too_large(map: &mut HostMap, row: Row, arrived: &[Uuid]) {
    for uuid in arrived {
        let Some(reservation) = map.reservations.get(uuid) else { continue };
        if !map.is_large_enough(row, &reservation.allocation) {
            map.end_reservation(uuid);
            map.counters.peer_refused += 1;
        }
    }
}

/// Converts a refusal of the table into one of the report. The table can refuse only amounts, because ratios were
/// checked before.
fn unusable(refused: Unusable) -> BadReport {
    match refused {
        Unusable::TooLarge { field, .. } => {
            BadReport { key: field, fault: Fault::Absurd(novella_objects::MAX_AMOUNT) }
        }
        Unusable::Ratio { field, .. } => BadReport { key: field, fault: Fault::Ratio },
    }
}
