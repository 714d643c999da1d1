//! The identity of this host: a uuid that never changes, and an incarnation that grows with every process.
//!
//! What always holds: the incarnation is raised and synced to the store before the process sends its first report, so that
//! a scheduler can tell a late report of an old process from one of the new process. The host name is not the identity: it
//! may change, and the host stays the same. Copying the file to another host clones the identity. The scheduler then hears
//! one uuid from two processes under two names. It reports both hosts and refuses the one that it heard later.

use std::path::PathBuf;
use std::sync::Arc;

use novella_service::{Env, Panicked, Store, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of the file in the state directory.
pub const IDENTITY_FILE: &str = "identity.json";

/// The identity that this process reports under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Uuid of the host.
    pub uuid: Uuid,
    /// Number of the process: one more than that of the previous process.
    pub incarnation: u64,
    /// Random number of the process.
    pub nonce: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    uuid: Uuid,
    incarnation: u64,
}

/// Why the identity could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store failed, for example because it is full or read-only.
    #[error("the identity of this host could not be {attempted}")]
    Store {
        /// `read` or `written`.
        attempted: &'static str,
        /// The path and the cause.
        #[source]
        source: StoreError,
    },
    /// The file holds no valid identity. It is never overwritten, because with a new uuid this would be another host.
    #[error("{} is not a valid identity file: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with the contents.
        reason: String,
    },
    /// The store panicked, or the runtime is being shut down.
    #[error("the identity of this host could not be read")]
    Panicked(#[from] Panicked),
}

/// Reads the identity, or makes one on the first start, and durably raises the incarnation.
pub async fn load(env: &Env) -> Result<Identity, IdentityError> {
    let fresh = env.random.uuid();
    let nonce = env.random.u64();
    let store = env.store.clone();
    let record = env.blocking.run(move || raise(&store, fresh)).await??;
    Ok(Identity { uuid: record.uuid, incarnation: record.incarnation, nonce })
}

fn raise(store: &Arc<dyn Store>, fresh: Uuid) -> Result<Record, IdentityError> {
    let malformed = |reason: String| IdentityError::Malformed { path: store.location(IDENTITY_FILE), reason };
    let before = store
        .read(IDENTITY_FILE)
        .map_err(|source| IdentityError::Store { attempted: "read", source })?
        .map(|bytes| serde_json::from_slice::<Record>(&bytes))
        .transpose()
        .map_err(|error| malformed(error.to_string()))?
        .unwrap_or(Record { uuid: fresh, incarnation: 0 });
    let raised = before.incarnation.checked_add(1);
    let incarnation =
        raised.ok_or_else(|| malformed(format!("incarnation {} cannot be raised", before.incarnation)))?;
    let record = Record { uuid: before.uuid, incarnation };
    let text = serde_json::to_vec_pretty(&record).expect("a uuid and a number are JSON");
    store
        .write_durable(IDENTITY_FILE, &text)
        .map_err(|source| IdentityError::Store { attempted: "written", source })?;
    Ok(record)
}
