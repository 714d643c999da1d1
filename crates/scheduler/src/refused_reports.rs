//! Reports that were refused, counted and logged so that an operator sees what to do.
//!
//! A fault is logged when it first appears and whenever its count doubles. So it is seen at once, and a flood does not
//! fill the log. Copied identities and duplicate names are events of the map (`map_events.rs`), because they last.

use std::sync::atomic::{AtomicU64, Ordering};

use novella_host_manager::Applied;
use novella_messaging::{ANONYMOUS, CallError, beginning};
use novella_objects::UpdateServiceCapabilities;
use tracing::{debug, warn};

/// How many bytes of a name are logged.
const SHOWN_NAME: usize = 200;

/// How many reports were refused, by what an operator has to do about it.
#[derive(Debug, Default)]
pub(crate) struct RefusedReports {
    too_many: AtomicU64,
    too_many_new: AtomicU64,
    bad: AtomicU64,
    other_user: AtomicU64,
    unreadable: AtomicU64,
}

impl RefusedReports {
    /// Logs a report that the map did not accept.
    pub(crate) fn log(&self, user: Option<&str>, report: &UpdateServiceCapabilities<'_>, applied: &Applied) {
        // These names may be the reason for which the report is refused.
        let (host, service) =
            (&*beginning(&report.host, SHOWN_NAME), &*beginning(&report.service_name, SHOWN_NAME));
        match applied {
            Applied::TooMany if count(&self.too_many) => {
                warn!(
                    host,
                    service,
                    "the map is full, so this host is not added; raise reports.max_hosts, or forget hosts that are gone with \
                 `novella host forget`"
                )
            }
            Applied::TooManyNew if count(&self.too_many_new) => warn!(
                host,
                service,
                user = user.unwrap_or(ANONYMOUS),
                "this broker user has reported too many new hosts within a minute, so this one is not added yet; if they are \
                 real, wait, or raise reports.new_hosts_per_minute"
            ),
            Applied::OtherUser { owner } if count(&self.other_user) => warn!(
                host,
                service,
                user = user.unwrap_or(ANONYMOUS),
                owner,
                "refused a report, because this host or service belongs to another broker user; if the new user is right, \
                 run `novella host forget` for the host"
            ),
            Applied::Bad(bad) if count(&self.bad) => {
                warn!(host, service, %bad, "refused a report with an invalid value")
            }
            _ => debug!(host, service, outcome = ?applied, "report not applied"),
        }
    }

    /// Logs a report whose arguments could not be read.
    pub(crate) fn log_unreadable(&self, user_id: Option<&str>, reason: &CallError) {
        if count(&self.unreadable) {
            warn!(user_id, %reason, "dropped a report that cannot be read");
        }
    }

    /// How many reports could not be read.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }
}

/// Counts one more. Returns whether to log it.
fn count(counter: &AtomicU64) -> bool {
    (counter.fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two()
}
