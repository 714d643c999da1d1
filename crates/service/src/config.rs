//! Configuration: layers of sources merged into one typed settings struct, each value's origin remembered.
//!
//! Layers, later ones win: the settings struct's defaults, the files of `--config` in their order (TOML), environment
//! variables (`NOVELLA_SECTION__KEY`; a top-level key is `NOVELLA_KEY`, such as `NOVELLA_TRANSPORT_URL`), the command
//! line. Tables are merged entry by entry, everything else is replaced. An environment variable that is set to
//! nothing counts as unset, because that is how compose files pass on what the user left out.
//!
//! What always holds: [`load`] either returns settings that are complete, typed and checked against each other, or
//! *all* the problems, each with where it is and what to do. A secret's value appears in no problem and no listing.
//!
//! What it leaves out: the settings themselves. Each daemon declares a struct that implements [`Settings`].

mod checks;
mod command;
mod layers;
mod secret;
mod shipped;
mod units;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

pub use checks::{
    MAX_NAME, check_exchange, check_listen, check_name, check_times, check_topics, listen_address,
};
pub use command::{ConfigCommand, OutputFormat};
pub use secret::redact_url;
pub use shipped::shipped_file_faults;
pub use units::{Size, SizeError, duration, optional_duration};

use layers::{Collected, Leaf};

/// What every environment variable of ours starts with.
pub const ENV_PREFIX: &str = "NOVELLA_";

/// One key that an operator may set. A key whose value is a table or a list is one key: its entries are free.
#[derive(Clone, Copy, Debug)]
pub struct KeyDoc {
    /// The key with its sections, such as `scheduler.service_down_time`.
    pub key: &'static str,
    /// The unit or kind of the value, such as `duration`, `MiB`, `count`, `URL`.
    pub unit: &'static str,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// Whether the value must never be shown (of a URL, everything but the credentials is).
    pub secret: bool,
}

impl KeyDoc {
    /// A key whose value may be shown.
    pub const fn new(key: &'static str, unit: &'static str, doc: &'static str) -> KeyDoc {
        KeyDoc { key, unit, doc, secret: false }
    }

    /// The same key, its value hidden.
    pub const fn secret(self) -> KeyDoc {
        KeyDoc { secret: true, ..self }
    }

    /// The environment variable that sets this key.
    pub fn env_name(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.replace('.', "__").to_uppercase())
    }
}

/// Checks that no single field's type can express.
pub trait Validate {
    /// Everything that is wrong with these settings.
    fn validate(&self) -> Vec<Problem>;
}

/// The settings of one daemon: a struct with `#[serde(default, deny_unknown_fields)]` at every level, whose serialised
/// default has every key (an unset `Option` as null).
pub trait Settings: Serialize + DeserializeOwned + Default + Validate {
    /// Every key, in the order in which they are listed.
    const KEYS: &'static [KeyDoc];
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The keys it is about; empty if it is about a whole source.
    pub keys: Vec<String>,
    /// Where: file and line, variable, option, or the keys with their values and origins.
    pub at: Vec<String>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A problem between (or with) these keys; [`load`] adds their values and origins.
    pub fn new(keys: &[&str], what: impl Into<String>, fix: impl Into<String>) -> Problem {
        let keys = keys.iter().map(|k| (*k).to_owned()).collect();
        Problem { keys, at: Vec::new(), what: what.into(), fix: fix.into() }
    }

    fn in_source(origin: impl fmt::Display, what: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem { at: vec![origin.to_string()], ..Problem::new(&[], what, fix) }
    }

    fn in_key(key: &str, origin: &Origin, what: impl Into<String>, fix: impl Into<String>) -> Problem {
        let what = format!("{key}: {}", what.into());
        Problem { keys: vec![key.to_owned()], ..Problem::in_source(origin, what, fix) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.at.is_empty() { self.keys.join(", ") } else { self.at.join(", ") };
        write!(f, "{at}: {}\n    fix: {}", self.what, self.fix)
    }
}

/// The configuration is refused; every reason at once. Ends a program with [`crate::exit::USAGE`].
#[derive(Debug, thiserror::Error)]
pub struct Invalid {
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "the configuration has {count} problem{}", if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This line of this file.
    File {
        /// The file as it was named on the command line.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Env(String),
    /// The command-line option of this name.
    CommandLine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::CommandLine(option) => write!(f, "command line {option}"),
        }
    }
}

/// A value given on the command line. Like [`Sources`] it has no `Debug`: it may be a secret.
#[derive(Clone)]
pub struct Override {
    /// The key that it sets.
    pub key: &'static str,
    /// The option that gave it, such as `--host`.
    pub option: &'static str,
    /// Its text, read like that of an environment variable.
    pub value: String,
}

/// Everything that may say something about the settings.
#[derive(Clone, Default)]
pub struct Sources {
    /// The files, least important first.
    pub files: Vec<PathBuf>,
    /// The environment; names without our prefix are ignored.
    pub env: Vec<(String, OsString)>,
    /// The command line.
    pub overrides: Vec<Override>,
}

impl Sources {
    /// Adds the command line's value for `key`, if there is one.
    pub fn set(
        mut self,
        key: &'static str,
        option: &'static str,
        value: Option<impl fmt::Display>,
    ) -> Sources {
        self.overrides.extend(value.map(|value| Override { key, option, value: value.to_string() }));
        self
    }
}

/// Settings, and where each of them comes from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub config: T,
    /// For each key of [`Settings::KEYS`] its origins: one, or for a merged table each that added to it.
    pub origins: BTreeMap<&'static str, Vec<Origin>>,
    /// What looks like a mistake but may be meant for another program: to be logged.
    pub warnings: Vec<String>,
}

impl<T: Settings> Loaded<T> {
    /// The same problems, each with what its keys are set to and by whom: for what shows only when the settings are used.
    pub fn locate(&self, found: Invalid) -> Invalid {
        let locate = |problem| locate::<T>(problem, &self.config, &self.origins);
        Invalid { problems: found.problems.into_iter().map(locate).collect() }
    }
}

/// Merges and checks all sources.
pub fn load<T: Settings>(sources: &Sources) -> Result<Loaded<T>, Invalid> {
    merge(layers::collect(T::KEYS, sources))
}

fn merge<T: Settings>(mut collected: Collected) -> Result<Loaded<T>, Invalid> {
    let mut refused = BTreeSet::new();
    let mut origins: BTreeMap<_, _> = T::KEYS.iter().map(|doc| (doc.key, vec![Origin::Default])).collect();
    let defaults = to_json(&T::default());
    let mut builder = config::Config::builder().add_source(values(
        T::KEYS.iter().map(|doc| (doc.key, at(&defaults, doc.key).unwrap_or(&Json::Null).clone())),
    ));
    for leaf in collected.leaves {
        match accept::<T>(&leaf, &defaults) {
            Ok(value) => {
                let known = origins.entry(leaf.doc.key).or_default();
                if !(value.is_object() && known.iter().all(|o| *o != Origin::Default)) {
                    known.clear();
                }
                known.push(leaf.origin);
                builder = builder.add_source(values([(leaf.doc.key, value)].into_iter()));
            }
            Err(problem) => {
                refused.insert(leaf.doc.key);
                collected.problems.push(problem);
            }
        }
    }
    // A file that could not be read may hold anything, so checks between keys would only guess.
    let complete = !collected.unreadable;
    let merged = builder.build().and_then(|config| config.try_deserialize::<Json>());
    let config = merged
        .map_err(|e| e.to_string())
        .and_then(|json| serde_json::from_value::<T>(json).map_err(|e| e.to_string()));
    match config {
        Ok(config) => {
            if complete {
                let found = config.validate().into_iter();
                let sure = found.filter(|p| !p.keys.iter().any(|k| refused.contains(k.as_str())));
                collected.problems.extend(sure.map(|p| locate::<T>(p, &config, &origins)));
            }
            if collected.problems.is_empty() {
                return Ok(Loaded { config, origins, warnings: collected.warnings });
            }
        }
        // Each value was accepted alone, so only values that exclude each other come here.
        Err(error) => collected.problems.push(Problem::in_source(
            "the merged configuration",
            error,
            "remove one of the sources to find the two values that do not go together",
        )),
    }
    Err(Invalid { problems: collected.problems })
}

/// Whether the settings take this value for this key, judged apart from all other keys.
fn accept<T: Settings>(leaf: &Leaf, defaults: &Json) -> Result<Json, Problem> {
    let mut first_error = None;
    for candidate in &leaf.candidates {
        match serde_json::from_value::<T>(nest(leaf.doc.key, candidate.clone())) {
            Ok(_) => return Ok(candidate.clone()),
            Err(error) => first_error.get_or_insert(error.to_string()),
        };
    }
    let what = if leaf.doc.secret {
        "the value is not valid (not shown, it is secret)".to_owned()
    } else {
        plain(&first_error.unwrap_or_else(|| "there is no value".to_owned()))
    };
    let name = leaf.doc.key.rsplit('.').next().unwrap_or(leaf.doc.key);
    let fix = match at(defaults, leaf.doc.key) {
        Some(Json::Null) | None => format!("{} (unit: {})", leaf.doc.doc, leaf.doc.unit),
        Some(_) if leaf.doc.secret => format!("{} (unit: {})", leaf.doc.doc, leaf.doc.unit),
        Some(default) => {
            format!(
                "write for example {name} = {}, which is the default (unit: {})",
                toml(default),
                leaf.doc.unit
            )
        }
    };
    Err(Problem::in_key(leaf.doc.key, &leaf.origin, what, fix))
}

/// serde's wording with the names of Rust types put into words.
fn plain(error: &str) -> String {
    let unsigned = ["u8", "u16", "u32", "u64", "usize"].map(|t| (t, "a whole number of 0 or more in range"));
    let signed = ["i8", "i16", "i32", "i64", "isize"].map(|t| (t, "a whole number in range"));
    let floats = ["f32", "f64"].map(|t| (t, "a number"));
    for (name, words) in unsigned.into_iter().chain(signed).chain(floats) {
        if let Some(start) = error.strip_suffix(&format!("expected {name}")) {
            return format!("{start}expected {words}");
        }
    }
    error.to_owned()
}

/// Adds to a problem between keys what they are set to, and by whom.
fn locate<T: Settings>(problem: Problem, config: &T, origins: &BTreeMap<&str, Vec<Origin>>) -> Problem {
    if !problem.at.is_empty() {
        return problem;
    }
    let json = to_json(config);
    let describe = |key: &String| {
        let Some(doc) = T::KEYS.iter().find(|doc| doc.key == key) else { return key.clone() };
        let value = shown(doc, at(&json, key).unwrap_or(&Json::Null));
        let origin = origins.get(doc.key).map(|o| join(o)).unwrap_or_default();
        format!("{key} = {} ({origin})", toml(&value))
    };
    Problem { at: problem.keys.iter().map(describe).collect(), ..problem }
}

fn join(origins: &[Origin]) -> String {
    origins.iter().map(Origin::to_string).collect::<Vec<_>>().join(", ")
}

fn to_json<T: Settings>(settings: &T) -> Json {
    serde_json::to_value(settings).expect("settings have string keys and serialise without failing")
}

/// The value as it may be shown.
fn shown(doc: &KeyDoc, value: &Json) -> Json {
    match value {
        Json::String(text) if doc.secret && !text.is_empty() => Json::String(secret::redact(text)),
        Json::Null => Json::Null,
        Json::String(_) => value.clone(),
        _ if doc.secret => Json::String(secret::HIDDEN.to_owned()),
        _ => value.clone(),
    }
}

/// A value as an operator would write it.
fn toml(value: &Json) -> String {
    match value {
        Json::Null => "(none)".to_owned(),
        Json::Object(map) if map.is_empty() => "{}".to_owned(),
        Json::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(k, v)| format!("{} = {}", toml_key(k), toml(v))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Json::Array(list) => format!("[{}]", list.iter().map(toml).collect::<Vec<_>>().join(", ")),
        // JSON's strings, numbers and booleans are TOML's too.
        scalar => scalar.to_string(),
    }
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { Json::from(key).to_string() }
}

fn at<'a>(json: &'a Json, key: &str) -> Option<&'a Json> {
    key.split('.').try_fold(json, |value, part| value.get(part))
}

fn nest(key: &str, value: Json) -> Json {
    key.rsplit('.').fold(value, |inner, part| Json::Object([(part.to_owned(), inner)].into_iter().collect()))
}

/// Keys and values as a source for the `config` crate, which merges them.
#[derive(Clone, Debug)]
struct Values(config::Map<String, config::Value>);

fn values(entries: impl Iterator<Item = (&'static str, Json)>) -> Values {
    let value = |json| serde_json::from_value(json).expect("every JSON value is a configuration value");
    Values(entries.map(|(key, json)| (key.to_owned(), value(json))).collect())
}

impl config::Source for Values {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, config::Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The known key that was most likely meant, if one is near enough.
fn suggest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    known
        .map(|key| {
            // The right name in the wrong section is a near miss too.
            let score =
                strsim::jaro_winkler(wrong, key).max(strsim::jaro_winkler(&last(wrong), &last(key)) - 0.02);
            (score, key)
        })
        .filter(|(score, _)| *score > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests;
