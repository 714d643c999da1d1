//! Layering, refusals and listings, on a small settings struct that has every kind of key.

use std::{collections::BTreeMap, ffi::OsString, fs, path::PathBuf, time::Duration};

use super::*;

crate::settings! {
    /// Settings of an example.
    struct Example {
        /// The name of this host; its own host name without this.
        host: Option<String> = None, "name", example = "\"compute-1\"";
        /// Where the message bus is.
        transport_url: String = "rabbit://localhost:5672/".into(), "URL", secret = true;
        /// Any facts.
        facts: BTreeMap<String, String> = BTreeMap::new(), "table", example = "{ rack = \"a1\" }";
        /// Traits of this host.
        traits: Vec<String> = Vec::new(), "list";
        section scheduler: Timers;
    }
}

crate::settings! {
    /// Settings in a section.
    struct Timers {
        /// How long a host may be silent.
        service_down_time: Duration as "duration" = Duration::from_secs(60);
        /// How often a host reports.
        ///
        /// Hosts that report more often are noticed sooner
        /// when they are gone.
        host_state_interval: Duration as "duration" = Duration::from_secs(10);
        /// The most hosts.
        max_hosts: u32 = 1000, "count";
        /// Allocation | ratio.
        ratio: f64 = 1.5, "ratio";
        /// Kept back.
        reserved: Size = "512M".parse().unwrap(), "size";
        /// Whether it runs.
        enabled: bool = true, "true or false";
    }
}

impl Settings for Example {
    fn validate(&self) -> Vec<Problem> {
        let section = &self.scheduler;
        let least = section.host_state_interval * 3;
        let mut problems = Vec::new();
        if section.service_down_time <= least {
            problems.push(Problem::new(
                &["scheduler.service_down_time", "scheduler.host_state_interval"],
                "a host would be down after three lost reports",
                format!("raise service_down_time above {}", humantime::format_duration(least)),
            ));
        }
        if self.transport_url.is_empty() {
            problems.push(Problem::new(&["transport_url"], "there is no bus", "set it"));
        }
        problems
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn add(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, OsString)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

fn refused(sources: &Sources) -> Vec<String> {
    load::<Example>(sources).unwrap_err().problems.iter().map(Problem::to_string).collect()
}

fn refused_file(content: impl AsRef<[u8]>) -> Vec<String> {
    let files = Files::new();
    let path = files.add("x.toml", content);
    let dir = format!("{}/", files.0.path().display());
    let problems = refused(&Sources { files: vec![path], ..Sources::default() });
    problems.into_iter().map(|text| text.replace(&dir, "")).collect()
}

#[test]
fn nothing_set_is_the_default() {
    let loaded = load::<Example>(&Sources::default()).unwrap();
    assert_eq!(loaded.config, Example::default());
    assert!(loaded.origins.values().all(|origins| *origins == [Origin::Default]));
    assert_eq!(loaded.origins.len(), Example::declared().len());
}

#[test]
fn later_layers_win_and_each_value_knows_its_origin() {
    let files = Files::new();
    let first = files.add(
        "a.toml",
        "host = \"a\"\n[facts]\nrack = \"r1\"\nrow = \"1\"\n\n[scheduler]\nservice_down_time = \"50s\"\nmax_hosts = 7\nratio = 2\n",
    );
    let second = files.add("b.toml", "host = \"b\"\nfacts.rack = \"r2\"\nscheduler.max_hosts = 8\n");
    let sources = Sources {
        files: vec![first.clone(), second.clone()],
        env: env(&[
            ("NOVELLA_SCHEDULER__MAX_HOSTS", "9"),
            ("NOVELLA_SCHEDULER__RESERVED", "1G"),
            ("NOVELLA_SCHEDULER__ENABLED", "false"),
            ("NOVELLA_TRAITS", "SSD, GPU"),
            ("NOVELLA_HOST", ""),
            ("PATH", "/bin"),
        ]),
        overrides: Vec::new(),
    }
    .set("scheduler.max_hosts", "--max-hosts", Some(10))
    .set("host", "--host", None::<String>);
    let loaded = load::<Example>(&sources).unwrap();

    let config = loaded.config;
    assert_eq!(config.host.as_deref(), Some("b"), "a later file wins, an empty variable says nothing");
    assert_eq!(config.facts, BTreeMap::from([("rack".into(), "r2".into()), ("row".into(), "1".into())]));
    assert_eq!(config.traits, ["SSD", "GPU"]);
    let expected = Timers {
        service_down_time: Duration::from_secs(50),
        max_hosts: 10,
        ratio: 2.0,
        reserved: "1G".parse().unwrap(),
        enabled: false,
        ..Timers::default()
    };
    assert_eq!(config.scheduler, expected);

    let file = |path: &PathBuf, line| Origin::File { path: path.clone(), line };
    assert_eq!(loaded.origins["host"], [file(&second, 1)]);
    assert_eq!(loaded.origins["facts"], [file(&first, 2), file(&second, 2)]);
    assert_eq!(loaded.origins["scheduler.service_down_time"], [file(&first, 7)]);
    assert_eq!(loaded.origins["scheduler.max_hosts"], [Origin::CommandLine("--max-hosts")]);
    assert_eq!(loaded.origins["scheduler.reserved"], [Origin::Env("NOVELLA_SCHEDULER__RESERVED".into())]);
    assert_eq!(loaded.origins["scheduler.host_state_interval"], [Origin::Default]);
}

#[test]
fn a_text_key_takes_a_number_from_the_environment_and_a_number_key_does_not_take_text() {
    let sources = |pairs: &[(&str, &str)]| Sources { env: env(pairs), ..Sources::default() };
    assert_eq!(
        load::<Example>(&sources(&[("NOVELLA_HOST", "17")])).unwrap().config.host.as_deref(),
        Some("17")
    );
    let facts = load::<Example>(&sources(&[("NOVELLA_FACTS", "{ rack = \"r9\" }")])).unwrap().config.facts;
    assert_eq!(facts["rack"], "r9");
    assert_eq!(
        refused(&sources(&[("NOVELLA_SCHEDULER__MAX_HOSTS", "many")])),
        [
            "env NOVELLA_SCHEDULER__MAX_HOSTS: scheduler.max_hosts: invalid type: string \"many\", expected a whole \
          number of 0 or more in range\n    fix: write for example max_hosts = 1000, which is the default (unit: count)"
        ]
    );
    // A value of the right type that is refused is told by that, and not by the type of its text.
    let [found] = &refused(&sources(&[("NOVELLA_SCHEDULER__MAX_HOSTS", "70000000000")]))[..] else {
        panic!("one problem")
    };
    assert!(
        found.contains("max_hosts: invalid value: integer `70000000000`, expected a whole number"),
        "{found}"
    );
}

#[test]
fn unknown_keys_are_refused_with_the_one_that_was_meant() {
    let problems =
        refused_file("[scheduler]\nservce_down_time = \"60s\"\n[shceduler]\nx = 1\n[else]\nzzz = 1\n");
    assert_eq!(
        problems[0],
        "file x.toml:2: scheduler.servce_down_time: there is no such key\n    fix: did you mean scheduler.service_down_time?"
    );
    assert_eq!(
        problems[1],
        "file x.toml:3: shceduler: there is no such section\n    fix: did you mean [scheduler]?"
    );
    assert_eq!(
        problems[2],
        "file x.toml:5: else: there is no such section\n    fix: remove it; `config explain` lists every key"
    );
    let table = refused_file("[fact]\nrack = \"a1\"\n");
    assert!(table[0].ends_with("there is no such section\n    fix: did you mean facts?"), "{table:?}");
    let dotted = refused_file("schedler.max_hosts = 3\n");
    assert!(dotted[0].ends_with("did you mean [scheduler]?"), "{dotted:?}");
    let wrong_section = refused_file("service_down_time = \"60s\"\n");
    assert!(wrong_section[0].ends_with("did you mean scheduler.service_down_time?"), "{wrong_section:?}");
}

#[test]
fn a_password_that_everybody_can_read_is_warned_of_once() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("novella.toml");
    let warnings = |text: &str, mode| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let sources = Sources { files: vec![path.clone()], ..Sources::default() };
        load::<Example>(&sources).unwrap().warnings
    };
    let with = "transport_url = \"rabbit://agent:s3cret@mq/\"";
    let told = warnings(with, 0o644);
    let [warning] = told.as_slice() else { panic!("{told:?}") };
    let next = format!("run `chmod o-r {}`", path.display());
    assert!(warning.contains("transport_url") && warning.contains(&next), "{warning}");
    assert!(!warning.contains("s3cret"), "{warning}");
    assert!(warnings(with, 0o640).is_empty());
    assert!(warnings("transport_url = \"rabbit://mq/\"\nhost = \"a\"", 0o644).is_empty());
}

#[test]
fn unknown_variables_are_only_warned_about() {
    let warnings = |name| {
        let sources = Sources { env: env(&[(name, "1")]), ..Sources::default() };
        load::<Example>(&sources).unwrap().warnings
    };
    assert_eq!(
        warnings("NOVELLA_SCHEDULER__MAX_HOST"),
        [
            "environment variable NOVELLA_SCHEDULER__MAX_HOST sets nothing; did you mean NOVELLA_SCHEDULER__MAX_HOSTS?"
        ]
    );
    for misspelt in
        ["NOVELLA_SHCEDULER__MAX_HOSTS", "NOVELLA_SCHEDULER_MAX_HOSTS", "NOVELLA_SCHEDULING__MAX_HOSTS"]
    {
        let wanted = format!(
            "environment variable {misspelt} sets nothing; did you mean NOVELLA_SCHEDULER__MAX_HOSTS?"
        );
        assert_eq!(warnings(misspelt), [wanted]);
    }
    assert_eq!(
        warnings("NOVELLA_AGENT__DRIVER"),
        ["environment variable NOVELLA_AGENT__DRIVER sets nothing in this program"]
    );
    assert!(warnings("NOVELLA_PORT_80_TCP").is_empty());
}

#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(b"caf\xe9".to_vec());
    let sources = Sources { env: vec![("NOVELLA_HOST".to_owned(), value)], ..Sources::default() };
    assert!(refused(&sources)[0].starts_with("env NOVELLA_HOST: the value is not UTF-8"));
}

#[test]
fn free_keys_are_kept_as_they_are_written() {
    let files = Files::new();
    let path = files.add("x.toml", "[facts]\n\"Rack.A b\" = \"x\"\nUPPER = \"y\"\n");
    let facts = load::<Example>(&Sources { files: vec![path], ..Sources::default() }).unwrap().config.facts;
    assert_eq!(facts, BTreeMap::from([("Rack.A b".into(), "x".into()), ("UPPER".into(), "y".into())]));
}

#[test]
fn a_wrong_type_names_file_key_expectation_and_an_example() {
    let problem = |content: &str| refused_file(content).remove(0);
    assert_eq!(
        problem("scheduler.service_down_time = 60"),
        "file x.toml:1: scheduler.service_down_time: invalid type: integer `60`, expected a duration with its unit, \
         such as \"10s\", \"500ms\" or \"1m 30s\"\n    fix: write for example service_down_time = \"1m\", which is the \
         default (unit: duration)"
    );
    assert!(
        problem("scheduler.max_hosts = -1").contains("integer `-1`, expected a whole number of 0 or more")
    );
    assert!(
        problem("scheduler.max_hosts = 4294967296").contains("expected a whole number of 0 or more in range")
    );
    assert!(problem("scheduler.max_hosts = \"8\"").contains("string \"8\", expected a whole number"));
    assert!(problem("scheduler.ratio = nan").contains("NaN is not a finite number"));
    assert!(
        problem("scheduler.reserved = \"512\"").contains("expected a size with its unit, such as \"512M\"")
    );
    assert!(problem("scheduler.enabled = \"yes\"").contains("expected a boolean"));
    assert!(problem("scheduler = 3").contains("expected a section, found a integer"));
    assert!(problem("host = 3").ends_with("fix: write for example host = \"compute-1\" (unit: name)"));
}

#[test]
fn every_problem_of_every_source_is_reported_at_once() {
    let files = Files::new();
    let path = files.add("x.toml", "nope = 1\n[scheduler]\nmax_hosts = \"x\"\nservice_down_time = \"20s\"\n");
    let sources = Sources {
        files: vec![path.clone()],
        env: env(&[("NOVELLA_SCHEDULER__RATIO", "high")]),
        overrides: Vec::new(),
    };
    let problems = refused(&sources);
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert_eq!(
        problems[3],
        format!(
            "scheduler.service_down_time = \"20s\" (file {}:4), scheduler.host_state_interval = \"10s\" (default): a \
             host would be down after three lost reports\n    fix: raise service_down_time above 30s",
            path.display()
        )
    );
    let text = load::<Example>(&sources).unwrap_err().to_string();
    assert!(text.starts_with("the configuration has 4 problems\n  "), "{text}");
}

#[test]
fn no_check_between_keys_guesses_about_a_refused_value() {
    let problems = refused_file("[scheduler]\nservice_down_time = \"20s\"\nhost_state_interval = 1\n");
    assert_eq!(problems.len(), 1, "{problems:#?}");
}

#[test]
fn a_file_that_cannot_be_read_says_where_and_what_next() {
    let files = Files::new();
    let missing = files.0.path().join("missing.toml");
    let sources = Sources { files: vec![missing.clone(), files.0.path().to_owned()], ..Sources::default() };
    let problems = refused(&sources);
    let start =
        format!("{}: cannot read the file: No such file or directory (os error 2)", missing.display());
    assert!(problems[0].starts_with(&start) && problems[0].contains("check the path given with --config"));
    assert!(problems[1].contains("name a file in it"), "{problems:?}");

    assert_eq!(
        refused_file(b"host = \"a\"\n# caf\xe9\n"),
        ["x.toml:2: the file is not UTF-8\n    fix: save the file as UTF-8"]
    );
    let syntax = refused_file("host = \"a\"\n\ntransport_url = rabbit://u:s3cret@mq\n").remove(0);
    assert!(syntax.starts_with("x.toml:3: not valid TOML: "), "{syntax}");
    assert!(!syntax.contains("s3cret"), "{syntax}");
    assert!(
        refused_file("host = \"a\"\nhost = \"b\"\n")[0]
            .starts_with("x.toml:2: not valid TOML: duplicate key")
    );
}

#[test]
fn a_secret_is_shown_nowhere() {
    let files = Files::new();
    let path = files.add("x.toml", "transport_url = \"rabbit://nova:s3cret@mq:5672/v\"\n");
    let sources = Sources { files: vec![path], ..Sources::default() };
    for format in [ExplainFormat::Table, ExplainFormat::Json] {
        let (code, out, _) = run(&explain(&[], format), &sources);
        assert_eq!(code, 0);
        assert!(out.contains("rabbit://nova:***@mq:5672/v") && !out.contains("s3cret"), "{out}");
    }
    let wrong = refused_file("transport_url = [\"rabbit://nova:s3cret@mq\"]\n");
    assert!(wrong[0].contains("transport_url") && !wrong[0].contains("s3cret"), "{wrong:?}");
}

fn run(command: &ConfigCommand, sources: &Sources) -> (u8, String, String) {
    run_for::<Example>(command, sources)
}

fn run_for<T: Settings>(command: &ConfigCommand, sources: &Sources) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = command.run::<T>(sources, &mut out, &mut err).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn explain(keys: &[&str], format: ExplainFormat) -> ConfigCommand {
    ConfigCommand::Explain { keys: keys.iter().map(|key| (*key).to_owned()).collect(), format }
}

#[test]
fn explain_lists_value_unit_default_and_origin() {
    let sources = Sources { env: env(&[("NOVELLA_SCHEDULER__MAX_HOSTS", "9")]), ..Sources::default() };
    let (code, out, _) = run(&explain(&["scheduler"], ExplainFormat::Table), &sources);
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 7);
    let words: Vec<&str> = lines[3].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(words, ["scheduler.max_hosts", "9", "count", "1000", "env NOVELLA_SCHEDULER__MAX_HOSTS"]);

    let (_, out, _) = run(&explain(&["scheduler.max_hosts"], ExplainFormat::Table), &sources);
    assert!(out.contains("env      NOVELLA_SCHEDULER__MAX_HOSTS\n\nThe most hosts.\n"), "{out}");

    let (_, out, _) = run(&explain(&[], ExplainFormat::Json), &sources);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.len(), Example::declared().len());
    let row = rows.iter().find(|row| row["key"] == "scheduler.max_hosts").unwrap();
    assert_eq!((&row["value"], &row["default"], &row["unit"]), (&9.into(), &1000.into(), &"count".into()));

    let (code, _, err) = run(&explain(&["schedler"], ExplainFormat::Table), &sources);
    assert_eq!((code, err.lines().last()), (4, Some("next: did you mean scheduler?")));
    let (code, _, err) = run(&explain(&["host", "scheduler.max_host"], ExplainFormat::Table), &sources);
    assert_eq!((code, err.lines().last()), (4, Some("next: did you mean scheduler.max_hosts?")));
}

const TABLE: &str = "\
| setting | default | unit | meaning |
|---|---|---|---|
| `traits` | none | list | Traits of this host. |
| `scheduler.host_state_interval` | `\"10s\"` | duration | How often a host reports. |
| `scheduler.ratio` | `1.5` | ratio | Allocation \\| ratio. |
";

#[test]
fn a_table_for_documents_does_not_depend_on_what_is_set() {
    let sources = Sources { env: env(&[("NOVELLA_SCHEDULER__RATIO", "wrong")]), ..Sources::default() };
    let keys = ["scheduler.ratio", "traits", "scheduler.host_state_interval"];
    let (code, out, err) = run(&explain(&keys, ExplainFormat::Markdown), &sources);
    assert_eq!((code, out.as_str(), err.as_str()), (0, TABLE, ""));
}

#[test]
fn a_table_in_a_document_must_be_the_one_that_its_comment_prints() {
    let comment =
        "<!-- example config explain -f markdown traits scheduler.host_state_interval scheduler.ratio -->";
    let faults = |document: &str| shipped_table_faults::<Example>(document, "example");
    let document = format!("# Settings\n\n{comment}\n{TABLE}\nMore.\n");
    assert_eq!(faults(&document), Vec::<String>::new());
    let found = faults(&document.replace("| Traits of this host. |", "| Traits. |"));
    assert!(found[0].starts_with("line 3: replace the table") && found[0].ends_with(TABLE), "{found:?}");
    assert_eq!(faults(&document.replace(" traits", " trait")), ["line 3: there is no key trait"]);
    assert!(faults("").concat().starts_with("there is no table below"));
}

#[test]
fn check_reports_on_the_right_stream_with_the_right_code() {
    let check = |format| ConfigCommand::Check { format };
    let good = Sources { env: env(&[("NOVELLA_HOST", "x")]), ..Sources::default() };
    let (code, out, err) = run(&check(OutputFormat::Table), &good);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "the configuration is valid; 1 of 10 keys are set\n", "")
    );

    let bad = Sources { env: env(&[("NOVELLA_SCHEDULER__RATIO", "x")]), ..Sources::default() };
    let (code, out, err) = run(&check(OutputFormat::Table), &bad);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.starts_with("error: the configuration has 1 problem\n  env NOVELLA_SCHEDULER__RATIO: "),
        "{err}"
    );
    let (code, out, _) = run(&check(OutputFormat::Json), &bad);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &answer["valid"], &answer["problems"][0]["keys"][0]),
        (2, &false.into(), &"scheduler.ratio".into())
    );

    let doubtful = Sources { env: env(&[("NOVELLA_HOTS", "x")]), ..Sources::default() };
    let (code, _, err) = run(&check(OutputFormat::Table), &doubtful);
    assert!(code == 0 && err.starts_with("warning: ") && err.contains("NOVELLA_HOST?"), "{err}");
    let (code, out, err) = run(&check(OutputFormat::Json), &doubtful);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str()), (0, ""), "a warning is in the document alone");
    assert!(answer["warnings"][0].as_str().unwrap().contains("NOVELLA_HOST?"), "{out}");
}

const SHIPPED: &str = r#"# Settings of an example.
# This file lists every setting with its unit and default. Remove the # in front of a setting to change it.
# A later --config file, the environment (NOVELLA_SECTION__KEY) and the command line override this file.
# The subcommand `config explain` shows each value in force and where it comes from.

# The name of this host; its own host name without this.
# Unit: name. Default: none.
#host = "compute-1"

# Where the message bus is.
# Unit: URL. Default: "rabbit://localhost:5672/".
#transport_url = "rabbit://localhost:5672/"

# Any facts.
# Unit: table. Default: none.
#facts = { rack = "a1" }

# Traits of this host.
# Unit: list. Default: none.
#traits = []

[scheduler]
# How long a host may be silent.
# Unit: duration. Default: "1m".
#service_down_time = "1m"

# How often a host reports.
# Hosts that report more often are noticed sooner when they are gone.
# Unit: duration. Default: "10s".
#host_state_interval = "10s"

# The most hosts.
# Unit: count. Default: 1000.
#max_hosts = 1000

# Allocation | ratio.
# Unit: ratio. Default: 1.5.
#ratio = 1.5

# Kept back.
# Unit: size. Default: "512M".
#reserved = "512M"

# Whether it runs.
# Unit: true or false. Default: true.
#enabled = true
"#;

#[test]
fn the_example_file_is_made_of_the_declarations_and_changes_nothing() {
    let (code, out, _) = run(&ConfigCommand::Example, &Sources::default());
    assert_eq!((code, out.as_str()), (0, SHIPPED));
    assert_eq!(shipped_file_faults::<Example>(SHIPPED, "x"), Vec::<String>::new());
    let files = Files::new();
    let sources = Sources { files: vec![files.add("x.toml", SHIPPED)], ..Sources::default() };
    assert_eq!(load::<Example>(&sources).unwrap().config, Example::default());
    assert_eq!(
        shipped_file_faults::<Example>(&SHIPPED.replace("#ratio = 1.5", "#ratio = 2"), "program > file"),
        [
            "line 38 is \"#ratio = 2\", but the declarations give \"#ratio = 1.5\"; rewrite the file: program > file"
        ]
    );
    let short = &SHIPPED[..SHIPPED.len() - "#enabled = true\n".len()];
    assert!(
        shipped_file_faults::<Example>(short, "x")[0].starts_with("line 46 is \"(the end of the file)\"")
    );
}

#[test]
fn an_example_that_the_settings_would_refuse_is_a_fault() {
    crate::settings! {
        /// Settings with a wrong example.
        struct Wrong {
            /// The most hosts.
            max_hosts: u32 = 1, "count", example = "\"many\"";
        }
    }
    impl Settings for Wrong {
        fn validate(&self) -> Vec<Problem> {
            Vec::new()
        }
    }
    let (_, shipped, _) = run_for::<Wrong>(&ConfigCommand::Example, &Sources::default());
    let faults = shipped_file_faults::<Wrong>(&shipped, "x");
    assert!(faults[0].starts_with("with every setting in force: ") && faults.len() == 1, "{faults:?}");
}
