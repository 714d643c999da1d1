//! The exit codes that scripts rely on. The meaning of a code never changes.

use std::fmt::Write as _;
use std::io::Write;

pub use novella_service::exit::{CONFLICT, INTERNAL, NOT_FOUND, OK, REFUSED, TIMEOUT, UNREACHABLE, USAGE};

/// Part of what was asked for was done.
pub const PARTIAL: u8 = 3;

/// Every code with its meaning.
const ALL: [(u8, &str); 9] = [
    (OK, "done; for a placement: it fits"),
    (REFUSED, "no host fits: this is a valid answer, and its reason is on standard output"),
    (USAGE, "the command line or the configuration is wrong"),
    (PARTIAL, "partly done: some of what was named does not exist"),
    (NOT_FOUND, "what was named does not exist"),
    (
        CONFLICT,
        "an instance uuid or a name is already in use, or a policy is wrong, or the schedulers' policies differ",
    ),
    (UNREACHABLE, "the broker, or the service behind it, cannot be reached"),
    (TIMEOUT, "no answer within --timeout"),
    (INTERNAL, "anything else: most likely a defect"),
];

/// The list as help shows it.
pub fn text() -> String {
    ALL.iter().fold("Exit codes:\n".to_owned(), |mut text, (code, meaning)| {
        writeln!(text, "  {code:>3}  {meaning}").expect("writing to a String does not fail");
        text
    })
}

/// Writes the list: the command `exit-codes`.
pub fn show(out: &mut (dyn Write + Send)) -> anyhow::Result<u8> {
    write!(out, "{}", text())?;
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_promised() {
        assert_eq!(ALL.map(|(code, _)| code), [0, 1, 2, 3, 4, 5, 7, 124, 255]);
        assert!(text().contains("\n  124  no answer within --timeout\n"), "{}", text());
    }
}
