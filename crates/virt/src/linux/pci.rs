//! All PCI devices of the host. The agent's configuration says which of them instances may have.
//!
//! Kinds of devices are those of libvirt and therefore of Nova. A device that can have virtual functions is a physical
//! function even while it has none. A virtual function with a vDPA device on it is of the kind `vdpa`.

use super::tree::Tree;
use crate::probe_error::{ProbeError, chain};
use crate::stats::{PciDevType, PciDevice, Probed};

const DEVICES: &str = "sys/bus/pci/devices";

/// The devices, and a warning for each that had to be left out.
#[derive(Clone)]
pub(super) struct Pci {
    pub(super) devices: Probed<Vec<PciDevice>>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn read(tree: &Tree) -> Result<Pci, ProbeError> {
    let Some(addresses) = tree.names(DEVICES)? else {
        return Ok(Pci { devices: Probed::new(Vec::new(), format!("no /{DEVICES}")), warnings: Vec::new() });
    };
    let (mut devices, mut warnings) = (Vec::new(), Vec::new());
    for address in addresses {
        match read_device(tree, address.clone()) {
            Ok(device) => devices.extend(device),
            Err(error) => warnings.push(format!(
                "the PCI device {address} is left out: {}; look for errors of the device in the kernel's log",
                chain(&error)
            )),
        }
    }
    Ok(Pci { devices: Probed::new(devices, format!("/{DEVICES}")), warnings })
}

/// Reads one device. `None` if it has disappeared since it was listed, as virtual functions may.
fn read_device(tree: &Tree, address: String) -> Result<Option<PciDevice>, ProbeError> {
    let file = |name: &str| format!("{DEVICES}/{address}/{name}");
    let hex = |name: &str, digits: usize| -> Result<Option<String>, ProbeError> {
        let Some(text) = tree.optional(&file(name))? else { return Ok(None) };
        let number = text.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let wanted = || tree.malformed(&file(name), format!("expected a number like 0x8086, found {text:?}"));
        number.map(|n| Some(format!("{n:0digits$x}"))).ok_or_else(wanted)
    };
    let (Some(vendor_id), Some(product_id), Some(class)) =
        (hex("vendor", 4)?, hex("device", 4)?, hex("class", 6)?)
    else {
        return Ok(None);
    };
    // The kernel writes -1 if the firmware does not name a node.
    let numa_node = tree.optional(&file("numa_node"))?.and_then(|node| node.parse().ok());
    let parent = tree.link(&file("physfn"));
    let dev_type = match &parent {
        Some(_) if has_vdpa(tree, &address)? => PciDevType::Vdpa,
        Some(_) => PciDevType::Virtual,
        None if tree.number(&file("sriov_totalvfs"))?.is_some_and(|most| most > 0) => PciDevType::Physical,
        None => PciDevType::Standard,
    };
    Ok(Some(PciDevice { address, vendor_id, product_id, class, dev_type, numa_node, parent }))
}

fn has_vdpa(tree: &Tree, address: &str) -> Result<bool, ProbeError> {
    let children = tree.names(&format!("{DEVICES}/{address}"))?.unwrap_or_default();
    Ok(children.iter().any(|name| name.starts_with("vdpa")))
}
