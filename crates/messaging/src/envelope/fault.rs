//! What can be wrong with a message, by name.

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MessageFault {
    TooLarge,
    ContentType,
    NotUtf8,
    NotJson,
    NotAnObject,
    EnvelopeVersion,
    InnerNotText,
    InnerNotJson,
    InnerNotAnObject,
    /// The method is absent, null or not a string.
    Method,
    /// The arguments are not an object.
    Arguments,
    /// The version is null, not a string or not of the form major.minor.
    Version,
    /// The namespace is not a string.
    Namespace,
}

impl MessageFault {
    /// Short name for logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too large",
            Self::ContentType => "content type is not application/json",
            Self::NotUtf8 => "not UTF-8",
            Self::NotJson => "not JSON",
            Self::NotAnObject => "not a JSON object",
            Self::EnvelopeVersion => "unsupported envelope version",
            Self::InnerNotText => "oslo.message is not a string",
            Self::InnerNotJson => "oslo.message is not JSON",
            Self::InnerNotAnObject => "oslo.message is not a JSON object",
            Self::Method => "no usable method",
            Self::Arguments => "args is not an object",
            Self::Version => "unusable version",
            Self::Namespace => "unusable namespace",
        }
    }

    /// The same fault, if what was read is an inner message.
    pub(super) fn of_inner(self) -> Self {
        match self {
            Self::NotJson => Self::InnerNotJson,
            Self::NotAnObject => Self::InnerNotAnObject,
            other => other,
        }
    }

    /// Whether the broker is told that the message can never be processed. Otherwise it is acknowledged: it was a
    /// request, and its answer is a failure.
    pub(crate) fn rejects(self) -> bool {
        !matches!(self, Self::Method | Self::Arguments | Self::Version | Self::Namespace)
    }
}
