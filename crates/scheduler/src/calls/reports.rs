//! Reports from the agents, applied to the map in batches.
//!
//! What always holds: the lock is given back after [`HELD_AT_MOST`] and the report at hand, so that a batch of large
//! reports, or of very many, makes no placement wait longer.

use std::time::Duration;

use novella_messaging::{CallError, RequestContext};
use novella_rpcapi::{ReceivedReport, ReportSink};

use crate::manager::SchedulerManager;

/// How long a batch of reports holds the lock before it lets others in.
const HELD_AT_MOST: Duration = Duration::from_millis(1);

impl ReportSink for SchedulerManager {
    fn apply_reports(&self, reports: &[ReceivedReport<'_>]) {
        let (mut core, mut now) = self.core();
        for ReceivedReport { user, report } in reports {
            for capabilities in &report.capabilities.0 {
                if self.env.clock.now().saturating_sub(now) >= HELD_AT_MOST {
                    drop(core);
                    self.let_others_in();
                    (core, now) = self.core();
                }
                let applied =
                    core.hosts.apply_report(*user, &report.service_name, &report.host, capabilities, now);
                if !applied.is_accepted() {
                    self.refused_reports.log(*user, report, &applied);
                }
            }
        }
        drop(core);
        self.host_clocks.record(self.report_lag.record(reports, self.env.clock.wall()), now);
    }

    fn bad_report(&self, context: &RequestContext, reason: &CallError) {
        self.refused_reports.log_unreadable(context.user_id.as_deref(), reason);
    }
}
