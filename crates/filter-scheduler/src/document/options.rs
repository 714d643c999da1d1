//! A document's options as the scheduler's: Nova's names, and Nova's defaults for what is absent.

use novella_objects::document::{self, Options};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::BadDocument;
use crate::options::{FilterKind, OnFilterError, SchedulerOptions, WeigherKind};

/// What a question is decided by.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationOptions {
    /// What the engine is set to.
    pub scheduler: SchedulerOptions,
    /// A service that was heard longer ago is down.
    pub service_down_time_s: f64,
}

impl Default for EvaluationOptions {
    /// As Nova 34, whose filters' errors fail the request.
    fn default() -> Self {
        Self {
            scheduler: SchedulerOptions {
                enabled_filters: FilterKind::NOVA.to_vec(),
                weighers: WeigherKind::NOVA.map(|kind| (kind, kind.default_multiplier())).to_vec(),
                on_filter_error: OnFilterError::FailRequest,
                ..SchedulerOptions::default()
            },
            service_down_time_s: 60.0,
        }
    }
}

impl EvaluationOptions {
    /// Reads a document's options. A name that Nova does not have is refused.
    pub fn read(options: &Options) -> Result<Self, BadDocument> {
        let mut read = Self::default();
        let scheduler = &mut read.scheduler;
        if let Some(filters) = &options.filters {
            scheduler.enabled_filters = filter_kinds(filters).map_err(|bad| bad.within("options"))?;
        }
        if let Some(weighers) = &options.weighers {
            let kind = |(at, name): (usize, &String)| {
                let kind = name.parse::<WeigherKind>();
                kind.map(|kind| (kind, kind.default_multiplier()))
                    .map_err(|bad| BadDocument::new(format!("options.weighers[{at}]"), bad.to_string()))
            };
            scheduler.weighers = weighers.iter().enumerate().map(kind).collect::<Result<_, _>>()?;
        }
        if let Some(on_filter_error) = options.on_filter_error {
            scheduler.on_filter_error = match on_filter_error {
                document::OnFilterError::FailRequest => OnFilterError::FailRequest,
                document::OnFilterError::RejectHost => OnFilterError::RejectHost,
            };
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
        let Self { scheduler, service_down_time_s } = self;
        let policy = &mut scheduler.policy;
        match name {
            "max_io_ops_per_host" => policy.max_io_ops_per_host = parsed(name, value)?,
            "max_instances_per_host" => policy.max_instances_per_host = parsed(name, value)?,
            "isolated_hosts" => policy.isolated_hosts = parsed(name, value)?,
            "isolated_images" => policy.isolated_images = parsed(name, value)?,
            "restrict_isolated_hosts_to_isolated_images" => {
                policy.restrict_isolated_hosts_to_isolated_images = parsed(name, value)?;
            }
            "aggregate_image_properties_isolation_namespace" => {
                policy.aggregate_image_properties_isolation_namespace = parsed(name, value)?;
            }
            "aggregate_image_properties_isolation_separator" => {
                policy.aggregate_image_properties_isolation_separator = parsed(name, value)?;
            }
            "image_properties_default_architecture" => {
                policy.image_properties_default_architecture = parsed(name, value)?;
            }
            "metrics_weight_setting" => policy.metrics_weight_setting = parsed(name, value)?,
            "metrics_required" => policy.metrics_required = parsed(name, value)?,
            "metrics_weight_of_unavailable" => policy.metrics_weight_of_unavailable = parsed(name, value)?,
            "image_props_weight_setting" => policy.image_props_weight_setting = parsed(name, value)?,
            "host_subset_size" => scheduler.host_subset_size = parsed(name, value)?,
            "shuffle_best_same_weighed_hosts" => {
                scheduler.shuffle_best_same_weighed_hosts = parsed(name, value)?;
            }
            "max_attempts" => scheduler.max_attempts = parsed(name, value)?,
            "default_availability_zone" => scheduler.default_availability_zone = parsed(name, value)?,
            "service_down_time" => *service_down_time_s = parsed(name, value)?,
            "report_interval" => *report_interval_s = parsed(name, value)?,
            _ => {
                let reason = "there is no such option; names are Nova's, with the group in front where it is not \
                              filter_scheduler";
                return Err(BadDocument::new(format!("options.{name}"), reason));
            }
        }
        Ok(())
    }

    /// The multiplier of a weigher that does not weigh says nothing.
    fn set_multiplier(&mut self, kind: WeigherKind, multiplier: f64) {
        for entry in self.scheduler.weighers.iter_mut().filter(|entry| entry.0 == kind) {
            entry.1 = multiplier;
        }
    }
}

/// Filters by name.
pub fn filter_kinds(names: &[String]) -> Result<Vec<FilterKind>, BadDocument> {
    let kind = |(at, name): (usize, &String)| {
        let kind = name.parse::<FilterKind>();
        kind.map_err(|bad| BadDocument::new(format!("filters[{at}]"), bad.to_string()))
    };
    names.iter().enumerate().map(kind).collect()
}

fn parsed<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, BadDocument> {
    T::deserialize(value).map_err(|error| BadDocument::new(format!("options.{name}"), error.to_string()))
}
