"""Random fleets and requests about what comes before the filters: resources, traits, aggregates and Nova's prefilters.

The documents name CoreFilter, RamFilter and DiskFilter, which stand here for what Placement says of the sizes that every
host has, and no other filter and no weigher.
"""

import uuid

from fleets import chance, some

FILTERS = ["CoreFilter", "RamFilter", "DiskFilter"]
NAMES = ["cmp-1", "cmp-2", "CMP-3", "größe-4", "cmp 5", "主机-6", "cmp-7", "cmp-8", "cmp-9", "cmp-10"]
PROJECTS = ["alpha", "beta", "γάμμα"]
ZONES = ["az1", "az2"]
OWN_TRAITS = ["CUSTOM_GOLD", "CUSTOM_SSD", "HW_CPU_X86_AVX2", "HW_CPU_HYPERTHREADING"]
# What hosts mostly have, because requests ask for several of these at once.
COMMON_TRAITS = [
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_STORAGE_BUS_VIRTIO",
    "COMPUTE_STORAGE_BUS_SATA",
    "COMPUTE_GRAPHICS_MODEL_QXL",
    "COMPUTE_NET_VIF_MODEL_VIRTIO",
    "COMPUTE_NET_VIF_MODEL_SPAPR_VLAN",
    "HW_ARCH_X86_64",
    "HW_ARCH_AARCH64",
    "COMPUTE_ARCH_AARCH64",
    "COMPUTE_NET_VIRTIO_PACKED",
    "COMPUTE_EPHEMERAL_ENCRYPTION",
    "COMPUTE_EPHEMERAL_ENCRYPTION_LUKS",
    "COMPUTE_SOUND_MODEL_VIRTIO",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_USER",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_HOST",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_DEPLOYMENT",
    "COMPUTE_SECURITY_TPM_TIS",
    "COMPUTE_SECURITY_TPM_CRB",
    "COMPUTE_SECURITY_TPM_1_2",
    "COMPUTE_SECURITY_TPM_2_0",
    "COMPUTE_SECURITY_UEFI_SECURE_BOOT",
    "COMPUTE_SECURITY_STATELESS_FIRMWARE",
    "COMPUTE_ADDRESS_SPACE_PASSTHROUGH",
    "COMPUTE_ADDRESS_SPACE_EMULATED",
    "COMPUTE_SOCKET_PCI_NUMA_AFFINITY",
    "HW_CPU_X86_AMD_SEV",
    "HW_CPU_X86_AMD_SEV_ES",
    "HW_CPU_X86_AMD_SEV_SNP",
    "HW_CPU_X86_INTEL_TDX",
]
# Of these, requests ask by `hw:` extra specs and image properties.
IMPLIED_CLASSES = ["MEM_ENCRYPTION_CONTEXT", "CUSTOM_PMEM_NAMESPACE_4GB", "CUSTOM_PMEM_NAMESPACE_16_GB"]
CLASSES = ["CUSTOM_GPU", "CUSTOM_LICENSE", "VGPU", "FPGA", "NET_BW_EGR_KILOBIT_PER_SEC"]
NO_FALLBACK = "disable_fallback_pcpu_query"  # of [workarounds]
OPTIONS = [
    "limit_tenants_to_placement_aggregate",
    "placement_aggregate_required_for_tenants",
    "query_placement_for_image_type_support",
    "enable_isolated_aggregate_filtering",
    "image_metadata_prefilter",
]


def options(rng):
    on = {name: chance(rng, 0.25) for name in OPTIONS}
    return {"filters": FILTERS, "weighers": [], "placement": True, NO_FALLBACK: chance(rng, 0.4), **on}


def aggregate(rng, at):
    pools = {
        "availability_zone": [*ZONES, *ZONES, *ZONES, "AZ1"],
        "filter_tenant_id": [*PROJECTS, "alpha,beta", ""],
        "filter_tenant_id2": PROJECTS,
        "tenant": PROJECTS,
        "trait:CUSTOM_GOLD": ["required", "required", "forbidden"],
        "trait:HW_ARCH_X86_64": ["required"],
        "trait:COMPUTE_IMAGE_TYPE_QCOW2": ["required", "Required"],
        "trait": ["required"],
        "ssd": ["true", "required"],
    }
    return {
        "id": at + 1,
        "name": f"aggregate {at + 1}",
        "metadata": {name: rng.choice(pools[name]) for name in sorted(rng.sample(list(pools), rng.randint(1, 3)))},
    }


def inventory(rng):
    """Half of them plain and with much room, so that a request for several classes finds hosts."""
    if chance(rng, 0.5):
        return {"total": rng.choice([8, 1000]), "used": rng.choice([0, 1])}
    total = rng.choice([2, 4, 7, 16, 1000])
    ratio = rng.choice([1.0, 1.0, 1.5, 0.3, 4.0, 1.1])
    return {
        "total": total,
        "reserved": rng.choice([0, 0, 0, 1, total]),
        "min_unit": rng.choice([1, 1, 1, 2, 3]),
        "max_unit": rng.choice([total, total, 1, 2, 2**31 - 1]),
        "step_size": rng.choice([1, 1, 1, 2, 3]),
        "allocation_ratio": ratio,
        "used": rng.choice([0, 0, 0, 1, rng.randint(0, total), int(total * ratio), total + 3]),
    }


def host(rng, at, name, aggregates):
    vcpus, memory, disk = rng.choice([4, 8, 16]), rng.choice([4096, 65536]), rng.choice([20, 100, 4000])
    cpu_ratio, ram_ratio = rng.choice([4.0, 1.0, 1.3, 0.5]), rng.choice([1.0, 1.0, 1.5, 0.9])
    full = rng.choice(["", "", "", "cpu", "ram", "disk"])  # at the edge, or beyond it
    vcpus_used = rng.choice([rng.randint(0, vcpus), int(vcpus * cpu_ratio) - 1, vcpus + 1]) if full == "cpu" else 0
    memory_mb_used = rng.choice([rng.randint(0, memory), int(memory * ram_ratio) - 512]) if full == "ram" else 0
    local_gb_used = rng.choice([rng.randint(0, disk), disk, disk - 1]) if full == "disk" else 0
    traits = [trait for trait in OWN_TRAITS if chance(rng, 0.7)]
    rate = rng.choice([0.8, 1.0, 1.0])
    traits += [trait for trait in COMMON_TRAITS if chance(rng, rate)]
    if chance(rng, 0.08):
        traits.append("COMPUTE_STATUS_DISABLED")
    return {
        "host": name,
        "node": rng.choice([None, f"node-{at}"]),
        "vcpus": vcpus,
        "vcpus_used": vcpus_used,
        "memory_mb": memory,
        "memory_mb_used": memory_mb_used,
        "local_gb": disk,
        "local_gb_used": local_gb_used,
        "cpu_allocation_ratio": cpu_ratio,
        "ram_allocation_ratio": ram_ratio,
        "aggregates": [aggregate["id"] for aggregate in aggregates if chance(rng, 0.4)],
        "traits": sorted(traits),
        "resources": {name: inventory(rng) for name in CLASSES + IMPLIED_CLASSES if chance(rng, 0.9)},
    }


def dedicate(rng, host, options):
    """Sets CPUs apart. Where Nova asks a second time, for VCPU, a host that has both is one of the known differences."""
    host["resources"]["PCPU"] = {"total": rng.choice([2, 8]), "used": rng.choice([0, 0, 1, 2])}
    if not options[NO_FALLBACK] or chance(rng, 0.3):
        host.update(vcpus=0, vcpus_used=0)


def fleet(rng, options):
    aggregates = [aggregate(rng, at) for at in range(rng.randint(0, 6))]
    names = rng.sample(NAMES, rng.choice([2, 4, 6, 8, 10]))
    hosts = [host(rng, at, name, aggregates) for at, name in enumerate(names)]
    for one in hosts if chance(rng, 0.4) else []:
        if chance(rng, 0.6):
            dedicate(rng, one, options)
    return hosts, aggregates


def pinning(rng):
    policy = rng.choice(["dedicated", "dedicated", "mixed", "shared"])
    if policy == "shared":
        return {"hw:cpu_policy": policy}
    asked = {"hw:cpu_policy": policy}
    if policy == "mixed":
        asked["hw:cpu_dedicated_mask"] = rng.choice(["0", "^0", "0-1"])
    if chance(rng, 0.3):
        asked["hw:cpu_thread_policy"] = rng.choice(["require", "isolate", "prefer"])
    if chance(rng, 0.2):
        asked["hw:emulator_threads_policy"] = rng.choice(["isolate", "share"])
    return asked


def suffixes(rng):
    return rng.choice([[""], [""], [""], [""], ["", "1"], ["_a"], ["1", "-b"], ["", "x" * 64], ["y" * 65]])


def resources(rng):
    amounts = ["1", "1", "1", "2", "2", "3", "0", " 2 ", "1_0", "-1", "1.0", "x", "+1", "1000"]
    asked = {}
    for suffix in suffixes(rng):
        for name in some(rng, CLASSES + IMPLIED_CLASSES[:2], 2):
            asked[f"resources{suffix}:{name}"] = rng.choice(amounts[:6] if chance(rng, 0.85) else amounts)
        if suffix and chance(rng, 0.2):
            asked[f"resources{suffix}:VCPU"] = rng.choice(["1", "2"])
        for name in some(rng, OWN_TRAITS, 1) if chance(rng, 0.3) else []:
            asked[f"trait{suffix}:{name}"] = rng.choice(["required", "forbidden"])
    if chance(rng, 0.1):
        asked["resources:MEMORY_MB"] = rng.choice(["256", "4096"])
    if chance(rng, 0.1):
        asked["resources:DISK_GB"] = rng.choice(["0", "5", "30"])
    if chance(rng, 0.1):
        asked["resources:VCPU"] = rng.choice(["0", "3"])
    if chance(rng, 0.03):
        asked[rng.choice(["resources:CUSTOM_NOBODY", "resources:PGPU", "resources:GPU", "resources:custom_gpu"])] = "1"
    return asked


def traits(rng):
    asked = {}
    for name in some(rng, [*OWN_TRAITS, COMMON_TRAITS[0]], 2):
        word = rng.choice(["required", "required", "required", "forbidden", "Required", ""])
        asked[f"trait{'_t' if chance(rng, 0.03) else ''}:{name}"] = word
    if chance(rng, 0.03):
        asked[rng.choice(["trait:CUSTOM_NOBODY", "trait:avx2", "trait:COMPUTE_STATUS_DISABLED"])] = "required"
    return asked


def features(rng):
    """Extra specs and image properties that ask for the same things, in agreement or not."""
    pools = {
        "virtio_packed_ring": ["true", "yes", "false", "no"],
        "ephemeral_encryption": ["true", "false"],
        "ephemeral_encryption_format": ["luks", "luks", "plain"],
        "sound_model": ["virtio", "virtio", "ich9"],
        "pci_numa_affinity_policy": ["socket", "socket", "required"],
        "maxphysaddr_mode": ["passthrough", "emulate", "emulate"],
        "secure_boot": ["required", "required", "optional"],
    }
    specs, image = {}, {}
    if chance(rng, 0.3):
        specs["hw:tpm_version"] = rng.choice(["2.0", "1.2", "2.0", "3.0"])
        specs["hw:tpm_model"] = rng.choice(["tpm-tis", "tpm-crb"])
        if chance(rng, 0.8):
            specs["hw:tpm_secret_security"] = rng.choice(["user", "host", "deployment", "paper", ""])
    for name in some(rng, pools, 2):
        value = rng.choice(pools[name])
        where = rng.random()
        prefix = "os" if name == "secure_boot" else "hw"
        if where < 0.6:
            specs[f"{prefix}:{name}"] = value
        if where > 0.5:
            image[f"{prefix}_{name}"] = value if chance(rng, 0.9) else rng.choice(pools[name])
    if chance(rng, 0.15):
        specs["hw:pmem"] = rng.choice(["4GB", "4GB, 4GB", "16 GB,4GB", " , ", "8GB"])
    if chance(rng, 0.3):
        image["hw_firmware_type"] = rng.choice(["uefi", "uefi", "bios"])
        image["hw_firmware_stateless"] = rng.choice(["true", "true", "false"])
    if chance(rng, 0.3):
        encryption(rng, specs, image)
    return specs, image


def encryption(rng, specs, image):
    """Memory encryption: mostly with all that its model needs."""
    model = rng.choice(["amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx"])
    of_flavor = chance(rng, 0.5)
    if of_flavor or chance(rng, 0.1):
        specs["hw:mem_encryption"] = rng.choice(["true", "true", "yes", "1", "false"])
        specs["hw:mem_encryption_model"] = model if chance(rng, 0.9) else "rot13"
    if not of_flavor:
        image["hw_mem_encryption"] = rng.choice(["true", "true", "True", "false"])
        image["hw_mem_encryption_model"] = model
    if chance(rng, 0.95):
        image["hw_firmware_type"] = "uefi"
    if chance(rng, 0.95):
        image["hw_firmware_stateless"] = "true"
    if model == "intel-tdx" and chance(rng, 0.9):
        image["hw_video_model"] = "none"
    if chance(rng, 0.3):
        image["hw_machine_type"] = rng.choice(["q35", "pc-q35-8.2", "pc-i440fx-7.2"])


def image_properties(rng):
    pools = {
        "hw_cdrom_bus": ["virtio", "sata"],
        "hw_disk_bus": ["virtio", "sata", "sata"],
        "hw_video_model": ["qxl"],
        "hw_vif_model": ["virtio", "spapr-vlan"],
        "hw_architecture": ["x86_64", "amd64", "aarch64"],
        "hw_emulation_architecture": ["aarch64", "x86_64"],
        "hw_viommu_model": ["virtio"],
        "os_type": ["linux"],
        "trait:CUSTOM_SSD": ["required", "required"],
        "trait:HW_CPU_X86_AVX2": ["required"],
    }
    return {name: rng.choice(pools[name]) for name in sorted(some(rng, pools, 2))}


def request(rng, at, hosts, aggregates):
    names, nodes = [host["host"] for host in hosts], [host["node"] or host["host"] for host in hosts]
    ids = [aggregate["id"] for aggregate in aggregates]
    specs = {}
    if chance(rng, 0.45):
        specs.update(resources(rng))
    if chance(rng, 0.2):
        specs.update(traits(rng))
    if chance(rng, 0.8):
        specs["group_policy"] = rng.choice(["none", "none", "none", "none", "isolate", "all"])
    vcpus = rng.choice([1, 1, 1, 2, 6])
    pinned = chance(rng, 0.25)
    if pinned:
        specs = pinning(rng)  # alone: Nova fails with a TypeError where Placement refuses its second query
    image = image_properties(rng) if chance(rng, 0.35) else {}
    if chance(rng, 0.2):
        more_specs, more_image = features(rng)
        specs.update(more_specs)
        image.update(more_image)
        if pinned:
            specs.pop("hw:pmem", None)  # Placement refuses a query for a class that it does not know.
    count = rng.choice([1, 1, 1, 2, 3, 6])
    asked = {
        "id": at,
        "instance_uuids": [str(uuid.UUID(int=(0xC000 + at) << 16 | n)) for n in range(count)],
        "vcpus": vcpus,
        "memory_mb": rng.choice([512, 512, 1024, 4096]),
        "root_gb": rng.choice([0, 1, 1, 20]),
        "ephemeral_gb": rng.choice([0, 0, 5]),
        "swap": rng.choice([0, 0, 512, 1024, 1025]),
        "is_bfv": False,
        "extra_specs": dict(sorted(specs.items())),
        "image": image,
        "image_disk_format": rng.choice(["qcow2", "qcow2", "raw", "raw", "iso"]),
        "project_id": rng.choice([*PROJECTS, "delta"]),
    }
    if chance(rng, 0.2):
        asked["is_bfv"] = True
    if chance(rng, 0.2):
        asked["availability_zone"] = rng.choice([*ZONES, *ZONES, "AZ1", "nowhere", ""])
    if ids and chance(rng, 0.1):
        asked["required_aggregates"] = [
            sorted(rng.sample(ids, rng.randint(1, len(ids)))) for _ in range(rng.choice([1, 1, 2]))
        ]
    if ids and chance(rng, 0.15):
        asked["forbidden_aggregates"] = sorted(rng.sample(ids, rng.randint(1, min(2, len(ids)))))
    if chance(rng, 0.06):
        at = rng.randrange(len(hosts))
        asked["target_host"] = names[at]
        if chance(rng, 0.4):
            asked["target_node"] = nodes[at] if chance(rng, 0.8) else rng.choice(nodes)
    if chance(rng, 0.04):
        asked["force_hosts"] = [rng.choice([*names, *names, "nobody"])]
    if chance(rng, 0.04):
        asked["force_nodes"] = [rng.choice([*nodes, *nodes, "nobody"])]
    if chance(rng, 0.1):
        asked["ignore_hosts"] = some(rng, names, 2)
    return asked
