//! How much of CPUs, memory and disk still fits on a host.
//!
//! Arithmetic is that of Nova's RamFilter, CoreFilter and DiskFilter since 12.0.0: a limit is `total × ratio` in `f64`, an
//! amount fits if `limit - used` covers it, and no single instance may exceed the physical total, however high the ratio.
//! The scheduler keeps the [`Room`] of every host in columns and compares requests with it.
//!
//! Left out: further resource classes, which have inventories (`inventory`).

use novella_objects::AllocationRatios;

use crate::amounts::{Amounts, Demand, MB_PER_GB};

/// A host's totals and how far each may be overcommitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Number of CPUs to share. `None` if the host does not report it. Then CPUs are not checked, as in CoreFilter.
    pub vcpus: Option<u64>,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB.
    pub disk_gb: u64,
    /// The overcommit ratio of each.
    pub ratios: AllocationRatios,
}

/// For each amount, the largest single instance that still fits. Negative: not even an amount of zero fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Number of CPUs.
    pub vcpus: i64,
    /// Memory, MiB.
    pub memory_mb: i64,
    /// Disk, MiB.
    pub disk_mb: i64,
}

/// The most that all instances of a host may use together: total × ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Number of CPUs.
    pub vcpus: f64,
    /// Memory, MiB.
    pub memory_mb: f64,
    /// Disk, GiB.
    pub disk_gb: f64,
}

/// Names one of the amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    /// CPUs.
    Vcpus,
    /// Memory, MiB.
    MemoryMb,
    /// Disk, MiB.
    DiskMb,
}

impl Capacity {
    /// The most that all instances may use together.
    pub fn limits(&self) -> Limits {
        Limits {
            vcpus: self.vcpus.unwrap_or(0) as f64 * self.ratios.cpu,
            memory_mb: self.memory_mb as f64 * self.ratios.ram,
            disk_gb: mb(self.disk_gb) as f64 * self.ratios.disk / MB_PER_GB as f64,
        }
    }

    /// What still fits when `used` is taken.
    pub fn room(&self, used: &Amounts) -> Room {
        Room {
            vcpus: self.vcpus.map_or(i64::MAX, |vcpus| largest(vcpus, self.ratios.cpu, used.vcpus)),
            memory_mb: largest(self.memory_mb, self.ratios.ram, used.memory_mb),
            disk_mb: largest(mb(self.disk_gb), self.ratios.disk, mb(used.disk_gb)),
        }
    }

    /// How many instances fit beside `used`, one after another, if only this amount counts. Each asks for `wanted` and
    /// takes `taken`. `None`: any number.
    pub fn times(&self, amount: Amount, used: &Amounts, wanted: &Demand, taken: &Amounts) -> Option<u64> {
        let (total, ratio, used, wanted, taken) = match amount {
            Amount::Vcpus => (self.vcpus?, self.ratios.cpu, used.vcpus, wanted.vcpus, taken.vcpus),
            Amount::MemoryMb => {
                (self.memory_mb, self.ratios.ram, used.memory_mb, wanted.memory_mb, taken.memory_mb)
            }
            Amount::DiskMb => {
                (mb(self.disk_gb), self.ratios.disk, mb(used.disk_gb), wanted.disk_mb, mb(taken.disk_gb))
            }
        };
        let wanted = wanted?;
        let spare = left(total, ratio, used).saturating_sub_unsigned(wanted);
        if wanted > total || spare < 0 {
            return Some(0);
        }
        spare.unsigned_abs().checked_div(taken).map(|further| further + 1)
    }
}

fn mb(gb: u64) -> u64 {
    gb.saturating_mul(MB_PER_GB)
}

/// The largest whole amount `x` with `x <= total` and `total × ratio - used >= x` in `f64`.
///
/// `x` is whole, so comparing it with a double is the same as comparing it with the double's floor.
fn largest(total: u64, ratio: f64, used: u64) -> i64 {
    left(total, ratio, used).min(i64::try_from(total).unwrap_or(i64::MAX))
}

/// The whole part of what may still be used.
fn left(total: u64, ratio: f64, used: u64) -> i64 {
    (total as f64 * ratio - used as f64).floor() as i64 // `as` saturates
}

#[cfg(test)]
mod tests {
    use super::*;
    use novella_objects::Flavor;
    use proptest::prelude::*;

    fn capacity(vcpus: u64, memory_mb: u64, disk_gb: u64) -> Capacity {
        Capacity {
            vcpus: Some(vcpus),
            memory_mb,
            disk_gb,
            ratios: AllocationRatios { cpu: 4.0, ram: 1.5, disk: 1.0 },
        }
    }

    #[test]
    fn overcommit_never_lets_one_instance_exceed_the_host() {
        let room = capacity(8, 1000, 10).room(&Amounts::default());
        assert_eq!(room, Room { vcpus: 8, memory_mb: 1000, disk_mb: 10_240 });
        let used = Amounts { vcpus: 30, memory_mb: 1400, disk_gb: 11, instances: 3 };
        assert_eq!(capacity(8, 1000, 10).room(&used), Room { vcpus: 2, memory_mb: 100, disk_mb: -1024 });
    }

    #[test]
    fn a_host_without_cpu_count_is_not_checked_for_cpus() {
        let silent = Capacity { vcpus: None, ..capacity(0, 1, 1) };
        assert_eq!(silent.room(&Amounts::default()).vcpus, i64::MAX);
        assert_eq!(capacity(0, 1, 1).room(&Amounts::default()).vcpus, 0, "none to share");
    }

    #[test]
    fn an_overfull_host_refuses_even_nothing() {
        let used = Amounts { disk_gb: 11, ..Amounts::default() };
        let (nothing, one) = (Demand::of_flavor(&Flavor::default()), Amounts::of_flavor(&Flavor::default()));
        let times = |asked: &Demand| capacity(8, 1000, 10).times(Amount::DiskMb, &used, asked, &one);
        assert_eq!(times(&nothing), Some(0));
        assert_eq!(times(&Demand { disk_mb: None, ..nothing }), None);
    }

    proptest! {
        /// The integer comparison decides exactly as Nova's double comparison does.
        #[test]
        fn room_is_the_double_comparison(total in 0u64..1 << 31, used in 0u64..1 << 32, ratio in 0.01f64..20.0, wanted in 0u64..1 << 32) {
            let double = wanted <= total && total as f64 * ratio - used as f64 >= wanted as f64;
            prop_assert_eq!(wanted as i64 <= largest(total, ratio, used), double);
        }

        /// Counting at once is counting one by one.
        #[test]
        fn times_is_one_after_another(
            memory_mb in 0u64..2000, used in 0u64..2500, wanted in 0u64..300, ratio in 0.1f64..3.0,
            disk_gb in 0u64..40, root_gb in 0u64..9, swap in 0u64..3000,
        ) {
            let ratios = AllocationRatios { cpu: ratio, ram: ratio, disk: ratio };
            let capacity = Capacity { vcpus: (disk_gb > 0).then_some(memory_mb / 9), memory_mb, disk_gb, ratios };
            let used = Amounts { vcpus: used / 9, memory_mb: used, disk_gb: used / 60, instances: 0 };
            let flavor =
                Flavor { vcpus: wanted as u32 / 9, memory_mb: wanted, root_gb, swap, ..Flavor::default() };
            let (demand, taken) = (Demand::of_flavor(&flavor), Amounts::of_flavor(&flavor));
            for amount in [Amount::Vcpus, Amount::MemoryMb, Amount::DiskMb] {
                let fits = |used: &Amounts| {
                    let room = capacity.room(used);
                    let (asked, room) = match amount {
                        Amount::Vcpus => (demand.vcpus, room.vcpus),
                        Amount::MemoryMb => (demand.memory_mb, room.memory_mb),
                        Amount::DiskMb => (demand.disk_mb, room.disk_mb),
                    };
                    asked.is_none_or(|asked| i128::from(asked) <= i128::from(room))
                };
                let (mut now, mut placed) = (used, 0);
                while placed < 10_000 && fits(&now) {
                    (now, placed) = (now.plus(taken), placed + 1);
                }
                let times = capacity.times(amount, &used, &demand, &taken);
                prop_assert_eq!(times.unwrap_or(10_000), placed);
            }
        }
    }
}
