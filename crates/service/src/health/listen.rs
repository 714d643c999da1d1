//! Takes the address that health is served on, and serves it until the daemon stops.
//!
//! What always holds: connections are few and each ends in time, whatever its client does. So a probe is answered while
//! strangers hold half-open requests.

use std::{collections::VecDeque, io, net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::listen_address;

/// A listening address could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}")]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl BindError {
    /// What an operator can do about it.
    pub fn next_step(&self) -> String {
        let port = self.address.port();
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "set http.listen to another port or to none, or find the process that uses this one: ss -ltnp 'sport = :{port}'"
                )
            }
            io::ErrorKind::PermissionDenied => "set http.listen to a port above 1023".to_owned(),
            io::ErrorKind::AddrNotAvailable => {
                format!(
                    "set http.listen to an address of this machine, which {} is not; `ip address` lists them",
                    self.address.ip()
                )
            }
            _ => "set http.listen to another address".to_owned(),
        }
    }
}

/// Takes the address. Port 0 means any free port, which `local_addr` then returns.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Takes the address of a checked setting, or none if the setting switches it off.
pub async fn bind_to(listen: &str) -> Result<Option<TcpListener>, BindError> {
    match listen_address(listen) {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
}

/// What one client, or many, may take of the server.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How long a request's head may take to arrive. A connection that waits for its next request ends after it, too.
    head: Duration,
    /// How long a connection may live. Then it ends after the request in work.
    connection: Duration,
    /// How long a request in work may go on when its connection should end.
    last_request: Duration,
    /// How many connections there may be. A further one ends the oldest.
    connections: usize,
}

const LIMITS: Limits = Limits {
    head: Duration::from_secs(10),
    connection: Duration::from_secs(120),
    last_request: Duration::from_secs(10),
    connections: 64,
};

/// The most bytes of a request that are kept in memory.
const MAX_REQUEST: usize = 16 << 10;

/// The pause after a connection could not be accepted, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop`, then finishes the requests in flight. Idle, slow and too many connections are ended, so
/// that none of them keeps a probe from its answer.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_within(LIMITS, listener, router, stop).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let accepted = tokio::select! { biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        connections.retain(|connection| !connection.is_finished());
        match accepted {
            Ok((stream, _)) => {
                if connections.len() >= limits.connections
                    && let Some(oldest) = connections.pop_front()
                {
                    oldest.abort();
                }
                connections.push_back(tokio::spawn(talk(limits, stream, router.clone(), stop.clone())));
            }
            Err(error) => {
                warn!(%error, "cannot accept an HTTP connection; ending the oldest one and trying again");
                connections.pop_front().inspect(JoinHandle::abort);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    for connection in connections {
        // It ends by itself within its limits. An error means that it was aborted.
        drop(connection.await);
    }
}

/// Answers the requests of one connection.
async fn talk(limits: Limits, stream: TcpStream, router: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_REQUEST);
    let mut talk = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! { biased;
        ended = &mut talk => return note_end(ended),
        () = stop.cancelled() => {}
        () = sleep(limits.connection) => {}
    }
    talk.as_mut().graceful_shutdown();
    if let Ok(ended) = timeout(limits.last_request, talk).await {
        note_end(ended);
    }
}

fn note_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(%error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn served(limits: Limits) -> (SocketAddr, CancellationToken) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/livez", get(async || "alive"));
        tokio::spawn(serve_within(limits, listener, router, stop.clone()));
        (address, stop)
    }

    async fn half_open(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HT").await.unwrap();
        stream
    }

    /// Everything that the server says until it ends the connection.
    async fn said(mut stream: TcpStream) -> String {
        let mut said = Vec::new();
        // A reset is an end too.
        drop(timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the server ends the connection"));
        String::from_utf8(said).unwrap()
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        said(stream).await
    }

    #[tokio::test]
    async fn a_request_that_never_ends_and_an_idle_connection_are_ended() {
        let (address, _stop) = served(Limits { head: Duration::from_millis(100), ..LIMITS }).await;
        assert_eq!(said(half_open(address).await).await, "");
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert!(said(idle).await.ends_with("alive"), "it is answered, and later ended");
        let lasting = Limits { connection: Duration::from_millis(100), ..LIMITS };
        let (address, _stop) = served(lasting).await;
        assert_eq!(said(TcpStream::connect(address).await.unwrap()).await, "");
    }

    #[tokio::test]
    async fn probes_are_answered_beside_any_number_of_half_open_requests() {
        let (address, stop) = served(LIMITS).await;
        let mut open = Vec::new();
        for _ in 0..3 * LIMITS.connections {
            open.push(half_open(address).await);
        }
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
        assert_eq!(said(open.swap_remove(0)).await, "", "the oldest had to go");
        stop.cancel();
        assert_eq!(said(open.pop().unwrap()).await, "", "a stop does not wait for them");
    }

    #[tokio::test]
    async fn a_request_without_end_is_refused() {
        let (address, _stop) = served(LIMITS).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let long = format!("GET /livez?{} HTTP/1.1\r\n\r\n", "x".repeat(10 * MAX_REQUEST));
        // The server may end the connection before all is written.
        drop(stream.write_all(long.as_bytes()).await);
        let said = said(stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
}
