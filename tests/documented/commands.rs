//! The shell commands that the documents and the programs' help show, which of them a test runs, and how.
//!
//! A command of the documents stands in a fenced block that is marked `sh`, or `console` with `$ ` in front. A command of the
//! help stands under `Examples:`. What always holds: each of them needs no broker, or needs one, or is in [`NOT_RUN`]. A command
//! of which none of these is known fails the tests, so none is left out in silence.
//!
//! Left out: commands inside a sentence. They are names of commands more often than commands to run, and a test looks only at
//! whether there is such a command.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::process::clean;

pub const PROGRAMS: [&str; 3] = ["novella", "scheduler", "compute-agent"];

/// The commands that no test runs, by how they begin, each with the reason.
pub const NOT_RUN: &[(&str, &str)] = &[
    ("make ", "it builds, tests or measures everything; `make test` is what runs this test"),
    ("docker ", "tests/compose runs the shipped image and compose file on a Docker engine"),
    ("cargo build --release", "the release build takes minutes; `make test` makes it"),
    ("scripts/conformance.sh ", "it needs Nova; the part `conformance` of `make test` runs it"),
    (
        "rabbitmqctl import_definitions ",
        "the tests of the broker users load this file as scripts/rabbitmq.sh does",
    ),
    ("rabbitmqctl add_user ", "the suite `interop` runs the commands of the page for the programs on it"),
    (
        "rabbitmqctl set_permissions ",
        "the suite `interop` runs the commands of the page for the programs on it",
    ),
    (
        "rabbitmqctl set_topic_permissions ",
        "the suite `interop` runs the commands of the page for the programs on it",
    ),
    ("source <(novella completion zsh)", "it is for zsh; the completion of bash is run"),
    ("novella swarm --hosts 1000 ", "it is a load for minutes; the swarm of 100 hosts is run"),
    ("novella swarm --hosts 10000 ", "it is a load for minutes; the swarm of 100 hosts is run"),
    ("novella swarm --hosts 500 ", "it is a load for minutes; the swarm of 100 hosts is run"),
];

/// Commands that end only when they are told to, without the settings in front, each with what they print when they work.
pub const ENDLESS: &[(&str, &str)] = &[
    ("novella demo", ""),
    ("novella host list -w 1s", "cmp-1"),
    ("novella swarm --hosts 100 --agent-config numa.toml", "all 100 agents hold their queues"),
    ("scheduler", SERVES),
    ("scheduler --transport-url rabbit://scheduler:PW@mq1/", SERVES),
    ("scheduler --config /etc/novella/scheduler.toml", SERVES),
    ("compute-agent --state-dir /var/lib/novella/compute-agent", LISTENS),
    ("compute-agent --transport-url rabbit://agent:PW@mq1/", LISTENS),
    ("compute-agent --config /etc/novella/compute-agent.toml", LISTENS),
];

/// What a scheduler and an agent log when they hear requests.
const SERVES: &str = "consuming queue=scheduler ";
const LISTENS: &str = "consuming queue=compute.";

/// Commands that end with another exit code than 0 in the tests' fleet, by how they begin, with the reason.
const EXIT_CODES: &[(&str, i32, &str)] = &[(
    "novella explain --vcpus 8 --ram 32G --extra-spec capabilities:cpu_info:arch=aarch64",
    1,
    "the host has another architecture, so it does not pass",
)];

/// How long a command may take, which is far longer than any takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Nothing,
    Broker,
    /// No test runs it.
    Skipped,
}

/// Commands that stand together and are run one after the other, in one directory.
pub struct Block {
    /// Where they stand: the file and its line, or the program whose help it is.
    pub place: String,
    pub commands: Vec<String>,
}

impl Block {
    /// What the commands need that are run: a broker if one of them needs it.
    pub fn need(&self) -> Need {
        let needs = || self.commands.iter().filter_map(|command| need(command));
        match needs().any(|need| need == Need::Broker) {
            true => Need::Broker,
            false if needs().any(|need| need == Need::Nothing) => Need::Nothing,
            false => Need::Skipped,
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every block of the documents and of the help.
pub fn blocks() -> Vec<Block> {
    let documents = documents();
    let of_documents = documents.iter().flat_map(|(name, text)| of_document(name, text).0);
    let of_help =
        help().into_iter().map(|(name, commands)| Block { place: format!("`{name} --help`"), commands });
    of_documents.chain(of_help).filter(|block| !block.commands.is_empty()).collect()
}

/// Every program and every command of it by its full name, such as `novella host list`, with the examples of its help.
pub fn help() -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    PROGRAMS.iter().for_each(|program| add_help(&[program], &mut all));
    all
}

/// The documents that a user reads, by their name in the repository.
pub fn documents() -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned(), "config/rabbitmq/README.md".to_owned()];
    let pages = fs::read_dir(repository().join("docs")).expect("there are documents");
    let pages = pages.map(|page| page.expect("readable").file_name().into_string().expect("UTF-8"));
    names.extend(pages.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")));
    names.sort();
    let text = |name: &String| fs::read_to_string(repository().join(name)).expect("a document is text");
    names.iter().map(|name| (name.clone(), text(name))).collect()
}

/// The blocks of a document, and the places of fences without a language. Such a fence could hide commands.
pub fn of_document(name: &str, text: &str) -> (Vec<Block>, Vec<String>) {
    let (mut blocks, mut unmarked) = (Vec::new(), Vec::new());
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        let place = format!("{name}:{}", number + 1);
        if language.is_empty() {
            unmarked.push(place.clone());
        }
        let inside = lines.by_ref().map(|(_, line)| line.trim()).take_while(|line| *line != "```");
        let commands: Vec<String> = match language {
            "sh" => inside.filter_map(command_of_line).collect(),
            "console" => inside.filter_map(|line| command_of_line(line.strip_prefix("$ ")?)).collect(),
            _ => {
                inside.for_each(drop);
                continue;
            }
        };
        blocks.push(Block { place, commands });
    }
    (blocks, unmarked)
}

/// The command of a line, without the comment behind it. `None` if the line has none.
fn command_of_line(line: &str) -> Option<String> {
    let command = line.split("  ").next().unwrap_or_default().trim();
    let command = command.split(" # ").next().unwrap_or_default().trim();
    (!command.is_empty() && !command.starts_with('#')).then(|| command.to_owned())
}

/// Adds the examples of this program or command, and those of its commands.
fn add_help(words: &[&str], all: &mut Vec<(String, Vec<String>)>) {
    let mut command = clean(programs().join(words[0]));
    // As wide as help gets, so that no example is folded.
    command.args(&words[1..]).arg("--help").env("COLUMNS", "200");
    let output = command.output().expect("the program is built");
    let text = String::from_utf8(output.stdout).expect("help is text");
    assert!(output.status.success(), "{words:?} --help: {text}");
    let examples = section(&text, "Examples:").filter_map(|line| command_of_line(line.trim()));
    all.push((words.join(" "), examples.collect()));
    // A description that is folded stands further to the right than the names of commands.
    let named = section(&text, "Commands:").filter(|line| !line.starts_with("   "));
    for name in named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        add_help(&[words, &[name]].concat(), all);
    }
}

/// The indented lines of a help below this title.
fn section<'a>(help: &'a str, title: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = help.lines().skip_while(move |line| *line != title).skip(1);
    lines.take_while(|line| line.starts_with("  "))
}

/// What a command needs. `None` if that is not known.
pub fn need(command: &str) -> Option<Need> {
    if NOT_RUN.iter().any(|(start, _)| command.starts_with(start)) {
        return Some(Need::Skipped);
    }
    // What stands in quotes is not for the shell.
    let bare: String = command.split('\'').step_by(2).collect();
    let parts = bare.split(['|', ';', '&']).filter(|part| !part.trim().is_empty());
    let needs: Vec<Need> = parts.map(need_of_part).collect::<Option<_>>()?;
    Some(if needs.contains(&Need::Broker) { Need::Broker } else { Need::Nothing })
}

/// The same for a command without pipes.
fn need_of_part(part: &str) -> Option<Need> {
    let is_setting = |word: &&str| word.starts_with("NOVELLA_");
    let words: Vec<&str> = part.split_whitespace().skip_while(is_setting).collect();
    let has = |word: &str| words.contains(&word);
    let alone = match words[..] {
        ["novella", "demo" | "evaluate" | "completion" | "config" | "exit-codes", ..] => true,
        ["novella", "capacity", ..] => has("--hosts"),
        ["novella", "policy", what, ..] => what == "check",
        ["novella", ..] => false,
        ["scheduler" | "compute-agent", ..] => has("config") || has("probe"),
        ["jq" | "diff" | "zcat" | "tar" | "mkdir", ..] => true,
        _ => return None,
    };
    Some(if alone { Need::Nothing } else { Need::Broker })
}

/// The directory with the programs of this workspace.
pub fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(Path::parent).expect("tests are in target/<profile>/deps");
    for name in PROGRAMS {
        let built = profile.join(name).exists();
        assert!(built, "{name} is not built in {}: run `cargo build --workspace` first", profile.display());
    }
    profile.to_owned()
}

/// What the placeholders of a command stand for, and its environment.
#[derive(Default, Clone)]
pub struct World {
    /// Texts in commands, and what replaces them.
    pub replaced: Vec<(String, String)>,
    pub environment: Vec<(String, String)>,
}

/// Runs a command in `directory` as a shell would. The error says what went wrong.
pub fn run(command: &str, directory: &Path, world: &World) -> Result<(), String> {
    if command.contains("| jq ") && !is_installed("jq") {
        skipped(&format!("documented `{command}`: jq is not installed"));
        return Ok(());
    }
    let mut line = command.to_owned();
    for (from, to) in &world.replaced {
        line = line.replace(from, to);
    }
    let endless = ENDLESS.iter().find(|(endless, _)| without_settings(command) == *endless);
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").expect("a shell needs PATH"));
    let mut shell = clean("bash");
    shell.args(["-o", "pipefail", "-c"]).current_dir(directory).env("PATH", path);
    shell.envs(world.environment.iter().map(|(name, value)| (name, value)));
    match endless {
        Some((_, text)) => until(shell.arg(format!("exec env {line} 2>&1")), text),
        None => to_its_end(shell.arg(&line), expected_code(command)),
    }
    .map_err(|error| format!("`{line}`: {error}"))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// Says what is skipped, also in the file that collects the skips of a whole run, if there is one.
fn skipped(what: &str) {
    eprintln!("SKIPPED: {what}");
    if let Some(path) = std::env::var_os("NOVELLA_SKIPS_FILE") {
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "SKIPPED: {what}")).expect("the skips file can be written");
    }
}

/// A command line without the settings in front.
pub fn without_settings(command: &str) -> &str {
    match command.split_once(' ') {
        Some((setting, rest)) if setting.starts_with("NOVELLA_") => rest,
        _ => command,
    }
}

fn expected_code(command: &str) -> i32 {
    EXIT_CODES.iter().find(|(start, ..)| command.starts_with(start)).map_or(0, |(_, code, _)| *code)
}

fn to_its_end(shell: &mut Command, code: i32) -> Result<(), String> {
    let output = shell.output().expect("bash is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.code() {
        Some(ended) if ended == code => Ok(()),
        ended => Err(format!("exit code {ended:?}\n{}{}", text(&output.stdout), text(&output.stderr))),
    }
}

/// Runs a command until it has printed `text`, and ends it then.
fn until(shell: &mut Command, text: &str) -> Result<(), String> {
    let mut child = shell.stdout(Stdio::piped()).spawn().expect("bash is there");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // Nobody listens any longer when the text was found.
            drop(sender.send(line));
        }
    });
    let mut said = Vec::new();
    let found = loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if line.contains(text) => break true,
            Ok(line) => said.push(line),
            Err(_) => break false,
        }
    };
    let pid = rustix::process::Pid::from_child(&child);
    // It may have ended by itself.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    child.wait().expect("a child can be waited for");
    if found { Ok(()) } else { Err(format!("it never printed {text:?}:\n{}", said.join("\n"))) }
}

/// The policy of the tests' fleet, with what the examples name.
pub const POLICY: &str = r#"
[aggregates.ssd]
id = 1
hosts = ["cmp-*"]
metadata = { availability_zone = "north", ssd = "true" }

[flavors."m1.small"]
vcpus = 1
memory_mb = 2048
root_gb = 20

[flavors."m1.large"]
vcpus = 4
memory_mb = 8192
root_gb = 80

[server_groups.web]
policy = "soft-anti-affinity"
"#;

/// Writes the files that the examples name.
pub fn write_files(directory: &Path) {
    let write = |name: &str, text: &str| {
        fs::write(directory.join(name), text).expect("the directory is writable");
        let file = fs::File::create(directory.join(format!("{name}.gz"))).expect("the directory is writable");
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish()).expect("written");
    };
    let hosts: Vec<_> = (1..=3)
        .map(|number| {
            serde_json::json!({
                "host": format!("cmp-{number}"), "vcpus": 16, "memory_mb": 65_536, "local_gb": 500, "aggregates": [1],
            })
        })
        .collect();
    let aggregates =
        serde_json::json!([{"id": 1, "name": "ssd", "metadata": {"availability_zone": "north"}}]);
    let fleet = serde_json::json!({"schema": 1, "aggregates": aggregates, "hosts": hosts});
    let requests: Vec<_> =
        (0..20).map(|id| serde_json::json!({"id": id, "vcpus": 1, "memory_mb": 64, "root_gb": 1})).collect();
    write("fleet.json", &fleet.to_string());
    write("requests.json", &serde_json::json!({"schema": 1, "requests": requests}).to_string());
    write("requests.jsonl", &requests.iter().map(|request| format!("{request}\n")).collect::<String>());
    let question = serde_json::json!({"id": 1, "hosts": hosts_alone(), "requests": [{"vcpus": 1}]});
    write("questions.jsonl", &format!("{question}\n"));
    write("flavors.json", r#"[{"name": "small", "vcpus": 1, "memory_mb": 2048, "root_gb": 20}]"#);
    write("policy.toml", POLICY);
    write("numa.toml", "[driver.fake]\nnuma_nodes = 2\n");
    write("novella.toml", "timeout = \"20s\"\n");
    for name in ["scheduler.toml", "compute-agent.toml"] {
        let shipped = repository().join("config").join(name);
        write(name, &fs::read_to_string(shipped).expect("the shipped configuration is there"));
    }
}

fn hosts_alone() -> serde_json::Value {
    serde_json::json!([{"host": "a", "vcpus": 8, "memory_mb": 4096, "local_gb": 100}])
}
