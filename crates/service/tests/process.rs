//! What only a process of its own can show: signals, exit codes, being stopped, systemd's socket, a logged panic.
//!
//! Each test starts this test executable again in one of the roles below, and talks to it by signals and pipes.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixDatagram,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use novella_service::{
    Change, Env, FileStore, Format, RecordWriter, Store,
    health::Health,
    logging::{self, LogFormat, LogOptions},
    shutdown::{Shutdown, run},
    stall::{self, StallMonitor},
    systemd,
};
use tokio::time;

const ROLE: &str = "SERVICE_TEST_ROLE";
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time from the first signal to the end of a process that hangs.
const SHORT_LIMIT: Duration = Duration::from_millis(300);

#[test]
#[ignore = "the body of the processes that the other tests start"]
fn process() {
    let Ok(role) = env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    run(runtime, async {
        match role.as_str() {
            "hung thread" => hung_thread().await,
            "hung runtime" => hung_runtime().await,
            "unread log" => unread_log().await,
            "quick" => daemon(Duration::from_millis(50)).await,
            "slow" => daemon(Duration::from_secs(60)).await,
            "stalled" => stalled().await,
            "notify" => notify().await,
            "panic" => panicking().await,
            "records" => records().await,
            other => panic!("no role {other}"),
        }
    });
}

fn say(line: &str) {
    let mut out = io::stdout();
    writeln!(out, "> {line}").and_then(|()| out.flush()).unwrap();
}

/// A daemon whose work in flight takes as long as `work`, under a grace period of half a second.
async fn daemon(work: Duration) {
    let shutdown = Shutdown::new();
    shutdown.on_signals().unwrap();
    say("running");
    shutdown.requested().await;
    say("stopping");
    // The long one leaves time for the second signal where a test sends it.
    let grace = Duration::from_millis(if env::var_os("LONG_GRACE").is_some() { 30_000 } else { 500 });
    let verdict = shutdown.drain(grace, time::sleep(work)).await;
    std::process::exit(verdict.code().into());
}

/// A daemon that stops in order while a blocking call hangs, such as a question to a dead disk.
async fn hung_thread() {
    let (env, shutdown) = (Env::system(None).unwrap(), Shutdown::new());
    shutdown.on_signals().unwrap();
    drop(env.blocking.run(hang));
    say("running");
    shutdown.requested().await;
}

/// What the process below keeps its records in.
const RECORDS: Format = Format { version: 1, migrations: &[] };
const RECORDS_DIR: &str = "SERVICE_TEST_RECORDS";

/// Commits one record after the other, and says the number of each when it is durable.
async fn records() {
    let dir = env::var_os(RECORDS_DIR).unwrap();
    let env = Env::system(Some(dir.as_ref())).unwrap();
    let mut records = env.store.open_records("claims", RECORDS).unwrap();
    let first = records.load().unwrap().len() as u64;
    let writer = RecordWriter::start(records, env.blocking.clone());
    for number in first.. {
        writer.write_behind(vec![Change::put("latest", number.to_be_bytes())]).unwrap();
        writer.commit(vec![Change::put(number.to_be_bytes(), vec![7; 400])]).await.unwrap();
        say(&number.to_string());
    }
}

#[test]
fn acknowledged_records_outlive_a_process_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["process", "--exact", "--ignored", "--nocapture"])
            .env(ROLE, "records")
            .env(RECORDS_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let numbers = |line: &str| line.trim().split("> ").nth(1).and_then(|text| text.parse::<u64>().ok());
        let wanted = acknowledged.len() + 10 + round * 7;
        while acknowledged.len() < wanted {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the process ended by itself");
            acknowledged.extend(numbers(&line));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        // The last line may be cut off by the kill.
        acknowledged
            .extend(rest.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(numbers));
        let found = FileStore::new(dir.path()).open_records("claims", RECORDS).unwrap().load().unwrap();
        for number in &acknowledged {
            let key = number.to_be_bytes();
            assert!(
                found.iter().any(|(found, value)| *found == key && *value == [7; 400]),
                "{number} is lost"
            );
        }
    }
}

/// A daemon whose only task hangs in a call that blocks.
async fn hung_runtime() {
    let shutdown = Shutdown::new();
    shutdown.on_signals_within(SHORT_LIMIT).unwrap();
    say("running");
    hang();
}

/// A daemon that hangs because nobody reads its log. Then nobody can log anything.
async fn unread_log() {
    let shutdown = Shutdown::new();
    shutdown.on_signals_within(SHORT_LIMIT).unwrap();
    logging::init(LogOptions { format: LogFormat::Text, verbose: 0 }).unwrap();
    say("running");
    loop {
        tracing::info!("one more line");
    }
}

fn hang() {
    loop {
        thread::park();
    }
}

async fn stalled() {
    let monitor = StallMonitor::new(Env::system(None).unwrap().clock);
    let mut ticks = time::interval(stall::TICK);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    say("running");
    loop {
        ticks.tick().await;
        if let Some(stall) = monitor.observe() {
            say(&format!("stalled {}", stall.length().as_millis()));
        }
    }
}

async fn notify() {
    let (health, shutdown) = (Health::new(Env::system(None).unwrap().clock), Shutdown::new());
    shutdown.on_signals().unwrap();
    let map = health.condition("map");
    let heart = health.watch_loop("reports", Duration::from_secs(1));
    let service = tokio::spawn(systemd::accompany(health.clone(), shutdown.clone()));
    time::sleep(Duration::from_millis(300)).await;
    map.set(true, "complete");
    let beating = async {
        loop {
            heart.beat();
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    // With the first line of input the loop hangs, and the watchdog must starve.
    tokio::select! {
        biased;
        () = io_line() => {}
        () = beating => {}
    }
    service.await.unwrap();
}

/// Waits for a line on standard input without stopping the runtime.
async fn io_line() {
    Env::system(None)
        .unwrap()
        .blocking
        .run(|| io::stdin().read_line(&mut String::new()))
        .await
        .unwrap()
        .unwrap();
}

async fn panicking() {
    logging::init(LogOptions { format: LogFormat::Json, verbose: 0 }).unwrap();
    let task = tokio::spawn(async { panic!("host {} is on fire", "c1") });
    assert!(task.await.is_err());
}

struct Process(Child, BufReader<std::process::ChildStdout>);

impl Process {
    fn start(role: &str, adjust: impl FnOnce(&mut Command)) -> Process {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "process", "--ignored", "--nocapture"]).env(ROLE, role);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "RUST_LOG"] {
            command.env_remove(name);
        }
        adjust(&mut command);
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Process(child, out)
    }

    /// The next line that the role itself said.
    fn heard(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.1.read_line(&mut line).unwrap(), 0, "the process ended without saying more");
            // The test harness writes `test process ... ` in front of the first one.
            if let Some((_, said)) = line.trim_end().split_once("> ") {
                return said.to_owned();
            }
        }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }

    fn end(mut self) -> (ExitStatus, String) {
        let mut err = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (self.0.wait().unwrap(), err)
    }
}

#[test]
fn a_signal_lets_work_in_flight_finish_and_ends_with_0() {
    for signal in ["-TERM", "-INT"] {
        let mut process = Process::start("quick", |_| {});
        assert_eq!(process.heard(), "running");
        process.signal(signal);
        assert_eq!(process.heard(), "stopping");
        assert_eq!(process.end().0.code(), Some(0), "{signal}");
    }
}

#[test]
fn work_that_outlives_the_grace_period_is_abandoned_with_124() {
    let mut process = Process::start("slow", |_| {});
    process.heard();
    process.signal("-TERM");
    assert_eq!(process.end().0.code(), Some(124));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (second, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut process = Process::start("slow", |command| {
            command.env("LONG_GRACE", "1");
        });
        process.heard();
        process.signal("-TERM");
        assert_eq!(process.heard(), "stopping");
        process.signal(second);
        assert_eq!(process.end().0.code(), Some(code));
    }
}

#[test]
fn a_call_that_hangs_does_not_keep_a_process_that_has_stopped() {
    let mut process = Process::start("hung thread", |_| {});
    assert_eq!(process.heard(), "running");
    process.signal("-TERM");
    assert_eq!(process.end().0.code(), Some(0));
}

#[test]
fn a_process_that_hangs_as_a_whole_ends_by_its_limit() {
    for role in ["hung runtime", "unread log"] {
        let mut process = Process::start(role, |_| {});
        assert_eq!(process.heard(), "running");
        process.signal("-TERM");
        // Its log is not read before it has ended.
        assert_eq!(process.0.wait().unwrap().code(), Some(124), "{role}");
    }
}

#[test]
fn a_process_that_was_stopped_notices_for_how_long() {
    let mut process = Process::start("stalled", |_| {});
    assert_eq!(process.heard(), "running");
    process.signal("-STOP");
    thread::sleep(Duration::from_millis(2000));
    process.signal("-CONT");
    let said = process.heard();
    let millis: u64 = said.strip_prefix("stalled ").unwrap().parse().unwrap();
    assert!((1900..10_000).contains(&millis), "{said}");
    process.signal("-KILL");
    process.end();
}

#[test]
fn systemd_hears_status_ready_watchdog_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
    let mut process = Process::start("notify", |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    });
    let receive = || {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
    };
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "STATUS=ready") {
        heard.push(receive());
    }
    let position = |text: &str| heard.iter().position(|line| line == text);
    assert!(position("STATUS=map: starting") < position("READY=1"), "{heard:?}");
    assert!(position("STATUS=map: starting").is_some() && position("WATCHDOG=1").is_some(), "{heard:?}");

    // The loop hangs: after its second the watchdog gets no more food.
    process.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1000))).unwrap();
    let mut buffer = [0; 1024];
    let mut fed = 0;
    while socket.recv(&mut buffer).is_ok() {
        fed += 1;
        assert!(fed < 100, "the watchdog of a hung loop is fed for ever");
    }
    socket.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
    process.signal("-TERM");
    assert_eq!(receive(), "STOPPING=1");
    assert_eq!(process.end().0.code(), Some(0));
}

#[test]
fn a_panic_in_a_task_is_a_log_line_and_the_process_lives() {
    let (status, err) = Process::start("panic", |_| {}).end();
    assert!(status.success(), "{err}");
    let line = err.lines().find(|line| line.starts_with('{')).expect("a JSON line");
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (event["level"].as_str(), event["message"].as_str()),
        (Some("ERROR"), Some("panic: host c1 is on fire"))
    );
    assert!(event["location"].as_str().unwrap().contains("tests/process.rs:"), "{line}");
}
