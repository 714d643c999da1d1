//! By whom a placement is asked for, and for whom it is held.
//!
//! What always holds: whom a placement belongs to and whose quotas it counts towards are two things. It may belong to everybody,
//! and it counts all the same.
//!
//! Left out: how much is held (`promises/held.rs`), and how much it may be (`verbs/quota.rs`).

use std::sync::Arc;

/// By whom a placement was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct By {
    /// The broker user to whom it belongs. Without one, everybody may release it.
    pub owner: Option<Arc<str>>,
    /// Whose quotas it counts towards.
    pub holder: Holder,
}

/// For whom something is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The broker user who placed it, if that is known. Peers do not always tell it.
    pub user: Option<Arc<str>>,
    /// The project that the request named.
    pub project: Option<Arc<str>>,
}

impl Holder {
    /// How long the names are together.
    pub fn bytes(&self) -> usize {
        [&self.user, &self.project].into_iter().flatten().map(|name| name.len()).sum()
    }
}

/// The two kinds of holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolderKind {
    /// A broker user.
    User,
    /// A project.
    Project,
}

impl HolderKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::User, Self::Project];

    /// The word for it in settings, errors and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
        }
    }
}
