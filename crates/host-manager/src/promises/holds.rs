//! What was placed on services other than compute.
//!
//! What always holds: a hold ends only when its time is up or when it is released, because no report lists such claims.
//! Nothing here walks over all holds.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use novella_objects::ReserveEntry;
use novella_resources::Amounts;
use uuid::Uuid;

use crate::holder::Holder;
use crate::promises::held::Held;
use crate::promises::index::PromiseIndex;

/// One instance placed on a service.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) service: Box<str>,
    pub(crate) host: Box<str>,
    /// How much it takes, in GiB.
    pub(crate) gb: u64,
    /// The hash of its request, to recognise a repeated one.
    pub(crate) spec_hash: u64,
    pub(crate) decision_id: Arc<str>,
    /// The broker user who placed the instance. Without one, everybody may release it.
    pub(crate) user: Option<Arc<str>>,
    /// Whose quotas it counts towards.
    pub(crate) holder: Holder,
    /// When the hold ends.
    pub(crate) expires: Duration,
}

impl Hold {
    /// What it takes.
    fn amounts(&self) -> Amounts {
        Amounts { disk_gb: self.gb, instances: 1, ..Amounts::default() }
    }
}

/// Everything placed on services, by instance.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    by_uuid: HashMap<Uuid, Hold>,
    index: PromiseIndex,
    /// What is held for each holder.
    held: Held,
    /// How many GiB are held on each host of each service, by service and host.
    held_gb: HashMap<Box<str>, HashMap<Box<str>, u128>>,
}

impl Holds {
    pub(crate) fn len(&self) -> usize {
        self.by_uuid.len()
    }

    pub(crate) fn get(&self, uuid: &Uuid) -> Option<&Hold> {
        self.by_uuid.get(uuid)
    }

    /// Adds the hold of an instance. It replaces an earlier one.
    pub(crate) fn add(&mut self, uuid: Uuid, hold: Hold) {
        self.end(&uuid);
        self.index.add(uuid, &hold.decision_id, hold.expires);
        self.held.add(&hold.holder, hold.amounts());
        let hosts = self.held_gb.entry_ref(&hold.service).or_default();
        *hosts.entry_ref(&hold.host).or_default() += u128::from(hold.gb);
        self.by_uuid.insert(uuid, hold);
    }

    /// Ends a hold, if there is one.
    pub(crate) fn end(&mut self, uuid: &Uuid) {
        let Some(hold) = self.by_uuid.remove(uuid) else { return };
        self.index.remove(*uuid, &hold.decision_id, hold.expires);
        self.held.remove(&hold.holder, hold.amounts());
        let Some(hosts) = self.held_gb.get_mut(&hold.service) else { return };
        let Some(gb) = hosts.get_mut(&hold.host) else { return };
        *gb -= u128::from(hold.gb);
        if *gb == 0 {
            hosts.remove(&hold.host);
        }
        if hosts.is_empty() {
            self.held_gb.remove(&hold.service);
        }
    }

    /// Ends the holds whose time is up.
    pub(crate) fn expire(&mut self, now: Duration) {
        while let Some(uuid) = self.index.next_expired(now) {
            self.end(&uuid);
        }
    }

    /// What is held for each holder.
    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// How many GiB are held on a service's host.
    pub(crate) fn held_gb(&self, service: &str, host: &str) -> f64 {
        self.held_gb.get(service).and_then(|hosts| hosts.get(host)).map_or(0.0, |gb| *gb as f64)
    }

    /// The entry for peers about an instance, and when its hold ends. `None` if this decision does not hold it.
    pub(crate) fn entry(&self, uuid: &Uuid, decision_id: &str) -> Option<(ReserveEntry, Duration)> {
        let hold = self.by_uuid.get(uuid).filter(|hold| *hold.decision_id == *decision_id)?;
        let entry = ReserveEntry {
            uuid: *uuid,
            host: hold.host.to_string(),
            disk_gb: hold.gb,
            spec_hash: hold.spec_hash,
            service: Some(hold.service.to_string()),
            ..ReserveEntry::default()
        };
        Some((entry, hold.expires))
    }

    /// The instances that a decision holds, in order.
    pub(crate) fn of_decision(&self, decision_id: &str) -> Vec<Uuid> {
        self.index.of_decision(decision_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_the_sum_of_the_holds_that_are_left() {
        let mut holds = Holds::default();
        for n in 1..=6u64 {
            let hold = Hold {
                user: None,
                holder: Holder::default(),
                service: "volume".into(),
                host: format!("h{}", n % 2).into(),
                gb: n,
                spec_hash: 0,
                decision_id: format!("s1-{}", n / 4).into(),
                expires: Duration::from_secs(n),
            };
            holds.add(Uuid::from_u128(n.into()), hold);
        }
        let held = |holds: &Holds| (holds.held_gb("volume", "h0"), holds.held_gb("volume", "h1"));
        assert_eq!(held(&holds), (12.0, 9.0));
        assert_eq!(holds.of_decision("s1-1"), [4, 5, 6].map(Uuid::from_u128));
        holds.expire(Duration::from_secs(2));
        assert_eq!((held(&holds), holds.len()), ((10.0, 8.0), 4));
        holds.end(&Uuid::from_u128(4));
        assert_eq!((held(&holds), holds.of_decision("s1-1").len()), ((6.0, 8.0), 2));
        holds.expire(Duration::from_secs(6));
        assert_eq!((held(&holds), holds.len(), holds.held_gb.len()), ((0.0, 0.0), 0, 0));
    }
}
