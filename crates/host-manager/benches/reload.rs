//! A new policy on a map of 20,000 hosts: how long the map is locked.
//!
//! `cargo bench -p novella-host-manager --bench reload` prints a line for each figure, separated by tabs: name, fastest
//! and slowest sample in microseconds. `whole` matches all hosts at once. `matching` is one turn with as many hosts as
//! the scheduler matches at a time; `changeover` is what remains to be done at once afterwards. Between two rounds
//! every host changes its aggregates, which is the most that a reload can ask for. In the round `one`, only one rack
//! does.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use novella_host_manager::{HostManager, HostManagerOptions, NewPolicy, PolicyFile};
use novella_objects::Capabilities;
use uuid::Uuid;

const HOSTS: usize = 20_000;
const RACKS: usize = 40;
/// The number in `novella_scheduler`.
const MATCHED_AT_A_TIME: usize = 64;
const ROUNDS: usize = 12;

fn main() {
    let mut map = fleet();
    let [a, b, one] = [("", 0), ("x", 0), ("", 1)].map(|(prefix, moved)| policy(prefix, moved));
    let mut whole = Figure::default();
    for round in 0..ROUNDS {
        let policy = [&a, &b][round % 2];
        whole.time(|| map.set_policy(policy.clone()));
    }
    whole.print("whole");
    let (matching, changeover) = in_turns(&mut map, [&a, &b]);
    matching.print("matching");
    changeover.print("changeover");
    let (_, changeover) = in_turns(&mut map, [&a, &one]);
    changeover.print("one");
}

/// Puts two policies into force in turns. Returns the times of matching and of the changeover.
fn in_turns(map: &mut HostManager, policies: [&Arc<PolicyFile>; 2]) -> (Figure, Figure) {
    let (mut matching, mut changeover) = (Figure::default(), Figure::default());
    for round in 0..ROUNDS {
        let mut new = NewPolicy::new(policies[round % 2].clone());
        map.begin_policy(&mut new);
        while !matching.time(|| map.match_hosts(&mut new, MATCHED_AT_A_TIME)) {}
        black_box(changeover.time(|| map.finish_policy(new)));
    }
    (matching, changeover)
}

/// A policy with racks of hosts by a fact, rows by range, and two aggregates that match a trait and a zone. The racks
/// of `moved` hosts are one further.
fn policy(prefix: &str, moved: usize) -> Arc<PolicyFile> {
    let mut text = String::new();
    for rack in 0..RACKS {
        let matched = if rack < moved { rack + 1 } else { rack };
        text += &format!(
            "[aggregates.{prefix}rack{rack}]\nmetadata = {{ ram_allocation_ratio = '1.{rack}' }}\nmatch.facts = {{ rack = 'r{matched}' }}\n"
        );
    }
    for row in 0..10 {
        let first = row * 2000;
        text +=
            &format!("[aggregates.{prefix}row{row}]\nhosts = ['compute-[{first:05}-{:05}]']\n", first + 1999);
    }
    text += &format!(
        "[aggregates.{prefix}fast]\nmatch.traits = 'CUSTOM_T3'\n[aggregates.{prefix}north]\nmatch.zone = 'az1'\n"
    );
    // Ids follow the order of names, so another prefix gives every host other ids.
    if !prefix.is_empty() {
        text += "[aggregates.a]\nhosts = []\n";
    }
    Arc::new(PolicyFile::parse(&text).unwrap_or_else(|bad| panic!("{bad}")))
}

fn fleet() -> HostManager {
    let mut map = HostManager::new(HostManagerOptions::default(), "bench");
    for host in 0..HOSTS {
        let name = format!("compute-{host:05}");
        let traits: Vec<_> = (0..10).map(|at| format!("CUSTOM_T{}", (host + at) % 12)).collect();
        let text = serde_json::json!({
            "vcpus": 64, "vcpus_used": 0, "host_memory_total": 262_144, "host_memory_free": 262_144,
            "disk_total": 2000, "disk_used": 0, "disk_available": 2000, "hypervisor_type": "QEMU",
            "hypervisor_version": 8_002_000, "hypervisor_hostname": name, "cpu_info": {"arch": "x86_64"},
            "novella": {"uuid": Uuid::from_u128(host as u128 + 1), "incarnation": 1, "nonce": 1, "seq": 1,
                "sent_at": "2026-01-01T00:00:00Z", "interval_ms": 10_000, "availability_zone": format!("az{}", host % 3),
                "traits": traits,
                "facts": {"rack": format!("r{}", host % RACKS), "row": host / 100, "power": "b", "owner": "x", "age": 3}}
        })
        .to_string();
        let report: Capabilities<'_> = serde_json::from_str(&text).expect("the benchmark's own report");
        map.apply_report(None, "compute", &name, &report, Duration::from_secs(1));
    }
    assert_eq!(map.fleet(Duration::from_secs(1)).summaries().len(), HOSTS);
    map
}

/// The fastest and the slowest sample.
#[derive(Default)]
struct Figure(Option<(Duration, Duration)>);

impl Figure {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        let took = began.elapsed();
        let (fastest, slowest) = self.0.unwrap_or((took, took));
        self.0 = Some((fastest.min(took), slowest.max(took)));
        done
    }

    fn print(&self, name: &str) {
        let (fastest, slowest) = self.0.expect("it was timed");
        println!("{name}\t{:.1}\t{:.1}", fastest.as_secs_f64() * 1e6, slowest.as_secs_f64() * 1e6);
    }
}
