//! Services other than compute: the last report of each, and when it came.
//!
//! What always holds: the number of hosts and of services per host is bounded.
//!
//! Left out: identities. Any report of a service by the same broker user replaces the one before.

use std::time::Duration;

use hashbrown::HashMap;
use novella_objects::{Capabilities, HostStatus};

use crate::options::HostManagerOptions;
use crate::report::kept::{self, Kept};
use crate::report::liveness::{Hearing, Outages};
use crate::report::outcome::Applied;
use crate::report::reported::{Reported, Texts, json, long_text_bytes};

/// The service on whose hosts instances are placed.
pub const COMPUTE: &str = "compute";

/// How many services other than compute one host may report.
const MAX_SERVICES_PER_HOST: usize = 16;

/// The services of each host, by the name of the host.
#[derive(Debug, Default)]
pub(crate) struct Services {
    by_host: HashMap<Box<str>, Vec<ServiceState>>,
    /// How many bytes are kept of all reports, without long texts.
    kept: usize,
}

/// The last report of one service on one host.
#[derive(Debug)]
pub(crate) struct ServiceState {
    pub(crate) service: Box<str>,
    /// The broker user who first reported it. Only this one may report it. `None` if no report had a user.
    owner: Option<Box<str>>,
    /// When the service was last heard.
    pub(crate) hearing: Hearing,
    pub(crate) reported: Reported,
    /// How many bytes are kept of the report, without long texts.
    kept: usize,
}

impl ServiceState {
    pub(crate) fn status(
        &self,
        outages: &Outages,
        options: &HostManagerOptions,
        now: Duration,
    ) -> HostStatus {
        self.hearing.judge(outages, options.service_down_time, now).status(self.reported.disabled)
    }

    /// How many GiB the service has in total, if it reports a number.
    pub(crate) fn total_gb(&self) -> Option<f64> {
        self.reported.words().extra_text("total_capacity_gb").map(json)?.as_f64()
    }
}

/// How many bytes are kept of a service's report.
pub(crate) fn kept_of_report(caps: &Capabilities<'_>) -> Kept {
    Kept {
        words: kept::words(caps),
        metrics: kept::metrics(caps),
        long_texts: long_text_bytes(caps),
        ..Kept::default()
    }
}

impl Services {
    /// How many bytes are kept of all reports, without long texts.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// How many bytes are kept of the report of a service, without long texts.
    pub(crate) fn kept_of(&self, service: &str, host: &str) -> usize {
        let state =
            self.by_host.get(host).and_then(|all| all.iter().find(|state| *state.service == *service));
        state.map_or(0, |state| state.kept)
    }

    /// Whether a service of this host is known.
    pub(crate) fn knows(&self, host: &str) -> bool {
        self.by_host.contains_key(host)
    }

    /// The broker user to whom a service belongs.
    pub(crate) fn owner(&self, service: &str, host: &str) -> Option<&str> {
        let state = self.by_host.get(host)?.iter().find(|state| *state.service == *service)?;
        state.owner.as_deref()
    }

    /// Replaces the report of a service.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are what a report consists of, and what it is written to"
    )]
    pub(crate) fn apply(
        &mut self,
        user: Option<&str>,
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
            states.push(ServiceState { service: service.into(), owner: None, hearing, reported, kept: 0 });
            states.len() - 1
        });
        let state = &mut states[at];
        if state.owner.is_none() {
            state.owner = user.map(Into::into);
        }
        let difference = state.reported.compare(caps, texts);
        state.reported.replace(caps, difference, texts);
        let kept = kept_of_report(caps).own();
        self.kept = self.kept - std::mem::replace(&mut state.kept, kept) + kept;
        let goodbye = caps.novella.as_ref().is_some_and(|report| report.goodbye);
        state.hearing = Hearing::new(now, goodbye);
        match known {
            _ if goodbye => Applied::Goodbye,
            None => Applied::New,
            Some(_) => Applied::Updated { gap: 0, settled: 0 },
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &ServiceState)> {
        self.by_host.iter().flat_map(|(host, states)| states.iter().map(move |state| (&**host, state)))
    }

    /// Forgets all services of a host. Returns whether there was one.
    pub(crate) fn forget_host(&mut self, texts: &mut Texts, host: &str) -> bool {
        let Some(mut states) = self.by_host.remove(host) else { return false };
        for state in &mut states {
            self.kept -= state.kept;
            state.reported.release(texts);
        }
        true
    }

    /// Forgets every service for which `gone` is true.
    pub(crate) fn forget(&mut self, texts: &mut Texts, gone: impl Fn(&Hearing) -> bool) {
        let Self { by_host, kept } = self;
        by_host.retain(|_, states| {
            states.retain_mut(|state| {
                let goes = gone(&state.hearing);
                if goes {
                    *kept -= state.kept;
                    state.reported.release(texts);
                }
                !goes
            });
            !states.is_empty()
        });
    }
}
