//! What is held for each broker user and for each project, by reservations and by holds on services.
//!
//! What always holds: an entry is the sum of what its holder's reservations take, and there is none for a holder of nothing.
//! So this is never longer than the list of reservations.
//!
//! Left out: how much a holder may have (`verbs/quota.rs`).

use std::sync::Arc;

use hashbrown::HashMap;
use novella_resources::{Allocation, Amounts, PCPU};

use crate::holder::{Holder, HolderKind};

/// What an allocation counts towards quotas. A CPU counts as one, whether the instance shares it or not.
pub(crate) fn counted(allocation: &Allocation) -> Amounts {
    let own = allocation.resources.iter().find(|(class, _)| **class == *PCPU).map_or(0, |(_, own)| *own);
    let amounts = allocation.amounts;
    Amounts { vcpus: amounts.vcpus.saturating_add(own), instances: 1, ..amounts }
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Held([HashMap<Arc<str>, Amounts>; 2]);

impl Held {
    pub fn add(&mut self, holder: &Holder, amounts: Amounts) {
        for (names, name) in self.0.iter_mut().zip([&holder.user, &holder.project]) {
            if let Some(name) = name {
                let held = names.entry(Arc::clone(name)).or_default();
                *held = held.plus(amounts);
            }
        }
    }

    /// Undoes [`Self::add`].
    pub fn remove(&mut self, holder: &Holder, amounts: Amounts) {
        for (names, name) in self.0.iter_mut().zip([&holder.user, &holder.project]) {
            let Some(name) = name else { continue };
            let Some(held) = names.get_mut(name) else { continue };
            *held = held.minus(amounts);
            if held.instances == 0 {
                names.remove(name);
            }
        }
    }

    /// What is held for this holder.
    pub fn of(&self, kind: HolderKind, name: &str) -> Amounts {
        self.0[kind as usize].get(name).copied().unwrap_or_default()
    }

    /// The names of all holders of a kind, in no order.
    pub fn all(&self, kind: HolderKind) -> impl Iterator<Item = &str> {
        self.0[kind as usize].keys().map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_of_nothing_takes_no_room() {
        let holder = |user: &str, project: Option<&str>| Holder {
            user: Some(user.into()),
            project: project.map(Into::into),
        };
        let amounts = |vcpus| Amounts { vcpus, memory_mb: 10, disk_gb: 1, instances: 1 };
        let mut held = Held::default();
        let (ann, ben) = (holder("ann", Some("p")), holder("ben", Some("p")));
        held.add(&ann, amounts(1));
        held.add(&ann, amounts(2));
        held.add(&ben, amounts(4));
        held.add(&holder("cid", None), amounts(8));
        assert_eq!(held.of(HolderKind::User, "ann").vcpus, 3);
        let both = held.of(HolderKind::Project, "p");
        assert_eq!((both.vcpus, both.instances), (7, 3));
        held.remove(&ann, amounts(1));
        held.remove(&ann, amounts(2));
        held.remove(&ben, amounts(4));
        held.remove(&holder("cid", None), amounts(8));
        assert!(HolderKind::ALL.iter().all(|kind| held.all(*kind).next().is_none()));
    }
}
