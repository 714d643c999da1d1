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

use std::collections::BTreeSet;

use novella_objects::{Change, Fix, Fixes, Inventory, Part, Quantity, RequestSpec};
use novella_resources::{Amount, MB_PER_GB, PCPU, inventory};

use crate::filters::ratios::room_with;
use crate::filters::tally::{Count, Measure};
use crate::nova::image_properties::ImageProperties;
use crate::nova::python;
use crate::prefilters::STATUS_FILTER;
use crate::questions::changes::{asks_class, change_request, parts};
use crate::questions::near::{
    AggregateNumber, Class, Compared, Near, NearMisses, Refused, Refuser, smallest_hundredths, whole_mb,
};
use crate::request::charges::charges;
use crate::request::instance_topology;
use crate::settings::filter_kind::FilterKind;
use crate::table::amounts::{MAX_RATIO, Resources};

/// How many placements are tried at most.
pub const MAX_TRIALS: u32 = 400;
/// How many hosts are looked at in all trials together, at most. A trial looks at instances times hosts.
pub const MAX_LOOKS: u64 = 300_000_000;
/// If this many single changes were found, pairs are not tried.
const ENOUGH: usize = 4;
/// How many pairs the answer has at most.
const MAX_PAIRS: usize = 8;
/// How many amounts are looked at to find the smallest that a request for NUMA cells can ask for. A mask of CPUs may need
/// several of them.
const MAX_LEAST: u64 = 64;

/// Searches, for this many instances. `fits` tries a placement with changes and returns where its first instance would go.
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
        cells: Cells::of(spec),
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
    /// The NUMA cells that the flavor and the image ask for, if they do.
    cells: Option<Cells>,
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

/// One change that may help, and where to look for the smallest amount of it that is enough. Amounts are counted in
/// steps.
#[derive(Clone)]
struct Repair {
    /// The change with the first guess of its amount.
    change: Change,
    /// The first guess, with which the request may fit.
    first: u64,
    /// The furthest amount that makes sense.
    furthest: u64,
    /// The amount that changes nothing, if less than the first guess may be enough: a change that does not concern one
    /// host alone may be smaller, because another host needs less of it.
    none: Option<u64>,
    /// How many steps make 1. Ratios are counted in hundredths.
    steps: u64,
    /// How much one step is, if it is more than 1. Memory in huge pages is counted in pages.
    grain: u64,
}

impl Repair {
    /// A change without an amount.
    fn whole(change: Change) -> Self {
        Self { change, first: 0, furthest: 0, none: None, steps: 1, grain: 1 }
    }

    /// The change with this amount.
    fn with(&self, by: u64) -> Change {
        let mut change = self.change.clone();
        let number = by as f64 / self.steps as f64;
        match &mut change {
            Change::Ask { to, .. } | Change::RaiseGroupLimit { to, .. } => *to = by * self.grain,
            Change::Free { by: free, .. } => *free = by,
            Change::RaiseRatio { to, .. } => *to = number,
            Change::SetMetadata { to, .. } => *to = number.to_string(),
            Change::Drop { .. } | Change::Enable { .. } => {}
        }
        change
    }

    /// Whether a change is this one, by whatever amount.
    fn is_like(&self, change: &Change) -> bool {
        Self { change: change.clone(), ..*self }.with(0) == self.with(0)
    }
}

impl<F: FnMut(&[Change]) -> Option<String>> FixSearch<'_, F> {
    /// Tries every change alone.
    fn singles(&mut self) {
        for part in drops(self.spec) {
            self.try_moves(&[part]);
        }
        for less in self.less() {
            self.try_moves(&[less]);
        }
        for near in &self.misses.near {
            if let [refused] = &near.refused[..] {
                for fleet in on_fleet(near, refused) {
                    self.try_moves(&[fleet]);
                }
            }
        }
    }

    /// Tries pairs of changes of which neither is enough alone.
    fn pairs(&mut self) {
        let parts: Vec<_> = drops(self.spec).filter(|part| !self.alone(part)).collect();
        for (at, first) in parts.iter().enumerate() {
            for second in &parts[at + 1..] {
                self.try_moves(&[first.clone(), second.clone()]);
            }
        }
        for near in &self.misses.near {
            let [first, second] = &near.refused[..] else { continue };
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
        self.found.iter().any(|fix| fix.changes.len() == 1 && tried.is_like(&fix.changes[0]))
    }

    /// The changes that ask for less: of each amount of which a near host has too little, and fewer instances.
    fn less(&self) -> Vec<Repair> {
        let mut most: Vec<(Quantity, u64)> = Vec::new();
        for (amount, room) in self.misses.near.iter().flat_map(|near| self.left_by_all(near)) {
            match most.iter_mut().find(|(other, _)| *other == amount) {
                Some((_, most)) => *most = room.max(*most),
                None => most.push((amount, room)),
            }
        }
        if self.misses.placeable > 0 {
            most.push((Quantity::Instances, self.misses.placeable.into()));
        }
        most.into_iter().flat_map(|(amount, most)| self.asks(amount, most)).collect()
    }

    /// The amounts that all refusals of a near host are about. Less of one of them may be enough.
    fn left_by_all(&self, near: &Near) -> Vec<(Quantity, u64)> {
        let Some((first, others)) = near.refused.split_first() else { return Vec::new() };
        let of = |refused: &Refused, amount: &Quantity| {
            self.left(refused).into_iter().find(|(other, _)| other == amount).map(|(_, room)| room)
        };
        let by_all = |(amount, room): (Quantity, u64)| {
            let least = others.iter().try_fold(room, |least, refused| Some(of(refused, &amount)?.min(least)));
            least.map(|room| (amount, room))
        };
        self.left(first).into_iter().filter_map(by_all).collect()
    }

    /// The changes that ask for less of an amount, of which so much may be left.
    fn asks(&self, amount: Quantity, left: u64) -> Vec<Repair> {
        match &self.cells {
            Some(cells) if cells.are_made_of(&amount) => self.ask_of_cells(&amount, cells),
            _ => vec![self.ask(amount, left)],
        }
    }

    /// The change that asks for so much.
    fn ask(&self, amount: Quantity, to: u64) -> Repair {
        let from = self.asked(&amount);
        let furthest = least(&amount);
        let change = Change::Ask { amount, from, to };
        Repair { change, first: to, furthest, none: Some(from), steps: 1, grain: 1 }
    }

    /// The changes that ask for less of what NUMA cells are made of. How much fits depends on the pages and CPUs of every
    /// cell of a host, so the search begins with the smallest amount. Cells share an amount out evenly, and memory fills
    /// whole pages. If any size of page is accepted, the search tries the sizes that hosts have, one after another.
    fn ask_of_cells(&self, amount: &Quantity, cells: &Cells) -> Vec<Repair> {
        let from = self.asked(amount);
        let repair = |grain: u64| {
            let ask = |step: u64| Change::Ask { amount: amount.clone(), from, to: step * grain };
            let steps = (1..=MAX_LEAST).take_while(|step| step * grain < from);
            let first = steps.into_iter().find(|step| cells.can_change(self.spec, &ask(*step)))?;
            let none = Some(from.div_ceil(grain));
            Some(Repair { change: ask(first), first, furthest: first, none, steps: 1, grain })
        };
        cells.grains(amount, &self.misses.page_sizes_mb).into_iter().filter_map(repair).collect()
    }

    /// The amounts that a refusal is about, each with how much the host has left of it, if that is something and less than
    /// is asked.
    fn left(&self, refused: &Refused) -> Vec<(Quantity, u64)> {
        if self.cells.is_some() && refused.by == Refuser::Filter(FilterKind::NumaTopology) {
            let smaller = |amount: &Quantity| self.asked(amount) > 1;
            return [Quantity::MemoryMb, Quantity::Vcpus]
                .into_iter()
                .filter(smaller)
                .map(|a| (a, 1))
                .collect();
        }
        self.amount_left(refused).into_iter().collect()
    }

    fn amount_left(&self, refused: &Refused) -> Option<(Quantity, u64)> {
        let room = u64::try_from(refused.miss.as_ref()?.has).ok()?;
        let (quantity, most) = match (refused.amount(), refused.class()) {
            (Some(Amount::Vcpus), _) => (Quantity::Vcpus, room),
            (Some(Amount::MemoryMb), _) => (Quantity::MemoryMb, room),
            (Some(Amount::DiskMb), _) => {
                (Quantity::DiskGb, (room / MB_PER_GB).checked_sub(self.spec.flavor.swap_gb())?)
            }
            (None, Some(class)) => match self.dedicated.filter(|_| class.name == PCPU) {
                // Only the flavor's `vcpus` can be changed. Isolated emulator threads need one CPU more than that.
                Some(own) => {
                    (Quantity::Vcpus, room.checked_sub(own.saturating_sub(self.spec.flavor.vcpus.into()))?)
                }
                // With fewer CPUs, fewer of them are pinned, unless a mask names them.
                None if class.name == PCPU && self.cells.is_some() => (Quantity::Vcpus, room),
                None => (Quantity::Class(class.name.clone()), room),
            },
            (None, None) => return None,
        };
        (most >= least(&quantity) && most < self.asked(&quantity)).then_some((quantity, most))
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
    fn repairs(&self, near: &Near, refused: &Refused, parts: &[Repair]) -> Vec<Repair> {
        let concerns =
            |part: &&Repair| matches!(&part.change, Change::Drop { part } if concerns(refused, part));
        let mut repairs: Vec<_> = parts.iter().filter(concerns).cloned().collect();
        repairs.extend(self.left(refused).into_iter().flat_map(|(amount, left)| self.asks(amount, left)));
        repairs.extend(on_fleet(near, refused));
        repairs
    }

    /// Tries changes together, the last one with the smallest amount that is enough. Keeps them if they fit.
    fn try_moves(&mut self, moves: &[Repair]) {
        let Some((last, before)) = moves.split_last() else { return };
        let before: Vec<_> = before.iter().map(|earlier| earlier.change.clone()).collect();
        let Some((change, host)) = self.least(last, &before) else { return };
        let mut changes = before;
        changes.push(change);
        let size = changes.iter().map(|change| self.size(change)).sum();
        // The same amount may have been looked for in steps of another size. The smaller change is kept.
        match self.found.iter_mut().find(|fix| differ_by_amount(&fix.changes, &changes)) {
            Some(fix) if fix.size <= size => {}
            Some(fix) => *fix = Fix { changes, size, host },
            None => self.found.push(Fix { changes, size, host }),
        }
    }

    /// The smallest change of this kind that is enough together with those before it, and the host that is then picked.
    fn least(&mut self, last: &Repair, before: &[Change]) -> Option<(Change, String)> {
        // The amount looked for is between the first guess and the furthest amount that makes sense.
        if let Some(host) = self.attempt(last, last.first, before) {
            let smaller = self.smaller(last, before);
            return Some(smaller.unwrap_or_else(|| (last.change.clone(), host)));
        }
        if last.first == last.furthest {
            return None;
        }
        self.closest(last, last.furthest, last.first, before)
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
        Some((last.with(good), host))
    }

    /// Looks for a smaller amount than the first guess.
    fn smaller(&mut self, last: &Repair, before: &[Change]) -> Option<(Change, String)> {
        let (first, none) = (last.first, last.none?);
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
        changes.push(last.with(by));
        (self.fits)(&changes)
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
                let near = self.misses.near.iter().find(|near| near.told.host == *host);
                let total = near.map_or(0, |near| match amount {
                    Quantity::Vcpus => near.exact.reported.vcpus_total,
                    Quantity::MemoryMb => near.exact.reported.memory_mb_total,
                    Quantity::DiskGb => near.exact.reported.disk_gb_total,
                    Quantity::Instances => near.exact.used().instances.into(),
                    Quantity::Class(name) => class(near, name).map_or(0, |class| class.inventory.total),
                });
                *by as f64 / total.max(1) as f64
            }
        }
    }
}

/// Whether changes are the same, except perhaps that their last ones ask for different amounts of the same.
fn differ_by_amount(some: &[Change], others: &[Change]) -> bool {
    let (Some((last, before)), Some((other, others))) = (some.split_last(), others.split_last()) else {
        return false;
    };
    let same = match (last, other) {
        (Change::Ask { amount, .. }, Change::Ask { amount: other, .. }) => amount == other,
        _ => last == other,
    };
    same && before == others
}

/// The NUMA cells that a flavor and an image ask for.
struct Cells {
    image: ImageProperties,
    /// How many cells there are.
    number: u64,
    /// The size of a page in KiB. 0 or negative if it may be any of several.
    page_size_kb: i64,
}

impl Cells {
    /// `None` if none are asked for, or if the request names its cells itself, with all that they are made of.
    fn of(spec: &RequestSpec) -> Option<Self> {
        if spec.numa_topology.is_some() {
            return None;
        }
        let image = spec.image.as_ref().map(ImageProperties::read).transpose().ok()?.unwrap_or_default();
        let topology = instance_topology::of_request(spec, &image).ok()??;
        let first = topology.cells.first()?;
        Some(Self { image, number: topology.cells.len() as u64, page_size_kb: first.pagesize })
    }

    /// Whether the cells become smaller if a request asks for less of an amount.
    fn are_made_of(&self, amount: &Quantity) -> bool {
        matches!(amount, Quantity::Vcpus | Quantity::MemoryMb)
    }

    /// The steps in which an amount may be asked for.
    fn grains(&self, amount: &Quantity, page_sizes_mb: &BTreeSet<u64>) -> BTreeSet<u64> {
        let of_each: BTreeSet<u64> = match (amount, self.page_size_kb) {
            (Quantity::MemoryMb, 1..) => BTreeSet::from([whole_mb(self.page_size_kb)]),
            (Quantity::MemoryMb, _) => page_sizes_mb.iter().copied().chain([1]).collect(),
            _ => BTreeSet::from([1]),
        };
        of_each.into_iter().map(|grain| grain * self.number).collect()
    }

    /// Whether the request still makes sense after a change.
    fn can_change(&self, spec: &RequestSpec, change: &Change) -> bool {
        let mut changed = spec.clone();
        change_request(&mut changed, &mut &[][..], change);
        instance_topology::of_request(&changed, &self.image).is_ok()
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
        Quantity::Vcpus => near.exact.used().vcpus,
        Quantity::MemoryMb => near.exact.used().memory_mb,
        Quantity::DiskGb => near.exact.used().disk_gb,
        Quantity::Instances => near.exact.used().instances.into(),
        Quantity::Class(name) => class(near, name).map_or(0, |class| class.used),
    }
}

/// The changes that leave out one part of a request.
fn drops(spec: &RequestSpec) -> impl Iterator<Item = Repair> {
    parts(spec).into_iter().map(|part| Repair::whole(Change::Drop { part }))
}

/// The changes of the fleet that may help against one refusal on one host, each with the smallest amount that may
/// be enough.
fn on_fleet(near: &Near, refused: &Refused) -> Vec<Repair> {
    let Some(miss) = &refused.miss else {
        let of_status = match &refused.by {
            Refuser::Filter(kind) => *kind == FilterKind::Compute,
            Refuser::Term(name) => name == STATUS_FILTER,
        };
        let enable = Change::Enable { host: near.told.host.clone(), state: near.told.state };
        return of_status.then(|| Repair::whole(enable)).into_iter().collect();
    };
    let lacking = (miss.wanted - miss.has).unsigned_abs();
    let own = miss.aggregate.as_ref().map(raise_number);
    match &miss.what {
        Compared::Measure(Measure::Count(Count::Instances)) => {
            own.into_iter().chain([free(near, Quantity::Instances, lacking)]).collect()
        }
        Compared::Measure(Measure::Count(Count::IoOps)) => own.into_iter().collect(),
        Compared::Measure(Measure::Members) => Vec::new(),
        Compared::Members(from) => {
            let (from, to) = (*from, from + lacking);
            let change = Change::RaiseGroupLimit { from, to };
            let furthest = to.saturating_mul(8);
            vec![Repair { change, first: to, furthest, none: Some(from), steps: 1, grain: 1 }]
        }
        Compared::Measure(Measure::Amount(amount)) => {
            let Resources { vcpus_total, memory_mb_total, disk_gb_total, ratios, .. } = near.exact.reported;
            let (quantity, total, ratio, by) = match amount {
                Amount::Vcpus => (Quantity::Vcpus, vcpus_total, ratios.cpu, lacking),
                Amount::MemoryMb => (Quantity::MemoryMb, memory_mb_total, ratios.ram, lacking),
                Amount::DiskMb => {
                    let gb = lacking.div_ceil(MB_PER_GB);
                    (Quantity::DiskGb, disk_gb_total * MB_PER_GB, ratios.disk, gb)
                }
            };
            if miss.wanted.unsigned_abs() > total {
                return Vec::new(); // one instance cannot be larger than the host, whatever the ratio
            }
            let free = (by <= in_use(near, &quantity)).then(|| free(near, quantity.clone(), by));
            // If an aggregate gives the ratio, the host's own ratio does not matter.
            let raise = own.or_else(|| {
                let fits = |ratio| i64::from(room_with(&near.exact, *amount, ratio)) >= miss.wanted;
                raise_ratio(near, quantity, ratio, fits)
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
            let free = (by <= class.used).then(|| free(near, quantity.clone(), by));
            let fits = |allocation_ratio| {
                let raised = Inventory { allocation_ratio, ..class.inventory };
                inventory::fits(&raised, class.used, sum)
                    || inventory::room(&raised, class.used) >= miss.wanted
            };
            let raise = raise_ratio(near, quantity, class.inventory.allocation_ratio, fits);
            // A dedicated CPU belongs to one instance only, so a ratio does not help.
            free.into_iter().chain(raise.filter(|_| class.name != PCPU)).collect()
        }
    }
}

/// The change that frees this much of what is in use on a host.
fn free(near: &Near, amount: Quantity, by: u64) -> Repair {
    let furthest = in_use(near, &amount);
    let change = Change::Free { host: near.told.host.clone(), amount, by };
    Repair { change, first: by, furthest, none: None, steps: 1, grain: 1 }
}

/// The change that raises a host's ratio from `from` to the smallest with which `fits` is true. `None` if that is not
/// larger, or would be too large.
fn raise_ratio(near: &Near, amount: Quantity, from: f64, fits: impl Fn(f64) -> bool) -> Option<Repair> {
    let first = smallest_hundredths(fits)?;
    let to = first as f64 / 100.0;
    let furthest = first.saturating_mul(8).min((MAX_RATIO * 100.0) as u64);
    let change = Change::RaiseRatio { host: near.told.host.clone(), amount, from, to };
    (to > from).then_some(Repair { change, first, furthest, none: None, steps: 100, grain: 1 })
}

/// The change that raises a number in the metadata of an aggregate to the smallest that may be enough.
fn raise_number(own: &AggregateNumber) -> Repair {
    let AggregateNumber { id, aggregate, key, text, steps, enough } = own.clone();
    let to = (enough as f64 / steps as f64).to_string();
    let none = python::float(&text).map(|number| (number * steps as f64) as u64); // a negative number counts as 0
    let furthest = enough.saturating_mul(8).min(MAX_RATIO as u64 * steps);
    let change = Change::SetMetadata { aggregate, id, key: key.to_owned(), from: text, to };
    Repair { change, first: enough, furthest, none, steps, grain: 1 }
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
            let persists = key == "hw:pmem" && term.starts_with("resources:CUSTOM_PMEM_NAMESPACE_");
            let encrypts = key.starts_with("hw:mem_encryption") && is_of_encryption(term);
            resource
                || pins
                || persists
                || encrypts
                || term.starts_with(&**key)
                || term.starts_with("group_policy")
                || term.ends_with("(missing)")
        }
        Part::ImageProperty(key) => {
            term.contains(&**key)
                || (key == "hw_cpu_policy" && term.starts_with("resources:PCPU="))
                || (key.starts_with("hw_mem_encryption") && is_of_encryption(term))
        }
        Part::Hint(_) | Part::ServerGroup(_) | Part::TargetHost(_) | Part::IgnoreHosts | Part::Retry => false,
    }
}

/// Whether a prefilter term is there because the instance's memory is encrypted.
fn is_of_encryption(term: &str) -> bool {
    term.starts_with("memory encryption") || term.starts_with("resources:MEM_ENCRYPTION_CONTEXT=")
}
