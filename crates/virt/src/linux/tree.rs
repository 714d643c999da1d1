//! Reads small text files below a root, which is `/` or a recorded tree, and records what it reads if it is asked to.
//!
//! Some facts are in no file, such as the size of a page. A recorded tree has them as files in a directory of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use novella_resources::cpu_set::CpuSet;

use crate::probe_error::ProbeError;
use crate::recording::Recording;

pub(super) const CPUINFO: &str = "proc/cpuinfo";

/// The directory of a recorded tree with the facts that are in no file of the kernel.
const FACTS: &str = "novella";

/// The directory that holds `proc` and `sys`.
pub(super) struct Tree {
    root: PathBuf,
    recording: Option<Arc<Recording>>,
}

impl Tree {
    pub(super) fn new(root: PathBuf, recording: Option<Arc<Recording>>) -> Self {
        Self { root, recording }
    }

    /// A whole number that is in no file. On this machine itself it is `live`.
    pub(super) fn fact(&self, name: &str, live: impl FnOnce() -> u64) -> Result<u64, ProbeError> {
        let text = self.fact_text(name, || Ok(live().to_string()))?;
        let wrong = || self.malformed(&fact_file(name), format!("expected a whole number, found {text:?}"));
        text.parse().map_err(|_| wrong())
    }

    /// A text that is in no file. On this machine itself it is `live`, and so it is in a tree that does not have it.
    pub(super) fn fact_text(
        &self,
        name: &str,
        live: impl FnOnce() -> Result<String, ProbeError>,
    ) -> Result<String, ProbeError> {
        match self.recorded_fact(name)? {
            Some(recorded) => Ok(recorded),
            None => self.live_fact(name, live),
        }
    }

    /// The same for a text that says nothing about another machine than its own. `None` if a recorded tree does not have it.
    pub(super) fn own_fact_text(
        &self,
        name: &str,
        live: impl FnOnce() -> Result<String, ProbeError>,
    ) -> Result<Option<String>, ProbeError> {
        if self.is_recorded() { self.recorded_fact(name) } else { self.live_fact(name, live).map(Some) }
    }

    fn recorded_fact(&self, name: &str) -> Result<Option<String>, ProbeError> {
        if self.is_recorded() { self.optional(&fact_file(name)) } else { Ok(None) }
    }

    fn live_fact(
        &self,
        name: &str,
        live: impl FnOnce() -> Result<String, ProbeError>,
    ) -> Result<String, ProbeError> {
        let text = live()?;
        self.record(|recording| recording.file(&fact_file(name), text.as_bytes()));
        Ok(text)
    }

    /// Whether this is a recorded host, and not this machine.
    fn is_recorded(&self) -> bool {
        self.root != Path::new("/")
    }

    fn record(&self, what: impl FnOnce(&Recording)) {
        if let Some(recording) = &self.recording {
            what(recording);
        }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// The file's text. Bytes that are not UTF-8 are replaced, because firmware may put any bytes into a CPU's name.
    pub(super) fn text(&self, file: &str) -> Result<String, ProbeError> {
        let path = self.path(file);
        match fs::read(&path) {
            Ok(bytes) => {
                self.record(|recording| recording.file(file, &bytes));
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Err(source) => Err(ProbeError::Read { path, source }),
        }
    }

    /// The same. `None` if the kernel has no such file.
    pub(super) fn text_if_there(&self, file: &str) -> Result<Option<String>, ProbeError> {
        match self.text(file) {
            Ok(text) => Ok(Some(text)),
            Err(ProbeError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file's text without white space at its ends. `None` if the kernel has no such file.
    pub(super) fn optional(&self, file: &str) -> Result<Option<String>, ProbeError> {
        Ok(self.text_if_there(file)?.map(|text| text.trim().to_owned()))
    }

    /// The numbers of CPUs or nodes in a list such as `0-3,8`, ascending. `None` if the kernel has no such file.
    pub(super) fn id_list(&self, file: &str) -> Result<Option<Vec<u32>>, ProbeError> {
        let Some(text) = self.optional(file)? else { return Ok(None) };
        match text.parse::<CpuSet>() {
            Ok(ids) => Ok(Some(ids.iter().collect())),
            Err(error) => Err(self.malformed(file, format!("expected a list like 0-3,8: {error}"))),
        }
    }

    /// A whole number. `None` if the kernel has no such file.
    pub(super) fn number(&self, file: &str) -> Result<Option<u64>, ProbeError> {
        let Some(text) = self.optional(file)? else { return Ok(None) };
        let number = text.parse();
        number.map(Some).map_err(|_| self.malformed(file, format!("expected a whole number, found {text:?}")))
    }

    /// The names in a directory, sorted. `None` if the kernel has no such directory.
    pub(super) fn names(&self, directory: &str) -> Result<Option<Vec<String>>, ProbeError> {
        let path = self.path(directory);
        let listed = fs::read_dir(&path).and_then(|entries| {
            let name =
                |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
            entries.map(name).collect::<io::Result<BTreeSet<String>>>()
        });
        match listed {
            Ok(names) => {
                self.record(|recording| {
                    recording.directory(directory);
                    let is_directory = |name: &&String| {
                        fs::symlink_metadata(path.join(name)).is_ok_and(|found| found.is_dir())
                    };
                    let inner = names.iter().filter(is_directory);
                    inner.for_each(|name| recording.directory(&format!("{directory}/{name}")));
                });
                Ok(Some(names.into_iter().collect()))
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ProbeError::Read { path, source }),
        }
    }

    /// The last part of the path that a symbolic link points to. `None` if there is no such link.
    pub(super) fn link(&self, file: &str) -> Option<String> {
        let target = fs::read_link(self.path(file)).ok()?;
        let last = target.file_name()?.to_string_lossy().into_owned();
        self.record(|recording| recording.link(file, &last));
        Some(last)
    }

    pub(super) fn exists(&self, file: &str) -> bool {
        let found = self.path(file).exists();
        if found {
            self.record(|recording| recording.file(file, b""));
        }
        found
    }

    pub(super) fn malformed(&self, file: &str, reason: impl ToString) -> ProbeError {
        ProbeError::Malformed { path: self.path(file), reason: reason.to_string() }
    }
}

fn fact_file(name: &str) -> String {
    format!("{FACTS}/{name}")
}
