//! `compute-agent probe`: the values that this agent would report, each with its source.

use std::io::{self, Write};

use novella_virt::{HostStats, Probed};
use serde_json::{Value, json};

use crate::offer::Offer;

/// One value.
pub struct Row {
    /// Name of the value. If the value can be overridden, it is also the key in `[driver.overrides]`.
    pub name: &'static str,
    /// The value.
    pub value: Value,
    /// Where the value came from.
    pub source: String,
}

/// The values of a reading, and what the host offers. `my_ip` is the address to report and its source.
pub fn rows(stats: &HostStats, offer: &Offer, my_ip: (Option<String>, &str)) -> Vec<Row> {
    fn row<T: serde::Serialize>(name: &'static str, probed: &Probed<T>) -> Row {
        Row { name, value: json!(probed.value), source: probed.source.to_string() }
    }
    let cpu = |name, value: Value| Row { name, value, source: stats.cpu_info.source.to_string() };
    let info = &stats.cpu_info.value;
    let mut rows = vec![
        row("vcpus", &stats.vcpus),
        row("vcpus_used", &stats.vcpus_used),
        cpu("cpu_arch", json!(info.arch)),
        cpu("cpu_model", json!(info.model)),
        cpu("cpu_vendor", json!(info.vendor)),
        cpu("cpu_topology", json!(info.topology)),
        cpu("cpu_features", json!(info.features)),
        row("memory_total_mb", &stats.memory_total_mb),
        row("memory_available_mb", &stats.memory_available_mb),
        row("disk_total_gb", &stats.disk_total_gb),
        row("disk_used_gb", &stats.disk_used_gb),
        row("disk_available_gb", &stats.disk_available_gb),
        row("numa", &stats.numa),
        row("pci_devices", &stats.pci_devices),
        row("supported_instances", &stats.supported_instances),
        row("hypervisor_type", &stats.hypervisor_type),
        row("hypervisor_version", &stats.hypervisor_version),
        row("hypervisor_hostname", &stats.hypervisor_hostname),
        row("kernel_release", &stats.kernel_release),
        row("load_1m", &stats.load_1m),
        row("uptime_s", &stats.uptime_s),
        Row { name: "host_ip", value: json!(my_ip.0), source: my_ip.1.to_owned() },
    ];
    rows.extend(stats.cpu_stats.as_ref().map(|cpu_stats| row("cpu_stats", cpu_stats)));
    let mut offered = |name, value: Value, settings: &str| {
        rows.push(Row { name, value, source: format!("offered by {settings}") });
    };
    offered(
        "offered_vcpus",
        json!(offer.vcpus(stats).unwrap_or(stats.vcpus.value)),
        "compute.cpu_shared_set",
    );
    offered("offered_pcpus", json!(offer.pcpus(stats).unwrap_or(0)), "compute.cpu_dedicated_set");
    let cells = offer.numa_topology(stats).map(|topology| topology.cells);
    offered("numa_topology", json!(cells), "[compute], [neutron] and reserved.huge_pages");
    offered("pci_pools", json!(offer.pci_pools(stats)), "pci.device_spec");
    rows
}

/// Writes the rows in columns for people. Long values are shortened; the JSON form has them in full.
pub fn table(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let cells: Vec<(&str, String, &str)> =
        rows.iter().map(|row| (row.name, brief(&row.value), row.source.as_str())).collect();
    let name = cells.iter().map(|c| c.0.len()).max().unwrap_or(0);
    let value = cells.iter().map(|c| c.1.chars().count()).max().unwrap_or(0);
    writeln!(out, "{:name$}  {:value$}  SOURCE", "NAME", "VALUE")?;
    cells.iter().try_for_each(|(n, v, s)| writeln!(out, "{n:name$}  {v:value$}  {s}"))
}

/// The rows as one JSON object that maps each name to `{value, source}`.
pub fn object(rows: &[Row]) -> Value {
    let pairs =
        rows.iter().map(|row| (row.name.to_owned(), json!({"value": row.value, "source": row.source})));
    Value::Object(pairs.collect())
}

/// Longest value in the table, in characters. Longer ones are shortened.
const BRIEF: usize = 60;

fn brief(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
            let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        other => other.to_string(),
    };
    match text.char_indices().nth(BRIEF) {
        None => text,
        Some((end, _)) => {
            let whole = value.as_array().map_or(String::new(), |items| format!(" ({} in all)", items.len()));
            format!("{}…{whole}", &text[..end])
        }
    }
}
