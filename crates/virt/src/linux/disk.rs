//! The file system that holds instances.

use std::io;
use std::path::Path;

use crate::probe_error::ProbeError;

const GIB: u128 = 1 << 30;

/// Size of a file system. All sizes are in GiB, rounded down.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) total: u64,
    pub(super) used: u64,
    /// What an ordinary user may still write.
    pub(super) available: u64,
}

pub(super) fn read(path: &Path) -> Result<Disk, ProbeError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| ProbeError::FileSystem { path: path.to_owned(), source: io::Error::from(errno) })?;
    let gib = |blocks: u64| {
        // The product may exceed 64 bits, because a broken network file system may claim any number of blocks.
        u64::try_from(u128::from(blocks) * u128::from(stat.f_frsize) / GIB).unwrap_or(u64::MAX)
    };
    Ok(Disk {
        total: gib(stat.f_blocks),
        used: gib(stat.f_blocks.saturating_sub(stat.f_bfree)),
        available: gib(stat.f_bavail),
    })
}
