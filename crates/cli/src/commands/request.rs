//! The options that describe a request, which `place`, `explain` and `capacity` have in common.

use clap::Args;
use novella_objects::{Flavor, MAX_INSTANCES, PlacementRequest, RequestSpec};
use novella_service::Env;
use novella_service::exit::Failure;
use uuid::Uuid;

use crate::exit_codes::USAGE;
use crate::units;

/// The options of a request without CPUs and memory, which each command requires under conditions of its own.
#[derive(Clone, Debug, Default, Args)]
pub struct RequestArgs {
    /// Disk of each instance: 20G, 1T; a bare number is GiB
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = units::parse_disk, allow_negative_numbers = true)]
    pub disk: u64,
    /// Number of equal instances; either all are placed or none
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_INSTANCES as i64), allow_negative_numbers = true)]
    pub count: u32,
    /// Only hosts of this availability zone
    #[arg(long, value_name = "ZONE", alias = "availability-zone")]
    pub az: Option<String>,
    /// Extra spec of the flavor: a requirement on the host; repeat it for several
    #[arg(long = "extra-spec", value_name = "KEY=VALUE", value_parser = units::parse_pair)]
    pub extra_specs: Vec<(String, String)>,
    /// Trait that the host must have: short for `--extra-spec trait:NAME=required`; repeat it for several
    #[arg(long = "trait", value_name = "NAME")]
    pub traits: Vec<String>,
    /// Trait that the host must not have; repeat it for several
    #[arg(long = "no-trait", value_name = "NAME")]
    pub no_traits: Vec<String>,
    /// Amount of a resource class for each instance: short for `--extra-spec resources:CLASS=N`; repeat it for several
    #[arg(long = "resource", value_name = "CLASS=N", value_parser = units::parse_resource)]
    pub resources: Vec<(String, String)>,
    /// Scheduler hint; a key that is given more than once becomes a list
    #[arg(long = "hint", value_name = "KEY=VALUE", value_parser = units::parse_pair)]
    pub hints: Vec<(String, String)>,
    /// Only this host, which must have room; the other filters are skipped; repeat it for several
    #[arg(long = "force-host", value_name = "HOST")]
    pub force_hosts: Vec<String>,
    /// Do not use this host; repeat it for several
    #[arg(long = "ignore-host", value_name = "HOST")]
    pub ignore_hosts: Vec<String>,
    /// Uuid of the instance, so that a request can be repeated safely; repeat it for several
    #[arg(long = "instance", value_name = "UUID", conflicts_with = "count")]
    pub instances: Vec<Uuid>,
    /// Project of the instances
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
}

impl RequestArgs {
    /// The request, with new uuids for instances that were not named. Sizes that the flavor defines are zero.
    pub fn request(
        &self,
        vcpus: Option<u32>,
        memory_mb: Option<u64>,
        env: &Env,
    ) -> Result<PlacementRequest, Failure> {
        let usage = |what| Failure::new(USAGE, what).next("see `novella place --help`");
        let instance_uuids = if self.instances.is_empty() {
            (0..self.count).map(|_| env.random.uuid()).collect()
        } else {
            self.instances.clone()
        };
        let flavor = Flavor {
            vcpus: vcpus.unwrap_or_default(),
            memory_mb: memory_mb.unwrap_or_default(),
            root_gb: self.disk,
            extra_specs: units::extra_specs(&self.all_extra_specs()).map_err(usage)?,
            ..Flavor::default()
        };
        let spec = RequestSpec {
            flavor,
            availability_zone: self.az.clone(),
            force_hosts: self.force_hosts.clone(),
            ignore_hosts: self.ignore_hosts.clone(),
            scheduler_hints: units::hints(&self.hints),
            project_id: self.project.clone(),
            ..RequestSpec::default()
        };
        Ok(PlacementRequest { instance_uuids, spec, attempt: 1 })
    }

    /// The extra specs of --extra-spec, --trait, --no-trait and --resource.
    fn all_extra_specs(&self) -> Vec<(String, String)> {
        let of_trait = |name: &String, said: &str| (format!("trait:{}", name.trim()), said.to_owned());
        let required = self.traits.iter().map(|name| of_trait(name, "required"));
        let forbidden = self.no_traits.iter().map(|name| of_trait(name, "forbidden"));
        let resources =
            self.resources.iter().map(|(class, amount)| (format!("resources:{class}"), amount.clone()));
        self.extra_specs.iter().cloned().chain(required).chain(forbidden).chain(resources).collect()
    }
}
