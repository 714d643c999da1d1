//! Declares queues together with the exchanges that feed them.
//!
//! A broker user may lack the right to declare exchanges, because whoever may declare one may also delete it. Its programs
//! find exchanges that somebody else declared, and only try to declare those that are missing.

use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::{Channel, Connection};

use super::explain;
use super::topology::{ExchangeDeclaration, QueueDeclaration, RefusedDeclaration};

/// Declares a queue and its bindings on a new channel, and returns the channel. The exchanges that feed the queue are
/// declared first, or only if they are missing.
pub(super) async fn queue(
    queue: &QueueDeclaration,
    connection: &Connection,
    exchanges_first: bool,
) -> Result<Channel, RefusedDeclaration> {
    let mut channel = open(connection).await?;
    if exchanges_first {
        for exchange in queue.exchanges() {
            exchange.declare(&channel).await?;
        }
    }
    let mut declared = Vec::new();
    loop {
        let Err(refused) = queue.declare(&channel).await else { return Ok(channel) };
        let missing = |exchange: &&ExchangeDeclaration| explain::is_missing(&refused.error, exchange);
        let Some(exchange) = queue.exchanges().find(missing).filter(|missing| !declared.contains(missing))
        else {
            return Err(refused);
        };
        declared.push(exchange);
        // The broker has closed the channel.
        channel = open(connection).await?;
        match exchange.declare(&channel).await {
            Ok(()) => {}
            // That the exchange is missing says more than that this user may not declare it.
            Err(RefusedDeclaration { error, .. }) if explain::is_denied(&error) => return Err(refused),
            Err(other) => return Err(other),
        }
    }
}

/// Declares an exchange unless there is one of its name, in whatever shape. Returns whether it was missing.
pub(super) async fn missing_exchange(
    exchange: &ExchangeDeclaration,
    connection: &Connection,
) -> Result<bool, RefusedDeclaration> {
    let channel = open(connection).await?;
    let (channel, missing) = match exchange.look_for(&channel).await {
        Ok(()) => (channel, false),
        Err(refused) if explain::is_missing(&refused.error, exchange) => {
            // The broker has closed the channel.
            let channel = open(connection).await?;
            exchange.declare(&channel).await?;
            (channel, true)
        }
        Err(refused) => return Err(refused),
    };
    // It fails only if the connection is gone, and the channel with it.
    drop(channel.close(REPLY_SUCCESS, "done".into()).await);
    Ok(missing)
}

async fn open(connection: &Connection) -> Result<Channel, RefusedDeclaration> {
    let opened = connection.create_channel().await;
    opened.map_err(|error| RefusedDeclaration { attempted: "opening a channel".to_owned(), error })
}
