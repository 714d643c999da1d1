//! The name of this machine, as `uname -n` prints it.

/// The machine's host name. Bytes that are not UTF-8 are replaced, so that the name can be shown and sent.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
