//! Which hosts are asked whether they have a queue of their own, and what their answers change.

use std::time::Duration;

use novella_objects::HostStatus;
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::report::newcomers::Answers;
use crate::report::outcome::Event;

/// The hosts that should be asked now, at most so many.
pub(crate) fn hosts_to_ask(map: &mut HostMap, most: usize, now: Duration) -> Vec<String> {
    let mut hosts = Vec::new();
    while hosts.len() < most
        && let Some(row) = map.newcomers.next(now)
    {
        let known = map.records.get(row.index()).and_then(Option::as_deref);
        if known.is_some_and(|record| record.answers != Answers::Yes) {
            hosts.push(map.table.host(row).to_owned());
        }
    }
    hosts
}

/// Notes whether a host answered, and with which identity. A host that did not answer is asked again later.
pub(crate) fn answered(map: &mut HostMap, host: &str, answer: Option<Option<Uuid>>, now: Duration) {
    let Some(row) = map.table.row_of(host) else { return };
    let record = map.record_mut(row);
    let own = |uuid: Option<Uuid>| match (uuid, record.identity) {
        (Some(answered), Some(identity)) => answered == identity.uuid,
        _ => true,
    };
    let answers = if answer.is_some_and(own) { Answers::Yes } else { Answers::No };
    let before = std::mem::replace(&mut record.answers, answers);
    if answers == Answers::No {
        map.newcomers.expect_later(row, now);
        if before != Answers::No {
            map.note(Event::Unanswered { host: host.to_owned() });
        }
    }
    let (down_time, record) = (map.options.service_down_time, map.record(row));
    let status = record.status(record.hearing.judge(&map.outages, down_time, now));
    // What a host that is silent is, the next sweep says.
    if map.table.view(row).status() != HostStatus::Down {
        map.table.set_status(row, status);
    }
}
