//! What only the executable can show of the policy. At SIGHUP it reads the file again, and the log tells what that changed.
//! A wrong file ends it with exit code 2 at start; later it is refused and nothing ends.

#[path = "../../compute-agent/tests/agent/process.rs"]
#[allow(dead_code, reason = "shared with the tests of the agent, which use the rest")]
mod process;

use std::path::Path;
use std::process::Command;

use process::{Process, Signal, clean, free_address, output};
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
        assert!(said.contains(wanted), "{said}");
    }
}
