//! The demo without a terminal: lines for people, also in a log.
//!
//! Each second gets one line about the fleet, a few lines about placements and refusals, and a line for each rarer
//! event. Lines that are left out are counted.

use std::io::Write;

use super::view::{DemoEvent, DemoSummary, Sample, View};
use crate::output::printable;
use crate::units;

/// The most lines about instances that come and go in one second.
const PLACED_PER_SECOND: usize = 4;
/// The most lines about refusals in one second.
const REFUSED_PER_SECOND: usize = 3;
/// The seconds between two tables of all hosts.
const TABLE_EVERY: u64 = 5;

/// The demo as lines.
pub struct Lines<'a> {
    out: &'a mut (dyn Write + Send),
    /// The second of the last line about the fleet.
    second: Option<u64>,
    /// How many more lines may be written in this second.
    budget: Budget,
    /// How many lines were left out in this second.
    left_out: usize,
}

struct Budget {
    placed: usize,
    refused: usize,
}

const FULL: Budget = Budget { placed: PLACED_PER_SECOND, refused: REFUSED_PER_SECOND };

impl<'a> Lines<'a> {
    /// Writes the lines to `out`.
    pub fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self { out, second: None, budget: FULL, left_out: 0 }
    }

    fn line(&mut self, seconds: f64, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "{seconds:7.2}s  {}", printable(text))?)
    }
}

impl View for Lines<'_> {
    fn event(&mut self, seconds: f64, event: &DemoEvent) -> anyhow::Result<()> {
        let budget = match event {
            DemoEvent::Placed { .. } | DemoEvent::Built { .. } | DemoEvent::Deleted { .. } => {
                Some(&mut self.budget.placed)
            }
            DemoEvent::Refused { .. } => Some(&mut self.budget.refused),
            _ => None,
        };
        match budget {
            Some(0) => {
                self.left_out += 1;
                return Ok(());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.line(seconds, &sentence(event))
    }

    fn look(&mut self, seconds: f64, sample: &Sample) -> anyhow::Result<()> {
        let second = seconds as u64;
        if self.second == Some(second) {
            return Ok(());
        }
        if self.left_out > 0 {
            let left_out = std::mem::take(&mut self.left_out);
            self.line(seconds, &format!("... and {left_out} more"))?;
        }
        self.budget = FULL;
        if self.second.is_none_or(|last| last / TABLE_EVERY != second / TABLE_EVERY) {
            for host in &sample.hosts {
                let share = |used: u64, total: u64| used as f64 * 100.0 / total.max(1) as f64;
                let text = format!(
                    "host      {:<9} {:<9} {:<6} cpu {:>3.0}% {:<7} ram {:>3.0}% {:<12} disk {:>3.0}% {}",
                    host.host,
                    host.state.as_str(),
                    host.availability_zone,
                    share(host.vcpus_used, host.vcpus),
                    format!("{}/{}", host.vcpus_used, host.vcpus),
                    share(host.memory_mb_used, host.memory_mb),
                    format!("{}/{}", units::mib(host.memory_mb_used), units::mib(host.memory_mb)),
                    share(host.disk_gb_used, host.disk_gb),
                    format_args!("{}/{}", units::gib(host.disk_gb_used), units::gib(host.disk_gb)),
                );
                self.line(seconds, &text)?;
            }
        }
        self.second = Some(second);
        self.line(seconds, &format!("fleet     {}", totals(seconds, sample).join("  ")))?;
        Ok(self.out.flush()?)
    }
}

/// The fleet in two short lines: one about room, one about requests.
pub fn totals(seconds: f64, sample: &Sample) -> [String; 2] {
    let counts = &sample.counts;
    let decided = counts.placed + counts.refused;
    let (used, total) =
        sample.hosts.iter().fold((0, 0), |(used, total), h| (used + h.vcpus_used, total + h.vcpus));
    [
        format!(
            "{} {:>3} instances  cpu {used}/{total}  reports {}",
            if sample.filling { "filling " } else { "draining" },
            sample.instances,
            counts.reports,
        ),
        format!(
            "placed {} ({:.1}/s)  refused {}  p50 {}  p99 {}",
            counts.placed,
            decided as f64 / seconds.max(1.0),
            counts.refused,
            units::latency(sample.p50),
            units::latency(sample.p99),
        ),
    ]
}

/// An event in one line.
pub fn sentence(event: &DemoEvent) -> String {
    match event {
        DemoEvent::Placed { flavor, host, weight, alternates, latency_ms } => {
            let next = if alternates.is_empty() {
                String::new()
            } else {
                format!(", next best {}", alternates.join(", "))
            };
            format!("placed    {flavor:<7} on {host:<9} weight {weight:.2}, {latency_ms:.2} ms{next}")
        }
        DemoEvent::Refused { flavor, reason, .. } => format!("refused   {flavor:<7} {reason}"),
        DemoEvent::HostRefused { flavor, host, reason } => {
            format!("refused   {flavor:<7} by {host}: {reason}; another host is chosen")
        }
        DemoEvent::Built { flavor, host, after_s } => {
            format!("built     {flavor:<7} on {host:<9} after {}", units::age(*after_s))
        }
        DemoEvent::BuildFailed { flavor, host } => {
            format!("failed    {flavor:<7} on {host:<9} while it was built; it is asked for again")
        }
        DemoEvent::Deleted { flavor, host, after_s } => {
            format!("deleted   {flavor:<7} on {host:<9} after {}", units::age(*after_s))
        }
        DemoEvent::Failed { what, error } => format!("failed    {what}: {error}"),
        DemoEvent::Silenced { host } => format!("silent    {host}: cut off from the bus"),
        DemoEvent::Heard { host } => format!("heard     {host}: back on the bus"),
        DemoEvent::HostStatus { host, from, to } => {
            format!("{:<9} {host}: was {}", to.as_str(), from.as_str())
        }
    }
}

/// The summary for people.
pub fn summary(summary: &DemoSummary) -> String {
    let counts = &summary.counts;
    let per_second = |count: u64| count as f64 / summary.seconds.max(0.001);
    let lines = [
        format!("demo        {:.1} s, {} hosts, seed {}", summary.seconds, summary.hosts, summary.seed),
        format!(
            "decisions   {} ({:.1}/s): {} placed, {} refused, {} without an answer; {} refused by a host",
            summary.decisions,
            per_second(summary.decisions),
            counts.placed,
            counts.refused,
            counts.failed,
            counts.refused_by_hosts
        ),
        format!(
            "instances   {} built, {} builds failed and were asked for again, {} deleted",
            counts.built, counts.builds_failed, counts.deleted
        ),
        format!(
            "latency     p50 {}, p99 {} from request to answer",
            units::milliseconds(summary.p50_ms),
            units::milliseconds(summary.p99_ms)
        ),
        format!(
            "reports     {} applied ({:.1}/s); hosts: {} down, {} back up",
            counts.reports,
            per_second(counts.reports),
            counts.went_down,
            counts.came_back
        ),
    ];
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}
