//! Questions that one scheduler asks all, itself included: how long it waits, and what it does with the answers.

use std::time::Duration;

use novella_messaging::{CallError, CallOptions, RpcError};
use novella_service::exit::chain;

use crate::call_errors::internal;

/// How long all schedulers together may take to answer.
const TIMEOUT: Duration = Duration::from_secs(7);
/// If no answer has come for this long, no other scheduler is expected to answer.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// How a question to all schedulers is sent.
pub(crate) fn options() -> CallOptions {
    CallOptions::new(TIMEOUT)
}

/// The answers, and what went wrong with schedulers that gave none, for people. Fails if the question could not be sent.
pub(crate) fn answers<T>(
    gathered: Result<Vec<Result<T, RpcError>>, RpcError>,
) -> Result<(Vec<T>, Vec<String>), CallError> {
    let gathered =
        gathered.map_err(|error| internal(format!("cannot ask the schedulers: {}", chain(&error))))?;
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for answer in gathered {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => failures.push(chain(&error)),
        }
    }
    failures.sort();
    Ok((answers, failures))
}
