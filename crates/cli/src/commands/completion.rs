//! `novella completion`: the script that lets a shell complete our commands.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;

/// See the module.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  novella completion bash > /etc/bash_completion.d/novella\n  source <(novella completion zsh)"
)]
pub struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Writes the script.
pub fn run(args: &CompletionArgs, out: &mut (dyn Write + Send)) -> anyhow::Result<u8> {
    // Into memory first: the generator panics on a write error, and a closed pipe is none.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "novella", &mut script);
    out.write_all(&script)?;
    Ok(crate::exit_codes::OK)
}
