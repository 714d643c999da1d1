//! One attempt at one host: name, TCP, TLS and the AMQP handshake, all under one deadline. If the name has several
//! addresses, each is tried, and each gets an equal share of the time.
//!
//! A dial that is given up leaves nothing behind. lapin runs a thread per connection, which would wait for a silent broker
//! until that wakes up or dies, so the socket is shut down from outside.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::broker::Broker;
use super::explain::{self, DialFailure};

/// Certificates and key in PEM files. They are read with every dial, so that renewed ones are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities to trust. `None` means those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its chain. Needs `key_file` too.
    pub cert_file: Option<PathBuf>,
    /// Private key of the client certificate.
    pub key_file: Option<PathBuf>,
}

/// What all dials of a transport have in common.
pub(super) struct Dialer {
    pub heartbeat: Duration,
    pub frame_max: u32,
    pub connect_timeout: Duration,
    /// `None` for plain TCP.
    pub tls: Option<TlsFiles>,
}

/// An open connection. Dropping it shuts the socket down, and so ends lapin's thread whatever the broker does.
pub(super) struct Link {
    pub connection: Connection,
    _socket: Arc<Socket>,
}

/// A second handle on the connection's socket.
#[derive(Default)]
struct Socket(OnceLock<std::net::TcpStream>);

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(stream) = self.0.get() {
            // This fails only if the connection is gone already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Dialer {
    /// Opens a connection named `name`.
    pub(super) async fn dial(&self, broker: &Broker, name: &str) -> Result<Link, DialFailure> {
        let found = timeout(self.connect_timeout, lookup_host((broker.host.as_str(), broker.port))).await;
        let addresses: Vec<SocketAddr> = match found {
            Ok(found) => found.map_err(|error| explain::unresolved(&error))?.collect(),
            Err(_) => return Err(explain::unresolved_in_time(self.connect_timeout)),
        };
        self.dial_in_turn(broker, &addresses, name).await
    }

    async fn dial_in_turn(
        &self,
        broker: &Broker,
        addresses: &[SocketAddr],
        name: &str,
    ) -> Result<Link, DialFailure> {
        let share = self.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut failures = Vec::new();
        for address in addresses {
            let socket = Arc::new(Socket::default());
            let failure = match timeout(share, self.open(broker, *address, name, &socket)).await {
                Ok(Ok(connection)) => return Ok(Link { connection, _socket: socket }),
                Ok(Err(error)) => explain::dial(&error, broker, self.tls.is_some()),
                Err(_) => explain::silent(share),
            };
            failures.push((*address, failure));
        }
        Err(explain::all(failures))
    }

    async fn open(
        &self,
        broker: &Broker,
        address: SocketAddr,
        name: &str,
        socket: &Arc<Socket>,
    ) -> lapin::Result<Connection> {
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "novella".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let tls = self.tls.clone();
        let socket = Arc::downgrade(socket);
        let runtime = lapin::runtime::default_runtime()?;
        let reactor = runtime.clone();
        let connect = async move |uri: AMQPUri, _| {
            let stream = AsyncTcpStream::connect(&reactor, address).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                keep_handle(&socket, plain.get_ref())?;
            }
            match &tls {
                None => Ok(stream),
                Some(files) => Ok(stream.into_rustls(&files.connector()?, &uri.authority.host).await?),
            }
        };
        Connection::connector(self.uri(broker), runtime, connect, properties).await
    }

    fn uri(&self, broker: &Broker) -> AMQPUri {
        AMQPUri {
            scheme: if self.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: broker.user.clone(), password: broker.password.clone() },
                host: broker.host.clone(),
                port: broker.port,
            },
            vhost: broker.vhost.clone(),
            query: AMQPQueryString {
                frame_max: Some(self.frame_max),
                heartbeat: Some(u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX)),
                ..AMQPQueryString::default()
            },
        }
    }
}

/// Keeps a second handle on the connection's socket. Fails if the dial was given up meanwhile, because nobody would shut
/// the socket down then.
fn keep_handle(socket: &Weak<Socket>, stream: &impl AsFd) -> io::Result<()> {
    let kept = socket.upgrade().ok_or(io::ErrorKind::TimedOut)?;
    // lapin opens one stream per connection, so the slot is empty.
    drop(kept.0.set(stream.as_fd().try_clone_to_owned()?.into()));
    Ok(())
}

impl TlsFiles {
    fn connector(&self) -> io::Result<RustlsConnector> {
        let config = match &self.ca_file {
            None => RustlsConnectorConfig::new_with_native_certs()?,
            Some(path) => {
                let mut config = RustlsConnectorConfig::default();
                config.add_parsable_certificates(certificates(path)?);
                config
            }
        };
        match (&self.cert_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
                config.connector_with_single_cert(chain, key)
            }
            (None, None) => config.connector_with_no_client_auth(),
            _ => Err(io::Error::other("a client certificate needs both ssl_cert_file and ssl_key_file")),
        }
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(list) if list.is_empty() => {
            Err(io::Error::other(format!("{} holds no certificate", path.display())))
        }
        Ok(list) => Ok(list),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &rustls_pki_types::pem::Error) -> io::Error {
    io::Error::other(format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
    }

    fn mq() -> Broker {
        Broker {
            host: "localhost".into(),
            port: 5672,
            user: "u".into(),
            password: "p".into(),
            vhost: "/".into(),
        }
    }

    /// Serves one TLS handshake with this certificate.
    fn serve_once(certificate: &str) -> SocketAddr {
        let chain = certificates(&test_file(certificate)).unwrap();
        let key = PrivateKeyDer::from_pem_file(test_file("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        });
        address
    }

    #[tokio::test]
    async fn a_certificate_that_is_refused_says_its_names_and_dates() {
        for (certificate, says) in [
            ("expired.pem", "it was valid until 2021-03-04T05:06:07Z"),
            ("future.pem", "it is valid from 2100-01-02T03:04:05Z"),
            (
                "elsewhere.pem",
                "is not for localhost, the host in the URL; it is for mq1.example.org, mq2.example.org and 192.0.2.7",
            ),
        ] {
            let connect_timeout = Duration::from_secs(20);
            let tls = Some(TlsFiles { ca_file: Some(test_file("ca.pem")), ..TlsFiles::default() });
            let dialer = Dialer { heartbeat: connect_timeout, frame_max: 4096, connect_timeout, tls };
            let dialled = dialer.dial_in_turn(&mq(), &[serve_once(certificate)], "x").await;
            let failure = dialled.err().expect("the certificate is refused").to_string();
            assert!(failure.contains(says) && failure.contains("give the broker"), "{failure}");
        }
    }

    #[tokio::test]
    async fn each_address_of_a_name_gets_its_share_of_the_time() {
        // The kernel accepts connections here, and nobody ever speaks. Nothing listens on port 1.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = listener.local_addr().unwrap();
        let refusing: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let connect_timeout = Duration::from_secs(2);
        let dialer = Dialer { heartbeat: connect_timeout, frame_max: 4096, connect_timeout, tls: None };
        let began = tokio::time::Instant::now();
        let dialled = dialer.dial_in_turn(&mq(), &[silent, refusing], "x").await;
        let failure = dialled.err().expect("nobody is a broker").to_string();
        assert!(began.elapsed() < connect_timeout, "{:?}", began.elapsed());
        let (first, second) = failure.split_once("; ").expect("two addresses");
        assert!(first.starts_with(&silent.to_string()) && first.contains("no answer within 1s"), "{first}");
        assert!(second.starts_with("127.0.0.1:1: ") && second.contains("nothing listens"), "{second}");
    }
}
