//! What only the executable has: a command line, messages, signals, exit codes and files.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use novella_service::exit::{DAEMON_EXIT_CODES, exit_codes_help};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, Signal, clean, free_address, get, output};

/// The agent with these arguments and without any setting in its environment. HTTP listens on any free port.
fn agent(args: &[&str]) -> Command {
    let mut command = clean(env!("CARGO_BIN_EXE_compute-agent"));
    command.env("NOVELLA_HTTP__LISTEN", "127.0.0.1:0").args(args);
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    output(agent(args))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// The URL of a broker that does not exist, and its host and port.
fn nobody() -> (String, SocketAddr) {
    let address = free_address();
    (format!("rabbit://agent:s3cret@{address}/nova"), address)
}

/// An agent with a fake driver that waits for a broker that does not exist.
fn waiting(dir: &TempDir, url: &str, more: &[&str]) -> Process {
    let args = ["--driver", "fake", "--state-dir", path(dir.path()), "--transport-url", url];
    let mut process = Process::start(agent(&[&args[..], more].concat()));
    process.wait_for("waiting for RabbitMQ");
    process
}

#[test]
fn help_names_every_option_and_exit_code() {
    let (code, help, err) = run(&["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let options =
        "--config --transport-url NOVELLA_TRANSPORT_URL --log-format --verbose --host --state-dir --driver";
    let others = ["probe", "config", "health", "Exit codes:"];
    for word in options.split(' ').chain(others) {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    // The codes that this program knows mean what they mean in every program.
    assert!(help.contains(&exit_codes_help(&DAEMON_EXIT_CODES)), "{help}");
    let (code, _, err) = run(&["--drivr", "fake"]);
    assert!(code == Some(2) && err.contains("--driver"), "{err}");
}

#[test]
fn probe_prints_what_this_machine_has_each_value_with_its_source() {
    let (code, text, err) = run(&["probe", "-f", "json"]);
    assert_eq!(code, Some(0));
    assert!(err.lines().all(|line| line.starts_with("warning: the file system at ")), "{err}");
    let probe: Value = serde_json::from_str(&text).unwrap();
    for (name, cell) in probe.as_object().unwrap() {
        assert!(cell["source"].as_str().is_some_and(|source| !source.is_empty()), "{name}: {cell}");
        assert!(cell.get("value").is_some(), "{name}: {cell}");
    }
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(probe["vcpus"]["value"].as_u64().unwrap() >= cpus);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total_kb: u64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(probe["memory_total_mb"]["value"], total_kb / 1024);
    assert!(probe["disk_total_gb"]["value"].as_u64().unwrap() > 0);

    let (code, table, _) = run(&["probe"]);
    let mut rows = table.lines();
    assert_eq!(code, Some(0));
    assert_eq!(rows.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["NAME", "VALUE", "SOURCE"]);
    assert_eq!(rows.count(), probe.as_object().unwrap().len());
}

#[test]
fn probe_shows_overrides_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, "[driver]\nname = \"fake\"\noverrides = { vcpus = 3, cpu_model = \"Epyc\" }\n")
        .unwrap();
    let (code, text, err) = run(&["probe", "-f", "json", "--config", path(&file), "--host", "h9"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let probe: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(probe["vcpus"]["value"], 3);
    assert_eq!(probe["vcpus"]["source"], "override in [driver.overrides]");
    assert!(
        probe["cpu_model"]["source"].as_str().unwrap().contains("in part override"),
        "{}",
        probe["cpu_model"]
    );
    assert_eq!(probe["hypervisor_hostname"]["value"], "h9");
}

#[test]
fn what_the_host_cannot_offer_is_refused_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    let settings = "[driver]\nname = \"fake\"\n[compute]\ncpu_dedicated_set = \"4-9\"\n";
    std::fs::write(&file, settings).unwrap();
    let state = dir.path().join("state");
    for args in [&["probe"][..], &["--state-dir", path(&state)]] {
        let (code, _, err) = run(&[args, &["--config", path(&file)]].concat());
        assert_eq!(code, Some(2), "{args:?}: {err}");
        assert!(err.contains("agent.toml:4): this host has no CPU 8-9 online"), "{args:?}: {err}");
        assert!(err.contains("fix: choose from 0-7"), "{args:?}: {err}");
    }
}

#[test]
fn a_bad_configuration_is_refused_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (unknown, latin, good) =
        (dir.path().join("unknown.toml"), dir.path().join("latin.toml"), dir.path().join("good.toml"));
    let state = dir.path().join("state");
    std::fs::write(&unknown, "[report]\nperiodic_intervall = \"10s\"\n").unwrap();
    std::fs::write(&latin, b"host = \"caf\xe9\"\n").unwrap();
    std::fs::write(&good, "[report]\nperiodic_interval = \"10s\"\n").unwrap();
    let absent = dir.path().join("absent.toml");
    for (file, said, next) in [
        (
            unknown.as_path(),
            "unknown.toml:2: report.periodic_intervall",
            "did you mean report.periodic_interval?",
        ),
        (&latin, "latin.toml:1: the file is not UTF-8", "save the file as UTF-8"),
        (&absent, "absent.toml: cannot read the file: No such file", "check the path"),
        (dir.path(), "cannot read the file: Is a directory", "name a file in it"),
    ] {
        for args in [&["config", "check", "--config", path(file)][..], &["--config", path(file)]] {
            let (code, _, err) = run(&[args, &["--state-dir", path(&state)]].concat());
            assert_eq!(code, Some(2), "{args:?}: {err}");
            assert!(err.contains(said) && err.contains(next), "{args:?}: {err}");
        }
    }
    assert!(!state.exists(), "a bad setting leaves no trace");
    let (code, _, err) = run(&["config", "check", "--config", path(&good)]);
    assert_eq!(code, Some(0), "{err}");
}

#[test]
fn a_wrong_driver_lists_those_there_are() {
    for args in [&["--driver", "xen"][..], &["probe", "--driver", "xen"]] {
        let (code, _, err) = run(args);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("\"xen\"") && err.contains("--driver") && err.contains("fake, linux"), "{err}");
    }
}

#[test]
fn an_absent_broker_is_waited_for_and_a_stop_then_is_a_clean_one() {
    let dir = tempfile::tempdir().unwrap();
    let (url, address) = nobody();
    let mut process = waiting(&dir, &url, &["--host", "cmp7"]);
    let again = process.wait_for("waiting for RabbitMQ"); // it goes on trying, and saying so
    assert!(again.contains(&address.to_string()) && again.contains("Connection refused"), "{again}");
    process.signal(Signal::TERM);
    let (code, log) = process.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("agent stopped host=\"cmp7\""), "{log}");
    assert!(!log.contains("s3cret"), "a password is in the log:\n{log}");
}

#[test]
fn every_line_of_a_json_log_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let process = waiting(&dir, &nobody().0, &["--log-format", "json"]);
    process.signal(Signal::INT);
    let (code, log) = process.end();
    assert_eq!(code, Some(0), "{log}");
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "{line}");
    }
}

#[test]
fn each_process_raises_the_incarnation_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = nobody();
    let mut uuids = Vec::new();
    for incarnation in 1..=2 {
        let process = waiting(&dir, &url, &[]);
        let file = std::fs::read(dir.path().join("identity.json")).unwrap();
        let identity: Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(identity["incarnation"], incarnation);
        uuids.push(identity["uuid"].clone());
        process.signal(Signal::KILL); // as by a crash
        assert_eq!(process.end().0, None);
    }
    assert_eq!(uuids[0], uuids[1]);
}

#[test]
fn a_second_process_on_one_state_directory_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = nobody();
    let process = waiting(&dir, &url, &[]);
    let second = agent(&["--driver", "fake", "--state-dir", path(dir.path()), "--transport-url", &url]);
    let (code, _, err) = output(second);
    assert_eq!(code, Some(5), "{err}");
    assert!(err.contains(&format!("in use by process {}", process.pid())), "{err}");
    assert!(err.contains("next: stop process"), "{err}");
    process.signal(Signal::TERM);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn a_state_directory_that_cannot_be_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, _, err) = run(&["--driver", "fake", "--state-dir", path(&file)]);
    assert_eq!(code, Some(255), "{err}");
    assert!(
        err.contains(path(&file)) && err.contains("next: there is a file in place of the state directory"),
        "{err}"
    );
}

#[test]
fn a_malformed_identity_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("identity.json");
    std::fs::write(&file, "{}").unwrap();
    let (code, _, err) = run(&["--driver", "fake", "--state-dir", path(dir.path())]);
    assert_eq!(code, Some(2), "systemd does not start it again then: {err}");
    assert!(err.contains(path(&file)) && err.contains("next: restore the file from a backup"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{}");
}

#[test]
fn a_full_disk_stops_the_start_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mounts = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).arg(dir.path()).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !mounts("mount", &["-t", "tmpfs", "-o", "size=16k", "tmpfs"]) {
        eprintln!("not tested: this user may not mount a small file system");
        return;
    }
    // Room for the names of files, and for no content.
    let filled = std::fs::write(dir.path().join("full"), [b'x'; 64 << 10]);
    let (code, _, err) = run(&["--driver", "fake", "--state-dir", path(dir.path())]);
    let identity = dir.path().join("identity.json").exists();
    assert!(mounts("umount", &[]));
    assert!(filled.is_err() && !identity);
    assert_eq!(code, Some(255), "{err}");
    assert!(err.contains("No space left on device"), "{err}");
    assert!(err.contains("next: free space on the file system of"), "{err}");
}

#[test]
fn a_port_in_use_is_named_with_a_way_to_find_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut command = agent(&["--driver", "fake", "--state-dir", path(dir.path())]);
    command.env("NOVELLA_HTTP__LISTEN", address.to_string());
    let (code, _, err) = output(command);
    assert_eq!(code, Some(5), "{err}");
    assert!(err.contains(&format!("cannot listen for HTTP on {address}")), "{err}");
    assert!(err.contains(&format!("sport = :{}", address.port())), "{err}");
    assert!(err.contains("next: set http.listen to another port or to none"), "{err}");
}

/// Makes a file that blocks whoever reads it, as a file on a dead network file system does.
fn dead_file(file: &Path) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
}

#[test]
fn a_fifo_in_the_place_of_the_identity_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    dead_file(&dir.path().join("identity.json"));
    let (code, _, err) = run(&["--driver", "fake", "--state-dir", path(dir.path()), "--host", "cmp7"]);
    assert_eq!(code, Some(2), "a restart does not help: {err}");
    assert!(err.contains("identity.json: it is not a regular file"), "{err}");
    assert!(err.contains("next: move") && err.contains("identity.json away"), "{err}");
}

#[test]
fn a_probe_of_a_host_that_hangs_ends_with_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    dead_file(&dir.path().join("proc/meminfo"));
    let mut command = agent(&["probe", "--root", path(dir.path())]);
    command.env("NOVELLA_REPORT__PROBE_TIMEOUT", "100ms");
    let (code, _, err) = output(command);
    assert_eq!(code, Some(255), "{err}");
    assert!(!err.is_empty());
}

#[test]
fn a_recorded_host_can_be_read_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("host.tar.gz");
    let (code, here, err) = run(&["probe", "-f", "json", "--record", path(&archive)]);
    assert_eq!(code, Some(0), "{err}");
    let unpacked = dir.path().join("host");
    std::fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar").args(["-xzf", path(&archive), "-C", path(&unpacked)]).status().unwrap();
    assert!(tar.success());
    let (code, there, err) = run(&["probe", "-f", "json", "--root", path(&unpacked)]);
    assert_eq!(code, Some(0), "{err}");
    let [here, there] = [here, there].map(|text| serde_json::from_str::<Value>(&text).unwrap());
    for name in
        ["vcpus", "cpu_model", "cpu_topology", "memory_total_mb", "disk_total_gb", "numa", "pci_devices"]
    {
        assert_eq!(here[name]["value"], there[name]["value"], "{name}");
    }
    assert_eq!(there["hypervisor_hostname"]["value"], "recorded");
    assert_eq!(there["host_ip"], serde_json::json!({"value": null, "source": "not recorded"}));

    std::fs::remove_file(unpacked.join("proc/loadavg")).unwrap();
    let (code, without, err) = run(&["probe", "-f", "json", "--root", path(&unpacked)]);
    assert_eq!(code, Some(0), "{err}");
    let without: Value = serde_json::from_str(&without).unwrap();
    assert_eq!(without["load_1m"], serde_json::json!({"value": null, "source": "no /proc/loadavg"}));
    assert_eq!(without["uptime_s"], there["uptime_s"]);

    for (args, said) in [
        (["--root", path(dir.path())], "has no directory proc"),
        (["--record", "/no/such/directory/x"], "cannot write the recording to /no/such/directory/x"),
        (["--driver", "fake"], "the driver fake reads no files"),
    ] {
        let fake = if args[0] == "--driver" { &["--record", path(&archive)][..] } else { &[] };
        let (code, _, err) = run(&[&["probe"][..], &args, fake].concat());
        assert!(code != Some(0) && err.contains(said) && err.contains("next: "), "{args:?}: {err}");
    }
}

#[test]
fn http_can_be_switched_off_in_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let mut command =
        agent(&["--driver", "fake", "--state-dir", path(dir.path()), "--transport-url", &nobody().0]);
    command.env("NOVELLA_HTTP__LISTEN", "none");
    let mut process = Process::start(command);
    process.wait_for("waiting for RabbitMQ");
    process.signal(Signal::TERM);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn sighup_reads_the_settings_again_and_says_what_needs_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, "").unwrap();
    let mut process = waiting(&dir, &nobody().0, &["--config", path(&file)]);
    for (text, said) in [
        ("facts = { rack = \"a1\" }\n", "new settings are in force keys=\"facts\""),
        ("[report]\nperiodic_interval = \"5s\"\n", "restart the agent"),
        ("facts = 7\n", "the new settings are refused; the previous ones stay in force"),
    ] {
        std::fs::write(&file, text).unwrap();
        process.signal(Signal::HUP);
        process.wait_for(said);
    }
    process.signal(Signal::TERM);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn a_name_that_is_none_is_refused_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (code, _, err) = run(&["--driver", "fake", "--host", "*", "--state-dir", path(&state)]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("--host") && err.contains("letters A to Z"), "{err}");
    assert!(!state.exists());
}

#[test]
fn health_asks_the_running_agent() {
    let port = free_address();
    let ask = || {
        let mut command = agent(&["health"]);
        command.env("NOVELLA_HTTP__LISTEN", port.to_string());
        output(command)
    };
    let (code, out, _) = ask();
    assert!(
        code == Some(1) && out.contains(&format!("cannot ask {port} for its health: Connection refused")),
        "{out}"
    );

    let dir = tempfile::tempdir().unwrap();
    let mut command =
        agent(&["--driver", "fake", "--state-dir", path(dir.path()), "--transport-url", &nobody().0]);
    command.env("NOVELLA_HTTP__LISTEN", port.to_string());
    let mut process = Process::start(command);
    process.wait_for("waiting for RabbitMQ");
    let (code, out, _) = ask();
    let ready: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &ready["ok"]), (Some(1), &Value::Bool(false)), "{out}");
    assert!(out.contains("not connected") && out.contains("Connection refused"), "it says why: {out}");
    assert!(get(port, "/livez").starts_with("HTTP/1.1 200"), "waiting is no reason to be restarted");
    let metrics = get(port, "/metrics");
    for name in ["holds_host_name", "reports_total", "messages_total"] {
        assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.end().0, Some(0));

    let file = dir.path().join("silent.toml");
    std::fs::write(&file, "[http]\nlisten = \"\"\n").unwrap();
    let mut command = agent(&["health", "--config", path(&file)]);
    command.env_remove("NOVELLA_HTTP__LISTEN");
    let (code, _, err) = output(command);
    assert!(code == Some(2) && err.contains("next: set http.listen to an address"), "{err}");
}
