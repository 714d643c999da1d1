//! Where the broker is: `rabbit://user:password@host:port,.../vhost?option=value`, read as oslo.messaging reads it.
//!
//! `amqp://` is the same as `rabbit://`. `amqps://` and `rabbits://` also turn TLS on. `memory://name` names a broker in
//! this process.
//!
//! What always holds: `Display`, `Debug` and errors never show a password. A password that should have been encoded would
//! shift the parts of the URL, so that a piece of it is taken for a host or a virtual host. So an `@` where none can stand
//! is refused, although oslo.messaging takes one in a virtual host.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::percent_decode_str;

/// The default port, as in oslo.messaging: also with the option `ssl=true`.
const PORT: u16 = 5672;
/// The default port of the schemes `amqps` and `rabbits`.
const TLS_PORT: u16 = 5671;

/// What to do about a password that breaks its URL, for the texts of errors.
const ENCODE: &str = "percent-encode these characters in a user, a password and a virtual host: @ as %40, / as %2F, \
                      : as %3A, ? as %3F, # as %23, % as %25, a comma as %2C";

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RabbitMQ carries them.
    Rabbit,
    /// A broker in this process carries them.
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
    /// The user's password.
    pub password: String,
    /// Virtual host, which is the same for all brokers of a URL.
    pub vhost: String,
}

impl BrokerHost {
    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
}

impl fmt::Debug for BrokerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerHost({self})")
    }
}

impl fmt::Display for BrokerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***@{}", self.user, self.address())
    }
}

/// A parsed transport URL.
#[derive(Clone, PartialEq, Eq)]
pub struct TransportUrl {
    /// What carries the messages.
    pub scheme: Scheme,
    /// The brokers of a cluster, any of which will do. For `memory://name` the name is the only host.
    pub hosts: Vec<BrokerHost>,
    /// Whether connections use TLS: the scheme is `amqps` or `rabbits`, or there is `ssl=true`.
    pub tls: bool,
    /// The query, decoded. Whether an option is known is up to the reader of the URL.
    pub options: BTreeMap<String, String>,
}

/// Why a text is not a transport URL. The message quotes nothing that may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// There is no `scheme://`.
    #[error("a transport URL starts with rabbit://, amqp://, amqps:// or memory://")]
    NoScheme,
    /// No transport has this scheme.
    #[error("unknown scheme {0}://; use rabbit://, amqp://, amqps:// or memory://")]
    UnknownScheme(String),
    /// A port is empty, not a number or too large.
    #[error(
        "host {number} of the transport URL has no usable port; if its password has special characters, {ENCODE}"
    )]
    BadPort {
        /// The host's place in the URL, counted from 1.
        number: usize,
    },
    /// A host has no name.
    #[error("host {number} of the transport URL has no name")]
    NoHost {
        /// The host's place in the URL, counted from 1.
        number: usize,
    },
    /// There is an `@` behind the hosts, so a password that is not encoded may have ended them.
    #[error("the transport URL has an @ after the /, ? or # that ends its hosts; {ENCODE}")]
    AtBehindHosts,
    /// A host after one without a user has a user but no password, so a comma in a password may have divided one host.
    #[error(
        "host {number} of the transport URL has a user but no password; if a comma is part of a password, {ENCODE}"
    )]
    NoPassword {
        /// The host's place in the URL, counted from 1.
        number: usize,
    },
    /// Percent escapes do not decode to UTF-8.
    #[error("the {part} in the transport URL is not UTF-8 after decoding; {ENCODE}")]
    NotUtf8 {
        /// `user`, `password`, `virtual host` or `query`.
        part: &'static str,
    },
    /// An option is given twice.
    #[error("option {0} is given twice in the transport URL")]
    Repeated(String),
    /// The option `ssl` is neither true nor false.
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
            // A password may come before a stray `://`, so a scheme is shown only if it looks like one.
            other
                if other.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                    && !other.is_empty() =>
            {
                return Err(UrlError::UnknownScheme(other.chars().take(20).collect()));
            }
            _ => return Err(UrlError::NoScheme),
        };
        let end_of_hosts = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        if rest[end_of_hosts..].contains('@') {
            return Err(UrlError::AtBehindHosts);
        }
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some(number) = user_without_password(hosts) {
            return Err(UrlError::NoPassword { number });
        }
        let mut options = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (query_text(name)?, query_text(value)?);
            if options.insert(name.clone(), value).is_some() {
                return Err(UrlError::Repeated(name));
            }
        }
        let ssl = match options.get("ssl") {
            None => false,
            Some(value) => boolean(value).ok_or(UrlError::BadSsl)?,
        };
        let vhost = match decode(path, "virtual host")? {
            root if root.is_empty() => "/".to_owned(),
            vhost => vhost,
        };
        let port = if tls_scheme { TLS_PORT } else { PORT };
        let hosts = match hosts {
            "" => vec![host_of("guest:guest@localhost", port, 1, vhost)?],
            some => some
                .split(',')
                .enumerate()
                .map(|(index, host)| host_of(host, port, index + 1, vhost.clone()))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { scheme, hosts, tls: tls_scheme || ssl, options })
    }
}

/// The place of a host that has a user but no password, after a host without a user. Such a URL makes no sense, but one
/// host whose password has a comma looks like it.
fn user_without_password(hosts: &str) -> Option<usize> {
    let logins: Vec<_> = hosts.split(',').map(|host| host.rsplit_once('@').map(|(login, _)| login)).collect();
    let first_without = logins.iter().position(Option::is_none)?;
    let mut later = logins.iter().enumerate().skip(first_without);
    later.find(|(_, login)| login.is_some_and(|login| !login.contains(':'))).map(|(index, _)| index + 1)
}

/// Reads `[user[:password]@]host[:port]`.
fn host_of(text: &str, default_port: u16, number: usize, vhost: String) -> Result<BrokerHost, UrlError> {
    let (credentials, address) = text.rsplit_once('@').map_or((None, text), |(c, a)| (Some(c), a));
    let (user, password) = match credentials {
        // Credentials are not inherited from the host before. RabbitMQ's default user is tried, as peers do.
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
        // `parse` alone would accept a sign.
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().map_err(|_| UrlError::BadPort { number })?
        }
        Some(_) => return Err(UrlError::BadPort { number }),
    };
    Ok(BrokerHost { host: host.to_owned(), port, user, password, vhost })
}

/// Reads the value of an option that is true or false. `None` if it is neither.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn decode(text: &str, part: &'static str) -> Result<String, UrlError> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| UrlError::NotUtf8 { part })
}

/// Decodes a part of the query. Only there `+` is a space.
fn query_text(text: &str) -> Result<String, UrlError> {
    decode(&text.replace('+', " "), "query")
}

impl fmt::Display for TransportUrl {
    /// The URL for logs, without passwords and options.
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
        let vhost = match &*self.hosts[0].vhost {
            "/" => "",
            vhost => vhost,
        };
        write!(f, "/{}", percent_encoding::utf8_percent_encode(vhost, percent_encoding::NON_ALPHANUMERIC))
    }
}

impl fmt::Debug for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<(String, u16, String, String)> {
        let url = TransportUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        url.hosts.into_iter().map(|h| (h.host, h.port, h.user, h.password)).collect()
    }

    fn host(host: &str, port: u16, user: &str, password: &str) -> (String, u16, String, String) {
        (host.into(), port, user.into(), password.into())
    }

    #[test]
    fn hosts_ports_and_credentials() {
        assert_eq!(hosts("rabbit://"), [host("localhost", 5672, "guest", "guest")]);
        assert_eq!(hosts("rabbit://h"), [host("h", 5672, "guest", "guest")]);
        assert_eq!(hosts("rabbit://u:p@h:1/v"), [host("h", 1, "u", "p")]);
        let second = host("h2", 6, "guest", "guest");
        assert_eq!(
            hosts("amqp://u:p@h1,h2:6/"),
            [host("h1", 5672, "u", "p"), second],
            "credentials are each host's own"
        );
        assert_eq!(hosts("rabbit://u:p@[::1]:5673"), [host("::1", 5673, "u", "p")]);
        assert_eq!(hosts("rabbit://u:p@[::1]"), [host("::1", 5672, "u", "p")]);
        assert_eq!(hosts("rabbit://u%40x:a%2Fb%3Ac%2Cd%40+@h"), [host("h", 5672, "u@x", "a/b:c,d@+")]);
        assert_eq!(hosts("rabbit://u:p:q@h"), [host("h", 5672, "u", "p:q")], "the first colon divides");
        assert_eq!(hosts("rabbit://u@x:p@h"), [host("h", 5672, "u@x", "p")], "the last @ divides");
        assert_eq!(
            hosts("rabbit://u:p@h?ssl=true"),
            [host("h", 5672, "u", "p")],
            "an option leaves the port alone"
        );
        assert_eq!(hosts("amqps://u:p@h"), [host("h", 5671, "u", "p")]);
        assert_eq!(TransportUrl::parse("amqp://h/v"), TransportUrl::parse("rabbit://h/v"));
    }

    #[test]
    fn virtual_hosts() {
        for (path, vhost) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/%2F", "/"),
            ("/v1", "v1"),
            ("//v1", "/v1"),
            ("/v1/", "v1/"),
            ("/a%2Fb", "a/b"),
        ] {
            assert_eq!(
                TransportUrl::parse(&format!("rabbit://h{path}")).unwrap().hosts[0].vhost,
                vhost,
                "{path}"
            );
        }
    }

    #[test]
    fn options_and_tls() {
        let url =
            TransportUrl::parse("rabbit://h/v?ssl=True&ssl_ca_file=/etc/a%20b.pem&name=x+y#part").unwrap();
        assert!(url.tls);
        assert_eq!(url.options["ssl_ca_file"], "/etc/a b.pem");
        assert_eq!(url.options["name"], "x y");
        assert_eq!(url.hosts[0].vhost, "v");
        assert!(!TransportUrl::parse("rabbit://h?ssl=false").unwrap().tls);
        assert!(TransportUrl::parse("rabbits://h").unwrap().tls);
        let memory = TransportUrl::parse("memory://demo").unwrap();
        assert_eq!(
            (memory.scheme, &*memory.hosts[0].host, memory.to_string()),
            (Scheme::Memory, "demo", "memory://demo".into())
        );
    }

    #[test]
    fn bad_urls_are_refused_without_their_password() {
        for (text, error) in [
            ("u:secret@h", UrlError::NoScheme),
            ("u:secret://h", UrlError::NoScheme),
            ("kafka://u:secret@h", UrlError::UnknownScheme("kafka".into())),
            ("rabbit://u:secret@h:", UrlError::BadPort { number: 1 }),
            ("rabbit://h1,u:secret@h:x", UrlError::BadPort { number: 2 }),
            ("rabbit://u:secret@h:+5", UrlError::BadPort { number: 1 }),
            ("rabbit://u:secret@h:70000", UrlError::BadPort { number: 1 }),
            ("rabbit://u:secret@", UrlError::NoHost { number: 1 }),
            ("rabbit://u:secret@h1,", UrlError::NoHost { number: 2 }),
            ("rabbit://u:secret@[::1", UrlError::NoHost { number: 1 }),
            ("rabbit://u:secret%ff@h", UrlError::NotUtf8 { part: "password" }),
            ("rabbit://u:secret@h?a=1&a=2", UrlError::Repeated("a".into())),
            ("rabbit://u:secret@h?ssl=maybe", UrlError::BadSsl),
            // What is not encoded ends the hosts, or a host, inside the password. Digits would be taken for a port.
            ("rabbit://u:secret/x@h", UrlError::AtBehindHosts),
            ("rabbit://u:123/secret@h/v", UrlError::AtBehindHosts),
            ("rabbit://u:x@secret/y@h/v", UrlError::AtBehindHosts),
            ("rabbit://u:123?secret@h", UrlError::AtBehindHosts),
            ("rabbit://u:123#secret@h", UrlError::AtBehindHosts),
            ("rabbit://u:123,secret@h", UrlError::NoPassword { number: 2 }),
        ] {
            let got = TransportUrl::parse(text).unwrap_err();
            assert_eq!(got, error, "{text}");
            assert!(!got.to_string().contains("secret") && !format!("{got:?}").contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_password_that_breaks_the_url_is_to_be_encoded_and_then_works() {
        for password in ["p/w", "12/w", "p@s/w", "12?w", "12#w", "12,w", "p:/w", "p,w"] {
            let broken = format!("rabbit://u:{password}@h:5672/v");
            let error = TransportUrl::parse(&broken).expect_err(&broken).to_string();
            assert!(error.contains("percent-encode") && error.contains("@ as %40, / as %2F"), "{error}");
            let encoded = percent_encoding::utf8_percent_encode(password, percent_encoding::NON_ALPHANUMERIC);
            let expected = [host("h", 5672, "u", password)];
            assert_eq!(hosts(&format!("rabbit://u:{encoded}@h:5672/v")), expected);
        }
        assert!(TransportUrl::parse("rabbit://h1:5672,u:p@h2").is_ok(), "only the second host has a user");
    }

    #[test]
    fn a_password_is_never_shown() {
        let url =
            TransportUrl::parse("amqps://u:secret@h1,v:hidden@[::1]:7/a%2Fb?ssl_key_password=third").unwrap();
        assert_eq!(url.to_string(), "rabbits://u:***@h1:5671,v:***@[::1]:7/a%2Fb");
        for text in [format!("{url:?}"), format!("{:?}", url.hosts), url.to_string()] {
            assert!(!["secret", "hidden", "third"].iter().any(|word| text.contains(word)), "{text}");
        }
    }
}
