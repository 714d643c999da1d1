//! The executables as processes: started, signalled, and read to their end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::daemons_rig::{House, INTERVAL};
use crate::process::{Process, Signal, clean, free_address, output};

/// Logged by a scheduler when anybody's requests reach it.
pub const SERVES: &str = "consuming queue=scheduler ";

/// An executable of this workspace, with nothing of ours in its environment.
pub fn executable(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(Path::parent).expect("tests are in target/<profile>/deps");
    let path = profile.join(name);
    assert!(path.exists(), "{} is not built: run `cargo test --workspace --no-run` first", path.display());
    clean(path)
}

/// The command line: exit code, standard output, standard error.
pub fn novella(url: &str, line: &str) -> (i32, String, String) {
    novella_with(url, line, &[])
}

/// The same with these variables in its environment.
pub fn novella_with(url: &str, line: &str, more: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = executable("novella");
    command.args(line.split_whitespace()).env("NOVELLA_TRANSPORT_URL", url).envs(more.iter().copied());
    let (code, out, err) = output(command);
    (code.expect("it exits by itself"), out, err)
}

/// The rows of `novella host list`.
pub fn host_list(url: &str) -> Vec<Value> {
    let (code, out, err) = novella(url, "host list -f json");
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

impl Process {
    /// A scheduler with short times, and where it serves HTTP. `more` are settings by the name of their variable.
    pub fn scheduler(
        url: &str,
        name: &str,
        down_time: Duration,
        more: &[(&str, &str)],
    ) -> (Self, SocketAddr) {
        let http = free_address();
        let mut command = executable("scheduler");
        command
            .args(["--name", name])
            .env("NOVELLA_TRANSPORT_URL", url)
            .env("NOVELLA_HTTP__LISTEN", http.to_string())
            .env("NOVELLA_REPORTS__REPORT_INTERVAL", time(INTERVAL))
            .env("NOVELLA_REPORTS__ANSWER_WINDOW", "300ms")
            .env("NOVELLA_REPORTS__REPORT_TTL", "2s")
            .env("NOVELLA_REPORTS__SERVICE_DOWN_TIME", time(down_time))
            .envs(more.iter().copied());
        (Self::start(command), http)
    }

    /// An agent on a state directory of the house.
    pub fn agent(url: &str, host: &str, state: &Path, driver: &str, more: &[(&str, &str)]) -> Self {
        let mut command = executable("compute-agent");
        command
            .args(["--host", host, "--driver", driver, "--state-dir"])
            .arg(state)
            .env("NOVELLA_TRANSPORT_URL", url)
            .env("NOVELLA_HTTP__LISTEN", "127.0.0.1:0")
            .env("NOVELLA_REPORT__PERIODIC_INTERVAL", time(INTERVAL))
            .env("NOVELLA_REPORT__HOST_STATE_INTERVAL", time(INTERVAL))
            .env("NOVELLA_REPORT__PERIODIC_FUZZY_DELAY", time(INTERVAL))
            .envs(more.iter().copied());
        Self::start(command)
    }

    /// How much memory it has in use.
    pub fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    /// Stops it in order; yields what it has logged.
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{log}");
        log
    }
}

fn time(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// A directory of the house, made.
pub fn state_dir(house: &House, name: &str) -> PathBuf {
    let dir = house.dir.path().join(name);
    std::fs::create_dir(&dir).expect("a new directory");
    dir
}
