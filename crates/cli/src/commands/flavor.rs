//! `novella flavor`: the flavors of the schedulers' policy, which requests may name.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use novella_objects::Flavor;
use serde::Deserialize;
use serde_json::json;

use super::policy::{in_force, unknown};
use crate::connect::Bus;
use crate::exit_codes::OK;
use crate::output::{
    Cell, Column, Console, Listing, OutputArgs, SortArgs, natural, pairs, write_object, write_sorted,
};
use crate::units;

/// The commands of `flavor`.
#[derive(Debug, Subcommand)]
pub enum FlavorCommand {
    /// List the flavors of the policy
    #[command(alias = "ls")]
    List(FlavorListArgs),
    /// Show one flavor
    #[command(aliases = ["get", "describe"])]
    Show(FlavorShowArgs),
}

/// Arguments of `flavor list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella flavor list
  novella flavor list --sort ram:desc
  novella flavor list -f value -c name

`novella capacity` counts how many more instances of each fit.")]
pub struct FlavorListArgs {
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

/// Arguments of `flavor show`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  novella flavor show m1.small\n  novella flavor show m1.small -f json")]
pub struct FlavorShowArgs {
    /// Name or id of the flavor
    pub flavor: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

const FLAVORS: Listing<Flavor> = Listing {
    all: &[
        Column::field("name", |f| json!(f.name)),
        Column::field("id", |f| json!(f.id)),
        Column::field("vcpus", |f| json!(f.vcpus)),
        Column::field("memory_mb", |f| json!(f.memory_mb)),
        Column::view("ram", |f| json!(f.memory_mb), |f| Cell::number(units::mib(f.memory_mb))),
        Column::field("root_gb", |f| json!(f.root_gb)),
        Column::field("ephemeral_gb", |f| json!(f.ephemeral_gb)),
        Column::view("disk", |f| json!(f.disk_gb()), |f| Cell::number(units::gib(f.disk_gb()))),
        Column::field("swap", |f| json!(f.swap)),
        Column::view("extra_specs", |f| json!(f.extra_specs), |f| pairs(&f.extra_specs)),
    ],
    table: &["name", "vcpus", "ram", "disk", "extra_specs"],
    wide: &["id", "root_gb", "ephemeral_gb", "swap"],
    fields: &["name", "id", "vcpus", "memory_mb", "root_gb", "ephemeral_gb", "swap", "extra_specs"],
};

/// Lists the flavors.
pub async fn list(bus: &Bus, args: &FlavorListArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    FLAVORS.pick(&args.output.columns)?;
    let mut flavors = fetch(bus, console).await?;
    write_sorted(&mut flavors, &FLAVORS, args.sort.sort.as_ref(), &args.output, console)?;
    Ok(OK)
}

/// Shows one flavor.
pub async fn show(bus: &Bus, args: &FlavorShowArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let flavors = fetch(bus, console).await?;
    let by_name = flavors.iter().find(|flavor| flavor.name == args.flavor);
    let flavor = by_name.or_else(|| flavors.iter().find(|flavor| flavor.id == args.flavor));
    let flavor = flavor.ok_or_else(|| {
        let known: Vec<_> = flavors.iter().map(|flavor| flavor.name.as_str()).collect();
        unknown("flavor", &args.flavor, &known)
    })?;
    write_object(flavor, &args.output, console)?;
    Ok(OK)
}

/// The flavors in the order of their names.
async fn fetch(bus: &Bus, console: &mut Console<'_>) -> anyhow::Result<Vec<Flavor>> {
    let status = in_force(bus, console).await?;
    let by_name = BTreeMap::<String, Flavor>::deserialize(&status.policy["flavors"])?;
    let mut flavors: Vec<_> = by_name.into_values().collect();
    flavors.sort_by(|a, b| natural(&a.name, &b.name));
    Ok(flavors)
}
