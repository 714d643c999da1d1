//! What a host says of the claims that it granted: the decision, the owner, the rank, and the instance.
//!
//! None of it changes where instances are placed, so it lies beside the claims, and a report that differs only here
//! touches no column of the engine.
//!
//! What always holds: a grant belongs to the claim at its position in the list of the same report.

use novella_objects::{Claim, Rank};
use uuid::Uuid;

use crate::report::packed::{Packed, Pieces, Sink};

/// The grants of one host.
#[derive(Debug, Default)]
pub(crate) struct Grants(Packed);

/// What a host says of one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GrantRef<'a> {
    pub decision: Option<&'a str>,
    pub user: Option<&'a str>,
    pub rank: Option<Rank>,
    pub spec_hash: Option<u64>,
    pub migration: Option<Uuid>,
    /// The instance, as JSON text.
    pub instance: Option<&'a str>,
}

impl<'a> GrantRef<'a> {
    fn of(claim: &'a Claim<'_>) -> Self {
        let Claim { rank, spec_hash, migration, .. } = *claim;
        let (decision, user) = (claim.decision.as_deref(), claim.user.as_deref());
        let instance = claim.instance.as_ref().map(|text| text.get());
        Self { decision, user, rank, spec_hash, migration, instance }
    }

    fn is_empty(&self) -> bool {
        let Self { decision, user, rank, spec_hash, migration, instance } = self;
        let numbers = rank.is_some() || spec_hash.is_some() || migration.is_some();
        !numbers && decision.is_none() && user.is_none() && instance.is_none()
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.optional(self.decision);
        sink.optional(self.user);
        sink.optional_number(
            self.rank.map(|rank| u64::from(rank.attempt) << 32 | u64::from(rank.try_number)),
        );
        sink.optional_number(self.spec_hash);
        let (high, low) = self.migration.map(|uuid| uuid.as_u64_pair()).unzip();
        sink.optional_number(high);
        sink.optional_number(low);
        sink.optional(self.instance);
    }

    fn read(pieces: &mut Pieces<'a>) -> Self {
        let (decision, user) = (pieces.optional(), pieces.optional());
        let rank = pieces.optional_number();
        let rank = rank.map(|rank| Rank { attempt: (rank >> 32) as u32, try_number: rank as u32 });
        let spec_hash = pieces.optional_number();
        let migration = pieces.optional_number().zip(pieces.optional_number());
        let migration = migration.map(|(high, low)| Uuid::from_u64_pair(high, low));
        let instance = pieces.optional();
        Self { decision, user, rank, spec_hash, migration, instance }
    }
}

fn put(claims: &[Claim<'_>], sink: &mut Sink<'_>) {
    for (at, claim) in claims.iter().enumerate() {
        let grant = GrantRef::of(claim);
        if !grant.is_empty() {
            sink.number(at as u64);
            grant.put(sink);
        }
    }
}

impl Grants {
    /// The grants of a report's claims, if they differ from these.
    pub fn compare(&self, claims: &[Claim<'_>]) -> Option<Self> {
        let same = self.0.matches(|sink| put(claims, sink));
        (!same).then(|| Self(Packed::build(|sink| put(claims, sink))))
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Each grant with the position of its claim, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, GrantRef<'_>)> {
        let mut pieces = self.0.read();
        std::iter::from_fn(move || {
            (!pieces.is_empty()).then(|| (pieces.number() as usize, GrantRef::read(&mut pieces)))
        })
    }

    /// The grant of the claim at this position.
    pub fn at(&self, position: usize) -> Option<GrantRef<'_>> {
        self.iter().find(|(at, _)| *at == position).map(|(_, grant)| grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::reported::raw;

    #[test]
    fn what_was_granted_is_read_again_and_any_difference_is_seen() {
        let plain = Claim { uuid: Uuid::from_u128(1), ..Claim::default() };
        let granted = Claim {
            uuid: Uuid::from_u128(2),
            decision: Some("s1-1-0".into()),
            user: Some("ann".into()),
            rank: Some(Rank { attempt: 3, try_number: u32::MAX }),
            spec_hash: Some(u64::MAX),
            migration: Some(Uuid::from_u128(u128::MAX - 7)),
            instance: Some(raw(r#"{"name":"web1","vm_state":"active"}"#)),
            ..Claim::default()
        };
        let in_part = Claim { rank: Some(Rank::default()), ..plain.clone() };
        let list = [plain.clone(), granted.clone(), plain, in_part.clone()];
        let grants = Grants::default().compare(&list).expect("some are granted");
        let read: Vec<_> = grants.iter().collect();
        assert_eq!(read, [(1, GrantRef::of(&granted)), (3, GrantRef::of(&in_part))]);
        assert_eq!((grants.at(3).unwrap().rank, grants.at(0)), (Some(Rank::default()), None));
        assert!(grants.compare(&list).is_none());
        let changes: [fn(&mut Claim<'_>); 6] = [
            |claim| claim.decision = None,
            |claim| claim.user = Some("anne".into()),
            |claim| claim.rank = Some(Rank { attempt: 3, try_number: 1 }),
            |claim| claim.spec_hash = Some(0),
            |claim| claim.migration = None,
            |claim| claim.instance = Some(raw("{}")),
        ];
        for change in changes {
            let mut other = list.clone();
            change(&mut other[1]);
            assert!(grants.compare(&other).is_some(), "{:?}", other[1]);
        }
        assert!(Grants::default().compare(&[Claim::default()]).is_none(), "a bare claim says nothing of it");
    }
}
