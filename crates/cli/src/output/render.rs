//! Rows and single objects in every format.

use std::fmt;
use std::io::{self, Write};

use novella_service::exit::{Failure, USAGE, printable_lines};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::columns::{Column, Listing, SortOrder, text};
use super::console::Console;
use super::options::{Format, OutputArgs};
use super::style::OutputStyle;
use super::table::{Cell, folded_table_text, printable, table_text};

/// Sorts rows by a column, if one is named, and writes them. A table shows the column that it is sorted by.
pub fn write_sorted<R: Serialize>(
    rows: &mut [R],
    listing: &Listing<R>,
    sort: Option<&SortOrder>,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let Some(sort) = sort else { return write_rows(rows, listing, args, console) };
    let by = listing.sort(rows, sort)?;
    let mut args = args.clone();
    if args.format == Format::Table && args.columns.is_empty() && !listing.table.is_empty() {
        let further = (!listing.table.contains(&by)).then_some(&by);
        args.columns = listing.table.iter().chain(further).map(|name| (*name).to_owned()).collect();
    }
    write_rows(rows, listing, &args, console)
}

/// Writes rows. Without `-c`, the JSON and YAML formats hold each row whole.
pub fn write_rows<R: Serialize>(
    rows: &[R],
    listing: &Listing<R>,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let picked = listing.pick(&args.columns)?;
    let picked_or = |defaults: &[&'static str]| match picked.is_empty() {
        true if defaults.is_empty() => Ok(listing.all.iter().collect()),
        true => listing.pick(defaults),
        false => Ok(picked.clone()),
    };
    let style = console.style;
    let out = &mut *console.out;
    match args.format {
        Format::Table => write_table(rows, &picked_or(listing.table)?, style, out)?,
        Format::Wide if picked.is_empty() => {
            let (first, further) = (picked_or(listing.table)?, listing.pick(listing.wide)?);
            let names = |columns: &[&Column<R>]| columns.iter().map(|column| column.name).collect::<Vec<_>>();
            let shown =
                |columns: &[&Column<R>], row: &R| columns.iter().map(|column| column.shown(row)).collect();
            let rows = rows.iter().map(|row| (shown(&first, row), shown(&further, row))).collect();
            out.write_all(folded_table_text(&names(&first), &names(&further), rows, style).as_bytes())?;
        }
        Format::Wide => write_table(rows, &picked, style, out)?,
        Format::Json => write_json(&documents(rows, &picked), out)?,
        Format::Jsonl => write_lines(&documents(rows, &picked), out)?,
        Format::Yaml => write_yaml(&documents(rows, &picked), out)?,
        Format::Csv => {
            let columns = picked_or(listing.fields)?;
            let names = columns.iter().map(|c| c.name.to_owned());
            write_csv(std::iter::once(names.collect()).chain(cells(rows, &columns)), out)?;
        }
        Format::Value => {
            let columns = picked_or(listing.fields)?;
            cells(rows, &columns).try_for_each(|row| writeln!(out, "{}", printable(&row.join(" "))))?;
        }
    }
    Ok(out.flush()?)
}

fn write_table<R>(
    rows: &[R],
    columns: &[&Column<R>],
    style: OutputStyle,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    let header: Vec<_> = columns.iter().map(|column| column.name).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|column| column.shown(row)).collect()).collect();
    out.write_all(table_text(&header, cells, style).as_bytes())
}

/// One row: whole, or the columns that `-c` named, in this order.
struct Document<'a, R> {
    row: &'a R,
    columns: &'a [&'a Column<R>],
}

impl<R: Serialize> Serialize for Document<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.columns.is_empty() {
            return self.row.serialize(serializer);
        }
        serializer.collect_map(self.columns.iter().map(|column| (column.name, (column.value)(self.row))))
    }
}

fn documents<'a, R>(rows: &'a [R], columns: &'a [&'a Column<R>]) -> Vec<Document<'a, R>> {
    rows.iter().map(|row| Document { row, columns }).collect()
}

fn cells<'a, R>(rows: &'a [R], columns: &'a [&Column<R>]) -> impl Iterator<Item = Vec<String>> + 'a {
    rows.iter().map(|row| columns.iter().map(|c| text(&(c.value)(row))).collect())
}

fn write_json<T: Serialize + ?Sized>(value: &T, out: &mut (dyn Write + Send)) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn write_lines<T: Serialize>(values: &[T], out: &mut (dyn Write + Send)) -> io::Result<()> {
    values.iter().try_for_each(|value| writeln!(out, "{}", serde_json::to_string(value)?))
}

fn write_yaml<T: Serialize + ?Sized>(value: &T, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    Ok(out.write_all(serde_norway::to_string(value)?.as_bytes())?)
}

fn write_csv(rows: impl Iterator<Item = Vec<String>>, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    for row in rows {
        // A program reads this, but so does a terminal.
        writer.write_record(row.iter().map(|field| printable_lines(field))).map_err(io::Error::from)?;
    }
    writer.flush()
}

/// Writes an answer that is one document and has a list in it. Without `-c`, the JSON and YAML formats hold the document
/// and the other formats the rows of the list. `-c` takes the fields of the document and the columns of the rows in every
/// format. If a name is both, it means what the format holds without `-c`.
pub fn write_answer<T: Serialize, R: Serialize>(
    document: &T,
    rows: &[R],
    listing: &Listing<R>,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let as_document = matches!(args.format, Format::Json | Format::Jsonl | Format::Yaml);
    if !args.columns.is_empty() {
        let fields = fields(document)?;
        let is_field = |name: &String| fields.iter().any(|(field, _)| field == name);
        let of_document = args.columns.iter().all(is_field);
        let of_rows = args.columns.iter().all(|name| listing.has(name));
        return match (of_document, of_rows) {
            (true, true) if as_document => write_object(document, args, console),
            (true, false) => write_object(document, args, console),
            (_, true) => write_rows(rows, listing, args, console),
            (false, false) => Err(no_such_names(&args.columns, listing, &fields).into()),
        };
    }
    if as_document { write_object(document, args, console) } else { write_rows(rows, listing, args, console) }
}

/// The failure for names that are neither all columns of the rows nor all fields of the document.
fn no_such_names<R>(names: &[String], listing: &Listing<R>, fields: &[(String, Value)]) -> Failure {
    let fields: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    let columns: Vec<_> = listing.all.iter().map(|column| column.name).collect();
    let unknown = names.iter().find(|name| !listing.has(name) && !fields.contains(&name.as_str()));
    let what = match unknown {
        Some(name) => format!("there is no column {name:?}"),
        None => format!("{} cannot be combined", names.join(" and ")),
    };
    let next = format!(
        "use columns of the rows ({}) or fields of the whole answer ({})",
        columns.join(", "),
        fields.join(", ")
    );
    Failure::new(USAGE, what).next(next)
}

/// Writes one object: as a table of its fields, or as a document. `-c` picks top-level fields.
pub fn write_object<T: Serialize>(
    whole: &T,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let fields = pick_fields(fields(whole)?, &args.columns)?;
    let style = console.style;
    let out = &mut *console.out;
    match args.format {
        Format::Table | Format::Wide => {
            let mut rows = Vec::new();
            fields.iter().for_each(|(name, value)| flatten(name, value, &mut rows));
            out.write_all(table_text(&["field", "value"], rows, style).as_bytes())?;
        }
        Format::Json => write_json(&Fields(&fields), out)?,
        Format::Jsonl => write_lines(&[Fields(&fields)], out)?,
        Format::Yaml => write_yaml(&Fields(&fields), out)?,
        Format::Csv => {
            let (names, values) = fields.iter().map(|(name, value)| (name.clone(), text(value))).unzip();
            write_csv([names, values].into_iter(), out)?;
        }
        Format::Value => {
            fields.iter().try_for_each(|(_, value)| writeln!(out, "{}", printable(&text(value))))?;
        }
    }
    Ok(out.flush()?)
}

/// The fields of an object in the order of its declaration, which a map of `serde_json` would not keep.
struct Fields<'a>(&'a [(String, Value)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn fields<T: Serialize>(whole: &T) -> anyhow::Result<Vec<(String, Value)>> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(String, Value)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(field) = map.next_entry()? {
                fields.push(field);
            }
            Ok(fields)
        }
    }
    let json = serde_json::to_string(whole)?;
    Ok(serde_json::Deserializer::from_str(&json).deserialize_map(InOrder)?)
}

fn pick_fields(fields: Vec<(String, Value)>, columns: &[String]) -> Result<Vec<(String, Value)>, Failure> {
    if columns.is_empty() {
        return Ok(fields);
    }
    let pick = |wanted: &String| {
        fields.iter().find(|(name, _)| name == wanted).cloned().ok_or_else(|| {
            let known: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let next = format!("use one of {}", known.join(", "));
            Failure::new(USAGE, format!("there is no field {wanted:?}")).next(next)
        })
    };
    columns.iter().map(pick).collect()
}

/// Gives each value a row of its own: fields of inner objects get dotted names.
fn flatten(name: &str, value: &Value, rows: &mut Vec<Vec<Cell>>) {
    match value {
        Value::Object(inner) if !inner.is_empty() => {
            inner.iter().for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, rows));
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter().enumerate().for_each(|(at, value)| flatten(&format!("{name}[{at}]"), value, rows));
        }
        value => rows.push(vec![Cell::text(name), Cell::text(text(value))]),
    }
}
