//! A hash of what is asked, equal on every scheduler, so that a repeated request is known again.

use novella_objects::RequestSpec;

use crate::fnv::Fnv;

/// A hash of what is asked, equal on every scheduler: everything but the instances and the attempt.
pub(crate) fn spec_hash(spec: &RequestSpec) -> u64 {
    let asked = RequestSpec { instance_uuids: Vec::new(), attempt: 0, ..spec.clone() };
    let mut hash = Fnv::new();
    serde_json::to_writer(&mut hash, &asked).expect("a request has only text keys, and hashing cannot fail");
    hash.finish()
}
