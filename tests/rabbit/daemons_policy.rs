//! The policies of three schedulers over the broker: all answer one question, a wrong file is one scheduler's trouble, and
//! the command line says what the fleet works by, by table and by exit code.

use std::time::Duration;

use serde_json::Value;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::*;
use crate::support::has;

const NAMES: [&str; 3] = ["s1", "s2", "s3"];

struct Rig {
    house: House,
    schedulers: Vec<Process>,
}

impl Rig {
    fn start(house: House) -> Self {
        let mut rig = Self { house, schedulers: Vec::new() };
        for name in NAMES {
            rig.write(name, 1);
            let file = rig.file(name);
            let more = [("NOVELLA_POLICY_FILE", file.as_str())];
            let (scheduler, _) = Process::scheduler(&rig.house.url, name, Duration::from_secs(30), &more);
            rig.schedulers.push(scheduler);
        }
        rig.schedulers.iter_mut().for_each(|scheduler| _ = scheduler.wait_for(SERVES));
        rig
    }

    fn file(&self, name: &str) -> String {
        self.house.dir.path().join(format!("{name}.toml")).to_str().expect("UTF-8").to_owned()
    }

    fn write_text(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("it can be written");
    }

    fn write(&self, name: &str, subset: u32) {
        self.write_text(name, &format!("[filter_scheduler]\nhost_subset_size = {subset}\n"));
    }

    fn write_all(&self, subset: u32) {
        NAMES.iter().for_each(|name| self.write(name, subset));
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        novella(&self.house.url, line)
    }

    /// Exit code and one line per scheduler.
    fn policies(&self, line: &str) -> (i32, Vec<Value>) {
        let (code, out, err) = self.run(&format!("{line} -f json"));
        let lines: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        (code, lines.as_array().expect("an array").clone())
    }
}

fn of<'v>(lines: &'v [Value], key: &str) -> Vec<&'v str> {
    lines.iter().map(|line| line[key].as_str().unwrap_or("-")).collect()
}

/// How many different values there are.
fn distinct(lines: &[Value], key: &str) -> usize {
    of(lines, key).into_iter().collect::<std::collections::BTreeSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_schedulers_reload_and_drift_is_told() {
    let Some(house) = House::shared("daemons policy").await else { return };
    let mut rig = Rig::start(house);

    let (code, lines) = rig.policies("policy show");
    assert_eq!((code, of(&lines, "scheduler"), distinct(&lines, "hash")), (0, NAMES.to_vec(), 1));

    rig.write_all(2);
    let (code, lines) = rig.policies("policy reload");
    assert_eq!((code, of(&lines, "scheduler")), (0, NAMES.to_vec()));
    assert_eq!((of(&lines, "reload"), distinct(&lines, "hash")), (vec!["applied"; 3], 1));
    assert_eq!(lines[1]["changes"].as_array().map(Vec::len), Some(1), "{lines:#?}");

    // One file is wrong: that scheduler keeps what it has, the others change.
    rig.write_all(3);
    rig.write_text("s2", "[filter_scheduler]\nhost_subset_sise = 3\n");
    let (code, out, err) = rig.run("policy reload");
    assert_eq!(code, 3, "{out}{err}");
    has(&out, &["s1: 1 changes\n", "s2: refused; the old policy stays in force\n", "s3: 1 changes\n"]);
    assert!(err.contains("s2.toml: line 2: ") && err.contains("host_subset_size"), "{err}");
    assert!(err.contains("s1 and s2 have different policies"), "{err}");

    let (code, lines) = rig.policies("policy show");
    assert_eq!((code, distinct(&lines, "hash")), (5, 2));
    let (code, out, err) = rig.run("policy show");
    assert!(code == 5 && out.contains("refused"), "{code} {out}");
    assert!(err.contains("s2: the last reload was refused") && err.contains("different policies"), "{err}");

    // Valid, but another one than the others'.
    rig.write("s2", 4);
    let (code, lines) = rig.policies("policy reload");
    assert_eq!((code, of(&lines, "reload")), (5, vec!["unchanged", "applied", "unchanged"]));

    // All wrong.
    NAMES.iter().for_each(|name| rig.write_text(name, "nonsense"));
    let (code, lines) = rig.policies("policy reload");
    assert_eq!((code, of(&lines, "reload")), (2, vec!["refused"; 3]));

    // Each by a signal of its own.
    rig.write_all(5);
    for scheduler in &mut rig.schedulers {
        scheduler.signal(Signal::HUP);
        scheduler.wait_for("policy: ~ filter_scheduler.host_subset_size: ");
    }
    let (code, lines) = rig.policies("policy show");
    assert_eq!((code, distinct(&lines, "hash")), (0, 1));
    assert!(lines.iter().all(|line| line["problems"] == serde_json::json!([])), "{lines:#?}");

    for scheduler in rig.schedulers {
        scheduler.stop();
    }
}
