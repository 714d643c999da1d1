//! Takes the address that health is served on, and serves it until the daemon stops.

use std::{io, net::SocketAddr};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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

/// Serves `router` until `stop`, then finishes the requests in flight.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
