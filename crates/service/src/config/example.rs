//! What is shipped of the declarations: the example file of a program, and tables of its settings for documents.
//!
//! What always holds: both are made from the declarations alone, never from what somebody has set. In the example file
//! every setting is commented out, under its description, its unit and its default. A test of each program compares what
//! is shipped with what is made here, and also loads the example file with every setting in force.

use std::path::Path;

use serde_json::Value as Json;

use crate::config::{
    layers::Collected,
    load::{Settings, merge},
    setting::{Setting, select},
    value::{at, is_empty, to_json, toml},
};

/// The longest line of a comment, as in the project's other files.
const WIDTH: usize = 120;
/// What an example file says of itself, below what the settings' struct says.
const HEADER: [&str; 3] = [
    "This file lists every setting with its unit and default. Remove the # in front of a setting to change it.",
    "A later --config file, the environment (NOVELLA_SECTION__KEY) and the command line override this file.",
    "The subcommand `config explain` shows each value in force and where it comes from.",
];

/// The example file, in which every setting is commented out.
pub(super) fn example_file<T: Settings>() -> String {
    file::<T>("#")
}

/// The example file with this mark in front of every setting.
fn file<T: Settings>(mark: &str) -> String {
    let defaults = to_json(&T::default());
    let mut text = comment(T::ABOUT);
    text.extend(HEADER.map(comment));
    let mut current = String::new();
    for setting in T::declared() {
        let (section, name) = setting.place();
        text.push('\n');
        if section != current {
            text += &format!("[{section}]\n");
            current = section.to_owned();
        }
        text.extend(setting.paragraphs().iter().map(|paragraph| comment(paragraph)));
        let default = at(&defaults, &setting.key);
        text += &comment(&format!("Unit: {}. Default: {}.", setting.unit, default_text(default)));
        text += &format!("{mark}{name} = {}\n", setting.example.map_or_else(|| toml(default), str::to_owned));
    }
    text
}

/// A text as lines of a comment. A word that is longer than a line has a line to itself.
fn comment(text: &str) -> String {
    let mut out = String::from("#");
    let mut width = 1;
    for word in text.split_whitespace() {
        let length = word.chars().count() + 1;
        if width > 1 && width + length > WIDTH {
            out += "\n#";
            width = 1;
        }
        out.push(' ');
        out += word;
        width += length;
    }
    out + "\n"
}

fn default_text(default: &Json) -> String {
    match default {
        Json::String(text) if text.is_empty() => "empty".to_owned(),
        value if is_empty(value) => "none".to_owned(),
        value => toml(value),
    }
}

/// These settings as a Markdown table.
pub(super) fn markdown_table<T: Settings>(settings: &[&Setting]) -> String {
    let defaults = to_json(&T::default());
    let row = |setting: &&Setting| {
        let default = at(&defaults, &setting.key);
        let text = default_text(default);
        let default = if is_empty(default) { text } else { format!("`{text}`") };
        let cells = [format!("`{}`", setting.key), default, setting.unit.to_owned(), setting.summary()];
        format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
    };
    let head = "| setting | default | unit | meaning |\n|---|---|---|---|\n".to_owned();
    settings.iter().map(row).fold(head, |table, row| table + &row)
}

/// All that is wrong with a shipped example file, for a program's test. `command` is what rewrites the file.
pub fn shipped_file_faults<T: Settings>(shipped: &str, command: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let wanted = example_file::<T>();
    if shipped != wanted {
        let same =
            shipped.lines().zip(wanted.lines()).take_while(|(shipped, wanted)| shipped == wanted).count();
        let line = |text: &str| text.lines().nth(same).unwrap_or("(the end of the file)").to_owned();
        faults.push(format!(
            "line {} is {:?}, but the declarations give {:?}; rewrite the file: {command}",
            same + 1,
            line(shipped),
            line(&wanted)
        ));
    }
    let declared = T::declared();
    let mut collected = Collected::default();
    let in_force = match collected.read_text(&declared, Path::new("example"), file::<T>("").into_bytes()) {
        Ok(()) => merge::<T>(&declared, collected).map(drop).map_err(|invalid| invalid.to_string()),
        Err(problem) => Err(problem.to_string()),
    };
    faults.extend(in_force.err().map(|problems| format!("with every setting in force: {problems}")));
    faults
}

/// All that is wrong with the tables of this program's settings in a document, for a program's test. A table follows a
/// comment that is the command which prints it: `<!-- PROGRAM config explain -f markdown KEY... -->`.
pub fn shipped_table_faults<T: Settings>(document: &str, program: &str) -> Vec<String> {
    let command = format!("{program} config explain -f markdown");
    let (declared, lines) = (T::declared(), document.lines().collect::<Vec<_>>());
    let fault = |(number, line): (usize, &&str)| {
        let keys = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?.strip_prefix(&command)?;
        let keys: Vec<&str> = keys.split_whitespace().collect();
        let wanted = match select(&declared, &keys) {
            Ok(settings) => markdown_table::<T>(&settings),
            Err(unknown) => return Some(Some(format!("line {}: there is no key {unknown}", number + 1))),
        };
        let shown: String = lines[number + 1..]
            .iter()
            .take_while(|line| line.starts_with('|'))
            .map(|line| format!("{line}\n"))
            .collect();
        Some((shown != wanted).then(|| {
            format!("line {}: replace the table below it by what its command prints:\n{wanted}", number + 1)
        }))
    };
    let tables: Vec<Option<String>> = lines.iter().enumerate().filter_map(fault).collect();
    if tables.is_empty() {
        return vec![format!("there is no table below a comment `<!-- {command} KEY... -->`")];
    }
    tables.into_iter().flatten().collect()
}
