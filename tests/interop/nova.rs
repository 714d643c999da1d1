//! The scheduler client of the real Nova 34 asks our scheduler, with Nova's own objects on both ways.
//!
//! Each request is that of a document: nova_client.py makes it into the RequestSpec of Nova's conductor, and here the
//! engine decides about the same document on a snapshot of the same map. Both must choose the same hosts.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use novella_fleet_documents::{EvaluationOptions, Evaluator, host_table};
use novella_objects::document::{Fleet, Outcome, Request};
use novella_rpcapi::SchedulerApi;
use novella_virt::FakeConfig;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::bed;
use crate::daemons_rig::{GRACE, until_all_up};
use crate::support::{PATIENCE, eventually, variable};

const CELL: &str = "cccccccc-0000-4000-8000-000000000002";

/// Nova's client, in a process of its own.
pub struct Nova {
    process: Child,
    stdin: ChildStdin,
    answers: mpsc::UnboundedReceiver<String>,
    /// Requests so far: each has a server group of its own, if it has one.
    asked: u64,
}

impl Nova {
    pub fn start(interpreter: &str, url: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/nova_client.py");
        let mut command = Command::new(interpreter);
        command.arg(program).arg(url).env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the interpreter can be run");
        let stdin = process.stdin.take().expect("piped");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (sender, answers) = mpsc::unbounded_channel();
        // Until it ends, or nobody listens any more.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, stdin, answers, asked: 0 }
    }

    /// One answer for each command.
    pub async fn ask(&mut self, command: &Value) -> Result<Value, Value> {
        writeln!(self.stdin, "{command}").expect("it takes commands");
        let line = timeout(PATIENCE, self.answers.recv()).await.expect("in time").expect("it answers");
        let mut answer: Value = serde_json::from_str(&line).expect("JSON");
        match answer["raised"].take() {
            Value::Null => Ok(answer["returned"].take()),
            raised => Err(raised),
        }
    }

    /// As Nova's conductor asks when it builds instances.
    async fn select(&mut self, request: &Value, alternates: bool) -> Result<Value, Value> {
        let group = format!("99999999-0000-4000-8000-{:012x}", self.asked);
        self.asked += 1;
        self.ask(&json!({
            "request": request, "return_objects": true, "return_alternates": alternates, "group": group,
        }))
        .await
    }
}

impl Drop for Nova {
    fn drop(&mut self) {
        // It may have ended by itself, then there is nothing to kill.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What the engine says in this process, on the scheduler's map as it is now; hosts by name.
async fn expected(api: &SchedulerApi, request: &Value, alternates: bool) -> (Outcome, Vec<Vec<String>>) {
    let page = api.snapshot(bed::patient()).await.expect("a snapshot");
    let head = page.head.expect("the first page has the head");
    let mut fleet: Fleet<'_> = serde_json::from_str(head.get()).expect("a fleet");
    let hosts = page.hosts.iter().map(|host| serde_json::from_str(host.get()).expect("a host"));
    fleet.hosts = hosts.collect();
    let options = EvaluationOptions::read(fleet.options.as_ref().expect("they are in it")).expect("options");
    let table = host_table(&fleet.aggregates, &fleet.hosts, options.service_down_time_s).expect("a fleet");
    let mut evaluator = Evaluator::new(table, options, &Default::default()).expect("options");
    let mut request: Request = serde_json::from_value(request.clone()).expect("a request");
    request.alternates = alternates;
    let outcome = evaluator.outcome(0, &request).expect("it can be answered");
    let none = Vec::new();
    let row = |(at, pick): (usize, &u32)| {
        let more = outcome.alternates.get(at).unwrap_or(&none);
        std::iter::once(pick).chain(more).map(|row| fleet.hosts[*row as usize].host.to_string()).collect()
    };
    let rows = outcome.picks.iter().enumerate().map(row).collect();
    (outcome, rows)
}

fn hosts(selections: &Value) -> Vec<Vec<String>> {
    let text = |selection: &Value| selection["service_host"].as_str().expect("a name").to_owned();
    let row = |row: &Value| row.as_array().expect("a list").iter().map(text).collect();
    selections.as_array().expect("a list of lists").iter().map(row).collect()
}

fn is_no_valid_host(raised: &Value) {
    assert_eq!(raised["class"], "NoValidHost_Remote", "{raised:#}");
    let bases = raised["bases"].as_array().expect("a list");
    assert!(bases.contains(&json!("nova.exception.NoValidHost")), "{raised:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn novas_own_client_gets_the_selections_of_our_engine() {
    let Some(bed) = bed::shared("nova").await else { return };
    let interpreter = variable("nova", "NOVELLA_TEST_PYTHON").expect("the bed has it too");
    let house = bed.house().await;
    let mut config = house.scheduler_config(Duration::from_secs(60));
    config.nova.serve = true;
    config.nova.cell_uuid = CELL.into();
    let mut filters = config.filter_scheduler.enabled_filters.clone();
    filters.extend(
        ["ServerGroupAffinityFilter", "ServerGroupAntiAffinityFilter", "ImagePropertiesFilter"]
            .map(String::from),
    );
    config.filter_scheduler.enabled_filters = filters;
    let scheduler = house.scheduler("s1", config, 0).await;
    let mut agents = Vec::new();
    for (number, memory_mb) in [16_384, 32_768, 65_536, 131_072].into_iter().enumerate() {
        let size = FakeConfig { memory_mb, ..FakeConfig::default() };
        agents.push(house.agent(&format!("cmp{number}"), size, "").await);
    }
    until_all_up(&scheduler, 4).await;
    let api = house.operator().await;
    let mut nova = Nova::start(&interpreter, &bed.python_at(&house));
    let uuids = |count: usize| (0..count).map(|_| house.env.random.uuid()).collect::<Vec<_>>();
    let base = |count: usize| json!({"vcpus": 1, "memory_mb": 512, "root_gb": 1, "flavor_name": "m1", "instance_uuids": uuids(count)});
    let with = |count: usize, more: Value| {
        let mut request = base(count);
        bed::merge(&mut request, more);
        request
    };
    let group = |policy: &str, members: &[uuid::Uuid], hosts: Value| json!({"policy": policy, "members": members, "hosts": hosts});
    let pair = uuids(2);
    let apart = with(2, json!({"instance_uuids": pair, "group": group("anti-affinity", &pair, json!([]))}));
    let together = with(1, json!({"group": group("affinity", &[], json!(["cmp0"]))}));
    for (what, request, alternates) in [
        ("single", base(1), false),
        ("alternates", base(1), true),
        ("several with alternates", base(2), true),
        ("anti-affinity", apart, true),
        ("affinity", together, true),
        ("image", with(1, json!({"image": {"hw_architecture": "x86_64", "hw_boot_menu": "yes"}})), true),
        ("extra specs", with(1, json!({"extra_specs": {"capabilities:hypervisor_type": "fake"}})), true),
        ("ignored", with(1, json!({"ignore_hosts": ["cmp3"]})), true),
        ("forced", with(1, json!({"force_hosts": ["cmp1"]})), true),
        ("destination", with(1, json!({"target_host": "cmp2"})), true),
    ] {
        let (outcome, hosts_expected) = expected(&api, &request, alternates).await;
        assert!(outcome.complete, "{what}: {outcome:?}");
        let selections =
            nova.select(&request, alternates).await.unwrap_or_else(|raised| panic!("{what}: {raised:#}"));
        assert_eq!(hosts(&selections), hosts_expected, "{what}");
        let first = &selections[0][0];
        assert_eq!(
            (&first["cell_uuid"], &first["availability_zone"]),
            (&json!(CELL), &json!("nova")),
            "{what}"
        );
        assert_eq!(first["allocation_request"], "null");
        // A forced host too must have room, and these are the limits that it was held against.
        assert!(first["limits"]["memory_mb"].is_number(), "{what}: {first:#}");
    }

    // What does not fit is Nova's own exception, with its own words.
    for request in [
        with(1, json!({"memory_mb": 1 << 22})),
        with(1, json!({"extra_specs": {"capabilities:hypervisor_type": "other"}})),
        with(1, json!({"force_hosts": ["nowhere"]})),
        with(1, json!({"image": {"hw_architecture": "aarch64", "img_hv_type": "xen"}})),
    ] {
        let (outcome, _) = expected(&api, &request, false).await;
        assert!(!outcome.complete, "{outcome:?}");
        let raised = nova.select(&request, false).await.expect_err("nothing fits");
        is_no_valid_host(&raised);
        assert!(raised["text"].as_str().expect("text").starts_with("No valid host was found."), "{raised:#}");
    }

    // A conductor that asks again gets another decision; the first holds nothing any more.
    let request = base(1);
    let held = async || scheduler.manager().with_hosts(|hosts, _| hosts.reservations());
    nova.select(&request, false).await.expect("it fits");
    let before = held().await;
    let again = with(
        1,
        json!({"instance_uuids": request["instance_uuids"], "ignore_hosts": ["cmp3"], "memory_mb": 1024}),
    );
    let moved = nova.select(&again, false).await.expect("it fits");
    assert_ne!(hosts(&moved)[0][0], "cmp3");
    assert_eq!(held().await, before);

    // Before a rebuild: only the image is held against the host, and nothing is held.
    let built = base(1);
    let host = hosts(&nova.select(&built, false).await.expect("it fits"))[0][0].clone();
    let before = held().await;
    let rebuild = |architecture: &str| {
        let mut request = built.clone();
        request["image"] = json!({"hw_architecture": architecture});
        request["target_host"] = json!(host);
        request["hints"] = json!({"_nova_check_type": ["rebuild"]});
        request["memory_mb"] = json!(1 << 22);
        request
    };
    let same = nova.select(&rebuild("x86_64"), false).await.expect("its host takes the image");
    assert_eq!(hosts(&same), [[host.as_str()]]);
    is_no_valid_host(&nova.select(&rebuild("aarch64"), false).await.expect_err("its host does not"));
    assert_eq!(held().await, before);

    // As a conductor of Pike, and of Ocata, which names no instances.
    for cap in ["4.4", "4.3"] {
        let command =
            json!({"request": base(1), "return_objects": false, "return_alternates": false, "cap": cap});
        let answer = nova.ask(&command).await.expect("an older form");
        assert!(answer[0]["host"].is_string() && answer[0]["limits"]["memory_mb"].is_i64(), "{answer:#}");
    }

    // A newer object, as of a conductor that was upgraded first.
    let newer = json!({"nova_object.version": "1.99"});
    let command =
        json!({"request": base(1), "return_objects": true, "return_alternates": false, "wire": newer});
    let raised = nova.ask(&command).await.expect_err("it cannot be read");
    assert_eq!(raised["exc_type"], "IncompatibleObjectVersion", "{raised:#}");

    // What is told to all schedulers is taken; the last one here is not, and comes after the others.
    let odd = || scheduler.server().counters().get("unsupported_version");
    let before = odd();
    for (version, method) in [("4.1", "delete_aggregate"), ("4.2", "sync_instance_info"), ("4.6", "later")] {
        let target = json!({"exchange": "nova", "topic": "scheduler", "fanout": true, "version": version});
        let command = json!({"url": bed.python_at(&house), "target": target, "method": method, "args": {}});
        bed.python.ask("cast", command).await.expect("sent");
    }
    eventually("the last is counted", async || odd() > before).await;
    assert_eq!(odd(), before + 1);
    for agent in agents {
        agent.stop(GRACE).await;
    }
    scheduler.stop(GRACE).await;
}
