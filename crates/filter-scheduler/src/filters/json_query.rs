//! JsonFilter: a query in prefix notation over HostState's attributes.
//!
//! An example is `["and", [">=", "$free_ram_mb", 1024], ["in", "$hypervisor_type", "QEMU", "KVM"]]`. Nova's accidents
//! are kept: `not` gives a list, and a nested list with anything in it counts as true; a value that is missing or null
//! is dropped from its operator's arguments; every argument is evaluated, so that an error in any of them is an error
//! of the query.
//!
//! Known differences: whole numbers beyond 64 bits are floats; NaN and Infinity are refused; methods of HostState
//! cannot be asked.

use std::cmp::Ordering;

use serde_json::Value;

use crate::filters::attributes;
use crate::filters::tally::Passes;
use crate::nova::json::Json;
use crate::table::block::Row;
use crate::table::capabilities::CapabilityKind;
use crate::table::host_table::HostTable;

/// A query, parsed once per request.
#[derive(Debug)]
pub(super) enum Query {
    /// The query, as it was parsed.
    Tree(Json),
    /// The query cannot be read, for this reason. Nova raises an exception at every host.
    Broken(String),
}

impl Query {
    /// Reads the hint `query`: a text, or a list of one. `None` if the request has no query.
    pub(super) fn of_hint(hint: Option<&Value>) -> Option<Self> {
        let hint = match hint {
            Some(Value::Array(items)) if items.len() == 1 => items.first(),
            other => other,
        };
        Some(match hint? {
            Value::Null | Value::Bool(false) => return None,
            Value::String(text) if text.is_empty() => return None,
            Value::Array(items) if items.is_empty() => return None,
            Value::Object(fields) if fields.is_empty() => return None,
            Value::Number(number) if number.as_f64() == Some(0.0) => return None,
            Value::String(text) => match Json::parse(text) {
                Some(tree) => Self::Tree(tree),
                None => Self::Broken("the query is not valid JSON".to_owned()),
            },
            _ => Self::Broken("the query is not a single string".to_owned()),
        })
    }

    /// Whether the query holds for a host.
    pub(super) fn ask(&self, table: &HostTable, row: Row) -> Passes {
        match self {
            Self::Broken(reason) => Err(reason.clone()),
            Self::Tree(tree) => Ok(match eval(tree, table, row)? {
                Json::List(items) => items.iter().any(truthy),
                value => truthy(&value),
            }),
        }
    }
}

/// Python's `bool(value)`.
fn truthy(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Int(value) => *value != 0,
        Json::Float(value) => *value != 0.0,
        Json::Text(text) => !text.is_empty(),
        Json::List(items) => !items.is_empty(),
        Json::Map(fields) => !fields.is_empty(),
    }
}

fn eval(query: &Json, table: &HostTable, row: Row) -> Result<Json, String> {
    if !truthy(query) {
        return Ok(Json::Bool(true));
    }
    let letters: Vec<Json>;
    let words = match query {
        Json::List(words) => words,
        // A text is a list of its letters.
        Json::Text(text) => {
            letters = text.chars().map(|c| Json::Text(c.to_string().into())).collect();
            &letters
        }
        other => return Err(format!("{} is not a query", other.text())),
    };
    let Some((Json::Text(operator), operands)) = words.split_first() else {
        return Err(format!("{} is not an operator", words[0].text()));
    };
    if !matches!(&**operator, "=" | "<" | ">" | "<=" | ">=" | "in" | "not" | "and" | "or") {
        return Err(format!("there is no operator {operator:?}"));
    }
    let mut values = Vec::with_capacity(operands.len());
    for operand in operands {
        let value = match operand {
            Json::List(_) => eval(operand, table, row)?,
            Json::Text(text) => variable(text, table, row)?,
            literal => literal.clone(),
        };
        if value != Json::Null {
            values.push(value);
        }
    }
    Ok(match &**operator {
        "and" => Json::Bool(values.iter().all(truthy)),
        "or" => Json::Bool(values.iter().any(truthy)),
        "not" => Json::List(values.iter().map(|value| Json::Bool(!truthy(value))).collect()),
        "in" => Json::Bool(values.len() > 1 && values[1..].iter().any(|value| equal(&values[0], value))),
        _ if values.len() < 2 => Json::Bool(false),
        comparison => {
            let mut all = true;
            for value in &values[1..] {
                all &= compare(comparison, &values[0], value)?;
            }
            Json::Bool(all)
        }
    })
}

/// What a text in a query stands for: an attribute or fact of the host if it begins with `$`, or else itself.
fn variable(text: &str, table: &HostTable, row: Row) -> Result<Json, String> {
    if text.is_empty() {
        return Ok(Json::Null);
    }
    let Some(path) = text.strip_prefix('$') else { return Ok(Json::Text(text.into())) };
    let mut words = path.split('.');
    let first = words.next().unwrap_or_default();
    let mut value = match (first, words.clone().next()) {
        ("stats", None) => attributes::facts(table, row),
        ("stats", Some(name)) => {
            words.next();
            attributes::reported(table, row, CapabilityKind::Fact, name)
        }
        (name, _) => attributes::get(table, row, name),
    };
    for word in words {
        value = match &value {
            None => return Ok(Json::Null),
            Some(map @ Json::Map(_)) => map.get(word).filter(|value| **value != Json::Null).cloned(),
            Some(other) => return Err(format!("{path}: {} has no fields", other.text())),
        };
    }
    Ok(value.unwrap_or(Json::Null))
}

/// Python's `==`.
fn equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Text(a), Json::Text(b)) => a == b,
        (Json::List(a), Json::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Json::Map(a), Json::Map(_)) => {
            let Json::Map(fields) = b else { return false };
            a.len() == fields.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|b| equal(value, b)))
        }
        (Json::Null, Json::Null) => true,
        _ => numbers(a, b) == Some(Some(Ordering::Equal)),
    }
}

/// The order of two numbers, as which truth values count too. `None` if one is not a number, `Some(None)` if one is
/// NaN.
fn numbers(a: &Json, b: &Json) -> Option<Option<Ordering>> {
    let whole = |value: &Json| match value {
        Json::Bool(value) => Some(i128::from(*value)),
        Json::Int(value) => Some(*value),
        _ => None,
    };
    Some(match (whole(a), whole(b), a, b) {
        (Some(a), Some(b), ..) => Some(a.cmp(&b)),
        (Some(a), None, _, Json::Float(b)) => whole_and_float(a, *b),
        (None, Some(b), Json::Float(a), _) => whole_and_float(b, *a).map(Ordering::reverse),
        (None, None, Json::Float(a), Json::Float(b)) => a.partial_cmp(b),
        _ => return None,
    })
}

/// Compares exactly, as Python does, where converting to a double would round.
fn whole_and_float(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    // Whole parts beyond 128 bits saturate, which keeps the order.
    Some(a.cmp(&(b.trunc() as i128)).then_with(|| 0.0f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal)))
}

fn compare(operator: &str, a: &Json, b: &Json) -> Result<bool, String> {
    if operator == "=" {
        return Ok(equal(a, b));
    }
    let order = order(a, b)?;
    Ok(match operator {
        "<" => order.is_some_and(Ordering::is_lt),
        ">" => order.is_some_and(Ordering::is_gt),
        "<=" => order.is_some_and(Ordering::is_le),
        _ => order.is_some_and(Ordering::is_ge),
    })
}

/// Python's order of two values. `None` if one is NaN, and an error where Python has no order.
fn order(a: &Json, b: &Json) -> Result<Option<Ordering>, String> {
    if let Some(order) = numbers(a, b) {
        return Ok(order);
    }
    match (a, b) {
        (Json::Text(a), Json::Text(b)) => Ok(Some(a.cmp(b))),
        (Json::List(a), Json::List(b)) => match a.iter().zip(b).find(|(a, b)| !equal(a, b)) {
            Some((a, b)) => order(a, b),
            None => Ok(Some(a.len().cmp(&b.len()))),
        },
        _ => Err(format!("{} and {} cannot be compared", a.text(), b.text())),
    }
}
