//! The guests that this machine could run: its own kind under KVM, and any that an installed QEMU emulates.

use super::tree::Tree;
use crate::stats::Probed;

/// Where programs are looked for.
const PROGRAMS: [&str; 3] = ["usr/bin", "usr/local/bin", "usr/libexec"];

/// Architectures, and the emulators that run their guests, by the names that come after `qemu-system-`.
const EMULATORS: &[(&str, &[&str])] = &[
    ("aarch64", &["aarch64"]),
    ("armv7l", &["aarch64", "arm"]),
    ("i686", &["i386", "x86_64"]),
    ("ppc64", &["ppc64"]),
    ("ppc64le", &["ppc64"]),
    ("riscv64", &["riscv64"]),
    ("s390x", &["s390x"]),
    ("x86_64", &["x86_64"]),
];

/// Guests as `[architecture, hypervisor type, VM mode]`.
pub(super) fn find(tree: &Tree, arch: &str) -> Probed<Vec<[String; 3]>> {
    let guest = |arch: &str, hypervisor: &str| [arch, hypervisor, "hvm"].map(str::to_owned);
    let installed = |program: &str| PROGRAMS.iter().any(|dir| tree.exists(&format!("{dir}/{program}")));
    let mut guests = Vec::new();
    // Where the agent runs without /dev, as its systemd unit has it, sysfs still knows.
    if tree.exists("dev/kvm") || tree.exists("sys/class/misc/kvm") {
        guests.push(guest(arch, "kvm"));
        if arch == "x86_64" {
            guests.push(guest("i686", "kvm"));
        }
    }
    for (emulated, programs) in EMULATORS {
        let here = programs.iter().any(|name| installed(&format!("qemu-system-{name}")));
        // Some distributions have the emulator of the host's own architecture under this name only.
        if here || (*emulated == arch && installed("qemu-kvm")) {
            guests.push(guest(emulated, "qemu"));
        }
    }
    Probed::new(
        guests,
        "/dev/kvm or /sys/class/misc/kvm; qemu-system-* in /usr/bin, /usr/local/bin, /usr/libexec",
    )
}
