//! What hosts have granted, compactly, and which host an instance is on.
//!
//! A host's claims stay in the sender's order, so that the usual report, which repeats them or adds one, is compared
//! from both ends and touches the index only for what lies between. A uuid that several hosts list is indexed once for
//! each of them.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use novella_objects::{Claim, Entries};
use uuid::Uuid;

use super::check;
use super::outcome::BadReport;
use super::packed::{Packed, Sink};

/// One claim; its amounts were checked to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimRow {
    pub uuid: Uuid,
    pub vcpus: u32,
    pub memory_mb: u32,
    pub disk_gb: u32,
}

impl ClaimRow {
    fn new(claim: &Claim<'_>) -> Result<Self, BadReport> {
        check::claim(claim)?;
        Ok(Self {
            uuid: claim.uuid,
            vcpus: claim.vcpus,
            memory_mb: claim.memory_mb as u32,
            disk_gb: claim.disk_gb as u32,
        })
    }

    fn is(&self, claim: &Claim<'_>) -> bool {
        self.uuid == claim.uuid
            && self.vcpus == claim.vcpus
            && u64::from(self.memory_mb) == claim.memory_mb
            && u64::from(self.disk_gb) == claim.disk_gb
    }
}

/// The claims of one host.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    rows: Vec<ClaimRow>,
    /// Groups and custom resources; empty when no claim has any.
    more: Packed,
}

/// Puts the parts of claims that few have: position, group, resources.
fn put_more(claims: &[Claim<'_>], sink: &mut Sink<'_>) {
    for (at, claim) in claims.iter().enumerate() {
        if claim.group.is_some() || !claim.resources.is_empty() {
            sink.number(at as u64);
            sink.optional(claim.group.as_deref());
            sink.number(claim.resources.0.len() as u64);
            for (class, amount) in claim.resources.iter() {
                sink.text(class);
                sink.number(*amount);
            }
        }
    }
}

/// What a new list of claims changes.
pub(crate) struct ClaimChange {
    /// Claims that stay, at the front of the list.
    prefix: usize,
    /// Claims that go, after the prefix.
    gone: usize,
    /// Claims that come in their place.
    come: Vec<ClaimRow>,
    more: Option<Packed>,
}

impl Claims {
    pub fn rows(&self) -> &[ClaimRow] {
        &self.rows
    }

    /// Compares with a report's list. `None`: nothing changed. An error: the report is to be refused.
    pub fn compare(&self, claims: &[Claim<'_>]) -> Result<Option<ClaimChange>, BadReport> {
        let prefix = self.rows.iter().zip(claims).take_while(|(row, claim)| row.is(claim)).count();
        let (old, new) = (&self.rows[prefix..], &claims[prefix..]);
        let suffix = old.iter().rev().zip(new.iter().rev()).take_while(|(row, claim)| row.is(claim)).count();
        let same_more = self.more.matches(|sink| put_more(claims, sink));
        if old.is_empty() && new.is_empty() && same_more {
            return Ok(None);
        }
        let come: Result<Vec<_>, _> = new[..new.len() - suffix].iter().map(ClaimRow::new).collect();
        let more = if same_more {
            None
        } else {
            claims.iter().try_for_each(check::claim)?;
            Some(Packed::build(|sink| put_more(claims, sink)))
        };
        Ok(Some(ClaimChange { prefix, gone: old.len() - suffix, come: come?, more }))
    }

    /// Applies a change that [`Self::compare`] found, and returns the claims that came.
    pub fn apply(&mut self, change: ClaimChange, host: u32, index: &mut ClaimIndex) -> Vec<ClaimRow> {
        let ClaimChange { prefix, gone, come, more } = change;
        for row in &self.rows[prefix..prefix + gone] {
            index.remove(row.uuid, host);
        }
        for row in &come {
            index.insert(row.uuid, host);
        }
        self.rows.splice(prefix..prefix + gone, come.iter().copied());
        if self.rows.capacity() > 2 * self.rows.len() {
            self.rows.shrink_to_fit();
        }
        if let Some(more) = more {
            self.more = more;
        }
        come
    }

    /// Takes all of a host's claims out of the index, because the host leaves the map.
    pub fn unlist(&self, host: u32, index: &mut ClaimIndex) {
        for row in &self.rows {
            index.remove(row.uuid, host);
        }
    }

    /// The claims as they were reported.
    pub fn list(&self) -> Vec<Claim<'_>> {
        let mut claims: Vec<Claim<'_>> = self
            .rows
            .iter()
            .map(|row| Claim {
                uuid: row.uuid,
                vcpus: row.vcpus,
                memory_mb: row.memory_mb.into(),
                disk_gb: row.disk_gb.into(),
                group: None,
                resources: Entries::default(),
            })
            .collect();
        let mut pieces = self.more.read();
        while !pieces.is_empty() {
            let claim = &mut claims[pieces.number() as usize];
            claim.group = pieces.optional().map(Into::into);
            let resources = pieces.number();
            claim.resources =
                Entries((0..resources).map(|_| (pieces.text().into(), pieces.number())).collect());
        }
        claims
    }
}

/// Which hosts list an instance. Keeps a short hash of the uuid; the host's own claims tell whether it is the one.
#[derive(Debug, Default)]
pub(crate) struct ClaimIndex {
    /// (hash, host).
    entries: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
}

/// Spreads the short hash over the bits that the table looks at.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl ClaimIndex {
    fn hash(&self, uuid: Uuid) -> u32 {
        self.hasher.hash_one(uuid.as_u128()) as u32
    }

    fn insert(&mut self, uuid: Uuid, host: u32) {
        let hash = self.hash(uuid);
        self.entries.insert_unique(spread(hash), (hash, host), |&(hash, _)| spread(hash));
    }

    fn remove(&mut self, uuid: Uuid, host: u32) {
        let hash = self.hash(uuid);
        if let Ok(entry) = self.entries.find_entry(spread(hash), |&entry| entry == (hash, host)) {
            entry.remove();
        }
    }

    /// The first host in fleet order whose claims, given by `claims_of`, list the instance.
    pub fn find<'a>(
        &self,
        uuid: Uuid,
        claims_of: impl Fn(u32) -> Option<&'a Claims>,
    ) -> Option<(u32, ClaimRow)> {
        let hash = self.hash(uuid);
        let listed = |&(_, host): &(u32, u32)| {
            let rows = claims_of(host)?.rows();
            rows.iter().find(|row| row.uuid == uuid).map(|row| (host, *row))
        };
        let entries = self.entries.iter_hash(spread(hash)).filter(|entry| entry.0 == hash);
        entries.filter_map(listed).min_by_key(|(host, _)| *host)
    }

    /// How many claims are listed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(uuid: u128, memory_mb: u64) -> Claim<'static> {
        Claim {
            uuid: Uuid::from_u128(uuid),
            vcpus: 1,
            memory_mb,
            disk_gb: 1,
            group: None,
            resources: Entries::default(),
        }
    }

    /// Applies `lists` one after another and checks the stored claims and the index after each.
    #[test]
    fn the_index_follows_any_change_of_the_list() {
        let (mut claims, mut index) = (Claims::default(), ClaimIndex::default());
        let grouped = Claim { group: Some("g".into()), ..claim(2, 2) };
        let with_resources = Claim { resources: Entries(vec![("CUSTOM_GPU".into(), 2)]), ..claim(3, 3) };
        for list in [
            vec![claim(1, 1), claim(2, 2), claim(3, 3)],
            vec![claim(1, 1), claim(3, 3)],
            vec![claim(9, 9), claim(1, 1), claim(3, 3), claim(4, 4)],
            vec![claim(9, 9), claim(1, 7), claim(3, 3), claim(4, 4)],
            vec![claim(4, 4), claim(3, 3), claim(1, 7), claim(9, 9)],
            vec![claim(4, 4), claim(4, 4), claim(4, 4)],
            vec![claim(4, 4)],
            vec![claim(4, 4), grouped.clone()],
            vec![claim(4, 4), claim(2, 2)],
            vec![grouped, with_resources],
            vec![],
        ] {
            let change = claims.compare(&list).unwrap().expect("every list differs from the one before");
            claims.apply(change, 5, &mut index);
            assert_eq!(claims.list(), list);
            assert!(claims.compare(&list).unwrap().is_none());
            assert_eq!(index.len(), list.len());
            for uuid in (1..10).map(Uuid::from_u128) {
                let found = index.find(uuid, |host| (host == 5).then_some(&claims));
                assert_eq!(found.is_some(), list.iter().any(|claim| claim.uuid == uuid), "{uuid}");
            }
        }
    }

    #[test]
    fn an_absurd_claim_refuses_the_list_and_changes_nothing() {
        let (mut claims, mut index) = (Claims::default(), ClaimIndex::default());
        let change = claims.compare(&[claim(1, 1)]).unwrap().unwrap();
        claims.apply(change, 0, &mut index);
        assert!(claims.compare(&[claim(1, 1), claim(2, u64::MAX)]).is_err());
        assert_eq!((claims.rows().len(), index.len()), (1, 1));
    }
}
