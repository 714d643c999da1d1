//! Logs changes in the map that no request made, at a level that says whether somebody must act.
//!
//! What always holds: one call logs a few lines of each kind at most. If a rack or the whole fleet goes, that is one line
//! with the number of hosts and the names of some.

use std::mem::discriminant;

use novella_host_manager::Event;
use novella_objects::{HostStatus, HostWarning};
use tracing::{debug, info, warn};

/// How many events of one kind are logged one by one. More are one line.
const ONE_BY_ONE: usize = 5;

/// Logs the events in order.
pub(crate) fn log(events: &[Event]) {
    let mut kinds: Vec<Vec<&Event>> = Vec::new();
    for event in events {
        match kinds.iter_mut().find(|alike| discriminant(alike[0]) == discriminant(event)) {
            Some(alike) => alike.push(event),
            None => kinds.push(vec![event]),
        }
    }
    for alike in kinds {
        match host(alike[0]) {
            Some(_) if alike.len() > ONE_BY_ONE => log_together(&alike),
            _ => alike.into_iter().for_each(log_one),
        }
    }
}

/// The host that an event is about.
fn host(event: &Event) -> Option<&str> {
    match event {
        Event::Down { host }
        | Event::Suspect { host }
        | Event::Unanswered { host }
        | Event::Left { host }
        | Event::Back { host, .. }
        | Event::Renamed { host, .. }
        | Event::Conflict { host, .. }
        | Event::ConflictOver { host, .. }
        | Event::Forgotten { host }
        | Event::TakenOver { host, .. }
        | Event::ClaimedTooOften { host, .. }
        | Event::ClaimDoesNotSettle { host, .. }
        | Event::ClaimsListed { host } => Some(host),
        Event::LostTogether { .. } | Event::ReservationsExpired { .. } => None,
    }
}

/// Logs many events of one kind in one line.
fn log_together(events: &[&Event]) {
    let hosts = events.len();
    let some: Vec<_> = events.iter().filter_map(|event| host(event)).take(ONE_BY_ONE).collect();
    let some = some.join(", ");
    match events[0] {
        Event::Down { .. } => warn!(hosts, some, "hosts are down: they have not reported for too long"),
        Event::Suspect { .. } => {
            debug!(hosts, some, "hosts are suspect: silent, but the cause may lie elsewhere")
        }
        Event::Unanswered { .. } => warn!(hosts, some, "hosts report, but {NO_ANSWER}"),
        Event::Left { .. } => info!(hosts, some, "hosts left: their agents said goodbye"),
        Event::Back { .. } => info!(hosts, some, "hosts are back"),
        Event::Renamed { .. } => info!(hosts, some, "hosts were renamed; their reservations are kept"),
        Event::Forgotten { .. } => info!(hosts, some, "hosts removed from the map: {FORGOTTEN}"),
        Event::TakenOver { .. } => warn!(hosts, some, "new identities took over host names"),
        Event::Conflict { .. } => warn!(
            hosts,
            some,
            "other processes or users report as these hosts, or with their identities, and are refused; \
             `novella host list` says what to do about each"
        ),
        Event::ConflictOver { .. } => info!(hosts, some, "nobody else reports as these hosts any more"),
        Event::ClaimedTooOften { .. } => warn!(
            hosts,
            some,
            "these hosts claim instances that several others claim; affinity rules do not see them there"
        ),
        Event::ClaimDoesNotSettle { .. } => warn!(
            hosts,
            some,
            "these hosts claim instances that are reserved on other hosts, or with more; the reservations stay until they \
             are released or their time is up"
        ),
        Event::ClaimsListed { .. } => {
            info!(hosts, some, "no instance of these hosts is claimed by too many hosts any more")
        }
        Event::LostTogether { .. } | Event::ReservationsExpired { .. } => {
            events.iter().for_each(|event| log_one(event))
        }
    }
}

/// What to do about a host that does not answer.
const NO_ANSWER: &str = "did not answer under the queue of its name; it is placed on after all others. `novella ping HOST` asks again";
/// Why a host is removed.
const FORGOTTEN: &str = "silent for forget_after, or gone or not answering while the map was full";

fn log_one(event: &Event) {
    match event {
        Event::Down { host } => warn!(host, "host is down: it has not reported for too long"),
        Event::Suspect { host } => {
            debug!(host, "host is suspect: silent, but the cause may lie elsewhere")
        }
        Event::Unanswered { host } => warn!(host, "host reports, but {NO_ANSWER}"),
        Event::Left { host } => info!(host, "host left: its agent said goodbye"),
        // That the host was suspect was only logged at this level, too.
        Event::Back { host, before: HostStatus::Suspect } => debug!(host, "host is no longer suspect"),
        Event::Back { host, .. } => info!(host, "host is back"),
        Event::Renamed { host, from } => {
            info!(host, from, "host was renamed; its reservations are kept")
        }
        Event::Conflict { host, warning } => conflict(host, warning),
        Event::ConflictOver { host, warning } => match warning {
            HostWarning::ClonedIdentity { other_host } => {
                info!(host, other_host, "only one process still reports with this identity")
            }
            HostWarning::OtherUser { user } => {
                info!(host, user, "the other broker user no longer reports as this host")
            }
            HostWarning::DuplicateName { other } => {
                info!(host, %other, "the other identity no longer reports under this host name")
            }
            _ => {}
        },
        Event::Forgotten { host } => {
            info!(host, "host removed from the map: {FORGOTTEN}")
        }
        Event::LostTogether { hosts, live } => warn!(
            hosts,
            live,
            "many hosts fell silent at once; they are suspect but can still be chosen. Check the network"
        ),
        Event::TakenOver { host, previous, uuid } => {
            warn!(host, %previous, %uuid, "a new identity took over this host name");
        }
        Event::ClaimedTooOften { host, instance, claims } => warn!(
            host,
            %instance,
            claims,
            "several hosts claim the same instances; affinity rules do not see them on this host. `novella host list` \
             shows the hosts; remove the claims of all but one"
        ),
        Event::ClaimDoesNotSettle { host, instance, held_on, claims } if host == held_on => warn!(
            host,
            %instance,
            claims,
            "the host claims less for an instance than what was reserved for it; the reservation counts too until it \
             is released or its time is up"
        ),
        Event::ClaimDoesNotSettle { host, instance, held_on, claims } => warn!(
            host,
            %instance,
            held_on,
            claims,
            "the host claims an instance that is reserved on another host; the reservation stays until that host \
             claims it, it is released or its time is up. Look at this host if you did not move the instance"
        ),
        Event::ClaimsListed { host } => {
            info!(host, "no instance of this host is claimed by too many hosts any more")
        }
        Event::ReservationsExpired { count } => {
            info!(count, "reservations expired before a host reported their instances");
        }
    }
}

/// Logs that another process uses the name or the identity of `first`.
fn conflict(first: &str, warning: &HostWarning) {
    match warning {
        HostWarning::ClonedIdentity { other_host: host } if host == first => warn!(
            host,
            "two processes report as this host with the same identity; the one that was heard first is kept. Stop the other. \
             If the wrong one is kept, stop it and run `novella host forget`"
        ),
        HostWarning::OtherUser { user } => warn!(
            host = first,
            user,
            "another broker user reports as this host and is refused. If that user is the right one, run `novella host forget`. \
             If not, change its password"
        ),
        HostWarning::ClonedIdentity { other_host: host } => warn!(
            host,
            first,
            "two processes report with the same identity; the later one is refused. Remove identity.json from the state \
             directory of one of the two hosts and restart its agent"
        ),
        HostWarning::DuplicateName { other } => warn!(
            host = first,
            %other,
            "another agent reports under the name of a live host and is refused; give it another --host"
        ),
        _ => {}
    }
}
