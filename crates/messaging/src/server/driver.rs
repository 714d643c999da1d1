//! Where the work on long questions runs.
//!
//! A question about a whole fleet computes and writes for milliseconds. On the threads that serve all requests, each of them
//! would stop a placement for as long. So a daemon says where such work runs, usually on threads of its own.
//!
//! Left out: threads. The crate starts none; the daemon passes what does.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// Drives futures that compute for long. By default they are driven where they are awaited.
#[derive(Clone)]
pub struct Driver(Arc<dyn Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync>);

impl Driver {
    /// A driver for which `drive` resolves when the future that it gets is done.
    pub fn new<F>(drive: impl Fn(BoxFuture<'static, ()>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |work| drive(work).boxed()))
    }

    /// The result of `work`. `None` if it was not driven to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        // An error means that nobody waits for the result any more.
        (self.0)(async move { drop(done.send(work.await)) }.boxed()).await;
        result.await.ok()
    }
}

impl Default for Driver {
    fn default() -> Self {
        Self(Arc::new(|work| work))
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Driver")
    }
}
