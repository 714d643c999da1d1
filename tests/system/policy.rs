//! The policy of schedulers: reloaded under load, refused when wrong, the same everywhere or said to differ; aggregates
//! and server groups live from what hosts report and schedulers hold.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use novella_messaging::CallOptions;
use novella_objects::{Policies, PolicyReload, SelectDestinations};
use novella_rpcapi::{OwnPolicy, SchedulerEndpoint};
use serde_json::json;

use crate::cluster::{CALL, Cluster, SIZE, flavor, hosts, refusal, settle};

const FILTERS: &str = r#"
[filter_scheduler]
enabled_filters = [
    "ComputeFilter", "AvailabilityZoneFilter", "RamFilter", "ServerGroupAntiAffinityFilter",
    "AggregateInstanceExtraSpecsFilter",
]
"#;

/// A cluster whose schedulers, of these names, work by one policy file.
async fn cluster(seed: u64, hosts: usize, schedulers: &[&str], policy: &str) -> Cluster {
    let mut cluster = Cluster::new(seed);
    cluster.set_policy(policy);
    cluster.start_hosts(hosts).await;
    for scheduler in schedulers {
        cluster.serve(scheduler).await;
    }
    cluster
}

async fn reload(cluster: &Cluster) -> Policies {
    cluster.api.reload_policy(CallOptions::new(CALL)).await.unwrap()
}

async fn show(cluster: &Cluster) -> Policies {
    cluster.api.get_policies(CallOptions::new(CALL)).await.unwrap()
}

/// A request for one instance of a server group.
fn in_group(cluster: &Cluster, group: &str) -> SelectDestinations {
    let mut request = cluster.request(1, flavor(1, 256, 1));
    request.request_spec.spec.scheduler_hints.insert("group".into(), json!(group));
    request
}

#[tokio::test(start_paused = true)]
async fn a_reload_under_load_lets_nobody_fall_between_two_policies() {
    let mut cluster = cluster(70, 6, &["s1"], FILTERS).await;
    let mut seen = BTreeSet::new();
    for round in 0..12 {
        cluster.set_policy(&format!("{FILTERS}\nhost_subset_size = {}\n", 1 + round % 3));
        let load = join_all((0..8).map(|_| cluster.place(2, flavor(1, 64, 1))));
        let (decisions, policies) = tokio::join!(load, reload(&cluster));
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
        assert_eq!(cluster.place(1, flavor(1, 64, 1)).await.policy_hash, *in_force);
    }
    assert_eq!(seen.len(), 3);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_policy_is_refused_and_the_old_one_stays_in_force() {
    let mut cluster = cluster(71, 3, &["s1"], FILTERS).await;
    let before = show(&cluster).await.schedulers.remove(0).hash;
    cluster.set_policy("[filter_scheduler]\nenabled_filters = [\"RamFiler\"]\nhost_subset_size = 0\n");
    let refused = reload(&cluster).await.schedulers.remove(0);
    assert_eq!((refused.reload, &refused.hash), (Some(PolicyReload::Refused), &before));
    let problems: Vec<_> = refused.problems.iter().map(|problem| (problem.line, &*problem.key)).collect();
    assert_eq!(problems, [(2, "filter_scheduler.enabled_filters"), (3, "filter_scheduler.host_subset_size")]);
    assert_eq!(cluster.place(1, flavor(1, 256, 1)).await.policy_hash, before);

    let ready = cluster.scheduler("s1").health().ready();
    let part = ready.parts.iter().find(|part| part.name == "policy").unwrap();
    assert!(
        ready.ok && part.reason.contains("the last reload was refused") && part.reason.contains("RamFilter"),
        "{part:?}"
    );
    assert_eq!(cluster.metric("s1", "novella_scheduler_policy_reloads_total{outcome=\"refused\"}"), 1);
    assert_eq!(cluster.metric("s1", "novella_scheduler_policy_refused"), 1);
    let status = cluster.api.status(CallOptions::new(CALL)).await.unwrap();
    assert!(
        status.policy_refused.is_some_and(|why| why.contains("RamFiler")) && status.policy_hash == before
    );

    cluster.set_policy(FILTERS);
    assert_eq!(reload(&cluster).await.schedulers[0].reload, Some(PolicyReload::Unchanged));
    assert_eq!(cluster.metric("s1", "novella_scheduler_policy_refused"), 0);
    assert!(show(&cluster).await.schedulers[0].problems.is_empty());
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn schedulers_with_different_policies_are_seen_and_made_one() {
    let mut cluster = cluster(72, 2, &["s1", "s2"], FILTERS).await;
    let hashes = |policies: &Policies| {
        policies.schedulers.iter().map(|p| (p.scheduler.clone(), p.hash.clone())).collect::<Vec<_>>()
    };
    let same = hashes(&show(&cluster).await);
    assert_eq!((same.len(), &same[0].1), (2, &same[1].1));
    cluster.set_policy(&format!(
        "{FILTERS}\nhost_subset_size = 2\n[aggregates.all]\nhosts = [\"host-[1-9]\"]\n"
    ));
    let s1 = cluster.scheduler("s1").manager();
    let reloaded = s1.own_policy(OwnPolicy { reload: true }).await.unwrap();
    assert_eq!(reloaded.reload, Some(PolicyReload::Applied));
    let drift = hashes(&show(&cluster).await);
    assert_eq!(drift[1], same[1]);
    assert_ne!(drift[0].1, drift[1].1);

    let reloaded = reload(&cluster).await;
    assert!(reloaded.failures.is_empty());
    let outcomes: Vec<_> = reloaded.schedulers.iter().map(|p| p.reload.unwrap()).collect();
    assert_eq!(outcomes, [PolicyReload::Unchanged, PolicyReload::Applied]);
    let changes: Vec<_> = reloaded.schedulers[1].changes.iter().map(ToString::to_string).collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[0].starts_with("+ aggregates.all = {"), "{changes:?}");
    assert_eq!(changes[1], "~ filter_scheduler.host_subset_size: 1 -> 2");
    let one = hashes(&show(&cluster).await);
    assert_eq!(one[0].1, one[1].1);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn members_of_a_group_stay_apart_across_requests_and_schedulers() {
    let policy = format!("{FILTERS}\n[server_groups.web]\npolicy = \"anti-affinity\"\n");
    let cluster = cluster(73, 3, &["s1", "s2"], &policy).await;
    let mut taken = BTreeSet::new();
    for scheduler in ["s1", "s2", "s1"] {
        let decision = cluster.select(&cluster.api.of(scheduler), &in_group(&cluster, "web")).await;
        assert!(taken.insert(hosts(&decision)[0].to_owned()), "{taken:?} {decision:?}");
        settle().await;
    }
    let fourth = cluster.select(&cluster.api.of("s2"), &in_group(&cluster, "web")).await;
    assert!(refusal(&fourth).starts_with("No valid host"), "{fourth:?}");
    let lost = fourth.explanation.filters.iter().find(|filter| filter.hosts_out == 0).unwrap();
    assert_eq!(lost.filter, "ServerGroupAntiAffinityFilter");
    let unknown = in_group(&cluster, "unknown");
    let error = cluster.api.select_destinations(&unknown, CallOptions::new(CALL)).await.unwrap_err();
    let error = novella_service::exit::chain(&error);
    assert!(error.contains("no server group \"unknown\"; choose one of web"), "{error}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn aggregates_and_flavors_follow_facts_and_the_policy() {
    let policy = format!(
        "{FILTERS}\n[aggregates.fast]\nmatch.facts.rack = \"r1\"\nmetadata = {{ tier = \"fast\", availability_zone = \"az-fast\" }}\n\
         [flavors.quick]\nvcpus = 1\nmemory_mb = 256\nextra_specs = {{ \"aggregate_instance_extra_specs:tier\" = \"fast\" }}\n"
    );
    let mut cluster = cluster(74, 2, &["s1"], &policy).await;
    let mut request = cluster.request(1, flavor(1, 1, 1));
    request.flavor = Some("quick".into());
    let nowhere = cluster.select(&cluster.api, &request).await;
    assert!(refusal(&nowhere).starts_with("No valid host"));

    cluster.stop_host("host-2").await;
    cluster.agent_config.facts.insert("rack".into(), json!("r1"));
    cluster.start_host("host-2", SIZE).await;
    settle().await;
    let there = cluster.select(&cluster.api, &request).await;
    assert_eq!(hosts(&there), ["host-2"]);
    assert_eq!(cluster.view("s1").await["host-2"].availability_zone, "az-fast");
    let mut zone = cluster.request(1, flavor(1, 1, 1));
    zone.request_spec.spec.availability_zone = Some("az-fast".into());
    assert_eq!(hosts(&cluster.select(&cluster.api, &zone).await), ["host-2"]);
    cluster.stop().await;
}
