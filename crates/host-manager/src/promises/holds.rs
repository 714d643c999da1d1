//! What was placed on services other than compute.
//!
//! What always holds: a hold ends only when its time is up or when it is released, because no report lists such claims.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use novella_objects::ReserveEntry;
use uuid::Uuid;

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
    /// When the hold ends.
    pub(crate) expires: Duration,
}

/// Everything placed on services, by instance.
#[derive(Debug, Default)]
pub(crate) struct Holds(pub(crate) HashMap<Uuid, Hold>);

impl Holds {
    /// Ends the holds whose time is up.
    pub(crate) fn expire(&mut self, now: Duration) {
        self.0.retain(|_, hold| hold.expires > now);
    }

    /// How many GiB are held on a service's host.
    pub(crate) fn held_gb(&self, service: &str, host: &str) -> f64 {
        let here = self.0.values().filter(|hold| *hold.service == *service && *hold.host == *host);
        here.map(|hold| hold.gb as f64).sum()
    }

    /// The entry for peers about an instance, and when its hold ends. `None` if this decision does not hold it.
    pub(crate) fn entry(&self, uuid: &Uuid, decision_id: &str) -> Option<(ReserveEntry, Duration)> {
        let hold = self.0.get(uuid).filter(|hold| *hold.decision_id == *decision_id)?;
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

    /// The instances that a decision holds, in no order.
    pub(crate) fn of_decision(&self, decision_id: &str) -> Vec<Uuid> {
        let of = self.0.iter().filter(|(_, hold)| *hold.decision_id == *decision_id);
        of.map(|(uuid, _)| *uuid).collect()
    }

    pub(crate) fn end(&mut self, uuid: &Uuid) {
        self.0.remove(uuid);
    }
}
