//! Decides who may report for a host: the order of reports, and what happens when names and identities meet.
//!
//! It is pure: what is known about the presented uuid and the presented name gives one verdict.
//!
//! What always holds:
//! - A report of a lower incarnation changes nothing, not even with its goodbye.
//! - A report without identity never touches a host that has one.
//! - A name gets another owner only if its owner has been silent or said goodbye.
//!
//! A restarted process has raised its incarnation, so it is accepted at once. A refused clone is accepted after its
//! next restart, or when the first identity is forgotten.

use uuid::Uuid;

/// The identity that a report presents, or that was last accepted for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The identity of the agent, which survives restarts.
    pub uuid: Uuid,
    /// The agent raises this number at every start.
    pub incarnation: u64,
    /// A random number that differs between processes.
    pub nonce: u64,
    /// The number of the report, counted from the start of the process.
    pub seq: u64,
}

/// Who has the presented name, if it is not the presented uuid itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameHolder {
    /// Nobody has the name.
    Nobody,
    /// A reporter without identity has the name.
    Anonymous,
    /// Another identity has the name and was heard recently.
    Live,
    /// Another identity has the name, but was silent for `service_down_time` or said goodbye.
    Silent(Uuid),
}

/// What the map must do with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentityVerdict {
    /// Add a new row under the name.
    Insert,
    /// Write the report to the row of this uuid. `gap` reports before it were missed.
    Update { gap: u64 },
    /// Write the report to the row of this uuid, and rename the row. A row that has the name is removed first.
    Rename { gap: u64, previous: Option<Uuid> },
    /// Give the row under the name to this identity.
    Adopt { previous: Option<Uuid> },
    /// Refuse the report, because it is older than what is known, or was seen already.
    Stale,
    /// Refuse the report, because another process reports with this uuid and incarnation.
    Cloned,
    /// Refuse the report, because the name belongs to an identity that was heard recently.
    DuplicateName,
}

/// Judges a report with identity. `known` is the last accepted identity of this uuid. `same_name` says that the row of
/// this uuid already has the presented name; `holder` is then [`NameHolder::Nobody`].
pub(crate) fn judge(
    known: Option<Identity>,
    same_name: bool,
    holder: NameHolder,
    presented: Identity,
) -> IdentityVerdict {
    let gap = match known {
        None => 0,
        Some(known) if presented.incarnation < known.incarnation => return IdentityVerdict::Stale,
        Some(known) if presented.incarnation > known.incarnation => 0,
        Some(known) if presented.nonce != known.nonce => return IdentityVerdict::Cloned,
        Some(known) if presented.seq <= known.seq => return IdentityVerdict::Stale,
        Some(known) => presented.seq - known.seq - 1,
    };
    match (known.is_some(), holder) {
        (_, NameHolder::Live) => IdentityVerdict::DuplicateName,
        (true, _) if same_name => IdentityVerdict::Update { gap },
        (true, NameHolder::Silent(previous)) => IdentityVerdict::Rename { gap, previous: Some(previous) },
        (true, _) => IdentityVerdict::Rename { gap, previous: None },
        (false, NameHolder::Nobody) => IdentityVerdict::Insert,
        (false, NameHolder::Anonymous) => IdentityVerdict::Adopt { previous: None },
        (false, NameHolder::Silent(previous)) => IdentityVerdict::Adopt { previous: Some(previous) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(uuid: u128, incarnation: u64, nonce: u64, seq: u64) -> Identity {
        Identity { uuid: Uuid::from_u128(uuid), incarnation, nonce, seq }
    }

    #[test]
    fn order_is_incarnation_then_seq_and_a_nonce_is_one_process() {
        let known = id(1, 5, 77, 10);
        for (presented, verdict) in [
            (id(1, 5, 77, 11), IdentityVerdict::Update { gap: 0 }),
            (id(1, 5, 77, 14), IdentityVerdict::Update { gap: 3 }),
            (id(1, 5, 77, 10), IdentityVerdict::Stale),
            (id(1, 5, 77, 9), IdentityVerdict::Stale),
            (id(1, 4, 77, 99), IdentityVerdict::Stale),
            (id(1, 4, 99, 99), IdentityVerdict::Stale),
            (id(1, 6, 99, 1), IdentityVerdict::Update { gap: 0 }),
            (id(1, 6, 77, 500), IdentityVerdict::Update { gap: 0 }),
            (id(1, 5, 78, 11), IdentityVerdict::Cloned),
            (id(1, 5, 78, 1), IdentityVerdict::Cloned),
        ] {
            assert_eq!(judge(Some(known), true, NameHolder::Nobody, presented), verdict, "{presented:?}");
        }
    }

    #[test]
    fn a_name_changes_hands_only_from_the_silent() {
        let (old, new) = (Uuid::from_u128(2), id(1, 1, 1, 1));
        for (holder, verdict) in [
            (NameHolder::Nobody, IdentityVerdict::Insert),
            (NameHolder::Anonymous, IdentityVerdict::Adopt { previous: None }),
            (NameHolder::Live, IdentityVerdict::DuplicateName),
            (NameHolder::Silent(old), IdentityVerdict::Adopt { previous: Some(old) }),
        ] {
            assert_eq!(judge(None, false, holder, new), verdict, "unknown uuid, {holder:?}");
        }
        let known = Some(id(1, 1, 1, 1));
        let next = id(1, 2, 3, 1);
        for (holder, verdict) in [
            (NameHolder::Nobody, IdentityVerdict::Rename { gap: 0, previous: None }),
            (NameHolder::Anonymous, IdentityVerdict::Rename { gap: 0, previous: None }),
            (NameHolder::Live, IdentityVerdict::DuplicateName),
            (NameHolder::Silent(old), IdentityVerdict::Rename { gap: 0, previous: Some(old) }),
        ] {
            assert_eq!(judge(known, false, holder, next), verdict, "known uuid, {holder:?}");
        }
        assert_eq!(judge(known, false, NameHolder::Silent(old), id(1, 0, 1, 9)), IdentityVerdict::Stale);
    }
}
