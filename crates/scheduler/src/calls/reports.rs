//! Reports from the agents, applied to the map in batches under one lock.

use novella_messaging::{CallError, RequestContext};
use novella_objects::UpdateServiceCapabilities;
use novella_rpcapi::ReportSink;

use crate::manager::SchedulerManager;

impl ReportSink for SchedulerManager {
    fn apply_reports(&self, reports: &[UpdateServiceCapabilities<'_>]) {
        let (mut core, now) = self.core();
        for report in reports {
            for capabilities in &report.capabilities.0 {
                let applied = core.hosts.apply_report(&report.service_name, &report.host, capabilities, now);
                if !applied.is_accepted() {
                    self.refused_reports.log(report, &applied);
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
