//! The columns of rows, by the names that scripts use in `-c` and `--sort`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::str::FromStr;

use novella_service::exit::{Failure, USAGE};
use serde_json::Value;

use super::table::{Cell, Tone};

/// One column of rows `R`.
pub struct Column<R> {
    /// The name for `-c` and `--sort`, and the key in machine formats.
    pub name: &'static str,
    /// Reads the value for machine formats and for sorting.
    pub value: fn(&R) -> Value,
    /// Makes the cell for tables, if it differs from the value.
    pub cell: Option<fn(&R) -> Cell>,
}

impl<R> Column<R> {
    /// A column that shows people the same value as machines.
    pub const fn field(name: &'static str, value: fn(&R) -> Value) -> Self {
        Self { name, value, cell: None }
    }

    /// A column with a separate cell for people. Rows are still sorted by `value`.
    pub const fn view(name: &'static str, value: fn(&R) -> Value, cell: fn(&R) -> Cell) -> Self {
        Self { name, value, cell: Some(cell) }
    }

    /// The cell for tables.
    pub fn shown(&self, row: &R) -> Cell {
        self.cell.map_or_else(|| value_cell((self.value)(row)), |cell| cell(row))
    }
}

/// The cell of a value as it is.
pub fn value_cell(value: Value) -> Cell {
    match value {
        Value::Number(number) => Cell::number(number),
        value => Cell::text(text(&value)),
    }
}

/// The cell of keys with their texts, such as metadata.
pub fn pairs(texts: &BTreeMap<String, String>) -> Cell {
    Cell::text(texts.iter().map(|(key, text)| format!("{key}={text}")).collect::<Vec<_>>().join(" "))
}

/// All columns of one kind of row, and those that each format shows unless `-c` picks others. If none are set for a format,
/// it shows all.
pub struct Listing<R: 'static> {
    /// Every column.
    pub all: &'static [Column<R>],
    /// The columns of `-f table`.
    pub table: &'static [&'static str],
    /// The columns that `-f wide` adds to them.
    pub wide: &'static [&'static str],
    /// The columns of `-f csv` and `-f value`: together they hold what `-f json` holds.
    pub fields: &'static [&'static str],
}

impl<R> Listing<R> {
    /// Columns that every format shows.
    pub const fn of(all: &'static [Column<R>]) -> Self {
        Self { all, table: &[], wide: &[], fields: &[] }
    }

    /// The columns of these names, in this order.
    pub fn pick(&self, names: &[impl AsRef<str>]) -> Result<Vec<&'static Column<R>>, Failure> {
        names.iter().map(|name| self.column(name.as_ref())).collect()
    }

    fn column(&self, name: &str) -> Result<&'static Column<R>, Failure> {
        let wanted = name.trim().replace([' ', '-'], "_");
        self.all.iter().find(|column| column.name.eq_ignore_ascii_case(&wanted)).ok_or_else(|| {
            let known: Vec<_> = self.all.iter().map(|column| column.name).collect();
            Failure::new(USAGE, format!("there is no column {name:?}"))
                .next(format!("use one of {}", known.join(", ")))
        })
    }

    /// Whether there is a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.column(name).is_ok()
    }

    /// Sorts the rows by a column, and returns its name. Rows that are equal there keep their order.
    pub fn sort(&self, rows: &mut [R], by: &SortOrder) -> Result<&'static str, Failure> {
        let column = self.column(&by.column)?;
        rows.sort_by(|a, b| {
            let order = compare(&(column.value)(a), &(column.value)(b));
            if by.descending { order.reverse() } else { order }
        });
        Ok(column.name)
    }
}

/// The argument of `--sort`: `COL`, `COL:asc` or `COL:desc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortOrder {
    /// The name of the column.
    pub column: String,
    /// Whether the largest value comes first.
    pub descending: bool,
}

impl FromStr for SortOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, direction) = text.split_once(':').unwrap_or((text, "asc"));
        let descending = match direction {
            "asc" | "ascending" => false,
            "desc" | "descending" => true,
            other => return Err(format!("{other:?} is not a direction; write COL, COL:asc or COL:desc")),
        };
        Ok(Self { column: column.to_owned(), descending })
    }
}

/// A value as the text of one cell.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.iter().all(|item| !item.is_object() && !item.is_array()) => {
            list.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Orders null before all else and numbers by size; anything else is compared as [`natural`] text.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN))
        }
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (a, b) => natural(&text(a), &text(b)),
    }
}

/// Orders text with runs of digits compared as numbers: `h2` comes before `h10`.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) else { return a.len().cmp(&b.len()) };
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (digits(&mut a), digits(&mut b));
            // Without leading zeros, more digits are a larger number.
            let (m_bare, n_bare) = (m.trim_start_matches('0'), n.trim_start_matches('0'));
            m_bare
                .len()
                .cmp(&n_bare.len())
                .then_with(|| m_bare.cmp(n_bare))
                .then_with(|| m.len().cmp(&n.len()))
        } else {
            (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
            x.cmp(&y)
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn digits<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    number
}

/// The tone of a host's state.
pub fn state_tone(state: novella_objects::HostStatus) -> Tone {
    use novella_objects::HostStatus::{Disabled, Down, Suspect, Up};
    match state {
        Up => Tone::Good,
        Suspect => Tone::Warn,
        Disabled => Tone::Dim,
        Down => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_sort_as_people_count() {
        let mut names = ["h10", "h2", "h02", "a", "h1-z", "h", "h1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "h", "h1", "h1-z", "h2", "h02", "h10"]);
        let mut values = [json!("b"), json!(2.5), json!(null), json!(10), json!(-1)];
        values[1..].sort_by(compare);
        assert_eq!(values[1..], [json!(null), json!(-1), json!(2.5), json!(10)]);
    }

    #[test]
    fn a_sort_argument_has_a_direction() {
        assert_eq!("ram:desc".parse(), Ok(SortOrder { column: "ram".into(), descending: true }));
        assert_eq!("ram".parse(), Ok(SortOrder { column: "ram".into(), descending: false }));
        assert!("ram:up".parse::<SortOrder>().unwrap_err().contains("COL:desc"));
    }

    #[test]
    fn values_in_one_cell() {
        let cells = [json!(null), json!("x"), json!(1.5), json!(["a", 1]), json!([{"k": 1}]), json!(true)];
        assert_eq!(cells.each_ref().map(text), ["", "x", "1.5", "a, 1", r#"[{"k":1}]"#, "true"]);
    }
}
