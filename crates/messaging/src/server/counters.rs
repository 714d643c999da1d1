//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::envelope::MessageFault;
use crate::error::CallError;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What happened to the messages of a server, since its start.
        #[derive(Debug, Default)]
        pub struct ServerCounters {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
        }

        impl ServerCounters {
            /// All counters by name, in a fixed order.
            fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Deliveries taken from the transport.
    received,
    /// Requests given to an endpoint.
    dispatched,
    /// Requests handled in batches.
    batched,
    /// Batches handed to a batch handler.
    batches,
    /// Copies of messages that were taken before.
    duplicates,
    /// Requests of AMQP users who may not call the method.
    rejected_user,
    /// Questions that came while too many others waited.
    busy,
    /// Bodies beyond the size limit.
    malformed_too_large,
    /// Content types other than the protocol's.
    malformed_content_type,
    /// Bodies or inner messages that are not JSON, or not UTF-8.
    malformed_json,
    /// JSON that is not an envelope of the protocol.
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
    /// Requests that failed because of a defect of novella.
    internal_errors,
    /// Methods and batch handlers that panicked.
    panics,
    /// Answers published.
    replies,
    /// Call-monitor heartbeats published.
    heartbeats,
    /// Answers to callers that named no usable queue.
    replies_without_queue,
    /// Answers whose queue was missing until the end of the retries, or was remembered as missing.
    replies_unroutable,
    /// Answers that were given up for another reason.
    replies_failed,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One thing that a server counts, divided by a label.
pub struct CounterFamily {
    /// The name of the metric, without prefix.
    pub name: &'static str,
    /// What it counts, for people.
    pub help: &'static str,
    /// The label whose values divide it.
    pub label: &'static str,
    /// The count of each value. The values exclude one another, so the counts can be added up.
    pub counts: Vec<(&'static str, u64)>,
}

impl ServerCounters {
    /// The counters as metrics.
    pub fn families(&self) -> Vec<CounterFamily> {
        let family = |name, help, label, counters: &[(&'static str, &AtomicU64)]| {
            let counts = counters.iter().map(|(value, count)| (*value, count.load(Ordering::Relaxed)));
            CounterFamily { name, help, label, counts: counts.collect() }
        };
        vec![
            family(
                "messages",
                "Messages received, by outcome",
                "outcome",
                &[
                    ("dispatched", &self.dispatched),
                    ("batched", &self.batched),
                    ("duplicates", &self.duplicates),
                    ("rejected_user", &self.rejected_user),
                    ("busy", &self.busy),
                    ("malformed_too_large", &self.malformed_too_large),
                    ("malformed_content_type", &self.malformed_content_type),
                    ("malformed_json", &self.malformed_json),
                    ("malformed_envelope", &self.malformed_envelope),
                    ("malformed_request", &self.malformed_request),
                    ("no_such_method", &self.no_such_method),
                    ("unsupported_version", &self.unsupported_version),
                ],
            ),
            family(
                "failures",
                "Dispatched requests that failed, by kind",
                "kind",
                &[
                    ("bad_arguments", &self.bad_arguments),
                    ("refused", &self.refused),
                    ("internal_errors", &self.internal_errors),
                    ("panics", &self.panics),
                ],
            ),
            family(
                "replies",
                "Answers to calls, by outcome",
                "outcome",
                &[
                    ("published", &self.replies),
                    ("without_queue", &self.replies_without_queue),
                    ("unroutable", &self.replies_unroutable),
                    ("failed", &self.replies_failed),
                ],
            ),
        ]
    }

    /// One counter by name. Zero if there is no counter of that name.
    pub fn get(&self, name: &str) -> u64 {
        self.snapshot().into_iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| value)
    }

    pub(super) fn count_fault(&self, fault: MessageFault) {
        count(match fault {
            MessageFault::TooLarge => &self.malformed_too_large,
            MessageFault::ContentType => &self.malformed_content_type,
            MessageFault::NotUtf8 | MessageFault::NotJson | MessageFault::InnerNotJson => {
                &self.malformed_json
            }
            MessageFault::NotAnObject
            | MessageFault::EnvelopeVersion
            | MessageFault::InnerNotText
            | MessageFault::InnerNotAnObject => &self.malformed_envelope,
            MessageFault::Method
            | MessageFault::Arguments
            | MessageFault::Version
            | MessageFault::Namespace => &self.malformed_request,
        });
    }

    pub(super) fn count_error(&self, error: &CallError) {
        count(match error {
            CallError::NoSuchMethod => &self.no_such_method,
            CallError::UnsupportedVersion => &self.unsupported_version,
            CallError::BadArguments { .. } => &self.bad_arguments,
            CallError::Forbidden { .. } | CallError::Failed(_) => &self.refused,
            CallError::Busy { .. } => &self.busy,
            CallError::Internal { .. } => &self.internal_errors,
        });
    }
}
