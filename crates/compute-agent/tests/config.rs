//! The shipped configuration file says what the settings are, and bad settings are refused with a way out.

use std::path::Path;

use novella_compute_agent::AgentConfig;
use novella_service::config::{Invalid, Sources, load, shipped_file_faults, shipped_table_faults};

fn problems(env: &[(&str, &str)]) -> Vec<String> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    match load::<AgentConfig>(&Sources { env, ..Sources::default() }) {
        Ok(_) => Vec::new(),
        Err(Invalid { problems }) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_shipped_file_is_what_config_example_prints() {
    let text = include_str!("../../../config/compute-agent.toml");
    let command = "cargo run --bin compute-agent -- config example > config/compute-agent.toml";
    assert_eq!(shipped_file_faults::<AgentConfig>(text, command), Vec::<String>::new());
}

#[test]
fn the_table_in_the_documents_is_what_config_explain_prints() {
    let text = include_str!("../../../docs/configuration.md");
    assert_eq!(shipped_table_faults::<AgentConfig>(text, "compute-agent"), Vec::<String>::new());
}

#[test]
fn bad_settings_are_named_with_a_fix() {
    for (name, value, wanted) in [
        ("NOVELLA_REPORT__PERIODIC_INTERVAL", "30s", "service_down_time must exceed three"),
        ("NOVELLA_REPORT__PERIODIC_INTERVAL", "500000000000years", "longer than 365 days"),
        ("NOVELLA_ALLOCATION_RATIO__CPU", "-1", "the ratio must be a number above 0"),
        ("NOVELLA_DRIVER__NAME", "xen", "there is no such driver"),
        (
            "NOVELLA_DRIVER__FAKE__VCPUS",
            "0",
            "driver.fake.vcpus = 0 (env NOVELLA_DRIVER__FAKE__VCPUS): it cannot be 0",
        ),
        ("NOVELLA_DRIVER__FAKE__SPAWN_FAILURE_PERCENT", "101", "it cannot be 101"),
        ("NOVELLA_DRIVER__FAKE__SPAWN_DELAY", "soon", "expected a duration with its unit"),
        ("NOVELLA_DRIVER__FAKE__SPAWN_SCRIPT", "[\"explode\"]", "is not a step of a fake driver"),
        ("NOVELLA_DRIVER__FAKE__POWER_SCRIPT", "[\"reject x\"]", "only a build can be rejected"),
        ("NOVELLA_HTTP__LISTEN", "9781", "not an address with a port"),
        ("NOVELLA_HTTP__LISTEN", "off", "or none to switch it off"),
        ("NOVELLA_HOST", "cmp.*", "letters A to Z, digits"),
        ("NOVELLA_TRANSPORT_URL", "http://mq1/", "unknown scheme http://"),
        ("NOVELLA_PLACEMENT__TRAITS", "[\"gold\"]", "is not a trait name"),
        (
            "NOVELLA_RESOURCES",
            "{ CUSTOM_GPU = { total = 1, reserved = 2 } }",
            "reserved (2) is more than total (1)",
        ),
        (
            "NOVELLA_RESOURCES",
            "{ CUSTOM_GPU = { total = 1, allocation_ratio = -1 } }",
            "ratio must be a number above 0",
        ),
        ("NOVELLA_DRIVER__OVERRIDES", "{ vcpu = 4 }", "no detected value \"vcpu\""),
        ("NOVELLA_DRIVER__OVERRIDES", "{ vcpus = \"four\" }", "must be a whole number of CPUs"),
        ("NOVELLA_MY_IP", "mq1", "not an IP address"),
        ("NOVELLA_COMPUTE_MONITORS", "[\"cpu\"]", "there is no monitor \"cpu\""),
        ("NOVELLA_COMPUTE__CPU_SHARED_SET", "0-3;5", "\"0-3;5\" is not a CPU number"),
        ("NOVELLA_COMPUTE__CPU_SHARED_SET", "7-4", "ends before it begins"),
        ("NOVELLA_COMPUTE__CPU_DEDICATED_SET", "3,^3", "the set is empty"),
        ("NOVELLA_COMPUTE__CPU_DEDICATED_SET", "70000", "beyond the largest"),
        ("NOVELLA_NEUTRON__PHYSNETS", "{ physnet0 = [] }", "needs a name and at least one NUMA node"),
        (
            "NOVELLA_RESERVED__HUGE_PAGES",
            "[{node=0,size=\"2M\",count=1},{node=0,size=\"2048K\",count=2}]",
            "pages of 2M on node 0 are listed twice",
        ),
        (
            "NOVELLA_PCI__DEVICE_SPEC",
            "[{vendor=\"8086\"}]",
            "entry 1: \"vendor\" is unknown, but similar to vendor_id",
        ),
        ("NOVELLA_PCI__DEVICE_SPEC", "[{physical_net=\"p\"}]", "similar to physical_network"),
        (
            "NOVELLA_PCI__DEVICE_SPEC",
            "[{},{vendor_id=\"80866\"}]",
            "entry 2: vendor_id is not a device number",
        ),
        ("NOVELLA_PCI__DEVICE_SPEC", "[{address=\"0000:00:20.0\"}]", "is not a PCI address"),
        ("NOVELLA_PCI__DEVICE_SPEC", "[{address={bus=\"02\"}}]", "is not a PCI address"),
        ("NOVELLA_PCI__DEVICE_SPEC", "[{devname=\"eth0\"}]", "devname cannot be used"),
        (
            "NOVELLA_PCI__DEVICE_SPEC",
            "[{resource_class=\"CUSTOM_X\"}]",
            "novella does not put devices into Placement",
        ),
        ("NOVELLA_PCI__DEVICE_SPEC", "[{remote_managed=true}]", "serial numbers"),
        ("NOVELLA_PCI__DEVICE_SPEC", "[{numa_node=\"1\"}]", "numa_node is detected"),
        ("NOVELLA_PCI__DEVICE_SPEC", "[{managed=\"perhaps\"}]", "managed must be true or false"),
        ("NOVELLA_PCI__DEVICE_SPEC", "[{rack=7}]", "rack must be a string, not 7"),
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
fn the_fake_host_behaves_as_its_settings_say() {
    let sets = [
        ("NOVELLA_DRIVER__FAKE__IMAGES", "[\"cirros\"]"),
        ("NOVELLA_DRIVER__FAKE__SPAWN_DELAY", "1500ms"),
        ("NOVELLA_DRIVER__FAKE__SPAWN_FAILURE_PERCENT", "20"),
        ("NOVELLA_DRIVER__FAKE__SEED", "7"),
        ("NOVELLA_DRIVER__FAKE__SCRIPT", "[\"delay 5\"]"),
        ("NOVELLA_DRIVER__FAKE__SPAWN_SCRIPT", "[\"reject no\", \"fail no\"]"),
        ("NOVELLA_DRIVER__FAKE__DESTROY_SCRIPT", "[\"hang\"]"),
        ("NOVELLA_DRIVER__FAKE__POWER_SCRIPT", "[\"ok\"]"),
    ];
    let env = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    let fake =
        load::<AgentConfig>(&Sources { env, ..Sources::default() }).unwrap().config.driver.fake.sized();
    assert_eq!((fake.images, fake.spawn_delay_ms), (vec!["cirros".to_owned()], 1_500));
    assert_eq!((fake.spawn_failure_percent, fake.seed), (20, 7));
    let steps = [fake.script, fake.spawn_script, fake.destroy_script, fake.power_script].concat();
    let written: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["delay 5", "reject no", "fail no", "hang", "ok"]);
}

#[test]
fn settings_that_contradict_each_other_are_named_together() {
    let sets = [("NOVELLA_COMPUTE__CPU_SHARED_SET", "0-3"), ("NOVELLA_COMPUTE__CPU_DEDICATED_SET", "2-7")];
    let [found] = &problems(&sets)[..] else { panic!("one problem") };
    assert!(found.contains("CPUs 2-3 are in both sets"), "{found}");
    assert!(
        found.contains("cpu_shared_set") && found.contains("env NOVELLA_COMPUTE__CPU_DEDICATED_SET"),
        "{found}"
    );
    let [found] = &problems(&[sets[0], ("NOVELLA_DRIVER__OVERRIDES", "{ vcpus = 3 }")])[..] else {
        panic!("one problem")
    };
    assert!(found.contains("remove vcpus from the overrides"), "{found}");
}

#[test]
fn a_password_is_in_no_problem() {
    let found = problems(&[("NOVELLA_TRANSPORT_URL", "rabbit://agent:s3cret@mq:port/")]);
    assert!(!found.is_empty() && !found.iter().any(|p| p.contains("s3cret")), "{found:?}");
}

#[test]
fn the_list_for_the_shipped_users_is_the_same_in_the_file_and_in_compose() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/rabbitmq/compute-agent.toml");
    let of_file = load::<AgentConfig>(&Sources { files: vec![file], ..Sources::default() }).unwrap().config;
    assert_eq!(of_file.rpc.accept_commands_from, ["scheduler"]);
    let compose = include_str!("../../../docker-compose.yml");
    assert!(compose.contains("NOVELLA_RPC__ACCEPT_COMMANDS_FROM: scheduler\n"));
}
