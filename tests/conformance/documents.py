"""What a document's absent fields mean (schema 1), and a document as a seed makes it."""

import random

import fleets
import numa_pci
import placement_fleets
import request_specs

# Where HostState's counters are said besides the host's `stats`.
COUNTS = {"num_instances": "num_instances", "num_io_ops": "io_workload", "failed_builds": "failed_builds"}

HOST = {
    "node": None,
    "vcpus": 0,
    "vcpus_used": 0,
    "memory_mb": 0,
    "memory_mb_used": 0,
    "local_gb": 0,
    "local_gb_used": 0,
    "disk_available_least": None,
    "cpu_allocation_ratio": 4.0,
    "ram_allocation_ratio": 1.0,
    "disk_allocation_ratio": 1.0,
    "cpu_info": None,
    "hypervisor_type": "",
    "hypervisor_version": 0,
    "host_ip": None,
    "supported_instances": None,
    "stats": {},
    "num_instances": None,
    "num_io_ops": None,
    "failed_builds": None,
    "instances": [],
    "disabled": False,
    "forced_down": False,
    "last_seen_age_s": 0,
    "metrics": None,
    "cell": None,
    "aggregates": [],
    "numa_topology": None,
    "pci_pools": [],
    "traits": [],
    "resources": {},
}

# Of a resource class.
INVENTORY = {"reserved": 0, "min_unit": 1, "max_unit": 2**31 - 1, "step_size": 1, "allocation_ratio": 1.0, "used": 0}

REQUEST = {
    "vcpus": 0,
    "memory_mb": 0,
    "root_gb": 0,
    "ephemeral_gb": 0,
    "swap": 0,
    "flavor_name": None,
    "flavor_id": None,
    "extra_specs": {},
    "image": None,
    "image_id": None,
    "image_disk_format": None,
    "is_bfv": False,
    "hints": {},
    "group": None,
    "force_hosts": [],
    "force_nodes": [],
    "ignore_hosts": [],
    "target_host": None,
    "target_node": None,
    "target_cell": None,
    "allow_cross_cell_move": False,
    "availability_zone": None,
    "project_id": None,
    "required_aggregates": [],
    "forbidden_aggregates": [],
    "pci_requests": [],
    "network_metadata": None,
}

REQUESTS_PER_DOCUMENT = 5
NUMA_EVERY = 4  # one document in so many is about NUMA cells and PCI devices, which take Nova long
PLACEMENT_EVERY = 8  # one in so many is about what comes before the filters


def host(told):
    """A host with all its fields."""
    whole = {**HOST, **told}
    whole.setdefault("free_ram_mb", whole["memory_mb"] - whole["memory_mb_used"])
    whole.setdefault("free_disk_gb", whole["local_gb"] - whole["local_gb_used"])
    return whole


def request(told):
    """A request with all its fields."""
    return {**REQUEST, **told}


def before_filters(options):
    """Whether a document is about the stage before the filters, which these options then name."""
    return options.get("placement", False)


def config(options):
    """Nova's options among those of a document."""
    ours = ("filters", "weighers", "on_filter_error", "placement")
    return {name: value for name, value in options.items() if name not in ours}


def generate(seed, number):
    """The document with this number of the run with this seed."""
    rng = random.Random(f"{seed}:{number}")
    if number % PLACEMENT_EVERY == PLACEMENT_EVERY - 1:
        options = placement_fleets.options(rng)
        hosts, aggregates = placement_fleets.fleet(rng, options)
        asked = [placement_fleets.request(rng, at, hosts, aggregates) for at in range(REQUESTS_PER_DOCUMENT)]
        return {"schema": 1, "options": options, "aggregates": aggregates, "hosts": hosts, "requests": asked}
    options = fleets.options(rng)
    numa = number % NUMA_EVERY == NUMA_EVERY - 1
    if numa:
        numa_pci.options(rng, options)
    hosts, aggregates = fleets.fleet(rng, {*options["filters"], *options["weighers"]})
    if numa:
        numa_pci.hosts(rng, hosts)
    asked = []
    for at in range(REQUESTS_PER_DOCUMENT):
        request = request_specs.request(rng, at, hosts, options["filters"])
        if numa:
            numa_pci.request(rng, request)
        asked.append(request)
    return {"schema": 1, "options": options, "aggregates": aggregates, "hosts": hosts, "requests": asked}
