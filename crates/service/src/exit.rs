//! How a program ends: the exit code of an error, and a text that says why.
//!
//! What always holds: the printed text is the whole chain of causes, each named once, and is followed by what to do
//! next where that is known. A line break in it is printed as one; other control characters, which may come from a peer,
//! never reach the terminal. A reader that closes the pipe early is a success.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

pub use crate::failure::{
    CONFLICT, DAEMON_EXIT_CODES, EXIT_CODES, Failure, INTERNAL, NOT_FOUND, OK, PARTIAL, REFUSED, TIMEOUT,
    UNREACHABLE, USAGE, chain, daemon_help, exit_codes_help,
};
use crate::{
    config::Invalid, env::StoreError, failure::causes, health::BindError, logging::LogError,
    printable::is_unprintable,
};

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

/// The exit code of the error.
pub fn code(error: &(dyn Error + 'static)) -> u8 {
    let known = causes(error).find_map(|cause| {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return Some(failure.code);
        }
        if cause.is::<Invalid>() || matches!(cause.downcast_ref(), Some(LogError::Filter { .. })) {
            return Some(USAGE);
        }
        // Only an operator can put a file back where something else is, so a restart does not help.
        if cause.downcast_ref::<StoreError>().is_some_and(StoreError::is_misplaced) {
            return Some(USAGE);
        }
        let taken = matches!(cause.downcast_ref(), Some(StoreError::Locked { .. }))
            || cause.downcast_ref::<BindError>().is_some_and(|e| e.source.kind() == io::ErrorKind::AddrInUse);
        taken.then_some(CONFLICT)
    });
    known.unwrap_or(INTERNAL)
}

/// How an error is written on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// For people: what is wrong, and a line that says what to do.
    #[default]
    Text,
    /// For programs: one line with a JSON object of `error`, `next` and `exit_code`.
    Json,
}

impl ErrorFormat {
    /// Writes what is wrong, what to do next if that is known, and the exit code. A failure to write is ignored: if standard
    /// error is gone, the exit code is all that can still be seen.
    pub fn write(self, what: &str, next: Option<&str>, code: u8, err: &mut dyn Write) {
        drop(match self {
            Self::Text => {
                let next = next.map(|next| format!("next: {}\n", printable_lines(next))).unwrap_or_default();
                write!(err, "error: {}\n{next}", printable_lines(what))
            }
            Self::Json => {
                writeln!(err, "{}", serde_json::json!({ "error": what, "next": next, "exit_code": code }))
            }
        });
    }
}

/// The text with its line breaks, but without other [unprintable](is_unprintable) characters.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Prints the error, if there is one, on `err`, and returns the exit code.
pub fn report(result: Result<u8, anyhow::Error>, format: ErrorFormat, err: &mut dyn Write) -> u8 {
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
    let code = code(error);
    format.write(&chain(error), next_step(error).as_deref(), code, err);
    code
}

/// The last line of a `main`: [`report`] on standard error, for people.
pub fn finish(result: Result<u8, anyhow::Error>) -> ExitCode {
    ExitCode::from(report(result, ErrorFormat::Text, &mut io::stderr()))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::{
        env::{MemoryStore, Store, StoreFault},
        health::bind,
    };

    fn reported(error: impl Into<anyhow::Error>) -> (u8, String) {
        let mut out = Vec::new();
        let code = report(Err(error.into()), ErrorFormat::Text, &mut out);
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_chain_is_one_line_and_the_hint_the_next() {
        let store = MemoryStore::new();
        store.set_fault(Some(StoreFault::FullDisk));
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
    fn a_line_break_is_printed_and_no_other_control_character_is() {
        let cause = Failure::new(USAGE, "the file has 2 problems\n  line 1: a\n  line 2: \x1b[2Jb");
        let failure = Failure::new(USAGE, "cannot start").because(cause);
        let expected = "error: cannot start: the file has 2 problems\n  line 1: a\n  line 2: \u{fffd}[2Jb\n";
        assert_eq!(reported(failure), (USAGE, expected.to_owned()));
    }

    #[test]
    fn for_programs_an_error_is_one_json_object() {
        let json = |failure: Failure| {
            let mut out = Vec::new();
            report(Err(failure.into()), ErrorFormat::Json, &mut out);
            String::from_utf8(out).unwrap()
        };
        let failure = Failure::new(UNREACHABLE, "it said \"no\"\nand left").next("start it");
        let expected = r#"{"error":"it said \"no\"\nand left","exit_code":7,"next":"start it"}"#;
        assert_eq!(json(failure), format!("{expected}\n"));
        assert_eq!(json(Failure::new(USAGE, "x")), "{\"error\":\"x\",\"exit_code\":2,\"next\":null}\n");
    }

    #[test]
    fn a_taken_store_is_a_conflict_and_a_closed_pipe_no_error() {
        let store = MemoryStore::new();
        let _held = store.lock().unwrap();
        assert_eq!(reported(store.lock().map(drop).unwrap_err()).0, CONFLICT);
        assert_eq!(reported(io::Error::from(io::ErrorKind::BrokenPipe)), (OK, String::new()));
        assert_eq!(report(Ok(REFUSED), ErrorFormat::Json, &mut Vec::new()), REFUSED);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).await.unwrap_err();
        let (code, text) = reported(error);
        assert_eq!(code, CONFLICT);
        assert!(
            text.starts_with(&format!("error: cannot listen for HTTP on {address}: Address already in use")),
            "{text}"
        );
        assert!(
            text.contains(&format!(
                "next: set http.listen to another port or to none, or find the process that uses this one: ss -ltnp 'sport = :{}'",
                address.port()
            )),
            "{text}"
        );

        let elsewhere = bind("192.0.2.1:0".parse().unwrap()).await.unwrap_err();
        assert!(
            elsewhere.next_step().contains("set http.listen to an address of this machine"),
            "{elsewhere:?}"
        );
    }
}
