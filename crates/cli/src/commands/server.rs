//! `novella server`: instances that hosts build.
//!
//! What always holds: a name is looked up before anything is done, and a name that several instances have is refused. The uuids
//! of new instances are printed before they are asked for, so that whoever loses the answer can find them.
//!
//! Layout, in reading order:
//! - `create`: places instances, has them built, and waits for them if asked to

pub mod create;

use clap::{Args, Subcommand};
use novella_messaging::RpcError;
use novella_objects::{InstanceEvent, InstanceSummary};
use novella_rpcapi::{FoundInstance, InstanceListQuery};
use novella_service::exit::Failure;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

pub use self::create::ServerCreateArgs;
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{CONFLICT, NOT_FOUND, OK, PARTIAL};
use crate::output::{
    Cell, Column, Console, Listing, OutputArgs, SortArgs, Tone, natural, write_object, write_rows,
    write_sorted,
};
use crate::units;

/// The commands of `server`.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Create instances: choose hosts, and have them build
    Create(Box<ServerCreateArgs>),
    /// List the instances that hosts report
    #[command(alias = "ls")]
    List(ServerListArgs),
    /// Show one instance with its state, its host and its events
    #[command(aliases = ["get", "describe"])]
    Show(ServerShowArgs),
    /// Delete instances: their hosts destroy them and give the room back
    #[command(alias = "rm")]
    Delete(ServerDeleteArgs),
    /// Stop the guests of instances; they keep their room
    Stop(ServerStopArgs),
    /// Start the guests of stopped instances
    Start(ServerStartArgs),
    /// Show what happened to an instance on its host
    Events(ServerEventsArgs),
}

/// Arguments of `server list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella server list
  novella server list --host cmp-1 --status error,building
  novella server list --name web-1 -f json
  novella server list --all --sort memory_mb:desc
  novella server list -f value -c uuid -c host

The list is what hosts reported last; AGE is the age of the report. --all adds what `novella place` claims and holds,
with the status claim or hold.")]
pub struct ServerListArgs {
    /// Only instances on this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only instances of this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only instances with this status; repeat it, or separate several by commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = ["building", "active", "stopped", "error", "claim", "hold"])]
    pub status: Vec<String>,
    /// List claims and holds too
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

/// Arguments of `server show`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella server show web-1
  novella server show 6f1c9d0e-2b7a-4c55-9d0e-0c1f2a3b4c5d -f json

Exit code 4: nothing has this name or uuid. 5: several instances have this name.")]
pub struct ServerShowArgs {
    /// Name or uuid of the instance
    #[arg(value_name = "NAME|UUID")]
    pub server: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `server events`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella server events web-1
  novella server events web-1 -f json")]
pub struct ServerEventsArgs {
    /// Name or uuid of the instance
    #[arg(value_name = "NAME|UUID")]
    pub server: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The instances that a command does something to.
#[derive(Debug, Default, Args)]
pub struct Servers {
    /// Names or uuids of instances
    #[arg(value_name = "NAME|UUID", required = true)]
    pub servers: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `server delete`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella server delete web-1
  novella server delete web-1 web-2 6f1c9d0e-2b7a-4c55-9d0e-0c1f2a3b4c5d

The command ends once each host has noted that its instance is to go. Room that `novella place` has claimed or held is
given back by `novella release`.
Exit code 3: some could not be deleted, and the others are.")]
pub struct ServerDeleteArgs {
    #[command(flatten)]
    pub wanted: Servers,
}

/// Arguments of `server stop`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella server stop web-1
  novella server stop web-1 web-2")]
pub struct ServerStopArgs {
    #[command(flatten)]
    pub wanted: Servers,
}

/// Arguments of `server start`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella server start web-1
  novella server start web-1 web-2")]
pub struct ServerStartArgs {
    #[command(flatten)]
    pub wanted: Servers,
}

const SERVERS: Listing<InstanceSummary> = Listing {
    all: &[
        Column::field("uuid", |s| json!(s.uuid)),
        Column::field("name", |s| json!(s.instance.as_ref().map(|instance| &instance.build.name))),
        Column::field("host", |s| json!(s.host)),
        Column::view("status", |s| json!(status(s)), |s| Cell::text(status(s)).tone(tone(s))),
        Column::field("task", |s| {
            json!(s.instance.as_ref().and_then(|instance| instance.task_state).map(|task| task.name()))
        }),
        Column::field("power", |s| json!(s.instance.as_ref().map(|instance| instance.power_state))),
        Column::view("size", |s| json!(s.memory_mb), |s| Cell::text(size(s))),
        Column::field("flavor", |s| json!(s.flavor)),
        Column::field("vcpus", |s| json!(s.vcpus)),
        Column::field("memory_mb", |s| json!(s.memory_mb)),
        Column::field("disk_gb", |s| json!(s.disk_gb)),
        Column::field("image", |s| {
            json!(s.instance.as_ref().and_then(|instance| instance.build.image.as_ref()))
        }),
        Column::field("tags", |s| json!(s.instance.as_ref().map(|instance| &instance.build.tags))),
        Column::field("group", |s| json!(s.group)),
        Column::field("fault", |s| json!(s.instance.as_ref().and_then(|instance| instance.fault.as_ref()))),
        Column::field("created_at", |s| json!(s.instance.as_ref().map(|instance| &instance.created_at))),
        Column::field("hold_ms", |s| json!(s.hold_ms)),
        Column::field("decision", |s| json!(s.decision)),
        Column::field("user", |s| json!(s.user)),
        Column::field("instance", |s| json!(s.instance)),
        Column::field("age_s", |s| json!(s.age_s)),
        Column::view("age", |s| json!(s.age_s), |s| Cell::number(units::age(s.age_s))),
    ],
    table: &["uuid", "name", "host", "status", "task", "power", "size", "age"],
    wide: &["image", "tags", "group", "fault", "created_at", "decision", "user"],
    fields: &[
        "uuid",
        "name",
        "host",
        "status",
        "task",
        "power",
        "flavor",
        "vcpus",
        "memory_mb",
        "disk_gb",
        "image",
        "tags",
        "group",
        "fault",
        "created_at",
        "hold_ms",
        "decision",
        "user",
        "age_s",
    ],
};

const EVENTS: Listing<InstanceEvent> = Listing::of(&[
    Column::field("at", |e| json!(e.at)),
    Column::field("event", |e| json!(e.event)),
    Column::field("detail", |e| json!(e.detail)),
]);

/// The state of an instance, or what is there instead of one.
fn status(summary: &InstanceSummary) -> &'static str {
    match (&summary.instance, summary.hold_ms) {
        (Some(instance), _) => instance.vm_state.name(),
        (None, Some(_)) => "hold",
        (None, None) => "claim",
    }
}

fn tone(summary: &InstanceSummary) -> Tone {
    match status(summary) {
        "active" => Tone::Good,
        "building" => Tone::Warn,
        "error" => Tone::Bad,
        "stopped" => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// The flavor, or the sizes if it has none.
fn size(summary: &InstanceSummary) -> String {
    let InstanceSummary { flavor, vcpus, memory_mb, disk_gb, .. } = summary;
    let sizes = || format!("{vcpus} CPU, {}, {}", units::mib(*memory_mb), units::gib(*disk_gb));
    flavor.clone().filter(|name| !name.is_empty()).unwrap_or_else(sizes)
}

/// Lists the instances.
pub async fn list(bus: &Bus, args: &ServerListArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    SERVERS.pick(&args.output.columns)?;
    let of_claims = args.status.iter().any(|status| status == "claim" || status == "hold");
    let query =
        InstanceListQuery { host: args.host.clone(), name: args.name.clone(), all: args.all || of_claims };
    let listed = bus.scheduler().list_instances(&query, bus.options()).await.map_err(scheduler_failed)?;
    let mut rows = listed.instances;
    rows.retain(|row| args.status.is_empty() || args.status.iter().any(|wanted| wanted == status(row)));
    let name =
        |row: &InstanceSummary| row.instance.as_ref().map_or(String::new(), |it| it.build.name.clone());
    rows.sort_by(|a, b| natural(&name(a), &name(b)).then_with(|| a.uuid.cmp(&b.uuid)));
    write_sorted(&mut rows, &SERVERS, args.sort.sort.as_ref(), &args.output, console)?;
    if listed.left_out > 0 {
        let left_out = listed.left_out;
        console
            .note(&format!("warning: {left_out} more are left out; narrow the list with --host or --name"));
        return Ok(PARTIAL);
    }
    Ok(OK)
}

/// What is shown of one instance.
#[derive(Serialize)]
struct Shown<'a> {
    status: &'static str,
    #[serde(flatten)]
    summary: &'a InstanceSummary,
    events: &'a [InstanceEvent],
}

/// Shows one instance.
pub async fn show(bus: &Bus, args: &ServerShowArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let FoundInstance { summary, events, events_missing } = find(bus, &args.server, console).await?;
    let as_tables = args.output.format.is_table() && args.output.columns.is_empty();
    let shown =
        Shown { status: status(&summary), summary: &summary, events: if as_tables { &[] } else { &events } };
    write_object(&shown, &args.output, console)?;
    if as_tables && !events.is_empty() {
        writeln!(console.out)?;
        write_rows(&events, &EVENTS, &args.output, console)?;
    }
    if let Some(missing) = events_missing {
        console.note(&format!("warning: {missing}"));
    }
    Ok(OK)
}

/// Shows the events of one instance.
pub async fn events(bus: &Bus, args: &ServerEventsArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    EVENTS.pick(&args.output.columns)?;
    let FoundInstance { summary, events, events_missing } = find(bus, &args.server, console).await?;
    if let Some(missing) = events_missing {
        return Err(Failure::new(PARTIAL, missing)
            .next(format!("`novella ping {}` asks the host", summary.host))
            .into());
    }
    write_rows(&events, &EVENTS, &args.output, console)?;
    Ok(OK)
}

/// The one instance with this name or uuid.
async fn find(bus: &Bus, server: &str, console: &mut Console<'_>) -> Result<FoundInstance, Failure> {
    let mut found = bus.scheduler().get_instance(server, bus.options()).await.map_err(scheduler_failed)?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::new(NOT_FOUND, format!("no instance {server} is reported by any host"))
            .next("`novella server list` shows those that are; a new one is reported within seconds")),
        several => {
            for FoundInstance { summary, .. } in &found {
                console.note(&format!("{} on {}, {}", summary.uuid, summary.host, status(summary)));
            }
            Err(Failure::new(CONFLICT, format!("{several} instances are {server}"))
                .next("name the uuid of one of them"))
        }
    }
}

/// What a command did to one instance.
#[derive(Serialize)]
struct Done {
    server: String,
    uuid: Option<Uuid>,
    outcome: String,
}

const DONE: Listing<Done> = Listing::of(&[
    Column::field("server", |d| json!(d.server)),
    Column::field("uuid", |d| json!(d.uuid)),
    Column::field("outcome", |d| json!(d.outcome)),
]);

/// Deletes instances.
pub async fn delete(bus: &Bus, args: &ServerDeleteArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let delete = async |uuid| bus.scheduler().terminate_instance(uuid, bus.options()).await;
    for_each(bus, &args.wanted, "deleted", delete, console).await
}

/// Stops the guests of instances.
pub async fn stop(bus: &Bus, args: &ServerStopArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let stop = async |uuid| bus.scheduler().stop_instance(uuid, bus.options()).await;
    for_each(bus, &args.wanted, "stopping", stop, console).await
}

/// Starts the guests of instances.
pub async fn start(bus: &Bus, args: &ServerStartArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let start = async |uuid| bus.scheduler().start_instance(uuid, bus.options()).await;
    for_each(bus, &args.wanted, "starting", start, console).await
}

/// Does this to each of the instances, in order, and shows what came of each.
async fn for_each(
    bus: &Bus,
    wanted: &Servers,
    done: &str,
    act: impl AsyncFn(Uuid) -> Result<(), RpcError>,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    DONE.pick(&wanted.output.columns)?;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for server in &wanted.servers {
        // A uuid need not be looked up, and may be one that no host has reported yet.
        let uuid = match server.parse() {
            Ok(uuid) => Ok(uuid),
            Err(_) => find(bus, server, console).await.map(|found| found.summary.uuid),
        };
        let outcome = match &uuid {
            Ok(uuid) => act(*uuid).await.map_err(scheduler_failed),
            Err(failure) => Err(Failure::new(failure.code, failure.what.clone())
                .next(failure.next.clone().unwrap_or_default())),
        };
        let said = outcome.as_ref().map_or_else(|failure| failure.what.clone(), |()| done.to_owned());
        rows.push(Done { server: server.clone(), uuid: uuid.ok(), outcome: said });
        failures.extend(outcome.err());
    }
    if failures.len() == 1 && rows.len() == 1 {
        return Err(failures.remove(0).into());
    }
    write_rows(&rows, &DONE, &wanted.output, console)?;
    if failures.is_empty() {
        return Ok(OK);
    }
    let (failed, first) = (failures.len(), failures.remove(0));
    let code = if failed < rows.len() { PARTIAL } else { first.code };
    let failure = Failure::new(code, format!("{failed} of {} failed: {}", rows.len(), first.what));
    Err(first.next.into_iter().fold(failure, Failure::next).into())
}
