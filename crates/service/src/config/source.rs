//! Where settings come from: the sources that are read, and the origin that each value keeps.

use std::{ffi::OsString, fmt, path::PathBuf};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This line of this file.
    File {
        /// The file as it was named on the command line.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Env(String),
    /// The command-line option of this name.
    CommandLine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::CommandLine(option) => write!(f, "command line {option}"),
        }
    }
}

/// The origins of one value as one text.
pub(super) fn join(origins: &[Origin]) -> String {
    origins.iter().map(Origin::to_string).collect::<Vec<_>>().join(", ")
}

/// A value given on the command line. Like [`Sources`] it has no `Debug`, because it may be a secret.
#[derive(Clone)]
pub struct Override {
    /// The key that it sets.
    pub key: &'static str,
    /// The option that gave it, such as `--host`.
    pub option: &'static str,
    /// The text of the value, which is read like that of an environment variable.
    pub value: String,
}

/// Everything that settings are read from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The files, least important first.
    pub files: Vec<PathBuf>,
    /// The environment. Names without our prefix are ignored.
    pub env: Vec<(String, OsString)>,
    /// The command line.
    pub overrides: Vec<Override>,
}

impl Sources {
    /// Adds the command line's value for `key`, if there is one.
    pub fn set(
        mut self,
        key: &'static str,
        option: &'static str,
        value: Option<impl fmt::Display>,
    ) -> Sources {
        self.overrides.extend(value.map(|value| Override { key, option, value: value.to_string() }));
        self
    }
}
