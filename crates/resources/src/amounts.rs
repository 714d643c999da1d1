//! What one instance of a flavor asks of a host, and what it takes.
//!
//! The disk of a flavor is its root disk, its ephemeral one and its swap, which is rounded up to whole GiB, as in Nova's
//! query to Placement. If a flavor's extra specs give a class that it has a size for (`resources:MEMORY_MB=n`), that amount
//! replaces the size. What is asked and what is taken follow the same rules, so that filters, consumption and the host's
//! claim use one number.
//!
//! Left out: CPUs that a policy pins (`pinned_cpus`), and whether a host has room (`capacity`).

use std::collections::BTreeMap;

use novella_objects::{Claim, Flavor, ReserveEntry, Reserved};

use crate::request_groups::{RequestGroups, SIZES};

/// MiB in a GiB.
pub const MB_PER_GB: u64 = 1024;

/// What instances take from a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Amounts {
    /// Number of CPUs.
    pub vcpus: u64,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB: root, ephemeral and swap together.
    pub disk_gb: u64,
    /// Number of instances that take these amounts together.
    pub instances: u32,
}

impl Amounts {
    /// What one instance of `flavor` takes. [`Allocation`] has the further resource classes too.
    pub fn of_flavor(flavor: &Flavor) -> Self {
        let given = GivenSizes::of(flavor);
        Self {
            vcpus: given.vcpus.unwrap_or_else(|| flavor.vcpus.into()),
            memory_mb: given.memory_mb.unwrap_or(flavor.memory_mb),
            disk_gb: given.disk_gb.unwrap_or_else(|| disk_gb(flavor)),
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

    /// What a host keeps for itself.
    pub fn of_reserved(reserved: &Reserved) -> Self {
        Self {
            vcpus: reserved.vcpus.into(),
            memory_mb: reserved.memory_mb,
            disk_gb: reserved.disk_gb,
            instances: 0,
        }
    }

    /// Whether no amount is less than that of `other`.
    #[must_use]
    pub fn cover(&self, other: &Self) -> bool {
        self.vcpus >= other.vcpus
            && self.memory_mb >= other.memory_mb
            && self.disk_gb >= other.disk_gb
            && self.instances >= other.instances
    }

    /// The sum of both. An amount that would overflow stays at the largest value.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.saturating_add(other.vcpus),
            memory_mb: self.memory_mb.saturating_add(other.memory_mb),
            disk_gb: self.disk_gb.saturating_add(other.disk_gb),
            instances: self.instances.saturating_add(other.instances),
        }
    }

    /// What is left when `other` is given back. No amount falls below zero.
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

/// Everything that one instance takes from a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Amounts of what every host has.
    pub amounts: Amounts,
    /// Amounts of further classes, sorted by class name. Each class occurs once, and no amount is zero.
    pub resources: ClassAmounts,
}

/// Amounts by resource class.
pub type ClassAmounts = Box<[(Box<str>, u64)]>;

impl Allocation {
    /// What one instance of `flavor` takes.
    pub fn of_flavor(flavor: &Flavor) -> Self {
        Self::of_groups(flavor, &RequestGroups::read(&flavor.extra_specs))
    }

    /// What the instance of a scheduler's message takes of its host.
    pub fn of_entry(entry: &ReserveEntry) -> Self {
        let ReserveEntry { vcpus, memory_mb, disk_gb, .. } = *entry;
        Self {
            amounts: Amounts { vcpus: vcpus.into(), memory_mb, disk_gb, instances: 1 },
            resources: by_class(entry.resources.iter().map(|(class, amount)| (class.clone(), *amount))),
        }
    }

    /// What one instance of `flavor` takes that asks for these groups.
    pub(crate) fn of_groups(flavor: &Flavor, groups: &RequestGroups<'_>) -> Self {
        let merged = groups.merged().into_iter();
        let others = merged.filter(|(class, amount)| *amount > 0 && !SIZES.contains(&&**class));
        Self {
            amounts: Amounts::of_flavor(flavor),
            resources: others.map(|(class, amount)| (class.into(), amount)).collect(),
        }
    }
}

/// Sorts amounts by class, takes each class once, and leaves out zeros, as an allocation needs it.
pub fn by_class(resources: impl IntoIterator<Item = (String, u64)>) -> ClassAmounts {
    let by_class: BTreeMap<String, u64> = resources.into_iter().collect();
    let some = by_class.into_iter().filter(|(_, amount)| *amount > 0);
    some.map(|(class, amount)| (class.into(), amount)).collect()
}

/// The sizes that extra specs give in place of the flavor's own.
#[derive(Debug, Default)]
struct GivenSizes {
    vcpus: Option<u64>,
    memory_mb: Option<u64>,
    disk_gb: Option<u64>,
}

impl GivenSizes {
    fn of(flavor: &Flavor) -> Self {
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

/// What one instance asks of a host.
///
/// `None` means that extra specs ask for nothing, which fits on an overfull host too. An amount of zero does not fit there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Number of CPUs.
    pub vcpus: Option<u64>,
    /// Memory, MiB.
    pub memory_mb: Option<u64>,
    /// Disk, MiB: root, ephemeral and swap together.
    pub disk_mb: Option<u64>,
}

/// The disk of one instance of `flavor`, GiB, with its swap.
fn disk_gb(flavor: &Flavor) -> u64 {
    flavor.disk_gb().saturating_add(flavor.swap_gb())
}

impl Demand {
    /// What one instance of `flavor` asks for.
    pub fn of_flavor(flavor: &Flavor) -> Self {
        let given = GivenSizes::of(flavor);
        let disk_mb = disk_gb(flavor).saturating_mul(MB_PER_GB);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn swap_is_charged_as_disk_in_whole_gib() {
        for (swap, gb) in [(0, 3), (1, 4), (512, 4), (1024, 4), (1025, 5)] {
            let flavor = Flavor { root_gb: 1, ephemeral_gb: 2, swap, ..Flavor::default() };
            assert_eq!(Demand::of_flavor(&flavor).disk_mb, Some(gb * 1024), "{swap} MiB");
            assert_eq!(Amounts::of_flavor(&flavor).disk_gb, gb, "{swap} MiB");
        }
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
