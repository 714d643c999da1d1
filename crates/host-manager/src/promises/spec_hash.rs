//! A hash of a request that is equal on every scheduler, so that a repeated request is recognised.

use novella_objects::RequestSpec;

use crate::fnv::Fnv;

/// The hash of everything in a request but its instances and its attempt.
pub(crate) fn spec_hash(spec: &RequestSpec) -> u64 {
    let asked = RequestSpec { instance_uuids: Vec::new(), attempt: 0, ..spec.clone() };
    let mut hash = Fnv::new();
    serde_json::to_writer(&mut hash, &asked).expect("a request has only text keys, and hashing cannot fail");
    hash.finish()
}
