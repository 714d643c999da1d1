//! Records on both stores, on a disk that loses its power, and behind a writer.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, process::Command, sync::Arc};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::env::{
    CommitError, Env, FLUSH_AFTER, FileStore, MAX_BEHIND, MAX_WAITING, MemoryStore, RecordWriter, Store,
    StoreFault,
};

const V1: Format = Format { version: 1, migrations: &[] };

fn both(check: impl Fn(&dyn Store)) {
    let dir = tempfile::tempdir().unwrap();
    check(&FileStore::new(dir.path().join("deep/state")));
    check(&MemoryStore::new());
}

fn record(key: &str, value: &str) -> Record {
    (key.into(), value.into())
}

#[test]
fn commits_are_there_when_the_file_is_opened_again() {
    both(|store| {
        let mut records = store.open_records("claims", V1).unwrap();
        assert_eq!(records.load().unwrap(), []);
        records.commit(&[Change::put("b", "1"), Change::put("a", "2"), Change::put("c", "")]).unwrap();
        records.commit(&[Change::delete("b"), Change::put("a", "3"), Change::delete("none")]).unwrap();
        let expected = [record("a", "3"), record("c", "")];
        assert_eq!(records.load().unwrap(), expected);
        drop(records);
        assert_eq!(store.open_records("claims", V1).unwrap().load().unwrap(), expected);
        assert_eq!(store.child("other").open_records("claims", V1).unwrap().load().unwrap(), []);
    });
}

#[test]
fn an_older_format_is_migrated_and_a_newer_one_is_refused() {
    fn rename(records: &[Record]) -> Result<Vec<Change>, String> {
        let moved = |(key, value): &Record| {
            [Change::delete(key.clone()), Change::put([b"new/", &key[..]].concat(), value.clone())]
        };
        Ok(records.iter().flat_map(moved).collect())
    }
    fn upper(records: &[Record]) -> Result<Vec<Change>, String> {
        Ok(records.iter().map(|(key, value)| Change::put(key.clone(), value.to_ascii_uppercase())).collect())
    }
    fn refuse(_: &[Record]) -> Result<Vec<Change>, String> {
        Err("no such thing".into())
    }
    both(|store| {
        store.open_records("claims", V1).unwrap().commit(&[Change::put("a", "x")]).unwrap();
        let refused = store.open_records("claims", Format { version: 2, migrations: &[refuse] }).unwrap_err();
        assert!(refused.to_string().ends_with("from version 1 of its format: no such thing"), "{refused}");
        let v3 = Format { version: 3, migrations: &[rename, upper] };
        assert_eq!(store.open_records("claims", v3).unwrap().load().unwrap(), [record("new/a", "X")]);
        // Once, and not at each start.
        assert_eq!(store.open_records("claims", v3).unwrap().load().unwrap(), [record("new/a", "X")]);
        let error = store.open_records("claims", V1).unwrap_err();
        let path = store.location("claims").display().to_string();
        assert_eq!(
            error.to_string(),
            format!("cannot open {path}: its format has version 3, and this program knows versions up to 1")
        );
        assert!(error.next_step().starts_with("run the newer version"), "{}", error.next_step());
    });
}

#[test]
fn the_power_may_go_at_any_write_of_a_migration() {
    fn upper(records: &[Record]) -> Result<Vec<Change>, String> {
        Ok(records.iter().map(|(key, value)| Change::put(key.clone(), value.to_ascii_uppercase())).collect())
    }
    for n in 0..60 {
        let store = MemoryStore::new();
        let old: Vec<_> = (0..20).map(|i| Change::put(format!("{i}"), "x")).collect();
        store.open_records("claims", V1).unwrap().commit(&old).unwrap();
        store.lose_power_at_write(n, n);
        let v2 = Format { version: 2, migrations: &[upper] };
        drop(store.open_records("claims", v2));
        store.lose_power(n);
        let migrated = store.open_records("claims", v2).unwrap().load().unwrap();
        assert!(migrated.len() == 20 && migrated.iter().all(|(_, value)| value == b"X"), "{n}");
    }
}

#[test]
fn a_file_of_records_is_private_and_a_regular_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::new(dir.path());
    let mut records = store.open_records("claims", V1).unwrap();
    assert!(!dir.path().join("claims").exists(), "nothing was written yet");
    records.commit(&[Change::put("a", "x")]).unwrap();
    let mode = fs::metadata(dir.path().join("claims")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let error = store.open_records("claims", V1).unwrap_err();
    assert!(error.to_string().ends_with("it is in use by another process"), "{error}");

    fs::write(dir.path().join("outside"), "precious").unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("link")).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("fifo")).status().unwrap().success());
    fs::create_dir(dir.path().join("directory")).unwrap();
    for name in ["link", "fifo", "directory"] {
        let error = store.open_records(name, V1).unwrap_err();
        assert!(error.to_string().ends_with(name), "{error}");
    }
    assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"precious");
}

/// A file of records with some hundred of them, and its content.
fn sample(path: &std::path::Path) -> (Vec<u8>, Vec<Record>) {
    let store = FileStore::new(path);
    let mut records = store.open_records("claims", V1).unwrap();
    for i in 0..10 {
        let change = |j| Change::put(format!("{:03}", i * 20 + j), vec![i; 400]);
        records.commit(&(0..20).map(change).collect::<Vec<_>>()).unwrap();
    }
    let content = records.load().unwrap();
    drop(records);
    (fs::read(path.join("claims")).unwrap(), content)
}

#[test]
fn a_damaged_file_is_refused_or_read_right() {
    let dir = tempfile::tempdir().unwrap();
    let (good, content) = sample(dir.path());
    let (store, path) = (FileStore::new(dir.path()), dir.path().join("claims"));
    let seed = rand::random::<u64>();
    eprintln!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut refused = 0;
    let mut check = |bad: Vec<u8>, what: &str| {
        fs::write(&path, bad).unwrap();
        match store.open_records("claims", V1).and_then(|mut records| records.load()) {
            Ok(read) => assert_eq!(read, content, "{what}"),
            Err(error @ RecordsError::Damaged { .. }) => {
                refused += 1;
                assert!(error.next_step().contains("move"), "{what}");
                assert!(path.exists());
            }
            Err(error) => panic!("{what}: {error}"),
        }
    };
    check(Vec::new(), "empty");
    check(b"garbage".to_vec(), "short garbage");
    check((0..good.len()).map(|_| random.random()).collect(), "long garbage");
    check(vec![0; good.len()], "zeros");
    for _ in 0..30 {
        let len = random.random_range(1..good.len());
        check(good[..len].to_vec(), &format!("cut at {len}"));
    }
    for i in 0..120 {
        // The header and the first pages more often than the rest.
        let at = if i % 3 == 0 { random.random_range(0..320) } else { random.random_range(0..good.len()) };
        // This byte says which of the last two commits counts. It has no checksum.
        if at == 9 {
            continue;
        }
        let mut bad = good.clone();
        bad[at] ^= 1 << random.random_range(0..8u8);
        check(bad, &format!("a bit flipped in byte {at}"));
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn a_failed_commit_leaves_nothing_and_the_next_one_succeeds() {
    let store = MemoryStore::new();
    let mut records = store.open_records("claims", V1).unwrap();
    for (fault, step) in [(StoreFault::FullDisk, "free space"), (StoreFault::ReadOnly, "remount")] {
        for value in ["a first one", "a later one"] {
            store.set_fault(Some(fault));
            let error = records.commit(&[Change::put("failed", "x")]).unwrap_err();
            assert!(error.next_step().starts_with(step), "{error}: {}", error.next_step());
            assert!(records.commit(&[Change::put("failed", "y")]).is_err());
            store.set_fault(None);
            records.commit(&[Change::put("good", value)]).unwrap();
            assert_eq!(records.load().unwrap(), [record("good", value)]);
        }
    }
    store.set_fault(Some(StoreFault::Denied));
    assert!(store.open_records("claims", V1).unwrap_err().next_step().contains("access"));
}

#[test]
fn a_full_file_system_refuses_commits_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).arg(dir.path()).output().is_ok_and(|o| o.status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) {
        eprintln!("not tested: this user may not mount a small file system");
        return;
    }
    let store = FileStore::new(dir.path());
    let mut records = store.open_records("claims", V1).unwrap();
    records.commit(&[Change::put("old", "x")]).unwrap();
    fs::write(dir.path().join("filler"), vec![1; 600 << 10]).unwrap();
    let failed = records.commit(&[Change::put("big", vec![1; 900 << 10])]);
    let kept = records.load();
    fs::remove_file(dir.path().join("filler")).unwrap();
    let again = records.commit(&[Change::put("new", "y")]);
    let now = records.load();
    drop(records);
    assert!(mount("umount", &[]));
    let error = failed.unwrap_err();
    assert!(error.next_step().starts_with("free space"), "{error}: {}", error.next_step());
    assert_eq!(kept.unwrap(), [record("old", "x")]);
    again.unwrap();
    assert_eq!(now.unwrap(), [record("new", "y"), record("old", "x")]);
}

/// Some random changes, made in the model too.
fn some_changes(random: &mut ChaCha8Rng, model: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Change> {
    let change = |_| {
        let key = vec![random.random_range(0..40u8)];
        if random.random_bool(0.3) {
            model.remove(&key);
            return Change::delete(key);
        }
        let value = vec![random.random(); random.random_range(0..3000)];
        model.insert(key.clone(), value.clone());
        Change::put(key, value)
    };
    (0..5).map(change).collect()
}

#[test]
fn after_a_power_cut_at_any_write_every_acknowledged_commit_is_there_and_none_in_part() {
    let first = rand::random::<u64>();
    for seed in (0..150).map(|i| first.wrapping_add(i)) {
        eprintln!("seed {seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let store = MemoryStore::new();
        let mut acknowledged = BTreeMap::new();
        for _ in 0..4 {
            let mut records = store.open_records("claims", V1).unwrap();
            store.lose_power_at_write(random.random_range(0..150), random.random());
            let mut attempted = acknowledged.clone();
            for _ in 0..random.random_range(1..12) {
                let changes = some_changes(&mut random, &mut attempted);
                if records.commit(&changes).is_err() {
                    break;
                }
                acknowledged = attempted.clone();
            }
            if random.random_bool(0.5) {
                store.lose_power(random.random());
            }
            drop(records);
            store.lose_power(random.random());
            let found: BTreeMap<_, _> =
                store.open_records("claims", V1).unwrap().load().unwrap().into_iter().collect();
            assert!(found == acknowledged || found == attempted, "seed {seed}");
            acknowledged = found;
        }
    }
}

#[test]
fn the_file_stays_small_under_changes_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::new(dir.path());
    let mut records = store.open_records("claims", V1).unwrap();
    let mut longest = 0;
    for round in 0..150u8 {
        let changes: Vec<_> = (0..200u32).map(|i| Change::put(i.to_be_bytes(), vec![round; 400])).collect();
        records.commit(&changes).unwrap();
        longest = longest.max(fs::metadata(dir.path().join("claims")).unwrap().len());
    }
    eprintln!("200 records of 400 bytes, written 150 times: {longest} bytes at most");
    assert!(longest <= 4 << 20, "{longest}");
}

#[test]
fn what_is_in_memory_costs_nothing_before_the_first_commit() {
    let store = MemoryStore::new();
    let mut records = store.open_records("claims", V1).unwrap();
    assert!(records.database.is_none());
    records.commit(&[Change::put("a", "x")]).unwrap();
    assert!(store.record_bytes() <= 100 << 10, "{}", store.record_bytes());
}

fn writer(store: &MemoryStore) -> (RecordWriter, Env) {
    let env = Env::simulated(1).with_store(store.clone());
    (RecordWriter::start(env.store.open_records("claims", V1).unwrap(), env.blocking.clone()), env)
}

#[tokio::test(start_paused = true)]
async fn commits_at_the_same_time_are_one_transaction_in_the_order_of_calls() {
    let store = MemoryStore::new();
    let (writer, env) = writer(&store);
    writer.metrics().register(&env.metrics);
    let waiting: Vec<_> =
        (0..500u32).map(|i| writer.commit(vec![Change::put("same", i.to_be_bytes())])).collect();
    for commit in waiting {
        commit.await.unwrap();
    }
    let text = env.metrics.encode().unwrap();
    assert!(text.contains("novella_store_commits_total 500\n"), "{text}");
    assert!(text.contains("novella_store_groups_total 1\n"), "{text}");
    assert!(text.contains("novella_store_commit_seconds_count 1\n"), "{text}");
    drop(writer);
    tokio::task::yield_now().await;
    let read = env.store.open_records("claims", V1).unwrap().load().unwrap();
    assert_eq!(read, [(b"same".to_vec(), 499u32.to_be_bytes().to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn more_commits_than_may_wait_are_refused() {
    let store = MemoryStore::new();
    let (writer, _env) = writer(&store);
    let waiting: Vec<_> = (0..MAX_WAITING).map(|_| writer.commit(vec![Change::put("a", "x")])).collect();
    assert!(matches!(writer.commit(vec![]).await, Err(CommitError::Busy)));
    for commit in waiting {
        commit.await.unwrap();
    }
    let many = vec![Change::delete("a"); MAX_BEHIND];
    writer.write_behind(many).unwrap();
    assert!(matches!(writer.write_behind(vec![Change::delete("a")]), Err(CommitError::Busy)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_written_soon_and_with_the_next_commit() {
    let store = MemoryStore::new();
    let (writer, _env) = writer(&store);
    writer.write_behind(vec![Change::put("hold", "1")]).unwrap();
    tokio::time::sleep(FLUSH_AFTER / 2).await;
    assert_eq!(writer.metrics().groups.get(), 0);
    tokio::time::sleep(FLUSH_AFTER).await;
    assert_eq!(writer.metrics().groups.get(), 1);
    writer.write_behind(vec![Change::put("hold", "2")]).unwrap();
    writer.commit(vec![Change::put("claim", "x")]).await.unwrap();
    assert_eq!((writer.metrics().groups.get(), writer.metrics().commits.get()), (2, 1));
    writer.write_behind(vec![Change::put("hold", "3")]).unwrap();
    writer.close().await.unwrap();
    let read = store.open_records("claims", V1).unwrap().load().unwrap();
    assert_eq!(read, [record("claim", "x"), record("hold", "3")]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_and_what_nobody_waits_for_is_kept() {
    let store = MemoryStore::new();
    let (writer, _env) = writer(&store);
    store.set_fault(Some(StoreFault::FullDisk));
    writer.write_behind(vec![Change::put("hold", "1"), Change::put("other", "1")]).unwrap();
    let (a, b) = (writer.commit(vec![Change::put("a", "x")]), writer.commit(vec![Change::put("b", "x")]));
    match (a.await, b.await) {
        (Err(CommitError::Failed(a)), Err(CommitError::Failed(b))) => assert!(Arc::ptr_eq(&a, &b)),
        other => panic!("{other:?}"),
    }
    // A newer change of the same key wins over the one that was kept.
    writer.write_behind(vec![Change::put("hold", "2")]).unwrap();
    tokio::time::sleep(FLUSH_AFTER * 3).await;
    assert!(writer.metrics().failed_groups.get() >= 2);
    assert!(writer.metrics().kept_changes.get() >= 4);
    store.set_fault(None);
    tokio::time::sleep(FLUSH_AFTER * 2).await;
    writer.close().await.unwrap();
    let read = store.open_records("claims", V1).unwrap().load().unwrap();
    assert_eq!(read, [record("hold", "2"), record("other", "1")]);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_dropped_leaves_a_whole_file() {
    let store = MemoryStore::new();
    let (first, _env) = writer(&store);
    first.commit(vec![Change::put("a", "x")]).await.unwrap();
    let unanswered = first.commit(vec![Change::put("b", "x")]);
    drop(first);
    assert!(matches!(unanswered.await, Err(CommitError::Stopped)));
    assert_eq!(store.open_records("claims", V1).unwrap().load().unwrap(), [record("a", "x")]);
}
