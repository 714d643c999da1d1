//! Finds the smallest changes with which a request would fit.
//!
//! Every suggestion has been tried by an ordinary placement on the changed request or fleet. Where to look follows from
//! the hosts that nearly pass (`near.rs`). How far an amount must change is found by bisection. Single changes come
//! first; pairs are tried only if few single changes were found. The search is bounded by the number of trials and of
//! hosts looked at, and the answer says if it stopped there.
//!
//! What always holds: this module changes nothing itself. A trial is a call of the caller, so that a table under a lock
//! is locked for one trial at a time.
//!
//! Left out: how a change is applied (`changes.rs`).

use novella_objects::{Change, Fix, Fixes, Inventory, Part, Quantity, RequestSpec};
use novella_resources::{Amount, Capacity, MB_PER_GB, PCPU, inventory};

use crate::filters::ratios::set_ratio;
use crate::filters::tally::{Count, Measure};
use crate::nova::python;
use crate::questions::changes::{asks_class, parts};
use crate::questions::near::{
    AggregateNumber, Class, Compared, Near, NearMisses, Refused, Refuser, smallest_hundredths,
};
use crate::request::pinning::charges;
use crate::settings::filter_kind::FilterKind;
use crate::table::amounts::MAX_RATIO;

/// How many placements are tried at most.
pub const MAX_TRIALS: u32 = 400;
/// How many hosts are looked at in all trials together, at most. A trial looks at instances times hosts.
pub const MAX_LOOKS: u64 = 300_000_000;
/// If this many single changes were found, pairs are not tried.
const ENOUGH: usize = 4;
/// How many pairs the answer has at most.
const MAX_PAIRS: usize = 8;

/// Searches, for so many instances. `fits` tries a placement with these changes and tells where its first instance would go.
pub fn search(
    spec: &RequestSpec,
    instances: usize,
    misses: &NearMisses,
    fits: impl FnMut(&[Change]) -> Option<String>,
) -> Fixes {
    let looks = misses.hosts.max(1) * instances.max(1) as u64;
    let mut search = FixSearch {
        spec,
        instances: instances as u64,
        misses,
        dedicated: charges(spec).dedicated(),
        fits,
        trials: 0,
        most: u32::try_from(MAX_LOOKS / looks).unwrap_or(u32::MAX).clamp(1, MAX_TRIALS),
        cut: false,
        found: Vec::new(),
    };
    search.singles();
    let singles = search.found.len();
    if singles < ENOUGH {
        search.pairs();
    }
    let FixSearch { trials, most, cut, mut found, .. } = search;
    let by_size = |a: &Fix, b: &Fix| a.size.total_cmp(&b.size);
    found[..singles].sort_by(by_size);
    found[singles..].sort_by(by_size);
    found.truncate(singles + MAX_PAIRS);
    let bound = || format!("stopped after {most} trial placements, the limit for this fleet and request");
    Fixes { fits: false, fixes: found, trials, cut: cut.then(bound) }
}

struct FixSearch<'a, F> {
    spec: &'a RequestSpec,
    /// How many instances are asked for.
    instances: u64,
    /// The hosts that nearly pass, and how many instances fit without a change.
    misses: &'a NearMisses,
    /// How many CPUs an instance has to itself, if a policy gives it all of them so.
    dedicated: Option<u64>,
    /// Tries a placement with these changes; see [`search`].
    fits: F,
    /// How many placements were tried.
    trials: u32,
    /// How many placements may be tried.
    most: u32,
    /// Whether the search stopped because of `most`.
    cut: bool,
    /// The changes that were found to be enough.
    found: Vec<Fix>,
}

/// One change that may help, with the first guess of its amount.
#[derive(Clone)]
enum Repair {
    Drop(Part),
    /// Ask for less. The first guess fits if the nearest host alone decides.
    Ask(Quantity, u64),
    /// Free this much of what is in use on a host.
    Free(NearIndex, Quantity, u64),
    /// Raise a ratio of a host. The guess is in hundredths.
    Raise(NearIndex, Quantity, u64),
    /// Raise a number in the metadata of an aggregate. The guess is in its steps.
    Aggregate(AggregateNumber, u64),
    /// Raise the number of group members that a host may have, from the first number to the second.
    Group(u64, u64),
    Enable(NearIndex),
}

/// The index of a near host in `misses.near`.
type NearIndex = usize;

impl<F: FnMut(&[Change]) -> Option<String>> FixSearch<'_, F> {
    /// Tries every change alone.
    fn singles(&mut self) {
        for part in parts(self.spec) {
            self.try_moves(&[Repair::Drop(part)]);
        }
        for less in self.less() {
            self.try_moves(&[less]);
        }
        for at in 0..self.misses.near.len() {
            if let [refused] = &self.misses.near[at].refused[..] {
                for fleet in self.on_fleet(at, refused) {
                    self.try_moves(&[fleet]);
                }
            }
        }
    }

    /// Tries pairs of changes of which neither is enough alone.
    fn pairs(&mut self) {
        let parts: Vec<_> =
            parts(self.spec).into_iter().map(Repair::Drop).filter(|part| !self.alone(part)).collect();
        for (at, first) in parts.iter().enumerate() {
            for second in &parts[at + 1..] {
                self.try_moves(&[first.clone(), second.clone()]);
            }
        }
        for near in 0..self.misses.near.len() {
            let [first, second] = &self.misses.near[near].refused[..] else { continue };
            for a in self.repairs(near, first, &parts) {
                for b in self.repairs(near, second, &parts) {
                    if !self.alone(&a) && !self.alone(&b) {
                        self.try_moves(&[a.clone(), b]);
                    }
                }
            }
        }
    }

    /// Whether a change of this kind was enough alone.
    fn alone(&self, tried: &Repair) -> bool {
        let same = |change: &Change| match (tried, change) {
            (Repair::Drop(part), Change::Drop { part: other }) => part == other,
            (Repair::Ask(amount, _), Change::Ask { amount: other, .. }) => amount == other,
            (Repair::Enable(at), Change::Enable { host, .. }) => self.misses.near[*at].host == *host,
            (Repair::Aggregate(own, _), Change::SetMetadata { id, key, .. }) => {
                own.id == *id && own.key == key
            }
            (Repair::Group(..), Change::RaiseGroupLimit { .. }) => true,
            (Repair::Free(at, amount, _), Change::Free { host, amount: other, .. })
            | (Repair::Raise(at, amount, _), Change::RaiseRatio { host, amount: other, .. }) => {
                self.misses.near[*at].host == *host && amount == other
            }
            _ => false,
        };
        self.found.iter().any(|fix| fix.changes.len() == 1 && same(&fix.changes[0]))
    }

    /// The changes that ask for less: of each amount of which a near host has too little, and fewer instances.
    fn less(&self) -> Vec<Repair> {
        let mut most: Vec<(Quantity, u64)> = Vec::new();
        for near in &self.misses.near {
            let [refused] = &near.refused[..] else { continue };
            let Some(Repair::Ask(amount, room)) = self.ask(refused) else { continue };
            match most.iter_mut().find(|(other, _)| *other == amount) {
                Some((_, most)) => *most = room.max(*most),
                None => most.push((amount, room)),
            }
        }
        let mut less: Vec<_> = most.into_iter().map(|(amount, most)| Repair::Ask(amount, most)).collect();
        if self.misses.placeable > 0 {
            less.push(Repair::Ask(Quantity::Instances, u64::from(self.misses.placeable)));
        }
        less
    }

    /// The change that asks for as much as the host has left, if that is something and less than is asked.
    fn ask(&self, refused: &Refused) -> Option<Repair> {
        let room = u64::try_from(refused.miss.as_ref()?.has).ok()?;
        let (quantity, most) = match (refused.amount(), refused.class()) {
            (Some(Amount::Vcpus), _) => (Quantity::Vcpus, room),
            (Some(Amount::MemoryMb), _) => (Quantity::MemoryMb, room),
            (Some(Amount::DiskMb), _) => {
                (Quantity::DiskGb, room.checked_sub(self.spec.flavor.swap)? / MB_PER_GB)
            }
            (None, Some(class)) => match self.dedicated.filter(|_| class.name == PCPU) {
                // Only the flavor's `vcpus` can be changed. Isolated emulator threads need one CPU more than that.
                Some(own) => {
                    (Quantity::Vcpus, room.checked_sub(own.saturating_sub(self.spec.flavor.vcpus.into()))?)
                }
                None => (Quantity::Class(class.name.clone()), room),
            },
            (None, None) => return None,
        };
        (most >= least(&quantity) && most < self.asked(&quantity)).then_some(Repair::Ask(quantity, most))
    }

    /// How much the request asks for. It is 0 for a class that several groups ask for, because then there is not one
    /// number to change.
    fn asked(&self, quantity: &Quantity) -> u64 {
        let flavor = &self.spec.flavor;
        match quantity {
            Quantity::Vcpus => flavor.vcpus.into(),
            Quantity::MemoryMb => flavor.memory_mb,
            Quantity::DiskGb => self.spec.local_flavor().disk_gb(),
            Quantity::Instances => self.instances,
            Quantity::Class(class) => {
                let specs = flavor.extra_specs.iter().filter(|(key, _)| asks_class(key, class));
                match specs.collect::<Vec<_>>()[..] {
                    [(_, text)] => text.trim().parse().unwrap_or(0),
                    _ => 0,
                }
            }
        }
    }

    /// The changes that may help against one refusal on one host: dropping parts of the request, asking for less,
    /// changing the host.
    fn repairs(&self, at: NearIndex, refused: &Refused, parts: &[Repair]) -> Vec<Repair> {
        let concerns = |part: &&Repair| matches!(part, Repair::Drop(part) if concerns(refused, part));
        let mut repairs: Vec<_> = parts.iter().filter(concerns).cloned().collect();
        repairs.extend(self.ask(refused));
        repairs.extend(self.on_fleet(at, refused));
        repairs
    }

    /// The changes of the fleet that may help against one refusal on one host, each with the smallest amount that may
    /// be enough.
    fn on_fleet(&self, at: NearIndex, refused: &Refused) -> Vec<Repair> {
        let near = &self.misses.near[at];
        let Some(miss) = &refused.miss else {
            let silent = refused.by == Refuser::Filter(FilterKind::Compute);
            return silent.then_some(Repair::Enable(at)).into_iter().collect();
        };
        let lacking = (miss.wanted - miss.has).unsigned_abs();
        let own = miss.aggregate.clone().map(|own| (own.enough, own));
        let own = own.map(|(enough, own)| Repair::Aggregate(own, enough));
        match &miss.what {
            Compared::Measure(Measure::Count(Count::Instances)) => {
                own.into_iter().chain([Repair::Free(at, Quantity::Instances, lacking)]).collect()
            }
            Compared::Measure(Measure::Count(Count::IoOps)) => own.into_iter().collect(),
            Compared::Measure(Measure::Members) => Vec::new(),
            Compared::Members(most) => vec![Repair::Group(*most, most + lacking)],
            Compared::Measure(Measure::Amount(amount)) => {
                let (quantity, total, by) = match amount {
                    Amount::Vcpus => (Quantity::Vcpus, near.reported.vcpus_total, lacking),
                    Amount::MemoryMb => (Quantity::MemoryMb, near.reported.memory_mb_total, lacking),
                    Amount::DiskMb => {
                        let gb = lacking.div_ceil(MB_PER_GB);
                        (Quantity::DiskGb, near.reported.disk_gb_total * MB_PER_GB, gb)
                    }
                };
                if miss.wanted.unsigned_abs() > total {
                    return Vec::new(); // one instance cannot be larger than the host, whatever the ratio
                }
                let free = (by <= in_use(near, &quantity)).then_some(Repair::Free(at, quantity.clone(), by));
                // If an aggregate gives the ratio, the host's own ratio does not matter.
                let raise = own.or_else(|| {
                    smallest_ratio(near, *amount, miss.wanted).map(|to| Repair::Raise(at, quantity, to))
                });
                free.into_iter().chain(raise).collect()
            }
            Compared::Class(class) => {
                if !class.allowed {
                    return Vec::new(); // the inventory never gives out such an amount, even when empty
                }
                let quantity = Quantity::Class(class.name.clone());
                let sum = miss.wanted.unsigned_abs();
                let left = inventory::capacity(&class.inventory).floor() as i128 - i128::from(class.used);
                let by = u64::try_from(i128::from(sum) - left).unwrap_or(u64::MAX);
                let free = (by <= class.used).then_some(Repair::Free(at, quantity.clone(), by));
                let raise = smallest_hundredths(|allocation_ratio| {
                    let raised = Inventory { allocation_ratio, ..class.inventory };
                    inventory::fits(&raised, class.used, sum)
                        || inventory::room(&raised, class.used) >= miss.wanted
                });
                let raise = raise.filter(|to| {
                    // A dedicated CPU belongs to one instance only, so a ratio does not help.
                    *to as f64 / 100.0 > class.inventory.allocation_ratio && class.name != PCPU
                });
                free.into_iter().chain(raise.map(|to| Repair::Raise(at, quantity, to))).collect()
            }
        }
    }

    /// Tries changes together, the last one with the smallest amount that is enough. Keeps them if they fit.
    fn try_moves(&mut self, moves: &[Repair]) {
        let Some((last, before)) = moves.split_last() else { return };
        let before: Vec<_> = before.iter().map(|earlier| self.change(earlier, None)).collect();
        let Some((change, host)) = self.least(last, &before) else { return };
        let mut changes = before;
        changes.push(change);
        if self.found.iter().any(|fix| fix.changes == changes) {
            return;
        }
        let size = changes.iter().map(|change| self.size(change)).sum();
        self.found.push(Fix { changes, size, host });
    }

    /// The smallest change of this kind that is enough together with those before it, and the host that is then picked.
    fn least(&mut self, last: &Repair, before: &[Change]) -> Option<(Change, String)> {
        // The amount looked for is between the first guess and the furthest amount that makes sense.
        let (first, furthest) = match last {
            Repair::Drop(_) | Repair::Enable(_) => (0, 0),
            Repair::Ask(quantity, most) => (*most, least(quantity)),
            Repair::Free(at, quantity, by) => (*by, in_use(&self.misses.near[*at], quantity)),
            Repair::Raise(_, _, to) => (*to, to.saturating_mul(8).min((MAX_RATIO * 100.0) as u64)),
            Repair::Aggregate(own, to) => (*to, to.saturating_mul(8).min((MAX_RATIO as u64) * own.steps)),
            Repair::Group(_, to) => (*to, to.saturating_mul(8)),
        };
        if let Some(host) = self.attempt(last, first, before) {
            let smaller = self.smaller(last, first, before);
            return Some(smaller.unwrap_or_else(|| (self.change(last, Some(first)), host)));
        }
        if first == furthest {
            return None;
        }
        self.closest(last, furthest, first, before)
    }

    /// Finds, between `good`, which may fit, and `bad`, which does not, the amount nearest to `bad` that fits.
    fn closest(&mut self, last: &Repair, good: u64, bad: u64, before: &[Change]) -> Option<(Change, String)> {
        let (mut good, mut bad) = (good, bad);
        let mut host = self.attempt(last, good, before)?;
        while good.abs_diff(bad) > 1 {
            let middle = good.midpoint(bad);
            match self.attempt(last, middle, before) {
                Some(found) => (good, host) = (middle, found),
                None if self.cut => return None,
                None => bad = middle,
            }
        }
        Some((self.change(last, Some(good)), host))
    }

    /// Looks for a smaller amount than the first guess. A change that does not concern one host alone may be smaller,
    /// because another host needs less of it.
    fn smaller(&mut self, last: &Repair, first: u64, before: &[Change]) -> Option<(Change, String)> {
        let none = match last {
            Repair::Ask(quantity, _) => self.asked(quantity),
            Repair::Aggregate(own, _) => {
                (python::float(&own.text)? * own.steps as f64) as u64 // a negative number counts as 0
            }
            Repair::Group(from, _) => *from,
            Repair::Drop(_) | Repair::Free(..) | Repair::Raise(..) | Repair::Enable(_) => return None,
        };
        let next = if none > first { first + 1 } else { first.saturating_sub(1) };
        if next == none { None } else { self.closest(last, next, none, before) }
    }

    /// Tries the last change with this amount together with those before it. Returns the host of the first instance if
    /// they fit.
    fn attempt(&mut self, last: &Repair, by: u64, before: &[Change]) -> Option<String> {
        if self.trials >= self.most {
            self.cut = true;
            return None;
        }
        self.trials += 1;
        let mut changes = before.to_vec();
        changes.push(self.change(last, Some(by)));
        (self.fits)(&changes)
    }

    /// The change with this amount, or with its first guess if `by` is absent.
    fn change(&self, change: &Repair, by: Option<u64>) -> Change {
        let host = |at: NearIndex| self.misses.near[at].host.clone();
        match change {
            Repair::Drop(part) => Change::Drop { part: part.clone() },
            Repair::Ask(amount, most) => {
                let (amount, from) = (amount.clone(), self.asked(amount));
                Change::Ask { amount, from, to: by.unwrap_or(*most) }
            }
            Repair::Free(at, amount, least) => {
                Change::Free { host: host(*at), amount: amount.clone(), by: by.unwrap_or(*least) }
            }
            Repair::Raise(at, amount, least) => {
                let near = &self.misses.near[*at];
                let ratios = near.reported.ratios;
                let from = match amount {
                    Quantity::Vcpus => ratios.cpu,
                    Quantity::MemoryMb => ratios.ram,
                    Quantity::DiskGb | Quantity::Instances => ratios.disk,
                    Quantity::Class(name) => {
                        class(near, name).map_or(1.0, |class| class.inventory.allocation_ratio)
                    }
                };
                let to = by.unwrap_or(*least) as f64 / 100.0;
                Change::RaiseRatio { host: host(*at), amount: amount.clone(), from, to }
            }
            Repair::Aggregate(own, enough) => Change::SetMetadata {
                aggregate: own.aggregate.clone(),
                id: own.id,
                key: own.key.to_owned(),
                from: own.text.clone(),
                to: (by.unwrap_or(*enough) as f64 / own.steps as f64).to_string(),
            },
            Repair::Group(from, enough) => Change::RaiseGroupLimit { from: *from, to: by.unwrap_or(*enough) },
            Repair::Enable(at) => Change::Enable { host: host(*at), state: self.misses.near[*at].status },
        }
    }

    /// How large a change is, relative to what it changes, so that changes can be ordered.
    fn size(&self, change: &Change) -> f64 {
        match change {
            Change::Ask { from, to, .. } => (from - to) as f64 / *from as f64,
            Change::Drop { .. } | Change::Enable { .. } => 1.0,
            Change::RaiseRatio { from, to, .. } => to / from - 1.0,
            Change::RaiseGroupLimit { from, to } => (to - from) as f64 / (*from).max(1) as f64,
            Change::SetMetadata { from, to, .. } => {
                let number = |text: &str| python::float(text).unwrap_or(0.0);
                let (from, to) = (number(from), number(to));
                (to - from) / from.abs().max(0.01)
            }
            Change::Free { host, amount, by } => {
                let near = self.misses.near.iter().find(|near| near.host == *host);
                let total = near.map_or(0, |near| match amount {
                    Quantity::Vcpus => near.reported.vcpus_total,
                    Quantity::MemoryMb => near.reported.memory_mb_total,
                    Quantity::DiskGb => near.reported.disk_gb_total,
                    Quantity::Instances => near.used.instances.into(),
                    Quantity::Class(name) => class(near, name).map_or(0, |class| class.inventory.total),
                });
                *by as f64 / total.max(1) as f64
            }
        }
    }
}

/// The smallest amount that a request can ask for.
fn least(quantity: &Quantity) -> u64 {
    u64::from(*quantity != Quantity::DiskGb)
}

/// A resource class of which a near host has too little.
fn class<'n>(near: &'n Near, name: &str) -> Option<&'n Class> {
    near.refused.iter().filter_map(Refused::class).find(|class| class.name == name)
}

/// How much of an amount is in use on a near host.
fn in_use(near: &Near, quantity: &Quantity) -> u64 {
    match quantity {
        Quantity::Vcpus => near.used.vcpus,
        Quantity::MemoryMb => near.used.memory_mb,
        Quantity::DiskGb => near.used.disk_gb,
        Quantity::Instances => near.used.instances.into(),
        Quantity::Class(name) => class(near, name).map_or(0, |class| class.used),
    }
}

/// The smallest ratio, in hundredths, with which `wanted` fits; `None` if it is not larger than the present ratio, or
/// would be too large.
fn smallest_ratio(near: &Near, amount: Amount, wanted: i64) -> Option<u64> {
    let fits = |ratio: f64| {
        let mut capacity = Capacity {
            vcpus: Some(near.reported.vcpus_total),
            memory_mb: near.reported.memory_mb_total,
            disk_gb: near.reported.disk_gb_total,
            ratios: near.reported.ratios,
        };
        set_ratio(&mut capacity, amount, ratio);
        let room = capacity.room(&near.used);
        let room = match amount {
            Amount::Vcpus => room.vcpus,
            Amount::MemoryMb => room.memory_mb,
            Amount::DiskMb => room.disk_mb,
        };
        room >= wanted
    };
    let now = match amount {
        Amount::Vcpus => near.reported.ratios.cpu,
        Amount::MemoryMb => near.reported.ratios.ram,
        Amount::DiskMb => near.reported.ratios.disk,
    };
    smallest_hundredths(fits).filter(|to| *to as f64 / 100.0 > now)
}

/// Whether a refusal may be caused by this part of the request.
fn concerns(refused: &Refused, part: &Part) -> bool {
    let kind = match &refused.by {
        Refuser::Filter(kind) => *kind,
        Refuser::Term(name) => return term_concerns(name, part),
    };
    match part {
        Part::AvailabilityZone(_) => kind == FilterKind::AvailabilityZone,
        Part::ExtraSpec(_) => {
            !matches!(kind, FilterKind::Compute | FilterKind::Ram | FilterKind::Core | FilterKind::Disk)
        }
        Part::Hint(_) => matches!(
            kind,
            FilterKind::DifferentHost
                | FilterKind::SameHost
                | FilterKind::SimpleCidrAffinity
                | FilterKind::Json
        ),
        Part::ImageProperty(_) => matches!(
            kind,
            FilterKind::ImageProperties
                | FilterKind::AggregateImagePropertiesIsolation
                | FilterKind::IsolatedHosts
        ),
        Part::ServerGroup(_) => {
            matches!(kind, FilterKind::ServerGroupAffinity | FilterKind::ServerGroupAntiAffinity)
        }
        Part::Retry => kind == FilterKind::Retry,
        Part::TargetHost(_) | Part::IgnoreHosts => false,
    }
}

/// Whether a prefilter term, which is named after what asks for it, may be caused by this part of the request.
fn term_concerns(term: &str, part: &Part) -> bool {
    match part {
        Part::AvailabilityZone(_) => term == "map_az_to_placement_aggregate",
        Part::ExtraSpec(key) => {
            let class = key.split_once(':').map_or("", |(_, class)| class);
            let resource = key.starts_with("resources") && term.starts_with(&format!("resources:{class}="));
            let pins = key == "hw:cpu_policy" && term.starts_with("resources:PCPU=");
            resource
                || pins
                || term.starts_with(&**key)
                || term.starts_with("group_policy")
                || term.ends_with("(missing)")
        }
        Part::ImageProperty(key) => {
            term.contains(&**key) || (key == "hw_cpu_policy" && term.starts_with("resources:PCPU="))
        }
        Part::Hint(_) | Part::ServerGroup(_) | Part::TargetHost(_) | Part::IgnoreHosts | Part::Retry => false,
    }
}
