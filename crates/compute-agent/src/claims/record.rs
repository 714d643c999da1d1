//! The records of the store: one for each claim or hold, one for each instance that the driver builds, one for each instance
//! that ended, and the running time.
//!
//! What always holds: a record stands for itself, so that losing the newest leaves a book that was right a moment before.
//! Records are JSON, and fields that this version does not know are an error, because dropping them would lose something.
//!
//! Left out: what the records mean together (`book`), and how they get onto the disk.

use std::time::Duration;

use novella_objects::{InstanceClaim, InstanceEvent, InstanceState, Rank};
use novella_service::Change;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The first bytes of the keys of claims and holds.
const CLAIM: &str = "claim/";
/// The first bytes of the keys of ended instances.
const ENDED: &str = "ended/";
/// The first bytes of the keys of instances that the driver builds.
const INSTANCE: &str = "instance/";
/// The key of the running time.
const RUNNING: &str = "running";

/// A claim or a hold that was granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimRecord {
    /// What was asked for. Its rank is the highest so far.
    pub claim: InstanceClaim,
    /// The decision that chose this host.
    pub decision_id: String,
    /// The broker user to whom the instance belongs. `None` if it belongs to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Time that was left of the hold when this was written. `None` if it is a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_left_ms: Option<u64>,
}

/// An instance that the driver builds, or has built, for a claim.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstanceRecord {
    /// Its state, as reports show it.
    pub state: InstanceState,
    /// What happened to it last, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<InstanceEvent>,
    /// Why its guest is destroyed. `None` if the guest is to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// Why a guest is destroyed, which decides what may be claimed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum Ending {
    /// The build failed. A claim with a higher rank than this may come.
    FailedBuild(Rank),
    /// A scheduler ended the instance. A claim with a higher rank may come, or none if there is no rank.
    Terminated(Option<Rank>),
}

impl Ending {
    /// The rank up to which claims are refused once the guest is gone. `None` if all are.
    pub fn up_to_rank(self) -> Option<Rank> {
        match self {
            Self::FailedBuild(rank) => Some(rank),
            Self::Terminated(rank) => rank,
        }
    }
}

/// An instance that ended on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndedRecord {
    /// When it ended, by the [running time](Running).
    pub at_ms: u64,
    /// A claim with a higher rank may come. `None` if none may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to_rank: Option<Rank>,
}

/// How long agents have run on this host, all processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Running {
    pub ms: u64,
}

/// Why a store cannot be read as claims.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRecord {
    /// No record of this version has such a key.
    #[error("a record has the unknown key {key:?}")]
    Key {
        /// The key.
        key: String,
    },
    /// The contents are not those of such a record.
    #[error("the record {key:?} is malformed")]
    Value {
        /// The key of the record.
        key: String,
        /// What is wrong with the contents.
        #[source]
        source: serde_json::Error,
    },
}

/// Everything that a store has.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub claims: Vec<(Uuid, ClaimRecord)>,
    pub ended: Vec<(Uuid, EndedRecord)>,
    pub instances: Vec<(Uuid, InstanceRecord)>,
    pub running: Running,
}

impl Records {
    /// Reads the pairs of a store.
    pub fn read(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Self, BadRecord> {
        let mut records = Self::default();
        for (key, value) in pairs {
            let key = String::from_utf8_lossy(&key);
            let unknown = || BadRecord::Key { key: key.to_string() };
            let malformed = |source| BadRecord::Value { key: key.to_string(), source };
            let uuid = |text: &str| text.parse::<Uuid>().map_err(|_| unknown());
            if let Some(text) = key.strip_prefix(CLAIM) {
                records.claims.push((uuid(text)?, serde_json::from_slice(&value).map_err(malformed)?));
            } else if let Some(text) = key.strip_prefix(ENDED) {
                records.ended.push((uuid(text)?, serde_json::from_slice(&value).map_err(malformed)?));
            } else if let Some(text) = key.strip_prefix(INSTANCE) {
                records.instances.push((uuid(text)?, serde_json::from_slice(&value).map_err(malformed)?));
            } else if key == RUNNING {
                records.running = serde_json::from_slice(&value).map_err(malformed)?;
            } else {
                return Err(unknown());
            }
        }
        Ok(records)
    }
}

fn put(key: String, value: &impl Serialize) -> Change {
    let value = serde_json::to_vec(value).expect("a record has only text keys");
    Change { key: key.into_bytes(), value: Some(value) }
}

fn delete(key: String) -> Change {
    Change { key: key.into_bytes(), value: None }
}

/// Writes a claim or a hold.
pub(crate) fn put_claim(uuid: Uuid, record: &ClaimRecord) -> Change {
    put(format!("{CLAIM}{uuid}"), record)
}

/// Deletes a claim or a hold.
pub(crate) fn delete_claim(uuid: Uuid) -> Change {
    delete(format!("{CLAIM}{uuid}"))
}

/// Writes that an instance ended.
pub(crate) fn put_ended(uuid: Uuid, record: &EndedRecord) -> Change {
    put(format!("{ENDED}{uuid}"), record)
}

/// Forgets that an instance ended.
pub(crate) fn delete_ended(uuid: Uuid) -> Change {
    delete(format!("{ENDED}{uuid}"))
}

/// Writes an instance.
pub(crate) fn put_instance(uuid: Uuid, record: &InstanceRecord) -> Change {
    put(format!("{INSTANCE}{uuid}"), record)
}

/// Deletes an instance.
pub(crate) fn delete_instance(uuid: Uuid) -> Change {
    delete(format!("{INSTANCE}{uuid}"))
}

/// Writes the running time.
pub(crate) fn put_running(running: Duration) -> Change {
    let ms = u64::try_from(running.as_millis()).unwrap_or(u64::MAX);
    put(RUNNING.to_owned(), &Running { ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let claim = ClaimRecord {
            claim: InstanceClaim::default(),
            decision_id: "s1-1-0".to_owned(),
            user: None,
            hold_left_ms: Some(7),
        };
        let ended = EndedRecord { at_ms: 5, up_to_rank: Some(Rank { attempt: 2, try_number: 1 }) };
        let uuid = Uuid::from_u128(9);
        let instance = InstanceRecord { ending: Some(Ending::Terminated(None)), ..InstanceRecord::default() };
        let written = [
            put_claim(uuid, &claim),
            put_ended(uuid, &ended),
            put_instance(uuid, &instance),
            put_running(Duration::from_secs(3)),
        ];
        let pairs = written.into_iter().map(|Change { key, value }| (key, value.expect("it was put")));
        let records = Records::read(pairs.collect()).unwrap();
        assert_eq!((records.claims, records.ended), (vec![(uuid, claim)], vec![(uuid, ended)]));
        assert_eq!(records.instances, vec![(uuid, instance)]);
        assert_eq!(records.running, Running { ms: 3000 });
    }

    #[test]
    fn what_is_no_record_is_named() {
        for (key, value, said) in [
            ("clam/1", "{}", r#"a record has the unknown key "clam/1""#),
            ("claim/1", "{}", r#"a record has the unknown key "claim/1""#),
            ("running", r#"{"ms":1,"years":2}"#, r#"the record "running" is malformed"#),
            ("running", "", r#"the record "running" is malformed"#),
        ] {
            let pairs = vec![(key.as_bytes().to_vec(), value.as_bytes().to_vec())];
            assert_eq!(Records::read(pairs).unwrap_err().to_string(), said, "{key} {value}");
        }
    }
}
