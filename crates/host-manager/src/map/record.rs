//! What the manager keeps of a host in addition to its row in the table, and how a report's amounts are counted.
//!
//! What always holds: measured load is shown, but never counted as used for a host that reports claims.

use std::time::Duration;

use hashbrown::HashMap;
use novella_filter_scheduler::Resources;
use novella_objects::{Capabilities, HostStatus, HostWarning, Inventory, Measured, Reserved};
use novella_resources::Amounts;
use uuid::Uuid;

use crate::report::claims::Claims;
use crate::report::grants::Grants;
use crate::report::identity::Identity;
use crate::report::kept::Kept;
use crate::report::liveness::{Hearing, Liveness};
use crate::report::newcomers::Answers;
use crate::report::quarrel::Quarrel;
use crate::report::reported::Reported;

/// How many warnings are kept of one host. The oldest is dropped for a further one.
const MAX_WARNINGS: usize = 8;

/// Who reports for a host, its last report, and what is held on it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The identity of the reporter. `None` if it has none, like reporters of 2012.
    pub identity: Option<Identity>,
    /// The broker user who first reported this host. Only this one may report it. `None` if no report had a user.
    pub owner: Option<Box<str>>,
    /// Whether another process reports as this host, and which one keeps it.
    pub quarrel: Quarrel,
    /// Whether the host has answered under its own queue.
    pub answers: Answers,
    /// When the host was last heard.
    pub hearing: Hearing,
    /// The words and integers of the last report.
    pub reported: Reported,
    /// How many bytes are kept of the report.
    pub kept: Kept,
    /// The instances that the host lists.
    pub claims: Claims,
    /// What the host says of the claims that it granted.
    pub grants: Grants,
    /// Whether the host grants claims and holds itself.
    pub grants_claims: bool,
    /// The disk that is really left, if the host says so, GiB.
    pub disk_available_least: Option<i64>,
    /// The instances that the last report listed as held, in order.
    pub listed_holds: Vec<Uuid>,
    /// What the host reserves for itself.
    pub reserved: Reserved,
    /// The measured load of the host, which is only shown.
    pub measured: Measured,
    /// The time of the last report by the sender's wall clock, as it was sent.
    pub sent_at: String,
    /// The interval at which the host reports, in milliseconds.
    pub interval_ms: u64,
    /// The probes that did not answer, each with the age in milliseconds of the values that were reported instead.
    pub stale_probes: Vec<(Box<str>, u64)>,
    /// How many of the claims the table does not list, because too many hosts claim the same instance.
    pub unlisted_claims: u32,
    /// How many reservations count on this host.
    pub held: u32,
    /// Whether a report was missed, so that the host should publish again.
    pub ask_again: bool,
    /// Warnings about the host, each with the time until which it is shown.
    pub warnings: Vec<(HostWarning, Duration)>,
    /// Until when a clone of the identity may be about. Until then a goodbye does not free the identity, because the
    /// clone would take it while the host restarts.
    pub contested_until: Duration,
}

impl Record {
    pub fn new(now: Duration) -> Self {
        Self { hearing: Hearing::new(now, false), ..Self::default() }
    }

    /// What the host is, if its reports say this.
    pub fn status(&self, liveness: Liveness) -> HostStatus {
        match liveness.status(self.reported.disabled) {
            HostStatus::Up if self.answers.is_suspect() => HostStatus::Suspect,
            status => status,
        }
    }

    /// Shows a warning until `until`. If the same warning is already shown, it is shown longer. Returns whether it was
    /// not shown before.
    pub fn warn(&mut self, warning: HostWarning, now: Duration, until: Duration) -> bool {
        let shown = self.warnings.iter().any(|(known, end)| *end > now && *known == warning);
        self.warnings.retain(|(known, end)| *end > now && *known != warning);
        if self.warnings.len() == MAX_WARNINGS {
            self.warnings.remove(0);
        }
        self.warnings.push((warning, until));
        !shown
    }

    /// Ends a warning. Returns whether it was kept.
    pub fn unwarn(&mut self, warning: &HostWarning) -> bool {
        let before = self.warnings.len();
        self.warnings.retain(|(known, _)| known != warning);
        self.warnings.len() < before
    }

    /// Takes over the parts that change with every report.
    pub fn refresh(&mut self, caps: &Capabilities<'_>) {
        let Some(report) = &caps.novella else { return };
        self.grants_claims = report.grants;
        self.disk_available_least = report.disk_available_least;
        self.reserved = report.reserved;
        self.measured = report.measured;
        self.interval_ms = report.interval_ms;
        self.sent_at.clear();
        self.sent_at.push_str(&report.sent_at);
        if !(self.stale_probes.is_empty() && report.stale_probes.is_empty()) {
            self.stale_probes = report.stale_probes.iter().map(|(name, age)| (name.into(), *age)).collect();
        }
    }
}

/// The amounts that placement counts. If the report has novella's part, what is reserved and claimed is used, and
/// measured load does not count, except for a disk that has less left than that, as in Nova. If not, what the sender calls
/// free is free.
pub(crate) fn resources(caps: &Capabilities<'_>) -> Resources {
    let total = |value: Option<i64>| value.map_or(0, |v| v.max(0) as u64);
    let (vcpus, memory, disk) = (total(caps.vcpus), total(caps.host_memory_total), total(caps.disk_total));
    let (num_io_ops, failed_builds) =
        caps.novella.as_ref().map_or((0, 0), |report| (report.num_io_ops, report.failed_builds));
    let (used, ratios) = match &caps.novella {
        Some(report) => {
            let reserved = Amounts::of_reserved(&report.reserved);
            let mut used = report.claims.iter().map(Amounts::of_claim).fold(reserved, Amounts::plus);
            if let Some(least) = report.disk_available_least {
                used.disk_gb = used.disk_gb.max(used_of(disk, Some(least)));
            }
            (used, report.allocation_ratios)
        }
        None => {
            // An amount without a free part counts as full, because nothing may be placed on a guess.
            let disk_free = caps.disk_available.or_else(|| Some(caps.disk_total? - caps.disk_used?));
            let used = Amounts {
                vcpus: total(caps.vcpus_used),
                memory_mb: used_of(memory, caps.host_memory_free),
                disk_gb: used_of(disk, disk_free),
                instances: 0,
            };
            (used, novella_objects::AllocationRatios { cpu: 1.0, ram: 1.0, disk: 1.0 })
        }
    };
    Resources {
        vcpus_total: vcpus,
        vcpus_used: used.vcpus,
        memory_mb_total: memory,
        memory_mb_used: used.memory_mb,
        disk_gb_total: disk,
        disk_gb_used: used.disk_gb,
        ratios,
        num_instances: used.instances,
        num_io_ops,
        failed_builds,
    }
}

/// The inventories of further resource classes, each with what claims take of it.
pub(crate) fn inventories<'c>(caps: &'c Capabilities<'_>) -> Vec<(&'c str, Inventory, u64)> {
    let Some(report) = caps.novella.as_deref().filter(|report| !report.resources.is_empty()) else {
        return Vec::new();
    };
    // What is taken of each class, with the last claim that was counted. Of a class that a claim names twice, the last
    // amount counts.
    let mut taken: HashMap<&str, (u64, usize)> = HashMap::new();
    for (at, claim) in report.claims.iter().enumerate() {
        for (class, amount) in claim.resources.0.iter().rev() {
            let (sum, last) = taken.entry(&**class).or_insert((0, usize::MAX));
            if std::mem::replace(last, at) != at {
                *sum = sum.saturating_add(*amount);
            }
        }
    }
    let of_class = |(class, inventory): (&'c str, &Inventory)| {
        (class, *inventory, taken.get(class).map_or(0, |(sum, _)| *sum))
    };
    report.resources.iter().map(of_class).collect()
}

/// What is used of an amount. A negative free amount means that more is used than there is; an unknown one means that
/// everything is used.
fn used_of(total: u64, free: Option<i64>) -> u64 {
    match free {
        Some(free) if free < 0 => total.saturating_add(free.unsigned_abs()),
        Some(free) => total.saturating_sub(free.unsigned_abs()),
        None => total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_our_part_the_free_amounts_count() {
        for (text, memory, disk, vcpus) in [
            (
                r#"{"vcpus":8,"vcpus_used":3,"host_memory_total":100,"host_memory_free":40,"disk_total":50,"disk_available":20}"#,
                60,
                30,
                3,
            ),
            (
                r#"{"vcpus":8,"host_memory_total":100,"host_memory_free":-40,"disk_total":50,"disk_used":20}"#,
                140,
                20,
                0,
            ),
            (r#"{"vcpus":8,"host_memory_total":100,"host_memory_free":400,"disk_total":50}"#, 0, 50, 0),
            (r#"{"host_memory_total":100,"disk_total":50}"#, 100, 50, 0),
        ] {
            let got = resources(&serde_json::from_str(text).unwrap());
            assert_eq!(
                (got.memory_mb_used, got.disk_gb_used, got.vcpus_used),
                (memory, disk, vcpus),
                "{text}"
            );
        }
    }

    #[test]
    fn with_our_part_measured_load_never_counts() {
        let text = r#"{"vcpus":8,"vcpus_used":7,"host_memory_total":100,"host_memory_free":1,"disk_total":50,"disk_used":49,
            "disk_available":1,"novella":{"uuid":"00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,"seq":1,
            "sent_at":"","interval_ms":1,"reserved":{"vcpus":1,"memory_mb":10,"disk_gb":2},"claims":[
            {"uuid":"00000000-0000-0000-0000-000000000002","vcpus":2,"memory_mb":20,"disk_gb":3},
            {"uuid":"00000000-0000-0000-0000-000000000003","vcpus":1,"memory_mb":1,"disk_gb":0}]}}"#;
        let got = resources(&serde_json::from_str(text).unwrap());
        assert_eq!((got.vcpus_used, got.memory_mb_used, got.disk_gb_used, got.num_instances), (4, 31, 5, 2));
        assert_eq!(got.ratios.cpu, 4.0);
    }

    #[test]
    fn the_disk_counts_that_is_really_left_if_it_is_less() {
        for (least, used) in [("60", 45), ("45", 55), ("44", 56), ("0", 100), ("-7", 107), ("null", 45)] {
            let text = format!(
                r#"{{"disk_total":100,"novella":{{"uuid":"00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,
                "seq":1,"sent_at":"","interval_ms":1,"reserved":{{"disk_gb":5}},"disk_available_least":{least},"claims":[
                {{"uuid":"00000000-0000-0000-0000-000000000002","vcpus":2,"memory_mb":20,"disk_gb":40}}]}}}}"#
            );
            let got = resources(&serde_json::from_str(&text).unwrap());
            assert_eq!(got.disk_gb_used, used, "{least}");
        }
    }
}
