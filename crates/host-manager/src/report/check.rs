//! Refuses values that no honest host can report, before they touch the map.
//!
//! The limits are far above any real host, and far below what would harm arithmetic or memory.
//!
//! What always holds: nothing here changes the map. Words are checked only if they differ from the last report's, so a
//! steady report is not checked twice.
//!
//! Left out: who may report for a host (`identity.rs`).

use std::borrow::Cow;

use novella_filter_scheduler::MAX_RATIO;
use novella_objects::{
    AllocationRatios, Capabilities, Claim, INTEGER_KEYS, MAX_AMOUNT, MAX_NAME, MAX_VCPUS, NovellaReport,
    is_host_name,
};
use novella_resources::Amounts;

use crate::report::outcome::{BadReport, Fault};

/// How many traits, how many resource classes, and how many facts a host may have.
pub(crate) const MAX_ENTRIES: usize = 1024;
/// How many hosts may have names that differ only in letter case. Filters compare names without it, so each of these hosts is
/// looked at whenever one of them is named.
pub(crate) const MAX_SAME_BUT_CASE: usize = 8;
/// How many bytes of JSON text that the scheduler keeps without reading a report may have.
pub(crate) const MAX_TEXT: usize = 64 * 1024;
/// The longest decision id, in bytes.
pub(crate) const MAX_DECISION_ID: usize = 1024;
/// How many bytes of JSON text an instance may have.
pub(crate) const MAX_INSTANCE: usize = 4096;
/// The longest name of a broker user, in bytes. AMQP sends it as a short string.
pub(crate) const MAX_USER: usize = 255;
/// How many ended instances a report may list.
pub(crate) const MAX_ENDED: usize = 64 * 1024;

fn bad(key: &'static str, fault: Fault) -> Result<(), BadReport> {
    Err(BadReport { key, fault })
}

/// Checks a name: not empty, not too long, and without control characters.
pub(crate) fn name(key: &'static str, text: &str) -> Result<(), BadReport> {
    if text.is_empty() {
        bad(key, Fault::Empty)
    } else if text.len() > MAX_NAME {
        bad(key, Fault::TooLong(MAX_NAME))
    } else if text.chars().any(char::is_control) {
        bad(key, Fault::ControlCharacter)
    } else {
        Ok(())
    }
}

/// Checks the name of a host or of a service.
pub(crate) fn host_name(key: &'static str, text: &str) -> Result<(), BadReport> {
    if is_host_name(text) { Ok(()) } else { bad(key, Fault::HostName) }
}

fn name_if_any(key: &'static str, text: &Option<Cow<'_, str>>) -> Result<(), BadReport> {
    text.as_deref().map_or(Ok(()), |text| name(key, text))
}

fn at_most(key: &'static str, value: u64, limit: u64) -> Result<(), BadReport> {
    if value > limit { bad(key, Fault::Absurd(limit)) } else { Ok(()) }
}

fn count(key: &'static str, len: usize, limit: usize) -> Result<(), BadReport> {
    if len > limit { bad(key, Fault::TooLong(limit)) } else { Ok(()) }
}

/// Checks Nova's integers. A free amount may be negative (overcommitted); sizes and uses may not.
pub(crate) fn integers(caps: &Capabilities<'_>) -> Result<(), BadReport> {
    for (key, value) in INTEGER_KEYS.into_iter().zip(caps.integers()) {
        let Some(value) = value else { continue };
        let limit = match key {
            "vcpus" | "vcpus_used" => MAX_VCPUS,
            _ => MAX_AMOUNT,
        };
        let may_be_negative = matches!(key, "disk_available" | "host_memory_free");
        if value < 0 && !may_be_negative {
            return bad(key, Fault::Negative);
        }
        at_most(key, value.unsigned_abs(), limit)?;
    }
    Ok(())
}

/// Checks the numbers and the lengths of novella's own part of a report.
pub(crate) fn numbers(report: &NovellaReport<'_>, max_claims: usize) -> Result<(), BadReport> {
    if report.uuid.is_nil() {
        return bad("novella.uuid", Fault::Empty);
    }
    at_most("novella.reserved.vcpus", report.reserved.vcpus.into(), MAX_VCPUS)?;
    at_most("novella.reserved.memory_mb", report.reserved.memory_mb, MAX_AMOUNT)?;
    at_most("novella.reserved.disk_gb", report.reserved.disk_gb, MAX_AMOUNT)?;
    let AllocationRatios { cpu, ram, disk } = report.allocation_ratios;
    if [cpu, ram, disk].into_iter().any(|ratio| !is_ratio(ratio)) {
        return bad("novella.allocation_ratios", Fault::Ratio);
    }
    at_most(
        "novella.disk_available_least",
        report.disk_available_least.map_or(0, i64::unsigned_abs),
        MAX_AMOUNT,
    )?;
    count("novella.claims", report.claims.len(), max_claims)?;
    count("novella.holds", report.holds.len(), max_claims)?;
    count("novella.ended", report.ended.len(), MAX_ENDED)?;
    count("novella.sent_at", report.sent_at.len(), MAX_NAME)?;
    count("novella.stale_probes", report.stale_probes.0.len(), MAX_ENTRIES)?;
    report.stale_probes.iter().try_for_each(|(probe, _)| name("novella.stale_probes", probe))
}

/// Checks what one instance takes.
pub(crate) fn amounts(amounts: &Amounts) -> Result<(), BadReport> {
    at_most("vcpus", amounts.vcpus, MAX_VCPUS)?;
    at_most("memory_mb", amounts.memory_mb, MAX_AMOUNT)?;
    at_most("disk_gb", amounts.disk_gb, MAX_AMOUNT)
}

/// Checks one claim.
pub(crate) fn claim(claim: &Claim<'_>) -> Result<(), BadReport> {
    amounts(&Amounts::of_claim(claim)).map_err(|bad| BadReport { key: "novella.claims", ..bad })?;
    name_if_any("novella.claims.group", &claim.group)?;
    name_if_any("novella.claims.flavor", &claim.flavor)?;
    for (key, text) in [
        ("novella.claims.image", &claim.image),
        ("novella.claims.numa_topology", &claim.numa_topology),
        ("novella.claims.pci", &claim.pci),
    ] {
        count(key, text.as_ref().map_or(0, |text| text.get().len()), MAX_TEXT)?;
    }
    classes(
        "novella.claims.resources",
        claim.resources.0.len(),
        claim.resources.iter().map(|(class, _)| class),
    )
}

/// Checks what a host says of a claim that it granted.
pub(crate) fn grant(claim: &Claim<'_>) -> Result<(), BadReport> {
    let length = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
    count("novella.claims.decision", length(&claim.decision), MAX_DECISION_ID)?;
    count("novella.claims.user", length(&claim.user), MAX_USER)?;
    count("novella.claims.instance", claim.instance.as_ref().map_or(0, |text| text.get().len()), MAX_INSTANCE)
}

/// Checks the names and the number of resource classes.
pub(crate) fn classes<'c>(
    key: &'static str,
    len: usize,
    mut classes: impl Iterator<Item = &'c str>,
) -> Result<(), BadReport> {
    count(key, len, MAX_ENTRIES)?;
    classes.try_for_each(|class| name(key, class))
}

fn is_ratio(ratio: f64) -> bool {
    ratio > 0.0 && ratio <= MAX_RATIO
}

/// Checks the words of a report, and how much text it has in total.
pub(crate) fn words(caps: &Capabilities<'_>) -> Result<(), BadReport> {
    name_if_any("hypervisor_type", &caps.hypervisor_type)?;
    name_if_any("hypervisor_hostname", &caps.hypervisor_hostname)?;
    count("capabilities", caps.extra.len(), MAX_ENTRIES)?;
    let mut kept = caps.cpu_info.as_ref().map_or(0, |text| text.get().len());
    kept += caps.extra.iter().map(|(key, text)| key.len() + text.get().len()).sum::<usize>();
    if let Some(report) = &caps.novella {
        name_if_any("novella.availability_zone", &report.availability_zone)?;
        count("novella.traits", report.traits.len(), MAX_ENTRIES)?;
        report.traits.iter().try_for_each(|text| name("novella.traits", text))?;
        count("novella.resources", report.resources.0.len(), MAX_ENTRIES)?;
        for (class, inventory) in report.resources.iter() {
            name("novella.resources", class)?;
            if !is_ratio(inventory.allocation_ratio) {
                return bad("novella.resources.allocation_ratio", Fault::Ratio);
            }
        }
        count("novella.facts", report.facts.0.len(), MAX_ENTRIES)?;
        kept += report.facts.iter().map(|(key, text)| key.len() + text.get().len()).sum::<usize>();
        name_if_any("novella.host_ip", &report.host_ip)?;
        let texts = [&report.supported_instances, &report.metrics, &report.numa_topology, &report.pci_pools];
        kept += texts.into_iter().flatten().map(|text| text.get().len()).sum::<usize>();
        kept += report.disabled_reason.as_ref().map_or(0, |text| text.len());
    }
    count("capabilities", kept, MAX_TEXT)
}
