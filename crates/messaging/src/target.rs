//! Where a request goes, and at which version of its contract.

use std::fmt;
use std::str::FromStr;

/// The control exchange of a default Nova.
pub const DEFAULT_EXCHANGE: &str = "nova";

/// An address of the RPC layer. `topic` alone reaches any one of the topic's servers, `topic` with `server` reaches that
/// server, and `fanout` reaches all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The exchange that messages to `topic` and `topic.server` go through.
    pub exchange: String,
    /// What the servers do, such as `scheduler` or `compute`.
    pub topic: String,
    /// Name of one server of the topic.
    pub server: Option<String>,
    /// Whether all servers of the topic are meant.
    pub fanout: bool,
    /// API namespace. `None` is the null namespace, which is not the empty one.
    pub namespace: Option<String>,
    /// The version of the contract that the request needs.
    pub version: Version,
}

impl Target {
    /// Any one server of `topic`, on the exchange `nova`, at version 1.0.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self {
            exchange: DEFAULT_EXCHANGE.into(),
            topic: topic.into(),
            server: None,
            fanout: false,
            namespace: None,
            version: Version::new(1, 0),
        }
    }

    /// Means the server of this name only.
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// Means all servers of the topic.
    pub fn fanout(mut self) -> Self {
        self.fanout = true;
        self
    }

    /// Sets the version.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets the namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }
}

impl fmt::Display for Target {
    /// `topic`, `topic.server` or `topic (all)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            _ if self.fanout => write!(f, "{} (all)", self.topic),
            Some(server) => write!(f, "{}.{server}", self.topic),
            None => f.write_str(&self.topic),
        }
    }
}

/// `major.minor[.revision]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Majors are incompatible with each other.
    pub major: u32,
    /// A minor serves every lower one.
    pub minor: u32,
    /// Only compared between equal minors.
    pub revision: u32,
}

impl Version {
    /// `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, revision: 0 }
    }

    /// Whether an endpoint that implements `self` serves a request at `requested`. The rule is oslo.messaging's.
    pub fn serves(self, requested: Version) -> bool {
        self.major == requested.major
            && (requested.minor < self.minor
                || (requested.minor == self.minor && requested.revision <= self.revision))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.revision > 0 { write!(f, ".{}", self.revision) } else { Ok(()) }
    }
}

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {0:?} is not of the form major.minor")]
pub struct BadVersion(pub String);

impl FromStr for Version {
    type Err = BadVersion;
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.chars().take(40).collect());
        let mut parts = text.split('.').map(|p| p.parse::<u32>().map_err(|_| bad()));
        let major = parts.next().ok_or_else(bad)??;
        let minor = parts.next().ok_or_else(bad)??;
        let revision = parts.next().transpose()?.unwrap_or(0);
        Ok(Self { major, minor, revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_serve_as_oslo_says() {
        let implemented = Version::new(1, 3);
        for (requested, serves) in [
            ("1.0", true),
            ("1.3", true),
            ("1.3.0", true),
            ("1.2.99", true),
            ("01.03", true),
            ("1.4", false),
            ("1.3.1", false),
            ("2.0", false),
            ("0.9", false),
        ] {
            assert_eq!(implemented.serves(requested.parse().unwrap()), serves, "{requested}");
        }
        for bad in ["x", "1", "", "1.x", "1.-1"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
