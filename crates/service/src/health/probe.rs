//! Asks a daemon's health address from the same executable, so that a container needs no curl.

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

use crate::exit;

/// How much of an answer is read; a health report is far smaller.
const ANSWER_LIMIT: u64 = 64 * 1024;

/// What the daemon said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// The daemon said nothing usable.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Connecting, asking or reading failed.
    #[error("cannot ask {address}")]
    Io {
        /// Who was asked.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// No whole answer in time.
    #[error("{address} did not answer within {limit:?}")]
    Timeout {
        /// Who was asked.
        address: SocketAddr,
        /// How long it had.
        limit: Duration,
    },
    /// Something else listens there.
    #[error("what {address} answered is not HTTP")]
    NotHttp {
        /// Who was asked.
        address: SocketAddr,
    },
}

/// `GET path` from `address` within `limit`. An address that means "every interface" is asked on loopback.
pub async fn probe(address: SocketAddr, path: &str, limit: Duration) -> Result<ProbeAnswer, ProbeError> {
    let address = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    };
    let answer = time::timeout(limit, ask(address, path)).await;
    let answer = answer.map_err(|_| ProbeError::Timeout { address, limit })?;
    let text = answer.map_err(|source| ProbeError::Io { address, source })?;
    parse(&String::from_utf8_lossy(&text)).ok_or(ProbeError::NotHttp { address })
}

async fn ask(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
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

/// The subcommand `health`: prints the answer on `out` and returns 0 if it is 200, else 1.
pub async fn run_probe(
    address: SocketAddr,
    path: &str,
    limit: Duration,
    out: &mut dyn Write,
) -> io::Result<u8> {
    match probe(address, path, limit).await {
        Ok(answer) => {
            writeln!(out, "{}", answer.body.trim_end())?;
            Ok(if answer.status == 200 { exit::OK } else { exit::REFUSED })
        }
        Err(error) => {
            writeln!(out, "{}", exit::chain(&error))?;
            Ok(exit::REFUSED)
        }
    }
}
