//! Reads TOML values and collects what is wrong with them.
//!
//! What always holds: nothing here stops at the first problem, so an operator sees every problem at once, each with its
//! line.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use novella_filter_scheduler::nearest;
use novella_objects::PolicyProblem;
use serde_json::Value as Json;
use toml_edit::{Item, TableLike, Value};

/// The position of something in the text, in bytes.
pub(super) type Span = Option<Range<usize>>;

/// The text, and the problems found in it so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    /// Problems, because of which the policy is refused.
    pub(super) problems: Vec<PolicyProblem>,
    /// Parts that nothing can use, with which the policy is accepted.
    pub(super) unusable: Vec<PolicyProblem>,
    /// Probable mistakes, with which the policy is accepted.
    pub(super) warnings: Vec<PolicyProblem>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new(), unusable: Vec::new(), warnings: Vec::new() }
    }

    fn line(&self, span: &Span) -> usize {
        let at = span.as_ref().map_or(0, |span| span.start).min(self.text.len());
        1 + self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
    }

    pub(super) fn problem(&mut self, at: &Span, key: &str, what: impl Display, fix: impl Display) {
        let problem = self.described(at, key, what, fix);
        self.problems.push(problem);
    }

    pub(super) fn warning(&mut self, at: &Span, key: &str, what: impl Display, fix: impl Display) {
        let warning = self.described(at, key, what, fix);
        self.warnings.push(warning);
    }

    /// Notes a warning, and the known word that was probably meant, if one is similar.
    pub(super) fn warning_near(
        &mut self,
        at: &Span,
        key: &str,
        what: impl Display,
        fix: impl Display,
        did_you_mean: Option<String>,
    ) {
        let warning = PolicyProblem { did_you_mean, ..self.described(at, key, what, fix) };
        self.warnings.push(warning);
    }

    pub(super) fn unusable(&mut self, at: &Span, key: &str, what: impl Display, fix: impl Display) {
        let unusable = self.described(at, key, what, fix);
        self.unusable.push(unusable);
    }

    fn described(&self, at: &Span, key: &str, what: impl Display, fix: impl Display) -> PolicyProblem {
        PolicyProblem {
            line: self.line(at),
            key: key.to_owned(),
            what: what.to_string(),
            did_you_mean: None,
            fix: fix.to_string(),
        }
    }

    /// Notes an unknown word, and suggests the known word that was probably meant.
    pub(super) fn unknown<'k>(
        &mut self,
        at: &Span,
        key: &str,
        (kind, word): (&str, &str),
        known: impl Iterator<Item = &'k str> + Clone,
    ) {
        let near = nearest(word, known.clone()).map(str::to_owned);
        let fix = match &near {
            Some(near) => format!("write {near}"),
            None => format!("choose one of {}", known.collect::<Vec<_>>().join(", ")),
        };
        let mut problem = self.described(at, key, format_args!("there is no {kind} {word:?}"), fix);
        problem.did_you_mean = near;
        self.problems.push(problem);
    }

    /// Notes that a table has no such key.
    pub(super) fn unknown_key(&mut self, field: &Field<'_>, kind: &str, known: &[&str]) {
        self.unknown(&field.at, &field.key, (kind, field.name), known.iter().copied());
    }

    /// The fields of a table. It is a problem if `item` is not a table.
    pub(super) fn fields<'a>(&mut self, path: &str, item: &'a Item) -> Vec<Field<'a>> {
        let Some(table) = item.as_table_like() else {
            let what = format!("expected a table, found a {}", item.type_name());
            self.problem(&item.span(), path, what, format!("write its keys under [{path}]"));
            return Vec::new();
        };
        fields(path, table)
    }
}

/// The fields of a table, in the order of the text.
pub(super) fn fields<'a>(path: &str, table: &'a dyn TableLike) -> Vec<Field<'a>> {
    let field = |(name, item): (&'a str, &'a Item)| Field {
        key: if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") },
        name,
        at: table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span()),
        item,
    };
    table.iter().map(field).collect()
}

/// One key with its value. Its methods note a problem and return `None` if the value has another type.
pub(super) struct Field<'a> {
    /// The key with its sections, such as `filter_scheduler.host_subset_size`.
    pub(super) key: String,
    /// The last part of the key.
    pub(super) name: &'a str,
    /// The position of the key.
    pub(super) at: Span,
    pub(super) item: &'a Item,
}

impl Field<'_> {
    fn value_at(&self) -> Span {
        self.item.span().or_else(|| self.at.clone())
    }

    fn wrong<T>(&self, reader: &mut Reader<'_>, expected: &str) -> Option<T> {
        let what = format!("expected {expected}, found a {}", self.item.type_name());
        self.wrong_value(reader, what, format_args!("write {expected}"))
    }

    /// Notes a problem with the value.
    pub(super) fn wrong_value<T>(
        &self,
        reader: &mut Reader<'_>,
        what: impl Display,
        fix: impl Display,
    ) -> Option<T> {
        reader.problem(&self.value_at(), &self.key, what, fix);
        None
    }

    /// A whole number within bounds that fit the type.
    pub(super) fn whole<T: TryFrom<i64>>(
        &self,
        reader: &mut Reader<'_>,
        within: RangeInclusive<i64>,
    ) -> Option<T> {
        let Some(value) = self.item.as_integer() else { return self.wrong(reader, "a whole number") };
        if within.contains(&value) {
            return T::try_from(value).ok();
        }
        let what = format!("{value} is not within {} to {}", within.start(), within.end());
        self.wrong_value(reader, what, "write a number within these bounds")
    }

    pub(super) fn number(&self, reader: &mut Reader<'_>) -> Option<f64> {
        match (self.item.as_integer(), self.item.as_float()) {
            (Some(whole), _) => Some(whole as f64),
            (None, Some(number)) => Some(number),
            (None, None) => self.wrong(reader, "a number"),
        }
    }

    pub(super) fn flag(&self, reader: &mut Reader<'_>) -> Option<bool> {
        self.item.as_bool().or_else(|| self.wrong(reader, "true or false"))
    }

    pub(super) fn text(&self, reader: &mut Reader<'_>) -> Option<String> {
        match self.item.as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.wrong(reader, "a string in quotes"),
        }
    }

    /// A list of texts, each with its position.
    pub(super) fn texts(&self, reader: &mut Reader<'_>) -> Option<Vec<(String, Span)>> {
        let Some(list) = self.item.as_array() else { return self.wrong(reader, "a list of strings") };
        let texts: Option<Vec<_>> =
            list.iter().map(|value| Some((value.as_str()?.to_owned(), value.span()))).collect();
        texts.or_else(|| self.wrong(reader, "a list of strings, each in quotes"))
    }

    /// One text, or a list of alternatives.
    pub(super) fn text_or_texts(&self, reader: &mut Reader<'_>) -> Option<Vec<String>> {
        match self.item.as_str() {
            Some(text) => Some(vec![text.to_owned()]),
            None => Some(self.texts(reader)?.into_iter().map(|(text, _)| text).collect()),
        }
    }

    /// One plain value, or a list of alternatives.
    pub(super) fn scalars(&self, reader: &mut Reader<'_>) -> Option<Vec<Json>> {
        let scalars = match self.item.as_value() {
            Some(Value::Array(list)) => list.iter().map(scalar).collect(),
            Some(value) => scalar(value).map(|value| vec![value]),
            None => None,
        };
        scalars.or_else(|| self.wrong(reader, "a string, a number, true or false, or a list of these"))
    }

    /// A table of texts: names and values, each with its position.
    pub(super) fn text_map(&self, reader: &mut Reader<'_>) -> Vec<(String, String, Span)> {
        let fields = reader.fields(&self.key, self.item);
        let entry = |field: Field<'_>| Some((field.name.to_owned(), field.text(reader)?, field.at.clone()));
        fields.into_iter().filter_map(entry).collect()
    }
}

fn scalar(value: &Value) -> Option<Json> {
    match value {
        Value::String(text) => Some(text.value().as_str().into()),
        Value::Integer(number) => Some((*number.value()).into()),
        Value::Float(number) => serde_json::Number::from_f64(*number.value()).map(Json::Number),
        Value::Boolean(flag) => Some((*flag.value()).into()),
        Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => None,
    }
}
