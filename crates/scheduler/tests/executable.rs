//! What only the executable can show of the policy. At SIGHUP it reads the file again, and the log tells what that changed.
//! A wrong file ends it with exit code 2 at start; later it is refused and nothing ends.

#[path = "../../compute-agent/tests/agent/process.rs"]
#[allow(dead_code, reason = "shared with the tests of the agent, which use the rest")]
mod process;

use std::path::Path;
use std::process::Command;

use novella_service::exit::{DAEMON_EXIT_CODES, exit_codes_help};
use process::{Process, Signal, clean, free_address, get, output};
use tempfile::TempDir;

/// A scheduler with this policy file and a broker at which nobody listens.
fn scheduler(policy: &Path) -> Command {
    let mut command = clean(env!("CARGO_BIN_EXE_scheduler"));
    command
        .env("NOVELLA_HTTP__LISTEN", "127.0.0.1:0")
        .env("NOVELLA_POLICY_FILE", policy)
        .args(["--transport-url", &format!("rabbit://scheduler:x@{}/", free_address())]);
    command
}

#[test]
fn sighup_reads_the_policy_again_and_says_what_changed() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("policy.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[filter_scheduler]\nhost_subset_size = 1\n");
    let mut process = Process::start(scheduler(&file));
    process.wait_for("scheduler starts");
    write("[filter_scheduler]\nhost_subset_size = 3\n[aggregates.a]\nhosts = [\"h*\"]\n");
    process.signal(Signal::HUP);
    process.wait_for("policy: + aggregates.a = ");
    process.wait_for("policy: ~ filter_scheduler.host_subset_size: 1 -> 3");
    write("[filter_scheduler]\nhost_subset_sise = 4\n");
    process.signal(Signal::HUP);
    process.wait_for("policy reload refused; the old policy stays in force: line 2: ");
    write("[filter_scheduler]\nhost_subset_size = 3\n");
    process.signal(Signal::HUP);
    process.wait_for("policy: - aggregates.a = ");
}

#[test]
fn sigterm_ends_a_start_that_hangs() {
    let dir = TempDir::new().unwrap();
    // Reading it waits for a writer, and none comes.
    let fifo = dir.path().join("policy.toml");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let process = Process::start(scheduler(&fifo));
    // Opening it for writing waits until the scheduler reads. Nothing is ever written.
    let _writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    process.signal(Signal::TERM);
    let (code, log) = process.end();
    // The last resort, after 20 s, has another code.
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopping;") && !log.contains("scheduler starts"), "{log}");
}

#[test]
fn what_is_probably_wrong_in_a_policy_is_logged_once() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("policy.toml");
    std::fs::write(&file, "[filter_scheduler]\nenabled_filters = []\n").unwrap();
    let mut process = Process::start(scheduler(&file));
    process.wait_for("policy: line 2: filter_scheduler.enabled_filters: no filter is enabled");
    process.wait_for("scheduler starts");
    process.signal(Signal::HUP);
    process.wait_for("policy reloaded");
    process.signal(Signal::TERM);
    let (_, log) = process.end();
    assert_eq!(log.matches("no filter is enabled").count(), 1, "{log}");
}

#[test]
fn readyz_names_the_broker_and_why_there_is_no_connection() {
    let (http, broker) = (free_address(), free_address());
    let mut command = clean(env!("CARGO_BIN_EXE_scheduler"));
    command
        .env("NOVELLA_HTTP__LISTEN", http.to_string())
        .args(["--transport-url", &format!("rabbit://scheduler:s3cret@{broker}/cloud")]);
    let mut process = Process::start(command);
    let logged = process.wait_for("waiting for RabbitMQ");
    let answer = get(http, "/readyz");
    let wanted = "\"name\":\"broker\",\"ok\":false,\"reason\":\"not connected after ";
    assert!(answer.contains(wanted) && answer.contains(&format!("{broker}/cloud: ")), "{answer}");
    assert!(answer.contains("refused") && logged.contains("refused"), "{answer}\n{logged}");
    assert!(!answer.contains("s3cret") && !logged.contains("s3cret"), "{answer}\n{logged}");
    assert!(get(http, "/metrics").contains("\nnovella_broker_connected 0"));
}

#[test]
fn config_check_reads_the_policy_file_that_the_configuration_names() {
    let dir = TempDir::new().unwrap();
    let (settings, policy) = (dir.path().join("scheduler.toml"), dir.path().join("policy.toml"));
    std::fs::write(&settings, format!("policy_file = {:?}\n", policy.display().to_string())).unwrap();
    let check = |text: &str, more: &[&str]| {
        std::fs::write(&policy, text).unwrap();
        let mut command = clean(env!("CARGO_BIN_EXE_scheduler"));
        command.arg("--config").arg(&settings).args(["config", "check"]).args(more);
        output(command)
    };
    let (code, out, err) = check("[filter_scheduler]\nhost_subset_sise = 3\n", &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    let place = format!("file {}:2: filter_scheduler.host_subset_sise: ", policy.display());
    assert!(err.contains(&place) && err.contains("host_subset_size?"), "{err}");
    let (code, out, err) = check("[filter_scheduler]\nenabled_filters = []\n", &[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.starts_with(&format!("warning: {}: line 2: ", policy.display())), "{err}");
    assert!(out.contains(&format!("; {} is valid too", policy.display())), "{out}");
    let (code, out, err) = check("[filter_scheduler]\nhost_subset_sise = 3\n", &["-f", "json"]);
    assert_eq!((code, err.as_str()), (Some(2), ""));
    assert!(out.contains("\"keys\": [\n        \"filter_scheduler.host_subset_sise\""), "{out}");
}

#[test]
fn help_lists_the_exit_codes_with_the_meanings_that_all_programs_share() {
    let mut command = clean(env!("CARGO_BIN_EXE_scheduler"));
    command.arg("--help");
    let (code, help, _) = output(command);
    let listed = exit_codes_help(&DAEMON_EXIT_CODES);
    assert!(code == Some(0) && help.contains(&listed), "{help}");
}

#[test]
fn a_port_in_use_ends_it_with_the_exit_code_for_what_something_else_holds() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = clean(env!("CARGO_BIN_EXE_scheduler"));
    command.env("NOVELLA_HTTP__LISTEN", taken.local_addr().unwrap().to_string());
    let (code, _, said) = output(command);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("next: set http.listen to another port"), "{said}");
}

#[test]
fn a_scheduler_does_not_start_on_a_wrong_policy() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("policy.toml");
    for (text, wanted) in [
        (
            Some("[filter_scheduler]\nenabled_filters = [\"RamFiler\"]"),
            "line 2: filter_scheduler.enabled_filters",
        ),
        (None, "cannot read "),
    ] {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let (code, _, said) = output(scheduler(&file));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(wanted) && said.contains(&file.display().to_string()), "{said}");
    }
}

#[test]
fn what_every_user_may_do_is_said_at_start() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("policy.toml");
    std::fs::write(&file, "").unwrap();
    let said = |lists: &[&str]| {
        let mut command = scheduler(&file);
        command.envs(lists.iter().map(|list| (format!("NOVELLA_AUTHORITY__{list}"), "somebody")));
        let mut process = Process::start(command);
        process.wait_for("scheduler starts");
        process.signal(Signal::TERM);
        let log = process.end().1;
        let lines = log.lines().filter(|line| line.contains("every broker user may do"));
        lines.map(|line| line.split("settings=").nth(1).unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        said(&[]),
        ["\"authority.report, authority.place, authority.read, authority.administer, authority.schedulers\""]
    );
    assert_eq!(said(&["REPORT", "PLACE", "READ", "ADMINISTER"]), ["\"authority.schedulers\""]);
    assert_eq!(said(&["REPORT", "PLACE", "READ", "ADMINISTER", "SCHEDULERS"]), [""; 0]);
}
