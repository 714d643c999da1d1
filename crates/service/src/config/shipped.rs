//! Checks that a shipped example file tells the truth about the settings; for the daemons' tests.
//!
//! The form of such a file: section headers as they are, and every key as a comment that becomes its default when the
//! leading `#` is removed, under a comment that names its unit and its default:
//!
//! ```toml
//! [scheduler]
//! # How long a host may be silent before it counts as down. Unit: duration. Default: 60s.
//! #service_down_time = "1m"
//! ```
//!
//! A key without a default (null, or an empty table or list) may show any valid value as an example.

use std::path::Path;

use serde_json::Value as Json;

use super::{KeyDoc, Settings, at, layers::Collected, merge, to_json};

/// All the ways in which `text` differs from what the settings say; a daemon's test asserts that there are none. Also
/// checks that [`Settings::KEYS`] and the settings' fields are the same set.
pub fn shipped_file_faults<T: Settings>(text: &str) -> Vec<String> {
    let defaults = to_json(&T::default());
    let mut faults = key_faults(T::KEYS, &defaults);
    let lines: Vec<&str> = text.lines().collect();
    faults.extend(T::KEYS.iter().filter_map(|doc| comment_fault(doc, &lines)));

    match load_text::<T>(text) {
        Ok(config) if to_json(&config) != defaults => {
            faults.push("as shipped, the file changes a default".to_owned());
        }
        Ok(_) => {}
        Err(problems) => faults.push(format!("as shipped: {problems}")),
    }
    let uncommented: Vec<&str> = lines.iter().map(|line| setting(line).unwrap_or(line)).collect();
    match load_text::<T>(&uncommented.join("\n")) {
        Ok(config) => {
            let set = to_json(&config);
            for doc in T::KEYS {
                let (value, default) = (at(&set, doc.key), at(&defaults, doc.key));
                if !is_open(default) && value != default {
                    faults.push(format!("{}: the file shows {value:?}, the default is {default:?}", doc.key));
                }
            }
        }
        Err(problems) => faults.push(format!("with every key uncommented: {problems}")),
    }
    faults
}

/// No default that an example would have to equal.
fn is_open(default: Option<&Json>) -> bool {
    match default {
        None | Some(Json::Null) => true,
        Some(Json::Object(map)) => map.is_empty(),
        Some(Json::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

pub(super) fn key_faults(keys: &[KeyDoc], defaults: &Json) -> Vec<String> {
    let mut faults: Vec<String> = keys
        .iter()
        .filter(|doc| at(defaults, doc.key).is_none())
        .map(|doc| format!("{} is in KEYS, but no field of the settings", doc.key))
        .collect();
    undocumented(keys, defaults, "", &mut faults);
    faults
}

fn undocumented(keys: &[KeyDoc], value: &Json, key: &str, faults: &mut Vec<String>) {
    if keys.iter().any(|doc| doc.key == key) {
        return;
    }
    match value {
        Json::Object(map) if key.is_empty() || !map.is_empty() => {
            for (name, value) in map {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                undocumented(keys, value, &key, faults);
            }
        }
        _ => faults.push(format!("{key} is a field of the settings, but not in KEYS")),
    }
}

/// The setting that a line comments out: `#name = ...` or `#[section]`, with nothing between `#` and the name.
fn setting(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('#')?;
    let name = rest.split('=').next().unwrap_or(rest).trim_end();
    let is_key = rest.contains('=')
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.\"".contains(&b));
    let is_header = rest.starts_with('[') && rest.trim_end().ends_with(']');
    (is_key || is_header).then_some(rest)
}

/// Whether the key has its line, and its unit and default in the comment above.
fn comment_fault(doc: &KeyDoc, lines: &[&str]) -> Option<String> {
    let (section, name) = doc.key.rsplit_once('.').unwrap_or(("", doc.key));
    let header = |line: &str| {
        let line = line.strip_prefix('#').unwrap_or(line);
        line.trim_end().strip_prefix('[')?.strip_suffix(']').map(str::to_owned)
    };
    let mut current = String::new();
    let position = lines.iter().position(|line| {
        if let Some(name) = header(line) {
            current = name;
            return current == doc.key;
        }
        current == section
            && setting(line).is_some_and(|s| s.split('=').next().unwrap_or(s).trim_end() == name)
    });
    let Some(position) = position else { return Some(format!("{}: not in the file", doc.key)) };
    let comment: Vec<&str> = lines[..position]
        .iter()
        .rev()
        .take_while(|l| l.starts_with('#') && setting(l).is_none())
        .copied()
        .collect();
    let comment = comment.join(" ").to_lowercase();
    if !comment.contains(&doc.unit.to_lowercase()) {
        return Some(format!("{}: the comment above it does not name its unit, {}", doc.key, doc.unit));
    }
    (!comment.contains("default"))
        .then(|| format!("{}: the comment above it does not name its default", doc.key))
}

/// Loads a text the way a file is loaded. The problems come as one text.
fn load_text<T: Settings>(text: &str) -> Result<T, String> {
    let mut collected = Collected::default();
    collected
        .read_text(T::KEYS, Path::new("shipped"), text.as_bytes().to_vec())
        .map_err(|problem| problem.to_string())?;
    merge::<T>(collected).map(|loaded| loaded.config).map_err(|invalid| invalid.to_string())
}
