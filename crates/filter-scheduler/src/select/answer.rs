//! The terms of a placement, and its answer.
//!
//! What always holds: there is one pick per instance, or none at all if the placement failed.
//!
//! Left out: names and texts for callers. Hosts are rows of the table here.

use novella_objects::Explanation;

use crate::request::failure::{Failure, FilterError, WeigherError};
use crate::table::block::Row;

/// The terms on which a request is answered, apart from the request itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// The seed of the random choices that `host_subset_size` and `shuffle_best_same_weighed_hosts` ask for.
    pub seed: u64,
    /// Whether the table is left as it was, so that nothing is consumed.
    pub dry_run: bool,
    /// How many alternates the answer names at most. If absent, `max_attempts - 1`.
    pub alternates: Option<u32>,
    /// Whether filters and ranking are left out of the explanation. Benchmarks use it to measure the cost of
    /// explaining.
    pub unexplained: bool,
}

/// The answer to one request.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// One pick per instance, in the request's order. The list is empty if `failure` is set.
    pub picks: Vec<Pick>,
    /// The next best hosts, best first. They are alternates for every instance, and none of them is a pick.
    pub alternates: Vec<Row>,
    /// How the decision about the last instance came about.
    pub explanation: Explanation,
    /// For each filter that could not decide about some hosts: how many hosts, and the first error.
    pub filter_errors: Vec<(u32, FilterError)>,
    /// For each weigher that could not value some candidates: how many candidates, and the first error. These
    /// candidates were left out.
    pub weigher_errors: Vec<(u32, WeigherError)>,
    /// Why nothing was placed, if nothing was.
    pub failure: Option<Failure>,
}

/// The host that one instance got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pick {
    /// The row of the host.
    pub row: Row,
    /// The weight of the host among the candidates. It is 0 if there was one candidate, because then nothing is
    /// weighed.
    pub weight: f64,
    /// Whether NUMA cells or PCI devices of the host were taken for the instance.
    pub took_devices: bool,
}

/// The limits that the filters decided by. A limit is present only if its filter ran. The host can check them again
/// when it claims the resources.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FilterLimits {
    /// How many CPUs may be in use on the host, after overcommit.
    pub vcpus: Option<f64>,
    /// How much memory may be in use on the host, in MiB, after overcommit.
    pub memory_mb: Option<f64>,
    /// How much disk may be in use on the host, in GiB, after overcommit.
    pub disk_gb: Option<f64>,
    /// The limits of the host's NUMA cells, if the instance is placed on cells.
    pub numa_topology: Option<NumaLimits>,
}

/// How far the shared CPUs and the memory of a NUMA cell may be overcommitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumaLimits {
    /// The host's overcommit ratio of CPUs.
    pub cpu_allocation_ratio: f64,
    /// The host's overcommit ratio of memory.
    pub ram_allocation_ratio: f64,
}

impl Selected {
    /// Forgets an earlier answer and keeps its memory. The filters and the ranking of the explanation stay, because
    /// they are overwritten later.
    pub(super) fn start(&mut self, fleet: Explanation) {
        self.picks.clear();
        self.alternates.clear();
        self.filter_errors.clear();
        self.weigher_errors.clear();
        (self.explanation.hosts, self.explanation.suspect_hosts) = (fleet.hosts, fleet.suspect_hosts);
    }

    /// Removes what does not belong in the answer: picks and ranking after a failure, and an unwanted explanation.
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
