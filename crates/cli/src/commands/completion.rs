//! `novella completion`: the script with which a shell completes commands and options.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::exit_codes::OK;

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  novella completion bash > /etc/bash_completion.d/novella\n  source <(novella completion zsh)"
)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Writes the script for `cli`, the whole command line.
pub fn run(
    args: &CompletionArgs,
    cli: &mut clap::Command,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<u8> {
    // The generator panics if a write fails, but a closed pipe is a success. Writing to memory cannot fail.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, cli, "novella", &mut script);
    out.write_all(&script)?;
    Ok(OK)
}
