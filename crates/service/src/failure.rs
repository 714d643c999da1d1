//! The exit codes that scripts may rely on, and an error that carries its own.
//!
//! What always holds: [`chain`] gives an error with all its causes as one line, each named once.
//!
//! What it leaves out: the exit codes of other errors, which [`crate::exit`] decides.

use std::error::Error;

/// What was asked for is done. For a placement: the instances fit.
pub const OK: u8 = 0;
/// The request was understood and refused. For a placement: no host fits.
pub const REFUSED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// The thing asked for does not exist.
pub const NOT_FOUND: u8 = 4;
/// The request contradicts an earlier one, or something else holds what it needs.
pub const CONFLICT: u8 = 5;
/// The broker or the peer cannot be reached.
pub const UNREACHABLE: u8 = 7;
/// The time for it ran out.
pub const TIMEOUT: u8 = 124;
/// A failure that is none of the above.
pub const INTERNAL: u8 = 255;

/// An error with an exit code and a next step. Wrap a cause in it where both become known.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// The exit code, one of this module's constants.
    pub code: u8,
    /// What failed, without the cause's text.
    pub what: String,
    /// What the user can do.
    pub next: Option<String>,
    /// Why it failed.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure without cause or hint.
    pub fn new(code: u8, what: impl Into<String>) -> Failure {
        Failure { code, what: what.into(), next: None, source: None }
    }

    /// Adds what to do next.
    pub fn next(self, next: impl Into<String>) -> Failure {
        Failure { next: Some(next.into()), ..self }
    }

    /// Adds the cause.
    pub fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { source: Some(source.into()), ..self }
    }
}

/// The error and its causes as one line: `a: b: c`. A cause is skipped if the text before it ends with the cause's own
/// text, because some libraries repeat it.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    for cause in causes(error).skip(1) {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// The error and its causes, outermost first.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_cause_is_said_once() {
        let inner = Failure::new(INTERNAL, "disk on fire");
        let outer = Failure::new(INTERNAL, "cannot write: disk on fire").because(inner);
        assert_eq!(chain(&outer), "cannot write: disk on fire");
    }
}
