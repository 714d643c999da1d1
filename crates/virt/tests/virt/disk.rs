//! The disk of the linux driver: what is said of it, and what its hanging costs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use novella_virt::{BlockingExecutor, ComputeDriver};

use crate::host::Host;

/// The warnings of a host whose file system has blocks of 1 GiB: how many, how many free, how many available to users, and
/// whether it is read-only.
async fn warnings(blocks: u64, free: u64, available: u64, read_only: u8) -> Vec<String> {
    let disk = format!("{} {blocks} {free} {available} {read_only}\n", 1 << 30);
    Host::new(1).with("novella/statvfs", &disk).stats().await.warnings
}

#[tokio::test]
async fn a_disk_that_is_read_only_or_nearly_full_is_a_warning() {
    assert_eq!(warnings(100, 10, 6, 0).await, [""; 0], "94 % are used");
    let full = warnings(100, 9, 4, 0).await;
    assert!(
        full[0].contains("is 95 % full, with 4 GiB left") && full[0].contains("driver.disk_path"),
        "{full:?}"
    );
    let read_only = warnings(100, 100, 100, 1).await;
    assert!(read_only[0].contains("is read-only, so no instance can write there"), "{read_only:?}");
    assert_eq!(warnings(0, 0, 0, 0).await, [""; 0], "a file system without blocks, such as a bare overlay");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_costs_its_own_value_and_no_other() {
    type Jobs = Vec<Box<dyn FnOnce() + Send>>;
    // The jobs are begun in the order of the probes. The fourth is the disk's, and it hangs.
    let state: Arc<Mutex<(usize, Jobs)>> = Arc::default();
    let executor: BlockingExecutor = {
        let state = Arc::clone(&state);
        Arc::new(move |job| {
            let mut state = state.lock().unwrap();
            state.0 += 1;
            if state.0 == 4 { state.1.push(job) } else { job() }
        })
    };
    let host = Host::new(2);
    let driver = host.driver(executor);
    let asked = tokio::time::Instant::now();
    driver.init_host().await.expect("the host can be reported without its disk");
    assert_eq!(asked.elapsed(), Duration::from_secs(5), "the deadline of the probe");
    let stats = driver.get_host_stats(true).await.unwrap();
    assert_eq!(asked.elapsed(), Duration::from_secs(5), "later readings do not wait");
    assert_eq!((stats.vcpus.value, stats.memory_total_mb.value), (2, 16_000));
    assert_eq!((stats.disk_total_gb.value, stats.disk_available_gb.value), (0, 0));
    let [stale] = &stats.stale[..] else { panic!("the disk alone is stale: {:?}", stats.stale) };
    assert_eq!((stale.probe, stale.age), ("disk", Duration::from_secs(5)));
    assert!(stale.reason.contains("no answer within 5s"), "{}", stale.reason);

    let job = state.lock().unwrap().1.pop().expect("the disk's job");
    job();
    let stats = driver.get_host_stats(true).await.unwrap();
    assert!(stats.stale.is_empty() && stats.disk_total_gb.value > 0, "a late answer is an answer");
}
