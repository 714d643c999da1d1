//! What a host is called: its name and that of its compute node, and when two names are one.
//!
//! Both stand in one text, shared by all copies of the fleet; most hosts have the same name twice.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

/// See the module's text.
#[derive(Debug, Clone)]
pub(crate) enum Names {
    /// Host and node are called the same.
    Same(Arc<str>),
    /// The host's name, so many bytes long, then the node's.
    Two(Arc<str>, u32),
}

impl Names {
    pub(crate) fn new(host: &str, nodename: &str) -> Self {
        if host == nodename {
            return Self::Same(host.into());
        }
        let host_len = u32::try_from(host.len()).expect("a name beyond 4 GiB exceeds any message");
        Self::Two([host, nodename].concat().into(), host_len)
    }

    /// Service host name.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Same(name) => name,
            Self::Two(names, host) => &names[..*host as usize],
        }
    }

    /// Compute node name.
    pub(crate) fn nodename(&self) -> &str {
        match self {
            Self::Same(name) => name,
            Self::Two(names, host) => &names[*host as usize..],
        }
    }
}

pub(crate) fn name_at(names: &[Option<Names>], at: usize) -> &str {
    names[at].as_ref().map_or("", |names| names.host())
}

/// Whether two names are the same with case removed; Nova compares forced and ignored hosts this way.
pub(crate) fn same_folded(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        a.eq_ignore_ascii_case(b)
    } else {
        a.to_lowercase() == b.to_lowercase()
    }
}

/// Equal for names that are the same with case removed.
pub(crate) fn folded_hash(hasher: &DefaultHashBuilder, name: &str) -> u64 {
    use std::hash::Hasher;
    let mut state = hasher.build_hasher();
    if name.is_ascii() {
        name.bytes().for_each(|letter| state.write_u32(u32::from(letter.to_ascii_lowercase())));
    } else {
        // Of the whole name: what a capital sigma becomes depends on what follows it.
        name.to_lowercase().chars().for_each(|letter| state.write_u32(u32::from(letter)));
    }
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_come_back() {
        for (host, nodename) in [("a", "a"), ("a", "a.example.org"), ("host", ""), ("", "node"), ("", "")] {
            let names = Names::new(host, nodename);
            assert_eq!((names.host(), names.nodename()), (host, nodename));
        }
    }
}
