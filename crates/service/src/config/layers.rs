//! Reads files, environment and command line into single keys with their origins.
//!
//! What always holds: nothing here fails. What cannot be read becomes a problem, and the reading goes on, so that an
//! operator sees everything at once. A parser's message is kept, the line it quotes is not: it may hold a password.

use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value as Json;
use toml_edit::{Document, Item, TableLike, Value};

use crate::config::{
    problem::Problem,
    secret::holds_password,
    setting::{ENV_PREFIX, Setting, sections, suggest},
    source::{Origin, Sources},
};

/// The most letters in which the name of a variable differs from the one that was meant.
const SLIPS: usize = 3;
/// How similar two names of sections are at least, if one is taken for a slip of the pen of the other.
const SIMILAR: f64 = 0.85;

/// The permission of a file that lets every user of the machine read it.
const EVERYBODY_READS: u32 = 0o004;

/// One key, set by one source.
pub(super) struct Leaf<'a> {
    pub setting: &'a Setting,
    /// Readings of the value, best first. Text from the environment may be a string, a number or a list.
    pub candidates: Vec<Json>,
    pub origin: Origin,
}

/// All that the sources say, least important first.
#[derive(Default)]
pub(super) struct Collected<'a> {
    pub leaves: Vec<Leaf<'a>>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    /// At least one file gave nothing at all.
    pub unreadable: bool,
}

/// Reads all sources.
pub(super) fn collect<'a>(settings: &'a [Setting], sources: &Sources) -> Collected<'a> {
    let mut collected = Collected::default();
    for path in &sources.files {
        if let Err(problem) = collected.read_file(settings, path) {
            collected.unreadable = true;
            collected.problems.push(problem);
        }
    }
    for (name, value) in &sources.env {
        if name.starts_with(ENV_PREFIX) && !value.is_empty() {
            match value.to_str() {
                Some(text) => collected.read_env(settings, name, text),
                None => collected.problems.push(Problem::in_source(
                    Origin::Env(name.clone()),
                    "the value is not UTF-8",
                    "set it again in a UTF-8 locale",
                )),
            }
        }
    }
    for given in &sources.overrides {
        // Options are code, so an unknown key is a mistake in this program, not the user's.
        let setting = settings.iter().find(|setting| setting.key == given.key);
        let setting = setting.expect("an option sets a key that is declared");
        let origin = Origin::CommandLine(given.option);
        collected.leaves.push(Leaf { setting, candidates: readings(&given.value), origin });
    }
    collected
}

impl<'a> Collected<'a> {
    fn read_file(&mut self, settings: &'a [Setting], path: &Path) -> Result<(), Problem> {
        let bytes = fs::read(path).map_err(|error| {
            let fix = match error.kind() {
                ErrorKind::NotFound => {
                    "check the path given with --config, or leave the option out".to_owned()
                }
                ErrorKind::PermissionDenied => {
                    format!("let this user read it, such as: chmod o+r {}", path.display())
                }
                ErrorKind::IsADirectory => "name a file in it; --config may be repeated".to_owned(),
                _ => "check the file and its file system".to_owned(),
            };
            Problem::in_source(path.display(), format!("cannot read the file: {error}"), fix)
        })?;
        let before = self.leaves.len();
        self.read_text(settings, path, bytes)?;
        self.warn_of_readable_passwords(path, before);
        Ok(())
    }

    /// Warns of a file that holds a password and that every user of the machine may read. Its settings are those from
    /// `first` on.
    fn warn_of_readable_passwords(&mut self, path: &Path, first: usize) {
        let is_readable =
            fs::metadata(path).is_ok_and(|about| about.permissions().mode() & EVERYBODY_READS != 0);
        let holds = |leaf: &&Leaf<'_>| {
            leaf.setting.secret && leaf.candidates.iter().filter_map(Json::as_str).any(holds_password)
        };
        if let Some(leaf) = self.leaves[first..].iter().find(holds).filter(|_| is_readable) {
            self.warnings.push(format!(
                "every user of this machine can read the password of {} in {path}; run `chmod o-r {path}`, and change the \
                 password if others use this machine",
                leaf.setting.key,
                path = path.display(),
            ));
        }
    }

    /// Reads the content of a file; what it refuses as a whole is the error.
    pub(super) fn read_text(
        &mut self,
        settings: &'a [Setting],
        path: &Path,
        bytes: Vec<u8>,
    ) -> Result<(), Problem> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
            let fix = "save the file as UTF-8".to_owned();
            Problem::in_source(format!("{}:{line}", path.display()), "the file is not UTF-8", fix)
        })?;
        let document = Document::parse(text.as_str()).map_err(|error| {
            let line = line_of(text.as_bytes(), error.span().map_or(0, |span| span.start));
            let what = format!("not valid TOML: {}", error.message().trim().replace('\n', ", "));
            Problem::in_source(
                format!("{}:{line}", path.display()),
                what,
                "correct this line; strings need quotes",
            )
        })?;
        let origin = |offset| Origin::File { path: path.to_owned(), line: line_of(text.as_bytes(), offset) };
        self.read_table(settings, &origin, "", document.as_table());
        Ok(())
    }

    /// Reads a table of a file. `origin_of` tells which line an offset is in.
    fn read_table(
        &mut self,
        settings: &'a [Setting],
        origin_of: &dyn Fn(usize) -> Origin,
        prefix: &str,
        table: &dyn TableLike,
    ) {
        for (name, item) in table.iter() {
            let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            let span = table.key(name).and_then(|key| key.span()).or_else(|| item.span());
            let origin = origin_of(span.map_or(0, |span| span.start));
            let section = format!("{key}.");
            if let Some(setting) = settings.iter().find(|setting| setting.key == key) {
                match item_to_json(item) {
                    Ok(value) => self.leaves.push(Leaf { setting, candidates: vec![value], origin }),
                    Err(what) => {
                        self.problems.push(Problem::in_key(&key, &origin, what, "write a finite number"))
                    }
                }
            } else if !settings.iter().any(|setting| setting.key.starts_with(&section)) {
                self.problems.push(unknown(settings, &key, item.is_table_like(), &origin));
            } else if let Some(table) = item.as_table_like() {
                self.read_table(settings, origin_of, &key, table);
            } else {
                let what = format!("expected a section, found a {}", item.type_name());
                self.problems.push(Problem::in_key(
                    &key,
                    &origin,
                    what,
                    format!("write its keys under [{key}]"),
                ));
            }
        }
    }

    fn read_env(&mut self, settings: &'a [Setting], name: &str, value: &str) {
        if let Some(setting) = settings.iter().find(|setting| setting.env_name() == name) {
            let origin = Origin::Env(name.to_owned());
            self.leaves.push(Leaf { setting, candidates: readings(value), origin });
            return;
        }
        // Not an error: one environment often serves both daemons, and orchestrators add variables of their own.
        let slips = |known: &String| strsim::damerau_levenshtein(name, known);
        let known = settings.iter().map(Setting::env_name);
        let near = known.filter(|known| slips(known) <= SLIPS || same_key_in_similar_section(name, known));
        if let Some(near) = near.min_by_key(slips) {
            self.warnings.push(format!("environment variable {name} sets nothing; did you mean {near}?"));
        } else if name.contains("__") {
            self.warnings.push(format!("environment variable {name} sets nothing in this program"));
        }
    }
}

/// The problem of a key or section that no setting has.
fn unknown(settings: &[Setting], key: &str, is_section: bool, origin: &Origin) -> Problem {
    let (what, near) = match is_section {
        false => {
            let keys = settings.iter().map(|setting| &*setting.key);
            ("there is no such key", suggest(key, keys).map(str::to_owned))
        }
        true => {
            let sections = sections(settings);
            // A setting can be a table, too. Another one is no section, however alike its name is.
            let tables = settings.iter().filter(|setting| setting.unit == "table");
            let near = suggest(key, sections.iter().copied().chain(tables.map(|setting| &*setting.key)));
            let named =
                |near: &str| if sections.contains(near) { format!("[{near}]") } else { near.to_owned() };
            ("there is no such section", near.map(named))
        }
    };
    let fix = match near {
        Some(near) => format!("did you mean {near}?"),
        None => "remove it; `config explain` lists every key".to_owned(),
    };
    Problem::in_key(key, origin, what, fix)
}

/// Whether two names of variables have the same key in sections whose names are similar.
fn same_key_in_similar_section(name: &str, known: &str) -> bool {
    let split = |name: &str| {
        let (section, key) = name.strip_prefix(ENV_PREFIX)?.rsplit_once("__")?;
        Some((section.to_owned(), key.to_owned()))
    };
    match (split(name), split(known)) {
        (Some((section, key)), Some((of_known, known))) => {
            key == known && strsim::jaro_winkler(&section, &of_known) > SIMILAR
        }
        _ => false,
    }
}

fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

/// What a text from environment or command line may mean: itself, a TOML value, a comma-separated list.
fn readings(text: &str) -> Vec<Json> {
    let mut readings = vec![Json::from(text)];
    if let Ok(value) = text.trim().parse::<Value>() {
        readings.extend(value_to_json(&value));
    }
    readings.push(text.split(',').map(|part| Json::from(part.trim())).collect());
    readings
}

fn item_to_json(item: &Item) -> Result<Json, String> {
    match item {
        Item::None => Ok(Json::Null),
        Item::Value(value) => value_to_json(value),
        Item::Table(table) => table_to_json(table),
        Item::ArrayOfTables(tables) => {
            tables.iter().map(|table| table_to_json(table)).collect::<Result<Vec<_>, _>>().map(Json::Array)
        }
    }
}

fn table_to_json(table: &dyn TableLike) -> Result<Json, String> {
    let entries = table.iter().map(|(key, item)| Ok((key.to_owned(), item_to_json(item)?)));
    entries.collect::<Result<_, String>>().map(Json::Object)
}

fn value_to_json(value: &Value) -> Result<Json, String> {
    Ok(match value {
        Value::String(text) => Json::from(text.value().as_str()),
        Value::Integer(number) => Json::from(*number.value()),
        Value::Boolean(flag) => Json::from(*flag.value()),
        Value::Float(number) => match serde_json::Number::from_f64(*number.value()) {
            Some(number) => Json::Number(number),
            None => return Err(format!("{} is not a finite number", number.value())),
        },
        Value::Datetime(time) => Json::from(time.value().to_string()),
        Value::Array(list) => list.iter().map(value_to_json).collect::<Result<Vec<_>, _>>()?.into(),
        Value::InlineTable(table) => table_to_json(table)?,
    })
}
