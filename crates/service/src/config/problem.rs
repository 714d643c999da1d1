//! What is wrong with a configuration: each problem with its place and its remedy, and all of them as one error.

use std::fmt;

use serde::Serialize;

use crate::config::source::Origin;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The keys that it is about. Empty if it is about a whole source.
    pub keys: Vec<String>,
    /// Where it is: a file and line, a variable, an option, or the keys with their values and origins.
    pub at: Vec<String>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A problem with these keys, or between them. [`load`](crate::config::load) adds their values and origins.
    pub fn new(keys: &[&str], what: impl Into<String>, fix: impl Into<String>) -> Problem {
        let keys = keys.iter().map(|k| (*k).to_owned()).collect();
        Problem { keys, at: Vec::new(), what: what.into(), fix: fix.into() }
    }

    /// A problem with a whole source.
    pub(super) fn in_source(
        origin: impl fmt::Display,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        Problem { at: vec![origin.to_string()], ..Problem::new(&[], what, fix) }
    }

    /// A problem with one key in one source.
    pub(super) fn in_key(
        key: &str,
        origin: &Origin,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        let what = format!("{key}: {}", what.into());
        Problem { keys: vec![key.to_owned()], ..Problem::in_source(origin, what, fix) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.at.is_empty() { self.keys.join(", ") } else { self.at.join(", ") };
        write!(f, "{at}: {}\n    fix: {}", self.what, self.fix)
    }
}

/// The configuration is refused, with every reason at once. It ends a program with the exit code for wrong usage.
#[derive(Debug, thiserror::Error)]
pub struct Invalid {
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "the configuration has {count} problem{}", if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
