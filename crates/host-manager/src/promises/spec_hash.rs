//! A hash of a request that is equal on every scheduler, so that a repeated request is recognised.

use novella_objects::RequestSpec;
use serde::Serialize;

use crate::fnv::Fnv;

/// What is hashed: a request on the wire, without its instances and attempt. The empty fields stay, because schedulers of
/// other versions hash them too.
#[derive(Serialize)]
struct HashedSpec<'s> {
    instance_uuids: [(); 0],
    #[serde(flatten)]
    spec: &'s RequestSpec,
    attempt: u32,
}

/// A hash of what is asked, equal on every scheduler.
pub(crate) fn spec_hash(spec: &RequestSpec) -> u64 {
    let mut hash = Fnv::new();
    serde_json::to_writer(&mut hash, &HashedSpec { instance_uuids: [], spec, attempt: 0 })
        .expect("a request has only text keys, and hashing cannot fail");
    hash.finish()
}
