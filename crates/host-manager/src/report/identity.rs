//! Decides who may report for a host: the order of reports, and what happens when names and identities meet.
//!
//! It is pure: what is known about the presented uuid and the presented name gives one verdict.
//!
//! What always holds:
//! - A name gets another owner, and an identity another name, only if the present one has been silent or said goodbye.
//! - While the present process of an identity is heard, a report of a lower incarnation changes nothing, not even with
//!   its goodbye. Another process cannot say goodbye for it, and the host keeps its name.
//! - Numbers grow by [`MAX_JUMP`] at most, so that nobody can take a host for good with a number that no restart reaches.
//! - A report without identity never touches a host that has one.
//!
//! A restarted process has raised its incarnation, so it is accepted at once. A process that presents a known identity
//! under another name, while the old name is heard, has a copy of the identity file: it is a clone, and the host keeps
//! its name. Which of two has the copy cannot be known, so the one that was heard first is kept.
//!
//! A clone is refused until the other has been silent for `service_down_time`. Then the process that still reports has the
//! identity, whatever its incarnation, because a report that was delayed for so long has expired at the broker.

use uuid::Uuid;

/// By how much an incarnation or the number of a report may exceed the last one. A process that restarts every second and is
/// not heard needs twelve days to get there.
pub(crate) const MAX_JUMP: u64 = 1 << 20;

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

impl Identity {
    /// Whether both are of the same process.
    pub fn is_process(&self, other: &Self) -> bool {
        (self.uuid, self.incarnation, self.nonce) == (other.uuid, other.incarnation, other.nonce)
    }
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
    /// Refuse the report, because another process reports with this uuid.
    Cloned,
    /// Refuse the report, because a number in it exceeds the last one by more than [`MAX_JUMP`].
    TooFar,
    /// Refuse the report, because the name belongs to an identity that was heard recently.
    DuplicateName,
}

impl IdentityVerdict {
    /// Whether the host may change by the report. So may a stale one, if its process turns out to still run.
    pub fn may_change_the_host(self) -> bool {
        !matches!(self, Self::Cloned | Self::TooFar | Self::DuplicateName)
    }
}

/// What is known of the host that has the presented uuid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownHost {
    /// The identity that was last accepted.
    pub identity: Identity,
    /// Whether it has the presented name.
    pub same_name: bool,
    /// Whether it is still there.
    pub presence: Presence,
    /// Whether two processes quarrel for it, so that no further process gets it.
    pub quarrel: bool,
}

/// Whether the process that has an identity is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It was heard recently, or it said goodbye recently while another process was about. The goodbye may be a restart.
    Here,
    /// It said goodbye recently, and nobody else used its identity.
    Left,
    /// It has been silent for `service_down_time`.
    Silent,
}

/// Judges a report with identity, which may be a goodbye. `known` is the host of this uuid, if there is one. If it has the
/// presented name, `holder` is [`NameHolder::Nobody`].
pub(crate) fn judge(
    known: Option<KnownHost>,
    holder: NameHolder,
    presented: Identity,
    goodbye: bool,
) -> IdentityVerdict {
    let gap = match known.map(|known| order(known, presented, goodbye)) {
        None => 0,
        Some(Ok(gap)) => gap,
        Some(Err(refused)) => return refused,
    };
    let same_name = known.is_some_and(|known| known.same_name);
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

/// How many reports were missed before this one, or why it may not follow the last accepted report of its identity.
fn order(known: KnownHost, presented: Identity, goodbye: bool) -> Result<u64, IdentityVerdict> {
    let KnownHost { identity: last, same_name, presence, quarrel } = known;
    let same_process = presented.is_process(&last);
    if same_process && presented.seq <= last.seq {
        return Err(IdentityVerdict::Stale);
    }
    let gap = if same_process { presented.seq - last.seq - 1 } else { 0 };
    match presence {
        Presence::Silent => Ok(gap),
        // A process keeps its name as long as it runs.
        Presence::Here if !same_name => Err(IdentityVerdict::Cloned),
        _ if same_process && gap > MAX_JUMP => Err(IdentityVerdict::TooFar),
        _ if same_process => Ok(gap),
        _ if presented.incarnation < last.incarnation => Err(IdentityVerdict::Stale),
        _ if presented.incarnation == last.incarnation || quarrel => Err(IdentityVerdict::Cloned),
        _ if presented.incarnation - last.incarnation > MAX_JUMP => Err(IdentityVerdict::TooFar),
        Presence::Here if goodbye => Err(IdentityVerdict::Stale),
        _ => Ok(gap),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(uuid: u128, incarnation: u64, nonce: u64, seq: u64) -> Identity {
        Identity { uuid: Uuid::from_u128(uuid), incarnation, nonce, seq }
    }

    fn known(same_name: bool, presence: Presence) -> Option<KnownHost> {
        Some(KnownHost { identity: id(1, 5, 77, 10), same_name, presence, quarrel: false })
    }

    #[test]
    fn order_is_incarnation_then_seq_and_a_nonce_is_one_process() {
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
            for presence in [Presence::Here, Presence::Left] {
                let judged = judge(known(true, presence), NameHolder::Nobody, presented, false);
                assert_eq!(judged, verdict, "{presented:?}, {presence:?}");
            }
        }
    }

    #[test]
    fn an_identity_changes_its_name_only_when_its_process_is_gone() {
        let rename = IdentityVerdict::Rename { gap: 0, previous: None };
        let (older, same, newer) = (id(1, 4, 99, 3), id(1, 5, 99, 3), id(1, 6, 99, 1));
        for (presence, presented, verdict) in [
            (Presence::Here, older, IdentityVerdict::Cloned),
            (Presence::Here, same, IdentityVerdict::Cloned),
            (Presence::Here, newer, IdentityVerdict::Cloned),
            (Presence::Left, older, IdentityVerdict::Stale),
            (Presence::Left, same, IdentityVerdict::Cloned),
            (Presence::Left, newer, rename),
            (Presence::Silent, older, rename),
            (Presence::Silent, same, rename),
            (Presence::Silent, newer, rename),
            (Presence::Here, id(1, 5, 77, 11), IdentityVerdict::Cloned),
            (Presence::Left, id(1, 5, 77, 11), rename), // the process itself
        ] {
            let judged = judge(known(false, presence), NameHolder::Nobody, presented, false);
            assert_eq!(judged, verdict, "{presented:?}, {presence:?}");
        }
    }

    #[test]
    fn numbers_do_not_jump_while_the_process_may_be_heard() {
        let far = MAX_JUMP + 1;
        for (presented, verdict) in [
            (id(1, 5 + MAX_JUMP, 99, 1), IdentityVerdict::Update { gap: 0 }),
            (id(1, 5 + far, 99, 1), IdentityVerdict::TooFar),
            (id(1, u64::MAX, 99, 1), IdentityVerdict::TooFar),
            (id(1, 5, 77, 11 + MAX_JUMP), IdentityVerdict::Update { gap: MAX_JUMP }),
            (id(1, 5, 77, 11 + far), IdentityVerdict::TooFar),
            (id(1, 5, 77, u64::MAX), IdentityVerdict::TooFar),
        ] {
            for presence in [Presence::Here, Presence::Left] {
                assert_eq!(
                    judge(known(true, presence), NameHolder::Nobody, presented, false),
                    verdict,
                    "{presented:?}"
                );
            }
            let judged = judge(known(true, Presence::Silent), NameHolder::Nobody, presented, false);
            assert!(matches!(judged, IdentityVerdict::Update { .. }), "{presented:?}");
        }
    }

    #[test]
    fn a_process_says_goodbye_for_itself_only() {
        let next = id(1, 6, 99, 1);
        for (presence, presented, verdict) in [
            (Presence::Here, next, IdentityVerdict::Stale),
            (Presence::Left, next, IdentityVerdict::Update { gap: 0 }),
            (Presence::Here, id(1, 5, 77, 11), IdentityVerdict::Update { gap: 0 }),
        ] {
            assert_eq!(judge(known(true, presence), NameHolder::Nobody, presented, true), verdict);
        }
    }

    #[test]
    fn while_two_processes_quarrel_no_third_gets_the_host() {
        let known = known(true, Presence::Here).map(|known| KnownHost { quarrel: true, ..known });
        for (presented, verdict) in [
            (id(1, 6, 99, 1), IdentityVerdict::Cloned),
            (id(1, 5, 77, 11), IdentityVerdict::Update { gap: 0 }),
        ] {
            assert_eq!(judge(known, NameHolder::Nobody, presented, false), verdict);
        }
    }

    #[test]
    fn whoever_still_reports_when_the_other_is_silent_has_the_identity() {
        for incarnation in 4..=6 {
            let judged =
                judge(known(true, Presence::Silent), NameHolder::Nobody, id(1, incarnation, 99, 3), false);
            assert_eq!(judged, IdentityVerdict::Update { gap: 0 }, "{incarnation}");
        }
        let twice = id(1, 5, 77, 10);
        let judged = judge(known(true, Presence::Silent), NameHolder::Nobody, twice, false);
        assert_eq!(judged, IdentityVerdict::Stale, "a second delivery is never news");
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
            assert_eq!(judge(None, holder, new, false), verdict, "unknown uuid, {holder:?}");
        }
        let gone = known(false, Presence::Left);
        let next = id(1, 6, 3, 1);
        for (holder, verdict) in [
            (NameHolder::Nobody, IdentityVerdict::Rename { gap: 0, previous: None }),
            (NameHolder::Anonymous, IdentityVerdict::Rename { gap: 0, previous: None }),
            (NameHolder::Live, IdentityVerdict::DuplicateName),
            (NameHolder::Silent(old), IdentityVerdict::Rename { gap: 0, previous: Some(old) }),
        ] {
            assert_eq!(judge(gone, holder, next, false), verdict, "known uuid, {holder:?}");
        }
        assert_eq!(judge(gone, NameHolder::Silent(old), id(1, 4, 1, 9), false), IdentityVerdict::Stale);
    }
}
