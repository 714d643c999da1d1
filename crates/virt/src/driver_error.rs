//! Why a driver could not be made, or a host could not be read.

use std::borrow::Cow;
use std::sync::Arc;

use crate::probe_error::ProbeError;

/// Why a driver could not be made, or a host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// No constructor is registered under this name.
    #[error("there is no compute driver {name:?}; {}known: {}", suggestion(.nearest), .known.join(", "))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The known names, sorted.
        known: Vec<String>,
        /// The known name that is most similar, if any is similar.
        nearest: Option<String>,
    },
    /// A driver cannot work with the options it was given.
    #[error("compute driver {driver}: {option} cannot be {value}: {expected}")]
    InvalidOption {
        /// Name of the driver.
        driver: &'static str,
        /// Name of the option in the configuration.
        option: &'static str,
        /// The value that it was set to.
        value: String,
        /// What to set it to.
        expected: &'static str,
    },
    /// A probe failed, and there is no earlier value to report instead.
    #[error("host probe {probe} has no value yet: cannot {attempt}; {next_step}")]
    NoReading {
        /// Name of the probe.
        probe: &'static str,
        /// What the probe tried to do, in words that follow "cannot".
        attempt: Cow<'static, str>,
        /// What the operator can do about it.
        next_step: Cow<'static, str>,
        /// What went wrong. It is shared by everyone who waited for this run.
        #[source]
        source: Arc<ProbeError>,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("did you mean {name:?}? ")).unwrap_or_default()
}
