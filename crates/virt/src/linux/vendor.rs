//! The vendor of the CPUs, in libvirt's spelling if it has one. Flavors and images use that spelling.
//!
//! A vendor that is not in these tables is reported under the name that the CPU gives.

use super::cpuinfo::CpuInfo;

/// x86: the text that the CPU itself gives.
const X86: &[(&str, &str)] = &[("GenuineIntel", "Intel"), ("AuthenticAMD", "AMD"), ("HygonGenuine", "Hygon")];

/// ARM: the number of the implementer. libvirt does not know Faraday, Samsung, Apple and Microsoft.
const ARM: &[(u32, &str)] = &[
    (0x41, "ARM"),
    (0x42, "Broadcom"),
    (0x43, "Cavium"),
    (0x44, "DigitalEquipment"),
    (0x46, "Fujitsu"),
    (0x48, "HiSilicon"),
    (0x49, "Infineon"),
    (0x4d, "Freescale"),
    (0x4e, "NVIDIA"),
    (0x50, "APM"),
    (0x51, "Qualcomm"),
    (0x53, "Samsung"),
    (0x56, "Marvell"),
    (0x61, "Apple"),
    (0x66, "Faraday"),
    (0x69, "Intel"),
    (0x6d, "Microsoft"),
    (0x70, "Phytium"),
    (0xc0, "Ampere"),
];

/// RISC-V: the number in the register mvendorid. The kernel knows these.
const RISC_V: &[(u32, &str)] =
    &[(0x029, "Microchip"), (0x31e, "Andes"), (0x489, "SiFive"), (0x5b7, "T-Head"), (0x722, "MIPS")];

/// Architectures that name no vendor: a field, how its value begins, and the vendor.
const BY_MODEL: &[(&str, &str, &str)] = &[
    ("CPU Family", "Loongson", "Loongson"),
    ("cpu model", "Loongson", "Loongson"),
    ("cpu", "POWER", "IBM"),
    ("cpu", "SPARC", "Oracle"),
];

/// The vendor. `None` if it is not known.
pub(super) fn name<'a>(info: &CpuInfo<'a>) -> Option<&'a str> {
    if let Some(text) = info.first(&["vendor_id"]) {
        return Some(X86.iter().find(|(id, _)| *id == text).map_or(text, |(_, vendor)| vendor));
    }
    if let Some(implementer) = info.first(&["CPU implementer"]) {
        return Some(numbered(ARM, implementer));
    }
    // A CPU without this information has 0 there.
    if let Some(vendor) = info.first(&["mvendorid"]).filter(|vendor| hex(vendor) != Some(0)) {
        return Some(numbered(RISC_V, vendor));
    }
    let begins = |(field, start, _): &&(&str, &str, &str)| {
        info.first(&[field]).is_some_and(|value| value.starts_with(start))
    };
    BY_MODEL.iter().find(begins).map(|(_, _, vendor)| *vendor)
}

fn numbered<'a>(vendors: &[(u32, &'static str)], text: &'a str) -> &'a str {
    vendors.iter().find(|(id, _)| hex(text) == Some(*id)).map_or(text, |(_, vendor)| vendor)
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_of_every_architecture() {
        for (text, vendor) in [
            ("processor : 0\nvendor_id : GenuineIntel\n", Some("Intel")),
            ("processor : 0\nvendor_id : CentaurHauls\n", Some("CentaurHauls")),
            ("vendor_id : IBM/S390\nprocessor 0: version = 00\n", Some("IBM/S390")),
            ("processor : 0\nCPU implementer : 0x70\n", Some("Phytium")),
            ("processor : 0\nCPU implementer : 0x4E\n", Some("NVIDIA")),
            ("processor : 0\nCPU implementer : 0x99\n", Some("0x99")),
            ("processor : 0\nmvendorid : 0x489\n", Some("SiFive")),
            ("processor : 0\nmvendorid : 0x0\n", None),
            ("processor : 0\nCPU Family : Loongson-64bit\n", Some("Loongson")),
            ("processor : 0\ncpu : POWER9, altivec supported\n", Some("IBM")),
            ("cpu : SPARC-M7\nCPU0: online\n", Some("Oracle")),
            ("processor : 0\n", None),
        ] {
            assert_eq!(name(&CpuInfo::parse(text)), vendor, "{text}");
        }
    }
}
