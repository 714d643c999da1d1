//! The exit codes that scripts rely on. They are an interface: a code never changes its meaning.

use std::fmt::Write;

pub use novella_service::exit::{CONFLICT, INTERNAL, NOT_FOUND, OK, REFUSED, TIMEOUT, UNREACHABLE, USAGE};

/// Some of what was asked for was done, some was not.
pub const PARTIAL: u8 = 3;

/// Every code and what it says.
pub const ALL: [(u8, &str); 9] = [
    (OK, "done; for a placement: it fits"),
    (REFUSED, "no host fits: a valid answer, its reason is on standard output"),
    (USAGE, "the command line or the configuration is wrong"),
    (PARTIAL, "done in part: some of what was named does not exist"),
    (NOT_FOUND, "what was named does not exist"),
    (
        CONFLICT,
        "an instance uuid already stands for something else, or a scheduler's policy stands in the way",
    ),
    (UNREACHABLE, "the broker, or whoever should listen behind it, cannot be reached"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_promised() {
        assert_eq!(ALL.map(|(code, _)| code), [0, 1, 2, 3, 4, 5, 7, 124, 255]);
        assert!(text().contains("\n  124  no answer within --timeout\n"), "{}", text());
    }
}
