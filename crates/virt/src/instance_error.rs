//! Why a driver did not do what it was asked to do with an instance.
//!
//! What always holds: an error says what was attempted on which instance, and whether another host is worth a try.

use std::error::Error;
use std::fmt::{self, Display, Formatter};

use uuid::Uuid;

/// What a driver was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// To make and start the guest of this uuid.
    Spawn(Uuid),
    /// To remove it.
    Destroy(Uuid),
    /// To start it.
    PowerOn(Uuid),
    /// To stop it.
    PowerOff(Uuid),
    /// To list all instances.
    List,
}

impl Display for Attempt {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(uuid) => write!(f, "build instance {uuid}"),
            Self::Destroy(uuid) => write!(f, "destroy instance {uuid}"),
            Self::PowerOn(uuid) => write!(f, "start instance {uuid}"),
            Self::PowerOff(uuid) => write!(f, "stop instance {uuid}"),
            Self::List => f.write_str("list the instances"),
        }
    }
}

/// Why a driver did not do what it was asked to do with an instance.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The driver never does this.
    #[error("cannot {attempt}: {reason}")]
    Unsupported {
        /// What was attempted.
        attempt: Attempt,
        /// Why the driver does not do it, and what to do instead.
        reason: String,
    },
    /// The request itself is wrong, so that no host can build it.
    #[error("cannot {attempt}: {reason}")]
    Rejected {
        /// What was attempted.
        attempt: Attempt,
        /// What is wrong with the request.
        reason: String,
    },
    /// The host has no instance of this uuid.
    #[error("cannot {attempt}: this host has no such instance")]
    Unknown {
        /// What was attempted.
        attempt: Attempt,
    },
    /// The instance was destroyed before the driver had finished.
    #[error("cannot {attempt}: it was destroyed meanwhile")]
    Destroyed {
        /// What was attempted.
        attempt: Attempt,
    },
    /// This host failed.
    #[error("cannot {attempt}")]
    Failed {
        /// What was attempted.
        attempt: Attempt,
        /// What went wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl InstanceError {
    /// An error of this host.
    pub fn failed(attempt: Attempt, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { attempt, source: source.into() }
    }

    /// What was attempted, and on which instance.
    pub fn attempt(&self) -> Attempt {
        match self {
            Self::Unsupported { attempt, .. }
            | Self::Rejected { attempt, .. }
            | Self::Unknown { attempt }
            | Self::Destroyed { attempt }
            | Self::Failed { attempt, .. } => *attempt,
        }
    }

    /// Whether the same request to another host would fail as well, or must not be made. This is what Nova calls a build
    /// abort. If it is false, the instance can be built elsewhere, as Nova does when it reschedules.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Rejected { .. } | Self::Unknown { .. } | Self::Destroyed { .. } => true,
            Self::Unsupported { .. } | Self::Failed { .. } => false,
        }
    }
}
