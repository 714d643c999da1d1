//! `novella aggregate`: the aggregates of the schedulers' policy, and the hosts in them.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy::{in_force, unknown};
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::OK;
use crate::output::{
    Cell, Column, Console, Listing, OutputArgs, SortArgs, natural, pairs, write_object, write_sorted,
};

/// The commands of `aggregate`.
#[derive(Debug, Subcommand)]
pub enum AggregateCommand {
    /// List the aggregates of the policy with the number of their hosts
    #[command(alias = "ls")]
    List(AggregateListArgs),
    /// Show one aggregate: its rule, its metadata and its hosts
    #[command(aliases = ["get", "describe"])]
    Show(AggregateShowArgs),
}

/// Arguments of `aggregate list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella aggregate list
  novella aggregate list -f value -c name

`novella host list --aggregate NAME` lists the hosts of one. The policy file defines aggregates.")]
pub struct AggregateListArgs {
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

/// Arguments of `aggregate show`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  novella aggregate show ssd\n  novella aggregate show ssd -f json -c hosts"
)]
pub struct AggregateShowArgs {
    /// Name of the aggregate
    pub aggregate: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// An aggregate: its definition in the policy, and the hosts in it.
#[derive(Debug, Serialize)]
struct AggregateRow {
    name: String,
    id: u32,
    availability_zone: Option<String>,
    metadata: BTreeMap<String, String>,
    /// The names, patterns and ranges of the hosts in it.
    by_name: Vec<String>,
    /// What a host must report to be in it, if it is not named.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    matching: Option<Value>,
    hosts: Vec<String>,
}

/// An aggregate as [`PolicyStatus::policy`](novella_objects::PolicyStatus::policy) has it.
#[derive(Debug, Deserialize)]
struct Defined {
    id: u32,
    hosts: Vec<String>,
    metadata: BTreeMap<String, String>,
    #[serde(default, rename = "match")]
    matching: Option<Value>,
}

const AGGREGATES: Listing<AggregateRow> = Listing {
    all: &[
        Column::field("name", |a| json!(a.name)),
        Column::field("id", |a| json!(a.id)),
        Column::field("availability_zone", |a| json!(a.availability_zone)),
        Column::field("az", |a| json!(a.availability_zone)),
        Column::view("hosts", |a| json!(a.hosts), |a| Cell::number(a.hosts.len())),
        Column::view("metadata", |a| json!(a.metadata), |a| pairs(&a.metadata)),
        Column::field("by_name", |a| json!(a.by_name)),
        Column::field("match", |a| json!(a.matching)),
    ],
    table: &["name", "az", "hosts", "metadata"],
    wide: &["id", "by_name", "match"],
    fields: &["name", "id", "availability_zone", "metadata", "by_name", "match", "hosts"],
};

/// Lists the aggregates.
pub async fn list(bus: &Bus, args: &AggregateListArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    AGGREGATES.pick(&args.output.columns)?;
    let mut aggregates = fetch(bus, console).await?;
    write_sorted(&mut aggregates, &AGGREGATES, args.sort.sort.as_ref(), &args.output, console)?;
    Ok(OK)
}

/// Shows one aggregate.
pub async fn show(bus: &Bus, args: &AggregateShowArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let aggregates = fetch(bus, console).await?;
    let aggregate =
        aggregates.iter().find(|aggregate| aggregate.name == args.aggregate).ok_or_else(|| {
            let known: Vec<_> = aggregates.iter().map(|aggregate| aggregate.name.as_str()).collect();
            unknown("aggregate", &args.aggregate, &known)
        })?;
    write_object(aggregate, &args.output, console)?;
    Ok(OK)
}

/// The aggregates in the order of their names.
async fn fetch(bus: &Bus, console: &mut Console<'_>) -> anyhow::Result<Vec<AggregateRow>> {
    let status = in_force(bus, console).await?;
    let defined = BTreeMap::<String, Defined>::deserialize(&status.policy["aggregates"])?;
    let mut hosts = bus.scheduler().list_hosts(bus.options()).await.map_err(scheduler_failed)?.hosts;
    hosts.sort_by(|a, b| natural(&a.host, &b.host));
    let row = |(name, Defined { id, hosts: by_name, metadata, matching })| {
        let inside = hosts.iter().filter(|host| host.aggregates.contains(&name));
        AggregateRow {
            hosts: inside.map(|host| host.host.clone()).collect(),
            availability_zone: metadata.get("availability_zone").cloned(),
            name,
            id,
            metadata,
            by_name,
            matching,
        }
    };
    let mut rows: Vec<_> = defined.into_iter().map(row).collect();
    rows.sort_by(|a, b| natural(&a.name, &b.name));
    Ok(rows)
}
