//! What an operator sets: which filters, which weighers, and how one is picked.

use std::fmt;
use std::str::FromStr;

/// The scheduler's settings. Names and defaults are Nova's where Nova has them.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerOptions {
    /// In the order they run.
    pub enabled_filters: Vec<FilterKind>,
    /// In the order they are added up, each with its multiplier; order matters to the last bit of a weight.
    pub weighers: Vec<(WeigherKind, f64)>,
    /// One of this many best hosts is picked at random.
    pub host_subset_size: usize,
    /// Whether hosts of exactly the best weight are put in random order.
    pub shuffle_best_same_weighed_hosts: bool,
    /// A request is given one host and `max_attempts - 1` alternates.
    pub max_attempts: u32,
    /// The zone of hosts that name none.
    pub default_availability_zone: String,
    /// What an error inside a filter means.
    pub on_filter_error: OnFilterError,
    /// How many hosts besides the winner an explanation ranks.
    pub runners_up: usize,
}

/// What becomes of a request when a filter cannot decide about a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFilterError {
    /// As Nova: the request fails with the error.
    FailRequest,
    /// The host is refused, and the error counted.
    #[default]
    RejectHost,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            enabled_filters: FilterKind::ALL.to_vec(),
            weighers: WeigherKind::ALL.map(|kind| (kind, 1.0)).to_vec(),
            host_subset_size: 1,
            shuffle_best_same_weighed_hosts: false,
            max_attempts: 3,
            default_availability_zone: "nova".to_owned(),
            on_filter_error: OnFilterError::default(),
            runners_up: 3,
        }
    }
}

/// Largest size of a multiplier. Within these bounds no weight leaves the range of its arithmetic.
pub const MAX_MULTIPLIER: f64 = 1.0e12;

/// Smallest size of a multiplier that is not zero.
pub const MIN_MULTIPLIER: f64 = 1.0e-12;

/// Most weighers; one is listed once at most.
const MAX_WEIGHERS: usize = WeigherKind::ALL.len();

/// What is wrong with [`SchedulerOptions`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadOptions {
    /// No such filter or weigher.
    #[error("there is no {what} {name:?}; known are {known}")]
    UnknownName {
        /// `filter` or `weigher`.
        what: &'static str,
        /// As given.
        name: String,
        /// All names.
        known: String,
    },
    /// The same one twice.
    #[error("{name} is listed more than once")]
    Twice {
        /// Of the filter or weigher.
        name: &'static str,
    },
    /// A multiplier that weights cannot be computed with.
    #[error(
        "the multiplier of {weigher} is {value}; it must be 0 or of a size from {MIN_MULTIPLIER} to {MAX_MULTIPLIER}"
    )]
    Multiplier {
        /// Whose.
        weigher: WeigherKind,
        /// As given.
        value: f64,
    },
    /// A size that must not be zero.
    #[error("{setting} must be at least 1")]
    Zero {
        /// Which setting.
        setting: &'static str,
    },
}

impl SchedulerOptions {
    /// Whether a scheduler can work with these.
    pub fn check(&self) -> Result<(), BadOptions> {
        for (at, kind) in self.enabled_filters.iter().enumerate() {
            if self.enabled_filters[..at].contains(kind) {
                return Err(BadOptions::Twice { name: kind.name() });
            }
        }
        for (at, &(weigher, value)) in self.weighers.iter().enumerate() {
            if self.weighers[..at].iter().any(|(other, _)| *other == weigher) {
                return Err(BadOptions::Twice { name: weigher.name() });
            }
            if value != 0.0 && !(MIN_MULTIPLIER..=MAX_MULTIPLIER).contains(&value.abs()) {
                return Err(BadOptions::Multiplier { weigher, value });
            }
        }
        debug_assert!(self.weighers.len() <= MAX_WEIGHERS);
        if self.host_subset_size == 0 {
            return Err(BadOptions::Zero { setting: "host_subset_size" });
        }
        if self.max_attempts == 0 {
            return Err(BadOptions::Zero { setting: "max_attempts" });
        }
        Ok(())
    }
}

/// A filter, by Nova's class name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilterKind {
    /// The host is up and not disabled.
    Compute,
    /// The host is in the zone asked for.
    AvailabilityZone,
    /// Memory fits.
    Ram,
    /// CPUs fit.
    Core,
    /// Disk fits.
    Disk,
    /// The host's capabilities satisfy the flavor's extra specs.
    ComputeCapabilities,
}

impl FilterKind {
    /// All there are, in their default order.
    pub const ALL: [Self; 6] =
        [Self::Compute, Self::AvailabilityZone, Self::Ram, Self::Core, Self::Disk, Self::ComputeCapabilities];

    /// Nova's class name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compute => "ComputeFilter",
            Self::AvailabilityZone => "AvailabilityZoneFilter",
            Self::Ram => "RamFilter",
            Self::Core => "CoreFilter",
            Self::Disk => "DiskFilter",
            Self::ComputeCapabilities => "ComputeCapabilitiesFilter",
        }
    }

    /// Whether one run decides for all instances of a request, because placing one changes nothing the filter reads.
    pub fn once(self) -> bool {
        matches!(self, Self::Compute | Self::AvailabilityZone | Self::ComputeCapabilities)
    }
}

/// A weigher, by Nova's class name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeigherKind {
    /// Free memory.
    Ram,
    /// Free CPUs, overcommit included.
    Cpu,
    /// Free disk.
    Disk,
}

impl WeigherKind {
    /// All there are, in their default order.
    pub const ALL: [Self; 3] = [Self::Ram, Self::Cpu, Self::Disk];

    /// Nova's class name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ram => "RAMWeigher",
            Self::Cpu => "CPUWeigher",
            Self::Disk => "DiskWeigher",
        }
    }
}

macro_rules! named {
    ($type:ty, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = BadOptions;

            fn from_str(name: &str) -> Result<Self, BadOptions> {
                Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                    BadOptions::UnknownName {
                        what: $what,
                        name: name.to_owned(),
                        known: Self::ALL.map(Self::name).join(", "),
                    }
                })
            }
        }
    };
}

named!(FilterKind, "filter");
named!(WeigherKind, "weigher");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        assert_eq!("RamFilter".parse(), Ok(FilterKind::Ram));
        let error = "RamFiler".parse::<FilterKind>().unwrap_err().to_string();
        assert!(error.starts_with("there is no filter \"RamFiler\"; known are ComputeFilter, "), "{error}");
        assert!(
            "ramweigher"
                .parse::<WeigherKind>()
                .unwrap_err()
                .to_string()
                .ends_with("RAMWeigher, CPUWeigher, DiskWeigher")
        );
    }

    #[test]
    fn settings_that_cannot_be_worked_with_are_refused() {
        assert_eq!(SchedulerOptions::default().check(), Ok(()));
        let options = |change: fn(&mut SchedulerOptions)| {
            let mut options = SchedulerOptions::default();
            change(&mut options);
            options.check()
        };
        for value in [f64::NAN, f64::INFINITY, 1e-13, -1e13] {
            let mut options = SchedulerOptions::default();
            options.weighers[0].1 = value;
            assert!(matches!(options.check(), Err(BadOptions::Multiplier { .. })), "{value}");
        }
        assert!(options(|o| o.weighers[0].1 = 0.0).is_ok());
        assert!(options(|o| o.weighers[0].1 = -1.0).is_ok());
        assert_eq!(
            options(|o| o.host_subset_size = 0),
            Err(BadOptions::Zero { setting: "host_subset_size" })
        );
        assert_eq!(options(|o| o.max_attempts = 0), Err(BadOptions::Zero { setting: "max_attempts" }));
        assert_eq!(
            options(|o| o.enabled_filters.push(FilterKind::Ram)),
            Err(BadOptions::Twice { name: "RamFilter" })
        );
        assert_eq!(
            options(|o| o.weighers.push((WeigherKind::Ram, 1.0))),
            Err(BadOptions::Twice { name: "RAMWeigher" })
        );
    }
}
