//! Changes to a request or to a host, applied for the time of one trial.
//!
//! What always holds: after a trial the table is as it was, to the last bit.

use novella_objects::{Change, Part, Quantity, RequestSpec};

use crate::host_table::{Exact, HostTable};
use crate::select::{FilterScheduler, Terms};
use crate::{Row, Status};

impl FilterScheduler {
    /// Where the first instance of a request would go after these changes; `None` if it does not fit, or if a host of
    /// them is gone. Nothing is consumed.
    pub fn try_changes(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        changes: &[Change],
    ) -> Option<String> {
        let mut spec = spec.clone();
        let mut before: Vec<(Row, Exact)> = Vec::new();
        let mut known = true;
        for change in changes {
            if let Some(host) = host_of(change) {
                match table.row_of(host) {
                    None => known = false,
                    Some(row) => {
                        let mut exact = table.columns.exact[row.index()];
                        before.push((row, exact));
                        change_host(&mut exact, change);
                        table.set_exact(row, exact);
                    }
                }
            } else {
                change_request(&mut spec, change);
            }
        }
        let selected = known.then(|| self.select(table, &spec, &Terms { dry_run: true, ..Terms::default() }));
        for (row, exact) in before.into_iter().rev() {
            table.set_exact(row, exact);
        }
        let selected = selected.filter(|selected| selected.failure.is_none())?;
        selected.picks.first().map(|pick| table.host(pick.row).to_owned())
    }
}

/// The host that a change is made on, if it is none of the request.
fn host_of(change: &Change) -> Option<&str> {
    match change {
        Change::Free { host, .. } | Change::RaiseRatio { host, .. } | Change::Enable { host, .. } => {
            Some(host)
        }
        Change::Ask { .. } | Change::Drop { .. } => None,
    }
}

fn change_host(exact: &mut Exact, change: &Change) {
    match change {
        Change::Free { amount, by, .. } => {
            // What is reported goes first, then what was placed since.
            let (reported, consumed) = (&mut exact.reported, &mut exact.consumed);
            let (of_report, since) = match amount {
                Quantity::Vcpus => (&mut reported.vcpus_used, &mut consumed.vcpus),
                Quantity::MemoryMb => (&mut reported.memory_mb_used, &mut consumed.memory_mb),
                Quantity::DiskGb => (&mut reported.disk_gb_used, &mut consumed.disk_gb),
                Quantity::Instances => {
                    let by = u32::try_from(*by).unwrap_or(u32::MAX);
                    let first = by.min(reported.num_instances);
                    reported.num_instances -= first;
                    consumed.instances = consumed.instances.saturating_sub(by - first);
                    return;
                }
            };
            let first = (*by).min(*of_report);
            *of_report -= first;
            *since = since.saturating_sub(by - first);
        }
        Change::RaiseRatio { amount, to, .. } => match amount {
            Quantity::Vcpus => exact.reported.ratios.cpu = *to,
            Quantity::MemoryMb => exact.reported.ratios.ram = *to,
            Quantity::DiskGb => exact.reported.ratios.disk = *to,
            Quantity::Instances => {}
        },
        Change::Enable { .. } => exact.status = Status::Up,
        Change::Ask { .. } | Change::Drop { .. } => {}
    }
}

/// Changes a request; what is a host's is left alone.
pub fn change_request(spec: &mut RequestSpec, change: &Change) {
    match change {
        Change::Ask { amount, to, .. } => match amount {
            Quantity::Vcpus => spec.flavor.vcpus = u32::try_from(*to).unwrap_or(u32::MAX),
            Quantity::MemoryMb => spec.flavor.memory_mb = *to,
            Quantity::DiskGb => {
                // The root disk is what instances start from, so the ephemeral one gives way first.
                spec.flavor.root_gb = spec.flavor.root_gb.min(*to);
                spec.flavor.ephemeral_gb = to - spec.flavor.root_gb;
            }
            Quantity::Instances => spec.instance_uuids.truncate(usize::try_from(*to).unwrap_or(usize::MAX)),
        },
        Change::Drop { part } => match part {
            Part::AvailabilityZone(_) => spec.availability_zone = None,
            Part::ExtraSpec(key) => drop(spec.flavor.extra_specs.remove(key)),
            Part::Hint(key) => drop(spec.scheduler_hints.remove(key)),
            Part::ImageProperty(key) => {
                if let Some(image) = &mut spec.image {
                    image.properties.remove(key);
                }
            }
            Part::ServerGroup(_) => spec.instance_group = None,
            Part::TargetHost(_) => (spec.target_host, spec.target_node) = (None, None),
            Part::IgnoreHosts => spec.ignore_hosts.clear(),
            Part::Retry => spec.retry = None,
        },
        Change::Free { .. } | Change::RaiseRatio { .. } | Change::Enable { .. } => {}
    }
}

/// Everything of a request that can be left out.
pub(crate) fn parts(spec: &RequestSpec) -> Vec<Part> {
    let zone = spec.availability_zone.iter().filter(|zone| !zone.is_empty()).cloned();
    let specs = spec.flavor.extra_specs.keys().cloned();
    let hints = spec.scheduler_hints.keys().filter(|key| !key.starts_with("_nova")).cloned();
    let image = spec.image.iter().flat_map(|image| image.properties.keys().cloned());
    let group = spec.instance_group.iter().map(|group| group.policy.clone());
    zone.map(Part::AvailabilityZone)
        .chain(specs.map(Part::ExtraSpec))
        .chain(hints.map(Part::Hint))
        .chain(image.map(Part::ImageProperty))
        .chain(group.map(Part::ServerGroup))
        .chain(spec.target_host.iter().cloned().map(Part::TargetHost))
        .chain((!spec.ignore_hosts.is_empty()).then_some(Part::IgnoreHosts))
        .chain(spec.retry.is_some().then_some(Part::Retry))
        .collect()
}
