//! Why nothing was placed: the caller made a mistake, the policy has one, or no host is left.

use crate::nova::image_properties::BadImage;
use crate::settings::filter_kind::FilterKind;
use crate::settings::weigher_kind::WeigherKind;
use novella_resources::BadDevices;

/// Why nothing was placed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Too few hosts are left. The text is Nova's.
    #[error("No valid host was found. {reason}")]
    NoValidHost {
        /// The text that follows Nova's first sentence.
        reason: String,
        /// How many instances of the request had found a host.
        placeable: u32,
    },
    /// A filter could not decide about a host, and the settings say that this fails the request.
    #[error(transparent)]
    Filter(FilterError),
    /// A weigher could not value a host.
    #[error(transparent)]
    Weigher(WeigherError),
    /// The image's properties cannot be understood.
    #[error(transparent)]
    Image(BadImage),
    /// The request names something that the policy does not have.
    #[error("the current policy has no {what} {name:?}; {}", if known.is_empty() { "it defines none".to_owned() } else { format!("choose one of {known}") })]
    Unknown {
        /// What was looked for: `flavor`, `server group` or `PCI alias`.
        what: &'static str,
        /// The name as it was given.
        name: String,
        /// The names that the policy has, separated by commas. Empty if it has none.
        known: String,
    },
    /// The policy of the request's server group would have no effect. The text is Nova's.
    #[error("{missing} not configured, which the server group's policy {policy} needs")]
    NotConfigured {
        /// The filter or weigher that the group's policy needs.
        missing: &'static str,
        /// The policy of the server group.
        policy: String,
    },
    /// The request for NUMA cells or PCI devices is invalid.
    #[error(transparent)]
    Devices(BadDevices),
    /// The request for features of a host is invalid.
    #[error(transparent)]
    Feature(BadFeature),
    /// An amount of the request, or its number of instances, is out of bounds.
    #[error("{what} is {value}; it must be {bound}")]
    Invalid {
        /// The part of the request that is out of bounds.
        what: &'static str,
        /// The value as it was given.
        value: u64,
        /// The values that are accepted, in words.
        bound: String,
    },
}

/// A host that a filter could not decide about; Nova raises an exception there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{filter} could not decide about host {host}: {reason}")]
pub struct FilterError {
    /// The filter that could not decide.
    pub filter: FilterKind,
    /// The name of the host.
    pub host: String,
    /// Why the filter could not decide.
    pub reason: String,
}

/// A host that a weigher could not value; Nova raises an exception there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{weigher} could not value host {host}: {reason}")]
pub struct WeigherError {
    /// The weigher that could not value the host.
    pub weigher: WeigherKind,
    /// The name of the host.
    pub host: String,
    /// Why the weigher could not value the host.
    pub reason: String,
}

/// An invalid request for a host's features. The text says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFeature(pub(crate) String);
