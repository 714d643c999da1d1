//! Shows one host to people: a few lines on what is left, then a line for each value that it reported, and tables of its
//! instances, NUMA cells and PCI devices.
//!
//! The first table leaves out what the others show, such as the cells as they were reported. Machine formats show
//! everything.

use novella_objects::document::{MemoryPages, NetworkMetadata, NumaCell};
use novella_objects::{HostDetail, HostSummary, PciPoolDetail};
use novella_service::exit::Failure;
use serde::Serialize;
use serde_json::Value;

use super::wanted::SEE_ALL;
use super::{HostShowArgs, capacity, free, resources, signed, warn_ambiguous, warnings};
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{NOT_FOUND, OK};
use crate::output::{Cell, Console, OutputArgs, Tone, printable, table_text, write_object};
use crate::units;

/// The values that have a line of their own.
#[derive(Serialize)]
struct HostFields<'a> {
    #[serde(flatten)]
    summary: &'a HostSummary,
    incarnation: Option<u64>,
    seq: Option<u64>,
    sent_at: Option<&'a str>,
    capabilities: Value,
}

/// Keys of the `novella` part of a report that are shown elsewhere.
const SHOWN_ELSEWHERE: [&str; 8] =
    ["uuid", "incarnation", "seq", "sent_at", "availability_zone", "traits", "numa_topology", "pci_pools"];

/// Shows one host with everything that it reported.
pub async fn show(bus: &Bus, args: &HostShowArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let detail = bus.scheduler().show_host(&args.host, bus.options()).await.map_err(scheduler_failed)?;
    let detail = detail.ok_or_else(|| {
        Failure::new(NOT_FOUND, format!("the scheduler knows no host {}", args.host)).next(SEE_ALL)
    })?;
    if args.output.format.is_table() && args.output.columns.is_empty() {
        summary(&detail, console)?;
        tables(&detail, &args.output, console)?;
    } else {
        write_object(&detail, &args.output, console)?;
    }
    warn_ambiguous(&detail.summary, console);
    Ok(OK)
}

/// Writes what an operator wants to know first: the state, what is used, free and held, and warnings.
fn summary(detail: &HostDetail, console: &mut Console<'_>) -> anyhow::Result<()> {
    let host = &detail.summary;
    let instances = match host.instances {
        1 => "1 instance".to_owned(),
        n => format!("{n} instances"),
    };
    let mut lines = vec![format!(
        "{} is {}, in zone {}, with {instances}; its last report is {} old",
        host.host,
        host.state.as_str(),
        host.availability_zone,
        units::age(host.report_age_s)
    )];
    if !warnings(host).is_empty() {
        lines.push(format!("attention: {}", warnings(host)));
    }
    for (name, values) in [("aggregates", host.aggregates.join(", ")), ("resources", resources(host))] {
        if !values.is_empty() {
            lines.push(format!("{name}: {values}"));
        }
    }
    for line in lines {
        writeln!(console.out, "{}", printable(&line))?;
    }
    let (most, left, held) = (capacity(host), free(host), host.held.unwrap_or_default());
    let row = |name: &str, [used, most, held]: [u64; 3], free: i64, unit: fn(u64) -> String| {
        let amounts = [unit(used), unit(most), signed(free, unit), unit(held)];
        [Cell::text(name)].into_iter().chain(amounts.map(Cell::number)).collect()
    };
    let rows = vec![
        row("CPU", [host.vcpus_used, most.vcpus, held.vcpus], left.0, |n| n.to_string()),
        row("RAM", [host.memory_mb_used, most.memory_mb, held.memory_mb], left.1, units::mib),
        row("disk", [host.disk_gb_used, most.disk_gb, held.disk_gb], left.2, units::gib),
    ];
    let text = table_text(&["amount", "used", "of", "free", "held"], rows, console.style);
    Ok(writeln!(console.out, "\n{text}")?)
}

/// Writes the tables.
fn tables(detail: &HostDetail, args: &OutputArgs, console: &mut Console<'_>) -> anyhow::Result<()> {
    let HostDetail { summary, incarnation, seq, numa_topology, pci_pools, .. } = detail;
    let mut capabilities = detail.capabilities.clone();
    let mut claims = Value::Null;
    if let Some(report) = capabilities.get_mut("novella").and_then(Value::as_object_mut) {
        SHOWN_ELSEWHERE.iter().for_each(|key| drop(report.remove(*key)));
        claims = report.remove("claims").unwrap_or_default();
        report.entry("metrics").and_modify(|list| *list = metrics(list).into());
    }
    let (incarnation, seq, sent_at) = (*incarnation, *seq, detail.sent_at.as_deref());
    write_object(&HostFields { summary, incarnation, seq, sent_at, capabilities }, args, console)?;
    let instances: Vec<_> = claims.as_array().into_iter().flatten().map(instance).collect();
    let cells = numa_topology.iter().flat_map(|topology| &topology.cells);
    let cells: Vec<_> = cells.map(numa_cell).collect();
    let pools: Vec<_> = pci_pools.iter().map(pci_pool).collect();
    for (header, rows) in [(&INSTANCES[..], instances), (&CELLS[..], cells), (&POOLS[..], pools)] {
        if !rows.is_empty() {
            write!(console.out, "\n{}", table_text(header, rows, console.style))?;
        }
    }
    Ok(console.out.flush()?)
}

const INSTANCES: [&str; 6] = ["instance", "vcpus", "ram", "disk", "flavor", "group"];

fn instance(claim: &Value) -> Vec<Cell> {
    let number = |key: &str| claim[key].as_u64().unwrap_or_default();
    let text = |key: &str| Cell::text(claim[key].as_str().unwrap_or("-"));
    vec![
        text("uuid"),
        Cell::number(number("vcpus")),
        Cell::number(units::mib(number("memory_mb"))),
        Cell::number(units::gib(number("disk_gb"))),
        text("flavor"),
        text("group"),
    ]
}

/// Names and values of metrics. Machine formats also show what else a monitor reports, such as the time.
fn metrics(list: &Value) -> String {
    let one = |metric: &Value| {
        let name = metric["name"].as_str().unwrap_or("?");
        format!("{name}={}", metric["value"])
    };
    list.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

const CELLS: [&str; 9] =
    ["numa cell", "socket", "shared cpus", "used", "dedicated cpus", "pinned", "ram", "pages", "networks"];

fn numa_cell(cell: &NumaCell) -> Vec<Cell> {
    let NumaCell { cpuset, pcpuset, cpu_usage, pinned_cpus, .. } = cell;
    let pages: Vec<_> = cell.mempages.iter().map(pages).collect();
    vec![
        Cell::number(cell.id),
        Cell::number(cell.socket.map_or_else(|| "-".to_owned(), |socket| socket.to_string())),
        Cell::text(ranges(cpuset)),
        Cell::number(format!("{cpu_usage}/{}", cpuset.len())),
        Cell::text(ranges(pcpuset)),
        Cell::number(format!("{}/{}", pinned_cpus.len(), pcpuset.len())),
        Cell::number(format!("{}/{}", units::mib(cell.memory_usage_mb), units::mib(cell.memory_mb))),
        Cell::text(pages.join(", ")),
        Cell::text(cell.network_metadata.as_ref().map(networks).unwrap_or_default()),
    ]
}

/// Pages of one size: used and total. Pages that the host reserves count as used.
fn pages(pages: &MemoryPages) -> String {
    let MemoryPages { size_kb, total, used, reserved } = pages;
    let size = match size_kb {
        kib if kib % 1024 == 0 => units::mib(kib / 1024),
        kib => format!("{kib}K"),
    };
    format!("{size} {}/{total}", used + reserved)
}

fn networks(near: &NetworkMetadata) -> String {
    let tunnelled = near.tunneled.then_some("tunnelled");
    near.physnets.iter().map(String::as_str).chain(tunnelled).collect::<Vec<_>>().join(", ")
}

const POOLS: [&str; 5] = ["pci devices", "type", "numa cell", "free", "tags"];

fn pci_pool(pool: &PciPoolDetail) -> Vec<Cell> {
    let PciPoolDetail { free, pool } = pool;
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let tags: Vec<_> = pool.tags.iter().map(|(key, text)| format!("{key}={}", value(text))).collect();
    let tone = if *free == 0 { Tone::Warn } else { Tone::Plain };
    vec![
        Cell::text(format!("{}:{}", pool.vendor_id, pool.product_id)),
        Cell::text(&pool.dev_type),
        Cell::number(pool.numa_node.map_or_else(|| "-".to_owned(), |cell| cell.to_string())),
        Cell::number(format!("{free}/{}", pool.count)).tone(tone),
        Cell::text(tags.join(", ")),
    ]
}

/// CPU numbers as the kernel writes them: `0-3,8`.
fn ranges(cpus: &[u32]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    let run = |run: &[u32]| match run {
        [only] => only.to_string(),
        _ => format!("{}-{}", run[0], run[run.len() - 1]),
    };
    let text = sorted.chunk_by(|a, b| *b == a + 1).map(run).collect::<Vec<_>>().join(",");
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_each_cell_and_pool() {
        let cell: NumaCell =
            serde_json::from_value(json!({"id": 1, "cpuset": [3, 0, 1, 2, 8], "pcpuset": [4, 5],
            "memory_mb": 4096, "memory_usage_mb": 512, "cpu_usage": 2, "pinned_cpus": [5],
            "mempages": [{"size_kb": 4, "total": 9, "used": 1, "reserved": 2}, {"size_kb": 2048, "total": 7}],
            "network_metadata": {"physnets": ["a"], "tunneled": true}}))
            .unwrap();
        let texts =
            |cells: Vec<Cell>| cells.into_iter().map(|cell| cell.text).collect::<Vec<_>>().join(" | ");
        assert_eq!(
            texts(numa_cell(&cell)),
            "1 | - | 0-3,8 | 2/5 | 4-5 | 1/2 | 512M/4G | 4K 3/9, 2M 0/7 | a, tunnelled"
        );
        let pool: PciPoolDetail =
            serde_json::from_value(json!({"free": 0, "vendor_id": "8086", "product_id": "154c",
            "dev_type": "type-VF", "numa_node": 1, "count": 4, "physical_network": "a"}))
            .unwrap();
        assert_eq!(texts(pci_pool(&pool)), "8086:154c | type-VF | 1 | 0/4 | physical_network=a");
        assert_eq!(ranges(&[]), "-");
        let list =
            json!([{"name": "cpu.percent", "value": 0.5, "source": "x"}, {"name": "cpu.idle", "value": 3}]);
        assert_eq!(metrics(&list), "cpu.percent=0.5, cpu.idle=3");
    }
}
