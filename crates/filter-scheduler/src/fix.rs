//! The smallest changes with which a request would fit.
//!
//! Every suggestion has been tried by an ordinary placement on the changed request or fleet. Where to look is read off the
//! hosts that nearly pass; how far an amount must change is bisected. Single changes come first; pairs are tried while few
//! single ones were found. The search is bounded by trials and by hosts looked at, and says when it stopped there.
//!
//! Left out: who holds the table. A trial is a call, so that a table under a lock is locked for one trial at a time.

use std::cmp::Ordering;

use novella_objects::{Change, Fix, Fixes, Part, Quantity, RequestSpec};
use novella_resources::{Amount, Capacity, MB_PER_GB};

use crate::changes::parts;
use crate::filters::{Count, Measure};
use crate::host_table::MAX_RATIO;
use crate::near::{Near, NearMisses, Refused};
use crate::options::FilterKind;

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
    Raise(At, Quantity, u64),
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
            if let [refused] = self.misses.near[at].refused[..] {
                for fleet in self.on_host(at, &refused) {
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
            let [first, second] = self.misses.near[near].refused[..] else { continue };
            for a in self.repairs(near, &first, &parts) {
                for b in self.repairs(near, &second, &parts) {
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
        let mut less = Vec::new();
        for amount in [Amount::MemoryMb, Amount::Vcpus, Amount::DiskMb] {
            let room = |near: &Near| match near.refused[..] {
                [refused] if refused.amount() == Some(amount) => refused.miss.map(|(_, _, has)| has),
                _ => None,
            };
            let most = self.misses.near.iter().filter_map(room).max();
            less.extend(most.and_then(|most| self.ask(amount, most)));
        }
        if self.misses.placeable > 0 {
            less.push(Move::Ask(Quantity::Instances, u64::from(self.misses.placeable)));
        }
        less
    }

    /// Asking for as much of an amount as this room holds, if that is anything, and less than is asked.
    fn ask(&self, amount: Amount, room: i32) -> Option<Move> {
        let room = u64::try_from(room).ok()?;
        let (quantity, most) = match amount {
            Amount::Vcpus => (Quantity::Vcpus, room),
            Amount::MemoryMb => (Quantity::MemoryMb, room),
            Amount::DiskMb => (Quantity::DiskGb, room.checked_sub(self.spec.flavor.swap)? / MB_PER_GB),
        };
        let least = u64::from(quantity != Quantity::DiskGb);
        (most >= least && most < self.asked(quantity)).then_some(Move::Ask(quantity, most))
    }

    fn asked(&self, quantity: Quantity) -> u64 {
        let flavor = &self.spec.flavor;
        match quantity {
            Quantity::Vcpus => flavor.vcpus.into(),
            Quantity::MemoryMb => flavor.memory_mb,
            Quantity::DiskGb => flavor.disk_gb(),
            Quantity::Instances => self.spec.instance_uuids.len() as u64,
        }
    }

    /// What helps against one refusal on one host: parts of the request, less of an amount, changes of the host.
    fn repairs(&self, at: At, refused: &Refused, parts: &[Move]) -> Vec<Move> {
        let concerns = |part: &&Move| matches!(part, Move::Drop(part) if concerns(refused.kind, part));
        let mut repairs: Vec<_> = parts.iter().filter(concerns).cloned().collect();
        if let (Some(amount), Some((_, _, has))) = (refused.amount(), refused.miss) {
            repairs.extend(self.ask(amount, has));
        }
        repairs.extend(self.on_host(at, refused));
        repairs
    }

    /// Changes of a host that one filter refuses, each by the least that may be enough.
    fn on_host(&self, at: At, refused: &Refused) -> Vec<Move> {
        let near = &self.misses.near[at];
        match refused.miss {
            None if refused.kind == FilterKind::Compute => vec![Move::Enable(at)],
            Some((Measure::Count(Count::Instances), wanted, has)) => {
                let by = i64::from(wanted) - i64::from(has);
                vec![Move::Free(at, Quantity::Instances, by.unsigned_abs())]
            }
            Some((Measure::Amount(amount), wanted, has)) => {
                let lacking = (i64::from(wanted) - i64::from(has)).unsigned_abs();
                let (quantity, total, by) = match amount {
                    Amount::Vcpus => (Quantity::Vcpus, near.reported.vcpus_total, lacking),
                    Amount::MemoryMb => (Quantity::MemoryMb, near.reported.memory_mb_total, lacking),
                    Amount::DiskMb => {
                        let gb = lacking.div_ceil(MB_PER_GB);
                        (Quantity::DiskGb, near.reported.disk_gb_total * MB_PER_GB, gb)
                    }
                };
                if u64::from(wanted.unsigned_abs()) > total {
                    return Vec::new(); // no single instance may be larger than the host
                }
                let free = (by <= self.in_use(near, quantity)).then_some(Move::Free(at, quantity, by));
                let raise = smallest_ratio(near, amount, wanted).map(|to| Move::Raise(at, quantity, to));
                free.into_iter().chain(raise).collect()
            }
            _ => Vec::new(),
        }
    }

    fn in_use(&self, near: &Near, quantity: Quantity) -> u64 {
        match quantity {
            Quantity::Vcpus => near.used.vcpus,
            Quantity::MemoryMb => near.used.memory_mb,
            Quantity::DiskGb => near.used.disk_gb,
            Quantity::Instances => near.used.instances.into(),
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
            Move::Ask(quantity, most) => (*most, u64::from(*quantity != Quantity::DiskGb)),
            Move::Free(at, quantity, by) => (*by, self.in_use(&self.misses.near[*at], *quantity)),
            Move::Raise(_, _, to) => (*to, to.saturating_mul(8).min((MAX_RATIO * 100.0) as u64)),
        };
        let asks_less = matches!(last, Move::Ask(..));
        if let Some(host) = self.attempt(last, first, before) {
            let larger = if asks_less { self.upwards(last, first, before) } else { None };
            return Some(larger.unwrap_or_else(|| (self.change(last, Some(first)), host)));
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

    /// More than the first guess may fit, because another host has more of it once the rest is changed.
    fn upwards(&mut self, last: &Move, first: u64, before: &[Change]) -> Option<(Change, String)> {
        let Move::Ask(quantity, _) = last else { return None };
        let asked = self.asked(*quantity);
        if first + 1 >= asked { None } else { self.closest(last, first + 1, asked, before) }
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
                Change::Ask { amount: *amount, from: self.asked(*amount), to: by.unwrap_or(*most) }
            }
            Move::Free(at, amount, least) => {
                Change::Free { host: host(*at), amount: *amount, by: by.unwrap_or(*least) }
            }
            Move::Raise(at, amount, least) => {
                let ratios = self.misses.near[*at].reported.ratios;
                let from = match amount {
                    Quantity::Vcpus => ratios.cpu,
                    Quantity::MemoryMb => ratios.ram,
                    Quantity::DiskGb | Quantity::Instances => ratios.disk,
                };
                let to = by.unwrap_or(*least) as f64 / 100.0;
                Change::RaiseRatio { host: host(*at), amount: *amount, from, to }
            }
            Move::Enable(at) => Change::Enable { host: host(*at), state: self.misses.near[*at].status },
        }
    }

    fn size(&self, change: &Change) -> f64 {
        match change {
            Change::Ask { from, to, .. } => (from - to) as f64 / *from as f64,
            Change::Drop { .. } | Change::Enable { .. } => 1.0,
            Change::RaiseRatio { from, to, .. } => to / from - 1.0,
            Change::Free { host, amount, by } => {
                let near = self.misses.near.iter().find(|near| near.host == *host);
                let total = near.map_or(0, |near| match amount {
                    Quantity::Vcpus => near.reported.vcpus_total,
                    Quantity::MemoryMb => near.reported.memory_mb_total,
                    Quantity::DiskGb => near.reported.disk_gb_total,
                    Quantity::Instances => near.used.instances.into(),
                });
                *by as f64 / total.max(1) as f64
            }
        }
    }
}

/// The smallest ratio in hundredths with which `wanted` fits; `None` if it is no larger than the one in force or too large.
fn smallest_ratio(near: &Near, amount: Amount, wanted: i32) -> Option<u64> {
    let fits = |hundredths: u64| {
        let ratio = hundredths as f64 / 100.0;
        let mut capacity = Capacity {
            vcpus: near.reported.vcpus_total,
            memory_mb: near.reported.memory_mb_total,
            disk_gb: near.reported.disk_gb_total,
            ratios: near.reported.ratios,
        };
        crate::filters::set_ratio(&mut capacity, amount, ratio);
        let room = capacity.room(&near.used);
        let room = match amount {
            Amount::Vcpus => room.vcpus,
            Amount::MemoryMb => room.memory_mb,
            Amount::DiskMb => room.disk_mb,
        };
        room >= i64::from(wanted)
    };
    let (mut bad, mut good) = (0, (MAX_RATIO * 100.0) as u64);
    if !fits(good) {
        return None;
    }
    while good - bad > 1 {
        let middle = good.midpoint(bad);
        if fits(middle) { good = middle } else { bad = middle }
    }
    let now = match amount {
        Amount::Vcpus => near.reported.ratios.cpu,
        Amount::MemoryMb => near.reported.ratios.ram,
        Amount::DiskMb => near.reported.ratios.disk,
    };
    ((good as f64 / 100.0).total_cmp(&now) == Ordering::Greater).then_some(good)
}

/// Whether a filter may refuse because of this part of a request.
fn concerns(kind: FilterKind, part: &Part) -> bool {
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
