//! The errors of calls, by who has to act.
//!
//! - The caller must change the request: bad arguments.
//! - The operator must correct the policy, because the request fails with it: the remote error
//!   [`POLICY_ERROR`](novella_rpcapi::POLICY_ERROR), which names the key of the policy. It is logged once for each key
//!   until the policy changes.
//! - The developers of novella must fix a defect: internal error.
//!
//! Left out: requests that no host fits. That is an answer and not an error.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use novella_filter_scheduler::{Failure, FilterKind, WeigherKind};
use novella_messaging::CallError;
use novella_rpcapi::policy_error;
use tracing::warn;

/// A request that the caller must change.
pub(crate) fn bad_arguments(reason: impl Into<String>) -> CallError {
    CallError::BadArguments { reason: reason.into() }
}

/// A defect of this program.
pub(crate) fn internal(error: impl Display) -> CallError {
    CallError::Internal { message: error.to_string() }
}

/// Turns the engine's failures into errors of calls, and remembers which faults of the policy were logged.
#[derive(Debug, Default)]
pub(crate) struct PolicyFaults {
    /// Requests that failed because of the policy.
    pub(crate) requests: AtomicU64,
    /// Keys of the current policy that were logged. There are few: options, sections and flavors.
    logged: Mutex<BTreeSet<String>>,
}

impl PolicyFaults {
    /// The error of a call whose request the engine could not decide.
    pub(crate) fn call_error(&self, failure: &Failure) -> CallError {
        match policy_key(failure) {
            None => bad_arguments(failure.to_string()),
            Some(key) => self.raise(key, failure),
        }
    }

    /// The error of a call whose request names something that the policy does not have. If the name comes from a flavor
    /// of the policy, the policy is at fault and not the caller.
    pub(crate) fn unresolved(&self, failure: &Failure, flavor: Option<&str>) -> CallError {
        match (failure, flavor) {
            (Failure::Unknown { what: "PCI alias", .. } | Failure::Devices(_), Some(flavor)) => {
                self.raise(&format!("flavors.{flavor}.extra_specs"), failure)
            }
            _ => self.call_error(failure),
        }
    }

    /// Forgets what was logged, because another policy is in force now.
    pub(crate) fn forget(&self) {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn raise(&self, key: &str, failure: &Failure) -> CallError {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let reason = failure.to_string();
        if self.is_news(key) {
            warn!(key, reason, "a request failed because of the policy; correct the policy at this key");
        }
        policy_error(key, &reason)
    }

    fn is_news(&self, key: &str) -> bool {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned())
    }
}

/// The key at which the policy is wrong. `None` if the policy is not the reason of the failure.
fn policy_key(failure: &Failure) -> Option<&'static str> {
    match failure {
        // These filters compare the request with metadata, and read nothing else.
        Failure::Filter(error) if asks_aggregates(error.filter) => Some("aggregates"),
        // The others read hints, extra specs and the image of the request.
        Failure::Filter(_) => None,
        Failure::Weigher(error) if error.weigher == WeigherKind::Metrics => Some("metrics.weight_setting"),
        Failure::Weigher(_) => Some("filter_scheduler.weight_classes"),
        Failure::NotConfigured { missing, .. } if missing.ends_with("Filter") => {
            Some("filter_scheduler.enabled_filters")
        }
        Failure::NotConfigured { .. } => Some("filter_scheduler.weight_classes"),
        // Only the inspection of a single host fails like this.
        Failure::NoValidHost { .. } => None,
        Failure::Image(_)
        | Failure::Unknown { .. }
        | Failure::Devices(_)
        | Failure::Feature(_)
        | Failure::Invalid { .. } => None,
    }
}

fn asks_aggregates(filter: FilterKind) -> bool {
    matches!(
        filter,
        FilterKind::AggregateInstanceExtraSpecs
            | FilterKind::AggregateImagePropertiesIsolation
            | FilterKind::AggregateMultiTenancyIsolation
            | FilterKind::AggregateTypeAffinity
            | FilterKind::AggregateCore
            | FilterKind::AggregateRam
            | FilterKind::AggregateDisk
            | FilterKind::AggregateIoOps
            | FilterKind::AggregateNumInstances
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_news_once_for_each_policy() {
        let faults = PolicyFaults::default();
        assert!(faults.is_news("aggregates") && faults.is_news("metrics.weight_setting"));
        assert!(!faults.is_news("aggregates"));
        faults.forget();
        assert!(faults.is_news("aggregates"));
    }
}
