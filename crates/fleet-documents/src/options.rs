//! Reads and writes a document's options, with Nova's names, and with Nova's defaults for those that are absent.
//!
//! What always holds: reading what was written gives the same options.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use novella_filter_scheduler::{FilterKind, OnFilterError, SchedulerOptions, WeigherKind};
use novella_objects::document::Options;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bad_document::BadDocument;

/// Calls a macro with the settings that have Nova's names: first their owner, then its fields.
macro_rules! each_setting {
    ($scheduler:expr, $apply:ident) => {
        $apply!($scheduler.policy;
            max_io_ops_per_host
            max_instances_per_host
            isolated_hosts
            isolated_images
            restrict_isolated_hosts_to_isolated_images
            aggregate_image_properties_isolation_namespace
            aggregate_image_properties_isolation_separator
            image_properties_default_architecture
            metrics_weight_setting
            metrics_required
            metrics_weight_of_unavailable
            image_props_weight_setting
            limit_tenants_to_placement_aggregate
            placement_aggregate_required_for_tenants
            query_placement_for_image_type_support
            enable_isolated_aggregate_filtering
            image_metadata_prefilter
            disable_fallback_pcpu_query
            packing_host_numa_cells_allocation_strategy
        );
        $apply!($scheduler;
            host_subset_size
            shuffle_best_same_weighed_hosts
            max_attempts
            default_availability_zone
            placement
        );
    };
}

/// The options that a question is decided with.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationOptions {
    /// The options of the engine.
    pub scheduler: SchedulerOptions,
    /// A service that has not been heard for longer than this is down, in seconds.
    pub service_down_time_s: f64,
}

impl Default for EvaluationOptions {
    /// The defaults of Nova 34, where an error of a filter fails the request.
    fn default() -> Self {
        Self {
            scheduler: SchedulerOptions {
                enabled_filters: FilterKind::NOVA.to_vec(),
                weighers: WeigherKind::DEFAULT.map(|kind| (kind, kind.default_multiplier())).to_vec(),
                on_filter_error: OnFilterError::FailRequest,
                ..SchedulerOptions::default()
            },
            service_down_time_s: 60.0,
        }
    }
}

impl EvaluationOptions {
    /// Reads a document's options. Fails if Nova does not have an option of this name, or if the value is not valid.
    pub fn read(options: &Options) -> Result<Self, BadDocument> {
        let mut read = Self::default();
        let scheduler = &mut read.scheduler;
        if let Some(filters) = &options.filters {
            scheduler.enabled_filters = kinds("options.filters", filters)?;
        }
        if let Some(weighers) = &options.weighers {
            let weighers: Vec<WeigherKind> = kinds("options.weighers", weighers)?;
            scheduler.weighers = weighers.into_iter().map(|kind| (kind, kind.default_multiplier())).collect();
        }
        if let Some(on_filter_error) = options.on_filter_error {
            scheduler.on_filter_error = on_filter_error;
        }
        let mut report_interval_s = 10.0;
        for (name, value) in &options.settings {
            read.set(name, value, &mut report_interval_s)?;
        }
        for (name, &multiplier) in &options.multipliers {
            let kind = name.parse::<WeigherKind>();
            let kind = kind.map_err(|bad| BadDocument::new("options.multipliers", bad.to_string()))?;
            read.set_multiplier(kind, multiplier);
        }
        if read.service_down_time_s <= report_interval_s {
            read.service_down_time_s = (2.5 * report_interval_s).trunc(); // as Nova does when it starts
        }
        read.scheduler.check().map_err(|bad| BadDocument::new("options", bad.to_string()))?;
        Ok(read)
    }

    fn set(&mut self, name: &str, value: &Value, report_interval_s: &mut f64) -> Result<(), BadDocument> {
        if let Some(kind) = WeigherKind::ALL.into_iter().find(|kind| kind.multiplier_key() == name) {
            self.set_multiplier(kind, parsed(name, value)?);
            return Ok(());
        }
        match name {
            "service_down_time" => self.service_down_time_s = parsed(name, value)?,
            "report_interval" => *report_interval_s = parsed(name, value)?,
            _ => {
                macro_rules! set {
                    ($owner:expr; $($field:ident)*) => {
                        $(if name == stringify!($field) {
                            $owner.$field = parsed(name, value)?;
                            return Ok(());
                        })*
                    };
                }
                each_setting!(self.scheduler, set);
                let reason = "there is no such option; names are Nova's, with the group in front where it is not \
                              filter_scheduler";
                return Err(BadDocument::new(format!("options.{name}"), reason));
            }
        }
        Ok(())
    }

    /// All options by Nova's names, defaults included, in the form of [`Options::settings`].
    pub fn settings(&self) -> BTreeMap<String, Value> {
        let mut settings = BTreeMap::new();
        macro_rules! get {
            ($owner:expr; $($field:ident)*) => {
                $(settings.insert(stringify!($field).to_owned(), json!($owner.$field));)*
            };
        }
        each_setting!(self.scheduler, get);
        for (kind, multiplier) in &self.scheduler.weighers {
            settings.insert(kind.multiplier_key().to_owned(), json!(multiplier));
        }
        let seconds = self.service_down_time_s;
        let whole = seconds.fract() == 0.0 && seconds.abs() < 1e15;
        let seconds = if whole { json!(seconds as i64) } else { json!(seconds) };
        settings.insert("service_down_time".to_owned(), seconds);
        settings
    }

    /// These options in the form of a document. Reading it gives them again.
    pub fn write(&self) -> Options {
        let scheduler = &self.scheduler;
        Options {
            filters: Some(scheduler.enabled_filters.iter().map(|kind| kind.name().to_owned()).collect()),
            weighers: Some(scheduler.weighers.iter().map(|(kind, _)| kind.name().to_owned()).collect()),
            multipliers: BTreeMap::new(),
            on_filter_error: Some(scheduler.on_filter_error),
            settings: self.settings(),
        }
    }

    /// Sets the multiplier of a weigher. If the weigher is not enabled, nothing changes.
    fn set_multiplier(&mut self, kind: WeigherKind, multiplier: f64) {
        for entry in self.scheduler.weighers.iter_mut().filter(|entry| entry.0 == kind) {
            entry.1 = multiplier;
        }
    }
}

/// Reads the names of filters or weighers, which are a list at `place`. Fails if one is unknown.
pub(crate) fn kinds<K: FromStr<Err: Display>>(place: &str, names: &[String]) -> Result<Vec<K>, BadDocument> {
    let kind = |(at, name): (usize, &String)| {
        name.parse().map_err(|bad: K::Err| BadDocument::new(format!("{place}[{at}]"), bad.to_string()))
    };
    names.iter().enumerate().map(kind).collect()
}

fn parsed<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, BadDocument> {
    T::deserialize(value).map_err(|error| BadDocument::new(format!("options.{name}"), error.to_string()))
}
