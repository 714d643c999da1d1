//! Why an object cannot be read.

/// Each kind is an exception of its own in Nova; whoever answers Nova turns it into that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// A newer minor version than is known, or another major one.
    #[error("Version {version} of {name} is not supported, supported version is {supported}")]
    IncompatibleVersion {
        /// The object.
        name: String,
        /// As sent.
        version: String,
        /// The newest that is read.
        supported: String,
    },
    /// Not one of Nova's, or not one that belongs into a request.
    #[error("Unsupported object type {0}")]
    Unsupported(String),
    /// What every object must say of itself is not there, such as `nova_object.version`.
    #[error("{place} has no {key}")]
    NoKey {
        /// Where.
        place: String,
        /// What is missing.
        key: &'static str,
    },
    /// A field that placement needs is not set.
    #[error("{object} {version} has no {field}")]
    Unset {
        /// The object.
        object: String,
        /// Its version.
        version: String,
        /// The field.
        field: &'static str,
    },
    /// A value that the field cannot have.
    #[error("{object} {version}: {field} is {value}, which is no {expected}")]
    BadValue {
        /// The object.
        object: String,
        /// Its version.
        version: String,
        /// The field.
        field: String,
        /// As sent, cut short.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// Understood, but nothing that can be promised here.
    #[error("{object}.{field} cannot be taken into account: {reason}")]
    NotServed {
        /// The object.
        object: &'static str,
        /// The field.
        field: &'static str,
        /// Why, and what would do.
        reason: &'static str,
    },
}
