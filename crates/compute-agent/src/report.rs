//! Builds a report from what the driver reads, what the operator has added, and the host's identity.
//!
//! Nova's eleven keys are at the top level, as the driver measured them. Only `vcpus` may differ: if the operator divides
//! the CPUs, it counts those that instances share, as Nova's does. What placement counts as used is under `novella`: the
//! reserved amounts and the claims. The measured load is in the report only to be shown.

use std::borrow::Cow;
use std::collections::BTreeSet;

use novella_objects::{AllocationRatios, Capabilities, Entries, Inventory, Json, NovellaReport, Reserved};
use novella_resources::PCPU;
use novella_virt::HostStats;
use serde::Serialize;

use crate::claims::tracker::ReportedClaims;
use crate::config::AgentConfig;
use crate::identity::Identity;
use crate::offer::Offer;

/// The trait of a host that reports the socket of each NUMA cell, so that placement can compare it with PCI devices.
const SOCKET_PCI_NUMA_AFFINITY: &str = "COMPUTE_SOCKET_PCI_NUMA_AFFINITY";

/// A reading of the host.
pub struct Reading {
    /// The driver's reading, with the operator's overrides applied.
    pub stats: HostStats,
    /// The monitors' metrics. `None` if no monitor is turned on.
    pub metrics: Option<Json<'static>>,
    /// The address of the host. `None` if it is not known yet.
    pub host_ip: Option<String>,
}

/// The parts of a report that change only when the settings change.
pub struct ReportTemplate {
    identity: Identity,
    offer: Offer,
    /// What the configuration and the identity say under `novella`.
    fixed: NovellaReport<'static>,
}

impl ReportTemplate {
    /// The template for this configuration, which must have been checked.
    pub fn new(config: &AgentConfig, identity: Identity) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| Cow::Owned(text.to_owned()));
        let fixed = NovellaReport {
            uuid: identity.uuid,
            incarnation: identity.incarnation,
            nonce: identity.nonce,
            grants: true,
            interval_ms: u64::try_from(config.report.periodic_interval.as_millis()).unwrap_or(u64::MAX),
            disabled_reason: some(&config.placement.disabled_reason),
            availability_zone: some(&config.placement.availability_zone),
            reserved: Reserved {
                vcpus: config.reserved.vcpus,
                memory_mb: config.reserved.memory_mb,
                disk_gb: config.reserved.disk_gb,
            },
            allocation_ratios: AllocationRatios {
                cpu: config.allocation_ratio.cpu,
                ram: config.allocation_ratio.ram,
                disk: config.allocation_ratio.disk,
            },
            traits: config.placement.traits.iter().cloned().map(Cow::Owned).collect(),
            resources: Entries(config.resources.iter().map(|(k, v)| (Cow::Owned(k.clone()), *v)).collect()),
            facts: Entries(config.facts.iter().map(|(k, v)| (Cow::Owned(k.clone()), text(v))).collect()),
            ..NovellaReport::default()
        };
        Self { identity, offer: config.offer().expect("the configuration was checked"), fixed }
    }

    /// The identity in the reports.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the operator offers of the host's hardware.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The report with number `seq`. It lists these claims.
    pub fn report(
        &self,
        reading: &Reading,
        claimed: ReportedClaims,
        seq: u64,
        sent_at: String,
    ) -> Capabilities<'static> {
        let stats = &reading.stats;
        let mut novella = NovellaReport { seq, sent_at: Cow::Owned(sent_at), ..self.fixed.clone() };
        let ReportedClaims { claims, holds, given_gb, ended, failed, num_io_ops, failed_builds } = claimed;
        let least = i64::try_from(stats.disk_available_gb.value).unwrap_or(i64::MAX);
        novella.disk_available_least = Some(least.saturating_sub_unsigned(given_gb));
        (novella.claims, novella.holds, novella.ended) = (claims, holds, ended);
        let failed = failed.into_iter().map(|(uuid, state)| (uuid.to_string().into(), state));
        novella.failed_instances = Entries(failed.collect());
        (novella.num_io_ops, novella.failed_builds) = (num_io_ops, failed_builds);
        let mut traits: BTreeSet<_> = novella.traits.into_iter().collect();
        traits.extend(novella_virt::cpu_traits(&stats.cpu_info.value));
        let topology = self.offer.numa_topology(stats);
        if topology.as_ref().is_some_and(|topology| topology.cells.iter().any(|cell| cell.socket.is_some())) {
            traits.insert(SOCKET_PCI_NUMA_AFFINITY.into());
        }
        novella.traits = traits.into_iter().collect();
        novella.numa_topology = topology.map(|topology| text(&topology));
        let pools = self.offer.pci_pools(stats);
        novella.pci_pools = (!pools.is_empty()).then(|| text(&pools));
        let guests = &stats.supported_instances.value;
        novella.supported_instances = (!guests.is_empty()).then(|| text(guests));
        novella.metrics = reading.metrics.clone();
        novella.host_ip = reading.host_ip.clone().map(Cow::Owned);
        if let Some(pcpus) = self.offer.pcpus(stats).map(u64::from) {
            let inventory = Inventory { total: pcpus, max_unit: pcpus.max(1), ..Inventory::default() };
            novella.resources.0.push((PCPU.into(), inventory));
        }
        novella.measured = novella_virt::measured(stats);
        novella.stale_probes = novella_virt::stale_probes(stats);
        let mut capabilities = novella_virt::capabilities(stats);
        if let Some(vcpus) = self.offer.vcpus(stats) {
            capabilities.vcpus = Some(vcpus.into());
        }
        Capabilities { novella: Some(Box::new(novella)), ..capabilities }
    }

    /// The last report of a process that stops in order. It is complete like any other, because a report replaces all
    /// earlier ones, and the host is still shown with all of its values.
    pub fn goodbye(
        &self,
        reading: &Reading,
        claimed: ReportedClaims,
        seq: u64,
        sent_at: String,
    ) -> Capabilities<'static> {
        let mut report = self.report(reading, claimed, seq, sent_at);
        if let Some(novella) = &mut report.novella {
            novella.goodbye = true;
        }
        report
    }
}

fn text(value: &impl Serialize) -> Json<'static> {
    Json::of(value).expect("lists and structs with text as keys have a JSON form")
}
