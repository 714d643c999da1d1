//! Host aggregates: the set of aggregates that each host is in, and what the metadata of each set say.
//!
//! Even a large fleet has few distinct sets of aggregates. So a row holds the symbol of its set, a filter asks the
//! metadata once per set, and values are split at commas when metadata change, not for each request.
//!
//! What always holds: symbol 0 is the empty set; `facts` has an entry for every symbol that a row holds; the cached
//! multiplier columns agree with both.

use std::collections::{BTreeMap, BTreeSet};

pub use novella_objects::document::Aggregate;

use crate::nova::python;
use crate::settings::options::is_multiplier;
use crate::settings::weigher_kind::WeigherKind;
use crate::table::block::grow_to;
use crate::table::dictionary::Dictionary;

/// What the metadata of one set of aggregates say. A key may have several values, one from each aggregate.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// The distinct values of each key, as written.
    raw: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    /// The distinct pieces of each key's values, which are split at commas and stripped of white space.
    split: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    /// All zones of the set, joined by commas. `None` if no aggregate names one.
    zone: Option<Box<str>>,
}

/// The metadata key that names the availability zone of an aggregate's hosts.
pub(crate) const ZONE_KEY: &str = "availability_zone";

impl Facts {
    fn of<'a>(aggregates: impl Iterator<Item = &'a Aggregate>) -> Self {
        let mut facts = Self::default();
        for (key, value) in aggregates.flat_map(|aggregate| &aggregate.metadata) {
            facts.raw.entry(key.as_str().into()).or_default().insert(value.as_str().into());
            let pieces = facts.split.entry(key.as_str().into()).or_default();
            pieces.extend(value.split(',').map(|piece| Box::from(python::strip(piece))));
        }
        facts.zone = facts.split(ZONE_KEY).map(|zones| {
            let zones: Vec<&str> = zones.iter().map(|zone| &**zone).collect();
            zones.join(",").into()
        });
        facts
    }

    /// The distinct values of `key`, as written.
    pub(crate) fn raw(&self, key: &str) -> impl Iterator<Item = &str> {
        self.raw.get(key).into_iter().flatten().map(|value| &**value)
    }

    /// The distinct pieces of all values of `key`. `None` if no aggregate has the key.
    pub(crate) fn split(&self, key: &str) -> Option<&BTreeSet<Box<str>>> {
        self.split.get(key)
    }

    /// The zones of hosts in these aggregates, joined by commas; `None` if no aggregate names one.
    pub(crate) fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// All keys with the pieces of their values.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &BTreeSet<Box<str>>)> {
        self.split.iter().map(|(key, values)| (&**key, values))
    }

    /// The smallest of all values of `key`. `None` if there is none or if `cast` refuses one of them, as in Nova.
    pub(crate) fn smallest<T: PartialOrd>(&self, key: &str, cast: fn(&str) -> Option<T>) -> Option<T> {
        let mut smallest = None;
        for value in self.raw(key) {
            let value = cast(value)?;
            smallest = Some(match smallest {
                Some(least) if least <= value => least,
                _ => value,
            });
        }
        smallest
    }

    /// The smallest allocation ratio that the metadata give under this key.
    pub(crate) fn ratio(&self, key: &str) -> Option<f64> {
        self.smallest(key, python::float).filter(|ratio| ratio.is_finite())
    }
}

/// All aggregates, and the set of them that each row is in.
#[derive(Debug)]
pub(crate) struct Aggregates {
    definitions: BTreeMap<u32, Aggregate>,
    sets: Dictionary<Box<[u32]>>,
    /// What the metadata of each set say, by the set's symbol.
    facts: Vec<Facts>,
    /// The symbol of each row's set.
    rows: Vec<u32>,
    /// Each weigher's multipliers, if they were prepared.
    multipliers: [Option<Multipliers>; WeigherKind::ALL.len()],
    /// For each weigher, the largest size of a multiplier that any definition gives, whether a host is in it or not.
    largest: [f64; WeigherKind::ALL.len()],
    /// Counts how often a symbol changed its metadata, so that what was compiled before is known to be out of date.
    pub(crate) changes: u64,
}

/// A weigher's multipliers, which aggregates may override.
#[derive(Debug)]
pub(crate) struct Multipliers {
    kind: WeigherKind,
    configured: f64,
    /// The exact multiplier of each set, by the set's symbol.
    pub(crate) by_set: Vec<f64>,
    /// Each row's multiplier, rounded. Empty if no set overrides the configured one.
    pub(crate) rounded: Vec<f32>,
    /// The smallest and the largest multiplier of all sets, that of hosts in no aggregate included.
    pub(crate) extremes: (f64, f64),
}

impl Default for Aggregates {
    fn default() -> Self {
        let mut sets = Dictionary::<Box<[u32]>>::default();
        let empty = sets.acquire::<[u32]>(&[]);
        debug_assert_eq!(empty, EMPTY);
        Self {
            definitions: BTreeMap::new(),
            sets,
            facts: vec![Facts::default()],
            rows: Vec::new(),
            multipliers: Default::default(),
            largest: Default::default(),
            changes: 0,
        }
    }
}

/// The symbol of the empty set, which is never released.
const EMPTY: u32 = 0;

impl Aggregates {
    pub(crate) fn grow(&mut self, rows: usize) {
        grow_to(&mut self.rows, rows, EMPTY);
        for multipliers in self.multipliers.iter_mut().flatten().filter(|m| !m.rounded.is_empty()) {
            grow_to(&mut multipliers.rounded, rows, multipliers.by_set[EMPTY as usize] as f32);
        }
    }

    /// Replaces all definitions. Each host keeps the ids that it is in.
    pub(crate) fn define(&mut self, aggregates: impl IntoIterator<Item = Aggregate>) {
        self.definitions = aggregates.into_iter().map(|aggregate| (aggregate.id, aggregate)).collect();
        let sets = self.sets.values_by_symbol();
        self.facts = sets.iter().map(|set| self.read(set.as_deref().unwrap_or_default())).collect();
        self.multipliers = Default::default();
        self.largest = WeigherKind::ALL.map(|kind| {
            let texts = self.definitions.values().filter_map(|of| of.metadata.get(kind.multiplier_key()));
            texts.filter_map(|text| own_multiplier(python::float(text))).map(f64::abs).fold(0.0, f64::max)
        });
        self.changes += 1;
    }

    /// The names of the aggregates of each set, by symbol.
    pub(crate) fn names(&self) -> Vec<Vec<String>> {
        let names = |set: Option<Box<[u32]>>| {
            let defined = set.into_iter().flatten().filter_map(|id| self.definitions.get(&id));
            defined.map(|aggregate| aggregate.name.clone()).collect()
        };
        self.sets.values_by_symbol().into_iter().map(names).collect()
    }

    fn read(&self, ids: &[u32]) -> Facts {
        Facts::of(ids.iter().filter_map(|id| self.definitions.get(id)))
    }

    /// Puts a row into exactly these aggregates. True if it was in others before.
    pub(crate) fn set_row(&mut self, row: usize, ids: &[u32]) -> bool {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        // `facts` has an entry already for each set that some row holds.
        let known = ids.is_empty() || self.sets.find(&*ids).is_some();
        let set = if ids.is_empty() { EMPTY } else { self.sets.acquire(&*ids) };
        let before = std::mem::replace(&mut self.rows[row], set);
        if before != EMPTY {
            self.sets.release(before);
        }
        if set != before {
            if !known {
                let facts = self.read(&ids);
                self.learn(set as usize, facts);
            }
            for multipliers in self.multipliers.iter_mut().flatten().filter(|m| !m.rounded.is_empty()) {
                multipliers.rounded[row] = multipliers.by_set[set as usize] as f32;
            }
        }
        set != before
    }

    /// Records what a symbol that is new or used again stands for.
    fn learn(&mut self, set: usize, facts: Facts) {
        // The prepared multipliers do not cover what this set says: they are prepared again when asked for.
        let news = |m: &Multipliers| {
            let multiplier = multiplier(&facts, m.kind, m.configured);
            m.by_set.get(set).is_none_or(|known| *known != multiplier)
        };
        if self.multipliers.iter().flatten().any(news) {
            self.multipliers = Default::default();
        }
        // A symbol that is used again may stand for what it stood for before.
        if self.facts.get(set).is_none_or(|known| *known != facts) {
            self.changes += 1;
        }
        if self.facts.len() <= set {
            self.facts.resize_with(set + 1, Facts::default);
        }
        self.facts[set] = facts;
    }

    /// The symbol of a row's set.
    pub(crate) fn set_of(&self, row: usize) -> u32 {
        self.rows[row]
    }

    /// The ids of the aggregates that a row is in, in order.
    pub(crate) fn ids(&self, row: usize) -> &[u32] {
        self.sets.get(self.rows[row])
    }

    /// Asks `verdict` about the ids of each set. The answers are by the set's symbol.
    pub(crate) fn by_set(&self, verdict: impl Fn(&[u32]) -> bool) -> Vec<bool> {
        self.sets.iter().map(|set| verdict(set.map_or(&[][..], |ids| ids))).collect()
    }

    /// All definitions, by id.
    pub(crate) fn defined(&self) -> impl Iterator<Item = &Aggregate> {
        self.definitions.values()
    }

    /// The symbols of all rows' sets.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// What the metadata of each set say, by the set's symbol.
    pub(crate) fn facts(&self) -> &[Facts] {
        &self.facts
    }

    /// Prepares what [`Self::multipliers`] returns, if that was not done for the same configured multiplier.
    pub(crate) fn prepare_multipliers(&mut self, kind: WeigherKind, configured: f64) {
        let known = self.multipliers[kind as usize].as_ref();
        if known.is_some_and(|known| known.configured.to_bits() == configured.to_bits()) {
            return;
        }
        let by_set: Vec<f64> = self.facts.iter().map(|facts| multiplier(facts, kind, configured)).collect();
        let overridden = by_set.iter().any(|multiplier| *multiplier != configured * kind.sign());
        let rounded =
            self.rows.iter().filter(|_| overridden).map(|set| by_set[*set as usize] as f32).collect();
        let own = configured * kind.sign();
        let extremes = by_set.iter().fold((own, own), |(least, most), own| (least.min(*own), most.max(*own)));
        self.multipliers[kind as usize] = Some(Multipliers { kind, configured, by_set, rounded, extremes });
    }

    /// The largest size that a weigher's multiplier can have on any host. It does not depend on who is in an aggregate
    /// now, so that the same policy always gives the same number.
    pub(crate) fn largest_multiplier(&self, kind: WeigherKind, configured: f64) -> f64 {
        configured.abs().max(self.largest[kind as usize])
    }

    /// A weigher's multipliers, if they are prepared and an aggregate overrides the configured one.
    pub(crate) fn multipliers(&self, kind: WeigherKind) -> Option<&Multipliers> {
        self.multipliers[kind as usize].as_ref().filter(|m| !m.rounded.is_empty())
    }
}

/// What a weigher is multiplied by on hosts of a set: the set's own multiplier if it can be used, or else the
/// configured one, with the weigher's sign.
fn multiplier(facts: &Facts, kind: WeigherKind, configured: f64) -> f64 {
    own_multiplier(facts.smallest(kind.multiplier_key(), python::float)).unwrap_or(configured) * kind.sign()
}

/// The multiplier that metadata give, if weights can be computed with it.
fn own_multiplier(value: Option<f64>) -> Option<f64> {
    value.filter(|value| is_multiplier(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aggregate(id: u32, metadata: &[(&str, &str)]) -> Aggregate {
        let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Aggregate { id, name: format!("a{id}"), metadata }
    }

    #[test]
    fn values_of_all_aggregates_are_one_set() {
        let mut a = Aggregates::default();
        a.define([aggregate(1, &[("k", " x , y"), ("n", "7")]), aggregate(2, &[("k", "y,z"), ("n", "3")])]);
        a.grow(64);
        a.set_row(5, &[2, 1, 9, 2]);
        let facts = &a.facts()[a.set_of(5) as usize];
        assert_eq!(facts.split("k").unwrap().iter().map(|v| &**v).collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(facts.raw("k").collect::<Vec<_>>(), [" x , y", "y,z"]);
        assert_eq!(facts.smallest("n", python::int), Some(3));
        assert_eq!(facts.smallest("k", python::int), None);
        assert!(a.facts()[a.set_of(6) as usize].split("k").is_none());
    }

    #[test]
    fn multipliers_follow_hosts_and_definitions() {
        let mut a = Aggregates::default();
        let own = |value| [aggregate(1, &[("ram_weight_multiplier", value)])];
        a.define(own("2.5"));
        a.grow(64);
        a.prepare_multipliers(WeigherKind::Ram, 1.0);
        assert!(a.multipliers(WeigherKind::Ram).is_none(), "no host is in it");
        a.set_row(3, &[1]);
        a.prepare_multipliers(WeigherKind::Ram, 1.0);
        let rounded = |a: &Aggregates| a.multipliers(WeigherKind::Ram).unwrap().rounded[2..5].to_vec();
        assert_eq!(rounded(&a), [1.0, 2.5, 1.0]);
        a.set_row(4, &[1]);
        a.set_row(3, &[]);
        assert_eq!(rounded(&a), [1.0, 1.0, 2.5]);
        a.grow(128);
        assert_eq!(a.multipliers(WeigherKind::Ram).unwrap().rounded.len(), 128);
        for bad in ["x", "inf", "nan", "1e13"] {
            a.define(own(bad));
            a.prepare_multipliers(WeigherKind::Ram, 1.0);
            assert!(a.multipliers(WeigherKind::Ram).is_none(), "{bad} leaves the configured one");
        }
    }
}
