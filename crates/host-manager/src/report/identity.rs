//! Who may speak for a host: the order of reports, and what to do with names and identities that meet.
//!
//! Pure: given what is known under the presented uuid and under the presented name, one verdict. What always holds: a
//! report of a lower incarnation changes nothing, its goodbye included; a report without identity never touches a host
//! that has one; a name changes hands only when its holder has been silent or said goodbye.
//!
//! A restarted process has raised its incarnation, so it needs no leave. A refused clone is let in by its next restart
//! or when the first identity is forgotten.

use uuid::Uuid;

/// The identity that a report presents, or that a row last accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uuid: Uuid,
    pub incarnation: u64,
    pub nonce: u64,
    pub seq: u64,
}

/// The row that holds the presented name, if it is another than the row of the presented uuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameHolder {
    /// The name is free.
    Nobody,
    /// A reporter without identity.
    Anonymous,
    /// Another identity, heard of lately.
    Live,
    /// Another identity, silent for `service_down_time` or gone with a goodbye.
    Silent(Uuid),
}

/// What the map must do with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Put a new row under the name.
    Insert,
    /// The row of this uuid takes the report; `gap` reports before it were missed.
    Update { gap: u64 },
    /// As `Update`, and the row's name changes; a row that holds the name is removed first.
    Rename { gap: u64, previous: Option<Uuid> },
    /// The row under the name becomes this identity's.
    Adopt { previous: Option<Uuid> },
    /// Older than what is known, or seen already.
    Stale,
    /// The uuid's incarnation belongs to another process.
    Cloned,
    /// The name belongs to a live identity.
    DuplicateName,
}

/// Judges a report with identity. `same_name`: the row of this uuid already has the presented name, in which case
/// `holder` is [`NameHolder::Nobody`].
pub(crate) fn judge(
    known: Option<Identity>,
    same_name: bool,
    holder: NameHolder,
    presented: Identity,
) -> Verdict {
    let gap = match known {
        None => 0,
        Some(known) if presented.incarnation < known.incarnation => return Verdict::Stale,
        Some(known) if presented.incarnation > known.incarnation => 0,
        Some(known) if presented.nonce != known.nonce => return Verdict::Cloned,
        Some(known) if presented.seq <= known.seq => return Verdict::Stale,
        Some(known) => presented.seq - known.seq - 1,
    };
    match (known.is_some(), holder) {
        (_, NameHolder::Live) => Verdict::DuplicateName,
        (true, _) if same_name => Verdict::Update { gap },
        (true, NameHolder::Silent(previous)) => Verdict::Rename { gap, previous: Some(previous) },
        (true, _) => Verdict::Rename { gap, previous: None },
        (false, NameHolder::Nobody) => Verdict::Insert,
        (false, NameHolder::Anonymous) => Verdict::Adopt { previous: None },
        (false, NameHolder::Silent(previous)) => Verdict::Adopt { previous: Some(previous) },
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
            (id(1, 5, 77, 11), Verdict::Update { gap: 0 }),
            (id(1, 5, 77, 14), Verdict::Update { gap: 3 }),
            (id(1, 5, 77, 10), Verdict::Stale),
            (id(1, 5, 77, 9), Verdict::Stale),
            (id(1, 4, 77, 99), Verdict::Stale),
            (id(1, 4, 99, 99), Verdict::Stale),
            (id(1, 6, 99, 1), Verdict::Update { gap: 0 }),
            (id(1, 6, 77, 500), Verdict::Update { gap: 0 }),
            (id(1, 5, 78, 11), Verdict::Cloned),
            (id(1, 5, 78, 1), Verdict::Cloned),
        ] {
            assert_eq!(judge(Some(known), true, NameHolder::Nobody, presented), verdict, "{presented:?}");
        }
    }

    #[test]
    fn a_name_changes_hands_only_from_the_silent() {
        let (old, new) = (Uuid::from_u128(2), id(1, 1, 1, 1));
        for (holder, verdict) in [
            (NameHolder::Nobody, Verdict::Insert),
            (NameHolder::Anonymous, Verdict::Adopt { previous: None }),
            (NameHolder::Live, Verdict::DuplicateName),
            (NameHolder::Silent(old), Verdict::Adopt { previous: Some(old) }),
        ] {
            assert_eq!(judge(None, false, holder, new), verdict, "unknown uuid, {holder:?}");
        }
        let known = Some(id(1, 1, 1, 1));
        let next = id(1, 2, 3, 1);
        for (holder, verdict) in [
            (NameHolder::Nobody, Verdict::Rename { gap: 0, previous: None }),
            (NameHolder::Anonymous, Verdict::Rename { gap: 0, previous: None }),
            (NameHolder::Live, Verdict::DuplicateName),
            (NameHolder::Silent(old), Verdict::Rename { gap: 0, previous: Some(old) }),
        ] {
            assert_eq!(judge(known, false, holder, next), verdict, "known uuid, {holder:?}");
        }
        assert_eq!(judge(known, false, NameHolder::Silent(old), id(1, 0, 1, 9)), Verdict::Stale);
    }
}
