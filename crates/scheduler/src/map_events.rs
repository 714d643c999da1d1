//! What changed in the map by itself, logged at the level of what must be done about it.

use novella_host_manager::Event;
use tracing::{debug, info, warn};

/// Logs events in their order.
pub(crate) fn log(events: &[Event]) {
    for event in events {
        match event {
            Event::Down { host } => warn!(host, "host is down: silent for too long"),
            Event::Suspect { host } => {
                debug!(host, "host is suspect: silent, but perhaps not by its own fault")
            }
            Event::Back { host } => info!(host, "host is back"),
            Event::Forgotten { host } => info!(host, "host forgotten: silent for a long time"),
            Event::LostTogether { hosts, live } => warn!(
                hosts,
                live, "many hosts fell silent at once; they stay candidates as suspects. Look at the network"
            ),
            Event::TakenOver { host, previous, uuid } => {
                warn!(host, %previous, %uuid, "a new identity took over this host name");
            }
            Event::ReservationsExpired { count } => {
                info!(count, "reservations expired before a host reported their instances");
            }
        }
    }
}
