//! Asks a running daemon for its health, from the daemon's own executable, so that a container needs no curl.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use crate::{
    config::listen_address,
    failure::{self, Failure},
};

/// How long a daemon on the same machine may take to answer.
const LIMIT: Duration = Duration::from_secs(3);
/// How much of an answer is read, in bytes. A health report is far smaller.
const ANSWER_LIMIT: u64 = 64 * 1024;

/// What the daemon answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProbeAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// The daemon gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// Connecting, asking or reading failed.
    #[error("cannot ask {address} for its health")]
    Io {
        /// The address that was asked.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The whole answer did not come in time.
    #[error("{address} did not answer within {limit:?}")]
    Timeout {
        /// The address that was asked.
        address: SocketAddr,
        /// How long it had to answer.
        limit: Duration,
    },
    /// Something that does not speak HTTP listens there.
    #[error("the answer from {address} is not HTTP")]
    NotHttp {
        /// The address that was asked.
        address: SocketAddr,
    },
}

/// The subcommand `health` of a daemon that listens on this checked setting: prints what `/readyz` answers and returns 0
/// if the daemon is ready, else 1.
pub async fn ask(listen: &str) -> anyhow::Result<u8> {
    let address = listen_address(listen).ok_or_else(|| {
        Failure::new(
            failure::USAGE,
            "http.listen is switched off, so the daemon cannot be asked for its health",
        )
        .next("set http.listen to an address with a port")
    })?;
    Ok(run_probe(address, "/readyz", LIMIT, &mut io::stdout()).await?)
}

/// Prints the answer on `out` and returns 0 if its status is 200, else 1.
pub(super) async fn run_probe(
    address: SocketAddr,
    path: &str,
    limit: Duration,
    out: &mut dyn Write,
) -> io::Result<u8> {
    match probe(address, path, limit).await {
        Ok(answer) => {
            writeln!(out, "{}", answer.body.trim_end())?;
            Ok(if answer.status == 200 { failure::OK } else { failure::REFUSED })
        }
        Err(error) => {
            writeln!(out, "{}", failure::chain(&error))?;
            Ok(failure::REFUSED)
        }
    }
}

/// `GET path` from `address` within `limit`. An address that means "every interface" is asked on loopback.
pub(super) async fn probe(
    address: SocketAddr,
    path: &str,
    limit: Duration,
) -> Result<ProbeAnswer, ProbeError> {
    let address = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    };
    let answer = time::timeout(limit, get(address, path)).await;
    let answer = answer.map_err(|_| ProbeError::Timeout { address, limit })?;
    let text = answer.map_err(|source| ProbeError::Io { address, source })?;
    parse(&String::from_utf8_lossy(&text)).ok_or(ProbeError::NotHttp { address })
}

async fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// An HTTP/1.0 request is never answered in chunks, so the body is all that follows the empty line.
fn parse(text: &str) -> Option<ProbeAnswer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    let status = words.next().filter(|version| version.starts_with("HTTP/1.")).and(words.next())?;
    Some(ProbeAnswer { status: status.parse().ok()?, body: body.to_owned() })
}
