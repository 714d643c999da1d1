//! CPUs that a policy gives to one instance alone, as Placement counts them.
//!
//! A host that sets CPUs apart for such instances has an inventory of [`PCPU`], and its VCPUs are the ones left to share.
//! What an instance asks and takes therefore depends on the host. On such a host its own CPUs are `PCPU` and the rest are
//! `VCPU`. On a host without that inventory, which pins CPUs as Nova did before there were two classes, all are `VCPU`.
//!
//! Left out: which policy a flavor and an image ask for, and whether hosts without an inventory are acceptable.

use novella_objects::Flavor;

use crate::amounts::{Allocation, Demand};
use crate::request_groups::RequestGroups;

/// The resource class of CPUs that one instance has to itself.
pub const PCPU: &str = "PCPU";

/// How a policy divides the CPUs of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedCpus {
    /// Number of CPUs that the instance has to itself, including one for the emulator's threads if these are isolated.
    pub own: u64,
    /// Number of CPUs that the instance shares with others.
    pub shared: u64,
}

impl PinnedCpus {
    /// What is asked of a host with an inventory of [`PCPU`], besides `PCPU` itself. Other hosts are asked for `demand`.
    #[must_use]
    pub fn demand(&self, demand: Demand) -> Demand {
        Demand { vcpus: (self.shared > 0).then_some(self.shared), ..demand }
    }

    /// What is taken from a host with an inventory of [`PCPU`]. From other hosts `allocation` is taken.
    #[must_use]
    pub fn allocation(&self, allocation: &Allocation) -> Allocation {
        let mut resources = allocation.resources.to_vec();
        if self.own > 0 {
            let at = resources.partition_point(|(class, _)| **class < *PCPU);
            resources.insert(at, (PCPU.into(), self.own));
        }
        let mut amounts = allocation.amounts;
        amounts.vcpus = self.shared;
        Allocation { amounts, resources: resources.into() }
    }
}

/// What one instance takes, which depends on the kind of host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charges {
    /// What it takes from a host without an inventory of [`PCPU`].
    others: Allocation,
    /// What it takes from a host with such an inventory, if that differs.
    dedicating: Option<Allocation>,
}

impl Charges {
    /// What an instance of `flavor` takes if its CPUs are divided as in `pinned`, and if its memory is encrypted or not.
    pub fn new(flavor: &Flavor, pinned: Option<&PinnedCpus>, encrypted_memory: bool) -> Self {
        let mut groups = RequestGroups::read(&flavor.extra_specs);
        if encrypted_memory {
            groups.encrypt_memory();
        }
        let others = Allocation::of_groups(flavor, &groups);
        let dedicating = pinned.map(|pinned| pinned.allocation(&others));
        Self { others, dedicating }
    }

    /// What the instance takes from a host. `has_pcpus` says whether the host has an inventory of [`PCPU`]; it is called
    /// only if that matters.
    pub fn on(&self, has_pcpus: impl FnOnce() -> bool) -> &Allocation {
        match &self.dedicating {
            Some(allocation) if has_pcpus() => allocation,
            _ => &self.others,
        }
    }

    /// The number of `PCPU` that the instance takes, if a policy says that it shares no CPU.
    pub fn dedicated(&self) -> Option<u64> {
        let dedicating = self.dedicating.as_ref().filter(|taken| taken.amounts.vcpus == 0)?;
        dedicating.resources.iter().find(|(class, _)| **class == *PCPU).map(|(_, own)| *own)
    }

    /// Whether the instance takes exactly this from one kind of host or the other.
    pub fn allow(&self, taken: &Allocation) -> bool {
        *taken == self.others || self.dedicating.as_ref() == Some(taken)
    }
}

/// Whether the extra specs themselves say how many `VCPU` or `PCPU` are asked for. No policy changes these numbers.
pub fn gives_cpus(flavor: &Flavor) -> bool {
    let merged = RequestGroups::read(&flavor.extra_specs).merged();
    ["VCPU", PCPU].into_iter().any(|class| merged.get(class).is_some_and(|amount| *amount > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flavor(specs: &[(&str, &str)]) -> Flavor {
        let extra_specs = specs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Flavor { vcpus: 4, memory_mb: 1024, root_gb: 10, extra_specs, ..Flavor::default() }
    }

    #[test]
    fn cpus_are_of_one_class_or_of_two_as_the_host_has_them() {
        let flavor = flavor(&[("resources:CUSTOM_GPU", "1"), ("resources:VGPU", "1")]);
        let mixed = PinnedCpus { own: 3, shared: 2 };
        let charges = Charges::new(&flavor, Some(&mixed), false);
        let (others, dedicating) = (charges.on(|| false), charges.on(|| true));
        assert_eq!(*others, Allocation::of_flavor(&flavor));
        assert_eq!((dedicating.amounts.vcpus, dedicating.amounts.memory_mb), (2, 1024));
        let classes = [("CUSTOM_GPU".into(), 1), ("PCPU".into(), 3), ("VGPU".into(), 1)];
        assert_eq!(*dedicating.resources, classes);
        assert!(charges.allow(others) && charges.allow(dedicating) && !charges.allow(&Allocation::default()));

        let (demand, dedicated) = (Demand::of_flavor(&flavor), PinnedCpus { own: 4, shared: 0 });
        assert_eq!(mixed.demand(demand), Demand { vcpus: Some(2), ..demand });
        assert_eq!(
            dedicated.demand(demand),
            Demand { vcpus: None, ..demand },
            "asked for none, not for zero"
        );
        assert_eq!(
            (charges.dedicated(), Charges::new(&flavor, Some(&dedicated), false).dedicated()),
            (None, Some(4))
        );
    }

    #[test]
    fn who_shares_all_cpus_takes_the_same_everywhere() {
        let charges = Charges::new(&flavor(&[]), None, false);
        assert_eq!(charges.on(|| unreachable!("no host is asked")), &Allocation::of_flavor(&flavor(&[])));
        let none = PinnedCpus { own: 0, shared: 0 };
        assert!(
            Charges::new(&flavor(&[]), Some(&none), false).on(|| true).resources.is_empty(),
            "no amount is zero"
        );
    }

    #[test]
    fn encrypted_memory_takes_one_of_its_class_on_every_host() {
        let charges = Charges::new(&flavor(&[]), Some(&PinnedCpus { own: 1, shared: 3 }), true);
        let encryption = || ("MEM_ENCRYPTION_CONTEXT".into(), 1);
        assert_eq!(*charges.on(|| false).resources, [encryption()]);
        assert_eq!(*charges.on(|| true).resources, [encryption(), ("PCPU".into(), 1)]);
    }

    #[test]
    fn extra_specs_give_cpus_by_amounts_above_zero() {
        for (spec, gives) in [
            (("resources:PCPU", "4"), true),
            (("resources1:VCPU", "1"), true),
            (("resources:PCPU", "0"), false),
            (("resources:CUSTOM_PCPU", "4"), false),
        ] {
            assert_eq!(gives_cpus(&flavor(&[spec])), gives, "{spec:?}");
        }
    }
}
