//! What a failed access to durable state says: what was attempted, on what, and what to do.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// A failed access to durable state.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, such as `write`.
        action: &'static str,
        /// The file or directory on which it was attempted.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Another daemon uses the same state.
    #[error("cannot lock {}: it is in use by {holder}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, such as `process 4711`.
        holder: String,
    },
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io { action, path: path.to_owned(), source }
    }

    /// Whether something that is no regular file is in the place of one.
    pub(crate) fn is_misplaced(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == ErrorKind::InvalidInput)
    }

    /// What an operator can do about it.
    pub fn next_step(&self) -> String {
        match self {
            StoreError::Locked { holder, .. } => {
                format!("stop {holder}, or give this daemon another state directory")
            }
            StoreError::Io { path, source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    format!("free space on the file system of {}, then retry", path.display())
                }
                ErrorKind::PermissionDenied => format!(
                    "give this user read and write access to {}, or choose another state directory",
                    path.parent().unwrap_or(path).display()
                ),
                ErrorKind::ReadOnlyFilesystem => {
                    "remount the file system writable, or choose another state directory".to_owned()
                }
                ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                    "there is a file in place of the state directory: move it, or choose another directory"
                        .to_owned()
                }
                ErrorKind::InvalidInput => {
                    format!("move {} away; the state is written anew", path.display())
                }
                _ => format!("check {} and its file system", path.display()),
            },
        }
    }
}
