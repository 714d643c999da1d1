//! Reading small text files below a root that is `/`, or a recorded tree.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::probe::ProbeError;

/// Kernels support at most some thousands of CPUs; a larger number is damage, and would be a large list.
const MAX_CPU: u32 = 65_535;

pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// The file's text. Bytes that are not UTF-8 are replaced: firmware puts anything into a CPU's name.
    pub(super) fn text(&self, file: &str) -> Result<String, ProbeError> {
        let path = self.path(file);
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(source) => Err(ProbeError::Read { path, source }),
        }
    }

    /// The file's text without white space at its ends, or none where the kernel has no such file.
    pub(super) fn optional(&self, file: &str) -> Result<Option<String>, ProbeError> {
        match self.text(file) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(ProbeError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A list of CPUs or nodes such as `0-3,8`, or none where the kernel has no such file.
    pub(super) fn id_list(&self, file: &str) -> Result<Option<Vec<u32>>, ProbeError> {
        let Some(text) = self.optional(file)? else { return Ok(None) };
        parse_id_list(&text).map(Some).ok_or_else(|| {
            self.malformed(
                file,
                format!("expected a list like 0-3,8 of numbers up to {MAX_CPU}, found {text:?}"),
            )
        })
    }

    /// A whole number, or none where the kernel has no such file.
    pub(super) fn number(&self, file: &str) -> Result<Option<u64>, ProbeError> {
        let Some(text) = self.optional(file)? else { return Ok(None) };
        let number = text.parse();
        number.map(Some).map_err(|_| self.malformed(file, format!("expected a whole number, found {text:?}")))
    }

    /// The names in a directory, sorted, or none where the kernel has no such directory.
    pub(super) fn names(&self, directory: &str) -> Result<Option<Vec<String>>, ProbeError> {
        let path = self.path(directory);
        let listed = fs::read_dir(&path).and_then(|entries| {
            let name =
                |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
            entries.map(name).collect::<io::Result<BTreeSet<String>>>()
        });
        match listed {
            Ok(names) => Ok(Some(names.into_iter().collect())),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ProbeError::Read { path, source }),
        }
    }

    /// The last part of what a symbolic link points to, or none where there is no such link.
    pub(super) fn link(&self, file: &str) -> Option<String> {
        let target = fs::read_link(self.path(file)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    pub(super) fn exists(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    pub(super) fn malformed(&self, file: &str, reason: impl ToString) -> ProbeError {
        ProbeError::Malformed { path: self.path(file), reason: reason.to_string() }
    }
}

fn parse_id_list(text: &str) -> Option<Vec<u32>> {
    let mut ids = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MAX_CPU {
            return None;
        }
        ids.extend(first..=last);
    }
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::parse_id_list;

    #[test]
    fn lists_of_ids() {
        assert_eq!(parse_id_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_id_list("5,1"), Some(vec![1, 5]));
        assert_eq!(parse_id_list(""), Some(vec![]));
        for damage in ["a", "1-", "3-1", "0-4294967295", "-1", "0x3"] {
            assert_eq!(parse_id_list(damage), None, "{damage}");
        }
    }
}
