//! The kinds of guests that this machine can run: its own architecture under KVM, and those that an installed QEMU
//! emulates.

use super::tree::Tree;
use crate::stats::Probed;

/// Directories in which programs are looked for.
const PROGRAMS: [&str; 3] = ["usr/bin", "usr/local/bin", "usr/libexec"];

/// Architectures, each with the emulators that run its guests. An emulator's program is called `qemu-system-` and its name.
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

/// The kinds of guests, each as `[architecture, hypervisor type, VM mode]`.
pub(super) fn find(tree: &Tree, arch: &str) -> Probed<Vec<[String; 3]>> {
    let guest = |arch: &str, hypervisor: &str| [arch, hypervisor, "hvm"].map(str::to_owned);
    let installed = |program: &str| PROGRAMS.iter().any(|dir| tree.exists(&format!("{dir}/{program}")));
    let mut guests = Vec::new();
    // The agent's systemd unit hides /dev, but sysfs still shows whether there is KVM.
    if tree.exists("dev/kvm") || tree.exists("sys/class/misc/kvm") {
        guests.push(guest(arch, "kvm"));
        if arch == "x86_64" {
            guests.push(guest("i686", "kvm"));
        }
    }
    for (emulated, programs) in EMULATORS {
        let here = programs.iter().any(|name| installed(&format!("qemu-system-{name}")));
        // Some distributions have the emulator for the host's own architecture only under this name.
        if here || (*emulated == arch && installed("qemu-kvm")) {
            guests.push(guest(emulated, "qemu"));
        }
    }
    Probed::new(
        guests,
        "/dev/kvm or /sys/class/misc/kvm; qemu-system-* in /usr/bin, /usr/local/bin, /usr/libexec",
    )
}
