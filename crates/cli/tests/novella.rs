//! The executable as scripts see it: exit codes, what goes to which stream, and that it ends by itself.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A broker at a port where nothing listens: it is reserved, and binding it needs privileges.
const NOBODY: &str = "rabbit://u:s3cret@127.0.0.1:1/";

fn novella(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_novella"));
    command
        .args(line.split_whitespace())
        .env_remove("NOVELLA_TRANSPORT_URL")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn run(line: &str) -> (i32, String, String) {
    ended(novella(line).output().expect("the executable starts"))
}

fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits by itself"), text(output.stdout), text(output.stderr))
}

#[test]
fn help_is_data_and_names_the_exit_codes() {
    for line in ["--help", "help", "help exit-codes", "exit-codes"] {
        let (code, out, err) = run(line);
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        assert!(out.contains("  124  The time ran out: no answer within --timeout"), "{line}: {out}");
        assert!(!out.contains('\x1b'), "{line}: colour without a terminal");
    }
    let (code, out, _) = run("place --help");
    assert!(code == 0 && out.contains("Examples:") && out.contains("--extra-spec <KEY=VALUE>"), "{out}");
    let (code, out, _) = run("--version");
    assert_eq!((code, out.trim()), (0, concat!("novella ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn config_check_and_explain_tell_of_the_command_lines_own_settings() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let file = dir.path().join("novella.toml");
    let may_read = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("the file is ours")
    };
    std::fs::write(&file, "").expect("it can be written");
    may_read(0o600);
    let with = |text: &str, line: &str| {
        std::fs::write(&file, text).expect("it can be written");
        run(&format!("{line} --config {}", file.display()))
    };
    let (code, out, err) = with("timeout = \"7s\"\n", "config explain timeout");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("value    \"7s\"") && out.contains(&format!("file {}:1", file.display())), "{out}");
    let secret = "transport_url = \"rabbit://u:s3cr/et@mq/v\"\n";
    for format in ["table", "json", "markdown"] {
        let (code, out, err) =
            with("transport_url = \"rabbit://u:s3cret@mq/v\"\n", &format!("config explain -f {format}"));
        assert!(code == 0 && err.is_empty() && out.contains("transport_url"), "{out}{err}");
        assert!(!out.contains("s3cret"), "{out}");
    }
    may_read(0o644);
    let (code, _, err) = with("transport_url = \"rabbit://u:s3cret@mq/v\"\n", "config explain");
    assert_eq!((code, err.matches("can read the password of transport_url in ").count()), (0, 1), "{err}");
    let (code, out, err) = with(secret, "config check");
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("percent-encode") && err.contains("rabbit://***@mq/v"), "{err}");
    assert!(!err.contains("s3cr") && !err.contains("et@"), "{err}");
    let (code, out, _) = with("timout = \"7s\"\n", "config check -f json");
    let found: serde_json::Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!((code, &found["problems"][0]["fix"]), (2, &"did you mean timeout?".into()));
    let (code, out, _) = run("config example");
    assert!(code == 0 && out.contains("#timeout = \"10s\""), "{out}");
}

#[test]
fn a_wrong_command_line_is_two_lines_and_exit_code_2() {
    for line in [
        "hots",
        "place --vcpus 1",
        "place --vcpus 1 --ram 1.5",
        "place --vcpus 0 --ram 512M",
        "place --vcpus 1 --ram -4G",
        "host list -f xml",
        "demo --rate nan",
    ] {
        let (code, out, err) = run(line);
        assert_eq!((code, out.as_str()), (2, ""), "{line}");
        assert!(
            err.starts_with("error: ") && err.contains("\nnext: ") && err.lines().count() == 2,
            "{line}: {err}"
        );
    }
    let (code, out, err) = run("");
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("Usage: novella"), "{err}");
}

#[test]
fn a_broker_that_is_not_there_is_reported_at_once_without_the_password() {
    for line in [
        "host list",
        "place --vcpus 1 --ram 1G",
        "service list -f yaml",
        "ping",
        "swarm --hosts 1 --connections 1",
    ] {
        let started = std::process::Command::new("timeout")
            .arg("5")
            .arg(env!("CARGO_BIN_EXE_novella"))
            .args(line.split_whitespace())
            .args(["--transport-url", NOBODY])
            .output()
            .expect("timeout(1) starts");
        let (code, out, err) = ended(started);
        assert_eq!((code, out.as_str()), (7, ""), "{line}: {err}");
        assert!(err.contains("127.0.0.1:1") && err.contains("\nnext: start the broker"), "{line}: {err}");
        assert!(!err.contains("s3cret"), "{line}: {err}");
    }
}

#[test]
fn for_programs_an_error_is_one_json_object_on_standard_error() {
    for (line, exit_code, error) in [
        (format!("host list -f json --transport-url {NOBODY}"), 7, "cannot reach the broker"),
        ("host list -o json --zone north".to_owned(), 2, "unexpected argument '--zone'"),
        ("place --vcpus 0 --ram 1G --format=jsonl".to_owned(), 2, "0 is not in 1..=65536"),
        ("policy check nowhere.toml -f json".to_owned(), 2, "cannot read nowhere.toml"),
    ] {
        let (code, out, err) = run(&line);
        assert_eq!((code, out.as_str()), (exit_code, ""), "{line}: {err}");
        let said: serde_json::Value = serde_json::from_str(&err).expect("one JSON document");
        assert_eq!(said["exit_code"], exit_code, "{line}: {err}");
        let text = said["error"].as_str().expect("a text");
        assert!(text.contains(error) && said["next"].is_string(), "{line}: {err}");
    }
}

#[test]
fn a_swarm_is_refused_settings_that_no_agent_can_have() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let file = dir.path().join("agents.toml");
    std::fs::write(&file, "[driver.fake]\nnuma_node = 2\n").expect("it can be written");
    let line = format!("swarm --hosts 1 --agent-config {}", file.display());
    let (code, out, err) = ended(novella(&line).output().expect("the executable starts"));
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("agents.toml:2: driver.fake.numa_node") && err.contains("numa_nodes?"), "{err}");
}

#[test]
fn settings_come_from_flag_environment_and_file() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let file = dir.path().join("novella.toml");
    std::fs::write(&file, format!("transport_url = \"{}\"\n", NOBODY.replace(":1/", ":2/")))
        .expect("it can be written");
    let with_file = format!("host list --config {}", file.display());
    let said = |command: &mut Command| ended(command.output().expect("the executable starts"));
    let (code, _, err) = said(&mut novella(&with_file));
    assert!(code == 7 && err.contains("127.0.0.1:2"), "{err}");
    let (code, _, err) = said(novella(&with_file).env("NOVELLA_TRANSPORT_URL", NOBODY));
    assert!(code == 7 && err.contains("127.0.0.1:1"), "{err}");
    std::fs::write(&file, "transport_ulr = \"x\"\n").expect("it can be written");
    let (code, _, err) = said(&mut novella(&with_file));
    assert!(code == 2 && err.contains("transport_url"), "{err}");
    let (code, _, err) = run("host list --transport-url http://u:s3cret@h/");
    assert!(code == 2 && !err.contains("s3cret"), "{err}");
}

#[test]
fn a_closed_pipe_is_a_success() {
    let mut demo =
        novella("demo --for 30s -f jsonl").stdout(Stdio::piped()).spawn().expect("the executable starts");
    drop(demo.stdout.take());
    let status = demo.wait().expect("it can be waited for");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn completion_is_a_script() {
    let (code, out, err) = run("completion bash");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("complete -F _novella"), "{out}");
}

#[test]
fn the_demo_fills_hosts_and_ends_by_itself() {
    let (code, out, err) = run("demo --for 3s --seed 7 --rate 12");
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("seed 7"), "{err}");
    assert!(!out.contains('\x1b'), "no escape sequences without a terminal: {out}");
    for part in [
        "host      cpu-1     up",
        "host      edge-1    up",
        "placed ",
        "fleet     filling",
        "\ndemo        3.",
    ] {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }
    let fields = |out: &str, name: &str| {
        let line = out
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no {name} in {out}"))
            .to_owned();
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    assert!(fields(&out, "decisions") >= 10, "{out}");
    assert!(fields(&out, "reports") >= 8, "{out}");
}

#[test]
fn the_demo_for_programs_is_json_lines() {
    let (code, out, err) = run("demo --for 2s --seed 7 --hosts 3 -f jsonl");
    assert_eq!((code, err.as_str()), (0, ""));
    let events: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let last = events.last().expect("there are events");
    assert_eq!(
        (last["event"].as_str(), last["hosts"].as_u64(), last["seed"].as_u64()),
        (Some("summary"), Some(3), Some(7))
    );
    let placed: Vec<_> = events.iter().filter(|event| event["event"] == "placed").collect();
    assert_eq!(Some(placed.len() as u64), last["placed"].as_u64());
    assert!(!placed.is_empty() && placed.iter().all(|event| event["host"].is_string()));
    let looks = events.iter().filter(|event| event["event"] == "hosts");
    let used = |look: &serde_json::Value| {
        look["hosts"].as_array().map(|h| h.iter().filter_map(|h| h["vcpus_used"].as_u64()).sum::<u64>())
    };
    let used: Vec<_> = looks.filter_map(used).collect();
    assert!(used.first() < used.last(), "hosts fill: {used:?}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_demo_with_its_summary() {
    let mut demo = novella("demo --no-ui")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the executable starts");
    // It watches for signals before it shows anything.
    let shown = demo.stdout.as_mut().expect("a pipe").read(&mut [0]);
    assert_eq!(shown.expect("it can be read"), 1);
    let (code, out, _) = interrupted(demo);
    assert_eq!(code, 0);
    assert!(out.contains("\ndemo        "), "{out}");
}

/// What a child wrote in all, and how it ended after Ctrl-C.
fn interrupted(child: Child) -> (i32, String, String) {
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill(1) starts").success());
    ended(child.wait_with_output().expect("it can be waited for"))
}

/// Against the broker that `scripts/rabbitmq.sh env` names: a swarm, a scheduler in this process, and the executable.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_operator_sees_and_places_on_a_swarm_over_a_real_broker() {
    let Ok(url) = std::env::var("NOVELLA_TEST_RABBIT_URL") else {
        return skipped("SKIPPED: novella over a real broker: NOVELLA_TEST_RABBIT_URL is not set");
    };
    let scheduler = start_scheduler(&url).await;
    let prefix = format!("cli-{}-", std::process::id());
    let over_the_broker = |line: String| {
        let mut command = novella(&line);
        command.env("NOVELLA_TRANSPORT_URL", &url).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let run = |line: String| {
        let mut command = over_the_broker(line);
        async move {
            let output = tokio::task::spawn(async move { command.output() }).await.expect("no panic");
            ended(output.expect("the executable starts"))
        }
    };
    let dir = tempfile::tempdir().expect("a directory for the test");
    let file = dir.path().join("agents.toml");
    std::fs::write(&file, "[driver.fake]\nvcpus = 6\nnuma_nodes = 2\n").expect("it can be written");
    let swarm = format!(
        "swarm --hosts 12 --connections 2 --interval 500ms --name-prefix {prefix} -f json --agent-config {}",
        file.display()
    );
    let swarm = over_the_broker(swarm).spawn().expect("the executable starts");

    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (_, out, err) =
            run(format!("host list {prefix}* --state up -f value -c host --timeout 20s")).await;
        if out.lines().count() == 12 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{out}{err}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (code, out, err) = run(format!("place --vcpus 1 --ram 1G --host {prefix}00003 -f json")).await;
    assert_eq!(code, 0, "{out}{err}");
    let placed: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(placed["selections"][0]["host"], format!("{prefix}00003"));
    let (_, out, err) = run(format!("host show {prefix}00001 -f json")).await;
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!(shown["vcpus"], 6, "{out}");
    let (code, out, err) = run(format!("ping {prefix}00001 -f value -c driver")).await;
    assert_eq!((code, out.as_str()), (0, "fake\n"), "{err}");
    assert_eq!(run(format!("ping {prefix}nobody")).await.0, 7);
    assert_eq!(run(format!("release {} -f json", placed["decision_id"].as_str().expect("an id"))).await.0, 0);

    let (code, out, err) = run("swarm --hosts 0 --placements 50 --for 1s -f json".to_owned()).await;
    assert_eq!(code, 0, "{err}");
    let asked: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let placements = &asked["placements"];
    assert!(placements["answered"].as_u64() > Some(20) && placements["p99_ms"].is_number(), "{asked}");
    assert_eq!((asked["agents"].as_u64(), placements["failed"].as_u64()), (Some(0), Some(0)), "{asked}");

    let (code, summary, talk) = interrupted(swarm);
    assert_eq!(code, 0, "{talk}");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!((summary["agents"].as_u64(), summary["failures"].as_u64()), (Some(12), Some(0)), "{summary}");
    assert!(summary["reports"].as_u64() > Some(0) && summary["confirm_p50_ms"].is_number(), "{summary}");
    let (_, out, _) = run(format!("host list {prefix}* --state down -f value -c host")).await;
    assert_eq!(out.lines().count(), 12, "a swarm that is stopped says goodbye: {out}");
    scheduler.stop(Duration::from_secs(2)).await;
}

/// Prints which test is skipped, and writes it to the file that collects the skips of a whole run, if there is one.
fn skipped(line: &str) {
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("NOVELLA_SKIPS_FILE") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}")).expect("the skips file can be written");
    }
}

async fn start_scheduler(url: &str) -> novella_scheduler::Scheduler {
    let env = novella_service::Env::system(None).expect("the system has entropy");
    let transport = novella_messaging::connect(url, "scheduler", env.random.fork("rabbit"), true)
        .expect("a broker's URL");
    let name = format!("cli-{}", std::process::id());
    let mut config = novella_scheduler::SchedulerConfig::default();
    config.reports.report_interval = Duration::from_secs(1);
    let scheduler =
        novella_scheduler::start(config, name, env, transport).await.expect("the scheduler starts");
    let ready = tokio::time::timeout(Duration::from_secs(60), scheduler.health().until_ready());
    ready.await.expect("the scheduler becomes ready");
    scheduler
}
