//! The properties of hosts that extra specs can ask about, as symbols: one dictionary entry per distinct value.
//!
//! A row holds a list of keys, which it shares with all hosts that report the same keys in the same order, and the
//! symbol of each key's value. So an unchanged report is recognised by comparing texts, without hashing. A key that a
//! request asks about gets a column of value symbols, which is kept up to date from then on: an operator's flavors name
//! few keys, but hosts may report many.
//!
//! There are two kinds of keys: attributes are top-level keys of the report, and facts are Nova's `stats`. The integer
//! attributes change with every report and are kept as numbers.
//!
//! What always holds: a list owns one reference to each of its keys; a row owns one to its list and one to each of its
//! values; a column agrees with the rows. Memory follows what hosts hold now, not what they once held.

use std::hash::{Hash, Hasher};

use hashbrown::{Equivalent, HashMap};
use novella_objects::Capabilities;

use crate::nova::json::Json;
use crate::table::block::grow_to;
use crate::table::dictionary::Dictionary;

/// In a column, this says that the row does not have the key.
const ABSENT: u32 = u32::MAX;

/// The most keys that have a column at a time. Asking about one more drops the others, which are built again when asked
/// about.
const MAX_COLUMNS: usize = 32;

/// The capabilities of all hosts, by row, with columns for the keys that requests ask about.
#[derive(Debug, Default)]
pub(crate) struct CapabilityColumns {
    rows: Vec<RowCapabilities>,
    keys: Dictionary<Key>,
    /// Lists of key symbols.
    lists: Dictionary<Box<[u32]>>,
    values: Dictionary<Capability>,
    /// A column for each key that requests ask about: the value symbol of each row, or [`ABSENT`].
    columns: HashMap<u32, Vec<u32>>,
    /// The integers that 32 bits cannot hold, by row and index in [`INTEGERS`].
    large: HashMap<(usize, usize), i64>,
    /// Counts how often columns were dropped to make room.
    dropped: u64,
}

#[derive(Debug, Clone)]
struct RowCapabilities {
    /// The symbol of the row's list of keys, or [`NO_KEYS`].
    keys: u32,
    /// The value symbol of each key of the list.
    values: Box<[u32]>,
    /// The values of [`INTEGERS`]. [`NO_INTEGER`] and [`LARGE`] mark values that are not stored here.
    integers: [i32; INTEGERS.len()],
}

/// In a row, this says that the row has no keys.
const NO_KEYS: u32 = u32::MAX;

/// Among a row's integers, this says that the integer is not reported.
const NO_INTEGER: i32 = i32::MIN;

/// Among a row's integers, this says that the integer is in [`CapabilityColumns::large`].
const LARGE: i32 = i32::MIN + 1;

/// The integer attributes of a report, except for those of Nova's HostState that are computed from the table.
pub(crate) const INTEGERS: [&str; 7] = [
    "vcpus",
    "disk_total",
    "disk_used",
    "disk_available",
    "host_memory_total",
    "host_memory_free",
    "hypervisor_version",
];

/// The attribute under which a host reports what its monitors measured.
const METRICS: &str = "metrics";

/// Whether an attribute is measured: it differs in nearly every report of a real host.
pub(crate) fn is_measured(attribute: &str) -> bool {
    matches!(attribute, "disk_used" | "disk_available" | "host_memory_free" | METRICS)
}

/// What a report changed of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Something that is not measured: a word, or the size of the host.
    pub(crate) words: bool,
    /// A value that is [measured](is_measured).
    pub(crate) measured: bool,
}

impl Changed {
    fn note(&mut self, measured: bool) {
        if measured {
            self.measured = true;
        } else {
            self.words = true;
        }
    }
}

/// Where in a report a key is: at the top level, or among the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CapabilityKind {
    Attribute,
    Fact,
}

/// A key, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(CapabilityKind, Box<str>);

/// A borrowed [`Key`], to look one up. It hashes like the key.
#[derive(Hash)]
struct KeyRef<'a>(CapabilityKind, &'a str);

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0 && self.1 == &*key.1
    }
}

impl From<&KeyRef<'_>> for Key {
    fn from(key: &KeyRef<'_>) -> Self {
        Self(key.0, key.1.into())
    }
}

/// One distinct value that hosts report.
#[derive(Debug)]
pub(crate) struct Capability {
    /// The value as it was reported, by which equal values are found.
    source: Source<Box<str>>,
    /// The value that a requirement is compared with, if a path ends here.
    pub(crate) value: Json,
    /// The object in which a longer path continues, if `value` is a text that holds one.
    pub(crate) tree: Option<Json>,
}

/// A value as it was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source<T> {
    /// The value as JSON.
    Json(T),
    /// The value is this text, without JSON's quotes.
    Text(T),
}

impl RowCapabilities {
    fn empty() -> Self {
        Self { keys: NO_KEYS, values: Box::default(), integers: [NO_INTEGER; INTEGERS.len()] }
    }
}

impl Hash for Capability {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

impl Equivalent<Capability> for Source<&str> {
    fn equivalent(&self, other: &Capability) -> bool {
        match (self, &other.source) {
            (Self::Json(a), Source::Json(b)) | (Self::Text(a), Source::Text(b)) => *a == &**b,
            _ => false,
        }
    }
}

impl From<&Source<&str>> for Capability {
    fn from(source: &Source<&str>) -> Self {
        let (source, value) = match *source {
            // A report is JSON, so only a value nested deeper than serde_json allows fails. It is compared as text.
            Source::Json(text) => {
                (Source::Json(text.into()), Json::parse(text).unwrap_or_else(|| Json::Text(text.into())))
            }
            Source::Text(text) => (Source::Text(text.into()), Json::Text(text.into())),
        };
        let tree = match &value {
            Json::Text(text) => Json::parse(text).filter(|tree| matches!(tree, Json::Map(_))),
            _ => None,
        };
        Self { source, value, tree }
    }
}

/// The value symbols of one key, by row; see [`CapabilityColumns::symbols`].
#[derive(Clone, Copy)]
pub(crate) struct Symbols<'t> {
    columns: &'t CapabilityColumns,
    key: Option<u32>,
    column: Option<&'t [u32]>,
}

impl Symbols<'_> {
    pub(crate) fn at(&self, row: usize) -> Option<u32> {
        match self.column {
            Some(column) => Some(column[row]).filter(|&symbol| symbol != ABSENT),
            None => self.columns.held(row, self.key?),
        }
    }
}

impl CapabilityColumns {
    pub(crate) fn grow(&mut self, rows: usize) {
        grow_to(&mut self.rows, rows, RowCapabilities::empty());
        for column in self.columns.values_mut() {
            grow_to(column, rows, ABSENT);
        }
    }

    pub(crate) fn clear(&mut self, row: usize) {
        self.replace(row, std::iter::empty());
        self.set_integers(row, [None; INTEGERS.len()]);
    }

    /// Replaces all that the row holds. Returns what is not as before.
    pub(crate) fn set(&mut self, row: usize, report: &Capabilities<'_>) -> Changed {
        let integers = [
            report.vcpus,
            report.disk_total,
            report.disk_used,
            report.disk_available,
            report.host_memory_total,
            report.host_memory_free,
            report.hypervisor_version,
        ];
        let mut changed = self.set_integers(row, integers);
        // Nova keeps cpu_info as a text that holds JSON. An object, as Nova reported it in 2012, counts as its text.
        let cpu_info = report.cpu_info.as_ref().map(|raw| match raw.get() {
            text if text.starts_with('"') => Source::Json(text),
            text => Source::Text(text),
        });
        let attribute = |name, value| (KeyRef(CapabilityKind::Attribute, name), value);
        let known = cpu_info.map(|value| attribute("cpu_info", value)).into_iter().chain(
            report.hypervisor_type.as_deref().map(|value| attribute("hypervisor_type", Source::Text(value))),
        );
        let extra = report.extra.iter().map(|(name, raw)| attribute(name.as_ref(), Source::Json(raw.get())));
        let named = report.novella.iter().flat_map(|novella| {
            let address = novella.host_ip.as_deref().map(|address| ("host_ip", Source::Text(address)));
            let lists = [("supported_instances", &novella.supported_instances), (METRICS, &novella.metrics)];
            let lists =
                lists.into_iter().filter_map(|(name, list)| Some((name, Source::Json(list.as_ref()?.get()))));
            address.into_iter().chain(lists).map(|(name, value)| attribute(name, value))
        });
        let facts = report.novella.iter().flat_map(|novella| novella.facts.iter());
        let facts = facts.map(|(name, raw)| (KeyRef(CapabilityKind::Fact, name), Source::Json(raw.get())));
        let of_words = self.replace(row, known.chain(extra).chain(named).chain(facts));
        changed.words |= of_words.words;
        changed.measured |= of_words.measured;
        changed
    }

    /// Replaces the integers of a row. Returns what changed.
    fn set_integers(&mut self, row: usize, integers: [Option<i64>; INTEGERS.len()]) -> Changed {
        let mut changed = Changed::default();
        for (which, value) in integers.into_iter().enumerate() {
            if self.integer(row, which) == value {
                continue;
            }
            changed.note(is_measured(INTEGERS[which]));
            let small = |value: i64| i32::try_from(value).ok().filter(|small| *small > LARGE);
            let kept = value.map_or(NO_INTEGER, |value| small(value).unwrap_or(LARGE));
            self.rows[row].integers[which] = kept;
            match value {
                Some(value) if kept == LARGE => self.large.insert((row, which), value),
                _ => self.large.remove(&(row, which)),
            };
        }
        changed
    }

    fn keys_of(&self, row: usize) -> &[u32] {
        match self.rows[row].keys {
            NO_KEYS => &[],
            keys => self.lists.get(keys),
        }
    }

    /// Replaces the keys and values of a row. True if a key, a value or their order changed.
    fn replace<'r>(
        &mut self,
        row: usize,
        pairs: impl Iterator<Item = (KeyRef<'r>, Source<&'r str>)>,
    ) -> Changed {
        let (mut kept, mut changed) = (0, Changed::default());
        let mut pairs = pairs.peekable();
        while let Some(&held_key) = self.keys_of(row).get(kept)
            && let Some((_, source)) = pairs.next_if(|(key, _)| key.equivalent(self.keys.get(held_key)))
        {
            let held_value = self.rows[row].values[kept];
            if !source.equivalent(self.values.get(held_value)) {
                changed.note(KeyRef(CapabilityKind::Attribute, METRICS).equivalent(self.keys.get(held_key)));
                self.rows[row].values[kept] = self.values.acquire(&source);
                self.values.release(held_value);
                self.index(row, held_key);
            }
            kept += 1;
        }
        if pairs.peek().is_none() && kept == self.keys_of(row).len() {
            return changed;
        }
        // From here on the reported keys differ from those that the row holds.
        let before = self.keys_of(row).to_vec();
        let mut keys = before[..kept].to_vec();
        keys.iter().for_each(|key| self.keys.share(*key));
        let (mut values, gone) = {
            let (kept, gone) = self.rows[row].values.split_at(kept);
            (kept.to_vec(), gone.to_vec())
        };
        for (key, source) in pairs {
            keys.push(self.keys.acquire(&key));
            values.push(self.values.acquire(&source));
        }
        gone.into_iter().for_each(|value| _ = self.values.release(value));
        let list = self.acquire_list(&keys);
        let list_before = std::mem::replace(&mut self.rows[row].keys, list);
        self.rows[row].values = values.into();
        // Of a key that is reported twice, the last value is written last.
        let gone = before.iter().map(|key| (*key, ABSENT));
        let now = keys.iter().copied().zip(self.rows[row].values.iter().copied());
        for (key, value) in gone.chain(now) {
            if let Some(column) = self.columns.get_mut(&key) {
                column[row] = value;
            }
        }
        if list_before != NO_KEYS && self.lists.release(list_before) {
            self.release_keys(&before);
        }
        changed.words = true;
        changed
    }

    /// The symbol of a list, with one more reference. It takes over the caller's reference to each of the keys.
    fn acquire_list(&mut self, keys: &[u32]) -> u32 {
        if keys.is_empty() {
            return NO_KEYS;
        }
        let known = self.lists.find(keys).is_some();
        let list = self.lists.acquire(keys);
        if known {
            self.release_keys(keys); // the list has its own references already
        }
        list
    }

    fn release_keys(&mut self, keys: &[u32]) {
        for key in keys {
            if self.keys.release(*key) {
                self.columns.remove(key);
            }
        }
    }

    /// Writes into a key's column, if it has one, what the row holds.
    fn index(&mut self, row: usize, key: u32) {
        if self.columns.contains_key(&key) {
            let held = self.held(row, key).unwrap_or(ABSENT);
            if let Some(column) = self.columns.get_mut(&key) {
                column[row] = held;
            }
        }
    }

    /// The value symbol of a key in a row. If a key was reported twice, the last one counts.
    fn held(&self, row: usize, key: u32) -> Option<u32> {
        let place = self.keys_of(row).iter().rposition(|held| *held == key)?;
        Some(self.rows[row].values[place])
    }

    /// The facts that a row reports, each with its value.
    pub(crate) fn facts(&self, row: usize) -> impl Iterator<Item = (&str, &Json)> {
        let pairs = self.keys_of(row).iter().zip(&self.rows[row].values);
        pairs.filter_map(|(&key, &value)| match self.keys.get(key) {
            Key(CapabilityKind::Fact, name) => Some((&**name, &self.values.get(value).value)),
            Key(CapabilityKind::Attribute, _) => None,
        })
    }

    /// The symbol of a key. `None` if no host reports it now.
    pub(crate) fn key(&self, kind: CapabilityKind, name: &str) -> Option<u32> {
        self.keys.find(&KeyRef(kind, name))
    }

    /// Makes sure that a key has a column, and returns the key's symbol. `None` if no host reports it now.
    pub(crate) fn build_column(&mut self, kind: CapabilityKind, name: &str) -> Option<u32> {
        let key = self.key(kind, name)?;
        if !self.columns.contains_key(&key) {
            if self.columns.len() >= MAX_COLUMNS {
                self.columns.clear();
                self.dropped += 1;
            }
            let column = (0..self.rows.len()).map(|row| self.held(row, key).unwrap_or(ABSENT)).collect();
            self.columns.insert(key, column);
        }
        Some(key)
    }

    /// The value symbols of a key, whether it has a column or not. No row has a value of `None`.
    pub(crate) fn symbols(&self, key: Option<u32>) -> Symbols<'_> {
        Symbols { columns: self, key, column: key.and_then(|key| self.columns.get(&key)).map(Vec::as_slice) }
    }

    /// Counts the changes after which a request that names keys must be compiled again.
    pub(crate) fn key_changes(&self) -> u64 {
        self.keys.changes + self.dropped
    }

    /// Counts the changes after which a verdict about a value symbol may be wrong.
    pub(crate) fn value_changes(&self) -> u64 {
        self.values.changes
    }

    /// A value that some row holds.
    pub(crate) fn value(&self, symbol: u32) -> &Capability {
        self.values.get(symbol)
    }

    /// One more than the largest value symbol.
    pub(crate) fn values(&self) -> usize {
        self.values.symbols()
    }

    /// An integer attribute, by its index in [`INTEGERS`]. `None` if the host does not report it.
    pub(crate) fn integer(&self, row: usize, which: usize) -> Option<i64> {
        match self.rows[row].integers[which] {
            NO_INTEGER => None,
            LARGE => self.large.get(&(row, which)).copied(),
            small => Some(small.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(facts: &str) -> String {
        format!(
            r#"{{"vcpus":4,"cpu_info":{{"arch":"x86_64"}},"hypervisor_type":"QEMU","rack":7,"novella":{{"uuid":
            "00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,"seq":1,"sent_at":"","interval_ms":1,
            "facts":{facts}}}}}"#
        )
    }

    fn set(columns: &mut CapabilityColumns, row: usize, facts: &str) {
        let text = report(facts);
        columns.set(row, &serde_json::from_str(&text).unwrap());
    }

    fn fact(columns: &CapabilityColumns, row: usize, name: &str) -> Option<String> {
        let key = columns.key(CapabilityKind::Fact, name)?;
        Some(columns.value(columns.symbols(Some(key)).at(row)?).value.text().into_owned())
    }

    #[test]
    fn equal_values_are_one_entry_and_the_last_report_counts() {
        let mut c = CapabilityColumns::default();
        c.grow(64);
        set(&mut c, 0, r#"{"a":"x","b":"y"}"#);
        set(&mut c, 1, r#"{"b":"y","a":"x"}"#);
        let a = c.key(CapabilityKind::Fact, "a").unwrap();
        assert_eq!(c.symbols(Some(a)).at(0), c.symbols(Some(a)).at(1));
        assert_eq!(c.build_column(CapabilityKind::Fact, "a"), Some(a));
        set(&mut c, 0, r#"{"b":"z"}"#);
        assert_eq!((fact(&c, 0, "a"), fact(&c, 1, "a")), (None, Some("x".into())));
        assert_eq!(fact(&c, 0, "b").as_deref(), Some("z"));
        set(&mut c, 0, r#"{"a":"first","a":"last"}"#);
        assert_eq!(fact(&c, 0, "a").as_deref(), Some("last"));
        set(&mut c, 0, r#"{"a":"first"}"#);
        assert_eq!(fact(&c, 0, "a").as_deref(), Some("first"));
        c.clear(0);
        c.clear(1);
        assert_eq!(c.key(CapabilityKind::Fact, "a"), None);
        assert!(!c.columns.contains_key(&a), "a key that nobody holds has no column");
    }

    #[test]
    fn integers_of_any_size_come_back() {
        let mut c = CapabilityColumns::default();
        c.grow(64);
        for vcpus in [7, i64::from(i32::MIN), i64::from(i32::MIN) + 1, -1, i64::MIN, i64::MAX, 1 << 31, 8] {
            let text = format!(r#"{{"vcpus":{vcpus}}}"#);
            assert!(c.set(3, &serde_json::from_str(&text).unwrap()).words, "{vcpus} is new");
            assert_eq!(
                c.set(3, &serde_json::from_str(&text).unwrap()),
                Changed::default(),
                "{vcpus} is known"
            );
            assert_eq!((c.integer(3, 0), c.integer(3, 1), c.integer(2, 0)), (Some(vcpus), None, None));
        }
        assert!(c.large.is_empty());
        c.clear(3);
        assert_eq!(c.integer(3, 0), None);
    }

    #[test]
    fn hosts_whose_facts_keep_changing_take_no_more_room() {
        let mut c = CapabilityColumns::default();
        c.grow(64);
        for i in 0..1000 {
            set(&mut c, i % 3, &format!(r#"{{"serial":"{i}","key{i}":{i}}}"#));
        }
        assert!(c.values() < 20, "{} values", c.values());
        assert!(c.keys.symbols() < 20);
        assert!(c.lists.symbols() < 20);
    }

    #[test]
    fn a_text_that_holds_an_object_can_be_looked_into() {
        let mut c = CapabilityColumns::default();
        c.grow(64);
        set(&mut c, 0, "{}");
        let key = c.key(CapabilityKind::Attribute, "cpu_info").unwrap();
        let cpu_info = c.value(c.symbols(Some(key)).at(0).unwrap());
        assert_eq!(cpu_info.value.text(), r#"{"arch":"x86_64"}"#);
        assert_eq!(cpu_info.tree.as_ref().unwrap().get("arch").unwrap().text(), "x86_64");
    }
}
