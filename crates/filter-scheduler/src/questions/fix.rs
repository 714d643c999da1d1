//! The smallest changes with which a request would fit.
//!
//! Every suggestion has been tried by an ordinary placement on the changed request or fleet. Where to look is read off the
//! hosts that nearly pass; how far an amount must change is bisected. Single changes come first; pairs are tried while few
//! single ones were found. The search is bounded by trials and by hosts looked at, and says when it stopped there.
//!
//! Left out: who holds the table. A trial is a call, so that a table under a lock is locked for one trial at a time.

use novella_objects::{Change, Fix, Fixes, Inventory, Part, Quantity, RequestSpec};
use novella_resources::{Amount, Capacity, MB_PER_GB, PCPU, inventory};

use crate::filters::ratios::set_ratio;
use crate::filters::tally::{Count, Measure};
use crate::nova::python;
use crate::questions::changes::{asks_class, parts};
use crate::questions::near::{By, Class, Near, NearMisses, Own, Refused, What, smallest_hundredths};
use crate::request::pinning::charges;
use crate::settings::filter_kind::FilterKind;
use crate::table::amounts::MAX_RATIO;

/// Most placements tried.
pub const MAX_TRIALS: u32 = 400;
/// Most hosts looked at in all trials together: instances times hosts, for each.
pub const MAX_LOOKS: u64 = 300_000_000;
/// With so many single changes found, pairs are not looked for.
const ENOUGH: usize = 4;
/// Most pairs told.
const MAX_PAIRS: usize = 8;

/// Searches. `fits` tries a placement with these changes and tells where its first instance would go.
pub fn search(
    spec: &RequestSpec,
    misses: &NearMisses,
    fits: impl FnMut(&[Change]) -> Option<String>,
) -> Fixes {
    let looks = misses.hosts.max(1) * spec.instance_uuids.len().max(1) as u64;
    let mut search = Search {
        spec,
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
    let Search { trials, most, cut, mut found, .. } = search;
    let by_size = |a: &Fix, b: &Fix| a.size.total_cmp(&b.size);
    found[..singles].sort_by(by_size);
    found[singles..].sort_by(by_size);
    found.truncate(singles + MAX_PAIRS);
    let bound = || format!("stopped after {most} trial placements, its bound for this fleet and request");
    Fixes { fits: false, fixes: found, trials, cut: cut.then(bound) }
}

struct Search<'a, F> {
    spec: &'a RequestSpec,
    misses: &'a NearMisses,
    /// How many CPUs an instance has for itself, if a policy says that it has all of them.
    dedicated: Option<u64>,
    fits: F,
    trials: u32,
    most: u32,
    cut: bool,
    found: Vec<Fix>,
}

/// What can be done, up to how much of it.
#[derive(Clone)]
enum Move {
    Drop(Part),
    /// Ask for less; at first for this much, which fits if the nearest host decides alone.
    Ask(Quantity, u64),
    Free(At, Quantity, u64),
    /// In hundredths.
    Raise(At, Quantity, u64),
    /// A number in the metadata of an aggregate, in its steps.
    Aggregate(Own, u64),
    /// How many members of the group a host may have, from what to what.
    Group(u64, u64),
    Enable(At),
}

/// An index into the near hosts.
type At = usize;

impl<F: FnMut(&[Change]) -> Option<String>> Search<'_, F> {
    fn singles(&mut self) {
        for part in parts(self.spec) {
            self.try_moves(&[Move::Drop(part)]);
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

    /// Pairs of which neither is enough alone.
    fn pairs(&mut self) {
        let parts: Vec<_> =
            parts(self.spec).into_iter().map(Move::Drop).filter(|part| !self.alone(part)).collect();
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

    /// Whether a kind of change was enough by itself.
    fn alone(&self, tried: &Move) -> bool {
        let same = |change: &Change| match (tried, change) {
            (Move::Drop(part), Change::Drop { part: other }) => part == other,
            (Move::Ask(amount, _), Change::Ask { amount: other, .. }) => amount == other,
            (Move::Enable(at), Change::Enable { host, .. }) => self.misses.near[*at].host == *host,
            (Move::Aggregate(own, _), Change::SetMetadata { id, key, .. }) => own.id == *id && own.key == key,
            (Move::Group(..), Change::RaiseGroupLimit { .. }) => true,
            (Move::Free(at, amount, _), Change::Free { host, amount: other, .. })
            | (Move::Raise(at, amount, _), Change::RaiseRatio { host, amount: other, .. }) => {
                self.misses.near[*at].host == *host && amount == other
            }
            _ => false,
        };
        self.found.iter().any(|fix| fix.changes.len() == 1 && same(&fix.changes[0]))
    }

    /// Asking for less of each amount that a near host lacks, and for fewer instances.
    fn less(&self) -> Vec<Move> {
        let mut most: Vec<(Quantity, u64)> = Vec::new();
        for near in &self.misses.near {
            let [refused] = &near.refused[..] else { continue };
            let Some(Move::Ask(amount, room)) = self.ask(refused) else { continue };
            match most.iter_mut().find(|(other, _)| *other == amount) {
                Some((_, most)) => *most = room.max(*most),
                None => most.push((amount, room)),
            }
        }
        let mut less: Vec<_> = most.into_iter().map(|(amount, most)| Move::Ask(amount, most)).collect();
        if self.misses.placeable > 0 {
            less.push(Move::Ask(Quantity::Instances, u64::from(self.misses.placeable)));
        }
        less
    }

    /// Asking for as much of the amount that a host lacks as it has, if that is anything, and less than is asked.
    fn ask(&self, refused: &Refused) -> Option<Move> {
        let room = u64::try_from(refused.miss.as_ref()?.has).ok()?;
        let (quantity, most) = match (refused.amount(), refused.class()) {
            (Some(Amount::Vcpus), _) => (Quantity::Vcpus, room),
            (Some(Amount::MemoryMb), _) => (Quantity::MemoryMb, room),
            (Some(Amount::DiskMb), _) => {
                (Quantity::DiskGb, room.checked_sub(self.spec.flavor.swap)? / MB_PER_GB)
            }
            (None, Some(class)) => match self.dedicated.filter(|_| class.name == PCPU) {
                // The flavor has a size for them, and isolated emulator threads need one more.
                Some(own) => {
                    (Quantity::Vcpus, room.checked_sub(own.saturating_sub(self.spec.flavor.vcpus.into()))?)
                }
                None => (Quantity::Class(class.name.clone()), room),
            },
            (None, None) => return None,
        };
        (most >= least(&quantity) && most < self.asked(&quantity)).then_some(Move::Ask(quantity, most))
    }

    /// How much is asked; of a class 0 if several groups ask for it, because then there is not one number to change.
    fn asked(&self, quantity: &Quantity) -> u64 {
        let flavor = &self.spec.flavor;
        match quantity {
            Quantity::Vcpus => flavor.vcpus.into(),
            Quantity::MemoryMb => flavor.memory_mb,
            Quantity::DiskGb => self.spec.local_flavor().disk_gb(),
            Quantity::Instances => self.spec.instance_uuids.len() as u64,
            Quantity::Class(class) => {
                let specs = flavor.extra_specs.iter().filter(|(key, _)| asks_class(key, class));
                match specs.collect::<Vec<_>>()[..] {
                    [(_, text)] => text.trim().parse().unwrap_or(0),
                    _ => 0,
                }
            }
        }
    }

    /// What helps against one refusal on one host: parts of the request, less of an amount, changes of the host.
    fn repairs(&self, at: At, refused: &Refused, parts: &[Move]) -> Vec<Move> {
        let concerns = |part: &&Move| matches!(part, Move::Drop(part) if concerns(refused, part));
        let mut repairs: Vec<_> = parts.iter().filter(concerns).cloned().collect();
        repairs.extend(self.ask(refused));
        repairs.extend(self.on_fleet(at, refused));
        repairs
    }

    /// Changes of the fleet for a host that something refuses, each by the least that may be enough.
    fn on_fleet(&self, at: At, refused: &Refused) -> Vec<Move> {
        let near = &self.misses.near[at];
        let Some(miss) = &refused.miss else {
            let silent = refused.by == By::Filter(FilterKind::Compute);
            return silent.then_some(Move::Enable(at)).into_iter().collect();
        };
        let lacking = (miss.wanted - miss.has).unsigned_abs();
        let own = miss.aggregate.clone().map(|own| (own.enough, own));
        let own = own.map(|(enough, own)| Move::Aggregate(own, enough));
        match &miss.what {
            What::Measure(Measure::Count(Count::Instances)) => {
                own.into_iter().chain([Move::Free(at, Quantity::Instances, lacking)]).collect()
            }
            What::Measure(Measure::Count(Count::IoOps)) => own.into_iter().collect(),
            What::Measure(Measure::Members) => Vec::new(),
            What::Members(most) => vec![Move::Group(*most, most + lacking)],
            What::Measure(Measure::Amount(amount)) => {
                let (quantity, total, by) = match amount {
                    Amount::Vcpus => (Quantity::Vcpus, near.reported.vcpus_total, lacking),
                    Amount::MemoryMb => (Quantity::MemoryMb, near.reported.memory_mb_total, lacking),
                    Amount::DiskMb => {
                        let gb = lacking.div_ceil(MB_PER_GB);
                        (Quantity::DiskGb, near.reported.disk_gb_total * MB_PER_GB, gb)
                    }
                };
                if miss.wanted.unsigned_abs() > total {
                    return Vec::new(); // no single instance may be larger than the host
                }
                let free = (by <= in_use(near, &quantity)).then_some(Move::Free(at, quantity.clone(), by));
                // Where an aggregate gives the ratio, the host's own is not asked.
                let raise = own.or_else(|| {
                    smallest_ratio(near, *amount, miss.wanted).map(|to| Move::Raise(at, quantity, to))
                });
                free.into_iter().chain(raise).collect()
            }
            What::Class(class) => {
                if !class.allowed {
                    return Vec::new(); // no inventory of this kind gives out such an amount, however empty
                }
                let quantity = Quantity::Class(class.name.clone());
                let sum = miss.wanted.unsigned_abs();
                let left = inventory::capacity(&class.inventory).floor() as i128 - i128::from(class.used);
                let by = u64::try_from(i128::from(sum) - left).unwrap_or(u64::MAX);
                let free = (by <= class.used).then_some(Move::Free(at, quantity.clone(), by));
                let raise = smallest_hundredths(|allocation_ratio| {
                    let raised = Inventory { allocation_ratio, ..class.inventory };
                    inventory::fits(&raised, class.used, sum)
                        || inventory::room(&raised, class.used) >= miss.wanted
                });
                let raise = raise.filter(|to| {
                    // No ratio makes a CPU that one instance has to itself another's as well.
                    *to as f64 / 100.0 > class.inventory.allocation_ratio && class.name != PCPU
                });
                free.into_iter().chain(raise.map(|to| Move::Raise(at, quantity, to))).collect()
            }
        }
    }

    /// Tries changes together, the last one by the least that is enough, and keeps what fits.
    fn try_moves(&mut self, moves: &[Move]) {
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

    /// The smallest change of this kind that is enough together with those before it.
    fn least(&mut self, last: &Move, before: &[Change]) -> Option<(Change, String)> {
        // `good` fits and `bad` does not; between them lies the amount looked for.
        let (first, furthest) = match last {
            Move::Drop(_) | Move::Enable(_) => (0, 0),
            Move::Ask(quantity, most) => (*most, least(quantity)),
            Move::Free(at, quantity, by) => (*by, in_use(&self.misses.near[*at], quantity)),
            Move::Raise(_, _, to) => (*to, to.saturating_mul(8).min((MAX_RATIO * 100.0) as u64)),
            Move::Aggregate(own, to) => (*to, to.saturating_mul(8).min((MAX_RATIO as u64) * own.steps)),
            Move::Group(_, to) => (*to, to.saturating_mul(8)),
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

    /// Of the amounts from `good` to `bad`, which does not fit, the last that still does.
    fn closest(&mut self, last: &Move, good: u64, bad: u64, before: &[Change]) -> Option<(Change, String)> {
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

    /// A change that is not of one host alone may be smaller than the first guess, because another host needs less of it.
    fn smaller(&mut self, last: &Move, first: u64, before: &[Change]) -> Option<(Change, String)> {
        let none = match last {
            Move::Ask(quantity, _) => self.asked(quantity),
            Move::Aggregate(own, _) => {
                (python::float(&own.text)? * own.steps as f64) as u64 // what is negative counts from 0
            }
            Move::Group(from, _) => *from,
            Move::Drop(_) | Move::Free(..) | Move::Raise(..) | Move::Enable(_) => return None,
        };
        let next = if none > first { first + 1 } else { first.saturating_sub(1) };
        if next == none { None } else { self.closest(last, next, none, before) }
    }

    fn attempt(&mut self, last: &Move, by: u64, before: &[Change]) -> Option<String> {
        if self.trials >= self.most {
            self.cut = true;
            return None;
        }
        self.trials += 1;
        let mut changes = before.to_vec();
        changes.push(self.change(last, Some(by)));
        (self.fits)(&changes)
    }

    /// The change itself; by its first guess, or by another amount.
    fn change(&self, change: &Move, by: Option<u64>) -> Change {
        let host = |at: At| self.misses.near[at].host.clone();
        match change {
            Move::Drop(part) => Change::Drop { part: part.clone() },
            Move::Ask(amount, most) => {
                let (amount, from) = (amount.clone(), self.asked(amount));
                Change::Ask { amount, from, to: by.unwrap_or(*most) }
            }
            Move::Free(at, amount, least) => {
                Change::Free { host: host(*at), amount: amount.clone(), by: by.unwrap_or(*least) }
            }
            Move::Raise(at, amount, least) => {
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
            Move::Aggregate(own, enough) => Change::SetMetadata {
                aggregate: own.aggregate.clone(),
                id: own.id,
                key: own.key.to_owned(),
                from: own.text.clone(),
                to: (by.unwrap_or(*enough) as f64 / own.steps as f64).to_string(),
            },
            Move::Group(from, enough) => Change::RaiseGroupLimit { from: *from, to: by.unwrap_or(*enough) },
            Move::Enable(at) => Change::Enable { host: host(*at), state: self.misses.near[*at].status },
        }
    }

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

/// The least of an amount that can be asked for.
fn least(quantity: &Quantity) -> u64 {
    u64::from(*quantity != Quantity::DiskGb)
}

/// What a near host lacks of a resource class.
fn class<'n>(near: &'n Near, name: &str) -> Option<&'n Class> {
    near.refused.iter().filter_map(Refused::class).find(|class| class.name == name)
}

fn in_use(near: &Near, quantity: &Quantity) -> u64 {
    match quantity {
        Quantity::Vcpus => near.used.vcpus,
        Quantity::MemoryMb => near.used.memory_mb,
        Quantity::DiskGb => near.used.disk_gb,
        Quantity::Instances => near.used.instances.into(),
        Quantity::Class(name) => class(near, name).map_or(0, |class| class.used),
    }
}

/// The smallest ratio in hundredths with which `wanted` fits; `None` if it is no larger than the one in force or too large.
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

/// Whether something may refuse because of this part of a request.
fn concerns(refused: &Refused, part: &Part) -> bool {
    let kind = match &refused.by {
        By::Filter(kind) => *kind,
        By::Term(name) => return term_concerns(name, part),
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

/// The same of what is asked before the filters, which is named after what asks it.
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
