//! Who this host is: a uuid for ever, and an incarnation that grows with every process.
//!
//! Always holds: the incarnation is raised and synced to the store before the process sends its first report, so that a
//! scheduler can tell an old process's late report from a new one's. The host name is an attribute, not the identity:
//! it may change, and the host stays the same. Copying the file to another host clones the identity; the scheduler
//! sees two process nonces under one incarnation, names both hosts and refuses the later.

use std::sync::Arc;

use novella_service::{Env, Panicked, Store, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of the file in the state directory.
pub const IDENTITY_FILE: &str = "identity.json";

/// The identity that this process reports under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the host.
    pub uuid: Uuid,
    /// Of the process: one more than that of any before it.
    pub incarnation: u64,
    /// Random per process.
    pub nonce: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    uuid: Uuid,
    incarnation: u64,
}

/// The identity could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store failed: unreadable, full, read-only ...
    #[error("the identity of this host could not be {attempted}")]
    Store {
        /// `read` or `written`.
        attempted: &'static str,
        /// Path and cause.
        #[source]
        source: StoreError,
    },
    /// The file holds something else. It is never overwritten: a new uuid would make this host a stranger.
    #[error(
        "{IDENTITY_FILE} in the state directory does not hold an identity ({reason}); \
         restore it from a backup, or remove it to make this host a new one"
    )]
    Malformed {
        /// serde's words, or what is impossible about it.
        reason: String,
    },
    /// The store panicked, or the runtime is being shut down.
    #[error("the identity of this host could not be read")]
    Panicked(#[from] Panicked),
}

/// Reads the identity, or makes it on the first start, and raises its incarnation durably.
pub async fn take_up(env: &Env) -> Result<Identity, IdentityError> {
    let fresh = env.random.uuid();
    let nonce = env.random.u64();
    let store = env.store.clone();
    let record = env.blocking.run(move || raise(&store, fresh)).await??;
    Ok(Identity { uuid: record.uuid, incarnation: record.incarnation, nonce })
}

fn raise(store: &Arc<dyn Store>, fresh: Uuid) -> Result<Record, IdentityError> {
    let before = store
        .read(IDENTITY_FILE)
        .map_err(|source| IdentityError::Store { attempted: "read", source })?
        .map(|bytes| serde_json::from_slice::<Record>(&bytes))
        .transpose()
        .map_err(|error| IdentityError::Malformed { reason: error.to_string() })?
        .unwrap_or(Record { uuid: fresh, incarnation: 0 });
    let incarnation = before.incarnation.checked_add(1).ok_or_else(|| IdentityError::Malformed {
        reason: format!("incarnation {} cannot be raised", before.incarnation),
    })?;
    let record = Record { uuid: before.uuid, incarnation };
    let text = serde_json::to_vec_pretty(&record).expect("a uuid and a number are JSON");
    store
        .write_durable(IDENTITY_FILE, &text)
        .map_err(|source| IdentityError::Store { attempted: "written", source })?;
    Ok(record)
}
