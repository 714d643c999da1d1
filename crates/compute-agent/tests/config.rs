//! The shipped configuration file says what the settings are, and bad settings are refused with a way out.

use novella_compute_agent::AgentConfig;
use novella_service::config::{Invalid, Sources, load, shipped_file_faults};

fn problems(env: &[(&str, &str)]) -> Vec<String> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    match load::<AgentConfig>(&Sources { env, ..Sources::default() }) {
        Ok(_) => Vec::new(),
        Err(Invalid { problems }) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_shipped_file_lists_every_key_with_unit_and_default() {
    let text = include_str!("../../../config/compute-agent.toml");
    assert_eq!(shipped_file_faults::<AgentConfig>(text), Vec::<String>::new());
}

#[test]
fn bad_settings_are_named_with_a_fix() {
    for (name, value, wanted) in [
        ("NOVELLA_REPORT__PERIODIC_INTERVAL", "30s", "service_down_time must exceed three"),
        ("NOVELLA_ALLOCATION_RATIO__CPU", "-1", "a ratio is a number above 0"),
        ("NOVELLA_DRIVER__NAME", "xen", "there is no such driver"),
        ("NOVELLA_HTTP__LISTEN", "9781", "no address with a port"),
        ("NOVELLA_TRANSPORT_URL", "http://mq1/", "nothing here speaks http://"),
        ("NOVELLA_PLACEMENT__TRAITS", "[\"gold\"]", "is no trait name"),
        (
            "NOVELLA_RESOURCES",
            "{ CUSTOM_GPU = { total = 1, reserved = 2 } }",
            "more is reserved (2) than there is (1)",
        ),
        (
            "NOVELLA_RESOURCES",
            "{ CUSTOM_GPU = { total = 1, allocation_ratio = -1 } }",
            "ratio is a number above 0",
        ),
        ("NOVELLA_DRIVER__OVERRIDES", "{ vcpu = 4 }", "no detected value \"vcpu\""),
        ("NOVELLA_DRIVER__OVERRIDES", "{ vcpus = \"four\" }", "must be a whole number of CPUs"),
    ] {
        let found = problems(&[(name, value)]);
        assert!(
            found.len() == 1 && found[0].contains(wanted) && found[0].contains("fix: "),
            "{name}={value}: {found:?}"
        );
    }
    assert_eq!(problems(&[("NOVELLA_HOST", "h1")]), Vec::<String>::new());
}

#[test]
fn a_password_is_in_no_problem() {
    let found = problems(&[("NOVELLA_TRANSPORT_URL", "rabbit://agent:s3cret@mq:port/")]);
    assert!(!found.is_empty() && !found.iter().any(|p| p.contains("s3cret")), "{found:?}");
}
