"""Random hosts, aggregates and options of a document, odd ones among them. The same random state gives the same fleet.

Left out is what cannot reach a scheduler: values that Nova's objects refuse, and those that docs/conformance.md lists as
deliberate differences.
"""

import uuid

ARCHITECTURES = ["x86_64", "i686", "aarch64", "ppc64le", "s390x"]
HYPERVISORS = ["kvm", "qemu", "xen", "lxc", "vmware", "hyperv"]
MODES = ["hvm", "xen", "exe", "uml"]
SUPPORTED = [
    ["x86_64", "kvm", "hvm"],
    ["x86_64", "qemu", "hvm"],
    ["i686", "qemu", "hvm"],
    ["x86_64", "xen", "xen"],
    ["x86_64", "xen", "hvm"],
    ["aarch64", "kvm", "hvm"],
    ["x86_64", "lxc", "exe"],
]
METRICS = ["cpu.frequency", "cpu.user.time", "cpu.kernel.time", "cpu.idle.time", "cpu.iowait.time", "cpu.percent"]
CELLS = ["cell1", "cell2"]
PROJECTS = ["alpha", "beta", "γάμμα", ""]
FLAVORS = ["small", "large", "m1.großer", "with space"]
IMAGES = ["img-1", "img-2", "Img-1"]
INSTANCES = [str(uuid.UUID(int=0xA000 + n)) for n in range(24)]
NAMES = [
    "cmp-1",
    "cmp-2",
    "CMP-3",
    "Host_4",
    "host.5",
    "größe-6",
    "ΑΣ-7",
    "主机-8",
    "cmp 9",
    "İ-10",
    "ß-11",
    "node12",
    "CMP-1",
]
FACTS = {
    "rack": ["1", "2", "02", "2.0", "r2", None],
    "tier": ["gold", "silver", "gold,silver", "Gold", ""],
    "gpus": ["0", "1", "4", "4.0", "nan", "inf", "1e1", "1_0", "٣", " 3 ", "3 gpus", "0x3"],
    "zone.name": ["a", "b"],
    "größe": ["1", "ä"],
}
NUMBERS = [
    "0",
    "1",
    "2",
    "-1",
    "1.5",
    "1e3",
    "1_000",
    " 4 ",
    "٣",
    "5.0",
    "",
    "many",
    "3,9",
    "0x5",
    "007",
    "+2",
    "1__0",
    ".5",
    "2.",
]
FILTERS = [
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
    "AllHostsFilter",
    "IsolatedHostsFilter",
    "AggregateImagePropertiesIsolation",
    "AggregateInstanceExtraSpecsFilter",
    "AggregateMultiTenancyIsolation",
    "AggregateTypeAffinityFilter",
    "DifferentHostFilter",
    "SameHostFilter",
    "SimpleCIDRAffinityFilter",
    "IoOpsFilter",
    "AggregateIoOpsFilter",
    "NumInstancesFilter",
    "AggregateNumInstancesFilter",
    "JsonFilter",
    "MetricsFilter",
]
DEFAULT_FILTERS = FILTERS[:5]
WEIGHERS = {
    "RAMWeigher": "ram_weight_multiplier",
    "CPUWeigher": "cpu_weight_multiplier",
    "DiskWeigher": "disk_weight_multiplier",
    "IoOpsWeigher": "io_ops_weight_multiplier",
    "HypervisorVersionWeigher": "hypervisor_version_weight_multiplier",
    "NumInstancesWeigher": "num_instances_weight_multiplier",
    "PCIWeigher": "pci_weight_multiplier",
    "ServerGroupSoftAffinityWeigher": "soft_affinity_weight_multiplier",
    "ServerGroupSoftAntiAffinityWeigher": "soft_anti_affinity_weight_multiplier",
    "BuildFailureWeigher": "build_failure_weight_multiplier",
    "CrossCellWeigher": "cross_cell_move_weight_multiplier",
    "MetricsWeigher": "metrics_weight_multiplier",
    "ImagePropertiesWeigher": "image_props_weight_multiplier",
}
# To these a host that never reported is another matter for Nova than for novella; see docs/conformance.md.
READ_REPORTS = {"CPUWeigher", "MetricsFilter", "JsonFilter", "ComputeCapabilitiesFilter"}
NEVER_NEGATIVE = {"PCIWeigher", "ServerGroupSoftAffinityWeigher", "ServerGroupSoftAntiAffinityWeigher"}


def chance(rng, probability):
    return rng.random() < probability


def some(rng, items, most):
    """Up to `most` different ones, in random order."""
    items = list(items)
    return rng.sample(items, rng.randint(0, min(most, len(items))))


def image_properties(rng):
    """Properties as an image service would hold them: texts, and sometimes numbers and truth values."""
    pools = {
        "hw_architecture": [*ARCHITECTURES, "amd64", "X86_64", "i386"],
        "architecture": ["amd64", "aarch64"],
        "img_hv_type": [*HYPERVISORS, "QEMU", "xapi"],
        "hypervisor_type": ["kvm", "Xen"],
        "hw_vm_mode": [*MODES, "hv", "pv", "HVM"],
        "vm_mode": ["hvm", "xen"],
        "img_hv_requested_version": [">=6.0", ">= 4.2, < 9", "==6.2.0", "!=6.2", "<12.4", ">=1.0", "<=999", ">6.2rc1"],
        "os_distro": ["ubuntu", "debian", "Debian"],
        "os_type": ["linux", "windows"],
        "hw_disk_bus": ["virtio", "scsi"],
        "hw_cpu_cores": [2, "4"],
        "hw_boot_menu": [True, "false"],
        "hw_qemu_guest_agent": ["yes", False],
        "hw_machine_type": ["q35", "pc"],
        "my_own_key": ["x"],
    }
    return {name: rng.choice(pools[name]) for name in sorted(some(rng, pools, 4))}


def aggregate(rng, at):
    pools = {
        "max_io_ops_per_host": NUMBERS,
        "max_instances_per_host": NUMBERS,
        "filter_tenant_id": ["alpha", "alpha,beta", " beta , γάμμα ", "", "other"],
        "filter_tenant_id2": ["beta", "alpha"],
        "instance_type": ["small", "small, large", "m1.großer", "", "Small,with space"],
        "availability_zone": ["az1", "az2"],
        "hw_architecture": ["x86_64", "x86_64,aarch64", "amd64"],
        "os_distro": ["ubuntu", "debian, ubuntu", "Debian"],
        "os_type": ["linux", "windows,linux"],
        "hw_boot_menu": ["True", "true"],
        "hw_cpu_cores": ["2", "2,4"],
        "hw_disk_bus": ["virtio", " scsi"],
        "my_own_key": ["y"],
        "group_policy": ["none"],
        "rack:row": ["1", "2"],
    }
    pools.update({name: [text for text in values if text is not None] for name, values in FACTS.items()})
    metadata = {name: rng.choice(pools[name]) for name in some(rng, pools, 4)}
    for weigher in some(rng, WEIGHERS, 3):
        metadata[WEIGHERS[weigher]] = rng.choice(["0", "1.0", "-2", "0.5", "1e3", "x", "", " 2 ", "1,5", "٣"])
    return {"id": at + 1, "name": f"aggregate {at + 1}", "metadata": dict(sorted(metadata.items()))}


def cpu_info(rng):
    kind = rng.random()
    if kind < 0.08:
        return None
    info = {
        "arch": rng.choice(ARCHITECTURES),
        "features": sorted(some(rng, ["aes", "avx", "avx2", "pge", "sse4.2"], 4)),
        "model": rng.choice(["EPYC-Rome", "Nehalem", "", "модель"]),
        "topology": {"cores": rng.randint(1, 32), "sockets": rng.choice([1, 2]), "threads": rng.choice([1, 2])},
        "vendor": rng.choice(["AMD", "Intel"]),
    }
    if chance(rng, 0.5):
        info["maxphysaddr"] = {"bits": rng.choice([39, 46, 48]), "mode": "passthrough"}
    if chance(rng, 0.3):
        odd = [1.0, 2.5, 1e16, 1e-7, True, None, "text", "2", -3, 0, [1, "a", None, 2.0], {"a": {"b": "c"}}, 2**53]
        info["odd"] = rng.choice(odd)
    return {name: info[name] for name in sorted(info)}


def host(rng, host_name, node, aggregates, reported):
    vcpus = rng.choice([0, 1, 4, 8, 64, 128])
    memory = rng.choice([0, 512, 4096, 65536, 262144])
    disk = rng.choice([0, 10, 500, 4000])
    used = lambda total, most: rng.choice([0, total, rng.randint(0, int(total * most) + 1)])
    local_gb_used, memory_mb_used = used(disk, 1.3), used(memory, 1.4)
    free_disk_gb = room = disk - local_gb_used
    instances = some(rng, INSTANCES, 6)
    counts = {
        "num_instances": rng.choice([len(instances), 0, 1, 49, 50, 51]),
        "io_workload": rng.choice([0, 0, 1, 7, 8, 9]),
        "failed_builds": rng.choice([0, 0, 0, 1, 3]),
    }
    stats = {name: str(value) for name, value in counts.items()}
    stats.update({name: rng.choice(FACTS[name]) for name in some(rng, FACTS, 3)})
    if chance(rng, 0.2):
        stats["uptime"] = None
    supported = some(rng, SUPPORTED, 3)
    addresses = ["10.0.0.1", "10.0.0.200", "10.0.1.7", "192.168.1.124", "2001:db8::1", "2001:DB8:0:1::7"]
    if not reported:
        free_disk_gb = None
    return {
        "host": host_name,
        "node": node,
        "vcpus": vcpus,
        "vcpus_used": used(vcpus, 4),
        "memory_mb": memory,
        "memory_mb_used": memory_mb_used,
        "free_ram_mb": memory - memory_mb_used,
        "local_gb": disk,
        "local_gb_used": local_gb_used,
        "free_disk_gb": free_disk_gb,
        "disk_available_least": rng.choice([None, room, room - rng.randint(0, 20), room + 5, -3]),
        "cpu_allocation_ratio": rng.choice([4.0, 16.0, 1.0, 0.1, 1.3]),
        "ram_allocation_ratio": rng.choice([1.0, 1.5]),
        "disk_allocation_ratio": 1.0,
        "cpu_info": cpu_info(rng),
        "hypervisor_type": rng.choice(["QEMU", "KVM", "fake", ""]),
        "hypervisor_version": rng.choice([0, 1, 999, 1000, 12003, 4002000, 6002000, 6002001, 8002001]),
        "host_ip": rng.choice(addresses if chance(rng, 0.97) else [None]),
        "supported_instances": rng.choice([supported, supported, SUPPORTED[:3], []]),
        "stats": dict(sorted(stats.items())),
        "num_instances": counts["num_instances"],
        "num_io_ops": counts["io_workload"],
        "failed_builds": counts["failed_builds"],
        "instances": [instance(rng, name) for name in instances],
        "disabled": chance(rng, 0.06),
        "forced_down": chance(rng, 0.04),
        "last_seen_age_s": rng.choice([0, 5, 5, 5, 5, 5, 59, 60, 61, 3600, -60, -61]),
        "metrics": metrics(rng),
        "cell": rng.choice(CELLS),
        "aggregates": sorted(some(rng, [aggregate["id"] for aggregate in aggregates], 3)),
    }


def instance(rng, name):
    if chance(rng, 0.7):
        return name
    return {"uuid": name, "flavor": rng.choice(FLAVORS), "image": image_properties(rng)}


def metrics(rng):
    if chance(rng, 0.3):
        return []
    values = lambda name: [0, 1, 0.29, 0.575] if name.endswith("percent") else [0, 1, -5, 40, 1200, 10**9]
    return [{"name": name, "value": rng.choice(values(name))} for name in some(rng, METRICS, 6)]


def options(rng):
    """Mostly a handful of filters, so that hosts are left for those that come last, and few or all weighers."""
    kind = rng.random()
    if kind < 0.15:
        filters = list(DEFAULT_FILTERS)
    elif kind < 0.25:
        filters = rng.sample(FILTERS, len(FILTERS))
    else:
        filters = rng.sample(FILTERS, rng.randint(1, 5))
    weighers = rng.sample(list(WEIGHERS), rng.choice([len(WEIGHERS), rng.randint(0, 4)]))
    config = {}
    for weigher in some(rng, weighers, 4):
        value = rng.choice([0.0, 1.0, 2.0, 0.1, 1e6, -1.0, -0.7])
        config[WEIGHERS[weigher]] = abs(value) if weigher in NEVER_NEGATIVE else value
    pools = {
        "max_io_ops_per_host": [0, 1, 8, 9],
        "max_instances_per_host": [1, 2, 50, 51],
        "isolated_hosts": [some(rng, NAMES, 5)],
        "isolated_images": [some(rng, IMAGES, 2)],
        "restrict_isolated_hosts_to_isolated_images": [True, False],
        "aggregate_image_properties_isolation_namespace": [None, "hw", "os"],
        "aggregate_image_properties_isolation_separator": [".", "_"],
        "image_properties_default_architecture": ["x86_64", "aarch64"],
        "image_props_weight_setting": [["os_distro=2", "os_type=-1"], [], ["hw_vm_mode=0.5", "bad", "=3", "os_type=x"]],
        "service_down_time": [60, 59, 5000],
        "max_attempts": [1, 2, 5],
    }
    config.update({name: rng.choice(pools[name]) for name in some(rng, pools, 5)})
    if "MetricsFilter" in filters or "MetricsWeigher" in weighers:
        entries = [f"{name}={rng.choice(['1', '-0.5', '0', ' 2', '1e3'])}" for name in some(rng, METRICS, 3)]
        config["metrics_weight_setting"] = entries + some(
            rng, ["nonsense", "=1", "cpu.user.time=x", "cpu.user.time =2"], 1
        )
        config["metrics_required"] = chance(rng, 0.3)
        config["metrics_weight_of_unavailable"] = rng.choice([-10000.0, 0.0, 5.0])
    return {"filters": filters, "weighers": weighers, **dict(sorted(config.items()))}


def fleet(rng, used):
    """Hosts and aggregates, for these filters and weighers. A few hosts never reported."""
    aggregates = [aggregate(rng, at) for at in range(rng.randint(0, 5))]
    count = rng.choice([1, 2, 3, 4, 6, 8, 12])
    names = rng.sample(NAMES, count)
    hosts = []
    for at, name in enumerate(names):
        reported = READ_REPORTS & used or chance(rng, 0.96)
        hosts.append(host(rng, name, f"node-{at}", aggregates, reported))
    if chance(rng, 0.1):
        for other in hosts[1:]:  # equals, so that the order decides
            other.update({key: value for key, value in hosts[0].items() if key not in ("host", "node")})
    return hosts, aggregates
