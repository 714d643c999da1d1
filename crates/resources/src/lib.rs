//! Amounts and inventories: what fits where; shared by scheduler and host.
//!
//! The scheduler keeps the [`Room`] of every host in columns and compares requests with it; a host asks
//! [`Capacity::shortfalls`] before it grants a claim. Both go through [`Capacity::room`], so they cannot disagree.
//!
//! Arithmetic is that of Nova's RamFilter, CoreFilter and DiskFilter since 12.0.0: a limit is `total × ratio` in `f64`,
//! an amount fits if `limit - used` covers it, and no single instance may exceed the physical total however high the
//! ratio. Units are MiB for memory, GiB for disk; swap (MiB) is asked of the disk but never charged, as in Nova.
//!
//! Further resource classes have inventories and Placement's own rule ([`inventory`]). A flavor whose extra specs give a
//! class that it has a size for (`resources:MEMORY_MB=n`) asks and takes that amount and not its size: there is one number,
//! for the filters, for what is consumed and for the host's claim ([`RequestGroups`]). CPUs that a policy pins are asked and
//! taken by the kind of host ([`PinnedCpus`]).
//!
//! What is not an amount has modules of its own: [`numa`] fits an instance's NUMA cells onto a host's, [`pci`] its devices.
//!
//! Left out: who holds which amounts, and any state.

pub mod cpu_set;
pub mod inventory;
pub mod numa;
pub mod pci;
mod pinned_cpus;
mod request_groups;

use novella_objects::{AllocationRatios, Claim, Flavor};

pub use pinned_cpus::{Charges, PCPU, PinnedCpus, gives_cpus};
pub use request_groups::{Group, GroupPolicy, RequestGroups, SIZES, is_resource_class};

/// What instances take from a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Amounts {
    /// CPUs.
    pub vcpus: u64,
    /// MiB.
    pub memory_mb: u64,
    /// GiB, root and ephemeral together.
    pub disk_gb: u64,
    /// How many instances these are.
    pub instances: u32,
}

impl Amounts {
    /// What one instance of `flavor` takes; see [`Allocation`] for what else it takes.
    pub fn of_flavor(flavor: &Flavor) -> Self {
        let given = Sizes::given(flavor);
        Self {
            vcpus: given.vcpus.unwrap_or_else(|| flavor.vcpus.into()),
            memory_mb: given.memory_mb.unwrap_or(flavor.memory_mb),
            disk_gb: given.disk_gb.unwrap_or_else(|| flavor.disk_gb()),
            instances: 1,
        }
    }

    /// What a granted claim takes.
    pub fn of_claim(claim: &Claim<'_>) -> Self {
        Self {
            vcpus: u64::from(claim.vcpus),
            memory_mb: claim.memory_mb,
            disk_gb: claim.disk_gb,
            instances: 1,
        }
    }

    /// The sum; stays at the largest value where it would overflow.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.saturating_add(other.vcpus),
            memory_mb: self.memory_mb.saturating_add(other.memory_mb),
            disk_gb: self.disk_gb.saturating_add(other.disk_gb),
            instances: self.instances.saturating_add(other.instances),
        }
    }

    /// What is left after `other`, not below zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.saturating_sub(other.vcpus),
            memory_mb: self.memory_mb.saturating_sub(other.memory_mb),
            disk_gb: self.disk_gb.saturating_sub(other.disk_gb),
            instances: self.instances.saturating_sub(other.instances),
        }
    }
}

/// All that one instance takes from a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Of what every host has.
    pub amounts: Amounts,
    /// Of further classes: in the order of their names, each once, none with zero.
    pub resources: ClassAmounts,
}

/// Amounts by resource class.
pub type ClassAmounts = Box<[(Box<str>, u64)]>;

impl Allocation {
    /// What one instance of `flavor` takes.
    pub fn of_flavor(flavor: &Flavor) -> Self {
        Self { amounts: Amounts::of_flavor(flavor), resources: class_amounts(flavor) }
    }
}

/// What one instance of `flavor` takes of classes that it has no size for.
pub fn class_amounts(flavor: &Flavor) -> ClassAmounts {
    let merged = RequestGroups::read(&flavor.extra_specs).merged().into_iter();
    let others = merged.filter(|(class, amount)| *amount > 0 && !SIZES.contains(class));
    others.map(|(class, amount)| (class.into(), amount)).collect()
}

/// The sizes that extra specs give in place of the flavor's own.
#[derive(Debug, Default)]
struct Sizes {
    vcpus: Option<u64>,
    memory_mb: Option<u64>,
    disk_gb: Option<u64>,
}

impl Sizes {
    fn given(flavor: &Flavor) -> Self {
        if flavor.extra_specs.is_empty() {
            return Self::default();
        }
        let merged = RequestGroups::read(&flavor.extra_specs).merged();
        let given = |class| merged.get(class).copied();
        Self {
            vcpus: given("VCPU").or(given("PCPU").map(|_| 0)),
            memory_mb: given("MEMORY_MB"),
            disk_gb: given("DISK_GB"),
        }
    }
}

/// What one instance asks of a host: the amounts, and swap in the disk's unit. `None`: extra specs say that nothing is
/// asked, which passes on an overfull host too; an amount of zero does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// CPUs.
    pub vcpus: Option<u64>,
    /// MiB.
    pub memory_mb: Option<u64>,
    /// MiB of disk: root, ephemeral and swap.
    pub disk_mb: Option<u64>,
}

impl Demand {
    /// What one instance of `flavor` asks.
    pub fn of_flavor(flavor: &Flavor) -> Self {
        let given = Sizes::given(flavor);
        let disk_mb = flavor.disk_gb().saturating_mul(MB_PER_GB).saturating_add(flavor.swap);
        let asked = |given: Option<u64>, size| match given {
            None => Some(size),
            Some(given) => (given > 0).then_some(given),
        };
        Self {
            vcpus: asked(given.vcpus, flavor.vcpus.into()),
            memory_mb: asked(given.memory_mb, flavor.memory_mb),
            disk_mb: asked(given.disk_gb.map(|gb| gb.saturating_mul(MB_PER_GB)), disk_mb),
        }
    }
}

/// MiB in a GiB.
pub const MB_PER_GB: u64 = 1024;

/// A host's totals and how far each may be overcommitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// CPUs to share; `None` if the host does not say, and then they are not checked (CoreFilter).
    pub vcpus: Option<u64>,
    /// MiB.
    pub memory_mb: u64,
    /// GiB.
    pub disk_gb: u64,
    /// Overcommit.
    pub ratios: AllocationRatios,
}

/// The largest single instance that still fits, in each amount. Negative: not even an amount of zero fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// CPUs.
    pub vcpus: i64,
    /// MiB.
    pub memory_mb: i64,
    /// MiB of disk.
    pub disk_mb: i64,
}

/// What may be used altogether: total × ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// CPUs.
    pub vcpus: f64,
    /// MiB.
    pub memory_mb: f64,
    /// GiB.
    pub disk_gb: f64,
}

/// Which amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    /// CPUs.
    Vcpus,
    /// Memory, MiB.
    MemoryMb,
    /// Disk, MiB.
    DiskMb,
}

/// An amount that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// Which.
    pub amount: Amount,
    /// What was asked.
    pub wanted: u64,
    /// The most that would have fitted; negative on an overfull host.
    pub available: i64,
}

impl Capacity {
    /// Total × ratio of each amount.
    pub fn limits(&self) -> Limits {
        Limits {
            vcpus: self.vcpus.unwrap_or(0) as f64 * self.ratios.cpu,
            memory_mb: self.memory_mb as f64 * self.ratios.ram,
            disk_gb: (self.disk_gb.saturating_mul(MB_PER_GB)) as f64 * self.ratios.disk / MB_PER_GB as f64,
        }
    }

    /// What still fits when `used` is taken.
    pub fn room(&self, used: &Amounts) -> Room {
        let disk_total = self.disk_gb.saturating_mul(MB_PER_GB);
        let disk_used = used.disk_gb.saturating_mul(MB_PER_GB);
        Room {
            vcpus: self.vcpus.map_or(i64::MAX, |vcpus| largest(vcpus, self.ratios.cpu, used.vcpus)),
            memory_mb: largest(self.memory_mb, self.ratios.ram, used.memory_mb),
            disk_mb: largest(disk_total, self.ratios.disk, disk_used),
        }
    }

    /// How many instances fit beside `used` one after another, as far as one amount goes: each asks `wanted`, and each
    /// before it has taken `taken`. `None`: without end.
    pub fn times(&self, amount: Amount, used: &Amounts, wanted: &Demand, taken: &Amounts) -> Option<u64> {
        let mb = |gb: u64| gb.saturating_mul(MB_PER_GB);
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

    /// Every amount of `wanted` that does not fit beside `used`; empty when all do.
    pub fn shortfalls(&self, used: &Amounts, wanted: &Demand) -> Vec<Shortfall> {
        let room = self.room(used);
        [
            (Amount::Vcpus, wanted.vcpus, room.vcpus),
            (Amount::MemoryMb, wanted.memory_mb, room.memory_mb),
            (Amount::DiskMb, wanted.disk_mb, room.disk_mb),
        ]
        .into_iter()
        .filter_map(|(amount, wanted, available)| Some(Shortfall { amount, wanted: wanted?, available }))
        .filter(|short| i128::from(short.wanted) > i128::from(short.available))
        .collect()
    }
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
        let demand = Demand { vcpus: Some(1 << 40), memory_mb: Some(0), disk_mb: Some(0) };
        let silent = Capacity { vcpus: None, ..capacity(0, 1, 1) };
        assert!(silent.shortfalls(&Amounts::default(), &demand).is_empty());
        let none = Shortfall { amount: Amount::Vcpus, wanted: 1 << 40, available: 0 };
        assert_eq!(capacity(0, 1, 1).shortfalls(&Amounts::default(), &demand), [none], "none to share");
    }

    #[test]
    fn each_missing_amount_is_named() {
        let demand = Demand { vcpus: Some(9), memory_mb: Some(500), disk_mb: Some(10_241) };
        let short = capacity(8, 1000, 10).shortfalls(&Amounts::default(), &demand);
        assert_eq!(
            short,
            [
                Shortfall { amount: Amount::Vcpus, wanted: 9, available: 8 },
                Shortfall { amount: Amount::DiskMb, wanted: 10_241, available: 10_240 },
            ]
        );
    }

    #[test]
    fn an_overfull_host_refuses_even_nothing() {
        let used = Amounts { disk_gb: 11, ..Amounts::default() };
        let nothing = Demand::of_flavor(&Flavor::default());
        let short = capacity(8, 1000, 10).shortfalls(&used, &nothing);
        assert_eq!(short, [Shortfall { amount: Amount::DiskMb, wanted: 0, available: -1024 }]);
        let not_asked = capacity(8, 1000, 10).shortfalls(&used, &Demand { disk_mb: None, ..nothing });
        assert_eq!(not_asked, []);
    }

    #[test]
    fn swap_is_asked_of_the_disk_but_not_charged() {
        let flavor = Flavor { root_gb: 1, ephemeral_gb: 2, swap: 512, ..Flavor::default() };
        assert_eq!(Demand::of_flavor(&flavor).disk_mb, Some(3 * 1024 + 512));
        assert_eq!(Amounts::of_flavor(&flavor).disk_gb, 3);
    }

    #[test]
    fn a_class_given_by_extra_specs_replaces_the_size() {
        let flavor = |specs: &[(&str, &str)]| Flavor {
            vcpus: 4,
            memory_mb: 1024,
            root_gb: 10,
            swap: 512,
            extra_specs: specs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Flavor::default()
        };
        let given = flavor(&[
            ("resources:MEMORY_MB", "2048"),
            ("resources:DISK_GB", "0"),
            ("resources1:PCPU", "3"),
            ("resources:CUSTOM_GPU", "1"),
            ("resources_x:CUSTOM_GPU", "1"),
            ("resources:VGPU", "0"),
        ]);
        let allocation = Allocation::of_flavor(&given);
        assert_eq!(allocation.amounts, Amounts { vcpus: 0, memory_mb: 2048, disk_gb: 0, instances: 1 });
        assert_eq!(*allocation.resources, [("CUSTOM_GPU".into(), 2), ("PCPU".into(), 3)]);
        assert_eq!(Demand::of_flavor(&given), Demand { vcpus: None, memory_mb: Some(2048), disk_mb: None });
        let both = flavor(&[("resources:PCPU", "3"), ("resources:VCPU", "1")]);
        assert_eq!(Amounts::of_flavor(&both).vcpus, 1);
        let disk = Demand::of_flavor(&flavor(&[("resources:DISK_GB", "7")]));
        assert_eq!(disk, Demand { vcpus: Some(4), memory_mb: Some(1024), disk_mb: Some(7 * 1024) });
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
                let (mut now, mut placed) = (used, 0);
                while placed < 10_000
                    && !capacity.shortfalls(&now, &demand).iter().any(|short| short.amount == amount)
                {
                    (now, placed) = (now.plus(taken), placed + 1);
                }
                let times = capacity.times(amount, &used, &demand, &taken);
                prop_assert_eq!(times.unwrap_or(10_000), placed);
            }
        }

        #[test]
        fn taking_and_giving_back_is_no_change(a in 0u64..1 << 40, b in 0u64..1 << 40) {
            let (a, b) = (
                Amounts { vcpus: a, memory_mb: b, disk_gb: a, instances: 1 },
                Amounts { vcpus: b, memory_mb: a, disk_gb: b, instances: 2 },
            );
            prop_assert_eq!(a.plus(b).minus(b), a);
        }
    }
}
