"""Random requests for a fleet: flavors with extra specs, images, hints, JSON queries, groups, forced and ignored hosts."""

import json
import uuid

import fleets
from fleets import chance, some

OPERATORS = ["=", "==", "!=", ">=", "<=", "<in>", "<all-in>", "s==", "s!=", "s<", "s<=", "s>", "s>=", "<or>"]
OPERANDS = [
    "1",
    "2",
    "4.0",
    "02",
    "gold",
    "x86_64",
    "aes",
    "pge",
    "EPYC",
    "",
    "nan",
    "inf",
    "-1",
    "1_0",
    "٣",
    "ä",
    "true",
    "x y",
]
CAPABILITIES = [
    "arch",
    "capabilities:cpu_info:arch",
    "capabilities:cpu_info:features",
    "capabilities:cpu_info:topology:cores",
    "capabilities:cpu_info:maxphysaddr:bits",
    "capabilities:cpu_info:odd",
    "capabilities:cpu_info:odd:a:b",
    "capabilities:cpu_info:model",
    "capabilities:cpu_info:topology",
    "capabilities:cpu_allocation_ratio",
    "capabilities:hypervisor_type",
    "capabilities:hypervisor_version",
    "capabilities:rack",
    "capabilities:tier",
    "capabilities:gpus",
    "capabilities:größe",
    "capabilities:stats:rack",
    "capabilities:stats:gpus",
    "capabilities:nothing",
    "capabilities:host",
    "capabilities:free_ram_mb",
    "capabilities:num_instances",
    "capabilities:uptime",
    "capabilities:supported_instances",
    "capabilities:service:disabled",
    "capabilities",
    "capabilities:",
    "capabilities::",
    "hypervisor_version",
    "vcpus_total",
    "rack",
    "uptime",
    "unheard_of",
    "hw:something",
    "hw:maxphysaddr_bits",
    "numa_topology",
    "total_usable_ram_mb",
    "vcpus",
    "disk_available",
    "host_memory_free",
]
# Attributes that are objects. They are only compared in ways in which it does not matter how Python prints them.
OBJECTS = [
    "_lock_name",
    "aggregates",
    "allocation_candidates",
    "cell_uuid",
    "consume_from_request",
    "instances",
    "metrics",
    "pci_stats",
    "service",
    "stats",
    "update",
    "__class__",
    "__module__",
    "__weakref__",
    "capabilities:aggregates",
    "capabilities:aggregates:more",
    "capabilities:update",
]
OF_OBJECTS = ["[]", "{}", "1", "s!= x", ">= 1", "<in> no-such-part", "<or> [] <or> {}"]
AGGREGATE_SPECS = [
    "aggregate_instance_extra_specs:" + key for key in ("tier", "gpus", "rack", "rack:row", "größe", "missing")
]
VARIABLES = [
    "$free_ram_mb",
    "$free_disk_mb",
    "$vcpus_used",
    "$vcpus_total",
    "$num_instances",
    "$num_io_ops",
    "$failed_builds",
    "$host",
    "$nodename",
    "$hypervisor_type",
    "$hypervisor_version",
    "$total_usable_ram_mb",
    "$total_usable_disk_gb",
    "$cpu_allocation_ratio",
    "$stats.rack",
    "$stats.tier",
    "$stats.gpus",
    "$stats.missing",
    "$stats",
    "$limits",
    "$limits.vcpu",
    "$cpu_info.arch",
    "$missing",
    "$missing.more",
    "$",
]
LITERALS = [
    0,
    1,
    2,
    50,
    4096,
    -1,
    1.0,
    2.5,
    True,
    False,
    None,
    "",
    "1",
    "gold",
    "QEMU",
    "cmp-1",
    "$host",
    "größe-6",
    {},
    {"a": 1},
]
COMMANDS = ["=", "<", ">", "<=", ">=", "in", "not", "or", "and"]


def requirement(rng):
    kind = rng.random()
    operator = rng.choice(OPERATORS)
    words = [rng.choice(OPERANDS) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    if kind < 0.2:
        return rng.choice(["1", "2", "gold", "x86_64", "4.0", ">=5", "> 4", "", " 2", "True", "QEMU"])
    if operator == "<or>":
        return " ".join(f"<or> {word}" for word in words)
    if kind < 0.24:
        return operator
    return operator + rng.choice([" ", "  ", "\u00a0", "\t"]) + rng.choice([" ", "  "]).join(words)


def extra_specs(rng):
    keys = some(rng, CAPABILITIES, rng.choice([1, 2, 3]))
    if chance(rng, 0.5):
        keys += some(rng, AGGREGATE_SPECS, 2)
    specs = {key: requirement(rng) for key in sorted(keys)}
    if "hw:maxphysaddr_bits" in specs:
        specs["hw:maxphysaddr_bits"] = rng.choice(["39", "46", "48", "x"])
    if chance(rng, 0.2):
        specs[rng.choice(OBJECTS)] = rng.choice(OF_OBJECTS)
    return dict(sorted(specs.items()))


def query(rng, depth=0):
    """A JSON query: mostly well formed, sometimes not."""
    if depth > 2 or chance(rng, 0.03):
        return rng.choice(LITERALS + [[]])
    command = rng.choice(COMMANDS) if chance(rng, 0.99) else rng.choice(["==", "xor", 1, None])
    arguments = []
    for _ in range(rng.choice([0, 1, 2, 2, 2, 3])):
        kind = rng.random()
        if kind < 0.45:
            arguments.append(rng.choice(VARIABLES))
        elif kind < 0.7:
            arguments.append(rng.choice(LITERALS))
        else:
            arguments.append(query(rng, depth + 1))
    if command in ("<", ">", "<=", ">=", "=") and arguments and chance(rng, 0.6):
        arguments = [rng.choice(VARIABLES[:7]), rng.choice([0, 1, 2, 50, 4096, 2.5])]
    return [command, *arguments]


def hints(rng, filters):
    asked = {}
    uuids = [*fleets.INSTANCES, str(uuid.UUID(int=0xBEEF))]
    for name, filter_ in (("different_host", "DifferentHostFilter"), ("same_host", "SameHostFilter")):
        if chance(rng, 0.7 if filter_ in filters else 0.05):
            asked[name] = rng.choice([some(rng, uuids, 5), rng.choice(uuids)])
    if chance(rng, 0.85 if "JsonFilter" in filters else 0.05):
        asked["query"] = (
            json.dumps(query(rng), ensure_ascii=chance(rng, 0.5))
            if chance(rng, 0.97)
            else rng.choice(["", "[", "nope"])
        )
    if chance(rng, 0.8 if "SimpleCIDRAffinityFilter" in filters else 0.05):
        address = ["10.0.0.5", "10.0.1.0", "192.168.1.1", "2001:db8::", "10.0.0", "010.0.0.1", "x"]
        near = asked["build_near_host_ip"] = rng.choice(address[:4] if chance(rng, 0.93) else address)
        if chance(rng, 0.7):
            lengths = (
                ["/64", "/32", "/0", "/127"]
                if ":" in near
                else ["/24", "/16", "/31", "/32", "/0", "/255.255.255.0", "/0.0.0.255"]
            )
            asked["cidr"] = rng.choice(lengths if chance(rng, 0.9) else ["24", "/33", "/129", "/x", "", "/255.0.255.0"])
    if chance(rng, 0.03):
        asked["_nova_check_type"] = rng.choice([["rebuild"], ["other"], []])
    return asked


def group(rng, hosts, uuids):
    if not chance(rng, 0.5):
        return None
    policy = rng.choice(["affinity", "anti-affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"])
    rules = {}
    if policy == "anti-affinity" and chance(rng, 0.5):
        rules["max_server_per_host"] = rng.choice(
            ["1", "2", "3", " 2 ", "0", "1_0"] if chance(rng, 0.95) else ["x", "-1", "2.0"]
        )
    names = [host["host"] for host in hosts]
    return {
        "policy": policy,
        "members": some(rng, fleets.INSTANCES, 10) + uuids,
        "hosts": some(rng, [*names, "elsewhere"], 3),
        "rules": rules,
    }


def case_changed(rng, name):
    return rng.choice([name, name.upper(), name.lower()])


def request(rng, at, hosts, filters):
    """One request; `filters` are those in force, so that what they read is there more often than not. What is not
    set here means what documents.py says."""
    count = rng.choice([1, 1, 1, 2, 3, 6])
    uuids = [str(uuid.UUID(int=(0xC000 + at) << 16 | n)) for n in range(count)]
    if chance(rng, 0.05):
        uuids[0] = rng.choice(fleets.INSTANCES)
    names, nodes = [host["host"] for host in hosts], [host["node"] for host in hosts]
    specs_read = {"ComputeCapabilitiesFilter", "AggregateInstanceExtraSpecsFilter"} & set(filters)
    image_read = {"ImagePropertiesFilter", "AggregateImagePropertiesIsolation"} & set(filters)
    asked = {
        "id": at,
        "vcpus": rng.choice([1, 2, 4, 16]),
        "memory_mb": rng.choice([0, 512, 4096, 32768]),
        "root_gb": rng.choice([0, 1, 20, 400]),
        "ephemeral_gb": rng.choice([0, 0, 10]),
        "swap": rng.choice([0, 0, 512]) if count == 1 else 0,  # HostState does not charge it
        "extra_specs": extra_specs(rng) if chance(rng, 0.75 if specs_read else 0.05) else {},
        "image": fleets.image_properties(rng) if chance(rng, 0.8 if image_read else 0.3) else {},
        "image_id": rng.choice([None, *fleets.IMAGES]),
        "hints": hints(rng, filters),
        "group": group(rng, hosts, uuids),
        "alternates": True,
        "num_instances": count,
        "instance_uuids": uuids,
        "project_id": rng.choice([*fleets.PROJECTS, None]),
        "flavor_name": rng.choice(fleets.FLAVORS),
    }
    if chance(rng, 0.05):
        asked["image"] = asked["image_id"] = None
    if chance(rng, 0.06):
        asked["force_hosts"] = [case_changed(rng, name) for name in some(rng, names, 2)]
    if chance(rng, 0.03):
        asked["force_nodes"] = some(rng, nodes, 2)
    if chance(rng, 0.15):
        asked["ignore_hosts"] = [case_changed(rng, name) for name in some(rng, [*names, "nobody"], 3)]
    if chance(rng, 0.06):
        asked["target_host"] = rng.choice(names)
        if chance(rng, 0.4):
            asked["target_node"] = rng.choice(nodes)
    if chance(rng, 0.1):
        asked["target_cell"] = rng.choice(fleets.CELLS)
        asked["allow_cross_cell_move"] = True
    return asked
