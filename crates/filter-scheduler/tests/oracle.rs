//! Nova's own decisions, reproduced.
//!
//! `tests/oracle/` holds two seeded fleets, 200 requests for each, and what the filters and weighers of Nova 34.0.0 said of
//! them: per request one verdict per host (a point for passed, a letter for the filter that dropped it, a dash for a host
//! that was never filtered), the weights of the hosts that passed, and the picks, each instance's share consumed before
//! the next. Verdicts, order and picks must be the same, weights to 1e-9.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use novella_filter_scheduler::{
    Aggregate, FilterKind, FilterScheduler, HostTable, Instance, OnFilterError, Resources, Row,
    SchedulerOptions, Status, Terms, Verdict, WeigherKind,
};
use novella_objects::{AllocationRatios, Flavor, Image, InstanceGroup, RequestSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Deserialize)]
struct Fleet {
    aggregates: Vec<OracleAggregate>,
    hosts: Vec<Host>,
}

#[derive(Deserialize)]
struct OracleAggregate {
    id: u32,
    name: String,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Host {
    host: String,
    node: String,
    aggregates: Vec<u32>,
    vcpus: u64,
    vcpus_used: u64,
    memory_mb: u64,
    memory_mb_used: u64,
    local_gb: u64,
    free_disk_gb: i64,
    disk_available_least: Option<i64>,
    cpu_allocation_ratio: f64,
    ram_allocation_ratio: f64,
    disk_allocation_ratio: f64,
    num_instances: u32,
    num_io_ops: u32,
    failed_builds: u32,
    cpu_info: Value,
    hypervisor_type: String,
    hypervisor_version: i64,
    host_ip: String,
    supported_instances: Value,
    stats: Value,
    instances: Vec<Uuid>,
    disabled: bool,
    last_seen_age_s: u64,
}

#[derive(Deserialize)]
struct Requests {
    filter_sets: BTreeMap<String, Vec<String>>,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    id: u32,
    filters: String,
    vcpus: u32,
    memory_mb: u64,
    root_gb: u64,
    ephemeral_gb: u64,
    extra_specs: BTreeMap<String, String>,
    image: BTreeMap<String, Value>,
    hints: BTreeMap<String, Value>,
    group: Option<InstanceGroup>,
    force_hosts: Vec<String>,
    ignore_hosts: Vec<String>,
    target_host: Option<String>,
    instance_uuids: Vec<Uuid>,
}

#[derive(Deserialize)]
struct Nova {
    config: BTreeMap<String, Value>,
    weighers: Vec<String>,
    results: Vec<NovaResult>,
}

#[derive(Deserialize)]
struct NovaResult {
    id: u32,
    verdict: String,
    weights: Vec<(u32, f64)>,
    picks: Vec<u32>,
    complete: bool,
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name);
    let file = File::open(&path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(file)).expect("it is gzipped text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Rows are in the order of the file, so a row's index is Nova's host index.
fn table(fleet: &Fleet) -> HostTable {
    let mut table = HostTable::new();
    table.set_aggregates(fleet.aggregates.iter().map(|aggregate| Aggregate {
        id: aggregate.id,
        name: aggregate.name.clone(),
        metadata: aggregate.metadata.clone(),
    }));
    for (at, host) in fleet.hosts.iter().enumerate() {
        let row = table.insert(&host.host, &host.node);
        assert_eq!(row.index(), at);
        let free_disk = host.disk_available_least.map_or(host.free_disk_gb, |d| d.min(host.free_disk_gb));
        let resources = Resources {
            vcpus_total: host.vcpus,
            vcpus_used: host.vcpus_used,
            memory_mb_total: host.memory_mb,
            memory_mb_used: host.memory_mb_used,
            disk_gb_total: host.local_gb,
            disk_gb_used: u64::try_from(host.local_gb as i64 - free_disk).expect("no host has too much free"),
            ratios: AllocationRatios {
                cpu: host.cpu_allocation_ratio,
                ram: host.ram_allocation_ratio,
                disk: host.disk_allocation_ratio,
            },
            num_instances: host.num_instances,
            num_io_ops: host.num_io_ops,
            failed_builds: host.failed_builds,
        };
        table.set_resources(row, &resources).expect("the fleet is good");
        let status = match (host.disabled, host.last_seen_age_s > 60) {
            (true, _) => Status::Disabled,
            (false, true) => Status::Down,
            (false, false) => Status::Up,
        };
        table.set_status(row, status);
        table.set_host_aggregates(row, &host.aggregates);
        for &uuid in &host.instances {
            table.add_instance(row, &Instance { uuid, flavor: None, image: None }).expect("without image");
        }
        let report = json!({
            "cpu_info": host.cpu_info.to_string(),
            "hypervisor_type": host.hypervisor_type,
            "hypervisor_version": host.hypervisor_version,
            "host_ip": host.host_ip,
            "supported_instances": host.supported_instances,
            "novella": {
                "uuid": Uuid::from_u128(at as u128 + 1), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "",
                "interval_ms": 1, "facts": host.stats,
            },
        })
        .to_string();
        table.set_capabilities(row, &serde_json::from_str(&report).expect("a good report"));
    }
    table
}

fn options(nova: &Nova, filters: &[String]) -> SchedulerOptions {
    let parsed = nova.weighers.iter().map(|name| name.parse::<WeigherKind>().expect("a known weigher"));
    let multiplier = |kind: WeigherKind| {
        let configured = nova.config.get(kind.multiplier_key());
        configured.map_or(kind.default_multiplier(), |value| value.as_f64().expect("a number"))
    };
    let mut options = SchedulerOptions {
        enabled_filters: filters
            .iter()
            .map(|name| name.parse::<FilterKind>().expect("a known filter"))
            .collect(),
        weighers: parsed.map(|kind| (kind, multiplier(kind))).collect(),
        on_filter_error: OnFilterError::FailRequest,
        ..SchedulerOptions::default()
    };
    let limit = |name: &str| nova.config[name].as_i64().expect("a number");
    options.policy.max_instances_per_host = limit("max_instances_per_host");
    options.policy.max_io_ops_per_host = limit("max_io_ops_per_host");
    options
}

fn spec(request: &Request) -> RequestSpec {
    RequestSpec {
        instance_uuids: request.instance_uuids.clone(),
        flavor: Flavor {
            vcpus: request.vcpus,
            memory_mb: request.memory_mb,
            root_gb: request.root_gb,
            ephemeral_gb: request.ephemeral_gb,
            extra_specs: request.extra_specs.clone(),
            ..Flavor::default()
        },
        image: Some(Image { id: None, properties: request.image.clone() }),
        scheduler_hints: request.hints.clone(),
        instance_group: request.group.clone(),
        force_hosts: request.force_hosts.clone(),
        ignore_hosts: request.ignore_hosts.clone(),
        target_host: request.target_host.clone(),
        ..RequestSpec::default()
    }
}

/// One character per host, as in the recording.
fn verdicts(verdicts: &[(Row, Verdict)], filters: &[FilterKind]) -> String {
    let letter = |kind: &FilterKind| {
        let at = filters.iter().position(|filter| filter == kind).expect("only enabled filters refuse");
        char::from(b'a' + at as u8)
    };
    verdicts
        .iter()
        .map(|(_, verdict)| match verdict {
            Verdict::Passed => '.',
            Verdict::NotConsidered => '-',
            Verdict::Refused(kind) => letter(kind),
            Verdict::Error(error) => panic!("Nova recorded no error: {error}"),
        })
        .collect()
}

fn same_verdicts_weights_and_picks(hosts: usize) {
    let fleet: Fleet = read(&format!("fleet_{hosts}.json.gz"));
    let requests: Requests = read(&format!("requests_{hosts}.json.gz"));
    let nova: Nova = read(&format!("nova_{hosts}.json.gz"));
    assert_eq!((fleet.hosts.len(), requests.requests.len(), nova.results.len()), (hosts, 200, 200));
    let mut table = table(&fleet);
    let (mut weights, mut picks) = (0, 0);
    for (request, expected) in requests.requests.iter().zip(&nova.results) {
        let id = expected.id;
        assert_eq!(request.id, id);
        let options = options(&nova, &requests.filter_sets[&request.filters]);
        let filters = options.enabled_filters.clone();
        let mut engine = FilterScheduler::new(options).expect("good options");
        let spec = spec(request);
        let evaluation = engine.evaluate(&mut table, &spec).expect("every host of the recording exists");
        assert_eq!(verdicts(&evaluation.verdicts, &filters), expected.verdict, "verdicts of request {id}");
        let order: Vec<_> = evaluation.ranking.iter().map(|(row, _)| row.index() as u32).collect();
        let nova_order: Vec<_> = expected.weights.iter().map(|(host, _)| *host).collect();
        assert_eq!(order, nova_order, "order of request {id}");
        for ((row, weight), (_, nova)) in evaluation.ranking.iter().zip(&expected.weights) {
            let tolerance = 1e-9 * nova.abs().max(1.0);
            assert!(
                (weight - nova).abs() <= tolerance,
                "request {id}, host {}: {weight}, not {nova}",
                row.index()
            );
            weights += 1;
        }
        let selected = engine.select(&mut table, &spec, &Terms { dry_run: true, ..Terms::default() });
        if expected.complete {
            assert_eq!(selected.failure, None, "request {id}");
            let rows: Vec<_> = selected.picks.iter().map(|pick| pick.row.index() as u32).collect();
            assert_eq!(rows, expected.picks, "picks of request {id}");
            picks += rows.len();
        } else {
            let failure = selected.failure.unwrap_or_else(|| panic!("request {id} should fail"));
            let novella_filter_scheduler::Failure::NoValidHost { placeable, .. } = failure else {
                panic!("request {id}: {failure}");
            };
            assert_eq!(placeable as usize, expected.picks.len(), "request {id}");
        }
    }
    println!("{hosts} hosts: 200 requests, {} verdicts, {weights} weights, {picks} picks", 200 * hosts);
}

#[test]
fn a_hundred_hosts() {
    same_verdicts_weights_and_picks(100);
}

#[test]
fn a_thousand_hosts() {
    same_verdicts_weights_and_picks(1000);
}
