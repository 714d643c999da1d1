//! The policy file: the shipped file says what the options are, a text is accepted or refused as a whole, and hosts get
//! their aggregates.

use novella_filter_scheduler::{FilterKind, OnFilterError, SchedulerOptions, WeigherKind};
use novella_host_manager::{BadPolicy, HostFacts, POLICY_KEYS, PolicyFile, pci_requests};
use novella_objects::document::PciRequest;
use novella_objects::{Flavor, Image, PolicyProblem};
use serde_json::{Value as Json, json};

const SHIPPED: &str = include_str!("../../../config/policy.toml");

/// The setting that a line comments out. Nothing is between `#` and the name.
fn setting(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('#')?;
    let name = rest.split('=').next().unwrap_or(rest).trim_end();
    let is_key = rest.contains('=')
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_key || rest.starts_with('[')).then_some(rest)
}

fn problems(text: &str) -> Vec<String> {
    let BadPolicy { problems } = PolicyFile::parse(text).expect_err("it is wrong");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_shipped_file_changes_nothing_as_it_is() {
    assert_eq!(PolicyFile::parse(SHIPPED), Ok(PolicyFile::default()));
}

#[test]
fn the_shipped_file_shows_every_key_with_unit_and_default() {
    let mut section = "";
    let mut comment = String::new();
    let mut seen = Vec::new();
    for line in SHIPPED.lines() {
        let set = setting(line).unwrap_or(line);
        if let Some(name) = set.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((name, value)) = setting(line).and_then(|set| set.split_once(" = ")) {
            let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            assert!(comment.contains("Unit: ") && comment.contains("Default: "), "{key}: {comment}");
            if let Some(known) = POLICY_KEYS.iter().find(|known| known.key == key) {
                let default = known.default_value();
                assert!(comment.contains(known.doc), "{key}: the comment is not {:?}", known.doc);
                assert!(comment.contains(&format!("Unit: {}.", known.unit)), "{key}: {comment}");
                if default.is_null() {
                    assert!(comment.contains("Default: none."), "{key}: {comment}");
                } else {
                    let shown: Json = serde_json::from_str(value).unwrap();
                    assert_eq!(shown, default, "{key}");
                    assert!(comment.contains(&format!("Default: {value}.")), "{key}: {comment}");
                }
                seen.push(known.key);
            }
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
            continue;
        }
        comment.clear();
    }
    let all: Vec<_> = POLICY_KEYS.iter().map(|known| known.key).collect();
    assert_eq!(seen, all);
}

#[test]
fn everything_that_the_shipped_file_shows_is_taken() {
    let lines: Vec<_> = SHIPPED.lines().map(|line| setting(line).unwrap_or(line)).collect();
    let filters = "\"ComputeCapabilitiesFilter\"]";
    let text = lines.join("\n").replace(
        filters,
        "\"ComputeCapabilitiesFilter\", \"ServerGroupAntiAffinityFilter\", \"PciPassthroughFilter\"]",
    );
    let policy = PolicyFile::parse(&text).unwrap_or_else(|bad| panic!("{bad}"));
    assert_eq!(policy.aggregates[0].aggregate.metadata["cpu_allocation_ratio"], "2.0");
    let flavor = policy.flavor("2").unwrap();
    assert_eq!((&*flavor.name, flavor.vcpus, flavor.memory_mb, flavor.root_gb), ("m1.small", 1, 2048, 20));
    assert_eq!(policy.server_group("web").unwrap().max_server_per_host, 1);
    assert_eq!(policy.server_group("other").unwrap().group().rules["max_server_per_host"], "2");
    let gpu = json!({"vendor_id": "10de", "product_id": "1eb8", "dev_type": "type-PCI"});
    let gpu = json!({"gpu": {"numa_policy": "preferred", "specs": [gpu]}});
    assert_eq!(policy.to_json()["pci"]["alias"], gpu);
}

const DEVICES: &str = "[filter_scheduler]\nenabled_filters = ['PciPassthroughFilter']\n";

#[test]
fn aliases_become_the_requests_that_nova_s_api_makes_of_them() {
    let text = format!(
        "{DEVICES}[[pci.alias]]\nname = 'nic'\nvendor_id = '8086'\nproduct_id = '154c'\nnuma_policy = 'required'\n\
         [[pci.alias]]\nname = 'nic'\nvendor_id = '15b3'\nproduct_id = '1018'\nnuma_policy = 'required'\n\
         [[pci.alias]]\nname = 'gpu'\nvendor_id = '10DE'\nproduct_id = '1eb8'\nlive_migratable = true\n"
    );
    let policy = PolicyFile::parse(&text).unwrap();
    let flavor = |specs: &[(&str, &str)]| Flavor {
        extra_specs: specs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Flavor::default()
    };
    let alias = |value| ("pci_passthrough:alias", value);
    let requests = |flavor: &Flavor, image: Option<&Image>, given: &[PciRequest]| {
        pci_requests(&policy.pci_aliases, flavor, image, given)
    };
    let asked = |flavor: &Flavor, image: Option<&Image>| {
        serde_json::to_value(requests(flavor, image, &[]).unwrap()).unwrap()
    };
    let nic =
        json!([{"vendor_id": "8086", "product_id": "154c"}, {"vendor_id": "15b3", "product_id": "1018"}]);
    let gpu = json!([{"vendor_id": "10DE", "product_id": "1eb8", "live_migratable": "true"}]);
    assert_eq!(
        asked(&flavor(&[alias("nic:2, gpu:1")]), None),
        json!([
            {"count": 2, "spec": nic, "numa_policy": "required", "alias_name": "nic"},
            {"count": 1, "spec": gpu, "numa_policy": "legacy", "alias_name": "gpu"},
        ])
    );
    let overruled = json!([{"count": 1, "spec": gpu, "alias_name": "gpu"}]);
    let of_flavor = flavor(&[alias("gpu:1"), ("hw:pci_numa_affinity_policy", "socket")]);
    assert_eq!(asked(&of_flavor, None), overruled);
    let image: Image =
        serde_json::from_value(json!({"properties": {"hw_pci_numa_affinity_policy": "preferred"}})).unwrap();
    assert_eq!(asked(&flavor(&[alias("gpu:1")]), Some(&image)), overruled);
    assert_eq!(asked(&flavor(&[]), None), json!(null));

    let of_nova = PciRequest { count: 1, alias_name: Some("gpu".into()), ..PciRequest::default() };
    assert_eq!(requests(&flavor(&[alias("gpu:1")]), None, &[of_nova]), Ok(None), "Nova's API was there");
    let of_port = PciRequest { count: 1, ..PciRequest::default() };
    let both = requests(&flavor(&[alias("gpu:1")]), None, std::slice::from_ref(&of_port)).unwrap().unwrap();
    assert_eq!((both.len(), &both[1]), (2, &of_port));

    for (value, says) in [
        ("gpu", "must be NAME:COUNT"),
        ("gpu:0", "must be NAME:COUNT"),
        ("gpu:some", "must be NAME:COUNT"),
        ("", "must be NAME:COUNT"),
        ("gpu:1,,nic:1", "must be NAME:COUNT"),
        ("gpu:99999999999", "must be NAME:COUNT"),
        ("tpu:1", "the current policy has no PCI alias \"tpu\"; choose one of gpu, nic"),
    ] {
        let error = requests(&flavor(&[alias(value)]), None, &[]).unwrap_err().to_string();
        assert!(error.contains(says), "{value:?}: {error}");
    }
}

#[test]
fn wrong_aliases_are_named_by_their_line() {
    for (text, says) in [
        ("alias = 'gpu'", "line 4: pci.alias: expected a list of tables"),
        ("aliases = []", "did you mean alias?"),
        ("alias = [{ vendor_id = '8086', product_id = '154c' }]", "pci.alias: an alias needs name"),
        ("alias = [{ name = 'a', vendor_id = '8086' }]", "pci.alias: an alias needs product_id"),
        (
            "alias = [{ name = 'a', vendor_id = '0x8086', product_id = '154c' }]",
            "is not four hexadecimal digits",
        ),
        ("alias = [{ name = 'a', vendor = '8086', product_id = '154c' }]", "did you mean vendor_id?"),
        (
            "alias = [{ name = 'a', vendor_id = '8086', product_id = '154c', numa_policy = 'prefered' }]",
            "did you mean preferred?",
        ),
        (
            "alias = [{ name = 'a', vendor_id = '8086', product_id = '154c', device_type = 'vdpa' }]",
            "there is no device_type \"vdpa\"",
        ),
        (
            "alias = [{ name = 'a', vendor_id = '8086', product_id = '1' , resource_class = 'X' }]",
            "there is no key of an alias \"resource_class\"",
        ),
        (
            "[[pci.alias]]\nname = 'a'\nvendor_id = '8086'\nproduct_id = '154c'\n\
             [[pci.alias]]\nname = 'a'\nvendor_id = '8086'\nproduct_id = '154d'\nnuma_policy = 'socket'",
            "the entries of \"a\" differ in numa_policy or device_type",
        ),
    ] {
        let found = problems(&format!("{DEVICES}[pci]\n{text}"));
        assert!(found.iter().any(|problem| problem.contains(says)), "{text}: {found:#?}");
    }
    let found = problems("[pci]\nalias = [{ name = 'a', vendor_id = '8086', product_id = '154c' }]");
    assert!(found.len() == 1 && found[0].contains("PciPassthroughFilter is not enabled"), "{found:#?}");
}

#[test]
fn options_are_read_by_novas_names_in_their_order() {
    let policy = PolicyFile::parse(
        r#"
        default_availability_zone = "here"
        [scheduler]
        max_attempts = 5
        on_filter_error = "fail_request"
        [filter_scheduler]
        enabled_filters = ["RamFilter", "ComputeFilter"]
        weight_classes = ["DiskWeigher", "MetricsWeigher", "RAMWeigher"]
        ram_weight_multiplier = -2
        [metrics]
        weight_multiplier = 0.5
        weight_setting = ["cpu.percent=-1.0"]
        required = false
        "#,
    )
    .unwrap();
    let options = &policy.options;
    assert_eq!(options.enabled_filters, [FilterKind::Ram, FilterKind::Compute]);
    let weighers = [(WeigherKind::Disk, 1.0), (WeigherKind::Metrics, 0.5), (WeigherKind::Ram, -2.0)];
    assert_eq!(options.weighers, weighers);
    assert_eq!(options.on_filter_error, OnFilterError::FailRequest);
    assert_eq!((options.max_attempts, &*options.default_availability_zone), (5, "here"));
    assert!(!options.policy.metrics_required && options.check().is_ok());
    let expected = SchedulerOptions::default();
    assert_eq!(options.host_subset_size, expected.host_subset_size);
}

#[test]
fn every_problem_is_named_by_its_line_with_a_way_out() {
    let text = r#"
[filter_scheduler]
enabled_filters = [
    "RamFiler",
    "CoreFilter", "CoreFilter"]
host_subset_size = 0
ram_weigth_multiplier = 2.0
available_filters = ["x"]
pci_weight_multiplier = -1.0
[aggregate.a]
hosts = ["a"]
[aggregates.b]
hosts = ["cmp[9-1]"]
metadata = { ram_allocation_ratio = "lots" }
[aggregates.c]
[aggregates.d]
match = { fact = { rack = "r1" } }
[flavors.small]
vcpus = 1
[server_groups.web]
policy = "anti-afinity"
[server_groups.db]
policy = "affinity"
"#;
    let found = problems(text);
    let wanted = [
        "line 4: filter_scheduler.enabled_filters: there is no filter \"RamFiler\"; did you mean RamFilter?",
        "line 5: filter_scheduler.enabled_filters: CoreFilter is listed twice",
        "line 6: filter_scheduler.host_subset_size: 0 is not within 1 to 1000000",
        "line 7: filter_scheduler.ram_weigth_multiplier: there is no option \"filter_scheduler.ram_weigth_multiplier\"; \
         did you mean filter_scheduler.ram_weight_multiplier?",
        "line 8: filter_scheduler.available_filters: novella does not have this option of Nova",
        "line 9: filter_scheduler.pci_weight_multiplier: -1 cannot be used",
        "line 10: aggregate: there is no section or option \"aggregate\"; did you mean aggregates?",
        "line 13: aggregates.b.hosts: \"cmp[9-1]\" is not a host name, pattern or range: the range [9-1] ends before it begins",
        "line 14: aggregates.b.metadata.ram_allocation_ratio: \"lots\" is not a number",
        "line 15: aggregates.c: nothing says which hosts are in this aggregate",
        "line 17: aggregates.d.match.fact: there is no key to match hosts by \"fact\"; did you mean facts?",
        "line 18: flavors.small: a flavor needs memory_mb",
        "line 21: server_groups.web.policy: there is no policy \"anti-afinity\"; did you mean anti-affinity?",
        "line 23: server_groups.db.policy: ServerGroupAffinityFilter is not enabled",
    ];
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{found}\n{wanted}");
        assert!(found.contains("fix: ") || found.contains("did you mean"), "{found}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
}

#[test]
fn a_text_of_the_wrong_kind_is_a_problem_and_no_panic() {
    for (text, wanted) in [
        ("[filter_scheduler\n", "line 1: not valid TOML"),
        ("x = 1\n\n\ny = = 2", "line 4: not valid TOML"),
        ("filter_scheduler = 3", "expected a table, found a integer"),
        ("aggregates = [1]", "expected a table"),
        ("flavors.a = 7", "expected a table"),
        (
            "[filter_scheduler]\nenabled_filters = \"RamFilter\"",
            "line 2: filter_scheduler.enabled_filters: expected a list",
        ),
        ("[filter_scheduler]\nram_weight_multiplier = nan", "NaN cannot be used"),
        ("[scheduler]\nmax_attempts = 34", "34 is not within 1 to 33"),
        ("[scheduler]\non_filter_error = \"reject\"", "did you mean reject_host?"),
        (
            "[filter_scheduler]\nimage_properties_default_architecture = \"z80\"",
            "is not a known architecture",
        ),
        ("[metrics]\nweight_setting = [\"cpu\"]", "is not name=ratio"),
        (
            "[aggregates.a]\nhosts = []\nid = 7\n[aggregates.b]\nhosts = []\nid = 7",
            "aggregate a has the same id",
        ),
        ("[aggregates.a]\nhosts = []\nmetadata = { x = 1 }", "expected a string in quotes"),
        ("[aggregates.a]\nmatch = {}", "this has no condition"),
        (
            "[flavors.a]\nvcpus = 1\nmemory_mb = 1\n[flavors.b]\nvcpus = 1\nmemory_mb = 1\nid = \"a\"",
            "has the same id",
        ),
        ("[flavors.a]\nvcpus = 0\nmemory_mb = 1", "0 is not within 1 to"),
        ("[server_groups.a]\nmax_server_per_host = 2", "needs a policy"),
        (
            "[filter_scheduler]\nweight_classes = [\"ServerGroupSoftAffinityWeigher\"]\n\
             [server_groups.a]\npolicy = \"soft-affinity\"\nmax_server_per_host = 2",
            "line 5: server_groups.a.max_server_per_host: this applies to anti-affinity only",
        ),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(wanted), "{text}: {found:?}");
    }
}

#[test]
fn a_multiplier_without_its_weigher_is_a_warning() {
    let without = "[filter_scheduler]\nweight_classes = [\"RAMWeigher\"]\n";
    let policy = PolicyFile::parse(&format!("{without}pci_weight_multiplier = 2.0")).unwrap();
    assert!(
        policy.warnings[0]
            .to_string()
            .contains("line 3: filter_scheduler.pci_weight_multiplier: PCIWeigher is not enabled")
    );
    assert_eq!(policy.hash(), PolicyFile::parse(without).unwrap().hash());
}

/// What a policy that is accepted is said to have: first what nothing can use, then the warnings.
fn findings(text: &str) -> (Vec<String>, Vec<String>) {
    let policy = PolicyFile::parse(text).unwrap();
    let said = |problems: &[PolicyProblem]| problems.iter().map(ToString::to_string).collect();
    (said(&policy.unusable), said(&policy.warnings))
}

#[test]
fn flavors_that_no_request_can_use_are_named() {
    let (unusable, warnings) = findings(
        r#"
[filter_scheduler]
enabled_filters = ["ComputeFilter", "NUMATopologyFilter", "PciPassthroughFilter"]
[pci]
alias = [{ name = "gpu", vendor_id = "10de", product_id = "1eb8" }]
[flavors.ok]
vcpus = 4
memory_mb = 512
extra_specs = { "hw:numa_nodes" = "2", "pci_passthrough:alias" = "gpu:1" }
[flavors.numa3]
vcpus = 4
memory_mb = 512
extra_specs = { "hw:numa_nodes" = "3" }
[flavors.pci]
vcpus = 1
memory_mb = 512
extra_specs = { "pci_passthrough:alias" = "fpga:1" }
[flavors.ded]
vcpus = 1
memory_mb = 512
extra_specs = { "hw:cpu_policy" = "Dedicated" }
"#,
    );
    assert_eq!(warnings, [""; 0]);
    let wanted = [
        ("line 10: flavors.numa3: ", "shared out evenly to 3 NUMA nodes"),
        (
            "line 17: flavors.pci.extra_specs.\"pci_passthrough:alias\": ",
            "no PCI alias \"fpga\"; choose one of gpu",
        ),
        ("line 18: flavors.ded: ", "\"Dedicated\" is not a CPU policy"),
    ];
    assert_eq!(unusable.len(), wanted.len(), "{unusable:#?}");
    for (said, (start, part)) in unusable.iter().zip(wanted) {
        assert!(
            said.starts_with(start) && said.contains("every request for this flavor is refused"),
            "{said}"
        );
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn what_nothing_looks_at_is_a_warning() {
    for (text, wanted) in [
        (
            "[flavors.a]\nvcpus = 1\nmemory_mb = 1\nextra_specs = { \"hw:cpu_polcy\" = \"dedicated\" }",
            &["line 4: flavors.a.extra_specs.\"hw:cpu_polcy\": ", "did you mean hw:cpu_policy?"][..],
        ),
        (
            "[flavors.a]\nvcpus = 1\nmemory_mb = 1\nextra_specs = { \"trait:CUSTOM_GOLD\" = \"requried\" }",
            &["\"requried\" has no effect, because its value is not required or forbidden", "mean required?"],
        ),
        (
            "[flavors.a]\nvcpus = 1\nmemory_mb = 1\nextra_specs = { \"resources:CUSTOM_GPU\" = \"many\" }",
            &["its value is not a whole number"],
        ),
        (
            "[flavors.a]\nvcpus = 1\nmemory_mb = 1\nextra_specs = { \"hw:numa_nodes\" = \"1\" }",
            &["NUMATopologyFilter is not enabled"],
        ),
        (
            "[aggregates.a]\nhosts = [\"x\"]\nmetadata = { cpu_allocation_ratio = \"8.0\" }",
            &["line 3: aggregates.a.metadata.cpu_allocation_ratio: AggregateCoreFilter is not enabled"],
        ),
        (
            "[aggregates.a]\nhosts = [\"x\"]\nmetadata = { filter_tenant_id2 = \"p\" }",
            &["AggregateMultiTenancyIsolation is not enabled"],
        ),
        (
            "[aggregates.a]\nhosts = [\"x\"]\nmetadata = { \"trait:CUSTOM_GOLD\" = \"required\" }",
            &["enable_isolated_aggregate_filtering is false"],
        ),
        (
            "[scheduler]\nenable_isolated_aggregate_filtering = true\n\
             [aggregates.a]\nhosts = [\"x\"]\nmetadata = { \"trait:CUSTOM_GOLD\" = \"requried\" }",
            &["did you mean required?"],
        ),
        (
            "[filter_scheduler]\nweight_classes = []\n\
             [aggregates.a]\nhosts = [\"x\"]\nmetadata = { ram_weight_multiplier = \"2\" }",
            &["RAMWeigher is not enabled"],
        ),
        (
            "[aggregates.a]\nhosts = [\"x\"]\nmetadata = { availabilty_zone = \"north\" }",
            &["did you mean availability_zone?"],
        ),
        (
            "[filter_scheduler]\nenabled_filters = [\"AggregateCoreFilter\"]\n\
             [aggregates.a]\nhosts = [\"x\"]\nmetadata = { cpu_allocation_ratio = \"0\" }",
            &["line 5: ", "with a ratio of 0, no instance fits on the hosts of this aggregate"],
        ),
        (
            "[aggregates.a]\nhosts = [\"cmp[1-2]\"]\nmetadata = { availability_zone = \"north\" }\n\
             [aggregates.b]\nhosts = [\"cmp[2-3]\"]\nmetadata = { availability_zone = \"south\" }",
            &[
                "line 6: ",
                "host cmp2 is in two zones: in south by this aggregate, and in north by aggregates.a",
            ],
        ),
        (
            "[aggregates.a]\nhosts = [\"x\"]\nmetadata = { availability_zone = \"north,south\" }",
            &["this names several zones"],
        ),
        ("[filter_scheduler]\nenabled_filters = []", &["line 2: ", "no filter is enabled"]),
        (
            "[filter_scheduler]\nmax_io_ops_per_host = 8",
            &["IoOpsFilter or AggregateIoOpsFilter is not enabled"],
        ),
    ] {
        let (unusable, warnings) = findings(text);
        assert_eq!((unusable.len(), warnings.len()), (0, 1), "{text}: {unusable:?} {warnings:?}");
        wanted.iter().for_each(|part| assert!(warnings[0].contains(part), "{part}: {warnings:?}"));
    }
}

#[test]
fn what_has_an_effect_is_no_warning() {
    let text = r#"
[scheduler]
limit_tenants_to_placement_aggregate = true
[filter_scheduler]
enabled_filters = ["ComputeFilter", "AggregateCoreFilter", "AggregateInstanceExtraSpecsFilter"]
[aggregates.a]
hosts = ["cmp1"]
metadata = { cpu_allocation_ratio = "2.0", filter_tenant_id = "p", availability_zone = "north", ssd = "true" }
[aggregates.b]
hosts = ["cmp*"]
metadata = { availability_zone = "north", ram_weight_multiplier = "2" }
[flavors.a]
vcpus = 1
memory_mb = 1
extra_specs = { "trait:CUSTOM_GOLD" = "required", "aggregate_instance_extra_specs:ssd" = "true", "quota:x" = "1" }
"#;
    assert_eq!(findings(text), (vec![], vec![]));
}

#[test]
fn hosts_find_their_aggregates() {
    let policy = PolicyFile::parse(
        r#"
        [aggregates.named]
        hosts = ["cmp[001-040]", "x1"]
        [aggregates.rack]
        id = 9
        match.facts = { rack = ["r1", 2], dry = true }
        [aggregates.both]
        match = { zone = ["north", "east"], traits = ["CUSTOM_A", "CUSTOM_B"] }
        "#,
    )
    .unwrap();
    let ids: Vec<_> =
        policy.aggregates.iter().map(|rule| (&*rule.aggregate.name, rule.aggregate.id)).collect();
    assert_eq!(ids, [("both", 1), ("named", 2), ("rack", 9)]);
    let of = |host, zone, traits: &[&str], facts: &[(&str, &str)]| {
        policy.aggregates_of(&HostFacts { host, zone, traits, facts })
    };
    assert_eq!(of("cmp007", None, &[], &[]), [2]);
    assert_eq!(of("cmp7", None, &[], &[]), [0; 0]);
    assert_eq!(of("x1", Some("east"), &["CUSTOM_B", "Z", "CUSTOM_A"], &[]), [1, 2]);
    assert_eq!(of("y", Some("west"), &["CUSTOM_B", "CUSTOM_A"], &[]), [0; 0]);
    assert_eq!(of("y", None, &["CUSTOM_B", "CUSTOM_A"], &[]), [0; 0]);
    assert_eq!(of("y", None, &[], &[("rack", "\"r1\""), ("dry", "true")]), [9]);
    assert_eq!(of("y", None, &[], &[("rack", "2.0"), ("dry", "true")]), [9]);
    assert_eq!(of("y", None, &[], &[("rack", "\"2\""), ("dry", "true")]), [0; 0]);
    assert_eq!(of("y", None, &[], &[("rack", "\"r1\""), ("dry", "1")]), [0; 0]);
    assert_eq!(of("y", None, &[], &[("dry", "true")]), [0; 0]);
}

#[test]
fn equal_policies_have_equal_hashes_and_differences_are_named() {
    let one =
        PolicyFile::parse("[aggregates.b]\nhosts = ['x']\n[aggregates.a]\nhosts = ['y']\nid = 4").unwrap();
    let same = "# Other words.\n[aggregates.a]\nid = 4\nhosts = [\"y\"]\n[aggregates.b]\nhosts = [\"x\"]\n\
                [filter_scheduler]\nhost_subset_size = 1";
    let same = PolicyFile::parse(same).unwrap();
    assert_eq!((one.hash(), one.differences(&same)), (same.hash(), vec![]));
    let other = PolicyFile::parse(
        "[aggregates.b]\nhosts = ['x', 'z']\n[flavors.s]\nvcpus = 1\nmemory_mb = 2\n[filter_scheduler]\nhost_subset_size = 3",
    )
    .unwrap();
    assert_ne!(one.hash(), other.hash());
    let changes: Vec<_> = one.differences(&other).iter().map(ToString::to_string).collect();
    assert_eq!(changes.len(), 4, "{changes:#?}");
    assert!(changes[0].starts_with("- aggregates.a = {"), "{changes:#?}");
    assert_eq!(changes[1], r#"~ aggregates.b.hosts: ["x"] -> ["x","z"]"#);
    assert_eq!(changes[2], "~ filter_scheduler.host_subset_size: 1 -> 3");
    assert!(changes[3].starts_with("+ flavors.s = {"), "{changes:#?}");
    assert_eq!(one.to_json()["aggregates"]["a"], json!({"id": 4, "hosts": ["y"], "metadata": {}}));
}
