//! What Nova hears of a request for many instances: each host with the limits that the filters decided by, found without
//! compiling the request again for each of its instances.

mod bed;

use std::time::Duration;

use futures_util::FutureExt;
use novella_messaging::RequestContext;
use novella_objects::{Flavor, PlacementRequest, RequestSpec, SelectDestinations};
use novella_rpcapi::{NovaSchedulerEndpoint, NovaSelectDestinations, NovaSelection, SchedulerEndpoint};
use novella_scheduler::SchedulerManager;
use novella_service::Env;
use uuid::Uuid;

const HOSTS: usize = 800;
const INSTANCES: usize = 700;
/// How often each kind of request is made. The fastest counts, because other work on the machine can only slow one down.
const ROUNDS: u128 = 5;
/// Nova's request may take this many times as long as ours. The two take about equally long. Compiling the request again
/// for each instance took 20 times as long.
const MOST: u32 = 5;

/// Each host is in an aggregate of its own, so that compiling the filter that asks aggregates takes long. The first host
/// may have its CPUs used eight times over.
fn policy() -> String {
    let mut text = "[filter_scheduler]\nenabled_filters = [\"AggregateCoreFilter\", \"RamFilter\", \
                    \"AggregateInstanceExtraSpecsFilter\"]\n"
        .to_owned();
    for host in 0..HOSTS {
        let ratio = if host == 0 { ", cpu_allocation_ratio = \"8.0\"" } else { "" };
        let metadata = format!("kind = \"general,{host}\"{ratio}");
        text += &format!("[aggregates.a{host}]\nhosts = [\"h{host}\"]\nmetadata = {{ {metadata} }}\n");
    }
    text
}

fn request(round: u128) -> PlacementRequest {
    let uuid = |instance: usize| Uuid::from_u128((round + 1) << 64 | instance as u128);
    let flavor = Flavor {
        vcpus: 1,
        memory_mb: 1024,
        extra_specs: [("kind".to_owned(), "general".to_owned())].into(),
        ..Flavor::default()
    };
    PlacementRequest {
        instance_uuids: (0..INSTANCES).map(uuid).collect(),
        spec: RequestSpec { flavor, ..RequestSpec::default() },
        attempt: 1,
    }
}

/// Nova's request, made now, and how long it takes.
fn nova(
    manager: &SchedulerManager,
    env: &Env,
    request: PlacementRequest,
    alternates: bool,
) -> (Vec<Vec<NovaSelection>>, Duration) {
    let PlacementRequest { instance_uuids, spec, .. } = request;
    let instances = instance_uuids.len() as u32;
    let request = NovaSelectDestinations { spec, instance_uuids, instances, alternates };
    let (context, began) = (RequestContext::default(), env.clock.now());
    let answer = NovaSchedulerEndpoint::select_destinations(manager, &context, request).now_or_never();
    let answer = answer.expect("it never waits").expect("everything fits");
    (answer, env.clock.now() - began)
}

/// The same request as a caller of ours makes it.
fn ours(manager: &SchedulerManager, env: &Env, request_spec: PlacementRequest) -> Duration {
    let request = SelectDestinations { request_spec, ..SelectDestinations::default() };
    let (context, began) = (RequestContext::default(), env.clock.now());
    let decision = SchedulerEndpoint::select_destinations(manager, &context, request).now_or_never();
    let decision = decision.expect("it never waits").expect("a good request");
    assert_eq!((decision.refusal.clone(), decision.selections.len()), (None, INSTANCES));
    env.clock.now() - began
}

#[test]
fn many_instances_take_nova_about_as_long_as_anyone() {
    let env = Env::system(None).expect("entropy");
    let manager = bed::manager(&env, &policy(), HOSTS);
    let rounds = (0..ROUNDS).map(|round| {
        let plain = ours(&manager, &env, request(2 * round));
        (plain, nova(&manager, &env, request(2 * round + 1), false).1)
    });
    let (plain, of_nova): (Vec<_>, Vec<_>) = rounds.unzip();
    let fastest = |times: Vec<Duration>| times.into_iter().min().expect("at least one round");
    let (plain, of_nova) = (fastest(plain), fastest(of_nova));
    assert!(of_nova < plain * MOST, "{INSTANCES} instances took {of_nova:?} for Nova and {plain:?} for us");
}

#[test]
fn each_host_has_the_limits_of_its_own_aggregates() {
    let env = Env::system(None).expect("entropy");
    let manager = bed::manager(&env, &policy(), HOSTS);
    let (answer, _) = nova(&manager, &env, request(0), true);
    assert_eq!(answer.len(), INSTANCES);
    for hosts in &answer {
        assert!(hosts.len() > 1, "alternates were asked for: {hosts:?}");
        for host in hosts {
            let number = host.service_host.strip_prefix('h').expect("the test's own name");
            assert_eq!(host.nodename, format!("node-{number}"));
            let ratio = if number == "0" { 8 } else { 4 };
            assert_eq!(
                (host.limits.vcpu, host.limits.memory_mb),
                (Some(64 * ratio), Some(262_144)),
                "{host:?}"
            );
        }
    }
    let named = |host: &NovaSelection| host.service_host == "h0";
    assert!(answer.iter().flatten().any(named), "the host whose aggregate has a ratio is among them");
}
