//! `select_destinations`: decides a request, and tells the hosts what is held on them or asks them for claims.

use std::collections::BTreeMap;
use std::sync::Arc;

use novella_messaging::{CallError, RequestContext};
use novella_objects::{Decision, SelectDestinations};

use crate::calls::claims;
use crate::calls::decide::{Asker, check, decide, holds, log, take};
use crate::manager::SchedulerManager;

/// Answers the call.
pub(crate) async fn select_destinations(
    manager: &SchedulerManager,
    context: &RequestContext,
    request: SelectDestinations,
) -> Result<Arc<Decision>, CallError> {
    check(manager, &request)?;
    let asker = Asker::of(manager, context);
    take(manager, &asker, &request)?;
    if request.claim {
        return claims::claim(manager, context, request, BTreeMap::new()).await;
    }
    let (decision, holds, began) = {
        let (mut guard, now) = manager.core();
        let core = &mut *guard;
        let (decided, _) = decide(manager, core, &asker, request, now)?;
        let holds = holds(core, &decided, now);
        (decided.decision, holds, now)
    };
    log(manager, &decision, began);
    claims::tell(manager, decision, holds).await
}
