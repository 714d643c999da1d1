//! What one broker user and one project may hold and ask for.

use std::time::Duration;

use novella_messaging::{CallOptions, RemoteError, RpcError};
use novella_objects::{Decision, SelectDestinations};
use novella_rpcapi::{QUOTA_EXCEEDED, Release, SchedulerApi};
use serde_json::{Value, json};

use crate::cluster::{CALL, Cluster, flavor, settle};

const SECOND: Duration = Duration::from_secs(1);

/// Two schedulers that know whose placements are whose, and small quotas.
async fn limited(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed);
    cluster.scheduler_config.authority.administer = vec!["admin".to_owned()];
    let quotas = &mut cluster.scheduler_config.quotas;
    quotas.user_vcpus = 4;
    quotas.project_instances = 3;
    quotas.user_requests_per_s = 20;
    cluster.start_hosts(2).await;
    for scheduler in ["s1", "s2"] {
        cluster.serve(scheduler).await;
    }
    cluster
}

fn options() -> CallOptions {
    CallOptions::new(CALL)
}

fn asked(cluster: &Cluster, vcpus: u32, project: &str) -> SelectDestinations {
    let mut asked = cluster.request(1, flavor(vcpus, 512, 1));
    asked.request_spec.spec.project_id = (!project.is_empty()).then(|| project.to_owned());
    asked
}

async fn place(api: &SchedulerApi, asked: &SelectDestinations) -> Result<Decision, Box<RemoteError>> {
    let answer = api.select_destinations(asked, options()).await;
    settle().await;
    answer.map_err(|error| match error {
        RpcError::Remote { source, .. } if source.class == QUOTA_EXCEEDED => source,
        other => panic!("not a quota: {other}"),
    })
}

#[tokio::test(start_paused = true)]
async fn a_user_holds_no_more_than_its_quota_and_others_are_not_concerned() {
    let cluster = limited(500).await;
    let [ann, ben] = ["ann", "ben"].map(|user| cluster.as_user(user));
    let (first, second, third) = (asked(&cluster, 3, ""), asked(&cluster, 2, ""), asked(&cluster, 1, ""));
    let held = place(&ann.of("s1"), &first).await.unwrap();
    // The other scheduler was told whose it is.
    for scheduler in ["s1", "s2"] {
        let error = place(&ann.of(scheduler), &second).await.unwrap_err();
        let kwargs = json!({"of": "user", "holder": "ann", "amount": "vcpus", "used": 3, "asked": 2, "limit": 4,
            "setting": "quotas.user_vcpus"});
        assert_eq!(Value::Object(error.kwargs), kwargs, "{scheduler}");
        assert_eq!(
            error.message,
            "the user ann holds 3 vcpus that no report has confirmed, asks for 2 more, and may hold 4"
        );
        assert_eq!(
            cluster.metric(scheduler, r#"novella_scheduler_over_quota_total{of="user",amount="vcpus"}"#),
            1
        );
    }
    assert!(place(&ann.of("s1"), &first).await.unwrap().repeated, "a repeated request asks for nothing new");
    place(&ann.of("s2"), &third).await.unwrap();
    place(&ben.of("s1"), &second).await.unwrap();
    let mut tried = asked(&cluster, 2, "");
    tried.dry_run = true;
    place(&ann.of("s1"), &tried).await.expect("a dry run holds nothing");

    // Who holds the most is looked up every second.
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(cluster.metric("s1", r#"novella_scheduler_largest_holder{of="user",amount="vcpus"}"#), 4);
    let status = ann.of("s1").status(options()).await.unwrap();
    let shown: Vec<_> =
        status.largest_holders.iter().map(|h| (&*h.of, &*h.holder, h.instances, h.vcpus)).collect();
    assert_eq!(shown, [("user", "ann", 2, 4), ("user", "ben", 1, 2)]);

    let release = Release { decision_id: held.decision_id, ..Release::default() };
    assert_eq!(ann.of("s1").release(&release, options()).await.unwrap(), 1);
    settle().await;
    place(&ann.of("s1"), &second).await.expect("what was released is free");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_run_out_no_longer_counts() {
    let cluster = limited(501).await;
    let ann = cluster.as_user("ann").of("s1");
    let (first, second) = (asked(&cluster, 4, ""), asked(&cluster, 4, ""));
    place(&ann, &first).await.unwrap();
    place(&ann, &second).await.unwrap_err();
    tokio::time::sleep(cluster.scheduler_config.reservations.reservation_ttl).await;
    place(&ann, &second).await.expect("the first hold has run out");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_project_has_one_quota_whoever_asks_for_it() {
    let cluster = limited(502).await;
    let [ann, ben] = ["ann", "ben"].map(|user| cluster.as_user(user).of("s1"));
    for (api, number) in [(&ann, 1), (&ben, 2), (&ann, 3)] {
        place(api, &asked(&cluster, 1, "p")).await.unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    let error = place(&ben, &asked(&cluster, 1, "p")).await.unwrap_err();
    assert_eq!(
        ["of", "holder", "amount", "setting"].map(|name| error.kwargs[name].as_str().unwrap()),
        ["project", "p", "instances", "quotas.project_instances"]
    );
    place(&ben, &asked(&cluster, 1, "q")).await.expect("another project");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_user_asks_no_more_often_than_its_quota() {
    let cluster = limited(503).await;
    let [ann, ben] = ["ann", "ben"].map(|user| cluster.as_user(user).of("s1"));
    let mut dry = asked(&cluster, 1, "");
    dry.dry_run = true;
    let at_once = async |api: &SchedulerApi| {
        let answers = (0..100).map(|_| api.select_destinations(&dry, options()));
        let answers = futures_util::future::join_all(answers).await;
        answers.into_iter().filter(Result::is_ok).count()
    };
    assert_eq!(at_once(&ann).await, 40, "two seconds' worth");
    assert_eq!(at_once(&ben).await, 40);
    tokio::time::sleep(CALL).await;
    assert_eq!(at_once(&ann).await, 40);
    let counted = r#"novella_scheduler_over_quota_total{of="user",amount="requests_per_s"}"#;
    assert_eq!(cluster.metric("s1", counted), 180);
    let error = place(&ann, &dry).await.unwrap_err();
    assert_eq!(error.kwargs["setting"], "quotas.user_requests_per_s");
    assert_eq!(cluster.as_user("ann").of("s1").list_hosts(options()).await.unwrap().hosts.len(), 2);
    cluster.stop().await;
}
