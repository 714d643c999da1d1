//! To whom a placement belongs, and who may give it back.
//!
//! What always holds: where the settings name administrators, a placement belongs to the broker user who asked for it, and
//! only this user and administrators may give it back. Where they name none, everybody who may place may give back everything.

use novella_messaging::{ANONYMOUS, CallError, MethodClass, RequestContext};

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

/// Refuses to do this to a placement that belongs to somebody else.
pub(crate) fn check_owner<'u>(
    manager: &SchedulerManager,
    context: &RequestContext,
    verb: &str,
    owners: impl IntoIterator<Item = &'u str>,
) -> Result<(), CallError> {
    let by = only_of(manager, context);
    match by.and_then(|by| owners.into_iter().find(|owner| *owner != by)) {
        Some(other) => Err(forbidden(manager, context, verb, other)),
        None => Ok(()),
    }
}

/// The error of somebody who tries this with what another broker user placed.
pub(crate) fn forbidden(
    manager: &SchedulerManager,
    context: &RequestContext,
    verb: &str,
    other: &str,
) -> CallError {
    let attempted = format!("{verb} what the broker user {other} placed");
    manager.options.authority.forbids(context.user_id.as_deref(), MethodClass::Administer, attempted)
}
