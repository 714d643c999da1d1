//! The file system that holds instances.
//!
//! A recorded tree has its numbers in a file, because they come from a system call.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfs, StatVfsMountFlags};

use super::tree::Tree;
use crate::probe_error::ProbeError;

const GIB: u128 = 1 << 30;

/// The fact in a recorded tree: block size, blocks, free blocks, blocks that an ordinary user may still write, and 1
/// if the file system is read-only.
const STATVFS: &str = "statvfs";
const RECORDED: &str = "novella/statvfs";

/// A file system is nearly full if at least this share of it is used, in percent.
const NEARLY_FULL: u128 = 95;

const MOUNTS: &str = "/proc/self/mountinfo";

/// Size of a file system. All sizes are in GiB, rounded down.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) total: u64,
    pub(super) used: u64,
    /// What an ordinary user may still write.
    pub(super) available: u64,
    /// The file of a recorded host that would tell the size, if there is none.
    pub(super) missing: Option<&'static str>,
    /// Problems that an operator should know about.
    pub(super) warnings: Vec<String>,
}

pub(super) fn read(tree: &Tree, path: &Path) -> Result<Disk, ProbeError> {
    let Some(text) = tree.own_fact_text(STATVFS, || measure(path))? else {
        let warning =
            format!("the recorded host has no {RECORDED}, so its disk is not known and counts as 0 GiB");
        return Ok(Disk { missing: Some(RECORDED), warnings: vec![warning], ..Disk::default() });
    };
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    let Ok(&[size, blocks, free, available, read_only]) = numbers.as_deref() else {
        let path = PathBuf::from(STATVFS);
        let reason = format!("expected five whole numbers, found {text:?}");
        return Err(ProbeError::Malformed { path, reason });
    };
    // The product may exceed 64 bits, because a broken network file system may claim any number of blocks.
    let gib = |blocks: u64| u64::try_from(u128::from(blocks) * u128::from(size) / GIB).unwrap_or(u64::MAX);
    let used = blocks.saturating_sub(free);
    let mut warnings = Vec::new();
    if read_only != 0 {
        warnings.push(format!(
            "the file system at {} is read-only, so no instance can write there; look for disk errors in the kernel's \
             log, or set driver.disk_path to another file system",
            path.display()
        ));
    }
    // As df counts: blocks that are kept for root are neither used nor available.
    let percent = u128::from(used) * 100 / (u128::from(used) + u128::from(available)).max(1);
    if read_only == 0 && percent >= NEARLY_FULL {
        warnings.push(format!(
            "the file system at {} is {} % full, with {} GiB left; make room there, or set driver.disk_path to another \
             file system",
            path.display(),
            percent,
            gib(available)
        ));
    }
    Ok(Disk { total: gib(blocks), used: gib(used), available: gib(available), missing: None, warnings })
}

fn measure(path: &Path) -> Result<String, ProbeError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| ProbeError::FileSystem { path: path.to_owned(), source: io::Error::from(errno) })?;
    let read_only = u8::from(is_read_only(&stat, path));
    Ok(format!("{} {} {} {} {read_only}", stat.f_frsize, stat.f_blocks, stat.f_bfree, stat.f_bavail))
}

/// Whether the file system is read-only for everybody, and not only for this process: the shipped systemd unit
/// hides all writable directories from the agent.
fn is_read_only(stat: &StatVfs, path: &Path) -> bool {
    stat.f_flag.contains(StatVfsMountFlags::RDONLY)
        && fs::canonicalize(path)
            .and_then(|path| Ok(superblock_is_read_only(&fs::read_to_string(MOUNTS)?, &path)))
            .unwrap_or(false)
}

/// Whether the options of the file system that holds `path`, after the ` - ` in its line, begin with `ro`. The options of
/// the mount alone stand before it.
fn superblock_is_read_only(mounts: &str, path: &Path) -> bool {
    let mount = |line: &str| -> Option<(usize, bool)> {
        let (mount, file_system) = line.split_once(" - ")?;
        let point = PathBuf::from(unescaped(mount.split(' ').nth(4)?));
        let options = file_system.split(' ').nth(2)?;
        path.starts_with(&point).then(|| (point.components().count(), options.split(',').any(|o| o == "ro")))
    };
    // Of two mounts at one place, the later one covers the earlier one.
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).is_some_and(|(_, read_only)| read_only)
}

/// The kernel writes a space in a path as `\040`, and a few other characters in the same way.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(path.to_owned(), |path, (code, character)| path.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_is_what_the_file_system_says_and_not_the_mount() {
        let mounts = "22 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
                      30 22 8:2 / /var/lib/nova rw,relatime shared:2 - ext4 /dev/sda2 ro\n\
                      31 22 8:3 / /var/lib/my\\040disk ro - ext4 /dev/sda3 rw\n";
        let read_only = |path: &str| superblock_is_read_only(mounts, Path::new(path));
        assert!(!read_only("/") && !read_only("/var/lib/novella"));
        assert!(read_only("/var/lib/nova") && read_only("/var/lib/nova/instances"));
        assert!(!read_only("/var/lib/my disk"));
        assert!(!superblock_is_read_only("garbage - x\n", Path::new("/")));
    }
}
