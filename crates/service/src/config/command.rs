//! The subcommands `config check`, `config explain` and `config example`, which are the same in each daemon.

use std::io::{self, Write};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::{
    config::{
        example::{example_file, markdown_table},
        load::{CheckedFiles, Loaded, Settings, load},
        problem::Invalid,
        setting::{Setting, sections, select, suggest},
        source::{Origin, Sources, join},
        value::{shown, to_json, toml},
    },
    failure,
};

/// How a subcommand prints its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Columns for people.
    #[default]
    Table,
    /// JSON for scripts.
    Json,
}

/// How `config explain` prints settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// Columns for people.
    #[default]
    Table,
    /// JSON for scripts.
    Json,
    /// A table for documents: key, default, unit and meaning, whatever is set.
    Markdown,
}

/// What can be asked about the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check files, environment and options, and the files that the settings name; report every problem
    Check {
        /// How to print the result
        #[arg(short, long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Show each value with its unit, default and origin
    Explain {
        /// Only these keys, and the keys of these sections
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        /// How to print the values
        #[arg(short, long, value_enum, default_value_t)]
        format: ExplainFormat,
    },
    /// Print a configuration file that lists every setting, commented out, with its unit and default
    Example,
}

/// One line of `config explain`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    key: &'a str,
    value: Json,
    unit: &'a str,
    default: Json,
    origin: String,
    env: String,
    doc: String,
}

impl ConfigCommand {
    /// Answers on `out` (data) and `err` (problems and messages). Returns the exit code.
    pub fn run<T: Settings>(
        &self,
        sources: &Sources,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<u8> {
        match self {
            ConfigCommand::Check { format } => check(load::<T>(sources), *format, out, err),
            ConfigCommand::Explain { keys, format } => explain::<T>(sources, keys, *format, out, err),
            ConfigCommand::Example => {
                write!(out, "{}", example_file::<T>())?;
                Ok(failure::OK)
            }
        }
    }
}

/// Loads the settings, and says what looks like a mistake.
fn loaded<T: Settings>(sources: &Sources, err: &mut dyn Write) -> io::Result<Result<Loaded<T>, Invalid>> {
    let loaded = load::<T>(sources);
    if let Ok(loaded) = &loaded {
        loaded.warnings.iter().try_for_each(|warning| writeln!(err, "warning: {warning}"))?;
    }
    Ok(loaded)
}

fn check<T: Settings>(
    loaded: Result<Loaded<T>, Invalid>,
    format: OutputFormat,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let (set, all, found) = match loaded {
        Ok(mut loaded) => {
            let mut found = loaded.config.check_files();
            let warnings = std::mem::take(&mut loaded.warnings);
            found.warnings = warnings.into_iter().chain(found.warnings).collect();
            let set = loaded.origins.values().filter(|o| **o != [Origin::Default]).count();
            found.problems = loaded.locate(Invalid { problems: found.problems }).problems;
            (set, loaded.origins.len(), found)
        }
        Err(Invalid { problems }) => (0, 0, CheckedFiles { problems, ..CheckedFiles::default() }),
    };
    let CheckedFiles { files, problems, warnings } = found;
    let valid = problems.is_empty();
    if format == OutputFormat::Json {
        let found = json!({"valid": valid, "problems": problems, "warnings": warnings, "files": files});
        writeln!(out, "{found:#}")?;
    } else {
        warnings.iter().try_for_each(|warning| writeln!(err, "warning: {warning}"))?;
        if valid {
            let files: String = files.iter().map(|file| format!("; {file} is valid too")).collect();
            writeln!(out, "the configuration is valid; {set} of {all} keys are set{files}")?;
        } else {
            writeln!(err, "error: {}", Invalid { problems })?;
        }
    }
    Ok(if valid { failure::OK } else { failure::USAGE })
}

fn explain<T: Settings>(
    sources: &Sources,
    keys: &[String],
    format: ExplainFormat,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let declared = T::declared();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let settings = match select(&declared, &keys) {
        Ok(settings) => settings,
        Err(unknown) => {
            writeln!(err, "error: there is no key or section {unknown}")?;
            let known = sections(&declared).into_iter().chain(declared.iter().map(|setting| &*setting.key));
            match suggest(&unknown, known) {
                Some(near) => writeln!(err, "next: did you mean {near}?")?,
                None => writeln!(err, "next: `config explain` without a key lists them all")?,
            }
            return Ok(failure::NOT_FOUND);
        }
    };
    if format == ExplainFormat::Markdown {
        write!(out, "{}", markdown_table::<T>(&settings))?;
        return Ok(failure::OK);
    }
    let rows = match loaded::<T>(sources, err)? {
        Ok(loaded) => rows(&settings, &loaded),
        Err(invalid) => {
            writeln!(err, "error: {invalid}")?;
            return Ok(failure::USAGE);
        }
    };
    match &rows[..] {
        _ if format == ExplainFormat::Json => {
            let text = serde_json::to_string_pretty(&rows).map_err(io::Error::from)?;
            writeln!(out, "{text}")?;
        }
        [row] => {
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
        _ => print_table(&rows, out)?,
    }
    Ok(failure::OK)
}

fn rows<'a, T: Settings>(settings: &[&'a Setting], loaded: &Loaded<T>) -> Vec<Row<'a>> {
    let (values, defaults) = (to_json(&loaded.config), to_json(&T::default()));
    let row = |setting: &&'a Setting| Row {
        key: &setting.key,
        value: shown(setting, &values),
        unit: setting.unit,
        default: shown(setting, &defaults),
        origin: loaded.origins.get(&setting.key).map(|origins| join(origins)).unwrap_or_default(),
        env: setting.env_name(),
        doc: setting.paragraphs().join(" "),
    };
    settings.iter().map(row).collect()
}

fn print_table(rows: &[Row<'_>], out: &mut dyn Write) -> io::Result<()> {
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
