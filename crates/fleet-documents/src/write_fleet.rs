//! Writes a scheduler's map as a document, from which the same engine makes the same decisions elsewhere.
//!
//! It writes everything that the filters and weighers read. Reservations count as used and as instances. Aggregates are
//! those that the policy puts a host into. The state of a host is written so that it is judged the same at any later time.
//!
//! What always holds: the map is copied under the lock and written out without it.
//!
//! Left out: what no filter reads, such as why a host is disabled.

use std::borrow::Cow;

use novella_filter_scheduler::{COMPUTE_STATUS_DISABLED, HostState, InstanceKind, SchedulerOptions};
use novella_host_manager::{HostCopy, MapCopy, Text};
use novella_objects::document::{Fleet, Host, HostInstance};
use novella_objects::{Entries, HostStatus, Json, Reserved};
use novella_resources::Devices;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::apply_policy::{server_group, server_groups};
use crate::options::EvaluationOptions;

/// The copy of a map, ready to be written as a document.
#[derive(Debug, Clone)]
pub struct MapSnapshot {
    map: MapCopy,
    /// What the map's table does not have, in the order of the table's hosts.
    hosts: Vec<HostCopy>,
    options: EvaluationOptions,
}

impl MapSnapshot {
    /// Takes a copy of the map. `options` are those of the engine that decides.
    pub fn new(mut copy: MapCopy, options: &SchedulerOptions) -> Self {
        let service_down_time_s = copy.service_down_time.as_secs_f64();
        let options = EvaluationOptions { scheduler: options.clone(), service_down_time_s };
        Self { options, hosts: copy.take_hosts(), map: copy }
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are no hosts.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The document, without its hosts.
    pub fn head(&self) -> Fleet<'_> {
        let policy = &self.map.policy;
        Fleet {
            origin: Some(self.map.scheduler.clone()),
            n: Some(self.hosts.len() as u64),
            options: Some(self.options.write()),
            aggregates: policy.aggregates.iter().map(|rule| rule.aggregate.clone()).collect(),
            server_groups: server_groups(policy),
            server_group_defaults: policy.server_group_defaults.as_ref().map(server_group),
            pci_aliases: policy.pci_aliases.clone(),
            ..Fleet::default()
        }
    }

    /// The hosts of the document, from the position `from` on.
    pub fn hosts(&self, from: usize) -> impl Iterator<Item = Host<'_>> {
        let hosts = self.map.table.hosts().zip(&self.hosts).skip(from);
        hosts.map(|(host, note)| self.host(&host, note))
    }

    fn host<'s>(&'s self, host: &HostState<'s>, note: &'s HostCopy) -> Host<'s> {
        let (reported, used) = (host.reported(), host.used());
        let words = note.reported.words();
        let status = host.status();
        let age = self.map.now.saturating_sub(note.heard).as_secs_f64();
        let silent = age > self.options.service_down_time_s;
        // What a disabled host has besides its own traits, as in the live map.
        let disabled = note.reported.disabled.then_some(COMPUTE_STATUS_DISABLED);
        let mut capabilities = Vec::new();
        let mut hypervisor_version = None;
        for (key, value) in note.reported.integers() {
            match key {
                "hypervisor_version" => hypervisor_version = Some(value),
                _ => capabilities.push((key.into(), Json::of(&value).expect("a number is JSON"))),
            }
        }
        // A value that has a field of its own counts more than one among the capabilities.
        let named = [
            ("host_ip", words.host_ip.is_some()),
            ("supported_instances", note.reported.symbol(Text::SupportedInstances).is_some()),
            ("metrics", note.reported.metrics().is_some()),
        ];
        let told: Vec<_> = named.into_iter().filter_map(|(name, told)| told.then_some(name)).collect();
        for (at, (key, text)) in words.extra.iter().enumerate() {
            let later = words.extra[at + 1..].iter().any(|(later, _)| later == key);
            if !later && !told.contains(key) {
                capabilities.push(((*key).into(), json(text)));
            }
        }
        let facts = words.facts.iter().map(|(key, text)| ((*key).into(), json(text)));
        let text = |text| {
            let symbol = note.reported.symbol(text)?;
            self.map.texts[symbol as usize].as_deref().map(json)
        };
        let (numa_topology, pci_pools) = note.devices.as_deref().map(Devices::write).unwrap_or_default();
        Host {
            host: host.host().into(),
            node: Some(host.nodename().into()),
            uuid: note.uuid,
            availability_zone: host.zone().map(Into::into),
            aggregates: note.aggregates.clone(),
            disabled: status == HostStatus::Disabled,
            forced_down: status == HostStatus::Down,
            suspect: status == HostStatus::Suspect || (status == HostStatus::Up && silent),
            last_seen_age_s: age,
            vcpus: reported.vcpus_total,
            vcpus_used: used.vcpus,
            memory_mb: reported.memory_mb_total,
            memory_mb_used: used.memory_mb,
            local_gb: reported.disk_gb_total,
            local_gb_used: used.disk_gb,
            reserved: (note.reserved != Reserved::default()).then_some(note.reserved),
            cpu_allocation_ratio: Some(reported.ratios.cpu),
            ram_allocation_ratio: Some(reported.ratios.ram),
            disk_allocation_ratio: Some(reported.ratios.disk),
            num_instances: Some(used.instances),
            num_io_ops: Some(u32::try_from(host.num_io_ops()).unwrap_or(u32::MAX)),
            failed_builds: Some(reported.failed_builds),
            cpu_info: text(Text::CpuInfo),
            host_ip: words.host_ip.map(Into::into),
            supported_instances: text(Text::SupportedInstances),
            metrics: note.reported.metrics().map(json),
            numa_topology,
            pci_pools,
            hypervisor_type: words.hypervisor_type.map(Into::into),
            hypervisor_version,
            facts: Entries(facts.collect()),
            traits: words
                .traits
                .iter()
                .copied()
                .filter(|name| Some(*name) != disabled)
                .chain(disabled)
                .map(Into::into)
                .collect(),
            resources: note.resources.clone(),
            capabilities: Some(Entries(capabilities)),
            instances: note
                .instances
                .iter()
                .map(|(uuid, kind, group)| self.instance(*uuid, *kind, group.as_deref()))
                .collect(),
            ..Host::default()
        }
    }

    fn instance(&self, uuid: Uuid, kind: Option<u32>, group: Option<&str>) -> HostInstance {
        let kind = kind.and_then(|kind| self.map.kinds[kind as usize].as_ref());
        if kind.is_none() && group.is_none() {
            return HostInstance::Uuid(uuid);
        }
        let properties = kind.map(InstanceKind::image_properties).unwrap_or_default();
        HostInstance::Known {
            uuid,
            flavor: kind.and_then(InstanceKind::flavor).map(str::to_owned),
            image: (!properties.is_empty()).then_some(properties),
            group: group.map(str::to_owned),
        }
    }
}

/// JSON text as JSON, or as a JSON string if it is not valid.
fn json(text: &str) -> Json<'_> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => Json(Cow::Borrowed(raw)),
        Err(_) => Json::of(text).expect("any text can be written as JSON"),
    }
}
