//! Raw values that depend on the request: members of its server group, cells, metrics, images of instances on the host.
//!
//! What always holds: they are computed for candidates only, and only when there are at least two. Nova does not weigh
//! a single candidate, and a host that the filters refused must not fail the request because it lacks a metric.
//!
//! Left out: how raw values become weights (`weigher.rs`).

use novella_objects::HostStatus;

use crate::filters::by_value::metric;
use crate::filters::group::{Group, ServerGroupPolicy};
use crate::nova::json::Json;
use crate::nova::python;
use crate::request::asked::Asked;
use crate::request::failure::WeigherError;
use crate::settings::options::{self, SchedulerOptions, ratios};
use crate::settings::weigher_kind::WeigherKind;
use crate::table::bitmap::bits;
use crate::table::block::Row;
use crate::table::capabilities::CapabilityKind;
use crate::table::host_table::HostTable;
use crate::weighers::weigher::{Computed, Weigher, WeigherRule};

/// What the raw values of a request are computed from.
pub(crate) struct WeigherContext<'a> {
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) group: Option<&'a Group>,
    pub(crate) options: &'a SchedulerOptions,
    /// The candidates, one bit per row.
    pub(crate) alive: &'a [u64],
}

/// Compiles all weighers, and while a host is suspect the one that puts suspect hosts last. Also returns the candidates
/// that a weigher could not value, with the reason.
pub(crate) fn compile(
    context: &WeigherContext<'_>,
    table: &mut HostTable,
) -> (Vec<Weigher>, Vec<(Row, WeigherError)>) {
    let mut errors = Vec::new();
    let weighers = context.options.weighers.iter().map(|&(kind, multiplier)| {
        let mut weigher = Weigher::compile(kind, multiplier, table);
        match context.raw(kind, &weigher, multiplier, table) {
            Ok(None) => {}
            Ok(Some(computed)) => weigher.set_computed(computed),
            Err(refused) => errors.extend(refused.into_iter().map(|(row, reason)| {
                let host = table.host(row).to_owned();
                (row, WeigherError { weigher: kind, host, reason })
            })),
        }
        weigher
    });
    let mut weighers: Vec<_> = weighers.collect();
    if table.count(HostStatus::Suspect) > 0 {
        weighers.push(Weigher::suspect(&context.options.weighers, table));
    }
    (weighers, errors)
}

/// Counts a member of the group that was just placed on `row`.
pub(crate) fn placed(weighers: &mut [Weigher], group: &Group, row: Row) {
    for weigher in weighers {
        if let (WeigherRule::Configured(kind), Some(computed)) = (weigher.rule, weigher.computed())
            && let Some(sign) = counts(kind, group)
        {
            computed.set_whole(row.index(), sign * group.members_on(row.0));
        }
    }
}

/// The sign with which a weigher counts members of this group, if it counts them.
fn counts(kind: WeigherKind, group: &Group) -> Option<i32> {
    match (kind, group.policy) {
        (WeigherKind::SoftAffinity, ServerGroupPolicy::SoftAffinity) => Some(1),
        (WeigherKind::SoftAntiAffinity, ServerGroupPolicy::SoftAntiAffinity) => Some(-1),
        _ => None,
    }
}

/// The hosts that have no value, each with the reason.
type Unvalued = Vec<(Row, String)>;

impl WeigherContext<'_> {
    /// The column of a weigher whose values depend on this request; `None` if they do not.
    fn raw(
        &self,
        kind: WeigherKind,
        weigher: &Weigher,
        configured: f64,
        table: &HostTable,
    ) -> Result<Option<Computed>, Unvalued> {
        match kind {
            WeigherKind::SoftAffinity | WeigherKind::SoftAntiAffinity => Ok(self.members(kind, table)),
            WeigherKind::CrossCell => Ok(self.cell(table)),
            WeigherKind::Metrics => self.metrics(weigher, table),
            // Nova looks at the configured multiplier alone here: an aggregate cannot switch this weigher on.
            WeigherKind::ImageProperties if configured != 0.0 => Ok(self.neighbours(table)),
            _ => Ok(None),
        }
    }

    /// A column with this value for each candidate.
    fn each(&self, table: &HostTable, mut value: impl FnMut(usize) -> f64) -> Computed {
        let mut column = Computed::zeros(table.columns.exact.len());
        for row in bits(self.alive) {
            column.set(row, value(row));
        }
        column
    }

    /// For each host, the number of members of the request's group, positive or negative.
    fn members(&self, kind: WeigherKind, table: &HostTable) -> Option<Computed> {
        let group = self.group?;
        let sign = counts(kind, group)?;
        let mut column = Computed::zeros(table.columns.exact.len());
        for (row, members) in group.rows() {
            column.set_whole(row as usize, sign * members);
        }
        Some(column)
    }

    /// For each candidate, 1 if it is in the cell that the request prefers, and -1 if not.
    fn cell(&self, table: &HostTable) -> Option<Computed> {
        let spec = self.asked.spec;
        let cell = spec.target_cell.as_deref().filter(|_| spec.allow_cross_cell_move)?;
        Some(self.each(table, |row| if table.cells.get(row) == Some(cell) { 1.0 } else { -1.0 }))
    }

    /// For each candidate, the weighted sum of its metrics.
    fn metrics(&self, weigher: &Weigher, table: &HostTable) -> Result<Option<Computed>, Unvalued> {
        let policy = &self.options.policy;
        let settings: Vec<_> = ratios(&policy.metrics_weight_setting).collect();
        if settings.is_empty() {
            return Ok(None);
        }
        let key = table.capabilities.key(CapabilityKind::Attribute, "metrics");
        let mut refused = Unvalued::new();
        let column = self.each(table, |row| {
            let symbol = table.capabilities.symbols(key).at(row);
            let reported = symbol.map_or(&Json::Null, |symbol| &table.capabilities.value(symbol).value);
            let multiplier = weigher.multiplier(table, row as u32);
            weigh_metrics(reported, &settings, multiplier, policy).unwrap_or_else(|reason| {
                refused.push((Row(row as u32), reason));
                0.0
            })
        });
        if refused.is_empty() { Ok(Some(column)) } else { Err(refused) }
    }

    /// For each candidate, the weighted number of image properties that its instances share with the request's image.
    fn neighbours(&self, table: &HostTable) -> Option<Computed> {
        self.asked.spec.image.as_ref()?;
        let wanted = self.asked.image.all();
        let setting = &self.options.policy.image_props_weight_setting;
        let ratios: Vec<_> = ratios(setting).collect();
        let ratio = |name: &str| match ratios.iter().rev().find(|(of, _)| *of == name) {
            _ if ratios.is_empty() => 1.0,
            Some((_, ratio)) => *ratio,
            None => 0.0,
        };
        let wanted: Vec<_> = wanted.iter().map(|property| (property, ratio(&property.0))).collect();
        Some(self.each(table, |row| {
            let kinds = || table.instances.kinds_on(row).flatten();
            wanted.iter().fold(0.0, |sum, (property, ratio)| {
                let times = kinds().filter(|kind| kind.image.contains(property)).count();
                sum + ratio * times as f64
            })
        }))
    }
}

/// The sum of value × ratio over the configured metrics. If a metric is missing, the value that the settings give to
/// hosts without it, or the reason why that is an error.
fn weigh_metrics(
    reported: &Json,
    settings: &[(&str, f64)],
    multiplier: f64,
    policy: &options::Policy,
) -> Result<f64, String> {
    let mut sum = 0.0;
    for (name, ratio) in settings {
        match metric(reported, name) {
            Some(metric) => sum += metric_value(name, metric)? * ratio,
            None if policy.metrics_required => return Err(format!("it does not report the metric {name}")),
            None if ratio * multiplier != 0.0 => return Ok(policy.metrics_weight_of_unavailable),
            None => {}
        }
    }
    Ok(sum)
}

/// Nova's metrics that are reported as a fraction of one and weighed in percent.
const PERCENTAGES: [&str; 5] =
    ["cpu.percent", "cpu.user.percent", "cpu.kernel.percent", "cpu.idle.percent", "cpu.iowait.percent"];

/// The largest absolute value of a metric. Times a ratio and a multiplier, it stays within the range of `f32`.
const MAX_METRIC: f64 = 1.0e12;

/// The whole number that Nova makes of a metric. Fractions are cut off, not rounded, so 0.29 is 28 %.
fn metric_value(name: &str, metric: &Json) -> Result<f64, String> {
    let value = match metric.get("value") {
        Some(Json::Int(value)) => *value as f64,
        Some(Json::Float(value)) => *value,
        Some(Json::Text(text)) => {
            python::int(text).ok_or_else(|| format!("metric {name} is {text:?}"))? as f64
        }
        _ => return Err(format!("metric {name} has no value")),
    };
    if value.is_nan() || value.abs() > MAX_METRIC {
        return Err(format!("metric {name} is {value}"));
    }
    Ok(if PERCENTAGES.contains(&name) { value * 100.0 } else { value }.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_cut_to_whole_numbers() {
        let reported = Json::parse(
            r#"[{"name":"cpu.percent","value":0.29},{"name":"numa.membw.max","value":7.9},{"name":"x"}]"#,
        )
        .unwrap();
        let policy = options::Policy::default();
        let weigh = |settings: &[(&str, f64)], policy| weigh_metrics(&reported, settings, 1.0, policy);
        assert_eq!(weigh(&[("cpu.percent", 1.0), ("numa.membw.max", -2.0)], &policy), Ok(14.0));
        assert!(weigh(&[("x", 1.0)], &policy).is_err());
        assert!(weigh(&[("cpu.percent", 1.0), ("y", 1.0)], &policy).unwrap_err().contains("metric y"));
        let lenient = options::Policy { metrics_required: false, ..options::Policy::default() };
        assert_eq!(weigh(&[("cpu.percent", 1.0), ("y", 1.0)], &lenient), Ok(-10_000.0));
        assert_eq!(weigh(&[("cpu.percent", 1.0), ("y", 0.0)], &lenient), Ok(28.0));
    }
}
