//! How a program ends: exit codes that scripts may rely on, and one line that says why.
//!
//! What always holds: the printed line is the whole chain of causes, each said once, and is followed by what to do
//! next where that is known. A reader that closes the pipe early is a success.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use crate::{config::Invalid, env::StoreError, health::BindError, logging::LogError};

/// Done; for a placement: it fits.
pub const OK: u8 = 0;
/// Understood and refused; for a placement: no host fits.
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

/// An error with the exit code and the next step that it calls for; wrap a cause in it where both become known.
#[derive(Debug)]
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// `a: b: c`, skipping a cause whose text its effect already ends with, as some libraries repeat it.
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

/// The hint of the outermost error in the chain that has one.
pub fn next_step(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(|cause| {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.next.clone();
        }
        if let Some(store) = cause.downcast_ref::<StoreError>() {
            return Some(store.next_step());
        }
        cause.downcast_ref::<BindError>().map(BindError::next_step)
    })
}

/// The exit code that the error calls for.
pub fn code(error: &(dyn Error + 'static)) -> u8 {
    let known = causes(error).find_map(|cause| {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return Some(failure.code);
        }
        if cause.is::<Invalid>() {
            return Some(USAGE);
        }
        if matches!(cause.downcast_ref(), Some(LogError::Filter { .. })) {
            return Some(USAGE);
        }
        let taken = matches!(cause.downcast_ref(), Some(StoreError::Locked { .. }))
            || cause.downcast_ref::<BindError>().is_some_and(|e| e.source.kind() == io::ErrorKind::AddrInUse);
        taken.then_some(CONFLICT)
    });
    known.unwrap_or(INTERNAL)
}

/// Prints the error (if it is one) on `err` and gives the exit code.
pub fn report(result: Result<u8, anyhow::Error>, err: &mut dyn Write) -> u8 {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    let error: &(dyn Error + 'static) = error.as_ref();
    if causes(error)
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
    {
        return OK;
    }
    let hint = next_step(error).map(|next| format!("next: {next}\n")).unwrap_or_default();
    // When standard error is gone too, the exit code is all that is left to say it with.
    drop(write!(err, "error: {}\n{hint}", chain(error)));
    code(error)
}

/// The last line of a `main`: [`report`] on standard error.
pub fn finish(result: Result<u8, anyhow::Error>) -> ExitCode {
    ExitCode::from(report(result, &mut io::stderr()))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::env::{Fault, MemoryStore, Store};

    fn reported(error: impl Into<anyhow::Error>) -> (u8, String) {
        let mut out = Vec::new();
        let code = report(Err(error.into()), &mut out);
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_chain_is_one_line_and_the_hint_the_next() {
        let store = MemoryStore::new();
        store.set_fault(Some(Fault::FullDisk));
        let error = store.write_durable("identity", b"x").context("cannot start the agent").unwrap_err();
        let expected = "error: cannot start the agent: cannot write (memory)/identity: No space left on device \
            (os error 28)\nnext: free space on the file system of (memory)/identity, then retry\n";
        assert_eq!(reported(error), (INTERNAL, expected.to_owned()));
    }

    #[test]
    fn a_failure_carries_code_and_hint_through_other_context() {
        let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
        let failure = Failure::new(UNREACHABLE, "cannot reach the broker").because(cause).next("start it");
        let (code, text) = reported(anyhow::Error::new(failure).context("host list"));
        assert_eq!(code, UNREACHABLE);
        assert_eq!(text, "error: host list: cannot reach the broker: connection refused\nnext: start it\n");
    }

    #[test]
    fn a_repeated_cause_is_said_once() {
        let inner = Failure::new(INTERNAL, "disk on fire");
        let outer = Failure::new(INTERNAL, "cannot write: disk on fire").because(inner);
        assert_eq!(chain(&outer), "cannot write: disk on fire");
    }

    #[test]
    fn a_taken_store_is_a_conflict_and_a_closed_pipe_no_error() {
        let store = MemoryStore::new();
        let _held = store.lock().unwrap();
        assert_eq!(reported(store.lock().map(drop).unwrap_err()).0, CONFLICT);
        assert_eq!(reported(io::Error::from(io::ErrorKind::BrokenPipe)), (OK, String::new()));
        assert_eq!(report(Ok(REFUSED), &mut Vec::new()), REFUSED);
    }
}
