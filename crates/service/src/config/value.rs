//! Values of settings as JSON, which every source is read into, and as the TOML text that an operator would write.

use serde::Serialize;
use serde_json::Value as Json;

use crate::config::{secret, setting::Setting};

/// All settings as one JSON value.
pub(super) fn to_json(settings: &impl Serialize) -> Json {
    serde_json::to_value(settings).expect("settings have string keys and serialise without failing")
}

/// The value of this key, or null where there is none.
pub(super) fn at<'a>(json: &'a Json, key: &str) -> &'a Json {
    key.split('.').try_fold(json, |value, part| value.get(part)).unwrap_or(&Json::Null)
}

/// The settings in which this key alone is set.
pub(super) fn nest(key: &str, value: Json) -> Json {
    key.rsplit('.').fold(value, |inner, part| Json::Object([(part.to_owned(), inner)].into_iter().collect()))
}

/// Puts `over` on top of `under`: tables entry by entry, everything else as a whole.
pub(super) fn overlay(under: &mut Json, over: Json) {
    match (under, over) {
        (Json::Object(under), Json::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Json::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// The setting's part of all these values, as it may be shown.
pub(super) fn shown(setting: &Setting, all: &Json) -> Json {
    match at(all, &setting.key) {
        Json::String(text) if setting.secret && !text.is_empty() => Json::String(secret::redact(text)),
        value if !setting.secret || value.is_null() || value.is_string() => value.clone(),
        _ => Json::String(secret::HIDDEN.to_owned()),
    }
}

/// Whether the value is a text, a list or a table without anything in it, or none at all.
pub(super) fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(list) => list.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A value as an operator would write it.
pub(super) fn toml(value: &Json) -> String {
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
