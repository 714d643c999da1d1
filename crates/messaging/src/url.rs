//! Where the broker is: `rabbit://user:password@host:port,.../vhost?option=value`, read as oslo.messaging reads it.
//!
//! `amqp://` is the same as `rabbit://`; `amqps://` and `rabbits://` also turn TLS on. `memory://name` names a bus in
//! this process. A password is never shown: neither by `Display` nor by `Debug`, nor in an error.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// oslo's default, with TLS too. An `amqps` scheme stands for AMQP's own TLS port.
const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RabbitMQ.
    Rabbit,
    /// A bus in this process.
    Memory,
}

/// One broker of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerHost {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// AMQP user.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for BrokerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerHost({self})")
    }
}

impl fmt::Display for BrokerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}:***@[{}]:{}", self.user, self.host, self.port)
        } else {
            write!(f, "{}:***@{}:{}", self.user, self.host, self.port)
        }
    }
}

/// A parsed transport URL.
#[derive(Clone, PartialEq, Eq)]
pub struct TransportUrl {
    /// What carries the messages.
    pub scheme: Scheme,
    /// The brokers, any of which will do. For `memory://name` the name is the one host.
    pub hosts: Vec<BrokerHost>,
    /// Virtual host.
    pub vhost: String,
    /// Whether connections are encrypted: `amqps`, `rabbits` or `ssl=true`.
    pub tls: bool,
    /// The query, decoded. Whoever uses the URL decides which names it knows.
    pub options: BTreeMap<String, String>,
}

/// Why a text is no transport URL. Never quotes what may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No `scheme://`.
    #[error("a transport URL starts with rabbit://, amqp://, amqps:// or memory://")]
    NoScheme,
    /// A scheme that nothing here speaks.
    #[error("nothing here speaks {0}://; use rabbit://, amqp://, amqps:// or memory://")]
    UnknownScheme(String),
    /// A port that is empty, not a number or too large.
    #[error(
        "host {number} of the transport URL has no usable port (write a comma, @, : or / in a password as %2C, %40, %3A, %2F)"
    )]
    BadPort {
        /// Which host, counted from 1.
        number: usize,
    },
    /// No host name.
    #[error("host {number} of the transport URL has no name")]
    NoHost {
        /// Which host, counted from 1.
        number: usize,
    },
    /// Percent escapes that are not UTF-8.
    #[error("the {part} in the transport URL is not UTF-8 after decoding")]
    NotUtf8 {
        /// `user`, `password`, `virtual host` or `query`.
        part: &'static str,
    },
    /// Option given twice.
    #[error("option {0} is given twice in the transport URL")]
    Repeated(String),
    /// `ssl` that is neither true nor false.
    #[error("option ssl in the transport URL is neither true nor false")]
    BadSsl,
}

impl TransportUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let (scheme, tls_scheme) = match scheme {
            "rabbit" | "amqp" => (Scheme::Rabbit, false),
            "rabbits" | "amqps" => (Scheme::Rabbit, true),
            "memory" => (Scheme::Memory, false),
            // A password may stand before a stray `://`: show a scheme only if it looks like one.
            other
                if other.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                    && !other.is_empty() =>
            {
                return Err(UrlError::UnknownScheme(other.chars().take(20).collect()));
            }
            _ => return Err(UrlError::NoScheme),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut options = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (query_text(name)?, query_text(value)?);
            if options.insert(name.clone(), value).is_some() {
                return Err(UrlError::Repeated(name));
            }
        }
        let ssl = match options.get("ssl").map(|value| value.to_ascii_lowercase()).as_deref() {
            None => false,
            Some("true" | "1" | "yes" | "on") => true,
            Some("false" | "0" | "no" | "off") => false,
            Some(_) => return Err(UrlError::BadSsl),
        };
        let vhost = match decode(path, "virtual host")? {
            root if root.is_empty() => "/".to_owned(),
            vhost => vhost,
        };
        let port = if tls_scheme { TLS_PORT } else { PORT };
        let hosts = match hosts {
            "" => vec![host_of("guest:guest@localhost", port, 1)?],
            some => some
                .split(',')
                .enumerate()
                .map(|(index, host)| host_of(host, port, index + 1))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { scheme, hosts, vhost, tls: tls_scheme || ssl, options })
    }
}

/// `[user[:password]@]host[:port]`.
fn host_of(text: &str, default_port: u16, number: usize) -> Result<BrokerHost, UrlError> {
    let (credentials, address) = text.rsplit_once('@').map_or((None, text), |(c, a)| (Some(c), a));
    let (user, password) = match credentials {
        // Not inherited from the host before: RabbitMQ's own default user is tried, as peers do.
        None => ("guest".to_owned(), "guest".to_owned()),
        Some(credentials) => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            (decode(user, "user")?, decode(password, "password")?)
        }
    };
    let (host, port) = match address.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or(UrlError::NoHost { number })?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':').ok_or(UrlError::BadPort { number })?)),
            }
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(UrlError::NoHost { number });
    }
    let port = match port {
        None => default_port,
        // `parse` alone would take a sign.
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().map_err(|_| UrlError::BadPort { number })?
        }
        Some(_) => return Err(UrlError::BadPort { number }),
    };
    Ok(BrokerHost { host: host.to_owned(), port, user, password })
}

fn decode(text: &str, part: &'static str) -> Result<String, UrlError> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| UrlError::NotUtf8 { part })
}

/// In a query, and only there, `+` is a space.
fn query_text(text: &str) -> Result<String, UrlError> {
    decode(&text.replace('+', " "), "query")
}

impl FromStr for TransportUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl fmt::Display for TransportUrl {
    /// Fit for logs: without passwords and options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.scheme, self.tls) {
            (Scheme::Memory, _) => return write!(f, "memory://{}", self.hosts[0].host),
            (Scheme::Rabbit, false) => "rabbit",
            (Scheme::Rabbit, true) => "rabbits",
        };
        write!(f, "{scheme}://")?;
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{host}")?;
        }
        let vhost = if self.vhost == "/" { "" } else { &self.vhost };
        write!(f, "/{}", percent_encoding::utf8_percent_encode(vhost, percent_encoding::NON_ALPHANUMERIC))
    }
}

impl fmt::Debug for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportUrl({self})")
    }
}
