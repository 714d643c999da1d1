//! Reservations: what was promised and has not yet been seen in a report.
//!
//! A reservation is made when a decision is made here or received from a peer. It ends when its own host's report lists
//! the instance with at least the reserved amounts, or when its time is up. Any other report changes nothing about it. A
//! peer may know a host before the host's first report reaches us; such a reservation waits for the host under its name.
//!
//! What always holds: each reservation ends exactly once. Nothing here walks over all reservations, so that a message
//! about a few of them costs as little as it is large.
//!
//! Left out: the table. The caller frees there what this store returns.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use novella_filter_scheduler::Row;
use novella_resources::{Allocation, DeviceUsage};
use uuid::Uuid;

use crate::holder::Holder;
use crate::promises::held::{Held, counted};
use crate::promises::index::{PromiseIndex, remove_from};
use crate::report::claims::KindRef;

/// Where a reservation counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Subtracted from this row.
    Row(Row),
    /// Not subtracted yet. A peer named a host from which no report has come.
    Awaited(Box<str>),
}

/// One instance's reservation.
#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    /// Where it counts.
    pub place: Place,
    /// The amounts that the instance takes.
    pub allocation: Allocation,
    /// The NUMA cells and PCI devices that the instance takes.
    pub devices: Option<Box<DeviceUsage>>,
    /// The hash of the request, to recognise a repeated one.
    pub spec_hash: u64,
    /// When the reservation ends.
    pub expires: Duration,
    pub decision_id: Arc<str>,
    /// The broker user who placed the instance. Without one, everybody may release it.
    pub user: Option<Arc<str>>,
    /// Whose quotas it counts towards.
    pub holder: Holder,
    /// The weight that was answered. It is 0 if a peer decided, because peers do not tell it.
    pub weight: f64,
    /// The alternates that were answered. There are none if a peer decided.
    pub alternates: Arc<[String]>,
    /// The kind of the instance, if it has any.
    pub kind: Option<Arc<ReservationKind>>,
    /// Whether the host lists the instance too, with less than what is reserved. Both count then.
    pub also_claimed: bool,
}

/// The kind of the instances of one decision: the properties on which the placement of other instances may depend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReservationKind {
    /// The name of the server group.
    pub group: Option<Box<str>>,
    /// The name of the flavor, or its id.
    pub flavor: Option<Box<str>>,
    /// The image, as JSON text.
    pub image: Option<Box<str>>,
}

impl ReservationKind {
    /// The same properties, borrowed.
    pub fn borrowed(&self) -> KindRef<'_> {
        KindRef { group: self.group.as_deref(), flavor: self.flavor.as_deref(), image: self.image.as_deref() }
    }

    /// The kind for sharing; `None` if it has no property.
    pub fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }
}

impl Reservation {
    /// The kind of the instance.
    pub fn kind(&self) -> KindRef<'_> {
        self.kind.as_deref().map_or_else(KindRef::default, ReservationKind::borrowed)
    }
}

/// How many bytes all reservations may take. Usual ones take less than 1 KiB each.
pub(crate) const MAX_RESERVED_BYTES: usize = 256 * 1024 * 1024;

/// What an entry of a list or map takes beside its texts.
const ENTRY: usize = 64;

/// About how many bytes a reservation takes. What the instances of a decision share counts for each of them.
fn bytes_of(reservation: &Reservation) -> usize {
    let resources = reservation.allocation.resources.iter().map(|(class, _)| ENTRY + class.len());
    let devices = reservation.devices.as_deref().map_or(0, |usage| {
        let cells = usage.numa.iter().flat_map(|numa| &numa.cells).map(|cell| ENTRY + cell.pinned.bytes());
        let kinds = usage.pci.iter().flat_map(|pci| &pci.0).map(|(kind, _)| {
            let tags = kind
                .tags
                .iter()
                .map(|(key, value)| ENTRY + key.len() + value.as_ref().map_or(0, |text| text.len()));
            2 * ENTRY + kind.vendor_id.len() + kind.product_id.len() + tags.sum::<usize>()
        });
        cells.sum::<usize>() + kinds.sum::<usize>()
    });
    let KindRef { group, flavor, image } = reservation.kind();
    let kind = [group, flavor, image].into_iter().flatten().map(str::len).sum::<usize>();
    let holder = reservation.holder.bytes();
    size_of::<Reservation>() + 4 * ENTRY + resources.sum::<usize>() + devices + kind + holder
}

/// All reservations, by instance.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    by_uuid: HashMap<Uuid, Reservation>,
    /// How many bytes they take.
    bytes: usize,
    /// What they take for each holder.
    held: Held,
    index: PromiseIndex,
    /// The instances of the reservations that count on each row.
    on_row: HashMap<Row, HashSet<Uuid>>,
    /// The instances of the reservations that wait for each host.
    awaited: HashMap<Box<str>, HashSet<Uuid>>,
}

impl Reservations {
    pub fn len(&self) -> usize {
        self.by_uuid.len()
    }

    /// About how many bytes all reservations take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What all reservations take for each holder.
    pub fn held(&self) -> &Held {
        &self.held
    }

    pub fn is_empty(&self) -> bool {
        self.by_uuid.is_empty()
    }

    pub fn get(&self, uuid: &Uuid) -> Option<&Reservation> {
        self.by_uuid.get(uuid)
    }

    /// The instances of the reservations that count on this row, in order.
    pub fn on_row(&self, row: Row) -> Vec<Uuid> {
        self.on_row.get(&row).map(in_order).unwrap_or_default()
    }

    /// What is subtracted from hosts: each row, with what one instance takes there.
    pub fn counted(&self) -> impl Iterator<Item = (Row, &Allocation)> {
        self.by_uuid.values().filter_map(|reservation| match reservation.place {
            Place::Row(row) => Some((row, &reservation.allocation)),
            Place::Awaited(_) => None,
        })
    }

    /// Notes whether the host of a reservation lists the instance too.
    pub fn also_claimed(&mut self, uuid: &Uuid, also: bool) {
        if let Some(reservation) = self.by_uuid.get_mut(uuid) {
            reservation.also_claimed = also;
        }
    }

    /// Adds a reservation for an instance that has none.
    pub fn add(&mut self, uuid: Uuid, reservation: Reservation) {
        self.index.add(uuid, &reservation.decision_id, reservation.expires);
        match &reservation.place {
            Place::Row(row) => self.on_row.entry(*row).or_default().insert(uuid),
            Place::Awaited(host) => self.awaited.entry_ref(host).or_default().insert(uuid),
        };
        self.bytes += bytes_of(&reservation);
        self.held.add(&reservation.holder, counted(&reservation.allocation));
        let before = self.by_uuid.insert(uuid, reservation);
        debug_assert!(before.is_none(), "the caller looked first");
    }

    /// Ends one reservation and returns it.
    pub fn remove(&mut self, uuid: &Uuid) -> Option<Reservation> {
        let reservation = self.by_uuid.remove(uuid)?;
        self.bytes -= bytes_of(&reservation);
        self.held.remove(&reservation.holder, counted(&reservation.allocation));
        self.index.remove(*uuid, &reservation.decision_id, reservation.expires);
        match &reservation.place {
            Place::Row(row) => remove_from(&mut self.on_row, row, *uuid),
            Place::Awaited(host) => remove_from(&mut self.awaited, host, *uuid),
        }
        Some(reservation)
    }

    /// Ends all reservations whose time is up and returns them.
    pub fn take_expired(&mut self, now: Duration) -> Vec<(Uuid, Reservation)> {
        let mut expired = Vec::new();
        while let Some(uuid) = self.index.next_expired(now) {
            let reservation = self.remove(&uuid).expect("the index lists only what is there");
            expired.push((uuid, reservation));
        }
        expired
    }

    /// The instances of one decision, in order.
    pub fn of_decision(&self, decision_id: &str) -> Vec<Uuid> {
        self.index.of_decision(decision_id)
    }

    /// Moves the reservations that wait for `host` to its row. Returns their instances.
    pub fn arrive(&mut self, host: &str, row: Row) -> Vec<Uuid> {
        let waiting = self.awaited.remove(host).unwrap_or_default();
        self.move_to(row, waiting)
    }

    /// Moves the reservations on one row to another row. Returns their instances.
    pub fn change_row(&mut self, from: Row, to: Row) -> Vec<Uuid> {
        let there = self.on_row.remove(&from).unwrap_or_default();
        self.move_to(to, there)
    }

    fn move_to(&mut self, row: Row, moved: HashSet<Uuid>) -> Vec<Uuid> {
        if moved.is_empty() {
            return Vec::new();
        }
        for uuid in &moved {
            self.by_uuid.get_mut(uuid).expect("what has a place is there").place = Place::Row(row);
        }
        self.on_row.entry(row).or_default().extend(&moved);
        in_order(&moved)
    }

    /// Makes the reservations on a row that is removed from the map wait for its host. Returns their instances.
    pub fn await_again(&mut self, row: Row, host: &str) -> Vec<Uuid> {
        let there = self.on_row.remove(&row).unwrap_or_default();
        for uuid in &there {
            let reservation = self.by_uuid.get_mut(uuid).expect("what has a place is there");
            (reservation.place, reservation.also_claimed) = (Place::Awaited(host.into()), false);
        }
        if !there.is_empty() {
            self.awaited.entry(host.into()).or_default().extend(&there);
        }
        in_order(&there)
    }

    /// Ends all reservations on a row that is removed from the map, and returns them.
    pub fn drop_row(&mut self, row: Row) -> Vec<(Uuid, Reservation)> {
        let there = self.on_row(row);
        there.into_iter().filter_map(|uuid| Some((uuid, self.remove(&uuid)?))).collect()
    }
}

/// The instances in ascending order, so that what follows from them is the same in every run.
fn in_order(uuids: &HashSet<Uuid>) -> Vec<Uuid> {
    let mut uuids: Vec<_> = uuids.iter().copied().collect();
    uuids.sort_unstable();
    uuids
}

#[cfg(test)]
mod tests {
    use super::*;
    use novella_resources::Amounts;

    fn reservation(place: Place, expires: u64) -> Reservation {
        Reservation {
            place,
            allocation: Allocation {
                amounts: Amounts { vcpus: 1, memory_mb: expires, disk_gb: 1, instances: 1 },
                ..Allocation::default()
            },
            devices: None,
            spec_hash: 1,
            expires: Duration::from_secs(expires),
            decision_id: format!("s1-{}", expires / 10).into(),
            user: None,
            holder: Holder::default(),
            weight: 0.0,
            alternates: Arc::default(),
            kind: None,
            also_claimed: false,
        }
    }

    #[test]
    fn each_ends_exactly_once() {
        let mut store = Reservations::default();
        for i in 1..=20 {
            let place =
                if i % 5 == 0 { Place::Awaited("late".into()) } else { Place::Row(Row::at(i as usize)) };
            store.add(Uuid::from_u128(i), reservation(place, i as u64));
        }
        assert!(store.take_expired(Duration::ZERO).is_empty());
        assert_eq!(store.take_expired(Duration::from_secs(3)).len(), 3, "the end is not within");
        assert_eq!(store.of_decision("s1-1").len(), 10);
        let mut arrived = store.arrive("late", Row::at(99));
        arrived.sort_unstable();
        assert_eq!(arrived, [5, 10, 15, 20].map(Uuid::from_u128));
        assert!(store.arrive("late", Row::at(99)).is_empty());
        assert_eq!(store.change_row(Row::at(99), Row::at(98)).len(), 4);
        assert!(store.remove(&Uuid::from_u128(20)).is_some());
        assert!(store.remove(&Uuid::from_u128(20)).is_none());
        assert_eq!(store.drop_row(Row::at(98)).len(), 3);
        assert_eq!(store.take_expired(Duration::from_secs(1000)).len(), 13);
        assert!(store.is_empty() && store.bytes() == 0);
        store.add(Uuid::from_u128(1), reservation(Place::Row(Row::at(1)), 7));
        assert_eq!(store.take_expired(Duration::from_secs(7)).len(), 1);
    }
}
