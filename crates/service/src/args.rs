//! The options that every program of novella has, and how help shows them. Each program flattens them into its own.

use std::{env, ffi::OsString, fmt, path::PathBuf};

use clap::{Arg, ArgAction, Args, Command, Parser};

use crate::{
    config::{ENV_PREFIX, Sources, redact_url},
    logging::{LogFormat, LogOptions},
};

/// The default broker: RabbitMQ on the same machine, with the user that RabbitMQ creates itself.
pub const DEFAULT_TRANSPORT_URL: &str = "rabbit://guest:guest@localhost:5672/";
/// The key that `--transport-url` sets.
const TRANSPORT_URL_KEY: &str = "transport_url";
/// The environment variable that replaces `--transport-url`.
const TRANSPORT_URL_ENV: &str = "NOVELLA_TRANSPORT_URL";

/// Options common to the daemons and the command-line client.
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Read settings from this TOML file; repeat it for several, where later files win
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Vec<PathBuf>,

    /// URL of the broker: rabbit://USER:PASSWORD@HOST/VHOST, or amqp://, or rabbits:// and amqps:// for TLS
    ///
    /// Further hosts for failover follow the first one after a comma. Other users of this machine can see a password on the
    /// command line, but not one in the environment or in a file.
    #[arg(long, value_name = "URL", global = true, env = TRANSPORT_URL_ENV, hide_env_values = true)]
    pub transport_url: Option<String>,

    /// Format of the log, which goes to standard error
    #[arg(long, value_name = "FORMAT", global = true, value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// Log more: -v debug, -vv trace, -vvv also debug messages of libraries (RUST_LOG, if set, overrides this)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

impl CommonArgs {
    /// Where the settings come from: the files, this process's environment, and `--transport-url`, for which the
    /// settings must have the key `transport_url`. A program adds its own options with [`Sources::set`].
    pub fn sources(&self) -> Sources {
        let ours = env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX));
        self.sources_with(ours.collect())
    }

    fn sources_with(&self, env: Vec<(String, OsString)>) -> Sources {
        // If the option is absent, clap takes the value of the variable. Its source is the environment.
        let from_env = |url: &&String| {
            env.iter().any(|(name, value)| name == TRANSPORT_URL_ENV && value.as_os_str() == url.as_str())
        };
        let given = self.transport_url.as_ref().filter(|url| !url.is_empty() && !from_env(url));
        Sources { files: self.config.clone(), overrides: Vec::new(), env: env.clone() }.set(
            TRANSPORT_URL_KEY,
            "--transport-url",
            given,
        )
    }

    /// The part of the options that is for [`crate::logging::init`].
    pub fn log_options(&self) -> LogOptions {
        LogOptions { format: self.log_format, verbose: self.verbose }
    }
}

// Written by hand, because programs print their arguments, and this one may hold a password.
impl fmt::Debug for CommonArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommonArgs")
            .field("config", &self.config)
            .field("transport_url", &self.transport_url.as_deref().map(redact_url))
            .field("log_format", &self.log_format)
            .field("verbose", &self.verbose)
            .finish()
    }
}

/// Makes the help of each subcommand show its own options only. One line names those that every command has, which the
/// program's own `--help` describes.
pub fn with_short_help(program: Command) -> Command {
    let common: Vec<&Arg> = program.get_arguments().filter(|arg| arg.is_global_set()).collect();
    let names =
        common.iter().filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect::<Vec<_>>().join(", ");
    // A subcommand that has an option of this name does not inherit the common option.
    let hidden: Vec<Arg> = common.into_iter().map(|arg| arg.clone().hide(true)).collect();
    let line = format!("Common options, which `{} --help` describes: {names}", program.get_name());
    let template = format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{all-args}}\n\n{line}{{after-help}}"
    );
    shorten(program, &hidden, &template)
}

/// Changes the help of all subcommands, at any depth.
fn shorten(command: Command, hidden: &[Arg], template: &str) -> Command {
    let below = |sub: Command| {
        let sub = sub.args(hidden).help_template(template.to_owned());
        shorten(sub, hidden, template)
    };
    command.mut_subcommands(below)
}

/// Reads the arguments of this process. Prints the help that was asked for or the error, and ends the process, as clap does.
pub fn parse<P: Parser>() -> P {
    let matches = with_short_help(P::command()).get_matches();
    P::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Subcommand};

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[test]
    fn options_become_sources_with_the_right_origin() {
        let line = "x --config a.toml --config b.toml --transport-url rabbit://h -vv --log-format json";
        let parsed = Program::parse_from(line.split(' '));
        let env = vec![(TRANSPORT_URL_ENV.to_owned(), "rabbit://other".into())];
        let sources = parsed.common.sources_with(env.clone());
        assert_eq!(sources.files, [PathBuf::from("a.toml"), PathBuf::from("b.toml")]);
        assert_eq!(sources.overrides[0].value, "rabbit://h");
        assert_eq!(sources.env, env);
        assert_eq!(parsed.common.log_options(), LogOptions { format: LogFormat::Json, verbose: 2 });

        let same = CommonArgs { transport_url: Some("rabbit://other".into()), ..CommonArgs::default() };
        assert!(same.sources_with(env).overrides.is_empty(), "the environment's own value is not an option");
    }

    #[derive(Parser)]
    #[command(name = "tool")]
    struct Tool {
        #[command(flatten)]
        common: CommonArgs,
        #[command(subcommand)]
        command: ToolCommand,
    }

    #[derive(Subcommand)]
    enum ToolCommand {
        /// Do it
        Do {
            /// How far
            #[arg(long)]
            far: bool,
        },
    }

    #[test]
    fn help_of_a_subcommand_has_the_common_options_in_one_line() {
        let mut tool = with_short_help(Tool::command());
        tool.build();
        let whole = tool.render_help().to_string();
        assert!(whole.contains("Common options:\n") && whole.contains("Read settings from"), "{whole}");
        let of_do = tool.find_subcommand_mut("do").unwrap();
        for help in [of_do.render_help().to_string(), of_do.render_long_help().to_string()] {
            assert!(!help.contains("Read settings from") && help.contains("--far"), "{help}");
            let line = "\n\nCommon options, which `tool --help` describes: --config, --transport-url, --log-format, --verbose\n";
            assert!(format!("{}\n", help.trim_end()).ends_with(line), "{help}");
        }
    }

    #[test]
    fn common_options_are_read_before_and_after_a_subcommand() {
        for line in ["tool -v --log-format json do -v --far", "tool do --far --log-format json -v"] {
            let matches = with_short_help(Tool::command()).try_get_matches_from(line.split(' ')).unwrap();
            let read = Tool::from_arg_matches(&matches).unwrap();
            let plain = Tool::parse_from(line.split(' '));
            assert_eq!(read.common.log_options(), plain.common.log_options(), "{line}");
            assert_eq!(read.common.log_format, LogFormat::Json);
            assert!(matches!(read.command, ToolCommand::Do { far: true }));
        }
    }

    #[test]
    fn a_password_is_not_in_the_debug_text() {
        let args =
            CommonArgs { transport_url: Some("rabbit://u:s3cret@h/v".into()), ..CommonArgs::default() };
        assert!(format!("{args:?}").contains("rabbit://u:***@h/v"), "{args:?}");
    }

    #[test]
    fn help_names_the_variable_but_not_its_value() {
        let help = Program::command().render_long_help().to_string();
        assert!(help.contains("[env: NOVELLA_TRANSPORT_URL]"), "{help}");
    }
}
