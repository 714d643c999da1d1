//! `forget_host` and `own_forget_host`: makes schedulers forget a host, so that whoever reports next has it.
//!
//! What always holds: room that is held on the host stays held, because it was promised to somebody. It counts again when
//! the host reports, and it is asked to report at once.

use std::time::Duration;

use novella_messaging::CallError;
use novella_objects::{ForgottenBy, ForgottenHost};
use novella_rpcapi::HostQuery;
use novella_service::exit::chain;
use tracing::{debug, warn};

use crate::calls::gather;
use crate::manager::SchedulerManager;

/// How long asking the host to report may take. It reports within its interval anyway.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers `own_forget_host`: this scheduler forgets the host.
pub(crate) fn own(manager: &SchedulerManager, HostQuery { host }: &HostQuery) -> ForgottenBy {
    let known = manager.with_hosts(|hosts, _| hosts.forget_host(host));
    if known {
        warn!(host, "forgot this host because an administrator asked for it; whoever reports it next has it");
    }
    ForgottenBy { scheduler: manager.options.name.clone(), known }
}

/// Answers `forget_host`: all schedulers forget the host. This scheduler is one of them and receives its own question.
pub(crate) async fn everywhere(
    manager: &SchedulerManager,
    args: &HostQuery,
) -> Result<ForgottenHost, CallError> {
    let Some(peers) = manager.peers.get() else {
        return Ok(ForgottenHost { schedulers: vec![own(manager, args)], failures: Vec::new() });
    };
    let gathered = peers.own_forget_host(&args.host, gather::options(), gather::QUIET).await;
    let (mut schedulers, failures) = gather::answers(gathered)?;
    if let Some(agents) = manager.agents.get()
        && let Err(error) = agents.publish_service_capabilities_of(&args.host, ASK_TIMEOUT).await
    {
        debug!(host = args.host, error = chain(&error), "could not ask the host to report at once");
    }
    schedulers.sort_by(|a, b| a.scheduler.cmp(&b.scheduler));
    Ok(ForgottenHost { schedulers, failures })
}
