//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::CallError;
use crate::envelope::Fault;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What happened to the messages of a server, since its start.
        #[derive(Debug, Default)]
        pub struct ServerCounters {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
        }

        impl ServerCounters {
            /// All counters by name, in a fixed order.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Deliveries taken.
    received,
    /// Requests given to an endpoint.
    dispatched,
    /// Requests handled in batches.
    batched,
    /// Batches.
    batches,
    /// Copies of a message already taken.
    duplicates,
    /// Requests of users who may not command this server.
    rejected_user,
    /// Bodies beyond the size limit.
    malformed_too_large,
    /// Content types other than the protocol's.
    malformed_content_type,
    /// Bodies or inner messages that are not JSON, or not UTF-8.
    malformed_json,
    /// JSON that is not an envelope of ours.
    malformed_envelope,
    /// Envelopes whose message is not a request.
    malformed_request,
    /// Requests for methods that no endpoint has.
    no_such_method,
    /// Requests for versions or namespaces that no endpoint serves.
    unsupported_version,
    /// Requests whose arguments do not fit the method.
    bad_arguments,
    /// Requests that the method itself refused.
    refused,
    /// Requests that failed through our fault.
    internal_errors,
    /// Methods and batch handlers that panicked.
    panics,
    /// Answers published.
    replies,
    /// Call-monitor heartbeats published.
    heartbeats,
    /// Answers for which the caller named no usable queue.
    replies_without_queue,
    /// Answers whose queue was missing until the end of the retries, or known to be missing.
    replies_unroutable,
    /// Answers that the broker did not take for another reason.
    replies_failed,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl ServerCounters {
    /// One counter by name; zero if there is none of that name.
    pub fn get(&self, name: &str) -> u64 {
        self.snapshot().into_iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| value)
    }

    pub(super) fn fault(&self, fault: Fault) {
        count(match fault {
            Fault::TooLarge => &self.malformed_too_large,
            Fault::ContentType => &self.malformed_content_type,
            Fault::NotUtf8 | Fault::NotJson | Fault::InnerNotJson => &self.malformed_json,
            Fault::NotAnObject | Fault::EnvelopeVersion | Fault::InnerNotText | Fault::InnerNotAnObject => {
                &self.malformed_envelope
            }
            Fault::Method | Fault::Arguments | Fault::Version | Fault::Namespace => &self.malformed_request,
        });
    }

    pub(super) fn error(&self, error: &CallError) {
        count(match error {
            CallError::NoSuchMethod => &self.no_such_method,
            CallError::UnsupportedVersion => &self.unsupported_version,
            CallError::BadArguments { .. } => &self.bad_arguments,
            CallError::Failed(_) => &self.refused,
            CallError::Internal { .. } => &self.internal_errors,
        });
    }
}
