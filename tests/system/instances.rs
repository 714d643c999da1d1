//! Instances from the callers' side: schedulers ask hosts to build, list what hosts report, and end it for whom it belongs to.
//! The hosts are stubs, so that what they answer is the test's.

use std::sync::Arc;

use novella_messaging::{CallOptions, FORBIDDEN, RemoteError, RpcError, RpcServer};
use novella_objects::{BuildRequest, VmState};
use novella_rpcapi::{
    CreateInstance, DecisionListQuery, HOST_REFUSED, HOST_UNREACHABLE, INSTANCE_NOT_FOUND, InstanceListQuery,
    OTHER_COMMAND, Release, SchedulerApi,
};
use uuid::Uuid;

use crate::cluster::{CALL, Cluster, flavor, hosts, settle};
use crate::stub_host::StubHost;

fn options() -> CallOptions {
    CallOptions::new(CALL)
}

/// A scheduler, and hosts that have reported.
struct Bed {
    cluster: Cluster,
    hosts: Vec<(Arc<StubHost>, RpcServer)>,
}

impl Bed {
    async fn new(seed: u64, hosts: u128, cluster: impl FnOnce(&mut Cluster)) -> Self {
        let mut bed = Self { cluster: Cluster::new(seed), hosts: Vec::new() };
        cluster(&mut bed.cluster);
        bed.cluster.serve("s1").await;
        for number in 1..=hosts {
            bed.hosts.push(StubHost::start(&bed.cluster, number).await);
        }
        bed.report().await;
        bed
    }

    async fn report(&self) {
        for (host, _) in &self.hosts {
            host.report(&self.cluster).await;
        }
    }

    fn asked(&self, names: &[&str]) -> CreateInstance {
        let build = |name: &&str| BuildRequest { name: (*name).to_owned(), ..BuildRequest::default() };
        let request = self.cluster.request(names.len(), flavor(1, 512, 1));
        CreateInstance { request, builds: names.iter().map(build).collect() }
    }

    async fn create(&self, api: &SchedulerApi, names: &[&str]) -> Vec<Uuid> {
        let asked = self.asked(names);
        let decision = api.create_instance(&asked, options()).await.expect("an answer");
        assert!(decision.claimed && decision.refusal.is_none(), "{decision:?}");
        asked.request.request_spec.instance_uuids
    }
}

#[track_caller]
fn failed<T: std::fmt::Debug>(answer: Result<T, RpcError>, class: &str) -> Box<RemoteError> {
    match answer {
        Err(RpcError::Remote { source, .. }) if source.class == class => source,
        other => panic!("not {class}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_built_by_a_host_that_grants_it_and_listed_once_it_is_reported() {
    let bed = Bed::new(700, 2, |_| ()).await;
    let api = &bed.cluster.api;
    let refusing = &bed.hosts[0].0;
    refusing.refuse(true);
    let asked = bed.asked(&["web-1", "web-2"]);
    let decision = api.create_instance(&asked, options()).await.unwrap();
    assert!(decision.claimed && hosts(&decision) == ["host-2", "host-2"], "{decision:?}");
    assert!(decision.refused_by.iter().all(|refusal| refusal.host == "host-1"), "{decision:?}");
    assert!(bed.hosts[1].0.called().iter().all(|method| *method == "build_and_run_instance"));

    let again = api.create_instance(&asked, options()).await.unwrap();
    assert!(again.claimed && again.selections.len() == 2, "{again:?}");
    bed.report().await;
    let again = api.create_instance(&asked, options()).await.unwrap();
    assert_eq!((again.claimed, hosts(&again)), (true, vec!["host-2", "host-2"]), "found by uuid");

    let listed = api.list_instances(&InstanceListQuery::default(), options()).await.unwrap();
    let names: Vec<_> =
        listed.instances.iter().map(|row| row.instance.as_ref().unwrap().build.name.as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!((sorted, listed.left_out), (vec!["web-1", "web-2"], 0));
    let row = &listed.instances[0];
    assert_eq!((row.host.as_str(), row.memory_mb, row.hold_ms), ("host-2", 512, None));
    assert_eq!(row.instance.as_ref().unwrap().vm_state, VmState::Building);
    for (query, wanted) in [
        (InstanceListQuery { name: Some("web-2".into()), ..Default::default() }, 1),
        (InstanceListQuery { host: Some("host-1".into()), ..Default::default() }, 0),
        (InstanceListQuery { host: Some("host-2".into()), ..Default::default() }, 2),
        (InstanceListQuery { host: Some("nowhere".into()), ..Default::default() }, 0),
    ] {
        let listed = api.list_instances(&query, options()).await.unwrap();
        assert_eq!(listed.instances.len(), wanted, "{query:?}");
    }

    let decisions = api.list_decisions(&DecisionListQuery::default(), options()).await.unwrap();
    assert_eq!(decisions.scheduler, "s1");
    let of_the_first: Vec<_> =
        decisions.decisions.iter().filter(|row| row.decision_id == decision.decision_id).collect();
    assert_eq!(of_the_first.len(), 1, "{decisions:?}");
    assert_eq!(
        (of_the_first[0].outcome.as_str(), &of_the_first[0].hosts[..]),
        ("claimed", &["host-2".to_owned()][..])
    );
    let limited = api.list_decisions(&DecisionListQuery { limit: Some(1) }, options()).await.unwrap();
    assert_eq!(limited.decisions, decisions.decisions[..1]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_found_stopped_started_and_deleted() {
    let bed = Bed::new(701, 1, |_| ()).await;
    let (api, host) = (&bed.cluster.api, &bed.hosts[0].0);
    let uuids = bed.create(api, &["a", "twin", "twin"]).await;
    bed.report().await;
    let found = api.get_instance("a", options()).await.unwrap();
    assert_eq!((found.len(), found[0].summary.uuid, found[0].events.len()), (1, uuids[0], 1));
    assert_eq!(api.get_instance("twin", options()).await.unwrap().len(), 2);
    assert_eq!(api.get_instance("nobody", options()).await.unwrap(), []);
    let error = failed(api.stop_instance(uuids[0], options()).await, HOST_REFUSED);
    assert!(error.message.contains("it is being built"), "{error}");
    host.built(uuids[0]);
    api.stop_instance(uuids[0], options()).await.unwrap();
    bed.report().await;
    let found = api.get_instance(&uuids[0].to_string(), options()).await.unwrap();
    assert_eq!(found[0].summary.instance.as_ref().unwrap().vm_state, VmState::Stopped);
    api.start_instance(uuids[0], options()).await.unwrap();
    api.terminate_instance(uuids[0], options()).await.unwrap();
    bed.report().await;
    failed(api.terminate_instance(uuids[0], options()).await, INSTANCE_NOT_FOUND);
    failed(api.start_instance(Uuid::from_u128(5), options()).await, INSTANCE_NOT_FOUND);

    // A host that is gone is said, and what it reported is still shown.
    bed.cluster.broker.kill("host-1");
    settle().await;
    let found = api.get_instance(&uuids[1].to_string(), options()).await.unwrap();
    let missing = found[0].events_missing.as_deref().unwrap();
    assert!(missing.contains("host-1 did not tell the events"), "{missing}");
    failed(api.terminate_instance(uuids[1], options()).await, HOST_UNREACHABLE);
}

#[tokio::test(start_paused = true)]
async fn an_instance_can_be_deleted_before_its_host_has_reported_it() {
    let bed = Bed::new(702, 1, |_| ()).await;
    let api = &bed.cluster.api;
    let uuids = bed.create(api, &["hasty"]).await;
    assert_eq!(bed.cluster.reservations("s1").await, 1);
    api.terminate_instance(uuids[0], options()).await.unwrap();
    assert!(bed.hosts[0].0.called().contains(&"terminate_instance"));
    assert_eq!(bed.cluster.reservations("s1").await, 0);
}

#[tokio::test(start_paused = true)]
async fn claims_and_holds_are_released_and_instances_are_deleted() {
    let bed = Bed::new(703, 1, |_| ()).await;
    let api = &bed.cluster.api;
    let mut claim = bed.cluster.request(1, flavor(1, 256, 1));
    claim.claim = true;
    bed.cluster.select(api, &claim).await;
    let instance = bed.create(api, &["kept"]).await[0];
    bed.report().await;
    let hold = bed.cluster.request(1, flavor(1, 128, 1));
    bed.cluster.select(api, &hold).await;
    let (claim, hold) = (claim.request_spec.instance_uuids[0], hold.request_spec.instance_uuids[0]);

    let all = InstanceListQuery { all: true, ..InstanceListQuery::default() };
    let listed = api.list_instances(&all, options()).await.unwrap().instances;
    let row = |uuid: Uuid| listed.iter().find(|row| row.uuid == uuid).unwrap();
    assert_eq!(listed.len(), 3);
    assert!(row(hold).hold_ms.is_some_and(|left| left > 0) && row(hold).instance.is_none());
    assert!(row(claim).hold_ms.is_none() && row(claim).instance.is_none());
    assert!(row(instance).instance.is_some());

    for uuid in [claim, hold] {
        let error = failed(api.terminate_instance(uuid, options()).await, OTHER_COMMAND);
        assert!(error.kwargs["next"].as_str().unwrap().contains("novella release --instance"), "{error}");
    }
    let release = |uuid| Release { instance_uuids: vec![uuid], ..Release::default() };
    let error = failed(api.release_claims(&release(instance), options()).await, OTHER_COMMAND);
    assert!(error.message.contains(&format!("novella server delete {instance}")), "{error}");
    assert_eq!(api.release_claims(&release(claim), options()).await.unwrap().claims, 1);
    assert_eq!(api.release_claims(&release(hold), options()).await.unwrap().holds, 1);
    bed.report().await;
    let left = api.list_instances(&all, options()).await.unwrap().instances;
    assert_eq!(left.iter().map(|row| row.uuid).collect::<Vec<_>>(), [instance]);
}

#[tokio::test(start_paused = true)]
async fn only_its_owner_and_administrators_end_an_instance() {
    let users = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let bed = Bed::new(704, 1, |cluster| {
        cluster.scheduler_config.authority.place = users(&["ann", "ben", "admin"]);
        cluster.scheduler_config.authority.administer = users(&["admin"]);
    })
    .await;
    let [ann, ben, admin] = ["ann", "ben", "admin"].map(|user| bed.cluster.as_user(user));
    let uuids = bed.create(&ann, &["anns", "hers"]).await;
    // Before a report as well as after it.
    failed(ben.terminate_instance(uuids[0], options()).await, FORBIDDEN);
    bed.report().await;
    bed.hosts[0].0.built(uuids[0]);
    bed.hosts[0].0.called();
    let error = failed(ben.terminate_instance(uuids[0], options()).await, FORBIDDEN);
    assert!(error.message.contains("delete what the broker user ann placed"), "{error}");
    failed(ben.stop_instance(uuids[0], options()).await, FORBIDDEN);
    failed(ben.start_instance(uuids[0], options()).await, FORBIDDEN);
    let agent = bed.cluster.as_user("agent");
    failed(agent.create_instance(&bed.asked(&["x"]), options()).await, FORBIDDEN);
    assert_eq!(bed.hosts[0].0.called(), [""; 0], "the host hears of none of it");
    ann.stop_instance(uuids[0], options()).await.unwrap();
    ann.terminate_instance(uuids[0], options()).await.unwrap();
    admin.terminate_instance(uuids[1], options()).await.unwrap();
    let decisions = admin.list_decisions(&DecisionListQuery::default(), options()).await.unwrap();
    assert_eq!(decisions.decisions[0].user.as_deref(), Some("ann"));
}

#[tokio::test(start_paused = true)]
async fn builds_that_make_no_sense_are_refused_before_any_host_is_asked() {
    let bed = Bed::new(705, 1, |_| ()).await;
    let api = &bed.cluster.api;
    let mut asked = bed.asked(&["a", "b"]);
    asked.builds.pop();
    let error = failed(api.create_instance(&asked, options()).await, "TypeError");
    assert!(error.message.contains("1 builds for 2 instances"), "{error}");
    for name in ["", "a\nb", &"x".repeat(256)] {
        let error = failed(api.create_instance(&bed.asked(&[name]), options()).await, "TypeError");
        assert!(error.message.contains("the name of an instance is"), "{error}");
    }
    let mut asked = bed.asked(&["a"]);
    asked.request.service = Some("volume".to_owned());
    failed(api.create_instance(&asked, options()).await, "TypeError");
    let mut asked = bed.asked(&["a"]);
    asked.request.dry_run = true;
    failed(api.create_instance(&asked, options()).await, "TypeError");
    assert_eq!(bed.hosts[0].0.called(), [""; 0]);
}
