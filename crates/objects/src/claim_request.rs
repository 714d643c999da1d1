//! What a scheduler asks of a host, and what the host answers: claims, holds, and their ends.
//!
//! A *hold* keeps room for a while; a *claim* keeps it until it is ended. Both are granted by the host, which alone decides
//! whether they fit. What always holds: a host grants one claim or hold for each instance, and the one with the highest
//! [`Rank`] is the one that the caller heard of last.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::claim::{Lack, Rank};
use crate::decision::ReserveEntry;
use crate::instance::BuildRequest;
use crate::request_spec::Image;

/// The arguments of `claim` and `hold`: what one decision asks of one host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The decision that chose the host.
    pub decision_id: String,
    /// The broker user to whom the instances belong. Absent if they belong to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long the room is held, in milliseconds after receipt. Absent: until it is ended. 0 ends holds of this decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// The instances. Each is granted or refused for itself.
    pub instances: Vec<InstanceClaim>,
}

/// One instance of a [`ClaimRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceClaim {
    /// Which instance it is, and what it takes. `host` is the host that is asked.
    pub instance: ReserveEntry,
    /// The rank of this claim.
    pub rank: Rank,
    /// How many members of its server group the host may have, this one included. Absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_group: Option<u32>,
    /// The image, as far as placement looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// What the host builds. Absent if only the room is claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildRequest>,
    /// The migration that the claim is for. Two claims of one migration are a pair, and neither yields to the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Uuid>,
}

/// What a host answers for one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ClaimAnswer {
    /// The host has the room and keeps it. A claim is on its disk.
    Granted {
        /// The rank of the claim or hold now.
        rank: Rank,
    },
    /// The host does not have the room.
    Refused {
        /// Everything that is lacking.
        lacks: Vec<Lack>,
    },
    /// The host has this instance with other amounts, or for somebody else.
    Conflict {
        /// What differs, for people.
        reason: String,
    },
    /// The instance ended on this host, so a claim for it comes too late.
    Ended {
        /// How it ended, for people.
        reason: String,
        /// Whether it was deleted. Then it must not be placed on another host either.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        deleted: bool,
    },
    /// The host cannot take a claim now, whatever it has room for.
    Busy {
        /// Why, for people.
        reason: String,
    },
}

impl ClaimAnswer {
    /// Whether the host keeps the room.
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }

    /// Why the host does not keep the room, for people. `None` if it does.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Granted { .. } => None,
            Self::Refused { lacks } => Some(lacks.iter().map(Lack::text).collect::<Vec<_>>().join("; ")),
            Self::Conflict { reason } | Self::Ended { reason, .. } | Self::Busy { reason } => {
                Some(reason.clone())
            }
        }
    }
}

/// The arguments of `terminate_instance`: ends claims, whoever made them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TerminateInstance {
    /// The instances. One that the host does not know is remembered as ended, so that a claim which is on its way comes
    /// too late.
    pub instance_uuids: Vec<Uuid>,
    /// Absent: nothing may claim the instances on this host again. Otherwise they were placed elsewhere or given up, and a
    /// claim with a higher rank than this may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to_rank: Option<Rank>,
}

/// What a host answers for one instance of a [`TerminateInstance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminated {
    /// The host had a claim or a hold, and it is gone.
    Ended,
    /// The host had none, and remembers that the instance is ended.
    Unknown,
    /// The host has a claim with a higher rank, which stays.
    Outranked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_told_in_words() {
        let lack = |free, unit: &'static str| Lack {
            resource: "MEMORY_MB".to_owned(),
            wanted: 512,
            free,
            unit: unit.into(),
        };
        assert_eq!(lack(100, "MiB").text(), "MEMORY_MB: 512 MiB wanted, 100 free");
        assert_eq!(lack(3, "").text(), "MEMORY_MB: 512 wanted, 3 free");
        assert_eq!(lack(-7, "MiB").text(), "MEMORY_MB: the host is 7 MiB above its limit, 512 more wanted");
    }

    #[test]
    fn a_rank_is_compared_by_attempt_first() {
        let rank = |attempt, try_number| Rank { attempt, try_number };
        assert!(rank(2, 1) > rank(1, 9) && rank(1, 2) > rank(1, 1));
        assert_eq!(serde_json::to_string(&rank(2, 1)).unwrap(), r#"{"attempt":2,"try":1}"#);
    }

    #[test]
    fn answers_have_a_tag() {
        let answer = ClaimAnswer::Refused { lacks: Vec::new() };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"outcome":"refused","lacks":[]}"#);
        assert_eq!(serde_json::to_string(&Terminated::Unknown).unwrap(), r#""unknown""#);
    }

    #[test]
    fn the_image_is_optional() {
        let value = serde_json::to_value(InstanceClaim::default()).unwrap();
        assert!(value.get("image").is_none() && value.get("migration").is_none());
    }
}
