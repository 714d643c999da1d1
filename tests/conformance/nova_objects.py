"""A document's hosts, aggregates and requests as the objects that Nova's scheduler works on.

A host becomes a ComputeNode and the row of its service, as a compute would have saved them, and Nova's own
`HostState.update` reads those. A host whose `free_disk_gb` is null was registered but never reported.
"""

import datetime
import json
import uuid

from nova import objects
from nova.scheduler import host_manager
from nova.virt import hardware

import documents

SPACE = uuid.UUID("6c0e4f0a-6d0e-4b57-9a52-6f6d1c1f9c55")


def node_uuid(at):
    return str(uuid.UUID(int=at + 1))


def cell_uuid(name):
    """Nova knows cells by uuid, a document by name."""
    return str(uuid.uuid5(SPACE, name)) if name else str(uuid.UUID(int=0))


def aggregate_uuid(at):
    return str(uuid.uuid5(SPACE, str(at)))


def aggregates(document):
    return {
        aggregate["id"]: objects.Aggregate(
            id=aggregate["id"],
            uuid=aggregate_uuid(aggregate["id"]),
            name=aggregate["name"],
            hosts=[],
            metadata=dict(aggregate["metadata"]),
        )
        for aggregate in document["aggregates"]
    }


def _numa_topology(host):
    topology = host["numa_topology"]
    if not topology:
        return None
    cells = []
    for cell in topology["cells"]:
        network = cell.get("network_metadata") or {}
        cells.append(
            objects.NUMACell(
                id=cell["id"],
                cpuset=set(cell["cpuset"]),
                pcpuset=set(cell["pcpuset"]),
                memory=cell["memory_mb"],
                cpu_usage=cell.get("cpu_usage", 0),
                memory_usage=cell.get("memory_usage_mb", 0),
                pinned_cpus=set(cell.get("pinned_cpus", [])),
                siblings=[set(siblings) for siblings in cell.get("siblings", [])],
                mempages=[
                    objects.NUMAPagesTopology(
                        size_kb=pages["size_kb"],
                        total=pages["total"],
                        used=pages.get("used", 0),
                        reserved=pages.get("reserved", 0),
                    )
                    for pages in cell.get("mempages", [])
                ],
                network_metadata=objects.NetworkMetadata(
                    physnets=set(network.get("physnets", [])), tunneled=network.get("tunneled", False)
                ),
                socket=cell.get("socket"),
            )
        )
    return objects.NUMATopology(cells=cells)._to_json()


def inventories(host):
    """By resource class, with what is used: its sizes as Nova's libvirt driver tells them, and what a document has besides."""
    sizes = {
        "VCPU": (host["vcpus"], host["cpu_allocation_ratio"], host["vcpus_used"]),
        "MEMORY_MB": (host["memory_mb"], host["ram_allocation_ratio"], host["memory_mb_used"]),
        "DISK_GB": (host["local_gb"], host["disk_allocation_ratio"], host["local_gb_used"]),
    }
    told = {
        name: {"total": total, "max_unit": total, "allocation_ratio": ratio, "used": used}
        for name, (total, ratio, used) in sizes.items()
    }
    return {
        name: {**documents.INVENTORY, **inventory}
        for name, inventory in {**told, **host["resources"]}.items()
        if inventory["total"]
    }


def _pools(host):
    pools = host["pci_pools"]
    return objects.PciDevicePoolList(objects=[objects.PciDevicePool.from_dict(pool) for pool in pools])


def _metrics(host):
    common = {"timestamp": "2026-01-01T00:00:00", "source": "conformance"}
    return json.dumps([{**common, **metric} for metric in host["metrics"] or []])


def _cpu_info(host):
    """Nova keeps it as text; written as compactly and with its keys in the same order as a document's reader does."""
    cpu_info = host["cpu_info"]
    if cpu_info is None or isinstance(cpu_info, str):
        return cpu_info
    return json.dumps(cpu_info, ensure_ascii=False, separators=(",", ":"))


def _stats(host):
    """Nova counts by what is in here; a document may say it at the top alone."""
    counts = {name: str(host[field]) for field, name in documents.COUNTS.items() if host[field] is not None}
    return {**counts, **host["stats"]}


def compute_node(at, host):
    """The ComputeNode of a host, as it is read from the database."""
    return objects.ComputeNode(
        id=at + 1,
        uuid=node_uuid(at),
        host=host["host"],
        hypervisor_hostname=host["node"] or host["host"],
        vcpus=host["vcpus"],
        vcpus_used=host["vcpus_used"],
        memory_mb=host["memory_mb"],
        memory_mb_used=host["memory_mb_used"],
        free_ram_mb=host["free_ram_mb"],
        local_gb=host["local_gb"],
        local_gb_used=host["local_gb_used"],
        free_disk_gb=host["free_disk_gb"],
        disk_available_least=host["disk_available_least"],
        cpu_allocation_ratio=host["cpu_allocation_ratio"],
        ram_allocation_ratio=host["ram_allocation_ratio"],
        disk_allocation_ratio=host["disk_allocation_ratio"],
        cpu_info=_cpu_info(host),
        hypervisor_type=host["hypervisor_type"],
        hypervisor_version=host["hypervisor_version"],
        host_ip=host["host_ip"],
        supported_hv_specs=[objects.HVSpec.from_list(triple) for triple in host["supported_instances"] or []],
        stats=_stats(host),
        metrics=_metrics(host),
        numa_topology=_numa_topology(host),
        pci_device_pools=_pools(host),
        updated_at=None,
    )


def service(host, now):
    """The row of its service."""
    return {
        "host": host["host"],
        "binary": "nova-compute",
        "disabled": host["disabled"],
        "disabled_reason": None,
        "forced_down": host["forced_down"],
        "last_seen_up": now - datetime.timedelta(seconds=host["last_seen_age_s"]),
        "created_at": now - datetime.timedelta(days=1),
    }


def _instance(entry):
    if isinstance(entry, str):
        entry = {"uuid": entry}
    metadata = {f"image_{name}": value for name, value in (entry.get("image") or {}).items()}
    return objects.Instance(uuid=entry["uuid"], system_metadata=metadata, image_ref="")


class Fleet:
    """The hosts of a document. What a request changes is made anew for each."""

    def __init__(self, document, now):
        self.known = known = aggregates(document)
        self.hosts = [documents.host(host) for host in document["hosts"]]
        self.computes = [compute_node(at, host) for at, host in enumerate(self.hosts)]
        self.services = [service(host, now) for host in self.hosts]
        self.aggregates = [[known[at] for at in host["aggregates"]] for host in self.hosts]
        self.instances = [[_instance(entry) for entry in host["instances"]] for host in self.hosts]

    def states(self):
        """HostStates in fleet order; each has its place in it as `at`."""
        states = []
        for at, host in enumerate(self.hosts):
            state = host_manager.HostState(host["host"], host["node"] or host["host"], cell_uuid(host["cell"]))
            instances = {instance.uuid: instance for instance in self.instances[at]}
            state.update(self.computes[at], self.services[at], self.aggregates[at], instances)
            state.uuid = node_uuid(at)  # one that never reported has none, and could not be returned as selected
            state.at = at
            states.append(state)
        return states


def _destination(request):
    host, cell = request["target_host"], request["target_cell"]
    required, forbidden = request["required_aggregates"], request["forbidden_aggregates"]
    if host is None and cell is None and not required and not forbidden:
        return None
    fields = {"allow_cross_cell_move": request["allow_cross_cell_move"]}
    if host is not None:
        fields.update(host=host, node=request["target_node"])
    if cell is not None:
        fields["cell"] = objects.CellMapping(uuid=cell_uuid(cell))
    destination = objects.Destination(**fields)
    for ids in required:
        destination.require_aggregates(aggregate_uuid(at) for at in ids)
    if forbidden:
        destination.append_forbidden_aggregates({aggregate_uuid(at) for at in forbidden})
    return destination


def _group(group):
    if group is None:
        return None
    return objects.InstanceGroup(
        uuid=str(uuid.uuid5(SPACE, "group")),
        policy=group["policy"],
        policies=[group["policy"]],
        members=list(group["members"]),
        hosts=list(group["hosts"]),
        rules=dict(group.get("rules") or {}),
    )


def _image(request):
    if all(request[field] is None for field in ("image", "image_id", "image_disk_format")):
        return None
    image = {"properties": dict(request["image"] or {})}
    if request["image_id"] is not None:
        image["id"] = request["image_id"]
    if request["image_disk_format"] is not None:
        image["disk_format"] = request["image_disk_format"]
    return objects.ImageMeta.from_dict(image)


def _pci_requests(request, flavor, image):
    """Nova's API gives those without a policy that of flavor or image."""
    image = image or objects.ImageMeta.from_dict({})
    policy = hardware.get_pci_numa_policy_constraint(flavor, image) if request["pci_requests"] else None
    requests = [
        objects.InstancePCIRequest(
            count=asked["count"],
            spec=asked["spec"],
            numa_policy=asked.get("numa_policy") or policy,
            alias_name=asked.get("alias_name"),
            request_id=str(uuid.uuid5(SPACE, f"pci {at}")),
        )
        for at, asked in enumerate(request["pci_requests"])
    ]
    return objects.InstancePCIRequests(requests=requests)


def request_spec(context, request):
    """What the conductor would send for a request. Nova's own reading of flavor and image makes its NUMA topology."""
    request = documents.request(request)
    flavor = objects.Flavor(
        id=1,
        name=request["flavor_name"] or "",
        flavorid=request["flavor_id"] or "",
        vcpus=request["vcpus"],
        memory_mb=request["memory_mb"],
        root_gb=request["root_gb"],
        ephemeral_gb=request["ephemeral_gb"],
        swap=request["swap"],
        extra_specs=dict(request["extra_specs"]),
    )
    image = _image(request)
    hints = {name: hint if isinstance(hint, list) else [hint] for name, hint in request["hints"].items()}
    # Without an image, as of a volume, Nova's API reads one without properties.
    numa_topology = hardware.numa_get_constraints(flavor, image or objects.ImageMeta.from_dict({}))
    network = request["network_metadata"] or {}
    spec = objects.RequestSpec(
        context,
        flavor=flavor,
        image=image,
        num_instances=len(request["instance_uuids"]),
        instance_uuid=request["instance_uuids"][0],
        project_id=request["project_id"],
        user_id=None,
        availability_zone=request["availability_zone"],
        ignore_hosts=list(request["ignore_hosts"]),
        force_hosts=list(request["force_hosts"]),
        force_nodes=list(request["force_nodes"]),
        requested_destination=_destination(request),
        retry=None,
        limits=None,
        instance_group=_group(request["group"]),
        scheduler_hints=hints,
        numa_topology=numa_topology,
        pci_requests=_pci_requests(request, flavor, image),
        requested_resources=[],
        is_bfv=request["is_bfv"],
    )
    if network:
        spec.network_metadata = objects.NetworkMetadata(
            physnets=set(network.get("physnets", [])), tunneled=network.get("tunneled", False)
        )
    return spec
