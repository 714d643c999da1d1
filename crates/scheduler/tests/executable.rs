//! What only the executable can show of the policy. At SIGHUP it reads the file again, and the log tells what that changed. A
//! wrong file ends it with exit code 2 at start; later it is refused and nothing ends.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a test waits for a line of the log. It takes far less.
const PATIENCE: Duration = Duration::from_secs(30);

/// A scheduler with this policy file and a broker at which nobody listens.
fn scheduler(policy: &Path) -> Command {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scheduler"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NOVELLA_")) {
        command.env_remove(name);
    }
    command
        .env_remove("RUST_LOG")
        .env_remove("NOTIFY_SOCKET")
        .env("NOVELLA_HTTP__LISTEN", "127.0.0.1:0")
        .env("NOVELLA_POLICY_FILE", policy)
        .args(["--transport-url", &format!("rabbit://scheduler:x@{nobody}/")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A running scheduler. Killed when the test is over, however it ends.
struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
}

impl Process {
    fn start(policy: &Path) -> Self {
        let mut child = scheduler(policy).spawn().expect("the executable starts");
        let stderr = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, log: Vec::new() }
    }

    fn wait_for(&mut self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {text:?} in its log:\n{}", self.log.join("\n")));
            self.log.push(line);
            if self.log.last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
    }

    fn hang_up(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::HUP).expect("the process is ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sighup_reads_the_policy_again_and_says_what_changed() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("policy.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[filter_scheduler]\nhost_subset_size = 1\n");
    let mut process = Process::start(&file);
    process.wait_for("scheduler starts");
    write("[filter_scheduler]\nhost_subset_size = 3\n[aggregates.a]\nhosts = [\"h*\"]\n");
    process.hang_up();
    process.wait_for("policy: + aggregates.a = ");
    process.wait_for("policy: ~ filter_scheduler.host_subset_size: 1 -> 3");
    write("[filter_scheduler]\nhost_subset_sise = 4\n");
    process.hang_up();
    process.wait_for("the new policy is refused, the old one stays in force: line 2: ");
    write("[filter_scheduler]\nhost_subset_size = 3\n");
    process.hang_up();
    process.wait_for("policy: - aggregates.a = ");
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
        let output = scheduler(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(wanted), "{said}");
    }
}
