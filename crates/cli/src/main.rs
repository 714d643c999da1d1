//! The executable `novella`: everything is in the library, so that tests can drive it.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    novella_cli::run(std::env::args_os()).await
}
