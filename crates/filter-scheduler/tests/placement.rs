//! Prefilters: traits, resource classes and aggregates, each with its line and its reason.

mod common;

use common::{DRY, add, answer, picks};
use novella_filter_scheduler::{
    Aggregate, Allocation, Failure, FilterKind, HostTable, Resources, SchedulerOptions, Selected, Terms,
    charges,
};
use novella_objects::{Image, Inventory, RequestSpec};

/// Hosts `h0` to `h3`, each with 8 CPUs, 16 GiB of memory and 100 GiB of disk.
fn fleet() -> HostTable {
    let mut table = HostTable::new();
    let resources =
        Resources { vcpus_total: 8, memory_mb_total: 16_384, disk_gb_total: 100, ..Resources::default() };
    for at in 0..4 {
        add(&mut table, &format!("h{at}"), &format!("n{at}"), &resources);
    }
    table
}

fn traits(table: &mut HostTable, host: &str, names: &[&str]) {
    let row = table.row_of(host).unwrap();
    table.set_traits(row, names.iter().copied());
}

fn gpus(table: &mut HostTable, host: &str, inventory: Inventory, used: u64) {
    let row = table.row_of(host).unwrap();
    table.set_inventories(row, [("CUSTOM_GPU", inventory, used)].into_iter());
}

fn aggregate(id: u32, key: &str, value: &str) -> Aggregate {
    Aggregate { id, name: format!("a{id}"), metadata: [(key.to_owned(), value.to_owned())].into() }
}

fn request(specs: &[(&str, &str)]) -> RequestSpec {
    common::request(1, specs)
}

fn select_with(options: SchedulerOptions, table: &mut HostTable, request: &RequestSpec) -> Selected {
    answer(options, table, request, 1, &DRY)
}

fn select(table: &mut HostTable, request: &RequestSpec) -> Selected {
    select_with(SchedulerOptions::default(), table, request)
}

/// The lines before those of the filters: name, hosts in, hosts out.
fn lines(selected: &Selected) -> Vec<(&str, u32, u32)> {
    let filters = selected.explanation.filters.iter();
    let lines = filters.map(|line| (&*line.filter, line.hosts_in, line.hosts_out));
    lines.take_while(|(name, ..)| !name.ends_with("Filter")).collect()
}

fn reason(selected: &Selected) -> String {
    match &selected.failure {
        Some(failure @ Failure::NoValidHost { .. }) => failure.to_string(),
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn a_plain_request_asks_nothing() {
    let mut table = fleet();
    traits(&mut table, "h0", &["HW_CPU_X86_AVX2"]);
    gpus(&mut table, "h0", Inventory { total: 4, ..Inventory::default() }, 0);
    assert_eq!(lines(&select(&mut table, &request(&[]))), []);
}

#[test]
fn traits_are_required_and_forbidden() {
    let mut table = fleet();
    traits(&mut table, "h1", &["HW_CPU_X86_AVX2", "CUSTOM_SLOW"]);
    traits(&mut table, "h2", &["HW_CPU_X86_AVX2"]);
    let asked = request(&[("trait:HW_CPU_X86_AVX2", "required"), ("trait:CUSTOM_SLOW", "forbidden")]);
    let selected = select(&mut table, &asked);
    assert_eq!(picks(&table, &selected), ["h2"]);
    assert_eq!(
        lines(&selected),
        [("trait:HW_CPU_X86_AVX2=required", 4, 2), ("trait:CUSTOM_SLOW=forbidden", 2, 1)]
    );
    let nobody = select(&mut table, &request(&[("trait:CUSTOM_GOLD", "required")]));
    assert_eq!(lines(&nobody), [("trait:CUSTOM_GOLD=required", 4, 0)]);
    assert_eq!(nobody.explanation.filters.len(), 1, "no filter was reached");
    assert_eq!(reason(&nobody), "No valid host was found. ", "Nova has no words for it");
    assert_eq!(lines(&select(&mut table, &request(&[("trait:CUSTOM_GOLD", "forbidden")]))), []);
}

#[test]
fn an_image_requires_traits_as_well() {
    let mut table = fleet();
    traits(&mut table, "h3", &["CUSTOM_LICENSED"]);
    let properties = [("trait:CUSTOM_LICENSED".to_owned(), "required".into())].into();
    let image = Image { properties, ..Image::default() };
    let selected = select(&mut table, &RequestSpec { image: Some(image), ..request(&[]) });
    assert_eq!(picks(&table, &selected), ["h3"]);
    assert_eq!(lines(&selected), [("trait:CUSTOM_LICENSED=required (image)", 4, 1)]);
}

#[test]
fn amounts_fit_by_inventory_and_the_nearest_miss_is_told() {
    let mut table = fleet();
    gpus(&mut table, "h0", Inventory { total: 4, ..Inventory::default() }, 3);
    gpus(&mut table, "h1", Inventory { total: 8, step_size: 4, ..Inventory::default() }, 0);
    gpus(&mut table, "h2", Inventory { total: 8, ..Inventory::default() }, 7);
    let selected = select(&mut table, &request(&[("resources:CUSTOM_GPU", "2")]));
    assert_eq!(lines(&selected), [("resources:CUSTOM_GPU=2", 4, 0)]);
    let miss = selected.explanation.filters[0].nearest_miss.as_ref().unwrap();
    assert_eq!((miss.host.as_str(), miss.text().as_str()), ("h0", "h0 short by 1 CUSTOM_GPU"));
    assert_eq!((miss.wanted, miss.available, &*miss.unit), (2.0, 1.0, "CUSTOM_GPU"));
    let selected = select(&mut table, &request(&[("resources:CUSTOM_GPU", "4")]));
    assert_eq!(picks(&table, &selected), ["h1"]);
    let nobody = select(&mut table, &request(&[("resources:CUSTOM_FPGA", "1")]));
    assert_eq!(lines(&nobody), [("resources:CUSTOM_FPGA=1", 4, 0)]);
    assert_eq!(lines(&select(&mut table, &request(&[("resources:CUSTOM_FPGA", "0")]))), []);
}

#[test]
fn each_instance_takes_its_share_and_a_failure_gives_all_back() {
    let mut table = fleet();
    gpus(&mut table, "h1", Inventory { total: 4, ..Inventory::default() }, 1);
    gpus(&mut table, "h2", Inventory { total: 2, ..Inventory::default() }, 0);
    let asked = request(&[("resources:CUSTOM_GPU", "1")]);
    let used = |table: &HostTable, host| {
        let held = table.inventories(table.row_of(host).unwrap()).next();
        held.map(|held| (held.class.to_owned(), held.used))
    };
    let five = answer(SchedulerOptions::default(), &mut table, &asked, 5, &DRY);
    let mut picked = picks(&table, &five);
    picked.sort();
    assert_eq!(picked, ["h1", "h1", "h1", "h2", "h2"]);
    let before = (used(&table, "h1"), used(&table, "h2"));
    assert_eq!(before, (Some(("CUSTOM_GPU".into(), 1)), Some(("CUSTOM_GPU".into(), 0))), "a dry run");
    let six = answer(SchedulerOptions::default(), &mut table, &asked, 6, &DRY);
    assert!(matches!(six.failure, Some(Failure::NoValidHost { placeable: 5, .. })));
    assert!(reason(&six).ends_with("There are not enough hosts available."));
    assert_eq!(lines(&six), [("resources:CUSTOM_GPU=1", 4, 0)], "of every host");
    assert_eq!((used(&table, "h1"), used(&table, "h2")), before);
    let placed = answer(SchedulerOptions::default(), &mut table, &asked, 5, &Terms::default());
    assert_eq!((used(&table, "h1").unwrap().1, used(&table, "h2").unwrap().1), (4, 2));
    for pick in placed.picks {
        table.deallocate(pick.row, &Allocation::of_flavor(&asked.flavor));
    }
    assert_eq!((used(&table, "h1"), used(&table, "h2")), before);
}

#[test]
fn a_given_size_is_the_one_number_for_filters_and_consumption() {
    let mut table = fleet();
    let asked = request(&[("resources:MEMORY_MB", "16384"), ("resources:DISK_GB", "0")]);
    let four = answer(SchedulerOptions::default(), &mut table, &asked, 4, &Terms::default());
    assert_eq!(picks(&table, &four), ["h0", "h1", "h2", "h3"]);
    assert_eq!(lines(&four), [], "sizes are the filters' business");
    let used = table.view(table.row_of("h0").unwrap()).used();
    assert_eq!((used.memory_mb, used.disk_gb), (16_384, 0));
    let fifth = select(&mut table, &asked);
    let ram = fifth.explanation.filters.iter().find(|line| line.filter == "RamFilter").unwrap();
    assert_eq!(ram.nearest_miss.as_ref().unwrap().text(), "h0 short by 16384 MiB");
}

#[test]
fn groups_share_the_host_unless_they_must_not() {
    let mut table = fleet();
    gpus(&mut table, "h0", Inventory { total: 4, max_unit: 2, ..Inventory::default() }, 0);
    gpus(&mut table, "h1", Inventory { total: 4, ..Inventory::default() }, 0);
    let two = [("resources1:CUSTOM_GPU", "2"), ("resources2:CUSTOM_GPU", "2")];
    let with = |policy| [&two[..], &[("group_policy", policy)]].concat();
    let shared = select(&mut table, &request(&with("none")));
    assert_eq!(picks(&table, &shared), ["h1"], "together they are more than h0's max_unit");
    assert_eq!(lines(&shared), [("resources:CUSTOM_GPU=4", 4, 1)]);
    let isolated = select(&mut table, &request(&with("isolate")));
    assert_eq!(lines(&isolated)[1], ("group_policy=isolate", 1, 0));
    assert_eq!(lines(&select(&mut table, &request(&two)))[1], ("group_policy (missing)", 1, 0));
    let no_resources = request(&[("trait_x:CUSTOM_A", "forbidden")]);
    assert_eq!(lines(&select(&mut table, &no_resources)), [("resources_x (missing)", 4, 0)]);
}

#[test]
fn aggregates_are_required_in_each_of_several_lists_and_forbidden() {
    let mut table = fleet();
    for (host, ids) in [("h0", &[1][..]), ("h1", &[1, 2]), ("h2", &[2, 3]), ("h3", &[])] {
        table.set_host_aggregates(table.row_of(host).unwrap(), ids);
    }
    let spec = RequestSpec {
        required_aggregates: vec![vec![1, 3], vec![2]],
        forbidden_aggregates: vec![3],
        ..request(&[])
    };
    let selected = select(&mut table, &spec);
    assert_eq!(picks(&table, &selected), ["h1"]);
    assert_eq!(
        lines(&selected),
        [
            ("aggregates:1,3=required", 4, 3),
            ("aggregates:2=required", 3, 2),
            ("aggregates:3=forbidden", 2, 1)
        ]
    );
}

#[test]
fn projects_go_to_their_aggregates() {
    let mut table = fleet();
    table.set_aggregates([aggregate(1, "filter_tenant_id_a", "p1"), aggregate(2, "owner", "p2")]);
    table.set_host_aggregates(table.row_of("h2").unwrap(), &[1, 2]);
    let mut options = SchedulerOptions::default();
    let of = |project: &str| RequestSpec { project_id: Some(project.into()), ..request(&[]) };
    assert_eq!(lines(&select_with(options.clone(), &mut table, &of("p1"))), []);
    options.policy.limit_tenants_to_placement_aggregate = true;
    let selected = select_with(options.clone(), &mut table, &of("p1"));
    assert_eq!(lines(&selected), [("require_tenant_aggregate", 4, 1)]);
    assert_eq!(picks(&table, &selected), ["h2"]);
    assert_eq!(
        lines(&select_with(options.clone(), &mut table, &of("p2"))),
        [],
        "the key must be the tenants'"
    );
    options.policy.placement_aggregate_required_for_tenants = true;
    let refused = select_with(options, &mut table, &of("p2"));
    assert_eq!(reason(&refused), "No valid host was found. Scheduling failed: No hosts available for tenant");
}

#[test]
fn without_its_filter_a_zone_is_asked_here() {
    let mut table = fleet();
    table.set_aggregates([aggregate(1, "availability_zone", "north")]);
    let row = |table: &HostTable, host| table.row_of(host).unwrap();
    let (h0, h1, h2) = (row(&table, "h0"), row(&table, "h1"), row(&table, "h2"));
    table.set_host_aggregates(h0, &[1]);
    table.set_zone(h1, Some("north"));
    table.set_zone(h2, Some("south"));
    let spec = |zone: &str| RequestSpec { availability_zone: Some(zone.into()), ..request(&[]) };
    assert_eq!(lines(&select(&mut table, &spec("north"))), [], "AvailabilityZoneFilter is enabled");
    let options =
        SchedulerOptions { enabled_filters: FilterKind::NOVA.to_vec(), ..SchedulerOptions::default() };
    let asked = |table: &mut HostTable, zone| select_with(options.clone(), table, &spec(zone));
    assert_eq!(lines(&asked(&mut table, "north")), [("map_az_to_placement_aggregate", 4, 2)]);
    let south = asked(&mut table, "south");
    assert_eq!(picks(&table, &south), ["h2"]);
    assert_eq!(lines(&asked(&mut table, "east")), [], "a zone that nobody has restricts nothing, as in Nova");
}

#[test]
fn prefilters_obey_their_options() {
    let mut table = fleet();
    table.set_aggregates([aggregate(1, "trait:CUSTOM_A", "required")]);
    let h0 = table.row_of("h0").unwrap();
    table.set_host_aggregates(h0, &[1]);
    traits(&mut table, "h0", &["CUSTOM_A", "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_STORAGE_BUS_VIRTIO"]);
    traits(&mut table, "h1", &["COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_STATUS_DISABLED"]);
    let image = |bus: &str| Image {
        properties: [("hw_disk_bus".to_owned(), bus.into())].into(),
        disk_format: Some("qcow2".into()),
        ..Image::default()
    };
    let spec = RequestSpec { image: Some(image("virtio")), ..request(&[]) };
    let mut options = SchedulerOptions::default();
    assert_eq!(lines(&select_with(options.clone(), &mut table, &spec)), [("compute_status_filter", 4, 3)]);
    options.policy.query_placement_for_image_type_support = true;
    options.policy.enable_isolated_aggregate_filtering = true;
    options.policy.image_metadata_prefilter = true;
    assert_eq!(
        lines(&select_with(options.clone(), &mut table, &spec)),
        [
            ("isolate_aggregates", 4, 3),
            ("require_image_type_support (COMPUTE_IMAGE_TYPE_QCOW2)", 3, 1),
            ("compute_status_filter", 1, 0),
        ]
    );
    let own = RequestSpec { image: Some(image("virtio")), ..request(&[("trait:CUSTOM_A", "required")]) };
    let selected = select_with(options.clone(), &mut table, &own);
    assert_eq!(picks(&table, &selected), ["h0"]);
    assert_eq!(lines(&selected).len(), 4, "{selected:?}");
    let odd = RequestSpec { image: Some(image("paper")), is_bfv: true, ..request(&[]) };
    let names: Vec<_> =
        lines(&select_with(options.clone(), &mut table, &odd)).iter().map(|l| l.0.len()).collect();
    assert_eq!(names.len(), 2, "no trait is called after paper, and a volume has no format");
    options.placement = false;
    assert_eq!(lines(&select_with(options, &mut table, &own)), []);
}

#[test]
fn features_of_flavor_and_image_need_their_traits() {
    let with = |specs: &[(&str, &str)], properties: &[(&str, &str)]| {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        RequestSpec { image: Some(Image { properties, ..Image::default() }), ..request(specs) }
    };
    const PACKED: &str = "COMPUTE_NET_VIRTIO_PACKED";
    const ENCRYPTION: &str = "COMPUTE_EPHEMERAL_ENCRYPTION";
    const LUKS: &str = "COMPUTE_EPHEMERAL_ENCRYPTION_LUKS";
    const SOUND: &str = "COMPUTE_SOUND_MODEL_VIRTIO";
    const HOST: &str = "COMPUTE_SECURITY_TPM_SECRET_SECURITY_HOST";
    let all = with(
        &[("hw:virtio_packed_ring", "on"), ("hw:tpm_version", "2.0"), ("hw:tpm_secret_security", "host")],
        &[
            ("hw_ephemeral_encryption", "true"),
            ("hw_ephemeral_encryption_format", "luks"),
            ("hw_sound_model", "virtio"),
            ("hw_tpm_model", "tpm-crb"),
        ],
    );
    let mut table = fleet();
    traits(&mut table, "h0", &[PACKED, ENCRYPTION, LUKS, SOUND]);
    let tpm = ["COMPUTE_SECURITY_TPM_CRB", "COMPUTE_SECURITY_TPM_2_0"];
    traits(&mut table, "h1", &[&[PACKED, ENCRYPTION, LUKS, SOUND, HOST], &tpm[..]].concat());
    traits(&mut table, "h2", &[PACKED, ENCRYPTION]);
    let selected = select(&mut table, &all);
    assert_eq!(picks(&table, &selected), ["h1"]);
    assert_eq!(
        lines(&selected),
        [
            (&*format!("packed_virtqueue_filter ({PACKED})"), 4, 3),
            (&*format!("ephemeral_encryption_filter ({ENCRYPTION})"), 3, 3),
            (&*format!("ephemeral_encryption_filter ({LUKS})"), 3, 2),
            (&*format!("virtio_sound_filter ({SOUND})"), 2, 2),
            (&*format!("tpm_secret_security_filter ({HOST})"), 2, 1),
            ("hw_tpm_model=tpm-crb (COMPUTE_SECURITY_TPM_CRB)", 1, 1),
            ("hw:tpm_version=2.0 (COMPUTE_SECURITY_TPM_2_0)", 1, 1),
        ]
    );
    let nothing = with(
        &[("hw:virtio_packed_ring", "off"), ("hw:tpm_secret_security", "host"), ("hw:tpm_version", "")],
        &[("hw_ephemeral_encryption_format", "luks"), ("hw_sound_model", "usb")],
    );
    assert_eq!(lines(&select(&mut table, &nothing)), []);
    let user = select(&mut table, &with(&[], &[("hw_tpm_version", "1.2")]));
    assert_eq!(
        lines(&user),
        [("tpm_secret_security_filter (COMPUTE_SECURITY_TPM_SECRET_SECURITY_USER)", 4, 0)]
    );
    let odd = select(&mut table, &request(&[("hw:tpm_version", "2.0"), ("hw:tpm_secret_security", "vault")]));
    assert_eq!(
        reason(&odd),
        "No valid host was found. Scheduling failed: TPM secret security 'vault' is not supported."
    );
    for (specs, properties, words) in [
        (
            ("hw:virtio_packed_ring", "true"),
            ("hw_virtio_packed_ring", "false"),
            "hw:virtio_packed_ring of the flavor means true, and hw_virtio_packed_ring of the image means false",
        ),
        (
            ("hw:sound_model", "usb"),
            ("hw_sound_model", "virtio"),
            r#"hw:sound_model of the flavor is "usb", and hw_sound_model of the image is "virtio""#,
        ),
        (
            ("hw:tpm_version", "3"),
            ("hw_tpm_version", "3"),
            r#"hw:tpm_version is "3"; it must be one of 1.2, 2.0"#,
        ),
        (
            ("hw:tpm_version", "1.2"),
            ("hw_tpm_model", "tpm-crb"),
            "tpm_model tpm-crb needs tpm_version 2.0, not 1.2",
        ),
    ] {
        match select(&mut table, &with(&[specs], &[properties])).failure {
            Some(failure @ Failure::Feature(_)) => assert_eq!(failure.to_string(), words),
            other => panic!("{other:?} instead of {words}"),
        }
    }
}

/// A request with these extra specs, and an image with these properties.
fn with_image(specs: &[(&str, &str)], properties: &[(&str, &str)]) -> RequestSpec {
    let properties = properties.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect();
    RequestSpec { image: Some(Image { properties, ..Image::default() }), ..request(specs) }
}

/// As in `nova/tests/unit/scheduler/test_utils.py`.
#[test]
fn what_nova_adds_to_its_query_is_asked_of_hosts() {
    const UEFI: (&str, &str) = ("hw_firmware_type", "uefi");
    const STATELESS: (&str, &str) = ("hw_firmware_stateless", "true");
    const ENCRYPTED: (&str, &str) = ("hw:mem_encryption", "yes");
    for (specs, properties, needs) in [
        (&[("os:secure_boot", "required")][..], &[][..], &["COMPUTE_SECURITY_UEFI_SECURE_BOOT"][..]),
        (&[], &[("os_secure_boot", "required")], &["COMPUTE_SECURITY_UEFI_SECURE_BOOT"]),
        (&[("os:secure_boot", "optional")], &[], &[]),
        (&[("hw:maxphysaddr_mode", "passthrough")], &[], &["COMPUTE_ADDRESS_SPACE_PASSTHROUGH"]),
        (&[], &[("hw_maxphysaddr_mode", "emulate")], &["COMPUTE_ADDRESS_SPACE_EMULATED"]),
        (&[("hw:pci_numa_affinity_policy", "socket")], &[], &["COMPUTE_SOCKET_PCI_NUMA_AFFINITY"]),
        (&[("hw:pci_numa_affinity_policy", "required")], &[], &[]),
        (&[], &[UEFI, STATELESS], &["COMPUTE_SECURITY_STATELESS_FIRMWARE"]),
        (&[], &[("hw_firmware_type", "bios"), STATELESS], &[]),
        (
            &[("hw:tpm_version", "2.0"), ("hw:tpm_model", "tpm-crb")],
            &[],
            &[
                "COMPUTE_SECURITY_TPM_SECRET_SECURITY_USER",
                "COMPUTE_SECURITY_TPM_CRB",
                "COMPUTE_SECURITY_TPM_2_0",
            ],
        ),
        (
            &[],
            &[("hw_tpm_version", "1.2")],
            &[
                "COMPUTE_SECURITY_TPM_SECRET_SECURITY_USER",
                "COMPUTE_SECURITY_TPM_TIS",
                "COMPUTE_SECURITY_TPM_1_2",
            ],
        ),
        (&[("hw:mem_encryption", "no")], &[], &[]),
        (&[ENCRYPTED], &[UEFI], &["HW_CPU_X86_AMD_SEV"]),
        (&[ENCRYPTED, ("hw:mem_encryption_model", "amd-sev-es")], &[UEFI], &["HW_CPU_X86_AMD_SEV_ES"]),
        (
            &[],
            &[("hw_mem_encryption", "true"), UEFI, STATELESS, ("hw_mem_encryption_model", "amd-sev-snp")],
            &["HW_CPU_X86_AMD_SEV_SNP", "COMPUTE_SECURITY_STATELESS_FIRMWARE"],
        ),
        (
            &[ENCRYPTED, ("hw:mem_encryption_model", "intel-tdx")],
            &[UEFI, STATELESS, ("hw_video_model", "none"), ("hw_machine_type", "pc-q35-8.0")],
            &["HW_CPU_X86_INTEL_TDX", "COMPUTE_SECURITY_STATELESS_FIRMWARE"],
        ),
    ] {
        let mut table = fleet();
        traits(&mut table, "h2", needs);
        for host in ["h1", "h2"] {
            let row = table.row_of(host).unwrap();
            let slots = Inventory { total: 1, ..Inventory::default() };
            table.set_inventories(row, [("MEM_ENCRYPTION_CONTEXT", slots, 0)].into_iter());
        }
        let asked = with_image(specs, properties);
        let selected = select(&mut table, &asked);
        let asks_traits = |(line, ..): &(&str, u32, u32)| line.ends_with(')');
        let lines: Vec<_> = lines(&selected).into_iter().filter(asks_traits).collect();
        assert_eq!(lines.len(), needs.len(), "{asked:#?} {lines:?}");
        for (line, name) in lines.iter().zip(needs) {
            assert!(line.0.ends_with(&format!("({name})")), "{line:?}, not {name}");
        }
        assert_eq!(picks(&table, &selected), [if needs.is_empty() { "h0" } else { "h2" }]);
    }
}

#[test]
fn encrypted_memory_and_persistent_memory_are_taken() {
    let mut table = fleet();
    traits(&mut table, "h1", &["HW_CPU_X86_AMD_SEV"]);
    let row = table.row_of("h1").unwrap();
    let of = |total| Inventory { total, ..Inventory::default() };
    let classes = [("CUSTOM_PMEM_NAMESPACE_4GB", of(5), 0), ("MEM_ENCRYPTION_CONTEXT", of(3), 0)];
    table.set_inventories(row, classes.into_iter());
    let used = |table: &HostTable| table.inventories(row).map(|held| held.used).collect::<Vec<_>>();
    let image = [("hw_firmware_type", "uefi"), ("hw_mem_encryption", "true")];
    let asked = with_image(&[("hw:pmem", "4GB, 4GB")], &image);
    let three = answer(SchedulerOptions::default(), &mut table, &asked, 3, &DRY);
    assert!(matches!(three.failure, Some(Failure::NoValidHost { placeable: 2, .. })), "{:?}", three.failure);
    assert_eq!(used(&table), [0, 0], "all is given back");
    let two = answer(SchedulerOptions::default(), &mut table, &asked, 2, &Terms::default());
    let of_second = [
        ("memory encryption by amd-sev (HW_CPU_X86_AMD_SEV)", 4, 1),
        ("resources:CUSTOM_PMEM_NAMESPACE_4GB=2", 1, 1),
        ("resources:MEM_ENCRYPTION_CONTEXT=1", 1, 1),
    ];
    assert_eq!(lines(&two), of_second);
    assert_eq!(used(&table), [4, 2]);
    for pick in two.picks {
        table.discharge(pick.row, &charges(&asked));
    }
    assert_eq!(used(&table), [0, 0]);
}

/// As in `nova/tests/unit/virt/test_hardware.py`.
#[test]
fn memory_that_cannot_be_encrypted_is_refused() {
    const UEFI: (&str, &str) = ("hw_firmware_type", "uefi");
    let refused = |specs: &[(&str, &str)], properties: &[(&str, &str)], placement: bool| {
        let options = SchedulerOptions { placement, ..SchedulerOptions::default() };
        match select_with(options, &mut fleet(), &with_image(specs, properties)).failure {
            Some(failure @ Failure::Feature(_)) => failure.to_string(),
            other => panic!("{other:?} instead of a refusal"),
        }
    };
    for (specs, properties, words) in [
        (
            &[("hw:mem_encryption", "true")][..],
            &[("hw_mem_encryption", "false"), UEFI][..],
            "hw:mem_encryption of the flavor means true, and hw_mem_encryption of the image means false",
        ),
        (
            &[("hw:mem_encryption", "true"), ("hw:mem_encryption_model", "amd-sev")],
            &[("hw_mem_encryption_model", "amd-sev-es"), UEFI],
            r#"hw:mem_encryption_model of the flavor is "amd-sev", and hw_mem_encryption_model of the image is "amd-sev-es""#,
        ),
        (
            &[("hw:mem_encryption", "true"), ("hw:mem_encryption_model", "rot13")],
            &[UEFI],
            r#"hw:mem_encryption_model is "rot13"; it must be one of amd-sev, amd-sev-es, amd-sev-snp, intel-tdx"#,
        ),
        (&[("hw:mem_encryption", "true")], &[], "hw:mem_encryption needs hw_firmware_type=uefi in the image"),
        (
            &[],
            &[("hw_mem_encryption", "true"), UEFI, ("hw_machine_type", "pc-i440fx-7.2")],
            "hw_mem_encryption needs hw_machine_type=q35 in the image, not pc-i440fx-7.2",
        ),
        (
            &[("hw:mem_encryption", "true"), ("hw:mem_encryption_model", "amd-sev-snp")],
            &[UEFI],
            "memory encryption by amd-sev-snp needs hw_firmware_stateless=true in the image",
        ),
        (
            &[("hw:mem_encryption", "true"), ("hw:mem_encryption_model", "intel-tdx")],
            &[UEFI, ("hw_firmware_stateless", "true"), ("hw_video_model", "vga")],
            "memory encryption by intel-tdx needs hw_video_model=none in the image",
        ),
    ] {
        assert_eq!(refused(specs, properties, true), words);
        assert_eq!(refused(specs, properties, false), words, "Nova's API refuses it");
    }
}

#[test]
fn swap_takes_disk_in_whole_gib() {
    let mut table = fleet();
    let mut asked = request(&[]);
    (asked.flavor.root_gb, asked.flavor.swap) = (10, 10_239);
    let placed = answer(SchedulerOptions::default(), &mut table, &asked, 20, &Terms::default());
    assert_eq!(placed.failure, None);
    let rows: Vec<_> = table.rows().collect();
    assert_eq!(rows.iter().map(|row| table.view(*row).used().disk_gb).collect::<Vec<_>>(), [100; 4]);
    let more = answer(SchedulerOptions::default(), &mut table, &asked, 1, &Terms::default());
    assert!(matches!(more.failure, Some(Failure::NoValidHost { .. })));
}

#[test]
fn a_forced_host_is_asked_and_a_rebuild_is_not() {
    let mut table = fleet();
    traits(&mut table, "h1", &["CUSTOM_A"]);
    let asked = request(&[("trait:CUSTOM_A", "required")]);
    let forced = RequestSpec { force_hosts: vec!["h0".into()], ..asked.clone() };
    assert_eq!(reason(&select(&mut table, &forced)), "No valid host was found. ");
    let target = RequestSpec { target_host: Some("h1".into()), ..asked.clone() };
    assert_eq!(lines(&select(&mut table, &target)), [("trait:CUSTOM_A=required", 1, 1)]);
    let hints = [("_nova_check_type".to_owned(), serde_json::json!(["rebuild"]))].into();
    let rebuild = RequestSpec { target_host: Some("h0".into()), scheduler_hints: hints, ..asked };
    let selected = select(&mut table, &rebuild);
    assert_eq!(picks(&table, &selected), ["h0"]);
}
