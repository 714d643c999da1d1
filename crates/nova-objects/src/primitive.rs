//! The form in which objects are sent, and Nova's rules for reading it.
//!
//! An object is a map with the keys `nova_object.name`, `nova_object.namespace`, `nova_object.version`, `nova_object.data`
//! and `nova_object.changes`. Objects nest in the data.
//! - An older minor version is read, and the fields it lacks are unset. A newer minor or another major is refused, as by a
//!   Nova service that has no conductor to translate it. Only in the outermost object the third part of a version is
//!   ignored.
//! - Fields that nobody asks for are ignored, but objects in them must be known.
//! - Scalars are converted to the field's type as Nova converts them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::ObjectError;

const NAME: &str = "nova_object.name";
const NAMESPACE: &str = "nova_object.namespace";
const VERSION: &str = "nova_object.version";
const DATA: &str = "nova_object.data";

/// All objects that a RequestSpec of Nova 34 can hold, with their versions in Nova 34.
const KNOWN: [(&str, &str); 27] = [
    ("CellMapping", "1.1"),
    ("ComputeNode", "1.19"),
    ("ComputeNodeList", "1.17"),
    ("Destination", "1.4"),
    ("Flavor", "1.2"),
    ("HVSpec", "1.2"),
    ("ImageMeta", "1.8"),
    ("ImageMetaProps", "1.44"),
    ("InstanceGroup", "1.11"),
    ("InstanceNUMACell", "1.6"),
    ("InstanceNUMATopology", "1.3"),
    ("InstancePCIRequest", "1.4"),
    ("InstancePCIRequests", "1.1"),
    ("NUMATopologyLimits", "1.1"),
    ("NetworkMetadata", "1.0"),
    ("NetworkRequest", "1.3"),
    ("NetworkRequestList", "1.1"),
    ("PciDevicePool", "1.1"),
    ("PciDevicePoolList", "1.1"),
    ("RequestGroup", "1.3"),
    ("RequestLevelParams", "1.1"),
    ("RequestSpec", "1.15"),
    ("SchedulerLimits", "1.0"),
    ("SchedulerRetries", "1.1"),
    ("SecurityGroup", "1.2"),
    ("SecurityGroupList", "1.1"),
    ("VirtCPUTopology", "1.0"),
];

/// How many characters of a wrong value an error repeats.
const SHOWN: usize = 60;

/// An object of one kind. It and every object in it have been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object<'a> {
    name: &'static str,
    version: &'a str,
    data: &'a Map<String, Value>,
}

/// Makes novella's value from an object of one kind.
pub(crate) type Read<T> = fn(&Object<'_>) -> Result<T, ObjectError>;

/// The parts of `major.minor[.revision]`.
fn parts(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    let revision = parts.next().unwrap_or(Some(0))?;
    parts.next().is_none().then_some((major, minor, revision))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn header<'a>(
    object: &'a Map<String, Value>,
    key: &'static str,
    place: &str,
) -> Result<&'a Value, ObjectError> {
    object.get(key).ok_or_else(|| ObjectError::NoKey { place: place.to_owned(), key })
}

fn bad_value(object: &str, version: &str, field: &str, value: &Value, expected: &'static str) -> ObjectError {
    ObjectError::BadValue {
        object: object.to_owned(),
        version: version.to_owned(),
        field: field.to_owned(),
        value: shown(value),
        expected,
    }
}

/// The error for a wrong value in the part of an object that says what it is, before its version is known.
fn bad_header(place: &str, field: &str, value: &Value, expected: &'static str) -> ObjectError {
    bad_value(place, "", field, value, expected)
}

impl<'a> Object<'a> {
    /// The outermost object, which must be a `name`. Checks it and every object in it.
    pub fn outermost(value: &'a Value, name: &'static str) -> Result<Self, ObjectError> {
        check(value, name, true)?;
        Self::of(value, name).ok_or_else(|| bad_header(name, name, value, "an object of this name"))
    }

    /// An object that was checked before, if it has this name.
    fn of(value: &'a Value, name: &'static str) -> Option<Self> {
        let object = value.as_object()?;
        if object.get(NAME)?.as_str()? != name {
            return None;
        }
        Some(Self { name, version: object.get(VERSION)?.as_str()?, data: object.get(DATA)?.as_object()? })
    }

    /// The error for a wrong value.
    pub fn bad(&self, field: &str, value: &Value, expected: &'static str) -> ObjectError {
        bad_value(self.name, self.version, field, value, expected)
    }

    fn unset(&self, field: &'static str) -> ObjectError {
        ObjectError::Unset { object: self.name.to_owned(), version: self.version.to_owned(), field }
    }

    /// The value of a field. `None` if it is unset or null.
    pub fn value(&self, field: &str) -> Option<&'a Value> {
        self.data.get(field).filter(|value| !value.is_null())
    }

    /// All fields that are neither unset nor null.
    pub fn values(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.data.iter().filter(|(_, value)| !value.is_null())
    }

    /// Refuses null in a field that may be unset.
    pub fn not_null(&self, field: &str) -> Result<(), ObjectError> {
        match self.data.get(field) {
            Some(null @ Value::Null) => Err(self.bad(field, null, "a value other than null")),
            _ => Ok(()),
        }
    }

    /// Refuses a field that is unset or null.
    pub fn must_be_set(&self, field: &'static str) -> Result<(), ObjectError> {
        self.not_null(field)?;
        self.value(field).map(|_| ()).ok_or_else(|| self.unset(field))
    }

    /// A text. Numbers are converted.
    pub fn text(&self, field: &str) -> Result<Option<String>, ObjectError> {
        self.value(field).map(|value| self.read_text(field, value)).transpose()
    }

    fn read_text(&self, field: &str, value: &Value) -> Result<String, ObjectError> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(self.bad(field, other, "a string")),
        }
    }

    /// A whole number, which may be negative. Texts of digits, fractions and truth values are converted.
    pub fn signed(&self, field: &str) -> Result<Option<i64>, ObjectError> {
        self.value(field).map(|value| self.read_signed(field, value)).transpose()
    }

    fn read_signed(&self, field: &str, value: &Value) -> Result<i64, ObjectError> {
        let number = match value {
            Value::Bool(truth) => Some(i64::from(*truth)),
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.bad(field, value, "a whole number"))
    }

    /// A whole number that is not negative and fits the type.
    pub fn unsigned<T: TryFrom<i64>>(&self, field: &str) -> Result<Option<T>, ObjectError> {
        let Some(number) = self.signed(field)? else { return Ok(None) };
        let fits = T::try_from(number).ok().filter(|_| number >= 0);
        fits.map(Some).ok_or_else(|| self.bad(field, &number.into(), "a whole number in its range"))
    }

    /// A whole number that is not negative, in a field that must be set.
    pub fn needed<T: TryFrom<i64>>(&self, field: &'static str) -> Result<T, ObjectError> {
        self.not_null(field)?;
        self.unsigned(field)?.ok_or_else(|| self.unset(field))
    }

    /// Whether Python takes the value for true. Unset is false.
    pub fn truth(&self, field: &str) -> bool {
        match self.value(field) {
            None => false,
            Some(Value::Bool(truth)) => *truth,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(entries)) => !entries.is_empty(),
            Some(Value::Null) => false,
        }
    }

    /// A list or set. Unset and null are empty.
    pub fn list(&self, field: &str) -> Result<&'a [Value], ObjectError> {
        match self.value(field) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(self.bad(field, other, "a list")),
        }
    }

    /// A list or set of texts.
    pub fn texts(&self, field: &str) -> Result<Vec<String>, ObjectError> {
        self.list(field)?.iter().map(|item| self.read_text(field, item)).collect()
    }

    /// A list or set of whole numbers that are not negative, in ascending order.
    pub fn numbers(&self, field: &str) -> Result<Vec<u32>, ObjectError> {
        let mut numbers = self.numbers_in_order(field)?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A list of whole numbers that are not negative, in its own order.
    pub fn numbers_in_order(&self, field: &str) -> Result<Vec<u32>, ObjectError> {
        let number = |item: &Value| {
            let number = self.read_signed(field, item)?;
            u32::try_from(number).map_err(|_| self.bad(field, item, "a whole number in its range"))
        };
        self.list(field)?.iter().map(number).collect()
    }

    /// A map. Unset and null are empty.
    pub fn map(&self, field: &str) -> Result<BTreeMap<String, &'a Value>, ObjectError> {
        match self.value(field) {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(entries)) => Ok(entries.iter().map(|(key, v)| (key.clone(), v)).collect()),
            Some(other) => Err(self.bad(field, other, "a map")),
        }
    }

    /// A map of texts.
    pub fn text_map(&self, field: &str) -> Result<BTreeMap<String, String>, ObjectError> {
        let entries = self.map(field)?.into_iter();
        entries.map(|(key, value)| Ok((key, self.read_text(field, value)?))).collect()
    }

    /// An object in a field.
    pub fn object(&self, field: &str, name: &'static str) -> Result<Option<Object<'a>>, ObjectError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        Object::of(value, name).map(Some).ok_or_else(|| self.bad(field, value, "an object of the right kind"))
    }

    /// The value that a reader makes from an object in a field.
    pub fn nested<T>(&self, field: &str, name: &'static str, of: Read<T>) -> Result<Option<T>, ObjectError> {
        self.object(field, name)?.as_ref().map(of).transpose()
    }

    /// An object in a field that must be set.
    pub fn needed_object(&self, field: &'static str, name: &'static str) -> Result<Object<'a>, ObjectError> {
        self.not_null(field)?;
        self.object(field, name)?.ok_or_else(|| self.unset(field))
    }

    /// A list of objects.
    pub fn objects(&self, field: &str, name: &'static str) -> Result<Vec<Object<'a>>, ObjectError> {
        let object =
            |item| Object::of(item, name).ok_or_else(|| self.bad(field, item, "an object of the right kind"));
        self.list(field)?.iter().map(object).collect()
    }
}

/// Python's `int()` of a fraction.
fn whole(fraction: f64) -> Option<i64> {
    const LARGEST: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it a fraction is not exact
    (fraction.abs() <= LARGEST).then_some(fraction as i64)
}

/// Checks every object in a value. `place` is what an error calls the value.
fn check(value: &Value, place: &str, outermost: bool) -> Result<(), ObjectError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check(item, place, false)),
        Value::Object(object) if object.contains_key(NAME) => check_object(object, place, outermost),
        Value::Object(entries) => entries.values().try_for_each(|entry| check(entry, place, false)),
        _ => Ok(()),
    }
}

fn check_object(object: &Map<String, Value>, place: &str, outermost: bool) -> Result<(), ObjectError> {
    let text = |key| {
        let value = header(object, key, place)?;
        value.as_str().ok_or_else(|| bad_header(place, key, value, "a string"))
    };
    let (namespace, name, version) = (text(NAMESPACE)?, text(NAME)?, text(VERSION)?);
    let known = KNOWN.iter().find(|(known, _)| *known == name);
    let Some((name, supported)) = known.filter(|_| namespace == "nova") else {
        return Err(ObjectError::Unsupported(format!("{namespace}.{name}")));
    };
    let sent = parts(version)
        .ok_or_else(|| bad_header(name, VERSION, &Value::from(version), "a version such as 1.4"))?;
    let (major, minor, _) = parts(supported).expect("the table is of versions");
    let revision = if outermost { 0 } else { sent.2 };
    if sent.0 != major || (sent.1, revision) > (minor, 0) {
        return Err(ObjectError::IncompatibleVersion {
            name: (*name).to_owned(),
            version: version.to_owned(),
            supported: (*supported).to_owned(),
        });
    }
    let data = header(object, DATA, name)?;
    let Value::Object(fields) = data else { return Err(bad_header(name, DATA, data, "a map")) };
    fields.values().try_for_each(|field| check(field, name, false))
}
