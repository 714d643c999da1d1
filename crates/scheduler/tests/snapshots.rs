//! Many clients read snapshots page by page at the same time.

mod bed;

use novella_rpcapi::{SchedulerEndpoint, SnapshotQuery};
use novella_service::Env;

/// Enough for more than one page.
const HOSTS: usize = 12_000;
const READERS: usize = 8;

#[tokio::test(start_paused = true)]
async fn readers_do_not_take_each_others_snapshots_away() {
    let env = Env::simulated(1);
    let manager = bed::manager(&env, "", HOSTS);
    let mut read = vec![(0, SnapshotQuery::default()); READERS];
    let mut rounds = 0;
    while read.iter().any(|(hosts, _)| *hosts < HOSTS) {
        // Each reader gets its next page before any gets another one, as in a queue.
        for (hosts, query) in read.iter_mut().filter(|(hosts, _)| *hosts < HOSTS) {
            let page = manager.snapshot(query.clone()).await.expect("the snapshot is still there");
            *hosts += page.hosts.len();
            query.cursor = page.next;
        }
        rounds += 1;
    }
    assert!(rounds > 1, "a snapshot has several pages");
    assert!(read.iter().all(|(hosts, query)| *hosts == HOSTS && query.cursor.is_none()));
}
