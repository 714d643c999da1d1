//! `release`: gives back what a decision holds, and tells the peers.
//!
//! What always holds: where the settings name administrators, a placement belongs to the broker user who asked for it, and
//! only this user and administrators release it. Where they name none, everybody who may place may release everything.

use novella_messaging::{ANONYMOUS, CallError, MethodClass, RequestContext};
use novella_rpcapi::Release;

use crate::manager::SchedulerManager;

/// The broker user to whom a placement that is asked for now belongs. `None` if it belongs to everybody.
pub(crate) fn owner<'c>(manager: &SchedulerManager, context: &'c RequestContext) -> Option<&'c str> {
    let is_owned = !manager.options.authority.is_open(MethodClass::Administer);
    is_owned.then(|| context.user_id.as_deref().unwrap_or(ANONYMOUS))
}

/// The broker user whose own placements alone may be released by this request. `None` if it may release everything.
pub(crate) fn only_of<'c>(manager: &SchedulerManager, context: &'c RequestContext) -> Option<&'c str> {
    let may_all = manager.options.authority.permits(context.user_id.as_deref(), MethodClass::Administer);
    owner(manager, context).filter(|_| !may_all)
}

/// Answers the call with how many reservations were released.
pub(crate) fn release(
    manager: &SchedulerManager,
    context: &RequestContext,
    Release { decision_id, instance_uuids }: &Release,
) -> Result<u64, CallError> {
    let user = context.user_id.as_deref().unwrap_or(ANONYMOUS);
    manager.quotas.take(user, None, manager.env.clock.now())?;
    let by = only_of(manager, context);
    let released = manager.with_hosts(|hosts, _| {
        let released = hosts.release(decision_id, instance_uuids, by)?;
        let count = released.as_ref().map_or(0, |released| released.entries.len() as u64);
        // While the map is held, so that peers hear of decisions in order.
        released.into_iter().for_each(|released| manager.tell_peers(released));
        Ok(count)
    });
    released.map_err(|other: std::sync::Arc<str>| {
        let attempted = format!("release what the broker user {other} placed");
        manager.options.authority.forbids(context.user_id.as_deref(), MethodClass::Administer, attempted)
    })
}
