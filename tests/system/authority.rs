//! Broker users and what they may do: the shipped lists, with the daemons and callers that they are meant for.
//!
//! The connection of a host or a scheduler in a cluster has its name as broker user, so the lists here name those.

use std::time::Duration;

use novella_messaging::{CallOptions, FORBIDDEN, RemoteError, RequestContext, RpcClient, RpcError, Target};
use novella_objects::{
    Capabilities, CapacityQuery, Decision, Explain, HostStatus, HostWarning, RequestSpec, Reserve,
    ReserveEntry, SelectDestinations,
};
use novella_rpcapi::{
    BaseApi, ComputeApi, CreateInstance, DecisionListQuery, InstanceListQuery, Names, NovaSchedulerEndpoint,
    NovaSelectDestinations, OwnPolicy, Release, SchedulerApi,
};
use serde_json::{Value, json};

use crate::cluster::{CALL, Cluster, EXCHANGE, flavor, hosts, settle};

const REFUSED: &str = r#"novella_rpc_messages_total{outcome="rejected_user"}"#;

fn users(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Hosts that only the schedulers command, and schedulers with the shipped lists.
async fn guarded(seed: u64, schedulers: &[&str]) -> Cluster {
    let mut cluster = Cluster::new(seed);
    let authority = &mut cluster.scheduler_config.authority;
    authority.report = users(&["host-*", "agent"]);
    authority.place = users(&["operator", "ann", "ben", "admin"]);
    authority.read = users(&["operator", "ann", "ben"]);
    authority.administer = users(&["admin"]);
    authority.schedulers = users(&["s1", "s2"]);
    cluster.agent_config.rpc.accept_commands_from = users(&["s1", "s2"]);
    cluster.start_hosts(2).await;
    for scheduler in schedulers {
        cluster.serve(scheduler).await;
    }
    cluster
}

fn options() -> CallOptions {
    CallOptions::new(CALL)
}

/// The error of a call that its user may not make.
fn forbidden<T: std::fmt::Debug>(answer: Result<T, RpcError>) -> Box<RemoteError> {
    match answer {
        Err(RpcError::Remote { source, .. }) if source.class == FORBIDDEN => source,
        other => panic!("not forbidden: {other:?}"),
    }
}

fn told(error: &RemoteError) -> [&str; 3] {
    ["user", "class", "setting"].map(|name| error.kwargs[name].as_str().expect("a text"))
}

fn forged() -> Reserve {
    let entry = ReserveEntry {
        uuid: uuid::Uuid::from_u128(1),
        host: "host-1".into(),
        vcpus: 1,
        memory_mb: 64,
        spec_hash: 1,
        ..ReserveEntry::default()
    };
    let (decision_id, scheduler) = ("s9-1".to_owned(), "s9".to_owned());
    Reserve { decision_id, scheduler, ttl_ms: 60_000, entries: vec![entry], user: None }
}

async fn place(cluster: &Cluster, api: &SchedulerApi) -> Decision {
    let decision = cluster.select(api, &cluster.request(1, flavor(1, 512, 1))).await;
    settle().await;
    decision
}

async fn release(api: &SchedulerApi, decision: &Decision) -> Result<u64, RpcError> {
    let args = Release { decision_id: decision.decision_id.clone(), ..Release::default() };
    let answer = api.release(&args, options()).await;
    settle().await;
    answer
}

#[tokio::test(start_paused = true)]
async fn an_agents_user_reports_and_does_nothing_else() {
    let cluster = guarded(400, &["s1"]).await;
    let placed = place(&cluster, &cluster.as_user("operator")).await;
    let agent = cluster.as_user("agent");

    let mut asked = cluster.request(1, flavor(1, 64, 1));
    asked.dry_run = true;
    for (class, error) in [
        ("read", forbidden(agent.list_hosts(options()).await)),
        ("read", forbidden(agent.show_host("host-1", options()).await)),
        ("read", forbidden(agent.list_services(options()).await)),
        ("read", forbidden(agent.list_server_groups(None, options()).await)),
        ("read", forbidden(agent.get_decision(&placed.decision_id, options()).await)),
        ("read", forbidden(agent.explain(&Explain::default(), options()).await)),
        ("read", forbidden(agent.capacity(&CapacityQuery::default(), options()).await)),
        ("read", forbidden(agent.snapshot(options()).await)),
        ("read", forbidden(agent.status(options()).await)),
        ("read", forbidden(agent.ping_host("host-1", Duration::from_secs(1), options()).await)),
        ("read", forbidden(agent.get_policies(options()).await)),
        ("read", forbidden(agent.get_host_list(options()).await)),
        ("read", forbidden(agent.get_service_capabilities(options()).await)),
        ("read", forbidden(agent.show_host_resources("host-1", options()).await)),
        ("read", forbidden(agent.list_instances(&InstanceListQuery::default(), options()).await)),
        ("read", forbidden(agent.get_instance("web", options()).await)),
        ("read", forbidden(agent.list_decisions(&DecisionListQuery::default(), options()).await)),
        ("place", forbidden(agent.select_destinations(&asked, options()).await)),
        ("place", forbidden(release(&agent, &placed).await)),
        ("place", forbidden(agent.release_claims(&Release::default(), options()).await)),
        ("place", forbidden(agent.create_instance(&CreateInstance::default(), options()).await)),
        ("place", forbidden(agent.stop_instance(uuid::Uuid::nil(), options()).await)),
        ("place", forbidden(agent.start_instance(uuid::Uuid::nil(), options()).await)),
        ("place", forbidden(agent.terminate_instance(uuid::Uuid::nil(), options()).await)),
        ("administer", forbidden(agent.reload_policy(options()).await)),
        ("administer", forbidden(agent.forget_host("host-1", options()).await)),
    ] {
        assert_eq!(told(&error), ["agent", class, &format!("authority.{class}")], "{error}");
    }
    let answers = agent.own_policies(&OwnPolicy { reload: true }, options(), CALL / 10).await.unwrap();
    assert_eq!(
        answers.into_iter().map(|answer| forbidden(answer).message).collect::<Vec<_>>(),
        [
            "the broker user agent may not call own_policy: that is for the users in authority.schedulers (class peers)"
        ]
    );
    let refused = cluster.metric("s1", REFUSED);
    assert_eq!(refused, 27);
    agent.reserve(&forged(), CALL).await.unwrap();
    settle().await;
    assert_eq!(cluster.metric("s1", REFUSED), refused + 1, "a cast is dropped and counted");
    assert_eq!(cluster.reservations("s1").await, 1, "what the operator holds");

    let report: Capabilities<'_> = serde_json::from_str(r#"{"vcpus": 4}"#).unwrap();
    agent.update_service_capabilities("compute", "cmp-9", &report, CALL).await.unwrap();
    settle().await;
    assert_eq!(cluster.state("s1", "cmp-9").await, Some(HostStatus::Up));
    assert_eq!(cluster.metric("s1", REFUSED), refused + 1);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operators_user_reads_and_places_and_neither_reports_nor_reserves() {
    let cluster = guarded(401, &["s1"]).await;
    let operator = cluster.as_user("operator");
    let report: Capabilities<'_> = serde_json::from_str(r#"{"vcpus": 4}"#).unwrap();
    operator.update_service_capabilities("compute", "cmp-9", &report, CALL).await.unwrap();
    operator.reserve(&forged(), CALL).await.unwrap();
    settle().await;
    assert_eq!(cluster.metric("s1", REFUSED), 2);
    assert_eq!((cluster.state("s1", "cmp-9").await, cluster.reservations("s1").await), (None, 0));
    // A report that is called instead of cast is answered.
    let target = Target { exchange: EXCHANGE.to_owned(), ..Target::topic("scheduler") };
    let args = json!({"service_name": "compute", "host": "cmp-9", "capabilities": {"vcpus": 4}});
    let client = cluster.client_as("operator");
    let called = client.call::<Value>(&target, "update_service_capabilities", &args, options()).await;
    assert_eq!(told(&forbidden(called)), ["operator", "report", "authority.report"]);
    assert_eq!(told(&forbidden(operator.reload_policy(options()).await))[1], "administer");

    assert_eq!(operator.list_hosts(options()).await.unwrap().hosts.len(), 2);
    assert_eq!(operator.snapshot(options()).await.unwrap().hosts.len(), 2);
    operator.ping_host("host-1", CALL, options()).await.unwrap();
    let decision = place(&cluster, &operator).await;
    assert_eq!(hosts(&decision).len(), 1);
    assert_eq!(release(&operator, &decision).await.unwrap(), 1);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_who_placed_and_administrators_release() {
    let cluster = guarded(402, &["s1", "s2"]).await;
    let [ann, ben, admin] = ["ann", "ben", "admin"].map(|user| cluster.as_user(user));
    let first = place(&cluster, &ann.of("s1")).await;
    let second = place(&cluster, &ann.of("s1")).await;
    // The scheduler that did not decide knows whose it is, too.
    for scheduler in ["s1", "s2"] {
        let error = forbidden(release(&ben.of(scheduler), &first).await);
        assert_eq!(told(&error), ["ben", "administer", "authority.administer"]);
        assert_eq!(
            error.message,
            "the broker user ben may not release what the broker user ann placed: that is for the users in \
             authority.administer (class administer)"
        );
        assert_eq!(cluster.reservations(scheduler).await, 2, "{scheduler}");
    }
    assert_eq!(release(&ann.of("s2"), &first).await.unwrap(), 1);
    assert_eq!(release(&admin.of("s2"), &second).await.unwrap(), 1);
    for scheduler in ["s1", "s2"] {
        assert_eq!(cluster.reservations(scheduler).await, 0, "{scheduler}");
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn schedulers_with_their_lists_work_together_and_hear_themselves() {
    let cluster = guarded(403, &["s1", "s2"]).await;
    let operator = cluster.as_user("operator");
    place(&cluster, &operator.of("s1")).await;
    assert_eq!(cluster.reservations("s2").await, 1, "a peer's reserve is taken");
    let policies = cluster.as_user("admin").reload_policy(options()).await.unwrap();
    assert_eq!(policies.schedulers.len(), 2, "{policies:?}");
    // Long enough for the schedulers to miss messages to themselves.
    tokio::time::sleep(Duration::from_secs(60)).await;
    for scheduler in ["s1", "s2"] {
        assert!(cluster.scheduler(scheduler).health().ready().ok, "{scheduler}");
        assert_eq!(cluster.metric(scheduler, REFUSED), 0, "{scheduler}");
    }
    cluster.stop().await;
}

/// A host belongs to the broker user who first reported it, until an administrator has it forgotten.
#[tokio::test(start_paused = true)]
async fn a_forgotten_host_may_have_another_user() {
    let cluster = guarded(406, &["s1", "s2"]).await;
    let view = cluster.view("s2").await;
    assert_eq!(view.len(), 2, "{view:#?}");
    let agent = cluster.as_user("agent");
    let report: Capabilities<'_> = serde_json::from_str(r#"{"vcpus": 4}"#).unwrap();
    for host in ["cmp-8", "cmp-9"] {
        agent.update_service_capabilities("compute", host, &report, CALL).await.unwrap();
    }
    settle().await;
    let other = cluster.as_user("host-1");
    other.update_service_capabilities("compute", "cmp-9", &report, CALL).await.unwrap();
    settle().await;
    let refused = r#"novella_scheduler_reports_total{outcome="other_user"}"#;
    for scheduler in ["s1", "s2"] {
        let warnings = &cluster.view(scheduler).await["cmp-9"].warnings;
        assert_eq!(*warnings, [HostWarning::OtherUser { user: "host-1".into() }]);
        assert_eq!(cluster.metric(scheduler, refused), 1);
    }

    let admin = cluster.as_user("admin");
    let forgotten = admin.forget_host("cmp-9", options()).await.unwrap();
    let known = forgotten.schedulers.iter().map(|by| (&*by.scheduler, by.known));
    assert_eq!((known.collect::<Vec<_>>(), forgotten.failures), (vec![("s1", true), ("s2", true)], vec![]));
    other.update_service_capabilities("compute", "cmp-9", &report, CALL).await.unwrap();
    settle().await;
    for scheduler in ["s1", "s2"] {
        assert_eq!(cluster.view(scheduler).await["cmp-9"].warnings, []);
        assert_eq!(cluster.state(scheduler, "cmp-8").await, Some(HostStatus::Up));
    }
    let unknown = admin.forget_host("cmp-10", options()).await.unwrap();
    assert!(unknown.schedulers.iter().all(|by| !by.known), "{unknown:?}");
    cluster.stop().await;
}

/// The lists may leave out the schedulers, because each knows its own broker user.
#[tokio::test(start_paused = true)]
async fn a_scheduler_hears_itself_whatever_the_lists_say() {
    let mut cluster = Cluster::new(404);
    let authority = &mut cluster.scheduler_config.authority;
    for list in [&mut authority.report, &mut authority.place, &mut authority.read, &mut authority.administer]
    {
        *list = users(&["host-1"]);
    }
    authority.schedulers = users(&["somebody"]);
    cluster.start_hosts(1).await;
    cluster.serve("s1").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(cluster.scheduler("s1").health().ready().ok);
    assert_eq!(cluster.metric("s1", REFUSED), 0);
    let policies = cluster.as_user("host-1").reload_policy(options()).await.unwrap();
    assert_eq!(policies.schedulers.len(), 1, "{policies:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_user_is_anonymous() {
    let mut cluster = guarded(405, &["s1"]).await;
    let anonymous = |cluster: &Cluster| {
        let transport = cluster.broker.connect_anonymously("python");
        let client = RpcClient::new(transport, cluster.env.random.fork("python"));
        SchedulerApi::new(client, &Names::on(EXCHANGE))
    };
    let error = forbidden(anonymous(&cluster).list_hosts(options()).await);
    assert_eq!(told(&error), ["anonymous", "read", "authority.read"]);
    cluster.crash_scheduler("s1").await;
    cluster.scheduler_config.authority.read.push("anonymous".into());
    cluster.scheduler_config.authority.place.push("anonymous".into());
    cluster.serve("s1").await;
    let python = anonymous(&cluster);
    assert_eq!(python.list_hosts(options()).await.unwrap().hosts.len(), 2);
    // All who send no user are one: each releases what another placed, and nothing of those who say who they are.
    let theirs = place(&cluster, &python).await;
    assert_eq!(release(&anonymous(&cluster), &theirs).await.unwrap(), 1);
    let anns = place(&cluster, &cluster.as_user("ann")).await;
    assert!(
        forbidden(release(&python, &anns).await)
            .message
            .contains("the broker user anonymous may not release")
    );
    assert_eq!(told(&forbidden(python.reload_policy(options()).await))[1], "administer");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_lists_every_user_may_do_everything() {
    let cluster = Cluster::of(406, 2).await;
    let [ann, ben] = ["ann", "ben"].map(|user| cluster.as_user(user));
    let decision = place(&cluster, &ann).await;
    assert_eq!(release(&ben, &decision).await.unwrap(), 1);
    ben.reload_policy(options()).await.unwrap();
    ben.reserve(&forged(), CALL).await.unwrap();
    settle().await;
    assert_eq!(cluster.reservations("s1").await, 1);
    let compute = ComputeApi::new(cluster.client_as("ben"), &Names::on(EXCHANGE));
    compute.get_host_stats("host-1", true, options()).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_answers_whom_its_list_names() {
    let cluster = guarded(407, &["s1"]).await;
    let target = Target { exchange: EXCHANGE.to_owned(), ..Target::topic("compute").server("host-1") };
    for (user, may) in [("agent", false), ("operator", false), ("s1", true)] {
        let client = cluster.client_as(user);
        let compute = ComputeApi::new(client.clone(), &Names::on(EXCHANGE));
        let pong = BaseApi::ping(&client, target.clone(), Value::Null, options()).await;
        let stats = compute.get_host_stats("host-1", false, options()).await;
        if may {
            assert!(pong.is_ok() && stats.is_ok(), "{user}: {pong:?} {stats:?}");
        } else {
            for error in [forbidden(pong), forbidden(stats)] {
                assert_eq!((told(&error)[0], told(&error)[2]), (user, "rpc.accept_commands_from"));
            }
        }
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_placement_that_another_user_repeats_stays_the_first_users() {
    let cluster = guarded(408, &["s1"]).await;
    let [ann, ben] = ["ann", "ben"].map(|user| cluster.as_user(user));
    let asked: SelectDestinations = cluster.request(1, flavor(1, 512, 1));
    let decision = cluster.select(&ann, &asked).await;
    let again = cluster.select(&ben, &asked).await;
    assert!(
        again.repeated && again.decision_id == decision.decision_id,
        "an answer is no secret among placers"
    );
    assert_eq!(told(&forbidden(release(&ben, &decision).await))[0], "ben");
    assert_eq!(cluster.reservations("s1").await, 1);
    cluster.stop().await;
}

/// Nova's request releases what was held for its instances before, which must not be another user's.
#[tokio::test(start_paused = true)]
async fn novas_request_replaces_only_what_its_own_user_placed() {
    let cluster = guarded(409, &["s1"]).await;
    let asked = cluster.request(1, flavor(1, 512, 1));
    cluster.select(&cluster.as_user("ann"), &asked).await;
    let spec = RequestSpec { flavor: flavor(2, 1024, 2), ..RequestSpec::default() };
    let instance_uuids = asked.request_spec.instance_uuids;
    let larger = NovaSelectDestinations { spec, instance_uuids, instances: 1, alternates: false };
    for (user, vcpus) in [("ben", 1), ("ann", 2)] {
        let context = RequestContext { user_id: Some(user.to_owned()), ..RequestContext::default() };
        let manager = cluster.scheduler("s1").manager();
        let answer = NovaSchedulerEndpoint::select_destinations(&**manager, &context, larger.clone()).await;
        assert_eq!(answer.is_ok(), user == "ann", "{user}: {answer:?}");
        let used: u64 = cluster.view("s1").await.values().map(|host| host.vcpus_used).sum();
        assert_eq!(used, vcpus, "{user}");
    }
    cluster.stop().await;
}
