//! The executables as processes: started, signalled, and read to their end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::daemons_rig::{House, INTERVAL};
use crate::support::PATIENCE;

/// Logged by a scheduler when anybody's requests reach it.
pub const SERVES: &str = "consuming queue=scheduler ";

/// An executable of this workspace, with nothing of ours in its environment.
pub fn executable(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(Path::parent).expect("tests are in target/<profile>/deps");
    let path = profile.join(name);
    assert!(path.exists(), "{} is not built: run `cargo test --workspace --no-run` first", path.display());
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NOVELLA_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    command
}

/// The command line: exit code, standard output, standard error.
pub fn novella(url: &str, line: &str) -> (i32, String, String) {
    let mut command = executable("novella");
    command.args(line.split_whitespace()).env("NOVELLA_TRANSPORT_URL", url);
    let output = command.output().expect("the executable starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits by itself"), text(output.stdout), text(output.stderr))
}

/// A running daemon. Killed when the test is over, however it ends.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
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

    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the executable starts");
        let lines = lines(child.stderr.take().expect("standard error is piped"));
        Self { child, lines, log: Vec::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its log that has this text.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {text:?} in its log:\n{}", self.log.join("\n")));
            self.log.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Its exit code and all it logged.
    pub fn end(mut self) -> (Option<i32>, String) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push(line);
        }
        (self.child.wait().expect("a child can be waited for").code(), self.log.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has mostly ended by itself; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn time(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// An address that nobody listens at.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

/// What a daemon answers to a GET, header included.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the daemon serves HTTP");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// A directory of the house, made.
pub fn state_dir(house: &House, name: &str) -> PathBuf {
    let dir = house.dir.path().join(name);
    std::fs::create_dir(&dir).expect("a new directory");
    dir
}
