//! What was placed on services other than compute, until its time is up: no report lists such claims.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use novella_objects::ReserveEntry;
use uuid::Uuid;

/// One thing placed on a service.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) service: Box<str>,
    pub(crate) host: Box<str>,
    pub(crate) gb: u64,
    pub(crate) spec_hash: u64,
    pub(crate) decision_id: Arc<str>,
    pub(crate) expires: Duration,
}

/// Everything placed on services, by instance.
#[derive(Debug, Default)]
pub(crate) struct Holds(pub(crate) HashMap<Uuid, Hold>);

impl Holds {
    pub(crate) fn expire(&mut self, now: Duration) {
        self.0.retain(|_, hold| hold.expires > now);
    }

    pub(crate) fn held_gb(&self, service: &str, host: &str) -> f64 {
        let here = self.0.values().filter(|hold| *hold.service == *service && *hold.host == *host);
        here.map(|hold| hold.gb as f64).sum()
    }

    /// What this decision holds of this instance, as peers are told, and until when.
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

    pub(crate) fn of_decision(&self, decision_id: &str) -> Vec<Uuid> {
        let of = self.0.iter().filter(|(_, hold)| *hold.decision_id == *decision_id);
        of.map(|(uuid, _)| *uuid).collect()
    }

    pub(crate) fn end(&mut self, uuid: &Uuid) {
        self.0.remove(uuid);
    }
}
