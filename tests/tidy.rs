//! House rules as a test: the layout, who may use whom, what every file opens with, that what is written is there.
//!
//! Always: a rule is one function from the house (files and packages, as data) to faults, and a fault names its place
//! and what to do. Each rule stands beside a way to break it, and a test sees that it notices. A new crate needs a line in
//! the tables `CRATES` and `WINGS`. The rules of imports have no exceptions; a new exception to another rule needs a line
//! in the table of that rule, with its reason.
//!
//! Left out: what the compiler, clippy and rustdoc refuse by themselves.

#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/imports.rs"]
mod imports;

use std::collections::BTreeMap;
use std::path::Path;

use house::House;
use imports::{Modules, is_face};

/// What stands at the top, besides settings of tools.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "Makefile",
    "Dockerfile",
    "docker-compose.yml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    ".ci/",
    "config/",
    "crates/",
    "tests/",
];

/// Every crate, and which of ours it may use: imports point down only.
const CRATES: &[(&str, Uses)] = &[
    ("objects", Uses::Only(&[])),
    ("resources", Uses::Only(&["objects"])),
    ("messaging", Uses::Only(&[])),
    ("nova-objects", Uses::Only(&["objects"])),
    ("rpcapi", Uses::Only(&["messaging", "nova-objects", "objects"])),
    ("periodic-task", Uses::Only(&["periodic-task-macros"])),
    ("periodic-task-macros", Uses::Only(&[])),
    ("virt", Uses::Only(&["objects", "resources"])),
    ("virt-libvirt", Uses::Only(&["objects", "resources", "virt"])),
    ("filter-scheduler", Uses::Only(&["objects", "resources"])),
    ("host-manager", Uses::Only(&["filter-scheduler", "objects", "resources"])),
    ("fleet-documents", Uses::Only(&["filter-scheduler", "host-manager", "objects", "resources"])),
    ("service", Uses::Only(&[])),
    (
        "compute-agent",
        Uses::Only(&["messaging", "objects", "periodic-task", "resources", "rpcapi", "service", "virt"]),
    ),
    (
        "scheduler",
        Uses::Only(&[
            "filter-scheduler",
            "fleet-documents",
            "host-manager",
            "messaging",
            "objects",
            "periodic-task",
            "rpcapi",
            "service",
        ]),
    ),
    ("cli", Uses::Everything),
];

/// The wings of every crate, bottom up, with a blank between two. A module may import from its own wing and from the wings
/// listed before it. A wing is a module with all modules inside it, by its path below `src`; a longer path takes its
/// modules out of a shorter one. `lib.rs` and `main.rs` are the crate's face: they import from every wing, and no wing imports them.
const WINGS: &[(&str, &str)] = &[
    (
        "objects",
        "json entries limits power_state instance inventory numa devices claim agent_report capabilities request_spec \
         document host decision claim_request policy explain capacity",
    ),
    (
        "resources",
        "cpu_set inventory request_groups amounts pinned_cpus capacity topology pci numa devices devices_on_the_wire devices_of_reports host_limits",
    ),
    (
        "messaging",
        "error authority ids notices target url transport request envelope endpoint client server in_process \
         rabbit connect",
    ),
    ("nova-objects", "error primitive request_spec selection"),
    ("rpcapi", "names serve base compute scheduler nova_scheduler"),
    ("periodic-task", "task grid status runner"),
    ("periodic-task-macros", "parse expand"),
    (
        "virt",
        "stats recording cpu_traits report probe_error driver_error probe instance instance_error fake_config driver fake \
         linux registry",
    ),
    ("filter-scheduler", "nova settings request table filters prefilters weighers select questions"),
    ("host-manager", "fnv token_bucket options holder policy report promises map verbs views host_manager"),
    (
        "fleet-documents",
        "bad_document options read_fleet request server_groups apply_policy evaluator answer write_fleet",
    ),
    ("service", "host_name printable env logging stall failure config health exit args shutdown systemd"),
    (
        "compute-agent",
        "identity monitors overrides pci config_sections offer config probe claims instances report publisher manager \
         standing metrics agent",
    ),
    (
        "scheduler",
        "decisions call_errors core_lock kept_snapshots report_lag host_clocks request_metrics refused_reports map_events policy_file quotas config policy_source \
         peers manager calls endpoint metrics startup answers hearing lifecycle tasks daemon",
    ),
    ("cli", "exit_codes units settings output connect commands latencies demo swarm args usage dispatch"),
];

/// Crates whose time comes later; their place is kept above.
const LATER: &[&str] = &["virt-libvirt"];

/// The executables.
const BINARIES: &[(&str, &str)] =
    &[("cli", "novella"), ("compute-agent", "compute-agent"), ("scheduler", "scheduler")];

/// What a crate may use of others' crates, apart from its tests, where that is limited, and why.
const OUTSIDE_ONLY: &[(&str, &[&str], &str)] = &[
    ("objects", &["serde", "serde_json", "uuid"], "it is nouns that cross the wire, and no behaviour"),
    ("resources", &["serde", "serde_json", "thiserror"], "it is arithmetic"),
];

/// Crates for code that waits.
const ASYNC: &[&str] = &["tokio", "tokio-util", "async-trait", "futures-util", "axum"];

/// What a crate may never use, in its tests either, and why. `*` is every crate but those of [`LAPIN_HOMES`].
const OUTSIDE_NEVER: &[(&str, &[&str], &str)] = &[
    ("filter-scheduler", ASYNC, "the algorithm is pure and synchronous"),
    ("host-manager", ASYNC, "the map is pure and synchronous"),
    ("fleet-documents", ASYNC, "documents are read and answered without waiting"),
    ("periodic-task-macros", &["tokio"], "it only writes code"),
    ("*", &["lapin"], "one transport speaks AMQP, and the others stand on the trait"),
];

/// The packages that have lapin as a dependency, and the places that may name it.
const LAPIN_HOMES: &[&str] = &["messaging", "tests"];
const LAPIN_PLACES: &[&str] = &["crates/messaging/src/rabbit/", "crates/messaging/benches/", "tests/"];

/// Marks of unfinished work; put together here, so that this file has none.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
    concat!("#[ign", "ore"),
];
/// Files that may have one, each with its reason.
const UNFINISHED_EXCEPTIONS: &[(&str, &str)] = &[(
    "crates/service/tests/process.rs",
    "its ignored test is the body of the processes that the others start",
)];

/// Directories of some developer's machine, and hosts of package registries: neither exists for a reader.
const NOT_PORTABLE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".org"),
    concat!("docker", ".io/"),
    concat!("proxy.golang", ".org"),
];
/// Written by cargo, which names its registry in it.
const GENERATED: &[&str] = &["Cargo.lock"];

/// Calls that ask the system: only `Env` makes them. The clock of `tokio::time` is none of them, as tests pause it.
const SYSTEM_CALLS: &[&str] = &[
    concat!("std::time::", "Instant"),
    concat!("SystemTime::", "now"),
    concat!("thread_", "rng"),
    concat!("rand::", "rng("),
    concat!("spawn_", "blocking"),
    concat!("block_in_", "place"),
    concat!("Uuid::", "new_v4"),
];
/// Where `Env` is implemented.
const ENV_HOME: &str = "crates/service/";
/// Who else may ask the system, each with its reason.
const SYSTEM_CALL_EXCEPTIONS: &[(&str, &str)] = &[
    ("benches/", "a benchmark measures real time"),
    ("tests/fuzz/", "a search ends by real time, and a hang is measured in it"),
    ("crates/host-manager/tests/growth.rs", "how long a message takes is measured in real time"),
    ("crates/scheduler/tests/fairness.rs", "how long others wait is measured in real time"),
    ("crates/scheduler/tests/lanes.rs", "how long placements take is measured in real time"),
    ("tests/rabbit/", "a real broker runs on real time"),
    ("tests/system/simulation", "a search without a fixed number of seeds ends by real time"),
];

/// Which of our crates a crate may use.
enum Uses {
    Only(&'static [&'static str]),
    Everything,
}

/// A rule, a way to break it, and words of the fault that must then be found.
struct Rule {
    check: fn(&House) -> Vec<String>,
    break_it: fn(&mut House),
    fault: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        check: layout,
        break_it: |house| drop(house.files.remove("LICENSE")),
        fault: "LICENSE: missing at the top",
    },
    Rule {
        check: layout,
        break_it: |house| house.add("crates/misc/src/lib.rs", "//! Misc.\n"),
        fault: "crates/misc: not in the table CRATES",
    },
    Rule {
        check: layout,
        break_it: |house| house.files.retain(|path, _| !path.starts_with("crates/objects/")),
        fault: "crates/objects: missing",
    },
    Rule {
        check: package_names,
        break_it: |house| house.package("objects").name = "objects".into(),
        fault: "crates/objects/Cargo.toml: the package is called objects; call it novella-objects",
    },
    Rule {
        check: package_names,
        break_it: |house| house.package("cli").binaries = vec!["cli".into()],
        fault: "crates/cli/Cargo.toml: its binaries are cli; they should be novella",
    },
    Rule {
        check: imports_point_down,
        break_it: |house| house.depend("scheduler", "novella-compute-agent"),
        fault: "crates/scheduler/Cargo.toml: scheduler may not use compute-agent",
    },
    Rule {
        check: imports_point_down,
        break_it: |house| house.depend("periodic-task", "novella-objects"),
        fault: "periodic-task may not use objects",
    },
    Rule {
        check: imports_point_down,
        break_it: |house| house.add("crates/virt/src/x.rs", "//! X.\nuse novella_rpcapi::ComputeApi;\n"),
        fault: "crates/virt/src/x.rs:2: virt may not use rpcapi",
    },
    Rule {
        check: every_module_has_a_wing,
        break_it: |house| house.add_module("virt", "x", "//! X.\n"),
        fault: "crates/virt/src/x.rs: in no wing",
    },
    Rule {
        check: every_module_has_a_wing,
        break_it: |house| house.add("crates/virt/src/x.rs", "//! X.\n"),
        fault: "crates/virt/src/x.rs: no `mod` declares it",
    },
    Rule {
        check: every_module_has_a_wing,
        break_it: |house| drop(house.files.remove("crates/virt/src/probe.rs")),
        fault: "crates/virt/src: has no module `probe`",
    },
    Rule {
        check: modules_import_lower_wings,
        break_it: |house| house.append("crates/virt/src/stats.rs", "use super::registry::{self, Start};\n"),
        fault: "imports Start, registry from registry.rs, but the wing `stats` may not import from the wing `registry`",
    },
    Rule {
        check: modules_import_lower_wings,
        break_it: |house| house.append("crates/virt/src/stats.rs", "const X: u8 = crate::registry::X;\n"),
        fault: "imports X from registry.rs, but the wing `stats` may not import from the wing `registry`",
    },
    Rule {
        check: nothing_imports_the_face,
        break_it: |house| house.append("crates/virt/src/stats.rs", "use crate::{\n    DriverError,\n};\n"),
        fault: "imports DriverError from lib.rs, the crate's root",
    },
    Rule {
        check: no_circles,
        break_it: |house| house.append("crates/virt/src/linux/tree.rs", "use super::numa::X;\n"),
        fault: "imports X from linux/numa.rs",
    },
    Rule {
        check: foreign_crates,
        break_it: |house| house.depend("filter-scheduler", "tokio"),
        fault: "crates/filter-scheduler/Cargo.toml: filter-scheduler may not use tokio",
    },
    Rule {
        check: foreign_crates,
        break_it: |house| house.depend("objects", "regex"),
        fault: "crates/objects/Cargo.toml: objects may not use regex",
    },
    Rule {
        check: foreign_crates,
        break_it: |house| house.depend("cli", "lapin"),
        fault: "crates/cli/Cargo.toml: cli may not use lapin",
    },
    Rule {
        check: lapin_stays_at_home,
        break_it: |house| house.add("crates/messaging/src/x.rs", "//! X.\nuse lapin::Channel;\n"),
        fault: "crates/messaging/src/x.rs:2: names lapin",
    },
    Rule {
        check: workspace_settings,
        break_it: |house| house.replace("crates/virt/Cargo.toml", "[lints]\nworkspace = true", ""),
        fault: "crates/virt/Cargo.toml: has not the workspace's lints",
    },
    Rule {
        check: workspace_settings,
        break_it: |house| house.package("virt").rust_version = "1.50".into(),
        fault: "crates/virt/Cargo.toml: rust-version is 1.50",
    },
    Rule {
        check: versions_agree,
        break_it: |house| house.add("docs/x.md", "Needs Rust 1.50 or later.\n"),
        fault: "docs/x.md:1: Rust 1.50",
    },
    Rule {
        check: versions_agree,
        break_it: |house| house.add("Dockerfile", "FROM rust:1.50-slim\n"),
        fault: "Dockerfile:1: Rust 1.50",
    },
    Rule {
        check: prologues,
        break_it: |house| house.add("crates/virt/src/x.rs", "use std::fmt;\n"),
        fault: "crates/virt/src/x.rs:1: opens without `//!`",
    },
    Rule {
        check: unfinished_work,
        break_it: |house| house.add("scripts/x.sh", concat!("true # TO", "DO: more\n")),
        fault: "scripts/x.sh:1: ",
    },
    Rule {
        check: unfinished_work,
        break_it: |house| {
            house.add("crates/virt/src/x.rs", concat!("//! X.\n#[test]\n#[ign", "ore = \"slow\"]\n"))
        },
        fault: "crates/virt/src/x.rs:3: ",
    },
    Rule {
        check: portable,
        break_it: |house| house.add("Makefile", concat!("x:\n\tls /ro", "ot/bin\n")),
        fault: "Makefile:2: names ",
    },
    Rule {
        check: portable,
        break_it: |house| house.add("docs/x.md", concat!("See https://crates", ".io for more.\n")),
        fault: "docs/x.md:1: names ",
    },
    Rule {
        check: documented_paths,
        break_it: |house| house.add("docs/x.md", "Look at `crates/virt/src/gone.rs`.\n"),
        fault: "docs/x.md:1: `crates/virt/src/gone.rs` is not there",
    },
    Rule {
        check: documented_paths,
        break_it: |house| house.add("CONTRIBUTING.md", "See [faults](docs/gone.md#broker).\n"),
        fault: "CONTRIBUTING.md:1: `docs/gone.md` is not there",
    },
    Rule {
        check: links_lead_somewhere,
        break_it: |house| {
            house.add("docs/x.md", "[Lost](gone.md), [found](explain.md) and https://example.org.\n")
        },
        fault: "docs/x.md:1: the link leads to docs/gone.md, which is not there",
    },
    Rule {
        check: links_lead_somewhere,
        break_it: |house| house.add("docs/x.md", "[Here](../README.md#no-such-heading).\n"),
        fault: "docs/x.md:1: README.md has no heading #no-such-heading",
    },
    Rule {
        check: documents_are_linked,
        break_it: |house| house.add("docs/x.md", "Read `docs/explain.md`.\n"),
        fault: "docs/x.md:1: `docs/explain.md` is a document; link to it",
    },
    Rule {
        check: system_calls,
        break_it: |house| {
            house.add("crates/virt/src/x.rs", concat!("//! X.\nlet now = SystemTime::", "now();\n"))
        },
        fault: "crates/virt/src/x.rs:2: asks the system",
    },
    Rule {
        check: system_calls,
        break_it: |house| house.add("crates/virt/src/x.rs", "//! X.\nuse std::time::{Duration, Instant};\n"),
        fault: "crates/virt/src/x.rs:2: asks the system",
    },
    Rule {
        check: select_is_biased,
        break_it: |house| house.add("crates/virt/src/x.rs", "//! X.\ntokio::select! {\n    _ = a => {}\n}\n"),
        fault: "crates/virt/src/x.rs:2: this select! is not biased",
    },
    Rule {
        check: no_static_state,
        break_it: |house| {
            house.add("crates/virt/src/x.rs", "//! X.\nstatic SEEN: Mutex<u32> = Mutex::new(0);\n")
        },
        fault: "crates/virt/src/x.rs:2: state is static",
    },
    Rule {
        check: shipped_configuration_is_tested,
        break_it: |house| house.add("config/other.toml", "# Nothing.\n"),
        fault: "config/other.toml: no test reads it",
    },
];

#[test]
fn the_house_is_tidy() {
    let house = House::read();
    assert!(house.files.len() > 100, "only {} files were found: is this the repository?", house.files.len());
    let mut faults: Vec<String> = RULES.iter().flat_map(|rule| (rule.check)(&house)).collect();
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Runs `scale` of `scripts/measure.py` and the whole of `scripts/scale.py` with benchmarks and pages that are made up, once
/// without and once with `--write-docs`.
const MEASURE: &str = r#"
import pathlib, sys
sys.path.insert(0, "scripts")
sys.dont_write_bytecode = True
import measure, scale, scale_page
root = pathlib.Path(sys.argv[1])
measure.ROOT, measure.RESULTS = root, root / "target" / "measure"
row = "single_{}_{}\tOracle\tus\t{}.0\t6.0\t50.0\t8.0\n"
def rows(which):
    return "head\n" + row.format(1000, which, 5) + row.format(10000, which, 50)
measure.bench = lambda package, name: rows("first" if name == "scale" else "repeated")
pages = []
scale_page.write = pages.append
scale.build, scale.raise_limits = (lambda: None), (lambda: 0)
scale.measure = lambda options, seconds, names: {"rows": [], "ended": {}}
def run(program, *arguments):
    sys.argv = ["x", *arguments]
    return program.main()
assert run(measure, "scale") == 1, "a target is missed"
assert not (root / "docs").exists() and (root / "target/measure/placement.svg").exists()
run(measure, "--write-docs", "scale")
assert (root / "docs/placement.svg").exists()
assert run(scale) == 0 and run(scale, "--seconds", "60") == 0 and not pages
assert run(scale, "--write-docs") == 0 and len(pages) == 1
"#;

#[test]
fn measuring_leaves_the_work_tree_as_it_was_unless_told_to_write_the_documents() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let mut python = std::process::Command::new("python3");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the repository");
    let done =
        python.args(["-c", MEASURE]).arg(dir.path()).current_dir(root).output().expect("python3 starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let rows = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        rows.contains("one placement among 1,000 hosts, first request of its kind, hosts as recorded"),
        "{rows}"
    );
}

#[test]
fn every_rule_notices_when_it_is_broken() {
    let house = House::read();
    let mut faults_before = BTreeMap::new();
    for rule in RULES {
        let mut broken = house.clone();
        (rule.break_it)(&mut broken);
        // Several rules share a check, and those that read every source with syn take their time.
        let before = faults_before.entry(rule.check as usize).or_insert_with(|| (rule.check)(&house));
        let after = (rule.check)(&broken);
        let new: Vec<&String> = after.iter().filter(|fault| !before.contains(fault)).collect();
        assert!(new.iter().any(|fault| fault.contains(rule.fault)), "wanted {:?}, found {new:?}", rule.fault);
    }
}

fn layout(house: &House) -> Vec<String> {
    let missing = |entry: &&&str| !house.exists(entry.trim_end_matches('/'));
    let top = TOP
        .iter()
        .filter(missing)
        .map(|entry| format!("{entry}: missing at the top; it has its place there"));
    let known = |dir: &str| CRATES.iter().any(|(name, _)| *name == dir);
    let mut dirs: Vec<&str> = house.files.keys().filter_map(|path| crate_of(path)).collect();
    dirs.dedup();
    let strangers = dirs.iter().filter(|dir| !known(dir)).map(|dir| {
        format!("crates/{dir}: not in the table CRATES of tests/tidy.rs; add it with what it may use")
    });
    let absent =
        CRATES.iter().map(|(name, _)| *name).filter(|name| !dirs.contains(name) && !LATER.contains(name));
    let absent =
        absent.map(|name| format!("crates/{name}: missing; if it is gone for good, take it out of CRATES"));
    top.chain(strangers).chain(absent).collect()
}

fn package_names(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &house.packages {
        let (manifest, short) = (package.manifest(), package.short());
        let wanted = format!("novella-{short}");
        if package.name != wanted {
            faults.push(format!("{manifest}: the package is called {}; call it {wanted}", package.name));
        }
        let binaries: Vec<&str> =
            BINARIES.iter().filter(|(of, _)| *of == short).map(|(_, name)| *name).collect();
        if package.binaries != binaries {
            let (are, should) = (package.binaries.join(", "), binaries.join(", "));
            faults.push(format!("{manifest}: its binaries are {are}; they should be {should}"));
        }
    }
    faults
}

fn imports_point_down(house: &House) -> Vec<String> {
    let may = |from: &str, to: &str| match CRATES.iter().find(|(name, _)| *name == from) {
        Some((_, Uses::Only(allowed))) => allowed.contains(&to) || from == to,
        Some((_, Uses::Everything)) | None => true,
    };
    let advice = "imports point down only (CRATES in tests/tidy.rs); move what both need below them";
    let mut faults = Vec::new();
    for package in &house.packages {
        let ours = package.dependencies.iter().filter_map(|(name, _)| name.strip_prefix("novella-"));
        faults.extend(
            ours.filter(|to| !may(package.short(), to))
                .map(|to| format!("{}: {} may not use {to}: {advice}", package.manifest(), package.short())),
        );
    }
    for (place, line) in house.code() {
        let (Some(from), Some((_, rest))) = (crate_of(&place), line.split_once("use novella_")) else {
            continue;
        };
        let to: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let to = to.replace('_', "-");
        if !may(from, &to) {
            faults.push(format!("{place}: {from} may not use {to}: {advice}"));
        }
    }
    faults
}

/// The modules of every crate, by the crate's directory.
fn crates(house: &House) -> impl Iterator<Item = (&'static str, Modules)> {
    CRATES.iter().map(|(name, _)| (*name, Modules::read(house, name)))
}

/// The wing of a file, and its place from the bottom; none for the face and for what the table does not have.
fn wing(file: &str) -> Option<(usize, &'static str)> {
    let (name, module) = file.strip_prefix("crates/")?.split_once("/src/")?;
    let (_, wings) = WINGS.iter().find(|(of, _)| *of == name)?;
    let holds =
        |wing: &str| module.strip_prefix(wing).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'));
    wings.split(' ').enumerate().filter(|(_, wing)| holds(wing)).max_by_key(|(_, wing)| wing.len())
}

fn every_module_has_a_wing(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, modules) in crates(house) {
        let src = format!("crates/{name}/src");
        let is_test = |file: &str| file.ends_with("/tests.rs") || file[src.len()..].contains("/tests/");
        let sources = house.sources().map(|(path, _)| path.as_str());
        for file in sources.filter(|path| path.starts_with(&format!("{src}/")) && !is_test(path)) {
            if !modules.files.contains(file) {
                faults.push(format!(
                    "{file}: no `mod` declares it outside of tests; delete it, or call it tests.rs or tests/ if it is one"
                ));
            } else if wing(file).is_none() && !is_face(file) {
                faults.push(format!(
                    "{file}: in no wing; add it to the wings of {name} in WINGS of tests/tidy.rs, after those that it imports"
                ));
            }
        }
    }
    for (name, wings) in WINGS {
        let src = format!("crates/{name}/src");
        let absent = |wing: &&str| {
            !house.exists(&format!("{src}/{wing}.rs")) && !house.exists(&format!("{src}/{wing}"))
        };
        faults.extend(
            wings
                .split(' ')
                .filter(absent)
                .map(|wing| format!("{src}: has no module `{wing}`; take it out of WINGS in tests/tidy.rs")),
        );
    }
    faults
}

fn modules_import_lower_wings(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for import in crates(house).flat_map(|(_, modules)| modules.imports) {
        if let (Some((low, importer)), Some((high, imported))) = (wing(&import.from), wing(&import.to))
            && low < high
        {
            faults.push(format!(
                "{import}, but the wing `{importer}` may not import from the wing `{imported}`, which comes after it \
                 in WINGS of tests/tidy.rs; move what both need below them"
            ));
        }
    }
    faults
}

fn nothing_imports_the_face(house: &House) -> Vec<String> {
    let imports = crates(house).flat_map(|(_, modules)| modules.imports);
    let of_face = imports.filter(|import| is_face(&import.to));
    of_face.map(|import| format!("{import}, the crate's root; import the file that defines it")).collect()
}

fn no_circles(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, modules) in crates(house) {
        faults.extend(modules.circles().iter().map(|circle| {
            let arrows: Vec<String> = circle.iter().map(|import| format!("    {import}")).collect();
            let first = &circle[0].from;
            format!(
                "{first}: is in a circle of imports of the crate {name}; move what ties one of these below both files:\n{}",
                arrows.join("\n")
            )
        }));
    }
    faults
}

fn foreign_crates(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &house.packages {
        let short = package.short();
        let meant = |of: &str| of == short || (of == "*" && !LAPIN_HOMES.contains(&short));
        for (name, for_tests) in &package.dependencies {
            let name = name.as_str();
            let outside = !for_tests && !name.starts_with("novella-");
            let beyond =
                OUTSIDE_ONLY.iter().filter(|(of, only, _)| meant(of) && outside && !only.contains(&name));
            let never = OUTSIDE_NEVER.iter().filter(|(of, never, _)| meant(of) && never.contains(&name));
            faults.extend(beyond.chain(never).map(|(_, _, why)| {
                format!(
                    "{}: {short} may not use {name}: {why}; do without, or do it elsewhere",
                    package.manifest()
                )
            }));
        }
    }
    faults
}

fn lapin_stays_at_home(house: &House) -> Vec<String> {
    let abroad = |place: &str| !LAPIN_PLACES.iter().any(|home| place.starts_with(home));
    let names = house.code().filter(|(place, line)| abroad(place) && has_path(line, "lapin"));
    names.map(|(place, _)| format!("{place}: names lapin; only {} may", LAPIN_PLACES.join(", "))).collect()
}

fn workspace_settings(house: &House) -> Vec<String> {
    let wanted = house.rust_version();
    let mut faults = Vec::new();
    for package in &house.packages {
        let manifest = package.manifest();
        if package.rust_version != wanted {
            let is = &package.rust_version;
            faults.push(format!(
                "{manifest}: rust-version is {is}, the workspace's {wanted}; write rust-version.workspace"
            ));
        }
        let text = house.files.get(&manifest).map_or("", String::as_str);
        if !text.contains("[lints]\nworkspace = true") {
            faults.push(format!(
                "{manifest}: has not the workspace's lints; add [lints] with workspace = true"
            ));
        }
    }
    faults
}

/// Every Rust version that a document, an image or CI names is the one in `Cargo.toml`.
fn versions_agree(house: &House) -> Vec<String> {
    let wanted = house.rust_version();
    let meant = |path: &str| {
        path.ends_with(".md")
            || path.starts_with(".ci/")
            || path.starts_with("scripts/")
            || path == "Dockerfile"
    };
    let mut faults = Vec::new();
    for (place, line) in house.lines(|path| meant(path) && path != "CHANGELOG.md") {
        for mark in ["Rust 1.", "rust:1.", "RUST_VERSION=1.", "toolchain 1.", "rustc 1."] {
            for (at, _) in line.match_indices(mark) {
                let minor: String =
                    line[at + mark.len()..].chars().take_while(char::is_ascii_digit).collect();
                if !minor.is_empty() && format!("1.{minor}") != wanted {
                    faults.push(format!(
                        "{place}: Rust 1.{minor}, but rust-version in Cargo.toml is {wanted}; make them one"
                    ));
                }
            }
        }
    }
    faults
}

fn prologues(house: &House) -> Vec<String> {
    let bare = house.sources().filter(|(_, text)| !text.starts_with("//!"));
    bare.map(|(path, _)| {
        format!("{path}:1: opens without `//!`; say what it is for, what always holds, what it leaves out")
    })
    .collect()
}

fn unfinished_work(house: &House) -> Vec<String> {
    let excepted = |place: &str| UNFINISHED_EXCEPTIONS.iter().any(|(path, _)| place.starts_with(path));
    let mut faults = Vec::new();
    for (place, line) in house.lines(|path| !GENERATED.contains(&path)) {
        let mark = UNFINISHED.iter().find(|mark| has_word(line, mark));
        if let Some(mark) = mark.filter(|_| !excepted(&place)) {
            faults.push(format!("{place}: {mark}; finish it, or open an issue and say what holds today"));
        }
    }
    faults
}

fn portable(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for (place, line) in house.lines(|path| !GENERATED.contains(&path)) {
        for name in NOT_PORTABLE.iter().filter(|name| line.contains(**name)) {
            faults.push(format!(
                "{place}: names {name}, which is one machine's or one registry's; say it without"
            ));
        }
    }
    faults
}

/// What a document names in backticks or links to, and begins like a path of this repository, is there.
fn documented_paths(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in house.files.iter().filter(|(path, _)| path.ends_with(".md")) {
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                let missing = named_paths(line).into_iter().filter(|named| {
                    let beside = Path::new(path).parent().map(|dir| dir.join(named));
                    !house.exists(named)
                        && !beside.is_some_and(|beside| house.exists(&beside.to_string_lossy()))
                });
                faults.extend(missing.map(|named| {
                    format!("{path}:{}: `{named}` is not there; name what is, or take it out", number + 1)
                }));
            }
        }
    }
    faults
}

/// Lines of documents outside of code blocks, each with its path and place.
fn prose(house: &House) -> impl Iterator<Item = (&str, String, &str)> {
    let documents = house.files.iter().filter(|(path, _)| path.ends_with(".md"));
    documents.flat_map(|(path, text)| {
        let mut fenced = false;
        let lines = text.lines().enumerate().filter(move |(_, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fence && !fenced
        });
        lines.map(move |(number, line)| (path.as_str(), format!("{path}:{}", number + 1), line))
    })
}

/// A link to a file leads to one, and to a heading that the file has.
fn links_lead_somewhere(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, place, line) in prose(house) {
        let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.to_owned() } else { resolve(path, file) };
            if !house.exists(&target) {
                faults.push(format!("{place}: the link leads to {target}, which is not there"));
            } else if !heading.is_empty() && !headings(house, &target).any(|known| known == heading) {
                faults.push(format!("{place}: {target} has no heading #{heading}"));
            }
        }
    }
    faults
}

/// The path from the top that a relative link in a document means.
fn resolve(document: &str, link: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors of a document's headings, as GitHub makes them: small letters, digits and hyphens.
fn headings<'h>(house: &'h House, document: &str) -> impl Iterator<Item = String> + use<'h> {
    let text = house.files.get(document).map(String::as_str).unwrap_or_default();
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|at| at.is_alphanumeric() || matches!(at, '-' | '_')).collect()
    })
}

/// A reader can follow the name of another document. Code that is named in backticks is not a document.
fn documents_are_linked(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, place, line) in prose(house) {
        // Quoted pieces at odd positions; a link's text may be quoted too.
        let quoted = line.split('`').skip(1).step_by(2);
        let names = quoted.filter(|word| word.ends_with(".md") && !word.contains(' ') && house.exists(word));
        let unlinked = names.filter(|name| *name != path && !line.contains(&format!("[`{name}`](")));
        faults.extend(unlinked.map(|name| format!("{place}: `{name}` is a document; link to it")));
    }
    faults
}

/// Paths of this repository that a line of Markdown names, up to the first wildcard.
fn named_paths(line: &str) -> Vec<String> {
    let quoted = line.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
    let linked = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let tops: Vec<&str> = TOP.iter().copied().chain(["docs/", "scripts/"]).collect();
    let looks_so = |word: &&str| {
        tops.iter().any(|top| if top.ends_with('/') { word.starts_with(top) } else { word == top })
    };
    let whole = |word: &str| {
        let word = word.split(['*', '{', '<', ':', '#']).next().unwrap_or_default();
        word.trim_end_matches(['/', '.', ',', ';']).to_owned()
    };
    quoted.chain(linked).filter(looks_so).map(whole).filter(|word| !word.is_empty()).collect()
}

fn system_calls(house: &House) -> Vec<String> {
    let excepted = |place: &str| {
        place.starts_with(ENV_HOME) || SYSTEM_CALL_EXCEPTIONS.iter().any(|(part, _)| place.contains(part))
    };
    let mut faults = Vec::new();
    for (place, line) in house.code() {
        let imports_clock = line.contains("std::time::{") && has_word(line, "Instant");
        let call = SYSTEM_CALLS.iter().find(|call| line.contains(**call));
        let call = call.copied().or(imports_clock.then_some(SYSTEM_CALLS[0]));
        if let Some(call) = call.filter(|_| !excepted(&place)) {
            faults.push(format!(
                "{place}: asks the system by {call}; take time, randomness and threads from Env"
            ));
        }
    }
    faults
}

fn select_is_biased(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in house.sources().filter(|(path, _)| !path.starts_with(house::SELF)) {
        for (at, found) in text.match_indices("select! {") {
            if !text[at + found.len()..].trim_start().starts_with("biased;") {
                let line = text[..at].matches('\n').count() + 1;
                faults.push(format!(
                    "{path}:{line}: this select! is not biased; write biased; and the branches in order of weight"
                ));
            }
        }
    }
    faults
}

fn no_static_state(house: &House) -> Vec<String> {
    let cells = ["Mutex", "RwLock", "Atomic", "OnceLock", "LazyLock", "OnceCell", "RefCell"];
    let is_state = |line: &str| {
        let words = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        words.starts_with("thread_local!")
            || words.starts_with("static mut ")
            || (words.starts_with("static ") && cells.iter().any(|cell| line.contains(cell)))
    };
    let found = house.code().filter(|(place, line)| is_state(line) && crate_of(place).is_some());
    found
        .map(|(place, _)| format!("{place}: state is static; keep it in a value that start() makes"))
        .collect()
}

fn shipped_configuration_is_tested(house: &House) -> Vec<String> {
    let read = |path: &str| {
        let is_test = |source: &str| source.contains("/tests/") || source.contains("tests.rs");
        house
            .sources()
            .any(|(source, text)| is_test(source) && text.contains(path) && text.contains("include_str!"))
    };
    let shipped = house.files.keys().filter(|path| path.starts_with("config/") && path.ends_with(".toml"));
    shipped
        .filter(|path| !read(path))
        .map(|path| {
            format!("{path}: no test reads it; check it with novella_service::config::shipped_file_faults")
        })
        .collect()
}

/// The crate's directory that a path is in.
fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}

/// Whether a line has this word: not as part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let inner = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let open = word.starts_with(|c: char| !c.is_alphanumeric());
        let begins = open || !inner(line[..at].chars().next_back());
        let ends = word.ends_with('!') || !inner(line[at + word.len()..].chars().next());
        begins && ends
    })
}

/// Whether a line of code names this crate, in a path or a `use`; in a text it is only a word.
fn has_path(line: &str, name: &str) -> bool {
    let code: String = line.split('"').step_by(2).collect();
    has_word(&code, name) && (code.contains(&format!("{name}::")) || code.contains(&format!("use {name}")))
}
