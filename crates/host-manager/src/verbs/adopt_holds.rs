//! Takes over the holds that a host lists in its reports, so that a hold outlives the scheduler that gave it.
//!
//! What always holds: a hold that is known here as a reservation is not counted again, and one that the host no longer lists ends
//! here too. A reservation that the host has not listed yet is left alone, because the host may not have heard of it. A hold that
//! ended here while the host listed it is not taken over again.
//!
//! Left out: claims, which replace the reservation of their instance (`apply_report.rs`).

use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::Row;
use novella_objects::Claim;
use novella_resources::{Allocation, Amounts, DeviceUsage, by_class};
use uuid::Uuid;

use crate::holder::Holder;
use crate::map::host_map::HostMap;
use crate::promises::reservations::{MAX_RESERVED_BYTES, Place, Reservation, ReservationKind};

/// Compares the holds of a report, which was checked, with those of the last one, which the same process sent or another.
pub(crate) fn adopt_holds(
    map: &mut HostMap,
    row: Row,
    holds: &[Claim<'_>],
    same_process: bool,
    now: Duration,
) {
    if holds.is_empty() && map.record(row).listed_holds.is_empty() {
        return;
    }
    let mut listed: Vec<Uuid> = holds.iter().map(|hold| hold.uuid).collect();
    listed.sort_unstable();
    let mut before = std::mem::take(&mut map.record_mut(row).listed_holds);
    if !same_process {
        // A process that was killed may have lost its newest holds. They stay reserved here for their time.
        before.clear();
    }
    for uuid in &before {
        let is_here = map.reservations.get(uuid).is_some_and(|known| known.place == Place::Row(row));
        if is_here && listed.binary_search(uuid).is_err() {
            map.end_reservation(uuid);
        }
    }
    for hold in holds {
        let is_new = before.binary_search(&hold.uuid).is_err();
        if is_new && map.reservations.get(&hold.uuid).is_none() && !map.released.contains(&hold.uuid) {
            adopt(map, row, hold, now);
        }
    }
    map.record_mut(row).listed_holds = listed;
}

fn adopt(map: &mut HostMap, row: Row, hold: &Claim<'_>, now: Duration) {
    let full = map.reservations.len() >= map.options.max_reservations
        || map.reservations.bytes() >= MAX_RESERVED_BYTES;
    let Some(left) = hold.hold_ms.filter(|_| !full) else {
        map.counters.peer_refused += 1;
        return;
    };
    let user: Option<Arc<str>> = hold.user.as_deref().map(Into::into);
    let resources = hold.resources.iter().map(|(class, amount)| (class.to_owned(), *amount));
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(Into::into);
    let reservation = Reservation {
        place: Place::Row(row),
        allocation: Allocation { amounts: Amounts::of_claim(hold), resources: by_class(resources) },
        // The report was refused if these could not be read.
        devices: DeviceUsage::of_claim(hold).ok().flatten().map(Box::new),
        spec_hash: hold.spec_hash.unwrap_or_default(),
        expires: now.saturating_add(Duration::from_millis(left).min(map.options.max_hold)),
        decision_id: hold.decision.as_deref().unwrap_or_default().into(),
        user: user.clone(),
        holder: Holder { user, project: None },
        weight: 0.0,
        alternates: Arc::default(),
        kind: ReservationKind {
            group: text(&hold.group),
            flavor: text(&hold.flavor),
            image: hold.image.as_ref().map(|image| image.get().into()),
        }
        .shared(),
        also_claimed: false,
    };
    map.reservations.add(hold.uuid, reservation);
    map.hold(hold.uuid);
    map.counters.peer_reserved += 1;
}
