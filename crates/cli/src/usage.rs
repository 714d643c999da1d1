//! Errors of the command line: one line says what is wrong, and one says what to do, instead of a page of usage.
//!
//! What always holds: if other tools use another word for the same thing, the next step names the word of novella, and
//! only if that word can be used there.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use novella_service::exit::ErrorFormat;

use crate::args::Cli;
use crate::exit_codes::{OK, USAGE};

/// Options of other tools, and the options of novella for the same. They are suggested by commands that have the option.
const OPTIONS: &[(&[&str], &str)] = &[
    (&["--zone", "--zones", "--availability-zones"], "--az"),
    (&["--property", "--properties", "--extra-specs"], "--extra-spec"),
    (&["--long", "--wide", "--details", "--verbose-output"], "--format wide"),
    (&["--json"], "--format json"),
    (&["--yaml"], "--format yaml"),
    (&["--csv"], "--format csv"),
    (&["--sort-by", "--sort-key", "--order-by"], "--sort"),
    (&["--columns", "--fields", "--field"], "--column"),
    (&["--selector", "-l", "--filter", "--label"], "--fact"),
    (&["--agg", "--aggregates", "--node-pool", "--pool"], "--aggregate"),
    (&["--status"], "--state"),
    (&["--traits", "--required"], "--trait"),
    (&["--forbidden"], "--no-trait"),
    (&["--cpu", "--cpus", "--vcpu", "--cores"], "--vcpus"),
    (&["--memory", "--mem", "--memory-mb"], "--ram"),
    (&["--root-gb", "--disk-gb", "--storage"], "--disk"),
    (&["--min", "--max", "--replicas", "--number"], "--count"),
    (&["--scheduler-hint", "--hints"], "--hint"),
    (&["--hypervisor-hostname", "--node", "--nodelist"], "--host"),
    (&["--exclude"], "--ignore-host"),
    (&["--follow"], "--watch"),
    (&["--dryrun", "--simulate", "--noop"], "--dry-run"),
    (&["--url", "--broker", "--amqp"], "--transport-url"),
];

/// The next step for an operator who looks for a command that takes a host out of use.
const DISABLE: &str = "there is no command for this: on the host, set placement.disabled_reason in the agent's configuration and \
    restart the agent; to use the host again, remove the setting";
/// Commands of other tools, by the command in which users look for them, and what novella has instead.
const COMMANDS: &[(&str, &[&str], &str)] = &[
    ("novella", &["status", "info"], "`novella scheduler status` shows the status of a scheduler"),
    ("novella", &["list", "ls", "node", "nodes", "get", "top"], "`novella host list` lists the hosts"),
    ("novella", &["describe", "show"], "`novella host show HOST` shows a host"),
    ("novella", &["availability", "az"], "`novella zone list` lists the availability zones"),
    ("novella", &["vm", "vms"], "`novella server list` lists instances"),
    ("novella server", &["group", "groups"], "`novella group list` lists server groups"),
    (
        "novella",
        &["create", "run", "apply", "schedule", "boot"],
        "`novella server create` creates instances; `novella place` only takes the room",
    ),
    (
        "novella",
        &["delete", "free", "cancel"],
        "`novella server delete` deletes instances; `novella release` gives back what `novella place` took",
    ),
    ("novella", &["why"], "`novella explain` explains a decision, or tries a request"),
    ("novella", &["check", "validate", "lint"], "`novella policy check FILE` checks a policy"),
    ("novella", &["reload"], "`novella policy reload` reloads the policy"),
    ("novella", &["cordon", "uncordon", "drain", "disable", "enable"], DISABLE),
    (
        "novella host",
        &["disable", "enable", "set", "unset", "cordon", "uncordon", "drain", "evacuate", "maintenance"],
        DISABLE,
    ),
    (
        "novella host",
        &["delete", "remove", "purge"],
        "stop the agent of the host, and then run `novella host forget HOST`",
    ),
    ("novella host", &["ping"], "`novella ping HOST` asks the agent of a host"),
    ("novella service", &["disable", "enable", "set"], DISABLE),
    ("novella compute service", &["disable", "enable", "set"], DISABLE),
    (
        "novella flavor",
        &["create", "delete", "set", "unset", "add"],
        "flavors are defined in the policy file; `novella policy reload` applies it",
    ),
    (
        "novella aggregate",
        &["create", "delete", "set", "unset", "add", "remove"],
        "aggregates are defined in the policy file; `novella policy reload` applies it",
    ),
    (
        "novella group",
        &["create", "delete", "set", "unset", "add"],
        "server groups are defined in the policy file; `novella policy reload` applies it",
    ),
];

/// How errors are written: as JSON if the answer was to be JSON. This reads the raw words, because a command
/// line that is wrong cannot be parsed.
pub fn error_format(args: &[OsString]) -> ErrorFormat {
    let mut words = args.iter().skip(1).filter_map(|arg| arg.to_str()).take_while(|word| *word != "--");
    let mut format = None;
    while let Some(word) = words.next() {
        if ["--format", "--output"].contains(&word) {
            format = words.next();
        } else if let Some(value) = word.strip_prefix("--format=").or_else(|| word.strip_prefix("--output="))
        {
            format = Some(value);
        } else if let Some(short) = word.strip_prefix('-').filter(|short| !short.starts_with('-')) {
            // Short options can be joined, such as -vf json.
            let value = short.trim_start_matches('v').strip_prefix(['f', 'o']);
            match value.map(|value| value.trim_start_matches('=')) {
                Some("") => format = words.next(),
                Some(value) => format = Some(value),
                None => {}
            }
        }
    }
    if matches!(format, Some("json" | "jsonl")) { ErrorFormat::Json } else { ErrorFormat::Text }
}

/// Prints the help that was asked for, or the error.
pub fn report(error: &clap::Error, args: &[OsString], errors: ErrorFormat) -> ExitCode {
    let (code, whole) = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => (OK, true),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => (USAGE, true),
        _ => (USAGE, false),
    };
    if whole {
        // If the help cannot be written, an error could not be written either.
        drop(error.print());
    } else {
        let (what, next) = short(error, args);
        errors.write(&what, Some(&next), code, &mut std::io::stderr());
    }
    ExitCode::from(code)
}

/// The command that was meant, and its path: the leading words that name commands.
fn command_meant(args: &[OsString], unknown: Option<&str>) -> (Command, String) {
    let mut command = Cli::with_help();
    command.build();
    let mut path = command.get_name().to_owned();
    for word in args.iter().skip(1).take_while(|word| word.to_str() != unknown) {
        if let Some(found) = command.find_subcommand(word) {
            command = found.clone();
            path = format!("{path} {}", command.get_name());
        }
    }
    (command, path)
}

/// The error without its usage text: what is wrong, and what to do.
fn short(error: &clap::Error, args: &[OsString]) -> (String, String) {
    let unknown = context(error, ContextKind::InvalidSubcommand);
    let (command, path) = command_meant(args, unknown);
    let mut what = Vec::new();
    let mut tips = Vec::new();
    let mut in_head = true;
    let rendered = error.to_string();
    for line in rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage: ")) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            tips.push(tip.to_owned());
        } else if line.is_empty() {
            in_head = false;
        } else if in_head || line.starts_with('[') {
            what.push(line.trim_start_matches("error: ").to_owned());
        }
    }
    if let Some(habit) = habit(error, &command, &path) {
        tips = vec![habit];
    }
    tips.push(format!("see `{path} --help`"));
    (what.join(" "), tips.join("; "))
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word),
        _ => None,
    }
}

/// What novella has for a word of another tool.
fn habit(error: &clap::Error, command: &Command, path: &str) -> Option<String> {
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = context(error, ContextKind::InvalidSubcommand)?;
            let known = |(of, words, _): &&(&str, &[&str], &str)| *of == path && words.contains(&word);
            COMMANDS.iter().find(known).map(|(_, _, tip)| (*tip).to_owned())
        }
        ErrorKind::UnknownArgument => {
            let word = context(error, ContextKind::InvalidArg)?;
            let word = word.split('=').next()?;
            let (_, ours) = OPTIONS.iter().find(|(words, _)| words.contains(&word))?;
            let long = ours.trim_start_matches("--").split(' ').next()?;
            let has = command.get_arguments().any(|arg| arg.get_long() == Some(long));
            has.then(|| format!("the option here is {}", ours.replace("--format ", "-f ")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn said(line: &str) -> String {
        let args = args(line);
        let (what, next) = short(&Cli::read(&args).unwrap_err(), &args);
        format!("error: {what}\nnext: {next}\n")
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

    #[test]
    fn habits_of_other_tools_get_the_word_that_is_used_here() {
        for (line, next) in [
            ("novella host list --zone north", "the option here is --az; see `novella host list --help`"),
            ("novella host list --zone=north", "the option here is --az; see"),
            (
                "novella place --vcpus 1 --ram 1G --zone north",
                "the option here is --az; see `novella place --help`",
            ),
            ("novella place --vcpus 1 --ram 1G --property a=b", "the option here is --extra-spec; see"),
            ("novella host list --long", "the option here is -f wide; see"),
            ("novella service list --json", "the option here is -f json; see"),
            ("novella place --cpus 1 --memory 1G", "the option here is --vcpus; see"),
            ("novella host list -l rack=r1", "the option here is --fact; see"),
            ("novella host disable cmp-1", "set placement.disabled_reason in the agent's configuration"),
            ("novella compute service set cmp-1 --disable", "set placement.disabled_reason"),
            ("novella drain cmp-1", "set placement.disabled_reason"),
            ("novella status", "`novella scheduler status` shows"),
            ("novella nodes", "`novella host list` lists the hosts; see `novella --help`"),
            ("novella availability zone list", "`novella zone list`"),
            ("novella server group list", "`novella group list`"),
            ("novella flavor create m1", "the policy file; `novella policy reload`"),
        ] {
            let text = said(line);
            let said = text.lines().nth(1).unwrap();
            assert!(said.starts_with("next: ") && said.contains(next), "{line}: {text}");
        }
        // Commands without such an option get no suggestion.
        assert!(!said("novella ping --zone north").contains("--az"), "{}", said("novella ping --zone north"));
    }

    #[test]
    fn every_tip_can_be_followed() {
        fn longs(command: &Command, all: &mut Vec<String>) {
            all.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned));
            command.get_subcommands().for_each(|sub| longs(sub, all));
        }
        let mut cli = Cli::with_help();
        cli.build();
        let mut all = Vec::new();
        longs(&cli, &mut all);
        for (_, ours) in OPTIONS {
            let long = ours.trim_start_matches("--").split(' ').next().unwrap().to_owned();
            assert!(all.contains(&long), "{ours}");
        }
        for (path, words, tip) in COMMANDS {
            let words: Vec<_> = words.iter().map(|word| OsString::from(*word)).collect();
            let (command, found) = command_meant(&args(path), None);
            assert_eq!(found, *path);
            let taken = words.iter().find(|word| command.find_subcommand(word).is_some());
            assert_eq!(taken, None, "{path}: this is a command");
            for quoted in tip.split('`').skip(1).step_by(2) {
                let named = command_meant(&args(quoted), None).1;
                assert!(named.split(' ').count() > 1, "{quoted} names no command");
            }
        }
    }

    #[test]
    fn errors_are_json_if_answers_are() {
        for (line, json) in [
            ("novella host list -f json", true),
            ("novella host list -fjsonl", true),
            ("novella host list -f=json", true),
            ("novella host list -vf json", true),
            ("novella host list -o json", true),
            ("novella host list --format=json", true),
            ("novella host list --output json", true),
            ("novella host list --zone x -f json", true),
            ("novella host list -f yaml", false),
            ("novella host list -f json -f table", false),
            ("novella host list --fact json", false),
            ("novella host list", false),
        ] {
            let wanted = if json { ErrorFormat::Json } else { ErrorFormat::Text };
            assert_eq!(error_format(&args(line)), wanted, "{line}");
        }
    }
}
