//! Makes room for new hosts in a full map: forgets hosts that are gone and that nobody would miss.
//!
//! What always holds: a host with claims or reservations stays, and so does one that is heard and has answered under its own
//! queue. The map is searched at most once a second, however many new hosts come.

use std::time::Duration;

use novella_filter_scheduler::Row;
use novella_objects::HostStatus;

use crate::map::host_map::HostMap;
use crate::report::newcomers::Answers;
use crate::report::outcome::Event;

/// The shortest time between two searches of the whole map.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// In which order hosts go, the first one first. `None` if the host stays.
fn order(map: &HostMap, row: Row) -> Option<(bool, Duration)> {
    let record = map.records.get(row.index())?.as_deref()?;
    let silent = map.table.view(row).status() == HostStatus::Down;
    let answered = record.answers != Answers::No;
    let empty = record.claims.rows().is_empty() && record.held == 0;
    (empty && (silent || !answered)).then_some((answered, record.hearing.heard))
}

/// Forgets one host, if one may go. Returns whether there is room now.
pub(crate) fn make_room(map: &mut HostMap, now: Duration) -> bool {
    if map.dispensable.is_empty() && now >= map.next_search_for_room {
        let mut found: Vec<_> =
            map.table.rows().filter_map(|row| order(map, row).map(|order| (order, row))).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        map.dispensable = found.into_iter().map(|(_, row)| row).collect();
        map.next_search_for_room = now.saturating_add(SEARCH_INTERVAL);
    }
    while let Some(row) = map.dispensable.pop() {
        // The host may have come back since, or its row may be another's.
        if order(map, row).is_some() {
            map.counters.forgotten += 1;
            map.note(Event::Forgotten { host: map.table.host(row).to_owned() });
            map.remove(row);
            return true;
        }
    }
    false
}
