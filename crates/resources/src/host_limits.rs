//! What a host can give away, and whether one more instance fits beside those that it has.
//!
//! The host reads its own limits from the report that it sends, so it decides by the same numbers as the scheduler. Each
//! amount is compared as the scheduler compares it: with ratio and physical total ([`Capacity::room`]), by Placement's rule
//! ([`inventory`]), and by what is left of NUMA cells and PCI devices.
//!
//! What always holds: a host that has given away more than its limits allow has room for nothing. What an instance does not
//! take is not compared otherwise.
//!
//! Left out: which cells, CPUs and devices an instance gets. The scheduler chose them, and the host checks that they are
//! free.

use novella_objects::{Capabilities, Inventory, Lack, MAX_AMOUNT, MAX_VCPUS, ReserveEntry, Reserved};

use crate::amounts::{Allocation, Amounts, MB_PER_GB};
use crate::capacity::Capacity;
use crate::devices::{DeviceUsage, Devices};
use crate::devices_of_reports::BadReportedDevices;
use crate::inventory;
use crate::pci;
use crate::pinned_cpus::PCPU;
use crate::topology::{Cell, CellUsage, KB_PER_MB};

/// Everything that one instance takes of its host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    /// CPUs, memory, disk and further resource classes.
    pub allocation: Allocation,
    /// NUMA cells and PCI devices. `None` if it takes none.
    pub devices: Option<DeviceUsage>,
}

/// What a host can give to instances.
#[derive(Debug, Clone)]
pub struct HostLimits {
    capacity: Capacity,
    reserved: Amounts,
    /// The disk that is really left, GiB, if the host knows it.
    disk_available_least: Option<i64>,
    inventories: Vec<(Box<str>, Inventory)>,
    devices: Devices,
}

impl HostLimits {
    /// The limits that a host reports. Claims in the report do not count.
    pub fn of_report(caps: &Capabilities<'_>) -> Result<Self, BadReportedDevices> {
        let total = |value: Option<i64>| value.map_or(0, |value| value.max(0).unsigned_abs());
        let report = caps.novella.as_deref();
        let inventories: Vec<(Box<str>, Inventory)> = report
            .iter()
            .flat_map(|report| report.resources.iter())
            .map(|(class, inventory)| (class.into(), *inventory))
            .collect();
        let has_pcpus = inventories.iter().any(|(class, _)| **class == *PCPU);
        let vcpus = total(caps.vcpus);
        Ok(Self {
            capacity: Capacity {
                vcpus: (vcpus > 0 || has_pcpus).then_some(vcpus),
                memory_mb: total(caps.host_memory_total),
                disk_gb: total(caps.disk_total),
                ratios: report.map(|report| report.allocation_ratios).unwrap_or_default(),
            },
            reserved: Amounts::of_reserved(&report.map_or_else(Reserved::default, |report| report.reserved)),
            disk_available_least: report.and_then(|report| report.disk_available_least),
            inventories,
            devices: report.map(Devices::of_report).transpose()?.unwrap_or_default(),
        })
    }

    /// What the host lacks to give `wanted` to one more instance, beside what the others take. Empty if it fits. Of the others,
    /// so much disk was given since the reading that these limits are from, GiB.
    pub fn lacks<'t>(
        &self,
        others: impl Iterator<Item = &'t Taken> + Clone,
        wanted: &Taken,
        given_gb: u64,
    ) -> Vec<Lack> {
        let mut used = others.clone().fold(self.reserved, |sum, taken| sum.plus(taken.allocation.amounts));
        if let Some(least) = self.disk_available_least {
            let gone = i128::from(self.capacity.disk_gb) - i128::from(least) + i128::from(given_gb);
            used.disk_gb = used.disk_gb.max(u64::try_from(gone).unwrap_or(0));
        }
        let mut lacks = self.amounts(&used, &wanted.allocation.amounts);
        self.classes(others.clone(), wanted, &mut lacks);
        if let Some(devices) = &wanted.devices {
            self.devices(others, devices, &mut lacks);
        }
        lacks
    }

    fn amounts(&self, used: &Amounts, wanted: &Amounts) -> Vec<Lack> {
        let room = self.capacity.room(used);
        [
            ("VCPU", wanted.vcpus, room.vcpus, "CPUs", 1),
            ("MEMORY_MB", wanted.memory_mb, room.memory_mb, "MiB", 1),
            ("DISK_GB", wanted.disk_gb, room.disk_mb, "GiB", MB_PER_GB),
        ]
        .into_iter()
        .filter(|(_, wanted, room, _, scale)| i128::from(*wanted) * i128::from(*scale) > i128::from(*room))
        .map(|(class, wanted, room, unit, scale)| lack(class, wanted, room.div_euclid(scale as i64), unit))
        .collect()
    }

    fn classes<'t>(
        &self,
        others: impl Iterator<Item = &'t Taken> + Clone,
        wanted: &Taken,
        lacks: &mut Vec<Lack>,
    ) {
        for (class, amount) in &wanted.allocation.resources {
            let used = others.clone().fold(0u64, |sum, taken| sum.saturating_add(taken.of_class(class)));
            let inventory = self.inventories.iter().find(|(known, _)| known == class).map(|(_, known)| known);
            match inventory {
                Some(inventory) if inventory::fits(inventory, used, *amount) => {}
                Some(inventory) => lacks.push(lack(class, *amount, inventory::room(inventory, used), "")),
                None => lacks.push(lack(class, *amount, 0, "")),
            }
        }
    }

    fn devices<'t>(
        &self,
        others: impl Iterator<Item = &'t Taken>,
        wanted: &DeviceUsage,
        lacks: &mut Vec<Lack>,
    ) {
        let mut left = self.devices.clone();
        let taken = others.filter_map(|taken| taken.devices.clone());
        let Ok(()) = left.take_all(taken.map(Ok::<_, std::convert::Infallible>));
        for usage in wanted.numa.iter().flat_map(|usage| &usage.cells) {
            match left.numa.iter().flat_map(|topology| &topology.cells).find(|cell| cell.id == usage.id) {
                Some(cell) => self.cell(cell, usage, lacks),
                None => lacks.push(lack(&format!("NUMA cell {}", usage.id), 1, 0, "")),
            }
        }
        for (kind, count) in wanted.pci.iter().flat_map(|usage| &usage.0) {
            let alike = |pool: &&pci::Pool| pci::alike(pool, kind);
            let free: u64 = left.pci_pools.iter().filter(alike).map(|pool| u64::from(pool.count)).sum();
            if u64::from(*count) > free {
                let resource = format!("PCI {}:{}", kind.vendor_id, kind.product_id);
                lacks.push(lack(&resource, (*count).into(), signed(free), "devices"));
            }
        }
    }

    /// What a NUMA cell lacks. Memory in pages of the smallest size may be overcommitted, as in `numa::fit`.
    fn cell(&self, cell: &Cell, usage: &CellUsage, lacks: &mut Vec<Lack>) {
        let ratios = &self.capacity.ratios;
        let mut compare = |what: &str, wanted: u64, free: i64, unit: &'static str| {
            if i128::from(wanted) > i128::from(free) {
                lacks.push(lack(&format!("NUMA cell {}{what}", cell.id), wanted, free, unit));
            }
        };
        let memory = usage.memory_mb.max(0).unsigned_abs();
        match cell.mempages.iter().find(|pages| pages.size_kb == usage.pagesize_kb) {
            _ if cell.smallest_page() == Some(usage.pagesize_kb) => {
                let limit = (cell.memory_mb as f64 * ratios.ram).floor() as i64; // `as` saturates
                compare(" memory", memory, limit.saturating_sub(cell.memory_usage_mb), "MiB");
            }
            Some(pages) => {
                let count =
                    memory.saturating_mul(KB_PER_MB.unsigned_abs()) / usage.pagesize_kb.max(1).unsigned_abs();
                let free = pages.total.saturating_sub(pages.reserved).saturating_sub(pages.used);
                compare(&format!(" pages of {} KiB", usage.pagesize_kb), count, free, "pages");
            }
            None => compare(&format!(" pages of {} KiB", usage.pagesize_kb), memory, 0, "MiB"),
        }
        if usage.cpus > 0 {
            let limit = (cell.cpuset.len() as f64 * ratios.cpu).floor() as i64;
            compare(" shared CPUs", usage.cpus.unsigned_abs(), limit.saturating_sub(cell.cpu_usage), "CPUs");
        }
        let own = usage.pinned.and(&cell.free_pcpus());
        if own.len() < usage.pinned.len() {
            compare(" dedicated CPUs", usage.pinned.len() as u64, own.len() as i64, "of the chosen CPUs");
        }
    }
}

impl Taken {
    /// What the instance of a scheduler's message takes. Fails if its amounts are absurd, or its devices cannot be read.
    pub fn of_entry(entry: &ReserveEntry) -> Result<Self, String> {
        let allocation = Allocation::of_entry(entry);
        let Amounts { vcpus, memory_mb, disk_gb, .. } = allocation.amounts;
        for (name, amount, most) in [
            ("vcpus", vcpus, MAX_VCPUS),
            ("memory_mb", memory_mb, MAX_AMOUNT),
            ("disk_gb", disk_gb, MAX_AMOUNT),
        ] {
            if amount > most {
                return Err(format!("{name} is {amount}; at most {most} is allowed"));
            }
        }
        let devices =
            DeviceUsage::read(&entry.numa_topology, &entry.pci).map_err(|reason| reason.to_string())?;
        let devices = DeviceUsage { failed: entry.not_building, ..devices };
        Ok(Self { allocation, devices: (devices != DeviceUsage::default()).then_some(devices) })
    }

    fn of_class(&self, class: &str) -> u64 {
        let found = self.allocation.resources.iter().find(|(known, _)| **known == *class);
        found.map_or(0, |(_, amount)| *amount)
    }
}

fn lack(resource: &str, wanted: u64, free: i64, unit: &'static str) -> Lack {
    Lack { resource: resource.to_owned(), wanted, free, unit: unit.into() }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"vcpus":4,"host_memory_total":1000,"disk_total":10,"novella":{
        "uuid":"00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,"seq":1,"sent_at":"","interval_ms":1,
        "allocation_ratios":{"cpu":2.0,"ram":1.0,"disk":1.0},"reserved":{"vcpus":1,"memory_mb":100,"disk_gb":1},
        "resources":{"CUSTOM_GPU":{"total":2}},
        "numa_topology":{"cells":[{"id":0,"cpuset":[0,1],"pcpuset":[2,3],"memory_mb":500,
            "mempages":[{"size_kb":4,"total":76800},{"size_kb":2048,"total":100}]}]},
        "pci_pools":[{"vendor_id":"8086","product_id":"1572","dev_type":"type-VF","count":2}]}}"#;

    fn limits() -> HostLimits {
        HostLimits::of_report(&serde_json::from_str(REPORT).unwrap()).unwrap()
    }

    fn taken(vcpus: u64, memory_mb: u64, disk_gb: u64) -> Taken {
        let amounts = Amounts { vcpus, memory_mb, disk_gb, instances: 1 };
        Taken { allocation: Allocation { amounts, ..Allocation::default() }, devices: None }
    }

    fn lacking(others: &[Taken], wanted: &Taken) -> Vec<String> {
        limits().lacks(others.iter(), wanted, 0).iter().map(Lack::text).collect()
    }

    #[test]
    fn each_amount_is_limited_by_ratio_reserve_and_physical_total() {
        assert!(lacking(&[], &taken(4, 900, 9)).is_empty());
        assert_eq!(
            lacking(&[], &taken(5, 901, 10)),
            [
                "VCPU: 5 CPUs wanted, 4 free",
                "MEMORY_MB: 901 MiB wanted, 900 free",
                "DISK_GB: 10 GiB wanted, 9 free"
            ]
        );
        assert!(lacking(&[taken(4, 100, 1)], &taken(3, 800, 8)).is_empty());
        assert_eq!(lacking(&[taken(4, 100, 1)], &taken(4, 1, 1)), ["VCPU: 4 CPUs wanted, 3 free"]);
    }

    #[test]
    fn a_host_above_its_limits_takes_nothing_and_says_why() {
        assert_eq!(
            lacking(&[taken(1, 1200, 1)], &taken(1, 0, 0)),
            ["MEMORY_MB: the host is 300 MiB above its limit, 0 more wanted"]
        );
    }

    #[test]
    fn no_more_disk_is_given_than_is_really_left() {
        let mut limits = limits();
        limits.disk_available_least = Some(6);
        let lacks = |given_gb, wanted| {
            let others = [taken(1, 1, 1)];
            let lacks = limits.lacks(others.iter(), &taken(0, 0, wanted), given_gb);
            lacks.iter().map(Lack::text).collect::<Vec<_>>()
        };
        assert!(lacks(0, 6).is_empty());
        assert_eq!(lacks(0, 7), ["DISK_GB: 7 GiB wanted, 6 free"]);
        assert_eq!(lacks(2, 5), ["DISK_GB: 5 GiB wanted, 4 free"]);
        assert_eq!(lacks(9, 0), ["DISK_GB: the host is 3 GiB above its limit, 0 more wanted"]);
    }

    #[test]
    fn further_classes_follow_their_inventories() {
        let gpus = |count: u64, class: &str| {
            let resources = Box::new([(class.into(), count)]);
            Taken { allocation: Allocation { resources, ..Allocation::default() }, devices: None }
        };
        assert!(lacking(&[gpus(1, "CUSTOM_GPU")], &gpus(1, "CUSTOM_GPU")).is_empty());
        let full = [gpus(1, "CUSTOM_GPU"), gpus(1, "CUSTOM_GPU")];
        assert_eq!(lacking(&full, &gpus(1, "CUSTOM_GPU")), ["CUSTOM_GPU: 1 wanted, 0 free"]);
        assert_eq!(lacking(&[], &gpus(1, "CUSTOM_FPGA")), ["CUSTOM_FPGA: 1 wanted, 0 free"]);
    }

    fn devices(cells: &str, pci: &str) -> Taken {
        let (cells, pci): (Vec<_>, Vec<_>) =
            (serde_json::from_str(cells).unwrap(), serde_json::from_str(pci).unwrap());
        Taken { devices: Some(DeviceUsage::read(&cells, &pci).unwrap()), ..Taken::default() }
    }

    #[test]
    fn cells_and_devices_are_given_once() {
        let huge = r#"[{"id":0,"vcpus":2,"pinned_cpus":[2],"memory_mb":120,"pagesize_kb":2048}]"#;
        let vf = r#"[{"vendor_id":"8086","product_id":"1572","dev_type":"type-VF","count":2}]"#;
        let one = devices(huge, vf);
        assert!(lacking(&[], &one).is_empty());
        let again = lacking(std::slice::from_ref(&one), &one);
        let all = [
            "NUMA cell 0 pages of 2048 KiB: 60 pages wanted, 40 free",
            "NUMA cell 0 dedicated CPUs: 1 of the chosen CPUs wanted, 0 free",
            "PCI 8086:1572: 2 devices wanted, 0 free",
        ];
        assert_eq!(again, all);
        let small = r#"[{"id":0,"vcpus":4,"memory_mb":501,"pagesize_kb":4}]"#;
        assert_eq!(lacking(&[], &devices(small, "[]")), ["NUMA cell 0 memory: 501 MiB wanted, 500 free"]);
        let strange = r#"[{"id":7,"memory_mb":1,"pagesize_kb":4},{"id":0,"memory_mb":1,"pagesize_kb":64}]"#;
        let lacks = ["NUMA cell 7: 1 wanted, 0 free", "NUMA cell 0 pages of 64 KiB: 1 MiB wanted, 0 free"];
        assert_eq!(lacking(&[], &devices(strange, "[]")), lacks);
    }
}
