//! A transport that measures how long the broker takes to confirm a report.

use std::sync::Arc;

use async_trait::async_trait;
use novella_messaging::{
    ConnectionState, Consumer, Destination, Outgoing, QueueKind, Subscription, Transport, TransportError,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::latencies::Latencies;

/// A transport that passes everything on to another one, and measures reports.
pub struct Metered<T> {
    inner: Arc<T>,
    times: Arc<Latencies>,
}

impl<T> Metered<T> {
    /// Counts in `times` how long each fanout cast takes. Of all that an agent sends, only reports are fanout casts.
    pub fn new(inner: Arc<T>, times: Arc<Latencies>) -> Self {
        Self { inner, times }
    }
}

#[async_trait]
impl<T: Transport> Transport for Metered<T> {
    async fn publish(&self, message: Outgoing) -> Result<(), TransportError> {
        let is_report = matches!(message.destination, Destination::Fanout { .. });
        let began = Instant::now();
        let result = self.inner.publish(message).await;
        if is_report && result.is_ok() {
            self.times.record(began.elapsed());
        }
        result
    }

    async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError> {
        self.inner.declare(queue, deadline).await
    }

    async fn keep_exchange(&self, of: &Destination, deadline: Instant) -> Result<bool, TransportError> {
        self.inner.keep_exchange(of, deadline).await
    }

    fn rebind(&self) {
        self.inner.rebind();
    }

    async fn consume(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        self.inner.consume(subscription).await
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state()
    }

    fn users(&self) -> Vec<String> {
        self.inner.users()
    }

    async fn close(&self, deadline: Instant) {
        self.inner.close(deadline).await;
    }
}
