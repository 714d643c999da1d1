//! What a driver has read from this machine, as a tree of files that can be read again elsewhere.
//!
//! What always holds: nothing secret is in it. Only what a driver reads is recorded, and of that the host's name and serial
//! numbers are left out.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Name of the host in a recording.
const HOST: &str = "recorded";

/// Size of a block of a tar archive, and longest path of an entry, in bytes.
const BLOCK: usize = 512;
const LONGEST_PATH: usize = 100;

enum Entry {
    Directory,
    File(Vec<u8>),
    Link(String),
}

/// What a driver has read, by its path below the root.
#[derive(Default)]
pub struct Recording {
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Recording {
    pub(crate) fn directory(&self, path: &str) {
        self.entries().entry(path.to_owned()).or_insert(Entry::Directory);
    }

    pub(crate) fn file(&self, path: &str, content: &[u8]) {
        self.entries().insert(path.to_owned(), Entry::File(without_names(path, content)));
    }

    /// A symbolic link to `target`, the last part of the path that it points to.
    pub(crate) fn link(&self, path: &str, target: &str) {
        self.entries().insert(path.to_owned(), Entry::Link(format!("../{target}")));
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        // An entry is added as a whole, so the map is right after a panic too.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Writes the tree as a compressed tar archive.
    pub fn write_tar_gz(&self, out: impl Write) -> io::Result<()> {
        let mut out = GzEncoder::new(out, Compression::default());
        for (path, entry) in &*self.entries() {
            let (kind, content, target) = match entry {
                Entry::Directory => (b'5', &[][..], ""),
                Entry::File(content) => (b'0', &content[..], ""),
                Entry::Link(target) => (b'2', &[][..], target.as_str()),
            };
            out.write_all(&header(path, kind, content.len(), target)?)?;
            out.write_all(content)?;
            out.write_all(&vec![0; content.len().next_multiple_of(BLOCK) - content.len()])?;
        }
        out.write_all(&[0; 2 * BLOCK])?;
        out.finish()?.flush()
    }
}

/// The content without what identifies the machine: its host name, and the serial numbers that ARM boards and s390 write
/// into `/proc/cpuinfo`.
fn without_names(path: &str, content: &[u8]) -> Vec<u8> {
    match path {
        "proc/sys/kernel/hostname" => format!("{HOST}\n").into_bytes(),
        "novella/nodename" => HOST.into(),
        "proc/cpuinfo" => {
            let text = String::from_utf8_lossy(content);
            text.split_inclusive('\n').filter_map(without_serial).collect::<String>().into_bytes()
        }
        _ => content.to_vec(),
    }
}

fn without_serial(line: &str) -> Option<String> {
    let name = line.split(':').next().unwrap_or_default().trim();
    if matches!(name, "Serial" | "identification") {
        return None;
    }
    // On s390 it is also one part of the line `processor 0: version = 00,  identification = 0A0B0C,  machine = 8561`.
    let parts = line.split(',').filter(|part| !part.trim_start().starts_with("identification"));
    Some(parts.collect::<Vec<_>>().join(","))
}

/// The header of one entry, as POSIX defines it (ustar).
fn header(path: &str, kind: u8, size: usize, target: &str) -> io::Result<[u8; BLOCK]> {
    if path.len() > LONGEST_PATH || target.len() > LONGEST_PATH {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path} is too long for a tar archive"),
        ));
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, if kind == b'5' { b"0000755" } else { b"0000644" });
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    // The checksum counts its own field as spaces.
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_names_the_machine() {
        let kept = |path, text: &str| String::from_utf8(without_names(path, text.as_bytes())).unwrap();
        assert_eq!(kept("proc/sys/kernel/hostname", "secret7\n"), "recorded\n");
        assert_eq!(kept("novella/nodename", "secret7"), "recorded");
        assert_eq!(kept("proc/meminfo", "MemTotal: 1 kB\n"), "MemTotal: 1 kB\n");
        assert_eq!(
            kept("proc/cpuinfo", "processor\t: 0\n\nHardware\t: Board\nSerial\t\t: 00c0ffee\n"),
            "processor\t: 0\n\nHardware\t: Board\n"
        );
        assert_eq!(
            kept(
                "proc/cpuinfo",
                "processor 0: version = 00,  identification = 0A0B0C,  machine = 8561\n\n\
                 cpu number      : 0\nidentification  : 0A0B0C\nmachine         : 8561\n"
            ),
            "processor 0: version = 00,  machine = 8561\n\ncpu number      : 0\nmachine         : 8561\n"
        );
    }
}
