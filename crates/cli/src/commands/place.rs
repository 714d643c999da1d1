//! `novella place`: asks where instances would go.

use clap::Args;
use novella_messaging::CallOptions;
use novella_objects::{Decision, Flavor, Refusal, RequestSpec, SelectDestinations};
use novella_rpcapi::SchedulerApi;
use novella_service::Env;
use novella_service::exit::Failure;
use uuid::Uuid;

use super::explain;
use crate::connect::{Peer, failed};
use crate::exit_codes::{CONFLICT, OK, REFUSED, TIMEOUT, UNREACHABLE, USAGE};
use crate::output::{Console, OutputArgs};
use crate::units;

/// Instances in one request at most, as the schedulers have it.
const MAX_COUNT: u32 = 10_000;
/// Instances named in a hint; more would drown it.
const NAMED_IN_HINT: usize = 3;

/// See the module.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella place --vcpus 2 --ram 4G --disk 20G
  novella place --vcpus 1 --ram 512M --disk 1G --count 3 --hold 2m -f json
  novella place --vcpus 8 --ram 32G --az north --dry-run --explain
  novella place --vcpus 1 --ram 1G --extra-spec capabilities:cpu_info:arch=x86_64

Exit code 0: it fits. 1: no host fits, and the filters say why. 5: an --instance already stands for something else.")]
pub struct PlaceArgs {
    /// CPUs of each instance
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536), allow_negative_numbers = true)]
    pub vcpus: u32,
    /// Memory of each instance: 512M, 4G; a bare number is MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_ram, allow_negative_numbers = true)]
    pub ram: u64,
    /// Disk of each instance: 20G, 1T; a bare number is GiB
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = units::parse_disk, allow_negative_numbers = true)]
    pub disk: u64,
    /// How many equal instances: all are placed, or none
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_COUNT)), allow_negative_numbers = true)]
    pub count: u32,
    /// Only hosts of this availability zone
    #[arg(long, value_name = "ZONE", alias = "availability-zone")]
    pub az: Option<String>,
    /// What the host must be able to do, as flavors say it; repeat it for several
    #[arg(long = "extra-spec", value_name = "KEY=VALUE", value_parser = units::parse_pair)]
    pub extra_specs: Vec<(String, String)>,
    /// Scheduler hint; a key given more than once is a list
    #[arg(long = "hint", value_name = "KEY=VALUE", value_parser = units::parse_pair)]
    pub hints: Vec<(String, String)>,
    /// Only this host, and only if it passes the filters
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only this host, filters or no filters; repeat it for several
    #[arg(long = "force-host", value_name = "HOST", conflicts_with = "host")]
    pub force_hosts: Vec<String>,
    /// Not this host; repeat it for several
    #[arg(long = "ignore-host", value_name = "HOST")]
    pub ignore_hosts: Vec<String>,
    /// How long the room is held: 30s, 5m [default: the scheduler's setting]
    #[arg(long, value_name = "TIME", value_parser = units::parse_seconds, conflicts_with = "dry_run")]
    pub hold: Option<u64>,
    /// How many next best hosts to name [default: the scheduler's setting]
    #[arg(long, value_name = "N")]
    pub alternates: Option<u32>,
    /// Decide, but hold nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Show what each filter and weigher did
    #[arg(long)]
    pub explain: bool,
    /// Uuid of the instance, to repeat a request safely; repeat it for several
    #[arg(long = "instance", value_name = "UUID", conflicts_with = "count")]
    pub instances: Vec<Uuid>,
    /// Project that asks
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl PlaceArgs {
    /// The request, with fresh uuids for instances that were not named.
    pub fn request(&self, env: &Env) -> Result<SelectDestinations, Failure> {
        let usage = |what| Failure::new(USAGE, what).next("see `novella place --help`");
        let instance_uuids = if self.instances.is_empty() {
            (0..self.count).map(|_| env.random.uuid()).collect()
        } else {
            self.instances.clone()
        };
        let flavor = Flavor {
            vcpus: self.vcpus,
            memory_mb: self.ram,
            root_gb: self.disk,
            extra_specs: units::extra_specs(&self.extra_specs).map_err(usage)?,
            ..Flavor::default()
        };
        let request_spec = RequestSpec {
            instance_uuids,
            flavor,
            availability_zone: self.az.clone(),
            force_hosts: self.force_hosts.clone(),
            ignore_hosts: self.ignore_hosts.clone(),
            target_host: self.host.clone(),
            scheduler_hints: units::hints(&self.hints),
            project_id: self.project.clone(),
            attempt: 1,
            ..RequestSpec::default()
        };
        Ok(SelectDestinations {
            request_spec,
            flavor: None,
            dry_run: self.dry_run,
            hold_s: self.hold,
            alternates: self.alternates,
        })
    }
}

/// Asks, shows the answer, and says by the exit code whether it fits.
pub async fn run(
    api: &SchedulerApi,
    options: CallOptions,
    args: &PlaceArgs,
    env: &Env,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let request = args.request(env)?;
    let decision = match api.select_destinations(&request, options).await {
        Ok(decision) => decision,
        Err(error) => return Err(unanswered(failed(error, Peer::AnyScheduler), &request).into()),
    };
    if args.output.format.is_table() {
        explain::headline(&request.request_spec, &decision, console)?;
    }
    explain::show(&decision, args.explain, &args.output, console)?;
    Ok(exit_code(&decision))
}

/// The exit code for an answer.
pub fn exit_code(decision: &Decision) -> u8 {
    match &decision.refusal {
        None => OK,
        Some(Refusal::NoValidHost { .. }) => REFUSED,
        Some(Refusal::Conflict { .. }) => CONFLICT,
    }
}

/// A request without answer may still be answered by a reservation: its uuids make repeating it safe.
fn unanswered(failure: Failure, request: &SelectDestinations) -> Failure {
    let reached = failure.code == TIMEOUT || (failure.code == UNREACHABLE && failure.source.is_some());
    if !reached || request.dry_run {
        return failure;
    }
    let uuids = &request.request_spec.instance_uuids;
    let named: Vec<_> = uuids.iter().take(NAMED_IN_HINT).map(|uuid| format!("--instance {uuid}")).collect();
    let more = if uuids.len() > NAMED_IN_HINT { " ..." } else { "" };
    let before = failure.next.clone().unwrap_or_default();
    failure.next(format!("{before}; repeating it with {}{more} never places twice", named.join(" ")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(line: &str) -> Result<PlaceArgs, clap::Error> {
        match Cli::try_parse_from(format!("novella place {line}").split_whitespace())?.command {
            Command::Place(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn arguments_become_a_request() {
        let args = parse(
            "--vcpus 2 --ram 1.5G --disk 20 -n 3 --az north --extra-spec a:b=c --hint g=1 --hint g=2 --ignore-host x \
             --hold 2m --project p",
        );
        let request = args.unwrap().request(&Env::simulated(1)).unwrap();
        let spec = &request.request_spec;
        assert_eq!((spec.flavor.vcpus, spec.flavor.memory_mb, spec.flavor.root_gb), (2, 1536, 20));
        assert_eq!(spec.instance_uuids.len(), 3);
        assert_eq!(spec.flavor.extra_specs["a:b"], "c");
        assert_eq!(spec.scheduler_hints["g"], serde_json::json!(["1", "2"]));
        assert_eq!((request.hold_s, request.dry_run, spec.attempt), (Some(120), false, 1));
        assert_eq!(
            (spec.availability_zone.as_deref(), spec.project_id.as_deref()),
            (Some("north"), Some("p"))
        );
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let size = "--vcpus 1 --ram 1G";
        for (line, said) in [
            ("--vcpus 0 --ram 1G", "0 is not in 1..=65536"),
            ("--vcpus -1 --ram 1G", "-1"),
            ("--vcpus 1 --ram -1", "cannot be negative"),
            ("--vcpus 1 --ram 1.5", "whole MiB"),
            ("--vcpus 1 --ram 99999999T", "too large"),
            ("--ram 1G", "--vcpus"),
            (&format!("{size} --disk 512M"), "not a whole number of GiB"),
            (&format!("{size} --count 0"), "0 is not in 1..=10000"),
            (&format!("{size} --hold 0s"), "longer than nothing"),
            (&format!("{size} --host a --force-host b"), "cannot be used with"),
            (&format!("{size} --instance nonsense"), "nonsense"),
            (&format!("{size} --hint nonsense"), "KEY=VALUE"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_answer_can_be_repeated_safely() {
        let mut request = parse("--vcpus 1 --ram 1G -n 4").unwrap().request(&Env::simulated(1)).unwrap();
        let timeout = || Failure::new(TIMEOUT, "x").next("wait longer");
        let next = unanswered(timeout(), &request).next.unwrap();
        assert!(next.starts_with("wait longer; repeating it with --instance "), "{next}");
        assert!(
            next.contains(&request.request_spec.instance_uuids[2].to_string()) && next.contains(" ..."),
            "{next}"
        );
        request.dry_run = true;
        assert_eq!(unanswered(timeout(), &request).next.as_deref(), Some("wait longer"));
    }
}
