//! Merges all sources into one typed settings struct, and checks it.
//!
//! What always holds: [`load`] either returns settings that are complete, typed and checked against each other, or
//! *all* the problems, each with where it is and what to do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::config::{
    layers::{self, Collected, Leaf},
    problem::{Invalid, Problem},
    setting::{Section, Setting},
    source::{Origin, Sources, join},
    value::{at, is_empty, nest, overlay, shown, to_json, toml},
};

/// All settings of one program.
pub trait Settings: Section {
    /// Everything that is wrong with these settings and that the type of a single one cannot express.
    fn validate(&self) -> Vec<Problem>;

    /// Reads the files that these settings name, for `config check`. A program that starts reads them itself.
    fn check_files(&self) -> CheckedFiles {
        CheckedFiles::default()
    }

    /// Every setting, in the order in which they are listed.
    fn declared() -> Vec<Setting> {
        let mut settings = Vec::new();
        Self::declare("", &mut settings);
        settings
    }
}

/// What `config check` found in the files that the settings name.
#[derive(Clone, Debug, Default)]
pub struct CheckedFiles {
    /// The files that were read.
    pub files: Vec<String>,
    /// Why the program would not start with these files.
    pub problems: Vec<Problem>,
    /// What looks like a mistake, although the program starts.
    pub warnings: Vec<String>,
}

/// The origins of each value by its key. There is one, or for a merged table each that added to it.
pub type Origins = BTreeMap<String, Vec<Origin>>;

/// Settings, and where each of them comes from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub config: T,
    /// The origins of each of them.
    pub origins: Origins,
    /// What looks like a mistake but may be meant for another program. It should be logged.
    pub warnings: Vec<String>,
}

impl<T: Settings> Loaded<T> {
    /// Adds to each problem what its keys are set to and by whom. It is for problems that are found only when the
    /// settings are used.
    pub fn locate(&self, found: Invalid) -> Invalid {
        let (declared, values) = (T::declared(), to_json(&self.config));
        let locate = |problem| locate(problem, &declared, &values, &self.origins);
        Invalid { problems: found.problems.into_iter().map(locate).collect() }
    }
}

/// The keys whose values differ, in the order of their declaration.
pub fn changed_keys<T: Settings>(before: &T, after: &T) -> Vec<String> {
    let (before, after) = (to_json(before), to_json(after));
    let keys = T::declared().into_iter().map(|setting| setting.key);
    keys.filter(|key| at(&before, key) != at(&after, key)).collect()
}

/// Merges and checks all sources.
pub fn load<T: Settings>(sources: &Sources) -> Result<Loaded<T>, Invalid> {
    let declared = T::declared();
    merge(&declared, layers::collect(&declared, sources))
}

/// Merges and checks what was read.
pub(super) fn merge<T: Settings>(
    declared: &[Setting],
    mut collected: Collected<'_>,
) -> Result<Loaded<T>, Invalid> {
    let mut refused = BTreeSet::new();
    let mut origins: Origins =
        declared.iter().map(|setting| (setting.key.clone(), vec![Origin::Default])).collect();
    let defaults = to_json(&T::default());
    let mut merged = defaults.clone();
    for leaf in collected.leaves {
        let key = &leaf.setting.key;
        match accept::<T>(&leaf, &defaults) {
            Ok(value) => {
                let known = origins.entry(key.clone()).or_default();
                if !(value.is_object() && known.iter().all(|o| *o != Origin::Default)) {
                    known.clear();
                }
                known.push(leaf.origin);
                overlay(&mut merged, nest(key, value));
            }
            Err(problem) => {
                refused.insert(key.as_str());
                collected.problems.push(problem);
            }
        }
    }
    // A file that could not be read may hold anything, so checks between keys would only guess.
    let complete = !collected.unreadable;
    match serde_json::from_value::<T>(merged) {
        Ok(config) => {
            if complete {
                let values = to_json(&config);
                let found = config.validate().into_iter();
                let sure = found.filter(|p| !p.keys.iter().any(|k| refused.contains(k.as_str())));
                collected.problems.extend(sure.map(|p| locate(p, declared, &values, &origins)));
            }
            if collected.problems.is_empty() {
                return Ok(Loaded { config, origins, warnings: collected.warnings });
            }
        }
        // Each value was accepted alone, so only values that exclude each other come here.
        Err(error) => collected.problems.push(Problem::in_source(
            "the merged configuration",
            error.to_string(),
            "remove one of the sources to find the two values that do not go together",
        )),
    }
    Err(Invalid { problems: collected.problems })
}

/// Whether the settings take this value for this key, judged apart from all other keys.
fn accept<T: Settings>(leaf: &Leaf<'_>, defaults: &Json) -> Result<Json, Problem> {
    let setting = leaf.setting;
    let mut errors = Vec::new();
    for candidate in &leaf.candidates {
        match serde_json::from_value::<T>(nest(&setting.key, candidate.clone())) {
            Ok(_) => return Ok(candidate.clone()),
            Err(error) => errors.push(error.to_string()),
        }
    }
    // A text is read in several ways. The way that gave a value of the right type was meant, and its error says more.
    let meant = errors.iter().position(|error| !error.starts_with("invalid type"));
    let error = (!errors.is_empty()).then(|| errors.swap_remove(meant.unwrap_or(0)));
    let what = if setting.secret {
        "the value is not valid (not shown, it is secret)".to_owned()
    } else {
        plain(&error.unwrap_or_else(|| "there is no value".to_owned()))
    };
    let (default, unit, (_, name)) = (at(defaults, &setting.key), setting.unit, setting.place());
    let fix = match setting.example {
        _ if setting.secret => format!("{} (unit: {unit})", setting.summary()),
        Some(example) => format!("write for example {name} = {example} (unit: {unit})"),
        None if is_empty(default) => format!("{} (unit: {unit})", setting.summary()),
        None => format!("write for example {name} = {}, which is the default (unit: {unit})", toml(default)),
    };
    Err(Problem::in_key(&setting.key, &leaf.origin, what, fix))
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
fn locate(problem: Problem, declared: &[Setting], values: &Json, origins: &Origins) -> Problem {
    if !problem.at.is_empty() {
        return problem;
    }
    let describe = |key: &String| {
        let Some(setting) = declared.iter().find(|setting| setting.key == *key) else { return key.clone() };
        let origin = origins.get(key).map(|origins| join(origins)).unwrap_or_default();
        format!("{key} = {} ({origin})", toml(&shown(setting, values)))
    };
    Problem { at: problem.keys.iter().map(describe).collect(), ..problem }
}
