//! `novella server create`: places instances, has their hosts build them, and waits for them if asked to.
//!
//! What always holds: with `--wait`, the exit code is 0 only if every instance is active.
//!
//! Left out: a new attempt for an instance whose build failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use novella_objects::{
    BuildRequest, Decision, InstanceSummary, MAX_NAME, Refusal, SelectDestinations, VmState, is_name,
};
use novella_rpcapi::{CreateInstance, InstanceListQuery};
use novella_service::Env;
use novella_service::exit::Failure;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::commands::request::RequestArgs;
use crate::commands::{decision, zone};
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{OK, REFUSED, TIMEOUT, UNREACHABLE, USAGE};
use crate::output::{Console, OutputArgs, printable};
use crate::units;

/// How often hosts' reports are looked at while instances are built.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `server create`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella server create web --flavor m1.small --image debian-12
  novella server create db --vcpus 4 --ram 16G --disk 100G --az north --tag team=db
  novella server create web --flavor m1.small --count 3 --group web     web-1, web-2 and web-3
  novella server create web --flavor m1.small --wait --timeout 5m

The command ends once the hosts have noted the instances, and building follows. With --wait it ends when all are
active, or when --timeout is over.

Exit code 0: the hosts build them, or with --wait: all are active. 1: no host fits, or a build failed. 124: the time ran out.")]
pub struct ServerCreateArgs {
    /// Name of the instance; with --count N the instances are NAME-1 to NAME-N
    #[arg(value_parser = name)]
    pub name: String,
    /// CPUs of each instance
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536), allow_negative_numbers = true, required_unless_present = "flavor")]
    pub vcpus: Option<u32>,
    /// Memory of each instance: 512M, 4G; a bare number is MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_ram, allow_negative_numbers = true, required_unless_present = "flavor")]
    pub ram: Option<u64>,
    /// A flavor of the schedulers' policy, by name or id, instead of sizes and extra specs
    #[arg(long, value_name = "NAME", conflicts_with_all = ["vcpus", "ram", "disk", "extra_specs"])]
    pub flavor: Option<String>,
    #[command(flatten)]
    pub request: RequestArgs,
    /// Name or id of the image
    #[arg(long, value_name = "IMAGE", value_parser = name)]
    pub image: Option<String>,
    /// Server group of the instances: short for `--hint group=NAME`
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Label of the instances; repeat it for several
    #[arg(long = "tag", value_name = "TAG", value_parser = name)]
    pub tags: Vec<String>,
    /// The number of this attempt, if a request is repeated with --instance; of two claims, the later attempt survives
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), requires = "instances", allow_negative_numbers = true)]
    pub attempt: u32,
    /// Wait until all are active, at most until --timeout is over
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

fn name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("it must have 1 to {MAX_NAME} bytes and no control characters")),
    }
}

impl ServerCreateArgs {
    /// The request, with new uuids for instances that were not named.
    pub fn request(&self, env: &Env) -> Result<CreateInstance, Failure> {
        let mut asked = self.request.clone();
        asked.hints.extend(self.group.iter().map(|group| ("group".to_owned(), group.clone())));
        let mut request_spec = asked.request(self.vcpus, self.ram, env)?;
        request_spec.attempt = self.attempt.max(1);
        let instances = request_spec.instance_uuids.len();
        let build = |number: usize| BuildRequest {
            name: if instances == 1 { self.name.clone() } else { format!("{}-{number}", self.name) },
            image: self.image.clone(),
            tags: self.tags.clone(),
        };
        let builds: Vec<_> = (1..=instances).map(build).collect();
        for build in &builds {
            build
                .check()
                .map_err(|what| Failure::new(USAGE, what).next("see `novella server create --help`"))?;
        }
        let flavor = self.flavor.clone();
        let request =
            SelectDestinations { request_spec, flavor, claim: true, ..SelectDestinations::default() };
        Ok(CreateInstance { request, builds })
    }
}

/// Asks a scheduler, shows the answer, and waits for the instances if that is wanted.
pub async fn run(
    bus: &Bus,
    args: &ServerCreateArgs,
    env: &Env,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let deadline = Instant::now() + bus.options().timeout;
    let asked = args.request(env)?;
    let uuids = &asked.request.request_spec.instance_uuids;
    let named: Vec<_> = asked
        .builds
        .iter()
        .zip(uuids)
        .map(|(build, uuid)| format!("{} {uuid}", printable(&build.name)))
        .collect();
    console.note(&format!("creating {}", named.join(", ")));
    let decided = bus.scheduler().create_instance(&asked, bus.options()).await;
    let decided = decided.map_err(|error| unanswered(scheduler_failed(error), &asked))?;
    if args.output.format.is_table() {
        decision::headline(&asked.request.request_spec, args.flavor.as_deref(), &decided, console)?;
    }
    let mut notes = decision::notes(&decided);
    if decided.refusal.is_some() {
        notes.extend(zone::unknown(bus, args.request.az.as_deref()).await);
    }
    decision::show(&decided, &notes, false, &args.output, console)?;
    if let (Some(Refusal::NoValidHost { .. }), true) = (&decided.refusal, args.output.format.is_table()) {
        let id = printable(&decided.decision_id);
        console.note(&format!("next: `novella explain {id} --fix` searches for changes that make it fit"));
    }
    match (args.wait, decision::exit_code(&decided)) {
        (true, OK) => wait(bus, &asked, &decided, deadline, console).await,
        (_, code) => Ok(code),
    }
}

/// Adds to the next step how to repeat the request safely, because hosts may build although no answer came.
fn unanswered(failure: Failure, asked: &CreateInstance) -> Failure {
    let reached = failure.code == TIMEOUT || (failure.code == UNREACHABLE && failure.source.is_some());
    if !reached {
        return failure;
    }
    let request = &asked.request.request_spec;
    let before = failure.next.clone().unwrap_or_default();
    let named: Vec<_> = request.instance_uuids.iter().map(|uuid| format!("--instance {uuid}")).collect();
    let attempt = request.attempt.saturating_add(1);
    let again = format!("{} --attempt {attempt}", named.join(" "));
    failure.next(format!("{before}; repeating it with {again} never creates an instance twice"))
}

/// Waits until every instance is active, and tells each change on the way.
async fn wait(
    bus: &Bus,
    asked: &CreateInstance,
    decided: &Decision,
    deadline: Instant,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let uuids = asked.request.request_spec.instance_uuids.iter().copied();
    let mut left: BTreeMap<Uuid, &str> =
        uuids.zip(asked.builds.iter().map(|build| build.name.as_str())).collect();
    let hosts: BTreeSet<&str> = decided.selections.iter().map(|selection| selection.host.as_str()).collect();
    let mut told: BTreeMap<Uuid, String> = BTreeMap::new();
    loop {
        for row in on_hosts(bus, &hosts).await? {
            let (Some(name), Some(instance)) = (left.get(&row.uuid).copied(), &row.instance) else {
                continue;
            };
            let task = instance.task_state.map(|task| format!(" ({task})")).unwrap_or_default();
            let state = format!("{}{task}", instance.vm_state);
            if told.get(&row.uuid) != Some(&state) {
                console.note(&format!("{} is {state} on {}", printable(name), row.host));
                told.insert(row.uuid, state);
            }
            match instance.vm_state {
                VmState::Active => drop(left.remove(&row.uuid)),
                VmState::Error => return Err(build_failed(name, &row).into()),
                VmState::Building | VmState::Stopped => {}
            }
        }
        if left.is_empty() {
            return Ok(OK);
        }
        if Instant::now() + LOOK_EVERY > deadline {
            let names: Vec<_> = left.values().map(|name| printable(name)).collect();
            let what = format!("not yet active: {}", names.join(", "));
            let next = "they are still being built; `novella server list` shows how far they are, and --timeout waits longer";
            return Err(Failure::new(TIMEOUT, what).next(next).into());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What these hosts report.
async fn on_hosts(bus: &Bus, hosts: &BTreeSet<&str>) -> Result<Vec<InstanceSummary>, Failure> {
    let mut found = Vec::new();
    for host in hosts {
        let query = InstanceListQuery { host: Some((*host).to_owned()), ..InstanceListQuery::default() };
        let listed = bus.scheduler().list_instances(&query, bus.options()).await.map_err(scheduler_failed)?;
        found.extend(listed.instances);
    }
    Ok(found)
}

fn build_failed(name: &str, row: &InstanceSummary) -> Failure {
    let fault = row.instance.as_ref().and_then(|instance| instance.fault.as_deref());
    let (host, why) = (&row.host, fault.unwrap_or("the host does not say why"));
    Failure::new(REFUSED, format!("instance {name} failed on host {host}: {why}")).next(format!(
        "`novella server events {}` shows what happened; delete it before you create it again",
        row.uuid
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::commands::server::ServerCommand;

    fn parse(line: &str) -> Result<ServerCreateArgs, clap::Error> {
        let cli = Cli::try_parse_from(format!("novella server create {line}").split(' '))?;
        let Command::Server(ServerCommand::Create(args)) = cli.command else { panic!("{:?}", cli.command) };
        Ok(*args)
    }

    #[tokio::test(start_paused = true)]
    async fn arguments_become_a_request_with_a_build_for_each_instance() {
        let line =
            "web --flavor m1.small --image debian -n 2 --group front --hint a=b --tag x --tag y --az north";
        let asked = parse(line).unwrap().request(&Env::simulated(1)).unwrap();
        let spec = &asked.request.request_spec;
        assert_eq!((asked.request.flavor.as_deref(), asked.request.claim), (Some("m1.small"), true));
        assert_eq!((spec.instance_uuids.len(), spec.attempt), (2, 1));
        assert_eq!(spec.spec.scheduler_hints["group"], "front");
        let names: Vec<_> = asked.builds.iter().map(|build| build.name.as_str()).collect();
        assert_eq!(names, ["web-1", "web-2"]);
        assert_eq!(
            (asked.builds[1].image.as_deref(), &asked.builds[1].tags[..]),
            (Some("debian"), &["x".to_owned(), "y".to_owned()][..])
        );
        let one = parse("web --vcpus 1 --ram 1G").unwrap().request(&Env::simulated(1)).unwrap();
        assert_eq!(one.builds[0].name, "web", "a single instance keeps the name");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_answer_can_be_repeated_safely() {
        let asked = parse("web --vcpus 1 --ram 1G").unwrap().request(&Env::simulated(1)).unwrap();
        let uuid = asked.request.request_spec.instance_uuids[0];
        let next = unanswered(Failure::new(TIMEOUT, "x").next("wait longer"), &asked).next.unwrap();
        assert_eq!(
            next,
            format!(
                "wait longer; repeating it with --instance {uuid} --attempt 2 never creates an instance twice"
            )
        );
        let repeated = format!("web --vcpus 1 --ram 1G --instance {uuid} --attempt 2");
        let again = parse(&repeated).unwrap().request(&Env::simulated(1)).unwrap();
        assert_eq!(
            (again.request.request_spec.instance_uuids[0], again.request.request_spec.attempt),
            (uuid, 2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_arguments_are_refused() {
        for (line, said) in [
            ("web", "--vcpus"),
            ("--vcpus 1 --ram 1G", "<NAME>"),
            ("web --flavor a --vcpus 1", "cannot be used with"),
            ("web --vcpus 0 --ram 1G", "0 is not in 1..=65536"),
            ("web --vcpus 1 --ram -1", "cannot be negative"),
            ("a\u{1b}[2J --vcpus 1 --ram 1G", "no control characters"),
            ("web --vcpus 1 --ram 1G --attempt 2", "--instance"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
        let long = "x".repeat(MAX_NAME);
        let asked = parse(&format!("{long} --vcpus 1 --ram 1G -n 2")).unwrap();
        assert_eq!(
            asked.request(&Env::simulated(1)).unwrap_err().code,
            USAGE,
            "the number makes it too long"
        );
    }
}
