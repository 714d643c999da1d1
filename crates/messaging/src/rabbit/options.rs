//! How to connect: the defaults, and the options in the query of a transport URL that change them.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use super::dial::TlsFiles;
use super::topology::{OsloOptions, Topology};
use crate::transport::MAX_NAME_BYTES;
use crate::url::{self, TransportUrl};

/// How to connect. Has no `Debug`, because the URL holds passwords.
#[derive(Clone)]
pub struct RabbitOptions {
    /// Brokers, credentials and vhost.
    pub url: TransportUrl,
    /// What the broker's tools show this connection as, such as `scheduler.s1`.
    pub connection_name: String,
    /// How often AMQP heartbeats are sent. Either side gives the other up after two of these times without a sign of life.
    pub heartbeat: Duration,
    /// Largest frame in bytes. lapin's buffers are a multiple of it.
    pub frame_max: u32,
    /// How long TCP, TLS and the AMQP handshake may take together, for each host.
    pub connect_timeout: Duration,
    /// Certificates, used if the URL asks for TLS.
    pub tls: TlsFiles,
    /// Whether one connection both publishes and consumes.
    pub single_connection: bool,
    /// Shapes of exchanges and queues.
    pub topology: Topology,
    /// Whether exchanges are declared before they are used. If not, they are only declared if they are missing. The broker
    /// user then needs no right to declare and delete what all services share, as long as somebody else declares it.
    pub declare_exchanges: bool,
    /// How many deliveries of each queue may be unacknowledged. `None` leaves it to the subscriber.
    pub prefetch: Option<NonZeroU16>,
    /// Whether the broker returns an answer whose queue is missing, so that it can be tried again.
    pub direct_mandatory_flag: bool,
    /// Decides the order of hosts, the waits between attempts and the names of queues.
    pub seed: [u8; 32],
}

/// What is wrong with the options or the vhost of a transport URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    /// There is no such option.
    #[error("unknown option {name} in the transport URL; known are {}", KNOWN.join(", "))]
    Unknown {
        /// The name as written.
        name: String,
    },
    /// The vhost is longer than a name in AMQP can be.
    #[error("the vhost in the transport URL has more than {MAX_NAME_BYTES} bytes")]
    LongVhost,
    /// The option does not take this value.
    #[error("option {name} in the transport URL wants {wanted}")]
    BadValue {
        /// The option.
        name: String,
        /// What the option takes.
        wanted: &'static str,
    },
    /// The option only works together with `topology=oslo`.
    #[error("option {name} in the transport URL needs topology=oslo")]
    NeedsOslo {
        /// The option.
        name: String,
    },
}

/// All options, for the text of an error.
const KNOWN: [&str; 18] = [
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "heartbeat_timeout_threshold",
    "connect_timeout",
    "single_connection",
    "topology",
    "amqp_durable_queues",
    "amqp_auto_delete",
    "rabbit_quorum_queue",
    "rabbit_transient_quorum_queue",
    "rabbit_transient_queues_ttl",
    "rabbit_quorum_delivery_limit",
    "rabbit_quorum_max_memory_length",
    "rabbit_quorum_max_memory_bytes",
    "rabbit_qos_prefetch_count",
    "direct_mandatory_flag",
];

impl RabbitOptions {
    /// The defaults, changed by the URL's query. Options that oslo.messaging has too have the same names there.
    pub fn new(
        url: TransportUrl,
        connection_name: impl Into<String>,
        seed: [u8; 32],
    ) -> Result<Self, BadOption> {
        if url.hosts.iter().any(|host| host.vhost.len() > MAX_NAME_BYTES) {
            return Err(BadOption::LongVhost);
        }
        let mut options = Self {
            connection_name: connection_name.into(),
            heartbeat: Duration::from_secs(15),
            // With the frame size left to negotiation, lapin touches some 8 MB of buffers per connection.
            frame_max: 131_072,
            connect_timeout: Duration::from_secs(10),
            tls: TlsFiles::default(),
            single_connection: false,
            topology: Topology::default(),
            declare_exchanges: true,
            prefetch: None,
            direct_mandatory_flag: true,
            seed,
            url,
        };
        let query = options.url.options.clone();
        // It comes first because other options depend on it.
        if let Some(value) = query.get("topology") {
            options.topology = match value.as_str() {
                "native" => Topology::Native,
                "oslo" => Topology::Oslo(OsloOptions::default()),
                _ => return Err(bad("topology", "native or oslo")),
            };
        }
        for (name, value) in &query {
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), BadOption> {
        match name {
            // `ssl` is read with the URL, and `topology` in `new`.
            "ssl" | "topology" => {}
            "ssl_ca_file" => self.tls.ca_file = Some(PathBuf::from(value)),
            "ssl_cert_file" => self.tls.cert_file = Some(PathBuf::from(value)),
            "ssl_key_file" => self.tls.key_file = Some(PathBuf::from(value)),
            "heartbeat_timeout_threshold" => self.heartbeat = seconds(name, value)?,
            "connect_timeout" => self.connect_timeout = seconds(name, value)?,
            "single_connection" => self.single_connection = boolean(name, value)?,
            "amqp_durable_queues" => self.oslo(name)?.amqp_durable_queues = boolean(name, value)?,
            "amqp_auto_delete" => self.oslo(name)?.amqp_auto_delete = boolean(name, value)?,
            "rabbit_quorum_queue" => self.oslo(name)?.rabbit_quorum_queue = boolean(name, value)?,
            "rabbit_transient_quorum_queue" => {
                self.oslo(name)?.rabbit_transient_quorum_queue = boolean(name, value)?
            }
            "rabbit_transient_queues_ttl" => {
                self.oslo(name)?.rabbit_transient_queues_ttl = whole_seconds(name, value)?
            }
            "rabbit_quorum_delivery_limit" => {
                self.oslo(name)?.rabbit_quorum_delivery_limit = limit(name, value)?
            }
            "rabbit_quorum_max_memory_length" => {
                self.oslo(name)?.rabbit_quorum_max_memory_length = limit(name, value)?
            }
            "rabbit_quorum_max_memory_bytes" => {
                self.oslo(name)?.rabbit_quorum_max_memory_bytes = limit(name, value)?
            }
            // To oslo.messaging 0 means no bound, and is the default. Here it means the subscriber's own bound.
            "rabbit_qos_prefetch_count" => {
                let count: u16 = value.parse().map_err(|_| bad(name, "a number of messages, 0 to 65535"))?;
                self.prefetch = NonZeroU16::new(count);
            }
            "direct_mandatory_flag" => self.direct_mandatory_flag = boolean(name, value)?,
            _ => return Err(BadOption::Unknown { name: name.to_owned() }),
        }
        Ok(())
    }

    fn oslo(&mut self, name: &str) -> Result<&mut OsloOptions, BadOption> {
        match &mut self.topology {
            Topology::Oslo(options) => Ok(options),
            Topology::Native => Err(BadOption::NeedsOslo { name: name.to_owned() }),
        }
    }
}

fn bad(name: &str, wanted: &'static str) -> BadOption {
    BadOption::BadValue { name: name.to_owned(), wanted }
}

fn boolean(name: &str, value: &str) -> Result<bool, BadOption> {
    url::boolean(value).ok_or_else(|| bad(name, "true or false"))
}

fn whole_seconds(name: &str, value: &str) -> Result<Duration, BadOption> {
    value.parse().map(Duration::from_secs).map_err(|_| bad(name, "a whole number of seconds"))
}

/// A limit of a queue. oslo.messaging sends such arguments as signed 32-bit numbers.
fn limit(name: &str, value: &str) -> Result<u32, BadOption> {
    let limit = value.parse().ok().filter(|&limit| limit <= i32::MAX as u32);
    limit.ok_or_else(|| bad(name, "a whole number below 2^31, 0 for none"))
}

/// A time of at least a second, which fits into the 16 bits that AMQP has for heartbeats.
fn seconds(name: &str, value: &str) -> Result<Duration, BadOption> {
    match value.parse::<u16>() {
        Ok(number) if number > 0 => Ok(Duration::from_secs(number.into())),
        _ => Err(bad(name, "seconds, 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(query: &str) -> Result<RabbitOptions, BadOption> {
        let url = TransportUrl::parse(&format!("rabbit://u:p@h/?{query}")).unwrap();
        RabbitOptions::new(url, "test", [0; 32])
    }

    #[test]
    fn the_query_changes_the_defaults() {
        let plain = with("").unwrap();
        assert_eq!((plain.heartbeat, plain.frame_max), (Duration::from_secs(15), 131_072));
        assert_eq!(plain.topology, Topology::Native);
        let set = with("ssl=true&ssl_ca_file=/ca.pem&heartbeat_timeout_threshold=60&single_connection=yes")
            .unwrap();
        assert_eq!(set.tls.ca_file, Some(PathBuf::from("/ca.pem")));
        assert_eq!(set.heartbeat, Duration::from_secs(60));
        assert!(set.single_connection && set.url.tls);
        let set = with("rabbit_qos_prefetch_count=7&direct_mandatory_flag=false").unwrap();
        assert_eq!((set.prefetch, set.direct_mandatory_flag), (NonZeroU16::new(7), false));
        assert_eq!(with("rabbit_qos_prefetch_count=0").unwrap().prefetch, None);
        let oslo =
            with("amqp_durable_queues=true&rabbit_transient_queues_ttl=0&topology=oslo").unwrap().topology;
        let expected = OsloOptions {
            amqp_durable_queues: true,
            rabbit_transient_queues_ttl: Duration::ZERO,
            ..OsloOptions::default()
        };
        assert_eq!(oslo, Topology::Oslo(expected));
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for (query, says) in [
            ("hearbeat=3", "unknown option hearbeat"),
            ("connect_timeout=0", "option connect_timeout in the transport URL wants seconds"),
            ("heartbeat_timeout_threshold=x", "wants seconds"),
            ("single_connection=maybe", "wants true or false"),
            ("topology=ring", "wants native or oslo"),
            ("rabbit_qos_prefetch_count=-1", "wants a number of messages, 0 to 65535"),
            ("direct_mandatory_flag=2", "wants true or false"),
            ("topology=oslo&rabbit_quorum_delivery_limit=-1", "wants a whole number below 2^31"),
            (
                "rabbit_quorum_queue=true",
                "option rabbit_quorum_queue in the transport URL needs topology=oslo",
            ),
        ] {
            let error = with(query).err().expect(query).to_string();
            assert!(error.contains(says), "{query}: {error}");
        }
        for name in KNOWN {
            assert!(!matches!(with(&format!("{name}=true")), Err(BadOption::Unknown { .. })), "{name}");
        }
    }
}
