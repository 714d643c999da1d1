//! Why one run of a probe returned no value.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why one run of a probe returned no value.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A file could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The contents of a file are not as expected.
    #[error("unexpected content in {}: {reason}", .path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// What was expected, or what was found instead.
        reason: String,
    },
    /// The size of a file system could not be read.
    #[error("cannot read the size of the file system at {}", .path.display())]
    FileSystem {
        /// A path on that file system.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The run is still under way. A late answer will be used when it comes.
    #[error("no answer within {after:?}; the probe still runs and is not started again")]
    Overdue {
        /// How long the reader waited.
        after: Duration,
    },
    /// The run ended without an answer: it panicked, or the executor dropped it.
    #[error("the probe ended without an answer")]
    Lost,
    /// An error of a driver outside this crate's own probes.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
