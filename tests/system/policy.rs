//! The policy of schedulers: reloaded under load, refused when wrong, the same everywhere or said to differ; aggregates
//! and server groups live from what hosts report and schedulers hold.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use novella_messaging::CallOptions;
use novella_objects::{Decision, Policies, PolicyReload};
use novella_rpcapi::{OwnPolicy, SchedulerEndpoint};
use novella_scheduler::SchedulerConfig;
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::{CALL, Cluster, SIZE, flavor, hosts, refusal, settle};

const FILTERS: &str = r#"
[filter_scheduler]
enabled_filters = [
    "ComputeFilter", "AvailabilityZoneFilter", "RamFilter", "ServerGroupAntiAffinityFilter",
    "AggregateInstanceExtraSpecsFilter",
]
"#;

/// A cluster whose schedulers, of these names, work by one policy file.
struct Rig {
    cluster: Cluster,
    dir: TempDir,
}

impl Rig {
    async fn new(seed: u64, agents: usize, schedulers: &[&str], policy: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let mut cluster = Cluster::new(seed);
        let policy_file = dir.path().join("policy.toml").to_str().unwrap().to_owned();
        cluster.scheduler_config = SchedulerConfig { policy_file, ..SchedulerConfig::default() };
        for number in 1..=agents {
            cluster.start_host(&format!("host-{number}"), SIZE).await;
        }
        let mut rig = Self { cluster, dir };
        rig.write(policy);
        for scheduler in schedulers {
            rig.cluster.start_scheduler(scheduler).await;
            rig.cluster.ready(scheduler).await;
        }
        rig
    }

    fn write(&mut self, policy: &str) {
        std::fs::write(self.dir.path().join("policy.toml"), policy).unwrap();
    }

    async fn reload(&self) -> Policies {
        self.cluster.api.reload_policy(CallOptions::new(CALL)).await.unwrap()
    }

    async fn show(&self) -> Policies {
        self.cluster.api.get_policies(CallOptions::new(CALL)).await.unwrap()
    }

    /// Asks a scheduler, or any, for one instance of a server group.
    async fn in_group(&self, scheduler: Option<&str>, group: &str) -> Decision {
        let mut request = self.cluster.request(1, flavor(1, 256, 1));
        request.request_spec.spec.scheduler_hints.insert("group".into(), json!(group));
        let api = scheduler.map_or_else(|| self.cluster.api.clone(), |name| self.cluster.api.of(name));
        self.cluster.select(&api, &request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_under_load_lets_nobody_fall_between_two_policies() {
    let mut rig = Rig::new(70, 6, &["s1"], FILTERS).await;
    let mut seen = BTreeSet::new();
    for round in 0..12 {
        rig.write(&format!("{FILTERS}\nhost_subset_size = {}\n", 1 + round % 3));
        let load = join_all((0..8).map(|_| rig.cluster.place(2, flavor(1, 64, 1))));
        let (decisions, policies) = tokio::join!(load, rig.reload());
        let in_force = &policies.schedulers[0].hash;
        assert_eq!(
            policies.schedulers[0].reload,
            Some(if round == 0 { PolicyReload::Unchanged } else { PolicyReload::Applied })
        );
        seen.insert(in_force.clone());
        for decision in decisions {
            assert_eq!((decision.refusal, decision.selections.len()), (None, 2));
            assert!(
                seen.contains(&decision.policy_hash),
                "{} is the hash of no policy",
                decision.policy_hash
            );
        }
        assert_eq!(rig.cluster.place(1, flavor(1, 64, 1)).await.policy_hash, *in_force);
    }
    assert_eq!(seen.len(), 3);
    rig.cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_policy_is_refused_and_the_old_one_stays_in_force() {
    let mut rig = Rig::new(71, 3, &["s1"], FILTERS).await;
    let before = rig.show().await.schedulers.remove(0).hash;
    rig.write("[filter_scheduler]\nenabled_filters = [\"RamFiler\"]\nhost_subset_size = 0\n");
    let refused = rig.reload().await.schedulers.remove(0);
    assert_eq!((refused.reload, &refused.hash), (Some(PolicyReload::Refused), &before));
    let problems: Vec<_> = refused.problems.iter().map(|problem| (problem.line, &*problem.key)).collect();
    assert_eq!(problems, [(2, "filter_scheduler.enabled_filters"), (3, "filter_scheduler.host_subset_size")]);
    assert_eq!(rig.cluster.place(1, flavor(1, 256, 1)).await.policy_hash, before);

    let ready = rig.cluster.scheduler("s1").health().ready();
    let part = ready.parts.iter().find(|part| part.name == "policy").unwrap();
    assert!(
        ready.ok && part.reason.contains("the last reload was refused") && part.reason.contains("RamFilter"),
        "{part:?}"
    );
    assert_eq!(rig.cluster.metric("s1", "novella_scheduler_policy_reloads_total{outcome=\"refused\"}"), 1);
    assert_eq!(rig.cluster.metric("s1", "novella_scheduler_policy_refused"), 1);
    let status = rig.cluster.api.status(CallOptions::new(CALL)).await.unwrap();
    assert!(
        status.policy_refused.is_some_and(|why| why.contains("RamFiler")) && status.policy_hash == before
    );

    rig.write(FILTERS);
    assert_eq!(rig.reload().await.schedulers[0].reload, Some(PolicyReload::Unchanged));
    assert_eq!(rig.cluster.metric("s1", "novella_scheduler_policy_refused"), 0);
    assert!(rig.show().await.schedulers[0].problems.is_empty());
    rig.cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn schedulers_with_different_policies_are_seen_and_made_one() {
    let mut rig = Rig::new(72, 2, &["s1", "s2"], FILTERS).await;
    let hashes = |policies: &Policies| {
        policies.schedulers.iter().map(|p| (p.scheduler.clone(), p.hash.clone())).collect::<Vec<_>>()
    };
    let same = hashes(&rig.show().await);
    assert_eq!((same.len(), &same[0].1), (2, &same[1].1));
    rig.write(&format!("{FILTERS}\nhost_subset_size = 2\n[aggregates.all]\nhosts = [\"host-[1-9]\"]\n"));
    let s1 = rig.cluster.scheduler("s1").manager();
    let reloaded = s1.own_policy(OwnPolicy { reload: true }).await.unwrap();
    assert_eq!(reloaded.reload, Some(PolicyReload::Applied));
    let drift = hashes(&rig.show().await);
    assert_eq!(drift[1], same[1]);
    assert_ne!(drift[0].1, drift[1].1);

    let reloaded = rig.reload().await;
    assert!(reloaded.failures.is_empty());
    let outcomes: Vec<_> = reloaded.schedulers.iter().map(|p| p.reload.unwrap()).collect();
    assert_eq!(outcomes, [PolicyReload::Unchanged, PolicyReload::Applied]);
    let changes: Vec<_> = reloaded.schedulers[1].changes.iter().map(ToString::to_string).collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[0].starts_with("+ aggregates.all = {"), "{changes:?}");
    assert_eq!(changes[1], "~ filter_scheduler.host_subset_size: 1 -> 2");
    let one = hashes(&rig.show().await);
    assert_eq!(one[0].1, one[1].1);
    rig.cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn members_of_a_group_stay_apart_across_requests_and_schedulers() {
    let policy = format!("{FILTERS}\n[server_groups.web]\npolicy = \"anti-affinity\"\n");
    let rig = Rig::new(73, 3, &["s1", "s2"], &policy).await;
    let mut taken = BTreeSet::new();
    for scheduler in ["s1", "s2", "s1"] {
        let decision = rig.in_group(Some(scheduler), "web").await;
        assert!(taken.insert(hosts(&decision)[0].to_owned()), "{taken:?} {decision:?}");
        settle().await;
    }
    let fourth = rig.in_group(Some("s2"), "web").await;
    assert!(refusal(&fourth).starts_with("No valid host"), "{fourth:?}");
    let lost = fourth.explanation.filters.iter().find(|filter| filter.hosts_out == 0).unwrap();
    assert_eq!(lost.filter, "ServerGroupAntiAffinityFilter");
    let mut request = rig.cluster.request(1, flavor(1, 256, 1));
    request.request_spec.spec.scheduler_hints.insert("group".into(), json!("unknown"));
    let error = rig.cluster.api.select_destinations(&request, CallOptions::new(CALL)).await.unwrap_err();
    let error = novella_service::exit::chain(&error);
    assert!(error.contains("no server group \"unknown\"; known are web"), "{error}");
    rig.cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn aggregates_and_flavors_follow_facts_and_the_policy() {
    let policy = format!(
        "{FILTERS}\n[aggregates.fast]\nmatch.facts.rack = \"r1\"\nmetadata = {{ tier = \"fast\", availability_zone = \"az-fast\" }}\n\
         [flavors.quick]\nvcpus = 1\nmemory_mb = 256\nextra_specs = {{ \"aggregate_instance_extra_specs:tier\" = \"fast\" }}\n"
    );
    let mut rig = Rig::new(74, 2, &["s1"], &policy).await;
    let mut request = rig.cluster.request(1, flavor(1, 1, 1));
    request.flavor = Some("quick".into());
    let nowhere = rig.cluster.select(&rig.cluster.api, &request).await;
    assert!(refusal(&nowhere).starts_with("No valid host"));

    rig.cluster.stop_host("host-2").await;
    rig.cluster.agent_config.facts.insert("rack".into(), json!("r1"));
    rig.cluster.start_host("host-2", SIZE).await;
    settle().await;
    let there = rig.cluster.select(&rig.cluster.api, &request).await;
    assert_eq!(hosts(&there), ["host-2"]);
    assert_eq!(rig.cluster.view("s1").await["host-2"].availability_zone, "az-fast");
    let mut zone = rig.cluster.request(1, flavor(1, 1, 1));
    zone.request_spec.spec.availability_zone = Some("az-fast".into());
    assert_eq!(hosts(&rig.cluster.select(&rig.cluster.api, &zone).await), ["host-2"]);
    rig.cluster.stop().await;
}
