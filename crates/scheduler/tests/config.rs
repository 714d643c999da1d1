//! The shipped configuration file says what the settings are, and bad settings are refused with a way out.

use std::path::Path;

use novella_scheduler::SchedulerConfig;
use novella_service::config::{Invalid, Sources, load, shipped_file_faults, shipped_table_faults};

#[test]
fn the_shipped_file_is_what_config_example_prints() {
    let text = include_str!("../../../config/scheduler.toml");
    let command = "cargo run --bin scheduler -- config example > config/scheduler.toml";
    assert_eq!(shipped_file_faults::<SchedulerConfig>(text, command), Vec::<String>::new());
}

#[test]
fn the_table_in_the_documents_is_what_config_explain_prints() {
    let text = include_str!("../../../docs/configuration.md");
    assert_eq!(shipped_table_faults::<SchedulerConfig>(text, "scheduler"), Vec::<String>::new());
}

#[test]
fn bad_settings_are_named_with_a_fix() {
    for (name, value, wanted) in [
        ("NOVELLA_REPORTS__SERVICE_DOWN_TIME", "20s", "service_down_time must exceed three"),
        ("NOVELLA_REPORTS__FORGET_AFTER", "30s", "removed from the map before it is down"),
        ("NOVELLA_REPORTS__ANSWER_WINDOW", "10s", "shorter than the time between two reports"),
        ("NOVELLA_RESERVATIONS__MAX_HOLD", "1s", "longer than the longest hold that is allowed"),
        ("NOVELLA_FILTER_SCHEDULER__ENABLED_FILTERS", "[\"RamFiler\"]", "there is no filter \"RamFiler\""),
        (
            "NOVELLA_FILTER_SCHEDULER__RAM_WEIGHT_MULTIPLIER",
            "1e300",
            "a multiplier must be 0, or have an absolute value",
        ),
        ("NOVELLA_REPORTS__MAX_HOSTS", "0", "at least 1"),
        ("NOVELLA_REPORTS__FORGET_AFTER", "9999999years", "longer than 365 days"),
        ("NOVELLA_FILTER_SCHEDULER__ALTERNATES", "4000000000", "at most 32 alternates"),
        ("NOVELLA_NOVA__CELL_UUID", "cell1", "\"cell1\" is not a UUID"),
        ("NOVELLA_RESERVATIONS__RESERVATION_TTL", "0s", "too short to be meant"),
    ] {
        let sources = Sources { env: vec![(name.to_owned(), value.into())], ..Sources::default() };
        let Err(Invalid { problems }) = load::<SchedulerConfig>(&sources) else {
            panic!("{name}={value} was taken")
        };
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            found.len() == 1 && found[0].contains(wanted) && found[0].contains("fix: "),
            "{name}={value}: {found:?}"
        );
    }
}

#[test]
fn a_policy_that_is_set_twice_is_refused() {
    let env = |name: &str, value: &str| (name.to_owned(), value.into());
    let file = env("NOVELLA_POLICY_FILE", "/etc/novella/policy.toml");
    let alone = Sources { env: vec![file.clone()], ..Sources::default() };
    assert_eq!(load::<SchedulerConfig>(&alone).unwrap().config.policy_file, "/etc/novella/policy.toml");
    let subset = env("NOVELLA_FILTER_SCHEDULER__HOST_SUBSET_SIZE", "3");
    let twice = Sources { env: vec![file, subset], ..Sources::default() };
    let problems = load::<SchedulerConfig>(&twice).unwrap_err().to_string();
    assert!(
        problems.contains("the policy is set twice") && problems.contains("/etc/novella/policy.toml"),
        "{problems}"
    );
}

#[test]
fn the_lists_for_the_shipped_users_are_the_same_in_the_file_and_in_compose() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/rabbitmq/scheduler.toml");
    let of_file = Sources { files: vec![file], ..Sources::default() };
    let of_file = load::<SchedulerConfig>(&of_file).unwrap().config.authority;
    assert_ne!(of_file, SchedulerConfig::default().authority);
    let compose = include_str!("../../../docker-compose.yml");
    let lines = compose.lines().filter_map(|line| line.trim().split_once(": "));
    let lists = lines.filter(|(name, _)| name.starts_with("NOVELLA_AUTHORITY__"));
    let env = lists.map(|(name, users)| (name.to_owned(), users.into())).collect();
    let of_compose =
        load::<SchedulerConfig>(&Sources { env, ..Sources::default() }).unwrap().config.authority;
    assert_eq!(of_file, of_compose);
}

#[test]
fn a_list_names_users_or_the_beginning_of_names() {
    for (users, wanted) in
        [("agent,operator", None), ("agent-*", None), ("*", Some("\"*\"")), ("a*b", Some("\"a*b\""))]
    {
        let env = vec![("NOVELLA_AUTHORITY__READ".to_owned(), users.into())];
        let problems = load::<SchedulerConfig>(&Sources { env, ..Sources::default() }).err();
        let problems = problems.map(|problems| problems.to_string());
        match (wanted, &problems) {
            (None, problems) => assert_eq!(*problems, None, "{users}"),
            (Some(name), Some(problems)) => {
                assert!(problems.contains(&format!("{name} names no broker user")), "{problems}");
                assert!(problems.contains("authority.read"), "{problems}");
            }
            (Some(_), None) => panic!("{users} was taken"),
        }
    }
}

#[test]
fn a_misspelt_section_is_not_taken_for_a_key_of_another_one() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let file = dir.path().join("scheduler.toml");
    // There is a key authority.report.
    std::fs::write(&file, "[report]\nmax_hosts = 7\n").expect("it can be written");
    let sources = Sources { files: vec![file], ..Sources::default() };
    let Err(Invalid { problems }) = load::<SchedulerConfig>(&sources) else { panic!("it is refused") };
    assert_eq!(problems[0].fix, "did you mean [reports]?");
}
