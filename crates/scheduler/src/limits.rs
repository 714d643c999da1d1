//! Limits of requests that the configuration is held against too.

/// Most alternates that a request may ask for per instance. It bounds the size of an answer.
pub const MAX_ALTERNATES: u32 = 32;
