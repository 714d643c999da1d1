//! Services other than compute, and what is asked of all services together.
//!
//! A service state is the last report and when it came; `service_place` places on it. The questions here are Nova's of
//! 2012: which services are there, and between which bounds their numbers lie.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;
use novella_objects::{Capabilities, ServiceSummary};
use serde::Serialize;
use serde_json::Number;

use super::liveness::{Hearing, Liveness, Outages};
use super::outcome::Applied;
use super::reported::{Reported, Texts};
use super::{COMPUTE, HostManager, HostManagerOptions};
use crate::Status;

/// Services that one host may report beside compute.
const MAX_SERVICES_PER_HOST: usize = 16;

/// Reports missed after which a service's capabilities no longer count in the roll-up.
const STALE_INTERVALS: u32 = 3;

/// Smallest and largest value of each numeric capability, under `<service>_<capability>`.
pub type RollUp = BTreeMap<String, (Number, Number)>;

/// One row of Nova's `get_host_list`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostListEntry {
    /// `compute`, `volume`, ...
    pub service: String,
    /// Its host.
    pub host_name: String,
}

/// Service states by host.
#[derive(Debug, Default)]
pub(crate) struct Services {
    by_host: HashMap<Box<str>, Vec<ServiceState>>,
}

#[derive(Debug)]
pub(super) struct ServiceState {
    pub(super) service: Box<str>,
    hearing: Hearing,
    pub(super) reported: Reported,
}

impl ServiceState {
    pub(super) fn status(&self, outages: &Outages, options: &HostManagerOptions, now: Duration) -> Status {
        match self.hearing.judge(outages, options.service_down_time, now) {
            Liveness::Down => Status::Down,
            _ if self.reported.disabled => Status::Disabled,
            Liveness::Suspect => Status::Suspect,
            Liveness::Up => Status::Up,
        }
    }
}

impl Services {
    /// Replaces what a service said before.
    pub fn apply(
        &mut self,
        service: &str,
        host: &str,
        caps: &Capabilities<'_>,
        texts: &mut Texts,
        options: &HostManagerOptions,
        now: Duration,
    ) -> Applied {
        if !self.by_host.contains_key(host) {
            if self.by_host.len() >= options.max_hosts {
                return Applied::TooMany;
            }
            self.by_host.insert(host.into(), Vec::new());
        }
        let states = self.by_host.get_mut(host).expect("inserted above");
        let known = states.iter().position(|state| *state.service == *service);
        if known.is_none() && states.len() >= MAX_SERVICES_PER_HOST {
            return Applied::TooMany;
        }
        let at = known.unwrap_or_else(|| {
            let (hearing, reported) = (Hearing::new(now, false), Reported::default());
            states.push(ServiceState { service: service.into(), hearing, reported });
            states.len() - 1
        });
        let state = &mut states[at];
        let difference = state.reported.compare(caps, texts);
        state.reported.replace(caps, difference, texts);
        let goodbye = caps.novella.as_ref().is_some_and(|report| report.goodbye);
        state.hearing = Hearing::new(now, goodbye);
        match known {
            _ if goodbye => Applied::Goodbye,
            None => Applied::New,
            Some(_) => Applied::Updated { gap: 0, settled: 0 },
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &ServiceState)> {
        self.by_host.iter().flat_map(|(host, states)| states.iter().map(move |state| (&**host, state)))
    }

    /// Forgets every state that `gone` says is.
    fn forget(&mut self, texts: &mut Texts, gone: impl Fn(&Hearing) -> bool) {
        self.by_host.retain(|_, states| {
            states.retain_mut(|state| {
                let goes = gone(&state.hearing);
                if goes {
                    state.reported.release(texts);
                }
                !goes
            });
            !states.is_empty()
        });
    }

    /// Forgets services that have been silent for `limit`.
    pub fn forget_silent(&mut self, texts: &mut Texts, outages: &Outages, limit: Duration, now: Duration) {
        self.forget(texts, |hearing| hearing.own_silence(outages, now) > limit);
    }
}

impl HostManager {
    /// Nova's `get_service_capabilities`: the bounds of every numeric capability over all hosts whose service is enabled
    /// and not stale. A stale service other than compute is forgotten here, as in Nova; a stale compute host is only
    /// left out, because its silence is judged by `service_down_time`.
    pub fn get_service_capabilities(&mut self, now: Duration) -> RollUp {
        let limit = self.options.report_interval.saturating_mul(STALE_INTERVALS);
        let stale = |hearing: &Hearing| now.saturating_sub(hearing.heard) > limit;
        let mut roll_up = RollUp::new();
        let compute = self.records.iter().flatten().map(|r| (COMPUTE, &r.hearing, &r.reported));
        let others = self.services.iter().map(|(_, s)| (&*s.service, &s.hearing, &s.reported));
        let mut key = String::new();
        for (service, hearing, reported) in compute.chain(others) {
            if reported.disabled || stale(hearing) {
                continue;
            }
            reported.for_each_number(|capability, number| {
                key.clear();
                key.extend([service, "_", capability]);
                widen(&mut roll_up, &key, number);
            });
        }
        self.services.forget(&mut self.texts, stale);
        roll_up
    }

    /// Nova's `get_host_list`: every service of every host, stale ones included, in order of service and name.
    pub fn get_host_list(&self) -> Vec<HostListEntry> {
        let entry =
            |service: &str, host: &str| HostListEntry { service: service.into(), host_name: host.into() };
        let compute = self.table.rows().map(|row| entry(COMPUTE, self.table.host(row)));
        let mut list: Vec<_> =
            compute.chain(self.services.iter().map(|(host, s)| entry(&s.service, host))).collect();
        list.sort_unstable();
        list
    }

    /// Every service of every host with its state, in order of service and name.
    pub fn services(&self, now: Duration) -> Vec<ServiceSummary> {
        let summary = |service: &str, host: &str, state: Status, hearing: &Hearing| ServiceSummary {
            service: service.into(),
            host: host.into(),
            state,
            report_age_s: now.saturating_sub(hearing.heard).as_secs_f64(),
        };
        let compute = self.table.rows().map(|row| {
            let status = self.table.view(row).status();
            summary(COMPUTE, self.table.host(row), status, &self.record(row).hearing)
        });
        let others = self.services.iter().map(|(host, state)| {
            let status = state.status(&self.outages, &self.options, now);
            summary(&state.service, host, status, &state.hearing)
        });
        let mut list: Vec<_> = compute.chain(others).collect();
        list.sort_unstable_by(|a, b| (&a.service, &a.host).cmp(&(&b.service, &b.host)));
        list
    }
}

fn widen(roll_up: &mut RollUp, key: &str, number: Number) {
    match roll_up.get_mut(key) {
        Some((least, most)) => {
            if less(&number, least) {
                *least = number;
            } else if less(most, &number) {
                *most = number;
            }
        }
        None => {
            roll_up.insert(key.to_owned(), (number.clone(), number));
        }
    }
}

/// Whole numbers compare exactly, others as doubles.
fn less(a: &Number, b: &Number) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64() < b.as_f64(),
    }
}
