//! The main story: hosts report, instances are placed on them, held, and given back; and Nova's questions of 2012.

use std::time::Duration;

use novella_messaging::{CallOptions, RpcError};
use novella_objects::{CapacityQuery, Explain, FilterOutcome, Grouping, HostStatus, HostSummary, Refusal};
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{CALL, Cluster, DOWN_TIME, REPORT_INTERVAL, flavor, hosts, settle};

fn used(host: &HostSummary) -> (u64, u64, u64, u32) {
    (host.vcpus_used, host.memory_mb_used, host.disk_gb_used, host.reservations)
}

/// What the scheduler said when it refused the arguments.
fn said(error: &RpcError) -> &str {
    let RpcError::Remote { source, .. } = error else { panic!("{error:?}") };
    &source.message
}

#[tokio::test(start_paused = true)]
async fn what_is_placed_counts_until_it_runs_out_or_is_let_go() {
    let cluster = Cluster::of(1, 8).await;
    let empty = cluster.view("s1").await;
    assert_eq!(empty.len(), 8);
    assert!(empty.values().all(|host| host.state == HostStatus::Up && host.vcpus == 8), "{empty:#?}");

    let decision = cluster.place(11, flavor(2, 2048, 10)).await;
    assert_eq!((decision.refusal.as_ref(), decision.selections.len(), decision.hold_s), (None, 11, 30));
    assert!(decision.decision_id.starts_with("s1-"), "{}", decision.decision_id);
    let view = cluster.view("s1").await;
    for (name, before) in &empty {
        let here = hosts(&decision).iter().filter(|host| *host == name).count() as u64;
        let (vcpus, memory, disk, held) = used(before);
        let wanted = (vcpus + 2 * here, memory + 2048 * here, disk + 10 * here, held + here as u32);
        assert_eq!(used(&view[name]), wanted, "{name}");
    }

    sleep(Duration::from_secs(29)).await;
    assert_eq!(cluster.reservations("s1").await, 11, "reports came since");
    sleep(Duration::from_secs(3)).await;
    let view = cluster.view("s1").await;
    assert!(empty.iter().all(|(name, before)| used(&view[name]) == used(before)), "nothing confirmed it");

    let mut request = cluster.request(3, flavor(1, 512, 1));
    request.hold_s = Some(600);
    let decision = cluster.select(&cluster.api, &request).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(cluster.reservations("s1").await, 3);
    assert_eq!(cluster.release(&cluster.api, &decision.decision_id).await, 3);
    assert_eq!(cluster.release(&cluster.api, &decision.decision_id).await, 0, "once");
    let view = cluster.view("s1").await;
    assert!(empty.iter().all(|(name, before)| used(&view[name]) == used(before)));

    request.dry_run = true;
    let dry = cluster.select(&cluster.api, &request).await;
    assert_eq!((dry.selections.len(), dry.hold_s, dry.dry_run), (3, 0, true));
    assert_eq!(cluster.reservations("s1").await, 0);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_places_nothing_and_counts_what_each_filter_lost() {
    let cluster = Cluster::of(2, 3).await;
    // 16 384 MiB less what is reserved: two of 7 000 fit on a host, so six on three.
    let decision = cluster.place(7, flavor(1, 7000, 1)).await;
    assert!(decision.selections.is_empty());
    let Some(Refusal::NoValidHost { placeable, reason }) = &decision.refusal else { panic!("{decision:?}") };
    assert_eq!(*placeable, 6);
    assert!(reason.starts_with("No valid host was found"), "{reason}");
    assert_eq!(cluster.reservations("s1").await, 0);
    assert_eq!(cluster.place(6, flavor(1, 7000, 1)).await.selections.len(), 6);

    let decision = cluster.place(1, flavor(1, 7000, 1)).await;
    let ram = decision.explanation.filters.iter().find(|tally| tally.filter == "RamFilter").expect("it ran");
    assert_eq!((ram.hosts_in, ram.hosts_out), (3, 0), "{:#?}", decision.explanation.filters);
    let miss = ram.nearest_miss.as_ref().expect("one came nearest");
    assert_eq!((miss.wanted, &*miss.unit), (7000.0, "MiB"));
    assert!(miss.available < 7000.0 && miss.host.starts_with("host-"), "{miss:?}");

    let explained = cluster.api.get_decision(&decision.decision_id, CallOptions::new(CALL)).await.unwrap();
    assert_eq!(explained, Some(decision));
    assert_eq!(cluster.api.get_decision("s1-0-0", CallOptions::new(CALL)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_decision_and_a_request_are_explained_and_nothing_is_held() {
    let mut cluster = Cluster::of(6, 3).await;
    cluster.agent_config.placement.disabled_reason = "new disks".into();
    cluster.start_host("broken", crate::cluster::SIZE).await;
    settle().await;
    let placed = cluster.place(1, flavor(2, 2048, 10)).await;
    let question = |host: &str| Explain {
        decision_id: Some(placed.decision_id.clone()),
        host: Some(host.to_owned()),
        ..Explain::default()
    };
    let options = || CallOptions::new(CALL);
    let explained = cluster.api.explain(&question("broken"), options()).await.unwrap().expect("remembered");
    assert_eq!((&explained.decision, explained.request_spec.spec.flavor.vcpus), (&placed, 2));
    let told = explained.host.expect("it is known");
    assert_eq!((told.state, told.passes, told.candidates), (HostStatus::Disabled, false, 4));
    let [of_trait, compute, others @ ..] = &told.filters[..] else { panic!("{told:#?}") };
    assert_eq!((&*of_trait.filter, of_trait.verdict), ("compute_status_filter", FilterOutcome::Refuses));
    assert_eq!(compute.reason.as_deref(), Some("it is disabled: new disks"), "{told:#?}");
    assert!(others.iter().all(|filter| filter.verdict == FilterOutcome::Passes), "{told:#?}");

    let spec = cluster.request(3, flavor(2, 2048, 10)).request_spec;
    let question = Explain { request_spec: Some(spec.clone()), ..Explain::default() };
    let asked =
        cluster.api.explain(&question, options()).await.unwrap().expect("a request is never forgotten");
    assert_eq!((asked.decision.selections.len(), asked.decision.dry_run, asked.host), (3, true, None));
    let ranked = &asked.decision.explanation.ranking;
    assert_eq!(ranked[0].host, asked.decision.selections[2].host, "for the last instance");
    assert_eq!(cluster.reservations("s1").await, 1, "the placed one");

    let forgotten = Explain { decision_id: Some("s1-0-0".into()), ..Explain::default() };
    assert_eq!(cluster.api.explain(&forgotten, options()).await.unwrap(), None);
    for wrong in [Explain::default(), Explain { request_spec: Some(spec), ..forgotten }] {
        let error = cluster.api.explain(&wrong, options()).await.unwrap_err();
        assert!(said(&error).contains("either a decision_id or a request_spec"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_can_be_placed_and_no_more() {
    let cluster = Cluster::of(7, 3).await;
    let query = CapacityQuery {
        flavors: vec![flavor(1, 7000, 1), flavor(1, 1 << 20, 1)],
        by: Some(Grouping::Zone),
        reserve: Some(Grouping::Host),
        ..CapacityQuery::default()
    };
    let count = async || cluster.api.capacity(&query, CallOptions::new(CALL)).await.unwrap().flavors;
    // 16 384 MiB less what is reserved: two on a host.
    let counted = count().await;
    assert_eq!((counted[0].fits, counted[0].open, counted[1].fits), (6, 3, 0));
    assert_eq!((counted[0].groups.len(), counted[0].groups[0].fits), (1, 6));
    assert_eq!((counted[0].limits[0].amount.as_str(), counted[0].limits[0].hosts), ("memory_mb", 3));
    let reserve = counted[0].reserve.as_ref().expect("asked for");
    assert_eq!((reserve.fits, reserve.moved), (4, 0), "what is reserved for a host itself does not move");

    assert_eq!(cluster.place(3, flavor(1, 7000, 1)).await.selections.len(), 3);
    let reserve = count().await.remove(0);
    assert_eq!(reserve.fits, 3);
    let reserve = reserve.reserve.expect("asked for");
    assert_eq!((reserve.fits, reserve.moved, reserve.short), (1, 1, 0), "one moved to one of two places");
    let refused = cluster.place(4, flavor(1, 7000, 1)).await;
    assert!(matches!(refused.refusal, Some(Refusal::NoValidHost { placeable: 3, .. })), "{refused:?}");
    assert_eq!(cluster.place(3, flavor(1, 7000, 1)).await.selections.len(), 3);
    assert_eq!(count().await[0].fits, 0);
    let none = CapacityQuery::default();
    let error = cluster.api.capacity(&none, CallOptions::new(CALL)).await.unwrap_err();
    assert!(said(&error).contains("defines no flavors; say what is to be counted"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_host_and_another_zone_are_left_out() {
    let mut cluster = Cluster::of(3, 1).await;
    cluster.agent_config.placement.disabled_reason = "new disks".into();
    cluster.start_host("broken", crate::cluster::SIZE).await;
    cluster.agent_config.placement.disabled_reason = String::new();
    cluster.agent_config.placement.availability_zone = "north".into();
    cluster.start_host("polar", crate::cluster::SIZE).await;
    settle().await;
    let view = cluster.view("s1").await;
    assert_eq!(view["broken"].state, HostStatus::Disabled);
    assert_eq!(view["broken"].disabled_reason.as_deref(), Some("new disks"));
    assert_eq!(view["polar"].availability_zone, "north");
    let mut request = cluster.request(1, flavor(1, 512, 1));
    request.request_spec.spec.availability_zone = Some("north".into());
    for _ in 0..5 {
        request.request_spec.instance_uuids = vec![cluster.env.random.uuid()];
        assert_eq!(hosts(&cluster.select(&cluster.api, &request).await), ["polar"]);
        assert_ne!(hosts(&cluster.place(1, flavor(1, 512, 1)).await), ["broken"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_questions_of_2012_have_their_shapes() {
    let cluster = Cluster::of(4, 2).await;
    let report = r#"{"free_gb": 120.5, "total_gb": 500, "driver": "lvm", "up": true}"#;
    cluster.report("volume", "vol-1", report).await.unwrap();
    cluster.report("volume", "vol-2", r#"{"free_gb": 80, "total_gb": 700}"#).await.unwrap();
    settle().await;
    let options = || CallOptions::new(CALL);

    let list = cluster.api.get_host_list(options()).await.unwrap();
    let row = |service: &str, host: &str| json!({"service": service, "host_name": host});
    let wanted =
        [row("compute", "host-1"), row("compute", "host-2"), row("volume", "vol-1"), row("volume", "vol-2")];
    assert_eq!(list, json!(wanted));

    let bounds = cluster.api.get_service_capabilities(options()).await.unwrap();
    assert_eq!(bounds["volume_free_gb"], json!([80, 120.5]));
    assert_eq!(bounds["volume_total_gb"], json!([500, 700]));
    assert_eq!(bounds["compute_vcpus"], json!([8, 8]));
    assert_eq!(bounds["compute_host_memory_total"], json!([16_384, 16_384]));
    assert_eq!(bounds.get("volume_driver"), None, "no number");

    let resources = cluster.api.show_host_resources("host-1", options()).await.unwrap();
    assert_eq!(resources["usage"], json!({}));
    assert_eq!(resources["resource"]["vcpus"], 8);
    assert_eq!(resources["resource"]["memory_mb"], 16_384);
    assert_eq!(resources["resource"]["local_gb"], 200);
    for key in ["vcpus_used", "memory_mb_used", "local_gb_used"] {
        assert!(resources["resource"][key].is_u64(), "{key}: {resources}");
    }
    let unknown = cluster.api.show_host_resources("nowhere", options()).await.unwrap_err();
    let RpcError::Remote { source, .. } = unknown else { panic!("{unknown:?}") };
    assert_eq!((&*source.class, &*source.module), ("ComputeHostNotFound", "nova.exception"));
    assert!(source.message.contains("nowhere"), "{}", source.message);

    let services = cluster.api.list_services(options()).await.unwrap();
    let states: Vec<_> = services.iter().map(|s| (&*s.service, &*s.host, s.state)).collect();
    let up = HostStatus::Up;
    let wanted = [
        ("compute", "host-1", up),
        ("compute", "host-2", up),
        ("volume", "vol-1", up),
        ("volume", "vol-2", up),
    ];
    assert_eq!(states, wanted);

    // The volume services fall silent, the hosts do not.
    sleep(DOWN_TIME + REPORT_INTERVAL).await;
    let services = cluster.api.list_services(options()).await.unwrap();
    let down: Vec<_> = services.iter().filter(|s| s.state == HostStatus::Down).map(|s| &*s.host).collect();
    assert_eq!(down, ["vol-1", "vol-2"], "{services:#?}");
    let bounds = cluster.api.get_service_capabilities(options()).await.unwrap();
    assert_eq!(bounds.get("volume_total_gb"), None, "stale numbers say nothing");
    assert!(bounds.get("compute_vcpus").is_some());
}

#[tokio::test(start_paused = true)]
async fn status_and_detail_tell_what_an_operator_asks() {
    let cluster = Cluster::of(5, 3).await;
    cluster.place(2, flavor(1, 512, 1)).await;
    cluster.place(1, flavor(1, 1 << 30, 1)).await;
    let status = cluster.api.status(CallOptions::new(CALL)).await.unwrap();
    assert_eq!((&*status.scheduler, status.ready, status.waiting_for.as_deref()), ("s1", true, None));
    assert_eq!((status.hosts["up"], status.hosts["down"]), (3, 0));
    assert_eq!((status.decisions, status.refusals, status.reservations), (2, 1, 2));
    assert!(status.reports >= 3 && status.uptime_s > 2.0, "{status:?}");
    let shown = cluster.api.show_host("host-2", CallOptions::new(CALL)).await.unwrap().expect("known");
    assert_eq!((shown.summary.host.as_str(), shown.incarnation), ("host-2", Some(1)));
    assert_eq!(shown.capabilities["novella"]["claims"], json!([]));
    assert_eq!(shown.capabilities["hypervisor_type"], "fake");
    assert!(cluster.api.show_host("nowhere", CallOptions::new(CALL)).await.unwrap().is_none());
}
