//! Makes a transport from the text of a transport URL.

use std::sync::Arc;

use crate::rabbit::{BadOption, RabbitOptions, RabbitTransport};
use crate::url::{Scheme, TransportUrl, UrlError};

/// Why a transport URL cannot be used. The message quotes no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The text is not a transport URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// An option or the vhost in the URL is wrong.
    #[error(transparent)]
    Option(#[from] BadOption),
    /// The URL names a broker inside one process, which no other process can reach.
    #[error("memory:// names a bus inside one process; a daemon needs rabbit://")]
    NotABroker,
}

/// Reads a broker's URL into options. `connection_name` is shown by the broker's tools.
pub fn rabbit_options(
    url: &str,
    connection_name: impl Into<String>,
    seed: [u8; 32],
) -> Result<RabbitOptions, ConnectError> {
    let url = TransportUrl::parse(url)?;
    if url.scheme != Scheme::Rabbit {
        return Err(ConnectError::NotABroker);
    }
    Ok(RabbitOptions::new(url, connection_name, seed)?)
}

/// Starts connecting to the broker of this URL. `declare_exchanges` is for the programs whose broker user may do that, which
/// are the schedulers: [`RabbitOptions::declare_exchanges`]. Needs a tokio runtime.
pub fn connect(
    url: &str,
    connection_name: impl Into<String>,
    seed: [u8; 32],
    declare_exchanges: bool,
) -> Result<Arc<RabbitTransport>, ConnectError> {
    let options = rabbit_options(url, connection_name, seed)?;
    Ok(RabbitTransport::start(RabbitOptions { declare_exchanges, ..options }))
}
