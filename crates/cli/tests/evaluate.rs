//! `novella evaluate` as scripts see it: what Nova decided, in the schema in which Nova's decisions are recorded.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use novella_objects::document::Results;

fn novella(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_novella"));
    command.arg("evaluate").args(args).env_remove("RUST_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the executable starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    drop(writer.join().expect("no panic")); // one that reads nothing closes the pipe
    output
}

fn run(args: &[&str]) -> (i32, String, String) {
    let output = novella(args, b"");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits by itself"), text(output.stdout), text(output.stderr))
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evaluate").join(name).display().to_string()
}

fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fleet-documents/tests/oracle").join(name)
}

fn as_nova_decided(hosts: usize) {
    let file = |kind: &str| oracle(&format!("{kind}_{hosts}.json.gz")).display().to_string();
    let (code, out, err) = run(&["--hosts", &file("fleet"), "--requests", &file("requests"), "-f", "json"]);
    assert_eq!((code, err.as_str()), (3, ""), "some requests fit, some do not");
    let ours: Results = serde_json::from_str(&out).expect("results in their schema");
    let nova = std::fs::File::open(oracle(&format!("nova_{hosts}.json.gz"))).expect("the recording is there");
    let nova: Results = serde_json::from_reader(flate2::read::GzDecoder::new(nova)).expect("good results");
    assert_eq!((ours.seed, ours.fleet_n, &ours.weighers), (nova.seed, nova.fleet_n, &nova.weighers));
    for (option, value) in &nova.config {
        assert_eq!(&ours.config[option], value, "{option}");
    }
    assert_eq!(ours.results.len(), 200);
    for (mut ours, mut nova) in ours.results.into_iter().zip(nova.results) {
        let (weights, recorded) = (std::mem::take(&mut ours.weights), std::mem::take(&mut nova.weights));
        assert_eq!(ours, nova, "all but weights is the same");
        assert_eq!(weights.len(), recorded.len());
        for ((host, weight), (recorded_host, recorded)) in weights.into_iter().zip(recorded) {
            assert_eq!(host, recorded_host, "order of request {:?}", ours.id);
            assert!(
                (weight - recorded).abs() <= 1e-9 * recorded.abs().max(1.0),
                "{:?}, host {host}",
                ours.id
            );
        }
    }
    assert!(out.lines().count() == 202, "one line for each result, so that diff shows them");
}

#[test]
fn a_hundred_hosts_as_nova_decided() {
    as_nova_decided(100);
}

#[test]
fn a_thousand_hosts_as_nova_decided() {
    as_nova_decided(1000);
}

#[test]
fn a_table_shows_what_became_of_each_host() {
    let (hosts, requests) = (example("fleet.jsonl"), example("requests.json"));
    let (code, out, err) = run(&["--hosts", &hosts, "--requests", &requests]);
    assert_eq!((code, err.as_str()), (3, ""));
    for line in [
        "request small: 2 x 1 vCPU, 2G RAM, 10G disk; 3 hosts",
        "picks: cmp3, cmp3",
        "ComputeFilter            3    2  cmp2",
        "   1  cmp3  1.000000  1 x 1.000 (raw 65024)",
        "picks: none; there is room for 0 of 1",
        "RamFilter                2    0  cmp1 cmp3",
    ] {
        assert!(out.lines().any(|shown| shown == line), "{line:?} is not in\n{out}");
    }
    let one = |id: &str, more: &[&str]| {
        let mut args = vec!["--hosts", &hosts, "--requests", &requests, "--request", id];
        args.extend(more);
        run(&args)
    };
    assert_eq!(one("small", &[]).0, 0, "it fits");
    assert_eq!(one("too large", &[]).0, 1, "it does not");
    let (_, out, _) = one("in the west", &["-f", "csv"]);
    let rows: Vec<_> = out.lines().collect();
    assert_eq!(rows[1..3], ["in the west,cmp1,passed,1,0.0,1", "in the west,cmp2,ComputeFilter,,,0"]);
    assert_eq!(rows[3], "in the west,cmp3,AvailabilityZoneFilter,,,0");
    let (code, _, err) = one("medium", &[]);
    assert_eq!(code, 4);
    assert!(err.starts_with("error: there is no request medium\nnext: "), "{err}");
}

#[test]
fn a_policy_takes_the_place_of_what_the_files_say() {
    let (hosts, requests) = (example("fleet.jsonl"), example("named.jsonl"));
    let policy = example("policy.toml");
    let with = |more: &[&str]| {
        let mut args = vec!["--hosts", &hosts, "--requests", &requests];
        args.extend(more);
        run(&args)
    };
    let (code, out, err) = with(&["--policy", &policy, "-f", "jsonl"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let picks: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["picks"].clone())
        .collect();
    // The policy packs instances instead of spreading them, and it moves cmp1 to another aggregate than the file.
    assert_eq!(picks, [serde_json::json!([0]), serde_json::json!([2])]);
    let (code, _, err) = with(&["--policy", &requests]);
    assert!(code == 2 && err.contains("named.jsonl: the policy has 1 problem\n  line 1: "), "{err}");
}

#[test]
fn an_alias_is_of_the_documents_or_of_the_policy_and_else_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let question = |aliases: &str| {
        format!(
            r#"{{"options":{{"filters":["PciPassthroughFilter"]}},{aliases}"hosts":[{{"host":"a"}},{{"host":"b","pci_pools":[
            {{"vendor_id":"10de","product_id":"1eb8","dev_type":"type-PCI","numa_node":0,"count":1}}]}}],
            "requests":[{{"extra_specs":{{"pci_passthrough:alias":"gpu:1"}}}}]}}"#
        )
        .replace('\n', "")
    };
    let ask = |args: &[&str], aliases: &str| {
        let output = novella(&[&["--stdin"], args].concat(), question(aliases).as_bytes());
        String::from_utf8(output.stdout).expect("answers are UTF-8")
    };
    let found = |out: &str| out.contains(r#""picks":[1],"verdict":"a.""#);
    let known = r#""pci_aliases":{"gpu":{"specs":[{"vendor_id":"10de","product_id":"1eb8"}]}},"#;
    assert!(found(&ask(&[], known)), "{}", ask(&[], known));
    for (aliases, says) in
        [("", "there are no pci_aliases"), (&*known.replace("gpu", "tpu"), "choose one of tpu")]
    {
        let out = ask(&[], aliases);
        assert!(out.contains("requests[0].extra_specs") && out.contains(says), "{out}");
    }
    let policy = dir.path().join("policy.toml");
    let text = "filter_scheduler.enabled_filters = ['PciPassthroughFilter']\n\
                pci.alias = [{ name = 'gpu', vendor_id = '10de', product_id = '1eb8' }]\n";
    std::fs::write(&policy, text).expect("it is written");
    let out = ask(&["--policy", policy.to_str().expect("UTF-8")], "");
    assert!(found(&out), "{out}");
}

#[test]
fn what_cannot_be_read_says_where() {
    let (fleet, requests) = (example("fleet.jsonl"), example("requests.json"));
    for (hosts, asked, code, error) in [
        (requests.as_str(), fleet.as_str(), 2, "requests.json: requests: unknown field `requests`"),
        ("nowhere.json", requests.as_str(), 4, "there is no file nowhere.json"),
        (fleet.as_str(), fleet.as_str(), 2, "--hosts and --requests name the same file"),
        (fleet.as_str(), "-", 2, "-: there are no requests"),
    ] {
        let (found, out, err) = run(&["--hosts", hosts, "--requests", asked]);
        assert_eq!((found, out.as_str()), (code, ""), "{err}");
        assert!(err.starts_with("error: ") && err.contains(error), "{err}");
    }
    assert_eq!(run(&["--hosts", &fleet]).0, 2, "requests are missing");
    assert_eq!(run(&["--stdin", "--hosts", &fleet, "--requests", &requests]).0, 2);
}

#[test]
fn questions_get_the_answers_of_the_examples() {
    let read = |name| std::fs::read(example(name)).expect("the examples are there");
    let output = novella(&["--stdin"], &read("questions.jsonl"));
    assert_eq!(output.status.code(), Some(0));
    let text = |bytes| String::from_utf8(bytes).expect("answers are UTF-8");
    let (answers, expected) = (text(output.stdout), text(read("answers.jsonl")));
    for (line, (answer, expected)) in answers.lines().zip(expected.lines()).enumerate() {
        assert_eq!(answer, expected, "answer {}", line + 1);
    }
    assert_eq!(answers.lines().count(), expected.lines().count());
}
