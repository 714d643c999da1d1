//! Changes that time brings: which hosts are silent, whether they are to blame for it, and which reservations expire.
//!
//! What always holds: a sweep over all hosts happens only when the state of a host can have changed. The rules are in
//! `report/liveness.rs`.
//!
//! Left out: the clock. The caller passes the time.

use std::time::Duration;

use novella_filter_scheduler::Row;
use novella_objects::HostStatus;

use crate::map::host_map::HostMap;
use crate::report::liveness::{Hearing, LOST_TOGETHER_TIMES, Liveness, MIN_FLEET};
use crate::report::outcome::Event;

/// How long after a sweep the next one is due at the latest, while hosts are suspect or an outage is under way.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest time between two looks at all conflicts.
const CONFLICT_INTERVAL: Duration = Duration::from_secs(1);

/// Notes that the scheduler did not run between these instants, so it could not hear anybody.
pub(crate) fn note_stall(map: &mut HostMap, from: Duration, to: Duration) {
    map.outages.add(from, to);
    give_grace(map, to);
}

/// Notes that the scheduler has no broker from now on.
pub(crate) fn broker_lost(map: &mut HostMap, now: Duration) {
    if map.outages.begin(now) {
        map.next_watch = Duration::ZERO;
    }
}

/// Notes that the scheduler has a broker again.
pub(crate) fn broker_back(map: &mut HostMap, now: Duration) {
    if map.outages.end(now) {
        give_grace(map, now);
    }
}

/// Gives a grace to every host after an outage that ended at `end`, except those that were down before it.
fn give_grace(map: &mut HostMap, end: Duration) {
    let down_time = map.options.service_down_time;
    for record in map.records.iter_mut().flatten() {
        let hearing = &mut record.hearing;
        if hearing.heard < end && !hearing.is_silent(&map.outages, down_time, end) {
            hearing.give_grace(end.saturating_add(down_time));
        }
    }
    map.next_watch = Duration::ZERO;
}

/// Brings the map to `now`: ends reservations whose time is up, and marks silent hosts suspect, marks them down, or
/// forgets them. What happened is kept until the events are asked for.
pub(crate) fn advance(map: &mut HostMap, now: Duration) {
    map.released.advance(now);
    let expired = map.reservations.take_expired(now);
    for (uuid, reservation) in &expired {
        map.let_go(*uuid, reservation);
    }
    if !expired.is_empty() {
        map.counters.expired += expired.len() as u64;
        map.note(Event::ReservationsExpired { count: expired.len() });
    }
    // Every placement comes here, and there may be as many conflicts as hosts.
    if !map.conflicts.is_empty() && now >= map.next_end_of_conflicts {
        end_conflicts(map, now);
        map.next_end_of_conflicts = now + CONFLICT_INTERVAL;
    }
    if now >= map.next_watch {
        watch(map, now);
    }
}

/// Ends the warnings about processes that no longer use the name or the identity of a host.
fn end_conflicts(map: &mut HostMap, now: Duration) {
    let HostMap { table, records, conflicts, .. } = map;
    let mut over = Vec::new();
    conflicts.retain(|row| {
        let record = records[row.index()].as_deref_mut().expect("every host in the table has a record");
        let ended = record.warnings.extract_if(.., |(warning, end)| warning.is_conflict() && *end <= now);
        let host = table.host(*row);
        over.extend(ended.map(|(warning, _)| Event::ConflictOver { host: host.to_owned(), warning }));
        record.warnings.iter().any(|(warning, _)| warning.is_conflict())
    });
    over.into_iter().for_each(|event| map.note(event));
}

fn watch(map: &mut HostMap, now: Duration) {
    excuse_lost_together(map, now);
    let down_time = map.options.service_down_time;
    let mut next = Duration::MAX;
    let mut forgotten = Vec::new();
    let rows: Vec<Row> = map.table.rows().collect();
    for row in rows {
        let record = map.record(row);
        let liveness = record.hearing.judge(&map.outages, down_time, now);
        let status = record.status(liveness);
        next = next.min(match liveness {
            Liveness::Up => record.hearing.heard.saturating_add(down_time),
            Liveness::Suspect => now + WATCH_INTERVAL,
            Liveness::Down => record.hearing.heard.saturating_add(map.options.forget_after),
        });
        let silent = record.hearing.own_silence(&map.outages, now);
        if liveness == Liveness::Down && silent > map.options.forget_after {
            forgotten.push(row);
        } else {
            change_status(map, row, status);
        }
    }
    for row in forgotten {
        map.counters.forgotten += 1;
        map.note(Event::Forgotten { host: map.table.host(row).to_owned() });
        map.remove(row);
    }
    let too_long = |hearing: &Hearing| hearing.own_silence(&map.outages, now) > map.options.forget_after;
    map.services.forget(&mut map.texts, too_long);
    for (_, state) in map.services.iter() {
        next = next.min(state.hearing.heard.saturating_add(map.options.forget_after));
    }
    map.next_watch = next.max(now + WATCH_INTERVAL);
}

fn change_status(map: &mut HostMap, row: Row, status: HostStatus) {
    let before = map.table.view(row).status();
    if status == before {
        return;
    }
    map.table.set_status(row, status);
    let host = map.table.host(row).to_owned();
    match status {
        HostStatus::Down => {
            map.counters.down += 1;
            map.note(Event::Down { host });
        }
        HostStatus::Suspect => {
            map.counters.suspect += 1;
            map.note(Event::Suspect { host });
        }
        HostStatus::Up | HostStatus::Disabled => map.note(Event::Back { host, before }),
    }
}

/// Excuses hosts that are lost together. When a host is about to go down, the hosts whose own silence exceeds half of
/// `service_down_time` may be lost with it. If they are more than the allowed fraction of all live hosts, the cause is
/// probably on this side, and they get a grace. In a small fleet the same fraction is a few hosts, which may well have
/// died together, so it says nothing there.
fn excuse_lost_together(map: &mut HostMap, now: Duration) {
    let down_time = map.options.service_down_time;
    let (mut live, mut late, mut falling) = (0usize, Vec::new(), false);
    for row in map.table.rows() {
        if map.table.view(row).status() == HostStatus::Down {
            continue;
        }
        live += 1;
        let hearing = &map.record(row).hearing;
        if hearing.goodbye || hearing.grace_until.is_some() {
            continue;
        }
        let silence = hearing.own_silence(&map.outages, now);
        if silence > down_time / 2 {
            late.push(row);
            falling |= silence > down_time;
        }
    }
    let share = live as f64 * map.options.suspect_fraction;
    if !falling || live < MIN_FLEET || late.len() as f64 <= share {
        return;
    }
    map.note(Event::LostTogether { hosts: late.len(), live });
    let in_all = down_time.saturating_mul(LOST_TOGETHER_TIMES);
    for row in late {
        let hearing = &mut map.record_mut(row).hearing;
        hearing.give_grace(hearing.heard.saturating_add(in_all));
    }
}
