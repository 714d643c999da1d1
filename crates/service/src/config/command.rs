//! The subcommands `config check` and `config explain`, the same in each daemon.

use std::io::{self, Write};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{Invalid, Loaded, Origin, Settings, Sources, at, join, load, shown, suggest, to_json, toml};
use crate::exit;

/// How a subcommand prints its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Columns for people.
    #[default]
    Table,
    /// JSON for scripts.
    Json,
}

/// What can be asked about the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check files, environment and options; report every problem
    Check {
        /// How to print the result
        #[arg(short, long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Show each value with its unit, default and origin
    Explain {
        /// Only this key, or the keys of this section
        key: Option<String>,
        /// How to print the values
        #[arg(short, long, value_enum, default_value_t)]
        format: OutputFormat,
    },
}

/// One line of `config explain`.
#[derive(Debug, Serialize)]
struct Row {
    key: &'static str,
    value: Json,
    unit: &'static str,
    default: Json,
    origin: String,
    env: String,
    doc: &'static str,
}

impl ConfigCommand {
    /// Answers on `out` (data) and `err` (problems and talk); returns the exit code.
    pub fn run<T: Settings>(
        &self,
        sources: &Sources,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<u8> {
        let loaded = load::<T>(sources);
        if let Ok(loaded) = &loaded {
            loaded.warnings.iter().try_for_each(|warning| writeln!(err, "warning: {warning}"))?;
        }
        match self {
            ConfigCommand::Check { format } => check(loaded.as_ref(), *format, out, err),
            ConfigCommand::Explain { key, format } => match &loaded {
                Ok(loaded) => explain(loaded, key.as_deref(), *format, out, err),
                Err(invalid) => {
                    writeln!(err, "error: {invalid}")?;
                    Ok(exit::USAGE)
                }
            },
        }
    }
}

fn check<T: Settings>(
    loaded: Result<&Loaded<T>, &Invalid>,
    format: OutputFormat,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let problems = loaded.err().map_or(&[][..], |invalid| &invalid.problems);
    if format == OutputFormat::Json {
        let warnings = loaded.map_or(&[][..], |loaded| &loaded.warnings);
        writeln!(
            out,
            "{:#}",
            json!({"valid": problems.is_empty(), "problems": problems, "warnings": warnings})
        )?;
    }
    match loaded {
        Ok(loaded) => {
            if format == OutputFormat::Table {
                let set = loaded.origins.values().filter(|o| **o != [Origin::Default]).count();
                writeln!(out, "the configuration is valid; {set} of {} keys are set", T::KEYS.len())?;
            }
            Ok(exit::OK)
        }
        Err(invalid) => {
            if format == OutputFormat::Table {
                writeln!(err, "error: {invalid}")?;
            }
            Ok(exit::USAGE)
        }
    }
}

fn explain<T: Settings>(
    loaded: &Loaded<T>,
    key: Option<&str>,
    format: OutputFormat,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut rows = rows(loaded);
    if let Some(key) = key {
        rows.retain(|row| {
            row.key == key || row.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
        });
        if rows.is_empty() {
            let near = suggest(key, T::KEYS.iter().map(|doc| doc.key));
            writeln!(err, "error: there is no key or section {key}")?;
            match near {
                Some(near) => writeln!(err, "next: did you mean {near}?")?,
                None => writeln!(err, "next: `config explain` without a key lists them all")?,
            }
            return Ok(exit::NOT_FOUND);
        }
    }
    match (format, &rows[..]) {
        (OutputFormat::Json, _) => {
            let text = serde_json::to_string_pretty(&rows).map_err(io::Error::from)?;
            writeln!(out, "{text}")?;
        }
        (OutputFormat::Table, [row]) => {
            let shown = [
                ("key", row.key.to_owned()),
                ("value", toml(&row.value)),
                ("unit", row.unit.to_owned()),
                ("default", toml(&row.default)),
                ("origin", row.origin.clone()),
                ("env", row.env.clone()),
            ];
            shown.iter().try_for_each(|(name, text)| writeln!(out, "{name:8} {text}"))?;
            writeln!(out, "\n{}", row.doc)?;
        }
        (OutputFormat::Table, _) => print_table(&rows, out)?,
    }
    Ok(exit::OK)
}

fn rows<T: Settings>(loaded: &Loaded<T>) -> Vec<Row> {
    let (values, defaults) = (to_json(&loaded.config), to_json(&T::default()));
    let row = |doc: &'static super::KeyDoc| Row {
        key: doc.key,
        value: shown(doc, at(&values, doc.key).unwrap_or(&Json::Null)),
        unit: doc.unit,
        default: shown(doc, at(&defaults, doc.key).unwrap_or(&Json::Null)),
        origin: loaded.origins.get(doc.key).map(|o| join(o)).unwrap_or_default(),
        env: doc.env_name(),
        doc: doc.doc,
    };
    T::KEYS.iter().map(row).collect()
}

fn print_table(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let header = ["KEY", "VALUE", "UNIT", "DEFAULT", "ORIGIN"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        [row.key.to_owned(), toml(&row.value), row.unit.to_owned(), toml(&row.default), row.origin.clone()]
    });
    let lines: Vec<[String; 5]> = std::iter::once(header).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    for line in &lines {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
