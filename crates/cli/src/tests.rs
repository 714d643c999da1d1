//! The commands with a real scheduler and real agents on the in-process bus, on a paused clock.

use std::ffi::OsString;

use clap::Parser;
use novella_messaging::in_process::InProcessBroker;
use novella_objects::{HostAmounts, HostStatus, HostSummary};
use novella_service::Env;
use novella_service::exit::{ErrorFormat, report};
use novella_service::shutdown::Shutdown;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::args::Cli;
use crate::connect::Bus;
use novella_virt::FakeConfig;

use crate::demo::fleet::Fleet;
use crate::dispatch::{ask, run_locally};
use crate::exit_codes::{CONFLICT, NOT_FOUND, OK, PARTIAL, REFUSED, UNREACHABLE, USAGE};
use crate::output::{Console, OutputStyle};
use crate::settings::CliSettings;
use crate::usage::error_format;

/// A host that is up and has instances.
pub fn a_host(name: &str) -> HostSummary {
    HostSummary {
        host: name.to_owned(),
        uuid: Some(Uuid::from_u128(1)),
        state: HostStatus::Up,
        availability_zone: "nova".to_owned(),
        conflicting_zones: Vec::new(),
        vcpus: 8,
        vcpus_used: 3,
        memory_mb: 16_384,
        memory_mb_used: 1_536,
        disk_gb: 200,
        disk_gb_used: 20,
        capacity: Some(HostAmounts { vcpus: 32, memory_mb: 16_384, disk_gb: 200 }),
        held: Some(HostAmounts { vcpus: 1, memory_mb: 1024, disk_gb: 10 }),
        instances: 2,
        resources: Default::default(),
        traits: Vec::new(),
        aggregates: Vec::new(),
        facts: Default::default(),
        reservations: 1,
        report_age_s: 3.25,
        disabled_reason: None,
        warnings: Vec::new(),
        unlisted_claims: 0,
        clock_offset_s: None,
    }
}

/// What a command wrote, and its exit code.
struct Said {
    code: u8,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    #[track_caller]
    fn shows(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.out.contains(part), "{part} is missing in\n{}", self.out);
        }
    }
}

/// Runs a command line as the executable does, on a bus that is already connected.
async fn run(line: &str, bus: &Bus, env: &Env, shutdown: &Shutdown) -> Said {
    let args: Vec<_> = format!("novella {line}").split_whitespace().map(OsString::from).collect();
    let cli = Cli::try_parse_from(&args).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (style, messages) = (OutputStyle::default(), error_format(&args));
    let mut console = Console { out: &mut out, err: &mut err, style, messages };
    let result = match run_locally(&cli.command, env, &mut console) {
        Some(result) => result,
        None => ask(&cli.command, bus, env, shutdown, &mut console).await,
    };
    let code = report(result, ErrorFormat::Text, &mut err);
    Said { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// Fails unless an object has these fields, with these values.
#[track_caller]
fn has(object: &Value, fields: Value) {
    for (key, value) in fields.as_object().unwrap() {
        assert_eq!(&object[key], value, "{key} of {object}");
    }
}

struct Operator {
    env: Env,
    fleet: Fleet,
}

impl Operator {
    async fn new() -> Self {
        let env = Env::simulated(7);
        let fleet = Fleet::start_with(&env, 8, "", &FakeConfig::default()).await.unwrap();
        Self { env, fleet }
    }

    /// A fleet with a policy. The file is read once.
    async fn with_policy(policy: &str) -> Self {
        let env = Env::simulated(7);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, policy).unwrap();
        let fleet =
            Fleet::start_with(&env, 8, file.path().to_str().unwrap(), &FakeConfig::default()).await.unwrap();
        Self { env, fleet }
    }

    async fn runs(&self, line: &str) -> Said {
        self.runs_until(line, &Shutdown::new()).await
    }

    /// Runs a command that ends with this code and has nothing to say beside its answer.
    async fn answers(&self, code: u8, line: &str) -> Said {
        let said = self.runs(line).await;
        assert_eq!((said.code, said.err.as_str()), (code, ""), "{line}: {}", said.out);
        said
    }

    /// Runs a command that fails with this code and this message.
    async fn fails(&self, code: u8, line: &str, message: &str) {
        let said = self.runs(line).await;
        assert_eq!(said.code, code, "{line}: {}", said.err);
        assert!(said.err.contains(message), "{line}: {}", said.err);
    }

    async fn runs_until(&self, line: &str, shutdown: &Shutdown) -> Said {
        run(line, self.fleet.bus(), &self.env, shutdown).await
    }
}

#[tokio::test(start_paused = true)]
async fn host_list_has_the_fields_that_scripts_read() {
    let hosts = Operator::new().await.answers(OK, "host list -f json").await.json();
    let names: Vec<_> = hosts.as_array().unwrap().iter().map(|host| host["host"].as_str().unwrap()).collect();
    assert_eq!(names, ["cpu-1", "edge-1", "edge-2", "mem-1", "std-1", "std-2", "std-3", "store-1"]);
    let cpu = &hosts[0];
    has(
        cpu,
        json!({"state": "up", "availability_zone": "north", "vcpus": 48, "memory_mb": 98_304, "disk_gb": 400}),
    );
    has(cpu, json!({"vcpus_used": 0, "memory_mb_used": 512}));
    assert!(cpu["report_age_s"].is_number() && cpu["disk_gb_used"].is_number(), "{cpu}");
}

#[tokio::test(start_paused = true)]
async fn hosts_are_picked_sorted_and_missed_by_name() {
    let operator = Operator::new().await;
    let said = operator.runs("host ls -f value -c host -c vcpus --sort vcpus:desc std-[1-9] cpu-*").await;
    assert_eq!(said.out, "cpu-1 48\nstd-3 24\nstd-1 16\nstd-2 16\n");
    assert_eq!(operator.runs("host list --state down,disabled -f value").await.out, "");
    let said = operator.runs("host list nope mem-1 -f value -c host").await;
    assert_eq!((said.code, said.out.as_str()), (PARTIAL, "mem-1\n"));
    assert!(said.err.contains("knows no host nope\nnext: "), "{}", said.err);
    operator.fails(NOT_FOUND, "host list nope", "knows no host nope\nnext: `novella host list`").await;
    operator.fails(NOT_FOUND, "host list nope-* cpu-[7-9]", "knows no host nope-*, cpu-[7-9]\n").await;
    operator.fails(PARTIAL, "host list nope-* cpu-1", "knows no host nope-*\n").await;
    operator.fails(NOT_FOUND, "host list nope --state up", "knows no host nope\n").await;
    // A host that is there and does not meet a condition is no failure.
    assert_eq!(operator.answers(OK, "host list cpu-1 --state down -f json").await.json(), json!([]));
    let said = operator.runs("host list --trait CUSTOM_TURBO -f json").await.json();
    assert_eq!((said.as_array().unwrap().len(), &said[0]["host"]), (1, &json!("cpu-1")));
    assert_eq!(said[0]["traits"][0], "CUSTOM_TURBO");
    let said = operator.runs("host list cpu-1 -c host -c traits -f csv").await;
    assert!(said.out.starts_with("host,traits\ncpu-1,\"CUSTOM_TURBO, HW_ARCH_X86_64, "), "{}", said.out);
    operator.runs("host list -f wide").await.shows(&["CUSTOM_SPINDLES"]);
    assert_eq!(operator.runs("host list cpu-1 --trait CUSTOM_SPINDLES -f value").await.code, OK);
    let message = "no column \"hots\"\nnext: use one of host, uuid, state";
    operator.fails(USAGE, "host list -c hots", message).await;
}

#[tokio::test(start_paused = true)]
async fn hosts_are_picked_by_zone_trait_and_fact_and_what_is_there_is_told() {
    let operator = Operator::new().await;
    let names =
        async |line: &str| operator.answers(OK, &format!("host list {line} -f value -c host")).await.out;
    assert_eq!(names("--az edge,south --sort host:desc").await, "store-1\nstd-3\nstd-2\nedge-2\nedge-1\n");
    assert_eq!(names("--fact kind=std --az south").await, "std-2\nstd-3\n");
    assert_eq!(names("--availability-zone north --trait CUSTOM_TURBO").await, "cpu-1\n");
    assert_eq!(names("--az edge --trait CUSTOM_TURBO").await, "", "both are there, but on no host together");
    operator
        .fails(
            NOT_FOUND,
            "host list --az west",
            "no host is in zone west\nnext: the zones are edge, north, south\n",
        )
        .await;
    operator.fails(NOT_FOUND, "host list --az North", "the zones are edge").await;
    operator
        .fails(NOT_FOUND, "host list --trait CUSTOM_TURBOS", "no host reports the trait CUSTOM_TURBOS")
        .await;
    operator
        .fails(
            NOT_FOUND,
            "host list --fact rack=r1",
            "no host reports a fact rack\nnext: the facts are kind\n",
        )
        .await;
    operator.fails(NOT_FOUND, "host list --fact kind=stdd", "no host reports the fact kind=stdd").await;
    operator
        .fails(NOT_FOUND, "host list --aggregate ssd", "no host is in aggregate ssd\nnext: there are none;")
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_free_and_held_is_shown_and_sorted_by() {
    let operator = Operator::with_policy("").await;
    operator.answers(OK, "place --vcpus 2 --ram 4G --disk 20G --host cpu-1 -f json").await;
    let said = operator.answers(OK, "host list --sort free_ram:desc").await;
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[0].ends_with("WARNINGS  FREE_RAM"), "a table shows what it is sorted by: {}", said.out);
    assert!(lines[1].starts_with("mem-1 ") && lines[1].ends_with(" 255.5G"), "{}", said.out);
    let said =
        operator.answers(OK, "host list cpu-1 -f value -c cpu,free_cpu,free_ram,free_disk,held_ram").await;
    assert_eq!(said.out, "2 46 93696 380 4096\n");
    let row = &operator.answers(OK, "host list cpu-1 -f json").await.json()[0];
    has(
        row,
        json!({"capacity": {"vcpus": 48, "memory_mb": 98_304, "disk_gb": 400},
        "held": {"vcpus": 2, "memory_mb": 4096, "disk_gb": 20}}),
    );
    assert!(row.get("facts").is_none(), "facts are not sent unless they are asked for: {row}");
    let said = operator.answers(OK, "host list cpu-1 -f wide").await;
    assert!(said.out.lines().all(|line| line.len() <= 120), "{}", said.out);
    said.shows(&[
        "\n    free_cpu: 46  free_ram: 91.5G  free_disk: 380G  held_cpu: 2  held_ram: 4G  held_disk: 20G",
    ]);

    let shown = operator.answers(OK, "host show cpu-1").await.out;
    let start = "cpu-1 is up, in zone north, with 0 instances; its last report is ";
    let rows = "AMOUNT  USED    OF   FREE  HELD\nCPU        2    48     46     2\nRAM     4.5G   96G  91.5G    4G\n\
                disk     20G  400G   380G   20G\n\nFIELD";
    assert!(shown.starts_with(start) && shown.contains(rows), "{shown}");
}

const CATALOGUE: &str = r#"
[filter_scheduler]
enabled_filters = ["ComputeFilter", "AvailabilityZoneFilter", "CoreFilter", "RamFilter", "ServerGroupAntiAffinityFilter"]

[flavors."m1.small"]
id = "1"
vcpus = 1
memory_mb = 2048
root_gb = 20

[flavors.fast]
vcpus = 8
memory_mb = 8192
extra_specs = { "trait:CUSTOM_TURBO" = "required" }

[aggregates.ssd]
hosts = ["std-[1-2]"]
metadata = { tier = "fast" }

[aggregates.far]
match.zone = "edge"
metadata = { availability_zone = "remote" }

[aggregates.empty]
hosts = []

[server_groups.web]
policy = "anti-affinity"
"#;

#[tokio::test(start_paused = true)]
async fn what_the_policy_defines_is_listed_with_the_hosts_and_instances_in_it() {
    let operator = Operator::with_policy(CATALOGUE).await;
    assert_eq!(
        operator.answers(OK, "flavor list").await.out,
        "NAME      VCPUS  RAM  DISK  EXTRA_SPECS\nfast          8   8G    0G  trait:CUSTOM_TURBO=required\nm1.small      1   2G   20G\n"
    );
    let by_id = operator.answers(OK, "flavor show 1 -f json").await.json();
    has(&by_id, json!({"name": "m1.small", "vcpus": 1, "memory_mb": 2048, "root_gb": 20}));
    let message = "there is no flavor m1.smal\nnext: use one of fast, m1.small\n";
    operator.fails(NOT_FOUND, "flavor show m1.smal", message).await;

    assert_eq!(
        operator.answers(OK, "aggregate list").await.out,
        "NAME   AZ      HOSTS  METADATA\nempty              0\nfar    remote      2  availability_zone=remote\nssd                2  tier=fast\n"
    );
    let ssd = operator.answers(OK, "aggregate show ssd -f json").await.json();
    has(&ssd, json!({"hosts": ["std-1", "std-2"], "by_name": ["std-[1-2]"], "metadata": {"tier": "fast"}}));
    operator
        .fails(NOT_FOUND, "aggregate show hdd", "there is no aggregate hdd\nnext: use one of empty, far, ssd")
        .await;
    assert_eq!(
        operator.answers(OK, "host list --aggregate ssd -f value -c host").await.out,
        "std-1\nstd-2\n"
    );
    operator
        .fails(NOT_FOUND, "host list --aggregate empty", "the aggregates with hosts are far, ssd; `novella")
        .await;

    let zones = operator.answers(OK, "zone list").await.out;
    let rows = "ZONE    HOSTS  UP  DISABLED  DOWN  INSTANCES   CPU        RAM     DISK\n\
                north       3   3         0     0          0  0/80  1.5G/416G  0G/1.4T\nremote      2 ";
    assert!(zones.starts_with(rows), "{zones}");

    operator.answers(OK, "place --flavor m1.small -n 2 --hint group=web -f json").await;
    operator.answers(OK, "place --flavor m1.small --hint group=web -f json").await;
    assert_eq!(
        operator.answers(OK, "group list").await.out,
        "NAME  POLICY         MAX_SERVER_PER_HOST  INSTANCES\nweb   anti-affinity                    1          3\n"
    );
    let web = operator.answers(OK, "group show web").await.out;
    assert!(
        web.starts_with(
            "server group web: anti-affinity, at most 1 member on a host; 3 members\nINSTANCE_UUID"
        ),
        "{web}"
    );
    assert_eq!(web.lines().filter(|line| line.ends_with("  held")).count(), 3, "{web}");
    let hosts = operator.answers(OK, "group show web -f json").await.json();
    assert_eq!(hosts["members"].as_array().unwrap().len(), 3, "{hosts}");
    operator.fails(NOT_FOUND, "group show db", "there is no server group db\nnext: use one of web").await;

    let said = operator.answers(OK, "scheduler list").await.out;
    assert!(said.starts_with("SCHEDULER  READY  VERSION") && said.contains("\ndemo       yes    "), "{said}");
    let row = &operator.answers(OK, "scheduler list -f json").await.json()[0];
    has(row, json!({"scheduler": "demo", "ready": true, "decisions": 2, "reservations": 3}));
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_not_there_is_told_with_those_that_are() {
    let operator = Operator::new().await;
    for line in [
        "place --vcpus 1 --ram 1G --az west",
        "explain --vcpus 1 --ram 1G --az west",
        "capacity --vcpus 1 --ram 1G --az west",
    ] {
        let note = "note: no host is in zone west; the zones are edge, north, south\n";
        operator.fails(REFUSED, line, note).await;
        let said = operator.runs(&format!("{line} -f json")).await;
        assert_eq!(said.err, "", "{line}: with JSON the note is in the document");
        has(&said.json(), json!({"notes": [note.trim_start_matches("note: ").trim_end()]}));
    }
    let picked = operator.runs("place --vcpus 400 --ram 1G -c outcome").await;
    picked.shows(&["outcome", "refused"]);
    let said = operator.runs("place --vcpus 400 --ram 1G --az north").await;
    assert!(said.code == REFUSED && !said.err.contains("no host is in zone"), "{}", said.err);
}

/// Every answer, a refusal too, is data and nothing else on standard output, and names its columns alike everywhere.
#[tokio::test(start_paused = true)]
async fn columns_have_one_name_in_every_format_and_refusals_are_no_data() {
    let operator = Operator::new().await;
    let request = "--vcpus 2 --ram 4G --disk 20G -n 2";
    let refused = "--vcpus 49 --ram 1G";
    let cases = [
        (
            format!("place --dry-run {request}"),
            OK,
            vec!["host", "weight", "instance_uuid,host"],
            vec!["outcome", "hold_s,dry_run"],
        ),
        (format!("explain {request}"), OK, vec!["host,weight"], vec!["outcome"]),
        (format!("place {refused}"), REFUSED, vec!["host,weight"], vec!["outcome,reason"]),
        (format!("explain {refused}"), REFUSED, vec!["host"], vec!["reason"]),
        (format!("explain {refused} --host cpu-1"), REFUSED, vec!["filter,verdict,why"], vec!["outcome"]),
        (format!("explain {refused} --fix"), REFUSED, vec!["change,size"], vec!["reason"]),
        (format!("capacity {refused}"), REFUSED, vec!["flavor,fits,limit"], vec!["flavors"]),
        ("capacity --vcpus 1 --ram 1G --by zone".to_owned(), OK, vec!["name,fits"], vec!["flavors"]),
        ("host list".to_owned(), OK, vec!["host,free_cpu,az"], vec![]),
        ("scheduler status".to_owned(), OK, vec![], vec!["scheduler,ready"]),
    ];
    for (line, code, of_rows, of_all) in cases {
        for (names, rows) in
            of_rows.iter().map(|names| (names, true)).chain(of_all.iter().map(|names| (names, false)))
        {
            let said = async |format: &str| {
                let said = operator.runs(&format!("{line} -f {format} -c {names}")).await;
                assert_eq!(said.code, code, "{line} -f {format} -c {names}: {}", said.err);
                said
            };
            let json = said("json").await.json();
            let rows_of = |json: Value| if rows { json.as_array().unwrap().clone() } else { vec![json] };
            let row_count = rows_of(json.clone()).len();
            for row in rows_of(json) {
                // Objects are read here in the order of their keys.
                let mut keys: Vec<_> = names.split(',').collect();
                keys.sort_unstable();
                assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), keys, "{line} -c {names}");
            }
            let csv = said("csv").await.out;
            assert_eq!(csv.lines().next(), Some(&**names), "{line}");
            let mut reader = csv::Reader::from_reader(csv.as_bytes());
            assert_eq!(
                reader.records().collect::<Result<Vec<_>, _>>().unwrap().len(),
                row_count,
                "{line} -c {names}: {csv}"
            );
            let value = said("value").await.out;
            assert_eq!(value.is_empty(), row_count == 0, "{line} -c {names}: {value}");
            said("yaml").await;
            said("table").await;
        }
    }
    let refusal = operator.runs(&format!("place {refused} -f csv")).await;
    assert_eq!(refusal.out, "instance_uuid,host,weight,alternates,decision_id\n");
    assert!(refusal.err.starts_with("No valid host was found."), "{}", refusal.err);
    assert_eq!(operator.runs(&format!("place {refused} -f value")).await.out, "");
    operator
        .fails(
            USAGE,
            &format!("place {request} -f json -c hots"),
            "there is no column \"hots\"\nnext: use columns of the rows",
        )
        .await;
    operator
        .fails(
            USAGE,
            &format!("place {request} -f csv -c host,outcome"),
            "host and outcome cannot be combined",
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_a_document_or_lines() {
    use novella_objects::document::{Fleet, Host};
    let operator = Operator::new().await;
    let said = operator.runs("snapshot").await;
    assert_eq!(
        (said.code, said.out.lines().count()),
        (OK, 10),
        "a line for each host, one before and one after"
    );
    assert!(said.err.starts_with("8 hosts as "), "{}", said.err);
    let fleet: Fleet<'_> = serde_json::from_str(&said.out).unwrap();
    assert_eq!((fleet.hosts.len(), fleet.n), (8, Some(8)));
    assert!(fleet.hosts.iter().any(|host| host.host == "cpu-1"));
    let lines = operator.runs("snapshot -f jsonl").await.out;
    let mut lines = lines.lines();
    let head: Fleet<'_> = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert!(head.options.is_some() && head.hosts.is_empty());
    let hosts: Vec<Host<'_>> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(hosts.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_listed_as_down() {
    let operator = Operator::new().await;
    operator.fleet.silence("mem-1", true);
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let said = operator.runs("host list --state down -f value -c host,state").await;
    assert_eq!(said.out, "mem-1 down\n");
}

#[tokio::test(start_paused = true)]
async fn a_watch_outside_a_terminal_is_json_lines_until_it_is_stopped() {
    let operator = Operator::new().await;
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
        stop.request();
    });
    let said = operator.runs_until("host list mem-1 edge-1 --watch 1s", &shutdown).await;
    assert_eq!((said.code, said.err.as_str()), (OK, ""));
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6, "two hosts, three looks: {}", said.out);
    assert_eq!((&lines[2]["host"], &lines[3]["host"]), (&json!("edge-1"), &json!("mem-1")));
    assert_ne!(lines[0]["sampled_at"], lines[2]["sampled_at"]);
    assert_eq!(operator.runs("host list --watch 1s -f csv").await.code, USAGE);
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
        stop.request();
    });
    let said = operator.runs_until("host list nope mem-1 --watch 1s", &shutdown).await;
    let warning = "warning: the scheduler knows no host nope\n";
    assert_eq!((said.code, said.err.as_str(), said.out.lines().count()), (OK, warning, 3));
}

#[tokio::test(start_paused = true)]
async fn host_show_has_everything_that_was_reported() {
    let operator = Operator::new().await;
    let said = operator.runs("host show cpu-1 -f json").await;
    let shown = said.json();
    has(&shown, json!({"host": "cpu-1", "incarnation": 1}));
    assert!(shown["seq"].as_u64() > Some(0) && shown["sent_at"].is_string(), "{shown}");
    assert_eq!(shown["capabilities"]["vcpus"], 48);
    said.shows(&["CUSTOM_TURBO"]);
    operator.runs("host describe cpu-1").await.shows(&["capabilities.host_memory_total"]);
    let said = operator.runs("host show nope").await;
    assert_eq!(said.code, NOT_FOUND);
    assert!(said.err.starts_with("error: the scheduler knows no host nope\nnext: "), "{}", said.err);
}

#[tokio::test(start_paused = true)]
async fn a_placement_holds_until_it_is_released() {
    let operator = Operator::new().await;
    let placed = operator.answers(OK, "place --vcpus 2 --ram 4G --disk 20G -n 2 -f json").await.json();
    let selections = placed["selections"].as_array().unwrap();
    assert_eq!(selections.len(), 2);
    for selection in selections {
        assert!(selection["host"].is_string() && selection["weight"].is_number(), "{selection}");
        assert!(!selection["alternates"].as_array().unwrap().is_empty(), "{selection}");
    }
    assert!(placed.get("reason").is_none() && placed.get("filters").is_none(), "{placed}");
    let id = placed["decision_id"].as_str().unwrap();
    let used =
        |said: Said| said.json().as_array().unwrap().iter().map(|h| h["vcpus_used"].as_u64().unwrap()).sum();
    let held: u64 = used(operator.runs("host list -f json").await);
    assert_eq!(held, 4);

    let shown = operator.runs(&format!("decision show {id} -f json")).await.json();
    assert_eq!(shown["selections"], placed["selections"]);
    assert_eq!(shown["filters"].as_array().unwrap()[0]["hosts_in"], 8);

    let said = operator.runs(&format!("release {id} -f json")).await;
    assert_eq!((said.code, said.json()[0]["released"].as_u64()), (OK, Some(2)));
    let held: u64 = used(operator.runs("host list -f json").await);
    assert_eq!(held, 0);
    assert_eq!(operator.runs(&format!("release {id}")).await.code, NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer_with_its_reason() {
    let operator = Operator::new().await;
    let refused = operator.answers(REFUSED, "place --vcpus 49 --ram 1G -f json").await.json();
    has(&refused, json!({"outcome": "refused", "selections": []}));
    assert!(refused["reason"].is_string(), "{refused}");
    let filters = refused["filters"].as_array().unwrap();
    let core = filters.iter().find(|tally| tally["filter"] == "CoreFilter").unwrap();
    assert_eq!((&core["hosts_out"], &core["nearest_miss"]["host"]), (&json!(0), &json!("cpu-1")));

    let table = operator.runs("place --vcpus 49 --ram 1G").await;
    assert_eq!(table.code, REFUSED);
    let next = table.err.strip_prefix("next: `novella ").and_then(|rest| rest.split_once('`'));
    let (next, _) = next.unwrap_or_else(|| panic!("no next step in {}", table.err));
    let fixed = operator.runs(next).await;
    assert_eq!(fixed.code, OK);
    fixed.shows(&[" makes it fit (tested):"]);
    let start = "request: 1 x 49 vCPU, 1G RAM, 0G disk; 8 hosts\ndecision demo-";
    assert!(table.out.starts_with(start), "{}", table.out);
    table.shows(&["\nFILTER", "CoreFilter", "cpu-1"]);
}

#[tokio::test(start_paused = true)]
async fn an_explanation_shows_filters_and_weighers() {
    let operator = Operator::new().await;
    let said = operator.runs("place --vcpus 4 --ram 8G --az south --dry-run --explain").await;
    assert_eq!(said.code, OK);
    said.shows(&["dry run: nothing is held", "AvailabilityZoneFilter", "RANK", "RAMWEIGHER", "1 x "]);
    let json = operator.runs("place --vcpus 4 --ram 8G --az south --dry-run --explain -f json").await.json();
    assert_eq!(json["ranking"].as_array().unwrap().len(), 3);
    assert_eq!(json["dry_run"], true);
}

#[tokio::test(start_paused = true)]
async fn a_host_is_asked_by_every_filter_and_told_its_place() {
    let operator = Operator::new().await;
    let line = "explain --vcpus 4 --ram 40G --az south --extra-spec capabilities:cpu_info:arch=x86_64 --host";
    operator.answers(REFUSED, &format!("{line} edge-2")).await.shows(&[
        "host edge-2 (up): refused by 3 of 6 filters",
        "zone is edge, asked south",
        "asked 40960 MiB, but the host has only 16384",
        "extra spec capabilities:cpu_info:arch is aarch64, asked x86_64",
        "it would be number 3 of 3 candidates, weight ",
        "RAMWeigher",
    ]);
    let said = operator.runs(&format!("{line} std-3 -f json")).await;
    let shown = said.json();
    assert_eq!(said.code, OK);
    has(&shown["host"], json!({"passes": true, "rank": 1}));
    assert_eq!(shown["ranking"][0]["host"], "std-3", "the decision is there too");
    assert_eq!(shown["ranking"][0]["weighers"], shown["host"]["weighers"]);
    assert_eq!(operator.runs(&format!("{line} nope")).await.code, NOT_FOUND);

    let placed = operator.runs("place --vcpus 49 --ram 1G -f json").await.json();
    let id = placed["decision_id"].as_str().unwrap();
    let said = operator.runs(&format!("explain {id} --host cpu-1 -f csv")).await;
    assert_eq!(said.code, REFUSED);
    said.shows(&["\nCoreFilter,refuses,\"asked 49 vCPU, but the host has only 48\",49.0,48.0,vcpus\n"]);
    assert_eq!(operator.runs(&format!("explain {id}")).await.code, OK);
    operator.fleet.silence("mem-1", true);
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    operator.runs("explain --vcpus 1 --ram 1G --host mem-1").await.shows(&["it is down: silent for "]);
}

#[tokio::test(start_paused = true)]
async fn what_would_help_is_searched_and_shown() {
    let operator = Operator::new().await;
    // cpu-1 has 48 CPUs and the others 24 at most; it is in the north.
    operator.answers(REFUSED, "explain --vcpus 30 --ram 4G --az south --fix").await.shows(&[
        "each of these changes makes it fit (tested):\nCHANGE ",
        "\nask for 24 vCPU instead of 30   20 %  std-3\n",
        "\ndrop the zone south            100 %  cpu-1\n",
    ]);
    let fixes =
        operator.runs("explain --vcpus 30 --ram 4G --az south --fix -f json").await.json()["fixes"].clone();
    assert_eq!(fixes["fixes"][0]["changes"][0]["to"], 24, "{fixes}");
    assert!(fixes["trials"].as_u64() > Some(2) && fixes["cut"].is_null(), "{fixes}");
    let line = "explain --vcpus 1 --ram 4G --trait CUSTOM_TURBO --resource CUSTOM_GPU=1";
    let said = operator.runs(line).await;
    assert_eq!(said.code, REFUSED);
    said.shows(&[
        "trait:CUSTOM_TURBO=required",
        "hosts that nearly pass now:\nHOST ",
        "cpu-1  up     resources:CUSTOM_GPU=1       the host reports no inventory of CUSTOM_GPU",
        "std-1  up     trait:CUSTOM_TURBO=required  the host does not report the trait",
    ]);
    let near = operator.runs(&format!("{line} -f json")).await.json()["near"].clone();
    assert_eq!((&near[0]["host"], near[0]["refused"].as_array().unwrap().len()), (&json!("cpu-1"), 1));
    let said = operator.runs("explain --vcpus 1 --ram 4G --fix").await;
    assert_eq!(said.code, OK);
    assert!(said.out.ends_with("\nit fits now; nothing has to change\n"), "{}", said.out);
    let said = operator.runs("explain --vcpus 30 --ram 300G --az south --fix -f csv").await;
    assert!(said.out.starts_with("change,size,host\n"), "{}", said.out);
}

#[tokio::test(start_paused = true)]
async fn what_fits_is_counted_by_parts_and_with_one_lost() {
    let operator = Operator::new().await;
    // Nothing runs. Each host reserves 512 MiB for itself. Memory runs out before CPUs do.
    let line = "capacity --vcpus 1 --ram 16G --by zone --reserve n+1:zone -f json";
    let flavor = &operator.answers(OK, line).await.json()["flavors"][0];
    has(flavor, json!({"hosts": 8, "eligible": 8, "open": 6, "fits": 32}));
    let groups = flavor["groups"].as_array().unwrap();
    let groups: Vec<_> = groups.iter().map(|g| (g["name"].as_str().unwrap(), g["fits"].as_u64())).collect();
    // The hosts in the north take 3, 5 and 15, and those in the south 3, 5 and 1. A host at the edge has less than 16 G.
    assert_eq!(groups, [("edge", Some(0)), ("north", Some(23)), ("south", Some(9))]);
    assert_eq!(flavor["limits"][0]["amount"], "memory_mb");
    assert_eq!(flavor["reserve"], json!({"lost": "north", "moved": 0, "fits": 9, "short": 0}));

    let said = operator.runs("capacity --vcpus 1 --ram 16G --reserve n+1").await;
    assert!(said.out.starts_with("FLAVOR           FITS  OPEN  ELIGIBLE  HOSTS  LIMIT"), "{}", said.out);
    said.shows(&["memory_mb on 8 hosts", "17 with mem-1 lost (0 moved)"]);
    operator.answers(REFUSED, "capacity --vcpus 49 --ram 1G").await.shows(&["vcpus on 8 hosts"]);
    let said = operator.runs("capacity --vcpus 1 --ram 1G --az nowhere -f value -c fits,limit").await;
    assert_eq!((said.code, said.out.as_str()), (REFUSED, "0 \n"));
    let said = operator.runs("capacity --vcpus 1 --ram 1G --az nowhere").await;
    said.shows(&["AvailabilityZoneFilter lets no host pass"]);

    let file = tempfile::NamedTempFile::new().unwrap();
    let flavors = r#"[{"name": "big", "vcpus": 16, "memory_mb": 1024}, {"name": "tiny", "vcpus": 1}]"#;
    std::fs::write(&file, flavors).unwrap();
    let line = format!("capacity --flavors {} --by host -f csv", file.path().display());
    let said = operator.runs(&line).await;
    assert!(said.out.starts_with("flavor,name,fits,eligible,limit\nbig,cpu-1,3,1,vcpus\n"), "{}", said.out);
    assert_eq!(said.out.lines().count(), 1 + 2 * 8, "{}", said.out);
    std::fs::write(&file, "[{}, {\"cpus\": 1}]").unwrap();
    operator.fails(USAGE, &line, "is not a list of flavors: unknown field `cpus`").await;
}

#[tokio::test(start_paused = true)]
async fn what_fits_on_the_hosts_of_a_file_is_counted_without_asking() {
    let operator = Operator::new().await;
    let fleet = concat!(env!("CARGO_MANIFEST_DIR"), "/../fleet-documents/tests/oracle/fleet_100.json.gz");
    let line = format!("capacity --hosts {fleet} --vcpus 2 --ram 4G --disk 20G -f json");
    let flavor = &operator.answers(OK, &line).await.json()["flavors"][0];
    assert_eq!(flavor["hosts"], 100);
    assert!(
        flavor["fits"].as_u64() > flavor["open"].as_u64() && flavor["open"].as_u64() > Some(10),
        "{flavor}"
    );
    let limits: Vec<_> =
        flavor["limits"].as_array().unwrap().iter().map(|l| l["amount"].as_str().unwrap()).collect();
    assert!(limits.contains(&"memory_mb") && !limits.contains(&"instances"), "{limits:?}");
    let policy = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(&policy, "[flavors.small]\nvcpus = 1\nmemory_mb = 2048\n").unwrap();
    let line =
        format!("capacity --hosts {fleet} --flavors {} -f value -c flavor,fits", policy.path().display());
    let said = operator.runs(&line).await;
    assert!(said.out.starts_with("small ") && said.code == OK, "{}{}", said.out, said.err);
    operator.fails(USAGE, &format!("capacity --hosts {fleet}"), "nothing to count").await;
    let line = "capacity --hosts nowhere.json --vcpus 1 --ram 1G";
    operator.fails(NOT_FOUND, line, "there is no file nowhere.json").await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_instance_is_answered_again_and_a_changed_one_is_a_conflict() {
    let operator = Operator::new().await;
    let uuid = Uuid::from_u128(0x1234);
    let line = format!("place --vcpus 1 --ram 1G --instance {uuid} -f json");
    let (first, second) = (operator.runs(&line).await, operator.runs(&line).await);
    assert_eq!((first.code, second.code), (OK, OK));
    assert_eq!(first.json()["selections"][0]["host"], second.json()["selections"][0]["host"]);
    assert_eq!(second.json()["repeated"], true);
    let other = operator.runs(&format!("place --vcpus 2 --ram 1G --instance {uuid} -f json")).await;
    assert_eq!((other.code, &other.json()["outcome"]), (CONFLICT, &json!("conflict")));
    assert_eq!(other.json()["conflict"]["instance_uuid"], json!(uuid));
}

#[tokio::test(start_paused = true)]
async fn services_and_the_scheduler_tell_how_they_do() {
    let operator = Operator::new().await;
    let services = operator.runs("service list -f json").await.json();
    let compute = services.as_array().unwrap().iter().filter(|s| s["service"] == "compute").count();
    assert_eq!(compute, 8);
    let status = operator.runs("scheduler status -f json").await.json();
    has(&status, json!({"scheduler": "demo", "ready": true}));
    assert_eq!(status["hosts"]["up"], 8);
    operator.fails(UNREACHABLE, "scheduler status other", "no scheduler named other listens").await;
    assert_eq!(operator.runs("decision show demo-1-ffffff").await.code, NOT_FOUND);
    assert_eq!(operator.runs("decision show nonsense").await.code, USAGE);
}

#[tokio::test(start_paused = true)]
async fn without_a_scheduler_the_error_says_so() {
    let env = Env::simulated(1);
    let broker = InProcessBroker::new(Default::default());
    let bus = Bus::new(broker.connect("novella"), &CliSettings::default(), &env);
    let said = run("service list", &bus, &env, &Shutdown::new()).await;
    assert_eq!((said.code, said.out.as_str()), (UNREACHABLE, ""));
    assert!(said.err.starts_with("error: no scheduler listens on this broker\nnext: "), "{}", said.err);
    assert!(said.err.contains("scheduler --transport-url"), "{}", said.err);
}

#[tokio::test(start_paused = true)]
async fn what_nothing_looks_at_is_told_and_placed_all_the_same() {
    let operator = Operator::new().await;
    let line = "place --vcpus 1 --ram 1G --extra-spec hw:cpu_polcy=dedicated --hint same_host=x";
    let notes = [
        "the placement does not consider hw:cpu_polcy=dedicated, because there is no such extra spec; did you mean \
         hw:cpu_policy?",
        "the placement does not consider the hint same_host=x, because SameHostFilter is not enabled",
    ];
    for format in ["table", "value", "json"] {
        let said = operator.runs(&format!("{line} -f {format}")).await;
        let told = match format {
            "json" => String::new(),
            _ => format!("note: {}\nnote: {}\n", notes[0], notes[1]),
        };
        assert_eq!((said.code, said.err.as_str()), (OK, told.as_str()), "{format}");
        if format == "json" {
            assert_eq!(said.json()["notes"], json!(notes));
        }
    }
    let picked = operator.runs(&format!("{line} -f json -c host")).await;
    let lines: Vec<Value> = picked.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, notes.map(|note| json!({ "note": note })), "a picked column holds no notes");
    let said = operator.answers(OK, "place --vcpus 1 --ram 1G --extra-spec trait:X=forbidden -f json").await;
    assert!(said.json().get("notes").is_none(), "{}", said.out);
}

#[tokio::test(start_paused = true)]
async fn one_bad_flavor_does_not_end_capacity() {
    let operator = Operator::new().await;
    let flavors = tempfile::NamedTempFile::new().unwrap();
    let bad = json!({"name": "bad", "vcpus": 4, "memory_mb": 512, "extra_specs": {"hw:numa_nodes": "3"}});
    let good = json!({"name": "good", "vcpus": 1, "memory_mb": 16_384});
    std::fs::write(flavors.path(), json!([bad, good]).to_string()).unwrap();
    let fleet = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(fleet.path(), operator.runs("snapshot").await.out).unwrap();
    let live = format!("capacity --flavors {}", flavors.path().display());
    let on_file = format!("{live} --hosts {}", fleet.path().display());
    for line in [live, on_file] {
        let said = operator.runs(&format!("{line} -f json")).await;
        assert_eq!(said.code, REFUSED, "{}", said.err);
        let flavors = &said.json()["flavors"];
        assert_eq!((&flavors[0]["fits"], flavors[1].get("error")), (&json!(0), None), "{flavors}");
        let error = flavors[0]["error"].as_str().unwrap();
        assert!(error.contains("shared out evenly") && flavors[1]["fits"].as_u64() > Some(0), "{flavors}");
        let said = operator.runs(&line).await;
        assert!(
            said.err.contains("error: bad cannot be counted: ") && said.out.contains("good"),
            "{}",
            said.err
        );
    }
}

#[tokio::test(start_paused = true)]
async fn policies_are_checked_shown_compared_and_reloaded() {
    let operator = Operator::new().await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good =
        file("good.toml", "[filter_scheduler]\nhost_subset_size = 2\n[aggregates.a]\nhosts = ['cmp-*']\n");
    let bad = file("bad.toml", "[filter_scheduler]\nhost_subset_size = 0\nenabled_filters = ['RamFiler']\n");

    let said = operator.answers(OK, &format!("policy check {good}")).await;
    said.shows(&["the policy is valid", "1 aggregates"]);
    let said = operator.runs(&format!("policy check {bad}")).await;
    assert_eq!((said.code, said.out.as_str()), (USAGE, ""));
    for wanted in ["2 problems", "line 2: filter_scheduler.host_subset_size", "did you mean RamFilter?"] {
        assert!(said.err.contains(wanted), "{}", said.err);
    }
    let said = operator.runs(&format!("policy check {bad} -f json")).await;
    assert_eq!((said.code, said.json()["problems"][1]["did_you_mean"].clone()), (USAGE, json!("RamFilter")));
    operator.fails(USAGE, "policy check nowhere.toml", "cannot read nowhere.toml").await;
    let picked = operator.runs(&format!("policy check {bad} -c valid,problems")).await;
    assert_eq!((picked.code, picked.err.as_str()), (USAGE, ""));
    picked.shows(&["FIELD", "valid ", "false", "problems[0].line ", "RamFilter"]);
    assert!(!picked.out.contains("hash"), "{}", picked.out);
    operator.fails(USAGE, &format!("policy check {good} -c hots"), "there is no field \"hots\"").await;
    let specs = "extra_specs = { 'hw:numa_nodes' = '3', 'hw:cpu_polcy' = 'x' }";
    let unusable = file("unusable.toml", &format!("[flavors.a]\nvcpus = 4\nmemory_mb = 1\n{specs}\n"));
    let said = operator.runs(&format!("policy check {unusable}")).await;
    assert_eq!(said.code, USAGE);
    said.shows(&["a scheduler accepts this policy, but it has errors"]);
    for wanted in [
        format!("error: {unusable}: line 1: flavors.a: every request for this flavor is refused: "),
        format!("warning: {unusable}: line 4: flavors.a.extra_specs.\"hw:cpu_polcy\": "),
        // The second line of a finding.
        "\n    fix: ".to_owned(),
        "did you mean hw:cpu_policy?".to_owned(),
    ] {
        assert!(said.err.contains(&wanted), "{wanted}: {}", said.err);
    }
    let said = operator.runs(&format!("policy check {unusable} -f json")).await.json();
    assert_eq!((&said["valid"], &said["unusable"][0]["line"]), (&json!(true), &json!(1)), "{said}");

    let shown = operator.runs("policy show -f json").await.json();
    assert_eq!(shown[0]["policy"]["filter_scheduler"]["host_subset_size"], 1, "{shown}");
    let table = operator.runs("policy show").await;
    assert!(table.code == OK && table.out.contains(shown[0]["hash"].as_str().unwrap()), "{}", table.out);

    let said = operator.runs(&format!("policy diff {good}")).await;
    assert_eq!(said.code, OK);
    said.shows(&["  ~ filter_scheduler.host_subset_size: 1 -> 2\n", "  + aggregates.a = "]);
    assert_eq!(operator.runs(&format!("policy diff {bad}")).await.code, USAGE);

    let said = operator.answers(OK, "policy reload").await;
    assert!(said.out.ends_with(": no changes\n"), "{}", said.out);
    operator.fails(USAGE, "place --flavor m1.small", "no flavor \"m1.small\"; it defines none").await;
}

#[tokio::test(start_paused = true)]
async fn a_host_of_the_answer_that_is_not_up_is_marked() {
    let operator = Operator::new().await;
    let line = "place --vcpus 1 --ram 1G --hold 10m --instance 7c7ff0f7-2f4f-4d3e-9d56-2a4b3b0e5a11";
    let said = operator.answers(OK, &format!("{line} -f json")).await.json();
    assert!(said.get("not_up").is_none(), "{said}");
    let host = said["selections"][0]["host"].as_str().unwrap();
    operator.fleet.silence(host, true);
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let again = operator.runs(line).await;
    again.shows(&["the same answer as before", &format!("{host} (down)")]);
    let note = format!("note: {host} is down: this answer repeats an earlier decision");
    assert!(
        again.code == OK && again.err.starts_with(&note) && again.err.contains("novella release "),
        "{}",
        again.err
    );
    let again = operator.runs(&format!("{line} -f json")).await;
    assert_eq!(again.err, "");
    let again = again.json();
    has(&again, json!({"repeated": true, "not_up": {host: "down"}}));
    assert!(again["notes"][0].as_str().unwrap().starts_with(note.trim_start_matches("note: ")), "{again}");
    let forced = operator.runs(&format!("place --vcpus 1 --ram 1G --dry-run --force-host {host}")).await;
    let note = format!("note: {host} is down: the request forces this host");
    assert!(forced.code == OK && forced.err.starts_with(&note), "{}", forced.err);
    assert_eq!(
        operator.runs(&format!("place --vcpus 1 --ram 1G --dry-run --host {host}")).await.code,
        REFUSED
    );
}

/// A host that builds instances reports two of one name, a claim and a failed build. Nobody answers for it.
async fn report_instances(operator: &Operator) {
    let instance = |name: &str, state: &str| {
        json!({"name": name, "vm_state": state, "power_state": "RUNNING", "created_at": "2026-01-01T00:00:00Z",
            "image": "debian"})
    };
    let mut failed = instance("db", "error");
    failed["fault"] = json!("the image is missing");
    let claim = |number: u128| {
        json!({"uuid": Uuid::from_u128(number), "vcpus": 1, "memory_mb": 512, "disk_gb": 1,
        "decision": "demo-1-1", "rank": {"attempt": 1, "try": 1}})
    };
    let built = |number: u128, instance: Value| {
        let mut claim = claim(number);
        claim["instance"] = instance;
        claim
    };
    let claims = [
        built(1, instance("web", "active")),
        built(2, instance("web", "building")),
        built(3, failed),
        claim(4),
    ];
    let report = json!({"vcpus": 16, "host_memory_total": 32_768, "disk_total": 500, "novella": {
        "uuid": Uuid::from_u128(77), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "2026-01-01T00:00:00Z",
        "interval_ms": 10_000, "grants": true, "claims": claims}})
    .to_string();
    let bus = operator.fleet.bus();
    let report = serde_json::from_str(&report).unwrap();
    let options = bus.options();
    bus.scheduler().update_service_capabilities("compute", "hand-1", &report, options.timeout).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}

#[tokio::test(start_paused = true)]
async fn instances_are_listed_found_by_name_and_shown() {
    let operator = Operator::new().await;
    assert_eq!(operator.answers(OK, "server list -f json").await.json(), json!([]));
    report_instances(&operator).await;
    let said = operator.answers(OK, "server list -f value -c name -c status -c host -c power").await;
    assert_eq!(said.out, "db error hand-1 RUNNING\nweb active hand-1 RUNNING\nweb building hand-1 RUNNING\n");
    let rows = operator.answers(OK, "server list --name db -f json").await.json();
    assert_eq!(
        (rows.as_array().unwrap().len(), &rows[0]["instance"]["fault"]),
        (1, &json!("the image is missing"))
    );
    let said = operator.answers(OK, "server ls --status active,error -f value -c name").await;
    assert_eq!(said.out, "db\nweb\n");
    assert_eq!(operator.answers(OK, "server list --host std-1 -f value").await.out, "");
    operator.runs("server list").await.shows(&["1 CPU, 512M, 1G", "building", "hand-1"]);
    operator.runs("server list -f wide").await.shows(&["the image is missing", "debian", "demo-1-1"]);
    operator.answers(OK, "place --vcpus 1 --ram 1G --disk 1").await;
    let said = operator.answers(OK, "server list --all --sort status -f value -c status").await;
    assert_eq!(said.out, "active\nbuilding\nclaim\nerror\nhold\n");
    assert_eq!(operator.answers(OK, "server list --status claim -f value -c host").await.out, "hand-1\n");
    operator
        .fails(USAGE, "server list -c nome", "no column \"nome\"\nnext: use one of uuid, name, host")
        .await;

    // The host does not answer, which is said beside what it reported.
    let said = operator.runs("server show db -f json").await;
    assert_eq!(said.code, OK, "{}", said.err);
    has(&said.json(), json!({"status": "error", "host": "hand-1", "uuid": Uuid::from_u128(3)}));
    assert!(said.err.contains("host hand-1 did not tell the events: no agent listens"), "{}", said.err);
    operator.fails(PARTIAL, "server events db", "did not tell the events").await;
    operator.fails(NOT_FOUND, "server show nobody", "no instance nobody is reported").await;
    let said = operator.runs("server show web").await;
    assert_eq!(said.code, CONFLICT);
    for part in [
        &Uuid::from_u128(1).to_string(),
        &Uuid::from_u128(2).to_string(),
        "2 instances are web\nnext: name the uuid",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_to_an_instance_is_told_with_what_to_do() {
    let operator = Operator::new().await;
    report_instances(&operator).await;
    let (claim, instance) = (Uuid::from_u128(4), Uuid::from_u128(1));
    operator
        .fails(CONFLICT, &format!("server delete {claim}"), "next: give it back: `novella release --instance")
        .await;
    operator
        .fails(CONFLICT, &format!("release --instance {instance}"), "next: delete it: `novella server delete")
        .await;
    let unknown = Uuid::from_u128(99);
    operator.fails(NOT_FOUND, &format!("server stop {unknown}"), "could not be found\nnext: ").await;
    operator
        .fails(UNREACHABLE, "server start db", "no agent listens as host hand-1\nnext: `novella ping hand-1`")
        .await;
    operator.fails(CONFLICT, "server delete web", "name the uuid of one of them").await;
    let said = operator.runs("server delete db nobody -f value").await;
    assert_eq!(said.code, UNREACHABLE, "{}", said.err);
    assert!(said.out.contains("no agent listens") && said.out.contains("nobody "), "{}", said.out);
    assert!(said.err.contains("error: 2 of 2 failed: "), "{}", said.err);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_no_host_takes_is_refused_and_its_uuid_was_told_before() {
    let operator = Operator::new().await;
    let said = operator.runs("server create huge --vcpus 4000 --ram 1G --wait -f json").await;
    assert_eq!((said.code, &said.json()["outcome"]), (REFUSED, &json!("refused")), "{}", said.err);
    assert!(said.err.contains("creating huge "), "{}", said.err);
}

#[tokio::test(start_paused = true)]
async fn the_last_decisions_are_listed() {
    let operator = Operator::new().await;
    assert_eq!(operator.answers(OK, "decision list -f json").await.json(), json!([]));
    operator.answers(OK, "place --vcpus 1 --ram 1G --disk 1").await;
    operator.runs("place --vcpus 4000 --ram 1G").await;
    operator.answers(OK, "place --vcpus 1 --ram 1G --dry-run -n 2").await;
    assert_eq!(operator.runs("place --vcpus 1 --ram 1G --claim").await.code, OK);
    let said = operator.answers(OK, "decision list -f value -c outcome -c instances").await;
    assert_eq!(said.out, "claimed 1\ndry_run 2\nrefused 1\nheld 1\n");
    let rows = operator.answers(OK, "decision list -n 1 --scheduler demo -f json").await.json();
    assert_eq!((rows.as_array().unwrap().len(), rows[0]["hosts"].as_array().unwrap().len()), (1, 1));
    let id = rows[0]["decision_id"].as_str().unwrap();
    assert_eq!(operator.runs(&format!("decision show {id}")).await.code, OK);
    operator.fails(UNREACHABLE, "decision list --scheduler other", "").await;
}
