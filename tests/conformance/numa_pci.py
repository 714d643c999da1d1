"""Random NUMA topologies and PCI pools of hosts, and requests that need them."""

import fleets
from fleets import chance, some

SIZES_KB = [4, 2048, 1048576]
VENDORS = [("8086", "154c"), ("8086", "154c"), ("8086", "10fb"), ("10de", "1EB8")]
TYPES = ["type-PCI", "type-VF", "type-VF", "type-PF", "vdpa"]
FILTERS = ["NUMATopologyFilter", "PciPassthroughFilter"]


def options(rng, chosen):
    """Both filters, after or before a few of Nova's default ones."""
    rest = [name for name in chosen["filters"] if name in fleets.DEFAULT_FILTERS][: rng.randint(0, 2)]
    chosen["filters"] = rng.sample([*rest, *FILTERS], len(rest) + len(FILTERS))
    chosen["packing_host_numa_cells_allocation_strategy"] = chance(rng, 0.5)


def _siblings(cpus, threads):
    """CPUs of one cell as cores of `threads` each."""
    half = len(cpus) // threads
    if threads == 1 or half == 0:
        return [[cpu] for cpu in cpus]
    return [[cpus[at], cpus[at + half]] for at in range(half)] + [[cpu] for cpu in cpus[2 * half :]]


def _cell(rng, at, cpus, threads, shape):
    shared = {"shared": cpus, "dedicated": [], "both": cpus[: len(cpus) // 2]}[shape]
    own = [cpu for cpu in cpus if cpu not in shared]
    memory = rng.choice([512, 1024, 4096, 4096])
    used = rng.choice([0, 0, 0, 256, 512, memory])
    pages = []
    if chance(rng, 0.85):
        for size in SIZES_KB[: rng.choice([1, 2, 2, 3])]:
            total = memory * 1024 // size if size == 4 else rng.choice([0, 1, 128, 256, 512])
            pages.append(
                {
                    "size_kb": size,
                    "total": total,
                    "used": rng.choice([0, 0, 0, total // 2, total]),
                    "reserved": rng.choice([0, 0, 0, total // 4]),
                }
            )
    cell = {
        "id": at,
        "cpuset": shared,
        "pcpuset": own,
        "memory_mb": memory,
        "cpu_usage": rng.choice([0, 0, 1, len(shared), 2 * len(shared)]),
        "memory_usage_mb": used,
        "pinned_cpus": sorted(some(rng, own, len(own) // 2)) if chance(rng, 0.5) else [],
        "siblings": _siblings(cpus, threads),
        "mempages": pages,
        "socket": rng.choice([None, at // 2, at]),
    }
    if chance(rng, 0.3):
        cell["network_metadata"] = {"physnets": some(rng, ["physnet0", "physnet1"], 2), "tunneled": chance(rng, 0.3)}
    return cell


def topology(rng):
    count, size, threads = rng.choice([1, 2, 2, 4]), rng.choice([2, 4, 8]), rng.choice([1, 2])
    shape = rng.choice(["shared", "dedicated", "both", "both"])
    return {"cells": [_cell(rng, at, list(range(at * size, (at + 1) * size)), threads, shape) for at in range(count)]}


def pools(rng, cells):
    found = []
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        vendor, product = rng.choice(VENDORS)
        pool = {
            "vendor_id": vendor,
            "product_id": product,
            "dev_type": rng.choice(TYPES),
            "numa_node": rng.choice([None, *range(max(cells, 1)), 0]),
            "count": rng.choice([1, 1, 2, 4, 120]),
        }
        if chance(rng, 0.3):
            pool["physical_network"] = rng.choice(["physnet0", "physnet1"])
        if chance(rng, 0.15):
            pool["remote_managed"] = rng.choice(["true", "false"])
        if chance(rng, 0.15):
            pool["live_migratable"] = rng.choice(["true", "false"])
        if chance(rng, 0.1):
            pool["resource_class"] = "CUSTOM_GPU"
        found.append(pool)
    return found


def hosts(rng, fleet):
    """Gives most hosts of a fleet cells and devices."""
    for host in fleet:
        cells = 0
        if chance(rng, 0.85):
            host["numa_topology"] = topology(rng)
            cells = len(host["numa_topology"]["cells"])
            host["cpu_allocation_ratio"] = rng.choice([1.0, 1.3, 4.0])
            host["ram_allocation_ratio"] = rng.choice([1.0, 1.5, 0.9])
        if chance(rng, 0.7):
            host["pci_pools"] = pools(rng, cells)


def _specs(rng, vcpus, memory_mb):
    """Extra specs that make a topology; some contradict one another."""
    specs = {}
    if chance(rng, 0.6):
        even = [nodes for nodes in (1, 2, 2, 4) if vcpus % nodes == 0 and memory_mb % nodes == 0]
        nodes = specs["hw:numa_nodes"] = str(rng.choice(even if chance(rng, 0.93) else [3, 4]))
        if chance(rng, 0.12) and int(nodes) == 2 and vcpus > 2:
            specs.update({"hw:numa_cpus.0": "0", "hw:numa_cpus.1": f"1-{vcpus - 1}"})
            specs.update({"hw:numa_mem.0": str(memory_mb // 4), "hw:numa_mem.1": str(memory_mb - memory_mb // 4)})
    if chance(rng, 0.5):
        policy = specs["hw:cpu_policy"] = rng.choice(
            ["dedicated", "dedicated", "dedicated", "shared", "mixed", "odd"][: 6 if chance(rng, 0.1) else 5]
        )
        if policy == "mixed":
            specs["hw:cpu_dedicated_mask"] = rng.choice(["0", "0-1", "^0"])
        if policy == "dedicated" and chance(rng, 0.5):
            specs["hw:cpu_thread_policy"] = rng.choice(["prefer", "isolate", "require"])
        if policy == "dedicated" and chance(rng, 0.2):
            specs["hw:emulator_threads_policy"] = rng.choice(["isolate", "share"])
    if chance(rng, 0.4):
        specs["hw:mem_page_size"] = rng.choice(
            ["small", "large", "any", "2048", "4", "2MB", "1GB", "3", "huge"][: 9 if chance(rng, 0.1) else 7]
        )
    if chance(rng, 0.15):
        specs["hw:pci_numa_affinity_policy"] = rng.choice(["required", "preferred", "legacy", "socket"])
    return specs


def _asked_devices(rng):
    vendor, product = rng.choice(VENDORS)
    spec = {"vendor_id": vendor}
    if chance(rng, 0.7):
        spec["product_id"] = rng.choice([product, product.upper()])
    if chance(rng, 0.25):
        spec["dev_type"] = rng.choice(TYPES)
    if chance(rng, 0.15):
        spec["physical_network"] = rng.choice(["physnet0", "PHYSNET1"])
    if chance(rng, 0.1):
        spec["remote_managed"] = rng.choice(["True", "False"])
    if chance(rng, 0.1):
        spec["live_migratable"] = rng.choice(["true", "false"])
    if chance(rng, 0.1):
        spec["resource_class"] = "CUSTOM_OTHER"
    asked = {"count": rng.choice([1, 1, 1, 2, 3]), "spec": [spec]}
    if chance(rng, 0.15):
        vendor, product = rng.choice(VENDORS)
        asked["spec"].append({"vendor_id": vendor, "product_id": product})
    if chance(rng, 0.5):
        asked["numa_policy"] = rng.choice(["required", "preferred", "legacy", "socket"])
    return asked


def request(rng, asked):
    """Makes a request ask for cells and devices."""
    asked["extra_specs"].pop("numa_topology", None)  # an object, of which Nova compares what Python prints
    asked["vcpus"] = rng.choice([1, 1, 2, 2, 4, 6])
    asked["memory_mb"] = rng.choice([256, 256, 512, 512, 1024, 1000])
    if asked["image"] is None and chance(rng, 0.9):
        asked["image"] = {}
    if chance(rng, 0.85):
        specs = _specs(rng, asked["vcpus"], asked["memory_mb"])
        if asked["image"] is not None and chance(rng, 0.15):
            specs = dict(specs)
            for name in some(rng, ["hw:numa_nodes", "hw:cpu_policy", "hw:cpu_thread_policy", "hw:mem_page_size"], 2):
                if name in specs:
                    asked["image"][name.replace(":", "_")] = specs.pop(name) if chance(rng, 0.7) else specs[name]
        asked["extra_specs"].update(specs)
        asked["extra_specs"] = dict(sorted(asked["extra_specs"].items()))
    if chance(rng, 0.4):
        asked["pci_requests"] = [_asked_devices(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    if chance(rng, 0.2):
        asked["network_metadata"] = {"physnets": some(rng, ["physnet0", "physnet1"], 1), "tunneled": chance(rng, 0.3)}
