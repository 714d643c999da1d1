//! The host manager: all that can be done with the host-state map, in one place. Each method is one verb or one view.
//!
//! Pure and synchronous. `now` is the caller's monotonic time since any origin; it must not run backwards. There is no
//! database behind this: a manager that starts empty is complete again after one round of reports.
//!
//! What always holds:
//! - A report replaces what the same identity said before, never adds to it; `report/identity.rs` says whose report counts.
//! - A reservation ends exactly once: a report lists the instance or its end, it is let go, or its time is up. A report
//!   that does not know of it changes nothing about it.
//! - A report that is refused changes nothing but counters and warnings.
//!
//! Any service may report; only `compute` has hosts that something can be placed on.

use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::{Eligible, Failure, FilterScheduler, HostTable, NearMisses};
use novella_objects::{
    Capabilities, Change, Decision, HostDetail, HostVerdict, RequestSpec, Reserve, SelectDestinations,
    Selection, ServiceSummary,
};
use novella_resources::Amounts;
use serde_json::Value;
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::options::HostManagerOptions;
use crate::policy::file::PolicyFile;
use crate::policy::new_policy::NewPolicy;
use crate::report::outcome::{Applied, Counters, Event};
use crate::verbs::{apply_report, enforce_policy, place, place_on_service, reserve, watch};
use crate::views::copy::{self, MapCopy};
use crate::views::destinations::{self, Destination};
use crate::views::hosts::{self, Fleet};
use crate::views::services::{self, HostListEntry, RollUp};
use crate::views::{capacity, explain};

/// See the module's text.
#[derive(Debug)]
pub struct HostManager {
    pub(crate) map: HostMap,
}

impl HostManager {
    /// An empty map for the scheduler of this name.
    pub fn new(options: HostManagerOptions, scheduler_name: impl Into<String>) -> Self {
        Self { map: HostMap::new(options, scheduler_name) }
    }

    /// The fleet as the filters see it.
    pub fn table(&self) -> &HostTable {
        self.map.table()
    }

    /// How many reservations there are.
    pub fn reservations(&self) -> usize {
        self.map.reservations()
    }

    /// How often each thing happened.
    pub fn counters(&self) -> &Counters {
        self.map.counters()
    }

    /// Hosts whose reports were missed since this was last asked. They should publish again.
    pub fn hosts_to_ask_again(&mut self) -> Vec<String> {
        self.map.hosts_to_ask_again()
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<PolicyFile> {
        self.map.policy()
    }

    /// The hash of the policy in force; see [`PolicyFile::hash`].
    pub fn policy_hash(&self) -> &str {
        self.map.policy_hash()
    }

    /// Brings the map to `now`: reservations end, hosts become suspect, go down, are forgotten. To be called about once
    /// a second; every placement does it too. Returns what happened since the last call.
    pub fn expire(&mut self, now: Duration) -> Vec<Event> {
        watch::expire(&mut self.map, now)
    }

    /// The scheduler itself did not run between these instants, so nobody could be heard.
    pub fn note_stall(&mut self, from: Duration, to: Duration) {
        watch::note_stall(&mut self.map, from, to)
    }

    /// The scheduler has no broker from now on.
    pub fn broker_lost(&mut self, now: Duration) {
        watch::broker_lost(&mut self.map, now)
    }

    /// The scheduler has a broker again.
    pub fn broker_back(&mut self, now: Duration) {
        watch::broker_back(&mut self.map, now)
    }

    /// Applies what a service on a host says of itself.
    pub fn apply_report(
        &mut self,
        service_name: &str,
        host: &str,
        caps: &Capabilities<'_>,
        now: Duration,
    ) -> Applied {
        apply_report::apply_report(&mut self.map, service_name, host, caps, now)
    }

    /// Replaces the policy. What was decided under the one before stays as it is.
    pub fn set_policy(&mut self, policy: Arc<PolicyFile>) {
        enforce_policy::set_policy(&mut self.map, policy)
    }

    /// From here on the map notes which hosts change, so that `new` can be matched while it is in use; whatever was matched
    /// before, of this policy or another, is void.
    pub fn begin_policy(&mut self, new: &mut NewPolicy) {
        enforce_policy::begin_policy(&mut self.map, new)
    }

    /// Matches the next few hosts, at most this many; true when none is left.
    pub fn match_hosts(&self, new: &mut NewPolicy, most: usize) -> bool {
        enforce_policy::match_hosts(&self.map, new, most)
    }

    /// Puts it into force. Returns the policy before it.
    pub fn finish_policy(&mut self, new: NewPolicy) -> Arc<PolicyFile> {
        enforce_policy::finish_policy(&mut self.map, new)
    }

    /// Nova's `select_destinations`: decides, and reserves what it decided unless it is a dry run. An error is a request
    /// that cannot be answered at all; that no host fits is an answer.
    pub fn select_destinations(
        &mut self,
        scheduler: &mut FilterScheduler,
        request: &SelectDestinations,
        decision_id: String,
        seed: u64,
        now: Duration,
    ) -> Result<Decision, Failure> {
        place::select_destinations(&mut self.map, scheduler, request, decision_id, seed, now)
    }

    /// What to tell the peers of a decision made here. `None` if it reserved nothing.
    pub fn to_reserve(&self, decision: &Decision, now: Duration) -> Option<Reserve> {
        reserve::to_reserve(&self.map, decision, now)
    }

    /// A peer's decision: subtracted as if it were ours, until a report settles it or its time is up; a time of zero
    /// lets go. What we told ourselves is ignored, and so is what a report has settled already. Returns how many
    /// entries changed the map.
    pub fn reserve(&mut self, reserve: &Reserve, now: Duration) -> usize {
        reserve::reserve(&mut self.map, reserve, now)
    }

    /// Lets go of a decision's reservations before their time: of these instances, or of all when none is named. Returns
    /// what to tell the peers, if anything was held.
    pub fn release(&mut self, decision_id: &str, uuids: &[Uuid]) -> Option<Reserve> {
        reserve::release(&mut self.map, decision_id, uuids)
    }

    /// Decides where on `service` the request's instances go, each of the size of the flavor's root disk, and holds that
    /// unless it is a dry run.
    pub fn select_service(
        &mut self,
        service: &str,
        request: &SelectDestinations,
        decision_id: String,
        now: Duration,
    ) -> Decision {
        place_on_service::select_service(&mut self.map, service, request, decision_id, now)
    }

    /// Describes the hosts of a decision that was just made: for each instance its host, and then its alternates. The
    /// request is compiled at most once, however many instances it has.
    pub fn destinations(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        selections: &[Selection],
    ) -> Result<Vec<Vec<Destination>>, Failure> {
        destinations::destinations(&mut self.map, scheduler, spec, selections)
    }

    /// Lets go of these instances' reservations, whichever decisions made them. Returns what to tell the peers.
    pub fn release_instances(&mut self, uuids: &[Uuid]) -> Vec<Reserve> {
        reserve::release_instances(&mut self.map, uuids)
    }

    /// Nova's `get_service_capabilities`: the bounds of every numeric capability over all hosts whose service is enabled
    /// and not stale. A stale service other than compute is forgotten here, as in Nova; a stale compute host is only
    /// left out, because its silence is judged by `service_down_time`.
    pub fn get_service_capabilities(&mut self, now: Duration) -> RollUp {
        services::get_service_capabilities(&mut self.map, now)
    }

    /// Nova's `get_host_list`: every service of every host, stale ones included, in order of service and name.
    pub fn get_host_list(&self) -> Vec<HostListEntry> {
        services::get_host_list(&self.map)
    }

    /// Every service of every host with its state, in order of service and name.
    pub fn services(&self, now: Duration) -> Vec<ServiceSummary> {
        services::services(&self.map, now)
    }

    /// The request with the flavor and the PCI aliases that it names, so that it can be asked again whatever the policy is then.
    pub fn resolve(&self, request: SelectDestinations) -> Result<SelectDestinations, Failure> {
        explain::resolve(&self.map, request)
    }

    /// What all filters and weighers say of one host; `None` if there is no such host. An error is a request that could
    /// be asked of no host.
    pub fn inspect(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        host: &str,
        now: Duration,
    ) -> Result<Option<HostVerdict>, Failure> {
        explain::inspect(&mut self.map, scheduler, spec, host, now)
    }

    /// The hosts nearest to taking the first instance that does not fit; `None` if all fit.
    pub fn near_misses(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        now: Duration,
    ) -> Result<Option<NearMisses>, Failure> {
        explain::near_misses(&mut self.map, scheduler, spec, now)
    }

    /// Where the first instance would go after these changes; see [`try_changes`](novella_filter_scheduler::try_changes).
    pub fn try_changes(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        changes: &[Change],
    ) -> Option<String> {
        explain::try_changes(&mut self.map, scheduler, spec, changes)
    }

    /// Which hosts may take instances like those of `spec`, with their amounts; and by row what each holds back for itself.
    /// Takes about as long as one placement and one listing; the counting is done on what is returned.
    pub fn eligible(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        now: Duration,
    ) -> Result<(Eligible, Vec<Amounts>), Failure> {
        capacity::eligible(&mut self.map, scheduler, spec, now)
    }

    /// A copy of what is needed to list the fleet.
    pub fn fleet(&self, now: Duration) -> Fleet {
        hosts::fleet(&self.map, now)
    }

    /// Everything known of one host. Its list of ended instances is not kept.
    pub fn detail(&self, host: &str, now: Duration) -> Option<HostDetail> {
        hosts::detail(&self.map, host, now)
    }

    /// Nova's `show_host_resources`: totals and what is in use. Claims do not say whose they are, so `usage`, which is by
    /// project, is empty.
    pub fn show_host_resources(&self, host: &str) -> Option<Value> {
        hosts::show_host_resources(&self.map, host)
    }

    /// Copies all that decisions depend on, so that it can be written out without the lock.
    pub fn copy(&mut self, now: Duration) -> MapCopy {
        copy::copy(&mut self.map, now)
    }
}
