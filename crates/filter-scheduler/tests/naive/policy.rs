//! The rules of the filters and weighers that read aggregates, instances, groups and hints, as simply as possible. They
//! handle the values that the test generates, and no others.

use std::collections::{BTreeMap, BTreeSet};

use novella_filter_scheduler::{Aggregate, FilterKind, WeigherKind};
use uuid::Uuid;

use super::{Host, Naive, Verdict, plain};

/// What is known of a request's group while its instances are placed.
#[derive(Debug, Clone)]
pub struct GroupState {
    pub policy: String,
    pub members: BTreeSet<Uuid>,
    pub hosts: BTreeSet<String>,
    pub most: i64,
}

pub const QUERIES_ROOM: &str = r#"[">=", "$free_ram_mb", 4096]"#;
pub const QUERIES_NOT: &str = r#"["not", ["=", "$num_instances", 0]]"#;
pub const QUERIES_OR: &str = r#"["or", ["<", "$vcpus_used", 2], ["=", "$hypervisor_version", 2]]"#;
pub const QUERIES_ERROR: &str = r#"["or", true, ["<", "$host", 5]]"#;

/// Whether one more instance is within the limit.
fn fewer(count: i64, limit: f64) -> Verdict {
    let room = limit - count as f64;
    if room > 0.0 { Verdict::Pass } else { Verdict::Reject(Some((1.0, room))) }
}

/// The aggregates of a host.
fn aggregates<'a>(all: &'a [Aggregate], host: &Host) -> Vec<&'a Aggregate> {
    all.iter().filter(|aggregate| host.aggregates.contains(&aggregate.id)).collect()
}

/// The distinct values of a key, as they are written.
fn raw<'a>(all: &'a [Aggregate], host: &Host, key: &str) -> BTreeSet<&'a str> {
    aggregates(all, host).iter().filter_map(|a| a.metadata.get(key)).map(String::as_str).collect()
}

/// The distinct values of all keys, split at commas.
fn split<'a>(all: &'a [Aggregate], host: &Host) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut out: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for aggregate in aggregates(all, host) {
        for (key, value) in &aggregate.metadata {
            out.entry(key).or_default().extend(value.split(',').map(str::trim));
        }
    }
    out
}

/// The zones of the aggregates of a host, if there are any.
pub fn zones<'a>(all: &'a [Aggregate], host: &Host) -> Option<BTreeSet<&'a str>> {
    split(all, host).remove("availability_zone")
}

/// The smallest value of a key; the default if there is none, or if one cannot be read.
pub fn smallest(all: &[Aggregate], host: &Host, key: &str, default: f64) -> f64 {
    let values: Option<Vec<f64>> = raw(all, host, key).iter().map(|value| value.parse().ok()).collect();
    values.unwrap_or_default().into_iter().reduce(f64::min).unwrap_or(default)
}

impl Naive<'_> {
    pub(super) fn policy_verdict(
        &self,
        kind: FilterKind,
        host: &Host,
        group: Option<&GroupState>,
        instance: Uuid,
    ) -> Verdict {
        let (request, policy) = (self.request, &self.options.policy);
        let hint = |name: &str| -> Vec<Uuid> {
            let hinted = request.scheduler_hints.get(name).and_then(|hint| hint.as_array());
            hinted.into_iter().flatten().map(|v| v.as_str().unwrap().parse().unwrap()).collect()
        };
        let image = |name: &str| request.image.as_ref()?.properties.get(name)?.as_str();
        match kind {
            FilterKind::AllHosts => Verdict::Pass,
            FilterKind::IoOps => fewer(host.io_ops(), policy.max_io_ops_per_host as f64),
            FilterKind::NumInstances => fewer(host.num_instances(), policy.max_instances_per_host as f64),
            FilterKind::AggregateIoOps => {
                let configured = policy.max_io_ops_per_host as f64;
                fewer(host.io_ops(), smallest(self.aggregates, host, "max_io_ops_per_host", configured))
            }
            FilterKind::AggregateNumInstances => {
                let configured = policy.max_instances_per_host as f64;
                let limit = smallest(self.aggregates, host, "max_instances_per_host", configured);
                fewer(host.num_instances(), limit)
            }
            FilterKind::SameHost => {
                let uuids = hint("same_host");
                plain(uuids.is_empty() || uuids.iter().any(|uuid| host.instances.contains(uuid)))
            }
            FilterKind::DifferentHost => {
                plain(!hint("different_host").iter().any(|uuid| host.instances.contains(uuid)))
            }
            FilterKind::Retry => {
                let node = format!("node-{}", host.name);
                plain(
                    !request.retry.iter().flat_map(|r| &r.hosts).any(|(h, n)| *h == host.name && *n == node),
                )
            }
            FilterKind::IsolatedHosts => {
                let id = request.image.as_ref().and_then(|image| image.id.as_ref());
                let of_image = id.is_some_and(|id| policy.isolated_images.contains(id));
                let of_host = policy.isolated_hosts.contains(&host.name);
                let restrict = policy.restrict_isolated_hosts_to_isolated_images;
                plain(if policy.isolated_images.is_empty() {
                    !restrict || !of_host
                } else if restrict {
                    of_image == of_host
                } else {
                    !of_image || of_host
                })
            }
            FilterKind::TypeAffinity => {
                plain(host.instance_flavors.iter().all(|flavor| *flavor == request.flavor.name))
            }
            FilterKind::ServerGroupAffinity => plain(group.is_none_or(|group| {
                group.policy != "affinity" || group.hosts.is_empty() || group.hosts.contains(&host.name)
            })),
            FilterKind::ServerGroupAntiAffinity => match group.filter(|g| g.policy == "anti-affinity") {
                None => Verdict::Pass,
                Some(_) if host.instances.contains(&instance) => Verdict::Pass,
                Some(group) => {
                    fewer(host.instances.intersection(&group.members).count() as i64, group.most as f64)
                }
            },
            FilterKind::ImageProperties => {
                let words: Vec<&str> =
                    ["hw_architecture", "img_hv_type", "hw_vm_mode"].into_iter().filter_map(image).collect();
                let Some(supported) = &host.supported else { return plain(words.is_empty()) };
                plain(
                    words.is_empty()
                        || supported
                            .iter()
                            .any(|triple| words.iter().all(|w| triple.iter().any(|word| word == w))),
                )
            }
            FilterKind::AggregateImagePropertiesIsolation => {
                plain(split(self.aggregates, host).iter().all(|(key, values)| {
                    let known = key.starts_with("os_") || key.starts_with("hw_") || key.starts_with("img_");
                    image(key).filter(|_| known).is_none_or(|value| values.contains(value))
                }))
            }
            FilterKind::AggregateMultiTenancyIsolation => {
                let split = split(self.aggregates, host);
                let tenants: BTreeSet<_> = split
                    .iter()
                    .filter(|(key, _)| key.starts_with("filter_tenant_id"))
                    .flat_map(|(_, v)| v)
                    .collect();
                let project = request.project_id.as_deref();
                plain(tenants.is_empty() || project.is_some_and(|project| tenants.contains(&project)))
            }
            FilterKind::AggregateTypeAffinity => {
                let values = raw(self.aggregates, host, "instance_type");
                let mut names = values.iter().flat_map(|value| value.split(',')).map(str::trim);
                plain(values.is_empty() || names.any(|name| name == request.flavor.name))
            }
            FilterKind::AggregateInstanceExtraSpecs => self.aggregate_specs(host),
            FilterKind::Metrics => {
                let settings = &policy.metrics_weight_setting;
                plain(settings.iter().all(|s| host.metrics.contains_key(s.split_once('=').unwrap().0)))
            }
            FilterKind::SimpleCidrAffinity => {
                let near = request.scheduler_hints.get("build_near_host_ip").and_then(|hint| hint.as_str());
                let net = |ip: &str| ip.rsplit_once('.').unwrap().0.to_owned();
                match (near, &host.ip) {
                    (None, _) => Verdict::Pass,
                    (Some(_), None) => Verdict::Error,
                    (Some(near), Some(ip)) => plain(net(near) == net(ip)),
                }
            }
            FilterKind::Json => match request.scheduler_hints.get("query").and_then(|hint| hint.as_str()) {
                None => Verdict::Pass,
                Some(QUERIES_ROOM) => plain(
                    host.resources.memory_mb_total as i64 - host.resources.memory_mb_used as i64 >= 4096,
                ),
                Some(QUERIES_NOT) => plain(host.num_instances() != 0),
                Some(QUERIES_OR) => plain(host.resources.vcpus_used < 2 || host.hypervisor_version == 2),
                Some(QUERIES_ERROR) => Verdict::Error,
                Some(other) => panic!("the test does not generate {other}"),
            },
            other => unreachable!("{other} has its rule elsewhere"),
        }
    }

    /// The few scoped extra specs that requests of this test have, and any unscoped one.
    fn aggregate_specs(&self, host: &Host) -> Verdict {
        let split = split(self.aggregates, host);
        for (key, requirement) in &self.request.flavor.extra_specs {
            let key = match key.split_once(':') {
                None => key.as_str(),
                Some(("aggregate_instance_extra_specs", key)) => key,
                Some(_) => continue,
            };
            let Some(values) = split.get(key) else { return Verdict::Reject(None) };
            let number = |value: &&str| value.parse::<f64>().ok();
            let results: Vec<Option<bool>> = values
                .iter()
                .map(|value| match requirement.as_str() {
                    "= 1" | ">= 1" => number(value).map(|n| n >= 1.0),
                    "== 2" => number(value).map(|n| n == 2.0),
                    "<in> 1" => Some(value.contains('1')),
                    "<or> a <or> b" => Some(*value == "a" || *value == "b"),
                    text => Some(*value == text),
                })
                .collect();
            if results.contains(&Some(true)) {
                continue;
            }
            return if results.contains(&None) { Verdict::Error } else { Verdict::Reject(None) };
        }
        Verdict::Pass
    }

    pub(super) fn policy_raw(
        &self,
        (kind, configured): (WeigherKind, f64),
        host: &Host,
        group: Option<&GroupState>,
        multiplier: f64,
    ) -> f64 {
        let members = |policy: &str| {
            let group = group.filter(|group| group.policy == policy);
            group.map_or(0.0, |group| host.instances.intersection(&group.members).count() as f64)
        };
        match kind {
            WeigherKind::IoOps => host.io_ops() as f64,
            WeigherKind::HypervisorVersion => host.hypervisor_version as f64,
            WeigherKind::NumInstances => host.num_instances() as f64,
            WeigherKind::Pci => {
                f64::from(100 - host.pools.iter().map(|pool| pool.count).sum::<u32>().min(99))
            }
            WeigherKind::SoftAffinity => members("soft-affinity"),
            WeigherKind::SoftAntiAffinity => -members("soft-anti-affinity"),
            WeigherKind::BuildFailure => f64::from(host.resources.failed_builds),
            WeigherKind::CrossCell => match &self.request.target_cell {
                Some(cell) if self.request.allow_cross_cell_move => {
                    if host.cell.as_ref() == Some(cell) {
                        1.0
                    } else {
                        -1.0
                    }
                }
                _ => 0.0,
            },
            WeigherKind::Metrics => self.metrics(host, multiplier),
            WeigherKind::ImageProperties if configured == 0.0 => 0.0,
            WeigherKind::ImageProperties => {
                let Some(image) = &self.request.image else { return 0.0 };
                let wanted =
                    image.properties.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
                let wanted: BTreeSet<_> = wanted.collect();
                let neighbours = host.instance_images.iter().flatten();
                neighbours.filter(|(name, value)| wanted.contains(&(name.as_str(), value.as_str()))).count()
                    as f64
            }
            other => unreachable!("{other} has its rule elsewhere"),
        }
    }

    /// `metrics_required` is off in this test.
    fn metrics(&self, host: &Host, multiplier: f64) -> f64 {
        let mut sum = 0.0;
        for setting in &self.options.policy.metrics_weight_setting {
            let (name, ratio) = setting.split_once('=').unwrap();
            match host.metrics.get(name) {
                Some(value) => sum += *value as f64 * ratio.parse::<f64>().unwrap(),
                None if ratio.parse::<f64>().unwrap() * multiplier == 0.0 => {}
                None => return self.options.policy.metrics_weight_of_unavailable,
            }
        }
        sum
    }
}
