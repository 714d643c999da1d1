//! How often a broker user and a project may ask for placements and releases, how often a quota refused one, and who holds the
//! most.
//!
//! A holder has a bucket of tokens. A request takes one, and time brings new ones.
//!
//! What always holds: at most [`MAX_BUCKETS`] buckets of each kind are kept. A bucket that is full again is as good as none and
//! is forgotten first. If all of them are in use, further holders share one.
//!
//! Left out: how much may be held, which the map knows (`HostManager::over_quota`). Questions are not counted: they have places
//! of their own (`novella-messaging`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use novella_host_manager::{HolderKind, HolderUsage, OverQuota, TokenBucket, TokenRate};
use novella_messaging::CallError;
use novella_rpcapi::{Exceeded, quota_exceeded};

/// For how long a holder may save its requests, to make them at once.
const SAVED_FOR: Duration = Duration::from_secs(2);
/// How many buckets of each kind are kept.
const MAX_BUCKETS: usize = 4096;
/// How often full buckets are forgotten at most, so that invented names cost little time too.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The bucket of all holders that have none of their own. No user and no project is called so.
const OTHERS: &str = "";

/// What quotas limit, as errors and metrics call it. The map's amounts come first.
pub(crate) const AMOUNTS: [&str; 5] = ["instances", "vcpus", "memory_mb", "disk_gb", REQUESTS];
/// Requests a second.
const REQUESTS: &str = "requests_per_s";

/// The settings, by kind of holder, in the order of [`AMOUNTS`].
const SETTINGS: [[&str; AMOUNTS.len()]; HolderKind::ALL.len()] = [
    [
        "quotas.user_instances",
        "quotas.user_vcpus",
        "quotas.user_memory_gb",
        "quotas.user_disk_gb",
        "quotas.user_requests_per_s",
    ],
    [
        "quotas.project_instances",
        "quotas.project_vcpus",
        "quotas.project_memory_gb",
        "quotas.project_disk_gb",
        "quotas.project_requests_per_s",
    ],
];

/// How many requests a second a user and a project may make. 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestQuotas {
    /// For each broker user.
    pub user: u32,
    /// For each project.
    pub project: u32,
}

/// See the module documentation.
pub(crate) struct Quotas {
    limits: [u32; HolderKind::ALL.len()],
    buckets: Mutex<[Buckets; HolderKind::ALL.len()]>,
    refused: [[AtomicU64; AMOUNTS.len()]; HolderKind::ALL.len()],
    /// Who held the most when that was last looked at. Everybody may ask for it at any rate, so it is not looked up each time.
    largest: Mutex<[Vec<HolderUsage>; HolderKind::ALL.len()]>,
}

/// The buckets of one kind of holders.
#[derive(Debug, Default)]
struct Buckets {
    by_name: HashMap<String, TokenBucket>,
    /// When full buckets were last forgotten.
    swept: Duration,
}

/// The rate of a limit.
fn rate(limit: u32) -> TokenRate {
    let per_second = f64::from(limit);
    TokenRate { per_second, most: per_second * SAVED_FOR.as_secs_f64() }
}

impl Quotas {
    pub(crate) fn new(limits: RequestQuotas) -> Self {
        Self {
            limits: [limits.user, limits.project],
            buckets: Mutex::default(),
            refused: Default::default(),
            largest: Mutex::default(),
        }
    }

    /// Counts a request of a user, for a project if it names one. The error says whose limit it exceeds.
    pub(crate) fn take(&self, user: &str, project: Option<&str>, now: Duration) -> Result<(), CallError> {
        for (kind, name) in HolderKind::ALL.into_iter().zip([Some(user), project]) {
            let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
            if !self.take_one(kind, name, now) {
                let limit = self.limits[kind as usize].into();
                return Err(self.refuse(OverQuota {
                    kind,
                    holder: name.to_owned(),
                    amount: REQUESTS,
                    held: limit,
                    asked: 1,
                    limit,
                }));
            }
        }
        Ok(())
    }

    fn take_one(&self, kind: HolderKind, name: &str, now: Duration) -> bool {
        let limit = self.limits[kind as usize];
        if limit == 0 {
            return true;
        }
        let rate = rate(limit);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { by_name, swept } = &mut buckets[kind as usize];
        // One place is left for the others.
        let is_full = |by_name: &HashMap<_, _>| by_name.len() >= MAX_BUCKETS - 1;
        let mut name = name;
        if !by_name.contains_key(name) && is_full(by_name) {
            if now.saturating_sub(*swept) >= SWEEP_INTERVAL {
                by_name.retain(|_, bucket| !bucket.is_full(rate, now));
                *swept = now;
            }
            if is_full(by_name) {
                name = OTHERS;
            }
        }
        match by_name.get_mut(name) {
            Some(bucket) => bucket.take(rate, now),
            None => by_name.entry(name.to_owned()).or_insert(TokenBucket::full(rate, now)).take(rate, now),
        }
    }

    /// Counts a refusal, and returns the error for the caller.
    pub(crate) fn refuse(&self, over: OverQuota) -> CallError {
        let at = AMOUNTS.iter().position(|amount| *amount == over.amount).unwrap_or_default();
        self.refused[over.kind as usize][at].fetch_add(1, Ordering::Relaxed);
        let message = match over.amount {
            REQUESTS => format!(
                "the {} {} may make {} requests a second and has made more",
                over.kind.as_str(),
                over.holder,
                over.limit
            ),
            _ => over.to_string(),
        };
        quota_exceeded(&Exceeded {
            of: over.kind.as_str(),
            holder: &over.holder,
            amount: over.amount,
            used: over.held,
            asked: over.asked,
            limit: over.limit,
            setting: SETTINGS[over.kind as usize][at],
            message: &message,
        })
    }

    /// Takes note of who holds the most, by kind of holder.
    pub(crate) fn show(&self, largest: [Vec<HolderUsage>; HolderKind::ALL.len()]) {
        *self.largest.lock().unwrap_or_else(PoisonError::into_inner) = largest;
    }

    /// Who held the most a moment ago, by kind of holder, largest first.
    pub(crate) fn largest(&self) -> [Vec<HolderUsage>; HolderKind::ALL.len()] {
        self.largest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often each quota refused a request: the kind of holder, the amount, and the number.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (HolderKind, &'static str, u64)> {
        HolderKind::ALL.into_iter().zip(&self.refused).flat_map(|(kind, counts)| {
            let counts = AMOUNTS.into_iter().zip(counts);
            counts.map(move |(amount, count)| (kind, amount, count.load(Ordering::Relaxed)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn quotas(user: u32, project: u32) -> Quotas {
        Quotas::new(RequestQuotas { user, project })
    }

    fn taken(quotas: &Quotas, user: &str, project: Option<&str>, now: Duration) -> usize {
        (0..1000).take_while(|_| quotas.take(user, project, now).is_ok()).count()
    }

    #[test]
    fn a_holder_may_save_two_seconds_of_requests_and_others_are_not_concerned() {
        let quotas = quotas(10, 0);
        assert_eq!(taken(&quotas, "ann", None, S), 20);
        assert_eq!(taken(&quotas, "ann", None, S), 0);
        assert_eq!(taken(&quotas, "ben", None, S), 20);
        assert_eq!(taken(&quotas, "ann", None, S + S / 2), 5);
        assert_eq!(taken(&quotas, "ann", None, 100 * S), 20);
    }

    #[test]
    fn a_project_has_a_limit_over_all_its_users() {
        let quotas = quotas(0, 10);
        assert_eq!(taken(&quotas, "ann", Some("p"), S), 20);
        assert_eq!(taken(&quotas, "ben", Some("p"), S), 0);
        assert_eq!(taken(&quotas, "ben", Some(""), S), 1000, "an empty name is no project");
        let error = quotas.take("ben", Some("p"), S).unwrap_err();
        assert_eq!(
            error.to_string(),
            "QuotaExceeded: the project p may make 10 requests a second and has made more"
        );
        let CallError::Failed(error) = error else { panic!("{error}") };
        assert_eq!(error.kwargs["setting"], "quotas.project_requests_per_s");
        let refused: Vec<_> = quotas.refused().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(refused, [(HolderKind::Project, REQUESTS, 3)], "one by each of three");
    }

    #[test]
    fn invented_names_take_no_more_memory_than_the_limit() {
        let quotas = quotas(0, 1);
        for n in 0..20_000 {
            let _ = quotas.take("ann", Some(&format!("p{n}")), S);
        }
        let kept =
            |quotas: &Quotas| quotas.buckets.lock().unwrap()[HolderKind::Project as usize].by_name.len();
        assert_eq!(kept(&quotas), MAX_BUCKETS);
        assert_eq!(taken(&quotas, "ann", Some("late"), S), 0, "the others share one bucket, which is empty");
        assert_eq!(taken(&quotas, "ann", Some("late"), 10 * S), 2, "what is full again was forgotten");
        assert!(kept(&quotas) < 10);
    }
}
