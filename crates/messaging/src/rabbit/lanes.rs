//! The channels that one session publishes on.
//!
//! Messages that may be pipelined share one channel. The others each have a channel to themselves while they are under
//! way, taken from a small pool. Channels are opened when they are first needed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many messages may be unconfirmed on the shared channel. Further ones wait.
const PIPELINE: usize = 1024;
/// How many messages may have a channel to themselves at a time. Further ones wait.
const SOLO_CHANNELS: usize = 16;

/// The publishing channels of one session.
pub(super) struct Lanes {
    shared: Mutex<Option<Arc<Channel>>>,
    /// Channels of the pool that are not in use.
    idle: Mutex<Vec<Arc<Channel>>>,
    /// Lets one task at a time open the shared channel.
    opening: Semaphore,
    pipeline: Semaphore,
    solo: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            shared: Mutex::default(),
            idle: Mutex::default(),
            opening: Semaphore::new(1),
            pipeline: Semaphore::new(PIPELINE),
            solo: Semaphore::new(SOLO_CHANNELS),
        }
    }
}

/// A channel in use by one message.
///
/// Unless it is kept, it is given up when dropped: lapin would take a confirm that is still under way for another
/// message's, and would remember an unconfirmed message for as long as the channel lives.
pub(super) struct Lane<'a> {
    lanes: &'a Lanes,
    channel: Arc<Channel>,
    alone: bool,
    kept: bool,
    _turn: SemaphorePermit<'a>,
}

impl Lanes {
    /// A channel on `connection`, as soon as it is this message's turn. `alone`: one that nobody else uses.
    pub(super) async fn take(&self, connection: &Connection, alone: bool) -> lapin::Result<Lane<'_>> {
        let turns = if alone { &self.solo } else { &self.pipeline };
        let turn = turns.acquire().await.expect("the semaphores of a session are never closed");
        let channel = if alone { self.pooled(connection).await? } else { self.shared(connection).await? };
        Ok(Lane { lanes: self, channel, alone, kept: false, _turn: turn })
    }

    async fn shared(&self, connection: &Connection) -> lapin::Result<Arc<Channel>> {
        let open = || lock(&self.shared).clone().filter(|channel| channel.status().connected());
        if let Some(channel) = open() {
            return Ok(channel);
        }
        let _one_at_a_time = self.opening.acquire().await;
        if let Some(channel) = open() {
            return Ok(channel);
        }
        let channel = Arc::new(confirming_channel(connection).await?);
        *lock(&self.shared) = Some(channel.clone());
        Ok(channel)
    }

    async fn pooled(&self, connection: &Connection) -> lapin::Result<Arc<Channel>> {
        loop {
            let idle = lock(&self.idle).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {}
                None => return confirming_channel(connection).await.map(Arc::new),
            }
        }
    }
}

impl Lane<'_> {
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Gives the channel back for the next message. Call it when nothing of this message is under way any more.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if self.alone {
            if self.kept {
                lock(&self.lanes.idle).push(self.channel.clone());
            }
        } else if !self.kept {
            let mut shared = lock(&self.lanes.shared);
            if shared.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.channel)) {
                *shared = None;
            }
        }
    }
}

async fn confirming_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
