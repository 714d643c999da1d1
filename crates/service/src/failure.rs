//! The exit codes that scripts may rely on, and an error that carries its own.
//!
//! What always holds: a code means the same in every program, and [`EXIT_CODES`] is the only list of them. [`chain`]
//! gives an error with all its causes, each named once.
//!
//! What it leaves out: the exit codes of other errors, which [`crate::exit`] decides.

use std::error::Error;

/// See [`EXIT_CODES`].
pub const OK: u8 = 0;
/// See [`EXIT_CODES`].
pub const REFUSED: u8 = 1;
/// See [`EXIT_CODES`].
pub const USAGE: u8 = 2;
/// See [`EXIT_CODES`].
pub const PARTIAL: u8 = 3;
/// See [`EXIT_CODES`].
pub const NOT_FOUND: u8 = 4;
/// See [`EXIT_CODES`].
pub const CONFLICT: u8 = 5;
/// See [`EXIT_CODES`].
pub const UNREACHABLE: u8 = 7;
/// See [`EXIT_CODES`].
pub const TIMEOUT: u8 = 124;
/// See [`EXIT_CODES`].
pub const INTERNAL: u8 = 255;

/// Every exit code with its meaning, as help and documents show it. They are an interface: a code never changes its
/// meaning.
pub const EXIT_CODES: [(u8, &str); 9] = [
    (OK, "It is done. For a placement: the request fits."),
    (REFUSED, "The answer is no: no host fits, or a daemon is not ready. The output says why."),
    (USAGE, "The command line, the configuration or a file is wrong."),
    (PARTIAL, "It is done in part: something named does not exist, does not fit or did not answer."),
    (NOT_FOUND, "What was named does not exist."),
    (
        CONFLICT,
        "Something else holds or contradicts it: an instance, name, file or port in use, or a policy.",
    ),
    (UNREACHABLE, "The broker, or the service behind it, cannot be reached."),
    (TIMEOUT, "The time ran out: no answer within --timeout, or work that was cut off at a stop."),
    (INTERNAL, "Anything else, such as a full disk. If nothing outside explains it, it is a defect."),
];

/// The exit codes that a daemon can end with. It places nothing and calls nobody before it ends.
pub const DAEMON_EXIT_CODES: [u8; 7] = [OK, REFUSED, USAGE, NOT_FOUND, CONFLICT, TIMEOUT, INTERNAL];

/// These exit codes with their meanings, as the help of a program shows them.
pub fn exit_codes_help(codes: &[u8]) -> String {
    let shown = EXIT_CODES.iter().filter(|(code, _)| codes.contains(code));
    shown
        .fold("Exit codes:\n".to_owned(), |text, (code, meaning)| text + &format!("  {code:>3}  {meaning}\n"))
}

/// The end of a daemon's help: its examples and its exit codes.
pub fn daemon_help(examples: &str) -> String {
    format!("{examples}\n\n{}", exit_codes_help(&DAEMON_EXIT_CODES))
}

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

/// The error and its causes as one text: `a: b: c`. A cause is skipped if the text before it ends with the cause's own
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
