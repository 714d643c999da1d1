//! The Python process with oslo.messaging, and what it answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longer than anything the peer waits for by itself.
const PATIENCE: Duration = Duration::from_secs(90);

/// One for all tests: it takes a second to load.
pub struct Python {
    stdin: Mutex<ChildStdin>,
    waiting: Mutex<Waiting>,
    _process: Child,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    answers: HashMap<u64, oneshot::Sender<Value>>,
    /// Its input or output has ended.
    over: bool,
}

/// An exception that a Python caller got.
#[derive(Debug)]
pub struct Raised {
    pub class: String,
    pub module: String,
    /// The names of its class and of all its bases.
    pub bases: Vec<String>,
    pub text: String,
    /// What oslo.messaging's `RemoteError` says of an exception that it may not raise itself.
    pub exc_type: Option<String>,
    pub value: Option<String>,
}

/// The peer, started by whoever asks first.
pub fn python(interpreter: &str) -> &'static Python {
    static PYTHON: OnceLock<&'static Python> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/peer.py");
        let mut process = Command::new(interpreter)
            .arg(program)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0) // oslo's queue manager reads its group's leader in /proc, who need not live as long
            .spawn()
            .expect("the interpreter can be run");
        let stdin = Mutex::new(process.stdin.take().expect("piped"));
        let stdout = process.stdout.take().expect("piped");
        let python: &'static Python =
            Box::leak(Box::new(Python { stdin, waiting: Mutex::default(), _process: process }));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let answer: Value = serde_json::from_str(&line).expect("the peer answers in JSON");
                let id = answer["id"].as_u64().expect("the id of a command");
                if let Some(sender) = python.waiting().answers.remove(&id) {
                    // The test may have given up.
                    let _ = sender.send(answer);
                }
            }
            let mut waiting = python.waiting();
            waiting.over = true;
            waiting.answers.clear();
        });
        python
    })
}

impl Python {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a command performed (peer.py lists them). The command is on its way when this returns.
    pub fn ask(&self, what: &str, mut command: Value) -> impl Future<Output = Result<Value, Raised>> + use<> {
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            assert!(!waiting.over, "the Python peer has ended");
            waiting.last += 1;
            command["id"] = json!(waiting.last);
            let id = waiting.last;
            waiting.answers.insert(id, sender);
        }
        command["do"] = json!(what);
        let line = format!("{command}\n");
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.write_all(line.as_bytes()).expect("the Python peer takes commands");
        async move {
            let answer = timeout(PATIENCE, answer).await.expect("an answer in time");
            let answer = answer.expect("the Python peer has ended");
            let Some(raised) = answer.get("raised") else { return Ok(answer["returned"].clone()) };
            let text = |name: &str| raised[name].as_str().map(str::to_owned);
            let all = raised["bases"].as_array().into_iter().flatten().filter_map(Value::as_str);
            Err(Raised {
                class: text("class").unwrap_or_default(),
                module: text("module").unwrap_or_default(),
                bases: all.map(str::to_owned).collect(),
                text: text("text").unwrap_or_default(),
                exc_type: text("exc_type"),
                value: text("value"),
            })
        }
    }
}
