//! Why nothing was placed: the caller's fault, the policy's, or that no host is left.

use crate::nova::image_properties::BadImage;
use crate::request::instance_topology::BadDevices;
use crate::settings::filter_kind::FilterKind;
use crate::settings::weigher_kind::WeigherKind;

/// Why nothing was placed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Too few hosts; the text is Nova's.
    #[error("No valid host was found. {reason}")]
    NoValidHost {
        /// What follows Nova's first sentence.
        reason: String,
        /// How many instances had found a host.
        placeable: u32,
    },
    /// A filter could not decide, and the settings say that this fails the request.
    #[error(transparent)]
    Filter(FilterError),
    /// The same of a weigher.
    #[error(transparent)]
    Weigher(WeigherError),
    /// An image that cannot be understood.
    #[error(transparent)]
    Image(BadImage),
    /// A name that the policy does not know.
    #[error("the policy in force has no {what} {name:?}; {}", if known.is_empty() { "it lists none".to_owned() } else { format!("known are {known}") })]
    Unknown {
        /// `flavor`, `server group` or `PCI alias`.
        what: &'static str,
        /// As given.
        name: String,
        /// All that there are.
        known: String,
    },
    /// A server group whose policy would mean nothing; the text is Nova's.
    #[error("{missing} not configured, which the server group's policy {policy} needs")]
    NotConfigured {
        /// Filter or weigher.
        missing: &'static str,
        /// Of the group.
        policy: String,
    },
    /// NUMA cells or PCI devices that cannot be asked for like this.
    #[error(transparent)]
    Devices(BadDevices),
    /// Features of a host that cannot be asked for like this.
    #[error(transparent)]
    Feature(BadFeature),
    /// A request that no fleet could satisfy.
    #[error("{what} is {value}; it must be {bound}")]
    Invalid {
        /// Which part of the request.
        what: &'static str,
        /// As given.
        value: u64,
        /// What would do.
        bound: String,
    },
}

/// A host that a filter could not decide about; Nova raises an exception there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{filter} could not decide about host {host}: {reason}")]
pub struct FilterError {
    /// Which filter.
    pub filter: FilterKind,
    /// At which host.
    pub host: String,
    /// Why.
    pub reason: String,
}

/// A host that a weigher could not value; Nova raises an exception there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{weigher} could not value host {host}: {reason}")]
pub struct WeigherError {
    /// Which weigher.
    pub weigher: WeigherKind,
    /// At which host.
    pub host: String,
    /// Why.
    pub reason: String,
}

/// A feature that cannot be asked for like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFeature(pub(crate) String);
