//! Why an object cannot be read.

/// Why an object cannot be read. Each variant is a separate exception in Nova, which the answer to Nova raises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The version has a newer minor than is known, or another major.
    #[error("Version {version} of {name} is not supported, supported version is {supported}")]
    IncompatibleVersion {
        /// Name of the object.
        name: String,
        /// The version that was sent.
        version: String,
        /// The newest version that is read.
        supported: String,
    },
    /// The object is not one of Nova's, or not one that belongs into a request.
    #[error("Unsupported object type {0}")]
    Unsupported(String),
    /// The object lacks a key that every object has, such as `nova_object.version`.
    #[error("{place} has no {key}")]
    NoKey {
        /// The object, or the one that holds it.
        place: String,
        /// The key that is missing.
        key: &'static str,
    },
    /// A field that placement needs is not set.
    #[error("{object} {version} has no {field}")]
    Unset {
        /// Name of the object.
        object: String,
        /// The object's version.
        version: String,
        /// Name of the field.
        field: &'static str,
    },
    /// The field cannot have this value.
    #[error("{object} {version}: {field} is {value}; expected {expected}")]
    BadValue {
        /// Name of the object.
        object: String,
        /// The object's version.
        version: String,
        /// Name of the field.
        field: String,
        /// The value that was sent, shortened.
        value: String,
        /// What the field can have.
        expected: &'static str,
    },
    /// The field asks for something that novella cannot promise.
    #[error("{object}.{field} cannot be taken into account: {reason}")]
    NotServed {
        /// Name of the object.
        object: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Why not, and what to use instead.
        reason: &'static str,
    },
}
