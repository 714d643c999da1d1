//! What a message costs grows no faster than the message.
//!
//! Each field that may repeat is given eight times as often, and the time may not grow much more than eightfold. A walk
//! over the list for each of its entries would take 64 times as long. Times are compared with each other only, so a slow
//! machine does not matter. They are CPU times of the thread: on a busy machine a short run is over before the thread
//! has to give its CPU up, a long one is not, and by the clock on the wall the long one would look too slow.

use std::time::Duration;

use novella_filter_scheduler::{FilterScheduler, SchedulerOptions};
use novella_host_manager::{HostManager, HostManagerOptions};
use novella_objects::{Capabilities, SelectDestinations};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use uuid::Uuid;

/// How much longer eight times the length may take. Linear is 8, quadratic 64.
const AT_MOST: f64 = 24.0;

fn uuid(n: usize) -> String {
    Uuid::from_u128(0x1000 + n as u128).to_string()
}

fn list(n: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..n).map(one).collect()
}

fn object(n: usize, key: &str, one: impl Fn(usize) -> Value) -> Value {
    Value::Object((0..n).map(|at| (format!("{key}{at}"), one(at))).collect())
}

fn manager() -> HostManager {
    HostManager::new(HostManagerOptions::default(), "s1")
}

fn now() -> Duration {
    Duration::from_secs(1)
}

/// The report of a host of 64 CPUs with these further fields of its own part.
fn report(host: usize, seq: usize, own: &Value) -> String {
    let mut novella = json!({"uuid": Uuid::from_u128(1 + host as u128), "incarnation": 1, "nonce": 1, "seq": seq,
        "sent_at": "", "interval_ms": 10000});
    novella.as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
    json!({"vcpus": 64, "host_memory_total": 1 << 20, "disk_total": 10_000, "novella": novella}).to_string()
}

fn send(manager: &mut HostManager, host: usize, text: &str) {
    let caps: Capabilities<'_> = serde_json::from_str(text).expect("a good report");
    let applied = manager.apply_report(None, "compute", &format!("h{host}"), &caps, now());
    assert!(applied.is_accepted(), "{applied:?}");
}

/// For how long this thread has had a CPU.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("time since a start")
}

/// The CPU time of the shortest of several runs of `run`, each after a `prepare` that is not measured.
fn time<T>(runs: usize, prepare: impl Fn() -> T, run: impl Fn(T)) -> Duration {
    let once = || {
        let prepared = prepare();
        let began = cpu_time();
        run(prepared);
        cpu_time() - began
    };
    (0..runs).map(|_| once()).min().expect("at least one run")
}

/// Checks that `time_of(8 × n)` is within [`AT_MOST`] times `time_of(n)`. Other work on the machine disturbs the caches
/// and so lengthens CPU time too, so a result that is too long is measured again.
fn grows_with_length(what: &str, n: usize, time_of: impl Fn(usize, usize) -> Duration) {
    let mut seen = Vec::new();
    for runs in [3, 7, 15, 31] {
        let (short, long) = (time_of(n, runs), time_of(8 * n, runs));
        let ratio = long.as_secs_f64() / short.as_secs_f64().max(2e-5);
        if ratio <= AT_MOST {
            return;
        }
        seen.push(format!("{short:?} for {n}, {long:?} for {}", 8 * n));
    }
    panic!("the time for {what} grows faster than its length: {seen:?}");
}

/// A field of novella's part of a report: its name, the base length, and its value for a length and a variant. Two
/// variants share nothing, so that changing one into the other is the most work.
type ReportField = (&'static str, usize, fn(usize, usize) -> Value);

fn claims(n: usize, variant: usize, more: impl Fn(usize) -> Value) -> Value {
    list(n, |at| {
        let mut claim =
            json!({"uuid": uuid(variant * 100_000 + at), "vcpus": 1, "memory_mb": 1, "disk_gb": 1});
        claim.as_object_mut().expect("an object").extend(more(at).as_object().expect("an object").clone());
        claim
    })
}

const REPORT_FIELDS: [ReportField; 16] = [
    ("claims", 512, |n, v| json!({"claims": claims(n, v, |_| json!({}))})),
    (
        "claims of one instance",
        512,
        |n, v| json!({"claims": list(n, |_| claims(1, v, |_| json!({}))[0].clone())}),
    ),
    (
        "claims in a group",
        256,
        |n, v| json!({"claims": claims(n, v, |_| json!({"group": "g", "flavor": "f"}))}),
    ),
    (
        "claims with groups",
        256,
        |n, v| json!({"claims": claims(n, v, |at| json!({"group": format!("g{v}-{at}")}))}),
    ),
    (
        "claims with flavors",
        256,
        |n, v| json!({"claims": claims(n, v, |at| json!({"flavor": format!("f{v}-{at}")}))}),
    ),
    ("claims with images", 64, |n, v| {
        let image = |at| json!({"image": {"properties": {"os_distro": format!("{v}-{at}")}}});
        json!({"claims": claims(n, v, image)})
    }),
    ("ended", 4096, |n, v| json!({"ended": list(n, |at| uuid(v * 100_000 + at).into())})),
    ("traits", 128, |n, v| json!({"traits": list(n, |at| format!("CUSTOM_{v}_{at}").into())})),
    (
        "resources",
        128,
        |n, v| json!({"resources": object(n, &format!("CUSTOM_{v}_"), |_| json!({"total": 8}))}),
    ),
    ("resources with claims of them", 64, |n, v| {
        let class = |at| format!("CUSTOM_{v}_{at}");
        let claimed = claims(n, v, |at| json!({"resources": {class(at): 1, class(0): 1}}));
        json!({"resources": object(n, &format!("CUSTOM_{v}_"), |_| json!({"total": 8})), "claims": claimed})
    }),
    ("resources of one claim", 64, |n, v| {
        let of = |_| object(n, &format!("CUSTOM_{v}_"), |_| json!({"total": 8}));
        let taken = object(n, &format!("CUSTOM_{v}_"), |_| json!(1));
        json!({"resources": of(0), "claims": claims(1, v, |_| json!({"resources": taken}))})
    }),
    ("facts", 128, |n, v| json!({"facts": object(n, &format!("k{v}_"), |at| at.into())})),
    ("keys of one fact", 512, |n, v| json!({"facts": {"f": object(n, &format!("k{v}_"), |at| at.into())}})),
    ("stale_probes", 128, |n, v| json!({"stale_probes": object(n, &format!("p{v}_"), |at| at.into())})),
    ("metrics", 64, |n, v| {
        let metric = |at| json!({"name": format!("m{at}"), "value": v, "timestamp": "t", "source": "s"});
        json!({"metrics": list(n, metric)})
    }),
    ("pci_pools and claims of them", 64, |n, v| {
        let pool = |at: usize| json!({"vendor_id": format!("{at:04x}"), "product_id": format!("{v}"), "dev_type": "type-PCI", "count": 2});
        json!({"pci_pools": list(n, pool), "claims": claims(n, v, |at| json!({"pci": [pool(at)]}))})
    }),
];

/// The first report of a host, and then one that differs in everything.
#[test]
fn the_time_for_a_report_grows_with_its_length() {
    for (what, n, field) in REPORT_FIELDS {
        let texts = |n| [report(0, 1, &field(n, 1)), report(0, 2, &field(n, 2))];
        grows_with_length(what, n, |n, runs| {
            let texts = texts(n);
            time(runs, manager, |mut manager| texts.iter().for_each(|text| send(&mut manager, 0, text)))
        });
    }
}

/// Many hosts claim the same instances. The report of the last one costs what that of an honest host does.
#[test]
fn many_claims_of_one_instance_make_nobody_slower() {
    const CLAIMS: usize = 1024;
    let claims = json!({"claims": claims(CLAIMS, 1, |_| json!({}))});
    let after = |hosts: usize| {
        let mut manager = manager();
        (1..=hosts).for_each(|host| send(&mut manager, host, &report(host, 1, &claims)));
        manager
    };
    let text = report(0, 1, &claims);
    let mut seen = Vec::new();
    for runs in [3, 7, 15] {
        let of = |hosts| time(runs, || after(hosts), |mut manager| send(&mut manager, 0, &text));
        let (alone, last) = (of(0), of(60));
        if last < 8 * alone {
            return;
        }
        seen.push((alone, last));
    }
    panic!("alone and after 60 others: {seen:?}");
}

/// A field of a request: its name, the base length, and its value for a length.
type RequestField = (&'static str, usize, fn(usize) -> Value);

fn names(n: usize) -> Value {
    list(n, |at| format!("h{}", at % 64).into())
}

const REQUEST_FIELDS: [RequestField; 15] = [
    ("instance_uuids", 256, |n| json!({"instance_uuids": list(n, |at| uuid(at).into())})),
    (
        "instance_uuids that a host claims",
        512,
        |n| json!({"instance_uuids": list(n, |at| uuid(100_000 + at).into())}),
    ),
    ("ignore_hosts", 512, |n| json!({"ignore_hosts": names(n)})),
    ("force_hosts", 512, |n| json!({"force_hosts": names(n)})),
    ("force_nodes", 512, |n| json!({"force_nodes": names(n)})),
    (
        "different_host",
        512,
        |n| json!({"scheduler_hints": {"different_host": list(n, |at| uuid(at).into())}}),
    ),
    ("same_host", 512, |n| json!({"scheduler_hints": {"same_host": list(n, |at| uuid(at).into())}})),
    ("hints", 512, |n| json!({"scheduler_hints": object(n, "hint", |at| at.to_string().into())})),
    ("required_aggregates", 512, |n| json!({"required_aggregates": list(n, |at| json!([at]))})),
    ("forbidden_aggregates", 512, |n| json!({"forbidden_aggregates": list(n, Into::into)})),
    (
        "retry",
        512,
        |n| json!({"retry": {"num_attempts": 2, "hosts": list(n, |at| json!([format!("h{}", at % 64), "n"]))}}),
    ),
    ("group members", 512, |n| {
        let members = list(n, |at| uuid(at).into());
        json!({"instance_group": {"policy": "anti-affinity", "members": members, "hosts": names(n)}})
    }),
    (
        "extra specs",
        64,
        |n| json!({"flavor": {"vcpus": 1, "extra_specs": object(n, "capabilities:k", |_| "1".into())}}),
    ),
    (
        "traits",
        32,
        |n| json!({"flavor": {"vcpus": 1, "extra_specs": object(n, "trait:CUSTOM_", |_| "required".into())}}),
    ),
    ("image properties", 64, |n| json!({"image": {"properties": object(n, "p", |at| at.into())}})),
];

#[test]
fn the_time_for_a_request_grows_with_its_length() {
    let options = SchedulerOptions::default();
    for (what, n, field) in REQUEST_FIELDS {
        grows_with_length(what, n, |n, runs| {
            let mut spec = json!({"instance_uuids": [uuid(0)], "flavor": {"vcpus": 1}, "force_hosts": [], "ignore_hosts": [],
                "scheduler_hints": {}, "attempt": 1});
            spec.as_object_mut().expect("an object").extend(field(n).as_object().expect("an object").clone());
            let text = json!({"request_spec": spec}).to_string();
            let prepare = || {
                let mut manager = manager();
                for host in 0..64 {
                    let own = json!({"claims": claims(4096 * usize::from(host == 7), 1, |_| json!({}))});
                    send(&mut manager, host, &report(host, 1, &own));
                }
                (manager, FilterScheduler::new(options.clone()).expect("good options"))
            };
            time(runs, prepare, |(mut manager, mut engine)| {
                let request: SelectDestinations = serde_json::from_str(&text).expect("a good request");
                let request = manager.resolve(request).expect("nothing to look up");
                // A request that cannot be answered has its cost, too.
                let _ = manager.select_destinations(&mut engine, &request, "s1-1".to_owned(), 1, now());
            })
        });
    }
}

/// Volumes are placed by other code. Here the number of hosts grows with the number of volumes.
#[test]
fn the_time_for_volumes_grows_with_their_number() {
    grows_with_length("volumes", 64, |n, runs| {
        let spec = json!({"instance_uuids": list(n, |at| uuid(at).into()), "flavor": {"root_gb": 1}, "force_hosts": names(n),
            "ignore_hosts": list(n, |at| format!("x{at}").into()), "scheduler_hints": {}, "attempt": 1});
        let text = json!({"service": "volume", "request_spec": spec}).to_string();
        let prepare = || {
            let mut manager = manager();
            for host in 0..n {
                let text = json!({"free_capacity_gb": 100}).to_string();
                let caps: Capabilities<'_> = serde_json::from_str(&text).expect("a good report");
                assert!(
                    manager.apply_report(None, "volume", &format!("h{host}"), &caps, now()).is_accepted()
                );
            }
            manager
        };
        time(runs, prepare, |mut manager| {
            let request: SelectDestinations = serde_json::from_str(&text).expect("a good request");
            let request = manager.resolve(request).expect("nothing to look up");
            let decision = manager.select_service("volume", &request, "s1-1".to_owned(), now());
            assert_eq!(decision.selections.len(), n, "{decision:?}");
        })
    });
}
