//! Rows and single objects in every format.

use std::io::{self, Write};

use novella_service::exit::{Failure, USAGE};
use serde::Serialize;
use serde_json::{Map, Value};

use super::columns::{Column, Listing, text};
use super::table::{Cell, plain, printable};
use super::{Console, Format, OutputArgs};

/// Writes rows. Without `-c`, JSON and YAML hold each row whole.
pub fn rows<R: Serialize>(
    rows: &[R],
    listing: &Listing<R>,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let picked = listing.pick(args.columns.iter().map(String::as_str))?;
    let or = |names: &[&'static str]| if picked.is_empty() { names.to_vec() } else { Vec::new() };
    let columns = |defaults: Vec<&'static str>| -> Result<Vec<&Column<R>>, Failure> {
        if picked.is_empty() { listing.pick(defaults.into_iter()) } else { Ok(picked.clone()) }
    };
    let style = console.style;
    let out = &mut *console.out;
    match args.format {
        Format::Table => write_table(rows, &columns(or(listing.table))?, style, out)?,
        Format::Wide => {
            write_table(rows, &columns(or(&[listing.table, listing.wide].concat()))?, style, out)?
        }
        Format::Json => write_json(&documents(rows, &picked)?, out)?,
        Format::Jsonl => {
            documents(rows, &picked)?.iter().try_for_each(|row| writeln!(out, "{row}"))?;
        }
        Format::Yaml => write!(out, "{}", serde_norway::to_string(&documents(rows, &picked)?)?)?,
        Format::Csv => {
            let columns = columns(or(listing.fields))?;
            let names = columns.iter().map(|c| c.name.to_owned());
            write_csv(std::iter::once(names.collect()).chain(cells(rows, &columns)), out)?;
        }
        Format::Value => {
            let columns = columns(or(listing.fields))?;
            cells(rows, &columns).try_for_each(|row| writeln!(out, "{}", printable(&row.join(" "))))?;
        }
    }
    Ok(out.flush()?)
}

fn write_table<R>(
    rows: &[R],
    columns: &[&Column<R>],
    style: super::Style,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    let header: Vec<_> = columns.iter().map(|column| column.name).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|column| column.shown(row)).collect()).collect();
    out.write_all(plain(&header, cells, style).as_bytes())
}

fn documents<R: Serialize>(rows: &[R], picked: &[&Column<R>]) -> Result<Vec<Value>, serde_json::Error> {
    if picked.is_empty() {
        return rows.iter().map(serde_json::to_value).collect();
    }
    let object = |row| picked.iter().map(|c| (c.name.to_owned(), (c.value)(row))).collect::<Map<_, _>>();
    Ok(rows.iter().map(|row| Value::Object(object(row))).collect())
}

fn cells<'a, R>(rows: &'a [R], columns: &'a [&Column<R>]) -> impl Iterator<Item = Vec<String>> + 'a {
    rows.iter().map(|row| columns.iter().map(|c| text(&(c.value)(row))).collect())
}

fn write_json<T: Serialize + ?Sized>(value: &T, out: &mut (dyn Write + Send)) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn write_csv(rows: impl Iterator<Item = Vec<String>>, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    for row in rows {
        writer.write_record(row).map_err(io::Error::from)?;
    }
    writer.flush()
}

/// Writes one object: a table of its fields, or itself. `-c` picks top-level fields.
pub fn object(whole: &Value, args: &OutputArgs, console: &mut Console<'_>) -> anyhow::Result<()> {
    let picked = pick_fields(whole, &args.columns)?;
    let fields = picked.as_object().expect("pick_fields gives an object");
    let style = console.style;
    let out = &mut *console.out;
    match args.format {
        Format::Table | Format::Wide => {
            let mut rows = Vec::new();
            fields.iter().for_each(|(name, value)| flatten(name, value, &mut rows));
            out.write_all(plain(&["field", "value"], rows, style).as_bytes())?;
        }
        Format::Json => write_json(&picked, out)?,
        Format::Jsonl => writeln!(out, "{picked}")?,
        Format::Yaml => write!(out, "{}", serde_norway::to_string(&picked)?)?,
        Format::Csv => {
            let rows = [fields.keys().cloned().collect(), fields.values().map(text).collect()];
            write_csv(rows.into_iter(), out)?;
        }
        Format::Value => {
            fields.values().try_for_each(|value| writeln!(out, "{}", printable(&text(value))))?
        }
    }
    Ok(out.flush()?)
}

fn pick_fields(whole: &Value, columns: &[String]) -> Result<Value, Failure> {
    let fields = whole.as_object().expect("what is shown as an object is one");
    if columns.is_empty() {
        return Ok(whole.clone());
    }
    let mut picked = Map::new();
    for name in columns {
        let value = fields.get(name).ok_or_else(|| {
            let known: Vec<_> = fields.keys().map(String::as_str).collect();
            Failure::new(USAGE, format!("there is no field {name:?}"))
                .next(format!("use one of {}", known.join(", ")))
        })?;
        picked.insert(name.clone(), value.clone());
    }
    Ok(Value::Object(picked))
}

/// Objects become dotted names, so that each value has a line.
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
