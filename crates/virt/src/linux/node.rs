//! The host's name, kernel, architecture, guests, load and uptime.

use procfs::{FromRead, LoadAverage, Uptime};

use super::guests;
use super::tree::Tree;
use crate::probe_error::ProbeError;
use crate::stats::Probed;

const LOADAVG: &str = "proc/loadavg";
const UPTIME: &str = "proc/uptime";

const UNKNOWN: &str = "unknown";

#[derive(Clone)]
pub(super) struct Kernel {
    pub(super) hostname: Probed<String>,
    pub(super) release: Probed<String>,
    pub(super) arch: Probed<String>,
    pub(super) guests: Probed<Vec<[String; 3]>>,
}

/// Each value is `None` if the kernel does not have its file, as in a container that shows only the processes of `/proc`.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) load_1m: Probed<Option<f64>>,
    pub(super) uptime_s: Probed<Option<u64>>,
}

impl Load {
    /// Both values while the probe has never answered.
    pub(super) fn unknown() -> Self {
        const NO_ANSWER: &str = "the probe `load` has not answered yet";
        Self { load_1m: Probed::new(None, NO_ANSWER), uptime_s: Probed::new(None, NO_ANSWER) }
    }
}

pub(super) fn read_kernel(tree: &Tree) -> Result<Kernel, ProbeError> {
    let uname = rustix::system::uname();
    // Files are read first, so that a recorded tree gives its own values. uname is asked if a file is missing: `arch`
    // exists since Linux 6.1, and sandboxes hide /proc/sys. It does not know about a recorded host.
    let fact = |file: &str, from_uname: &std::ffi::CStr, field: &str| -> Result<Probed<String>, ProbeError> {
        let path = format!("proc/sys/kernel/{file}");
        Ok(match tree.optional(&path)? {
            Some(value) if !value.is_empty() => Probed::new(value, format!("/{path}")),
            _ => match tree.own_fact_text(field, || Ok(from_uname.to_string_lossy().into_owned()))? {
                Some(value) => Probed::new(value, format!("uname {field}")),
                None => Probed::new(UNKNOWN.to_owned(), format!("no /{path}")),
            },
        })
    };
    let arch = fact("arch", uname.machine(), "machine")?;
    Ok(Kernel {
        hostname: fact("hostname", uname.nodename(), "nodename")?,
        release: fact("osrelease", uname.release(), "release")?,
        guests: guests::find(tree, &arch.value),
        arch,
    })
}

/// The kernel's version as major × 10^6 + minor × 10^3 + micro. Missing parts count as 0, and no part counts as more than
/// 999 (stable kernels have gone beyond micro 255, but not beyond 999).
pub(super) fn kernel_version(release: &Probed<String>) -> Probed<i64> {
    let number = release.value.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<i64>().unwrap_or(0).min(999));
    let mut next = || parts.next().unwrap_or(0);
    let version = next() * 1_000_000 + next() * 1_000 + next();
    Probed::new(version, release.source.clone())
}

pub(super) fn read_load(tree: &Tree) -> Result<Load, ProbeError> {
    Ok(Load {
        load_1m: if_there(tree, LOADAVG, |text| {
            let load =
                LoadAverage::from_read(text.as_bytes()).map_err(|error| tree.malformed(LOADAVG, error))?;
            if !load.one.is_finite() {
                return Err(tree.malformed(LOADAVG, "the load is not a number"));
            }
            // The kernel prints two decimals. Widening the crate's f32 would add more.
            Ok((f64::from(load.one) * 100.0).round() / 100.0)
        })?,
        uptime_s: if_there(tree, UPTIME, |text| {
            let uptime = Uptime::from_read(text.as_bytes()).map_err(|error| tree.malformed(UPTIME, error))?;
            Ok(uptime.uptime as u64)
        })?,
    })
}

/// The value that `parse` finds in this file. A file that is not there costs this value and no other.
fn if_there<T>(
    tree: &Tree,
    file: &str,
    parse: impl FnOnce(&str) -> Result<T, ProbeError>,
) -> Result<Probed<Option<T>>, ProbeError> {
    Ok(match tree.text_if_there(file)? {
        Some(text) => Probed::new(Some(parse(&text)?), format!("/{file}")),
        None => Probed::new(None, format!("no /{file}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_as_numbers() {
        for (release, version) in [
            ("6.18.44-fc-v669", 6_018_044),
            ("5.10", 5_010_000),
            ("4.19.325+", 4_019_325),
            ("6.1.0-rc7", 6_001_000),
            ("7", 7_000_000),
            ("", 0),
            ("garbage", 0),
            ("9999999999999999999999.1.1", 1_001),
        ] {
            assert_eq!(kernel_version(&Probed::new(release.into(), "")).value, version, "{release}");
        }
    }
}
