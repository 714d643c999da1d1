//! The names of a host and of its compute node, and whether two names are the same.
//!
//! Both names are kept in one text, which all copies of the fleet share. Most hosts and their nodes have the same name.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

/// The names of one host and its compute node.
#[derive(Debug, Clone)]
pub(crate) enum Names {
    /// Host and node have the same name.
    Same(Arc<str>),
    /// The host's name followed by the node's, and the length of the host's name in bytes.
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

    /// The name of the service host.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Same(name) => name,
            Self::Two(names, host) => &names[..*host as usize],
        }
    }

    /// The name of the compute node.
    pub(crate) fn nodename(&self) -> &str {
        match self {
            Self::Same(name) => name,
            Self::Two(names, host) => &names[*host as usize..],
        }
    }
}

/// The name of the host at an index. Empty if no host is there.
pub(crate) fn name_at(names: &[Option<Names>], at: usize) -> &str {
    names[at].as_ref().map_or("", |names| names.host())
}

/// Whether two names are the same if letter case is ignored. Nova compares forced and ignored hosts this way.
pub(crate) fn same_folded(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        a.eq_ignore_ascii_case(b)
    } else {
        a.to_lowercase() == b.to_lowercase()
    }
}

/// A hash that is equal for names that are the same if letter case is ignored.
pub(crate) fn folded_hash(hasher: &DefaultHashBuilder, name: &str) -> u64 {
    use std::hash::Hasher;
    let mut state = hasher.build_hasher();
    if name.is_ascii() {
        name.bytes().for_each(|letter| state.write_u32(u32::from(letter.to_ascii_lowercase())));
    } else {
        // The name is lowered as a whole, because what a capital sigma becomes depends on what follows it.
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
