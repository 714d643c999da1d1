//! How many durable commits a second the disk of the temporary directory takes: one caller that waits for each, and 256
//! callers at the same time. `TMPDIR` chooses the disk.

use divan::{Bencher, counter::ItemsCount};
use novella_service::{Change, Env, Format, RecordWriter};
use tokio::runtime::Runtime;

const FORMAT: Format = Format { version: 1, migrations: &[] };
/// About the size of a claim.
const VALUE: [u8; 400] = [7; 400];
/// How many records there are.
const RECORDS: u64 = 200;

fn main() {
    divan::main();
}

/// Each of `waiters` commits one record, and all wait until theirs is durable.
#[divan::bench(args = [1, 16, 256], sample_size = 1, max_time = 5)]
fn commits(bencher: Bencher<'_, '_>, waiters: u64) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let writer = runtime.block_on(async {
        let env = Env::system(Some(dir.path())).expect("entropy");
        RecordWriter::start(
            env.store.open_records("records", FORMAT).expect("a new file"),
            env.blocking.clone(),
        )
    });
    let mut next = 0;
    bencher.counter(ItemsCount::new(waiters)).bench_local(|| {
        runtime.block_on(async {
            let commit = |_| {
                next = (next + 1) % RECORDS;
                writer.commit(vec![Change::put(next.to_be_bytes(), VALUE)])
            };
            let waiting: Vec<_> = (0..waiters).map(commit).collect();
            for commit in waiting {
                commit.await.expect("there is room on the disk");
            }
        });
    });
    runtime.block_on(writer.close()).expect("there is room on the disk");
}
