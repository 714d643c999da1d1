//! `novella group`: the server groups of the schedulers' policy and of instances, with their members.

use clap::{Args, Subcommand};
use novella_objects::{GroupMember, ServerGroupSummary};
use serde_json::json;

use super::policy::unknown;
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::OK;
use crate::output::{
    Cell, Column, Console, Format, Listing, OutputArgs, SortArgs, natural, printable, write_object,
    write_rows, write_sorted,
};

/// The commands of `group`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the server groups with the number of their members
    #[command(alias = "ls")]
    List(GroupListArgs),
    /// Show one server group: its rule, and the host of each member
    #[command(aliases = ["get", "describe"])]
    Show(GroupShowArgs),
}

/// Arguments of `group list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella group list
  novella group list --sort instances:desc

A group is listed if the policy defines it, or if it has members.
`novella place --hint group=NAME` makes instances members.")]
pub struct GroupListArgs {
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

/// Arguments of `group show`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella group show web
  novella group show web -f value -c host

STATE is reported for an instance that its host reports, and held for one whose room is held for now.")]
pub struct GroupShowArgs {
    /// Name of the server group
    pub group: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

const GROUPS: Listing<ServerGroupSummary> = Listing::of(&[
    Column::field("name", |g| json!(g.name)),
    Column::field("policy", |g| json!(g.policy)),
    Column::field("max_server_per_host", |g| json!(g.max_server_per_host)),
    Column::field("instances", |g| json!(g.instances)),
]);

const MEMBERS: Listing<GroupMember> = Listing {
    all: &[
        Column::field("instance_uuid", |m| json!(m.instance_uuid)),
        Column::field("host", |m| json!(m.host)),
        Column::field("held", |m| json!(m.held)),
        Column::view("state", |m| json!(state(m)), |m| Cell::text(state(m))),
    ],
    table: &["instance_uuid", "host", "state"],
    wide: &[],
    fields: &["instance_uuid", "host", "held"],
};

fn state(member: &GroupMember) -> &'static str {
    if member.held { "held" } else { "reported" }
}

/// Lists the groups.
pub async fn list(bus: &Bus, args: &GroupListArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    GROUPS.pick(&args.output.columns)?;
    let groups = bus.scheduler().list_server_groups(None, bus.options()).await;
    let mut groups = groups.map_err(scheduler_failed)?;
    groups.sort_by(|a, b| natural(&a.name, &b.name));
    write_sorted(&mut groups, &GROUPS, args.sort.sort.as_ref(), &args.output, console)?;
    Ok(OK)
}

/// Shows one group. `-c` picks columns of its members.
pub async fn show(bus: &Bus, args: &GroupShowArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    MEMBERS.pick(&args.output.columns)?;
    let found = bus.scheduler().list_server_groups(Some(&args.group), bus.options()).await;
    let Some(group) = found.map_err(scheduler_failed)?.pop() else {
        let all = bus.scheduler().list_server_groups(None, bus.options()).await.map_err(scheduler_failed)?;
        let known: Vec<_> = all.iter().map(|group| group.name.as_str()).collect();
        return Err(unknown("server group", &args.group, &known).into());
    };
    let output = &args.output;
    match output.format {
        Format::Json | Format::Jsonl | Format::Yaml if output.columns.is_empty() => {
            write_object(&group, output, console)?;
        }
        format => {
            if format.is_table() {
                writeln!(console.out, "{}", printable(&headline(&group)))?;
            }
            write_rows(&group.members, &MEMBERS, output, console)?;
        }
    }
    Ok(OK)
}

fn headline(group: &ServerGroupSummary) -> String {
    let policy = match (&group.policy, group.max_server_per_host) {
        (None, _) => "the policy has no rule for it".to_owned(),
        (Some(policy), None) => policy.clone(),
        (Some(policy), Some(1)) => format!("{policy}, at most 1 member on a host"),
        (Some(policy), Some(most)) => format!("{policy}, at most {most} members on a host"),
    };
    let members = if group.instances == 1 { "member" } else { "members" };
    format!("server group {}: {policy}; {} {members}", group.name, group.instances)
}
