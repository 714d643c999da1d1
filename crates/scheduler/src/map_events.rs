//! Logs changes in the map that no request made, at a level that says whether somebody must act.

use novella_host_manager::Event;
use novella_objects::{HostStatus, HostWarning};
use tracing::{debug, info, warn};

/// Logs the events in order.
pub(crate) fn log(events: &[Event]) {
    for event in events {
        match event {
            Event::Down { host } => warn!(host, "host is down: it has not reported for too long"),
            Event::Suspect { host } => {
                debug!(host, "host is suspect: silent, but the cause may lie elsewhere")
            }
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
                info!(host, "host removed from the map: it has not reported for forget_after")
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
