//! The host manager: everything that can be done with the host-state map, in one place. Each method is one verb or one
//! view.
//!
//! It is pure and synchronous. `now` is the caller's monotonic time since any origin, and must not run backwards. There
//! is no database behind it: a manager that starts empty is complete again after one round of reports.
//!
//! What always holds:
//! - A report replaces what the same identity said before, and never adds to it. `report/identity.rs` says whose report
//!   counts.
//! - A reservation ends exactly once: when a report lists the instance or its end, when it is released, or when its
//!   time is up. A report that does not know the instance leaves it unchanged.
//! - A report that is refused changes nothing but counters and warnings.
//!
//! Any service may report. Only `compute` has hosts on which instances can be placed.

use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::{Eligible, Failure, FilterScheduler, HostTable, NearMisses, Running};
use novella_objects::{
    Capabilities, Change, Decision, HostDetail, HostVerdict, InstanceSummary, Rank, RequestSpec, Reserve,
    SelectDestinations, ServerGroupSummary,
};
use serde_json::Value;
use uuid::Uuid;

use crate::holder::HolderKind;
use crate::map::host_map::HostMap;
use crate::options::HostManagerOptions;
use crate::policy::file::PolicyFile;
use crate::policy::new_policy::NewPolicy;
use crate::policy::resolved::Resolved;
use crate::promises::reservations::MAX_RESERVED_BYTES;
use crate::report::outcome::{Applied, Counters, Event};
use crate::verbs::place::{Placed, SelectedRows};
use crate::verbs::quota::{self, HolderUsage, OverQuota};
use crate::verbs::{
    answers, apply_report, enforce_policy, forget_host, place, place_on_service, reserve, watch,
};
use crate::views::conflicts::{self, Conflicts};
use crate::views::copy::{self, CopyInProgress, MapCopy};
use crate::views::destinations::{self, NovaDestination};
use crate::views::host_claims::{self, HostClaims, ReportedClaim};
use crate::views::hosts::{self, HostListing, ListingInProgress};
use crate::views::instances::{self, InstanceListing, InstancesInProgress};
use crate::views::questions;
use crate::views::server_groups;
use crate::views::services::{self, RollUp, RollUpInProgress, ServiceListing, ServicesInProgress};
use crate::views::zones::{self, FleetUsage};

/// The host-state map of one scheduler.
#[derive(Debug)]
pub struct HostManager {
    pub(crate) map: HostMap,
}

impl HostManager {
    /// Creates an empty map for the scheduler of this name. Peers know the scheduler by the name.
    pub fn new(options: HostManagerOptions, scheduler_name: impl Into<String>) -> Self {
        Self { map: HostMap::new(options, scheduler_name) }
    }

    /// The table of hosts that the filters work on.
    pub fn table(&self) -> &HostTable {
        &self.map.table
    }

    /// How many reservations there are.
    pub fn reservations(&self) -> usize {
        self.map.reservations.len()
    }

    /// How many hosts share their identity with another process, and how many their name.
    pub fn conflicts(&self) -> Conflicts {
        conflicts::conflicts(&self.map)
    }

    /// How many bytes are kept of all reports, by estimate.
    pub fn kept_bytes(&self) -> usize {
        self.map.kept()
    }

    /// How many bytes are kept of all reports at most. What a report would add beyond them is refused.
    pub fn max_kept_bytes(&self) -> usize {
        self.map.max_kept()
    }

    /// How many bytes reservations take, by estimate, and how many they may take.
    pub fn reserved_bytes(&self) -> (usize, usize) {
        (self.map.reservations.bytes(), MAX_RESERVED_BYTES)
    }

    /// How many claims the map does not list, because too many hosts claim the same instance.
    pub fn unlisted_claims(&self) -> usize {
        self.map.unlisted_claims
    }

    /// How often each thing happened.
    pub fn counters(&self) -> &Counters {
        &self.map.counters
    }

    /// Returns the hosts of which a report was missed since the last call. They should publish again.
    pub fn hosts_to_ask_again(&mut self) -> Vec<String> {
        self.map.hosts_to_ask_again()
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<PolicyFile> {
        &self.map.policy
    }

    /// The hash of the policy in force; see [`PolicyFile::hash`].
    pub fn policy_hash(&self) -> &str {
        &self.map.policy_hash
    }

    /// Brings the map to `now`: ends reservations whose time is up, and marks silent hosts suspect, marks them down, or
    /// forgets them. It must be called about once a second; every placement does it too. Returns what happened since
    /// the last call.
    pub fn expire(&mut self, now: Duration) -> Vec<Event> {
        watch::advance(&mut self.map, now);
        std::mem::take(&mut self.map.events)
    }

    /// Notes that the scheduler did not run between these instants, so it could not hear anybody.
    pub fn note_stall(&mut self, from: Duration, to: Duration) {
        watch::note_stall(&mut self.map, from, to)
    }

    /// Notes that the scheduler has no broker from now on.
    pub fn broker_lost(&mut self, now: Duration) {
        watch::broker_lost(&mut self.map, now)
    }

    /// Notes that the scheduler has a broker again.
    pub fn broker_back(&mut self, now: Duration) {
        watch::broker_back(&mut self.map, now)
    }

    /// Applies the report of a service on a host by a broker user, who is absent if the message names none. A report that is
    /// refused is an answer too, and changes only counters and warnings.
    pub fn apply_report(
        &mut self,
        user: Option<&str>,
        service_name: &str,
        host: &str,
        caps: &Capabilities<'_>,
        now: Duration,
    ) -> Applied {
        apply_report::apply_report(&mut self.map, user, service_name, host, caps, now)
    }

    /// Ends the answer window of a start at this time. From then on, new hosts are limited and count as suspect until they
    /// have answered under their own queues.
    pub fn limit_new_hosts(&mut self, from: Duration) {
        self.map.newcomers.limit_from(from);
    }

    /// Whether the map is full, and a host was refused for that within `service_down_time`.
    pub fn is_full(&self, now: Duration) -> bool {
        let HostMap { options, refused_at, .. } = &self.map;
        self.map.table.len() >= options.max_hosts
            && refused_at.is_some_and(|at| now.saturating_sub(at) <= options.service_down_time)
    }

    /// The next hosts to ask whether they have a queue of their own, at most so many. There are none in the answer window.
    pub fn hosts_to_ask(&mut self, most: usize, now: Duration) -> Vec<String> {
        answers::hosts_to_ask(&mut self.map, most, now)
    }

    /// Notes the answer of a host that was asked: the identity in it, if it names one. It is absent if the host did not
    /// answer. Such a host is placed on after all others, and asked again later.
    pub fn answered(&mut self, host: &str, answer: Option<Option<Uuid>>, now: Duration) {
        answers::answered(&mut self.map, host, answer, now)
    }

    /// Has a host asked later that could not be asked now.
    pub fn ask_later(&mut self, host: &str, now: Duration) {
        if let Some(row) = self.map.table.row_of(host) {
            self.map.newcomers.expect_later(row, now);
        }
    }

    /// Removes a host, and the services of this name, so that whoever reports next has the name. Reservations on the host
    /// stay. Returns whether the name was known.
    pub fn forget_host(&mut self, host: &str) -> bool {
        forget_host::forget_host(&mut self.map, host)
    }

    /// Replaces the policy at once. Decisions made under the previous policy stay as they are.
    pub fn set_policy(&mut self, policy: Arc<PolicyFile>) {
        let mut new = NewPolicy::new(policy);
        self.begin_policy(&mut new);
        while !self.match_hosts(&mut new, usize::MAX) {}
        self.finish_policy(new);
    }

    /// Starts to match `new`. From now on the map notes which hosts change, so that it can be used while `new` is
    /// matched. What was matched before, for this policy or another, no longer counts.
    pub fn begin_policy(&mut self, new: &mut NewPolicy) {
        enforce_policy::begin_policy(&mut self.map, new)
    }

    /// Matches at most `most` further hosts. Returns true if no host is left.
    pub fn match_hosts(&self, new: &mut NewPolicy, most: usize) -> bool {
        enforce_policy::match_hosts(&self.map, new, most)
    }

    /// Puts a policy into force that was matched to all hosts. Returns the previous policy.
    pub fn finish_policy(&mut self, new: NewPolicy) -> Arc<PolicyFile> {
        enforce_policy::finish_policy(&mut self.map, new)
    }

    /// Nova's `select_destinations`: decides, and reserves what it decided unless it is a dry run. If no host fits, the
    /// decision says so. Fails if the request cannot be answered at all.
    pub fn select_destinations(
        &mut self,
        scheduler: &mut FilterScheduler,
        request: &Resolved,
        decision_id: String,
        seed: u64,
        now: Duration,
    ) -> Result<Placed, Failure> {
        place::select_destinations(&mut self.map, scheduler, request, decision_id, seed, now)
    }

    /// Whether a request would hold more than its user or its project may have, and of what. A request that is repeated holds
    /// nothing new.
    pub fn over_quota(&mut self, request: &Resolved, now: Duration) -> Option<OverQuota> {
        quota::over_quota(&mut self.map, request, now)
    }

    /// The users or the projects that hold the most instances, at most `most` of them.
    pub fn largest_holders(&self, kind: HolderKind, most: usize) -> Vec<HolderUsage> {
        quota::largest_holders(&self.map, kind, most)
    }

    /// The message that tells peers what a decision reserved. `None` if it reserved nothing.
    pub fn to_reserve(&self, decision: &Decision, now: Duration) -> Option<Reserve> {
        reserve::to_reserve(&self.map, decision, now)
    }

    /// What the hosts of a decision are asked to keep: as holds for the time that is left of its reservations, or as claims
    /// of this rank.
    pub fn host_claims(
        &self,
        decision: &Decision,
        request: &Resolved,
        claim: Option<Rank>,
        now: Duration,
    ) -> HostClaims {
        host_claims::host_claims(&self.map, decision, request, claim, now)
    }

    /// The claims of these instances that hosts have reported.
    pub fn claims_of(&self, uuids: &[Uuid]) -> Vec<ReportedClaim> {
        host_claims::claims_of(&self.map, uuids)
    }

    /// The claims of a decision that the hosts from this row on have reported, at most `most` rows of them. Also
    /// returns the row to go on with, if there are more.
    pub fn claims_of_decision(
        &self,
        decision_id: &str,
        from: usize,
        most: usize,
    ) -> (Vec<ReportedClaim>, Option<usize>) {
        host_claims::claims_of_decision(&self.map, decision_id, from, most)
    }

    /// Does a part of listing instances. Returns true when it is time to finish.
    pub fn instances_some(&self, listing: &mut InstancesInProgress) -> bool {
        instances::instances_some(&self.map, listing)
    }

    /// Does the last part of listing instances. The listing is what the map says now.
    pub fn finish_instances(&self, listing: InstancesInProgress, now: Duration) -> InstanceListing {
        instances::finish_instances(&self.map, listing, now)
    }

    /// What hosts have reported of this instance, or the hold for it if none has.
    pub fn find_instance(&self, uuid: Uuid, now: Duration) -> Vec<InstanceSummary> {
        instances::find_instance(&self.map, uuid, now)
    }

    /// Takes over a peer's decision. Its amounts are subtracted like our own, until a report settles it or its time is
    /// up. A time of zero ends it. Messages of this scheduler itself are ignored, and so are instances that a report
    /// has already settled. Returns how many entries changed the map.
    pub fn reserve(&mut self, reserve: &Reserve, now: Duration) -> usize {
        reserve::reserve(&mut self.map, reserve, now)
    }

    /// Releases the reservations of a decision before their time is up: of these instances, or of all if `uuids` is
    /// empty. Returns the message for the peers, if anything was held. If it is released `by` a user and another one placed
    /// any of it, nothing is released, and the other user is the error.
    pub fn release(
        &mut self,
        decision_id: &str,
        uuids: &[Uuid],
        by: Option<&str>,
    ) -> Result<Option<Reserve>, Arc<str>> {
        reserve::release(&mut self.map, decision_id, uuids, by)
    }

    /// Decides where on `service` the request's instances go. Each has the size of the flavor's root disk. Holds them
    /// unless it is a dry run.
    pub fn select_service(
        &mut self,
        service: &str,
        request: &Resolved,
        decision_id: String,
        now: Duration,
    ) -> Decision {
        place_on_service::select_service(&mut self.map, service, request, decision_id, now)
    }

    /// Describes the hosts of a decision that was just made: for each instance its host, followed by its alternates.
    /// The request is compiled at most once, however many instances it has.
    pub fn destinations(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        selected: &[SelectedRows],
    ) -> Result<Vec<Vec<NovaDestination>>, Failure> {
        destinations::destinations(&mut self.map, scheduler, spec, selected)
    }

    /// Releases the reservations of these instances, whichever decisions made them. If it is done `by` a user, what others
    /// placed stays. Returns the messages for the peers.
    pub fn release_instances(&mut self, uuids: &[Uuid], by: Option<&str>) -> Vec<Reserve> {
        reserve::release_instances(&mut self.map, uuids, by)
    }

    /// Nova's `get_service_capabilities`: the smallest and the largest value of every numeric capability over all hosts
    /// whose service is enabled and not stale. A stale service other than compute is forgotten here, as in Nova. A
    /// stale compute host is only left out, because `service_down_time` decides about its silence.
    pub fn get_service_capabilities(&mut self, now: Duration) -> RollUp {
        let mut rolling = RollUpInProgress::default();
        while !self.roll_up_some(&mut rolling, now) {}
        self.finish_roll_up(rolling, now)
    }

    /// Does a part of [`Self::get_service_capabilities`]. Each host counts as it is when its turn comes. Returns true when it
    /// is time to finish.
    pub fn roll_up_some(&self, rolling: &mut RollUpInProgress, now: Duration) -> bool {
        services::roll_up_some(&self.map, rolling, now)
    }

    /// Does the last part of [`Self::get_service_capabilities`].
    pub fn finish_roll_up(&mut self, rolling: RollUpInProgress, now: Duration) -> RollUp {
        services::finish_roll_up(&mut self.map, rolling, now)
    }

    /// Copies what is needed to list every service of every host.
    pub fn services(&self, now: Duration) -> ServiceListing {
        let mut listing = ServicesInProgress::default();
        while !self.services_some(&mut listing) {}
        self.finish_services(listing, now)
    }

    /// Does a part of [`Self::services`]. Returns true when it is time to finish.
    pub fn services_some(&self, listing: &mut ServicesInProgress) -> bool {
        services::services_some(&self.map, listing)
    }

    /// Does the last part of [`Self::services`]. The listing is what the map says now.
    pub fn finish_services(&self, listing: ServicesInProgress, now: Duration) -> ServiceListing {
        services::finish_services(&self.map, listing, now)
    }

    /// Looks up the flavor and the PCI aliases that a request names. Fails if the policy does not know a name.
    pub fn resolve(&self, request: SelectDestinations) -> Result<Resolved, Failure> {
        Resolved::new(&self.map.policy, request)
    }

    /// Returns what all filters and weighers say about one host; `None` if there is no such host. Fails if the request
    /// could not be asked about any host.
    pub fn inspect(
        &mut self,
        scheduler: &mut FilterScheduler,
        request: &Resolved,
        host: &str,
        now: Duration,
    ) -> Result<Option<HostVerdict>, Failure> {
        questions::inspect(&mut self.map, scheduler, request, host, now)
    }

    /// Returns the hosts that are nearest to taking the first instance that does not fit; `None` if all instances fit.
    pub fn near_misses(
        &mut self,
        scheduler: &mut FilterScheduler,
        request: &Resolved,
        now: Duration,
    ) -> Result<Option<NearMisses>, Failure> {
        questions::near_misses(&mut self.map, scheduler, request, now)
    }

    /// Returns the host that the first instance would get after these changes; see
    /// [`novella_filter_scheduler::try_changes`].
    pub fn try_changes(
        &mut self,
        scheduler: &mut FilterScheduler,
        request: &Resolved,
        changes: &[Change],
    ) -> Option<String> {
        questions::try_changes(&mut self.map, scheduler, request, changes)
    }

    /// Which hosts may take instances like those of `request`, with their amounts. Takes about as long as one placement
    /// and one listing; the counting is done on what is returned.
    pub fn eligible(
        &mut self,
        scheduler: &mut FilterScheduler,
        request: &Resolved,
        now: Duration,
    ) -> Result<Eligible, Failure> {
        questions::eligible(&mut self.map, scheduler, request, now)
    }

    /// What runs on each host: the instances that it lists, and those that are promised to it.
    pub fn running(&self) -> Running {
        questions::running(&self.map)
    }

    /// Copies what is needed to say what is in use in each availability zone.
    pub fn usage(&self) -> FleetUsage {
        zones::usage(&self.map)
    }

    /// Copies what is needed to list the fleet.
    pub fn fleet(&self, now: Duration) -> HostListing {
        self.list(ListingInProgress::new(false), now)
    }

    /// Copies what is needed to list the fleet with the facts that the hosts reported.
    pub fn fleet_with_facts(&self, now: Duration) -> HostListing {
        self.list(ListingInProgress::new(true), now)
    }

    fn list(&self, mut listing: ListingInProgress, now: Duration) -> HostListing {
        while !self.list_some(&mut listing) {}
        self.finish_list(listing, now)
    }

    /// Does a part of [`Self::fleet`]. Returns true when it is time to finish.
    pub fn list_some(&self, listing: &mut ListingInProgress) -> bool {
        hosts::list_some(&self.map, listing)
    }

    /// Does the last part of [`Self::fleet`]. The listing is what the map says now.
    pub fn finish_list(&self, listing: ListingInProgress, now: Duration) -> HostListing {
        hosts::finish_list(&self.map, listing, now)
    }

    /// The server groups that the policy defines or that have members, in the order of their names and without members.
    pub fn server_groups(&self) -> Vec<ServerGroupSummary> {
        server_groups::all(&self.map)
    }

    /// The server group of this name with its members. `None` if the policy does not define it and it has no members.
    pub fn server_group(&self, name: &str) -> Option<ServerGroupSummary> {
        server_groups::one(&self.map, name)
    }

    /// Everything that is known of one host. The list of its ended instances is not kept, so it is empty.
    pub fn detail(&self, host: &str, now: Duration) -> Option<HostDetail> {
        hosts::detail(&self.map, host, now)
    }

    /// Nova's `show_host_resources`: totals and what is in use. Claims do not name a project, so `usage`, which is by
    /// project, is empty.
    pub fn show_host_resources(&self, host: &str) -> Option<Value> {
        hosts::show_host_resources(&self.map, host)
    }

    /// Copies everything that decisions depend on, so that it can be written out without holding the lock.
    pub fn copy(&mut self, now: Duration) -> MapCopy {
        let mut copying = CopyInProgress::default();
        while !self.copy_some(&mut copying) {}
        self.finish_copy(copying, now)
    }

    /// Does a part of [`Self::copy`]. Returns true when it is time to finish.
    pub fn copy_some(&self, copying: &mut CopyInProgress) -> bool {
        copy::copy_some(&self.map, copying)
    }

    /// Does the last part of [`Self::copy`]. The copy is what the map says now, however it changed since the first part.
    pub fn finish_copy(&mut self, copying: CopyInProgress, now: Duration) -> MapCopy {
        copy::finish_copy(&mut self.map, copying, now)
    }
}
