//! `novella place`: chooses hosts for instances and holds the room on them.

use clap::Args;
use novella_objects::{Refusal, SelectDestinations};
use novella_service::Env;
use novella_service::exit::Failure;
use uuid::Uuid;

use super::request::RequestArgs;
use super::{decision, zone};
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{TIMEOUT, UNREACHABLE, USAGE};
use crate::output::{Console, OutputArgs, printable};
use crate::units;

/// How many instances the hint on repeating a request names. More would make it unreadable.
const NAMED_IN_HINT: usize = 3;

/// Arguments of `place`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella place --vcpus 2 --ram 4G --disk 20G
  novella place --vcpus 1 --ram 512M --disk 1G --count 3 --hold 2m -f json
  novella place --vcpus 8 --ram 32G --az north --dry-run --explain
  novella place --vcpus 1 --ram 1G --extra-spec capabilities:cpu_info:arch=x86_64
  novella place --flavor m1.small --hint group=web
  novella place --vcpus 4 --ram 8G --trait HW_CPU_X86_AVX2 --no-trait CUSTOM_SLOW --resource CUSTOM_GPU=1
  novella place --vcpus 2 --ram 4G --claim                 the host keeps the room until `novella release`
  novella place --service volume --disk 100G --extra-spec volume_backend_name=lvm

Exit code 0: it fits. 1: no host fits, and the filters say why. 5: an --instance is already used for another request.")]
pub struct PlaceArgs {
    /// CPUs of each instance
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536), allow_negative_numbers = true, required_unless_present_any = ["flavor", "service"])]
    pub vcpus: Option<u32>,
    /// Memory of each instance: 512M, 4G; a bare number is MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_ram, allow_negative_numbers = true, required_unless_present_any = ["flavor", "service"])]
    pub ram: Option<u64>,
    /// A flavor of the schedulers' policy, by name or id, instead of sizes and extra specs
    #[arg(long, value_name = "NAME", conflicts_with_all = ["vcpus", "ram", "disk", "extra_specs"])]
    pub flavor: Option<String>,
    /// Place on a service other than compute, such as volume; chooses a host that reports enough free capacity for --disk
    #[arg(long, value_name = "NAME", conflicts_with_all = ["vcpus", "ram", "flavor"])]
    pub service: Option<String>,
    #[command(flatten)]
    pub request: RequestArgs,
    /// Allow only this host, if it passes the filters
    #[arg(long, value_name = "HOST", conflicts_with = "force_hosts")]
    pub host: Option<String>,
    /// How long to hold the room: 30s, 5m [default: the setting of the scheduler]
    #[arg(long, value_name = "TIME", value_parser = units::parse_seconds, conflicts_with = "dry_run")]
    pub hold: Option<u64>,
    /// Let the hosts keep the room until `novella release`, instead of for a while
    #[arg(long, conflicts_with_all = ["dry_run", "hold", "service"])]
    pub claim: bool,
    /// The number of this attempt, if a claim is repeated with --instance; of two claims, the later attempt survives
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), requires = "claim", allow_negative_numbers = true)]
    pub attempt: u32,
    /// How many alternate hosts to name for each instance [default: the setting of the scheduler]
    #[arg(long, value_name = "N")]
    pub alternates: Option<u32>,
    /// Decide, but hold nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Show what each filter and weigher did
    #[arg(long)]
    pub explain: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl PlaceArgs {
    /// The request, with new uuids for instances that were not named.
    pub fn request(&self, env: &Env) -> Result<SelectDestinations, Failure> {
        let mut request_spec = self.request.request(self.vcpus, self.ram, env)?;
        if let Some(service) = self.service.as_ref().filter(|_| self.request.disk == 0) {
            let what = format!("a placement on service {service} needs a size");
            return Err(Failure::new(USAGE, what).next("add for example --disk 20G"));
        }
        request_spec.spec.target_host.clone_from(&self.host);
        request_spec.attempt = self.attempt.max(1);
        Ok(SelectDestinations {
            request_spec,
            flavor: self.flavor.clone(),
            service: self.service.clone(),
            dry_run: self.dry_run,
            claim: self.claim,
            hold_s: self.hold,
            alternates: self.alternates,
        })
    }
}

/// Asks a scheduler and shows the answer. The exit code says whether the request fits.
pub async fn run(bus: &Bus, args: &PlaceArgs, env: &Env, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let request = args.request(env)?;
    if args.claim {
        // A claim lasts, so whoever loses the answer must know what to release.
        let uuids = &request.request_spec.instance_uuids;
        console.note(&format!(
            "claiming room for {}; `novella release --instance UUID` gives it back",
            named(uuids)
        ));
    }
    let decided = bus.scheduler().select_destinations(&request, bus.options()).await;
    let decided = decided.map_err(|error| unanswered(scheduler_failed(error), &request))?;
    if args.output.format.is_table() {
        let disk = || units::gib(request.request_spec.spec.flavor.root_gb);
        let on_service = request.service.as_ref().map(|service| format!("{} of {service}", disk()));
        let named = on_service.as_deref().or(request.flavor.as_deref());
        decision::headline(&request.request_spec, named, &decided, console)?;
    }
    let mut notes = decision::notes(&decided);
    if decided.refusal.is_some() && request.service.is_none() {
        notes.extend(zone::unknown(bus, args.request.az.as_deref()).await);
    }
    decision::show(&decided, &notes, args.explain, &args.output, console)?;
    let explainable = args.output.format.is_table() && request.service.is_none();
    if let (Some(Refusal::NoValidHost { .. }), true) = (&decided.refusal, explainable) {
        let id = printable(&decided.decision_id);
        console.note(&format!("next: `novella explain {id} --fix` searches for changes that make it fit"));
    }
    Ok(decision::exit_code(&decided))
}

/// Adds to the next step how to repeat the request safely, because the scheduler may hold the room although no answer came.
fn unanswered(failure: Failure, request: &SelectDestinations) -> Failure {
    let reached = failure.code == TIMEOUT || (failure.code == UNREACHABLE && failure.source.is_some());
    if !reached || request.dry_run {
        return failure;
    }
    let uuids = &request.request_spec.instance_uuids;
    let named: Vec<_> = uuids.iter().take(NAMED_IN_HINT).map(|uuid| format!("--instance {uuid}")).collect();
    let more = if uuids.len() > NAMED_IN_HINT { " ..." } else { "" };
    let before = failure.next.clone().unwrap_or_default();
    let attempt = match request.claim {
        true => format!(" and --attempt {}", request.request_spec.attempt.saturating_add(1)),
        false => String::new(),
    };
    failure.next(format!("{before}; repeating it with {}{more}{attempt} never places twice", named.join(" ")))
}

/// All uuids, because each of them is needed to release what was claimed.
fn named(uuids: &[Uuid]) -> String {
    uuids.iter().map(Uuid::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(line: &str) -> Result<PlaceArgs, clap::Error> {
        let cli = Cli::try_parse_from(format!("novella place {line}").split_whitespace())?;
        let Command::Place(args) = cli.command else { panic!("{:?}", cli.command) };
        Ok(args)
    }

    #[tokio::test(start_paused = true)]
    async fn arguments_become_a_request() {
        let args = parse(
            "--vcpus 2 --ram 1.5G --disk 20 -n 3 --az north --extra-spec a:b=c --trait T --no-trait U --resource CUSTOM_X=3 --hint g=1 --hint g=2 --ignore-host x \
             --hold 2m --project p",
        );
        let request = args.unwrap().request(&Env::simulated(1)).unwrap();
        let novella_objects::PlacementRequest { instance_uuids, spec, attempt } = &request.request_spec;
        assert_eq!((spec.flavor.vcpus, spec.flavor.memory_mb, spec.flavor.root_gb), (2, 1536, 20));
        assert_eq!(instance_uuids.len(), 3);
        let specs: Vec<_> = spec.flavor.extra_specs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(specs, ["a:b=c", "resources:CUSTOM_X=3", "trait:T=required", "trait:U=forbidden"]);
        assert_eq!(spec.scheduler_hints["g"], serde_json::json!(["1", "2"]));
        assert_eq!((request.hold_s, request.dry_run, *attempt), (Some(120), false, 1));
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
            ("--vcpus 1 --ram 1.5", "a whole number of MiB"),
            ("--vcpus 1 --ram 99999999T", "too large"),
            ("--ram 1G", "--vcpus"),
            (&format!("{size} --disk 512M"), "not a whole number of GiB"),
            (&format!("{size} --count 0"), "0 is not in 1..=10000"),
            (&format!("{size} --hold 0s"), "longer than zero"),
            (&format!("{size} --host a --force-host b"), "cannot be used with"),
            (&format!("{size} --instance nonsense"), "nonsense"),
            (&format!("{size} --claim --hold 1m"), "cannot be used with"),
            (&format!("{size} --claim --dry-run"), "cannot be used with"),
            (&format!("{size} --claim --attempt 0"), "0 is not in"),
            (&format!("{size} --attempt 2"), "--claim"),
            (&format!("{size} --hint nonsense"), "KEY=VALUE"),
            ("--flavor m1.small --vcpus 2", "cannot be used with"),
            ("--service volume --disk 1G --vcpus 2", "cannot be used with"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_asked_for_a_size() {
        let request = |line| parse(line).unwrap().request(&Env::simulated(1));
        let asked = request("--service volume --disk 20G -n 2").unwrap();
        assert_eq!((asked.service.as_deref(), asked.request_spec.spec.flavor.root_gb), (Some("volume"), 20));
        let failure = request("--service volume").unwrap_err();
        assert_eq!(failure.code, USAGE);
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
