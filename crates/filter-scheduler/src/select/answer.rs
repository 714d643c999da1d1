//! What a placement is asked besides the request, and what it answers.

use novella_objects::Explanation;

use crate::request::failure::{Failure, FilterError, WeigherError};
use crate::table::block::Row;

/// How a request is to be answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// For `host_subset_size` and `shuffle_best_same_weighed_hosts`.
    pub seed: u64,
    /// Decide, but leave the table as it was.
    pub dry_run: bool,
    /// Alternates per instance; absent: `max_attempts - 1`.
    pub alternates: Option<u32>,
    /// Leaves the explanation empty, which shows what it costs.
    pub unexplained: bool,
}

/// The answer.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// One per instance, in the request's order; empty when `failure` is set.
    pub picks: Vec<Pick>,
    /// The next best hosts, best first; the same for all instances, none of them picked.
    pub alternates: Vec<Row>,
    /// How it came about, for the instance decided last.
    pub explanation: Explanation,
    /// Hosts that filters could not decide about, by filter, with the first of each.
    pub filter_errors: Vec<(u32, FilterError)>,
    /// Candidates that weighers could not value and that were left out for it, with the first of each weigher.
    pub weigher_errors: Vec<(u32, WeigherError)>,
    /// Why nothing was placed.
    pub failure: Option<Failure>,
}

/// One instance's host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pick {
    /// Which.
    pub row: Row,
    /// Its weight among the candidates; 0 when it was the only one, because then nothing is weighed.
    pub weight: f64,
    /// What its filters looked at.
    pub limits: PickLimits,
    /// Whether NUMA cells or PCI devices of the host were taken for it.
    pub took_devices: bool,
}

/// The limits that the filters decided by, each only if its filter ran; the host's own claim may hold them again.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PickLimits {
    /// CPUs.
    pub vcpus: Option<f64>,
    /// MiB.
    pub memory_mb: Option<f64>,
    /// GiB.
    pub disk_gb: Option<f64>,
    /// Of NUMA cells, where the instance has any.
    pub numa_topology: Option<NumaLimits>,
}

/// How far shared CPUs and memory of a NUMA cell may be overcommitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumaLimits {
    /// The host's.
    pub cpu_allocation_ratio: f64,
    /// The host's.
    pub ram_allocation_ratio: f64,
}

impl Selected {
    /// Forgets an earlier answer, keeping its memory. Of the explanation the parts that are told later stay, to be
    /// overwritten.
    pub(super) fn start(&mut self, fleet: Explanation) {
        self.picks.clear();
        self.alternates.clear();
        self.filter_errors.clear();
        self.weigher_errors.clear();
        (self.explanation.hosts, self.explanation.suspect_hosts) = (fleet.hosts, fleet.suspect_hosts);
    }

    /// Leaves out what is not to be told.
    pub(super) fn finish(&mut self, failure: Option<Failure>, unexplained: bool) {
        if unexplained {
            self.explanation.filters.clear();
        }
        if failure.is_some() || unexplained {
            self.explanation.ranking.clear();
        }
        if failure.is_some() {
            self.picks.clear();
        }
        self.failure = failure;
    }
}
