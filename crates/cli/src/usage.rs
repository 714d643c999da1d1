//! Wrong command lines: one line that says what, one that says what to do, instead of a page.

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::exit_codes::{OK, USAGE};

/// Prints help where help was asked for, and otherwise the error.
pub fn report(error: &clap::Error) -> ExitCode {
    let code = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no failure, and there is nothing else to say it to.
            drop(error.print());
            OK
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            drop(error.print());
            USAGE
        }
        _ => {
            drop(write!(std::io::stderr(), "{}", short(&error.to_string())));
            USAGE
        }
    };
    ExitCode::from(code)
}

/// The error without its usage text: what on the first line, what next on the second.
fn short(rendered: &str) -> String {
    let mut what = Vec::new();
    let mut next = Vec::new();
    let mut command = "novella".to_owned();
    let mut in_head = true;
    for line in rendered.lines() {
        let line = line.trim();
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let words = usage.split_whitespace().take_while(|w| w.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            command = words.take_while(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" ");
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            next.push(tip.to_owned());
        } else if line.is_empty() {
            in_head &= what.is_empty();
        } else if in_head || line.starts_with('[') {
            what.push(line.trim_start_matches("error: ").to_owned());
        }
    }
    next.push(format!("see `{command} --help`"));
    format!("error: {}\nnext: {}\n", what.join(" "), next.join("; "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn said(line: &str) -> String {
        short(&Cli::try_parse_from(line.split(' ')).unwrap_err().to_string())
    }

    #[test]
    fn an_error_is_two_lines() {
        for (line, what, next) in [
            ("novella hots list", "unrecognized subcommand 'hots'", "a similar subcommand exists: 'host'; see `novella --help`"),
            ("novella host list --sort ram:up", "invalid value 'ram:up'", "see `novella host list --help`"),
            ("novella host list -f xml", "invalid value 'xml' for '--format <FORMAT>' [possible values: table,", "see `"),
            ("novella place --ram 1G", "not provided: --vcpus <N>", "see `novella place --help`"),
            ("novella place --vcpus 1 --ram 1X", "1X", "see `novella place --help`"),
            ("novella host list -w cmp-1", "not a duration", "see `novella host list --help`"),
        ] {
            let text = said(line);
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.starts_with("error: ") && text.contains(what), "{text}");
            assert!(text.lines().nth(1).unwrap().contains(next), "{text}");
        }
    }
}
