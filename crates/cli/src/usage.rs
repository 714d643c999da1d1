//! Errors of the command line: one line says what is wrong, and one says what to do, instead of a page of usage.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::exit_codes::{OK, USAGE};

/// Prints the help that was asked for, or the error.
pub fn report(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let (code, whole) = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => (OK, true),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => (USAGE, true),
        _ => (USAGE, false),
    };
    let written = match whole {
        true => error.print(),
        false => write!(std::io::stderr(), "{}", short(&error.to_string(), &command_path(args))),
    };
    // If the help cannot be written, an error could not be written either.
    drop(written);
    ExitCode::from(code)
}

/// The command that was meant: the words that name a command, in their order.
fn command_path(args: &[OsString]) -> String {
    let mut command = Cli::command();
    let mut path = command.get_name().to_owned();
    for word in args.iter().skip(1) {
        if let Some(found) = command.find_subcommand(word) {
            command = found.clone();
            path = format!("{path} {}", command.get_name());
        }
    }
    path
}

/// The error without its usage text: what is wrong on the first line, what to do on the second.
fn short(rendered: &str, command: &str) -> String {
    let mut what = Vec::new();
    let mut next = Vec::new();
    let mut in_head = true;
    for line in rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage: ")) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            next.push(tip.to_owned());
        } else if line.is_empty() {
            in_head = false;
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

    fn said(line: &str) -> String {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        short(&Cli::try_parse_from(&args).unwrap_err().to_string(), &command_path(&args))
    }

    #[test]
    fn an_error_is_two_lines() {
        for (line, what, next) in [
            ("novella hots list", "unrecognized subcommand 'hots'", "'host'; see `novella --help`"),
            ("novella host list --sort ram:up", "invalid value 'ram:up'", "see `novella host list --help`"),
            (
                "novella host list -f xml",
                "invalid value 'xml' for '--format <FORMAT>' [possible values: table,",
                "see `",
            ),
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
