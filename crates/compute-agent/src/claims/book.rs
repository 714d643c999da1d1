//! The book of claims: what this host has granted, and whether one more fits.
//!
//! Every change has two steps. First it is *staged*: it counts for everything that is decided from then on, and its records
//! are handed out to be written, in the order in which changes were staged. Then its outcome is *settled*: once written, it
//! is acknowledged; if it could not be written, the book returns to what was acknowledged before.
//!
//! What always holds:
//! - of each instance, all that it may turn out to have counts as used: what is acknowledged and what every change that is
//!   not settled would leave. So whatever is written or undone, nothing is promised twice;
//! - holds are acknowledged when they are staged, because nobody waits for their records;
//! - the rank of an instance never falls while it is on this host;
//! - of an instance that ended, only claims of a higher rank are taken, and none if it was deleted;
//! - the claim of an instance whose guest is being destroyed counts until the guest is gone, and nobody gets it meanwhile.
//!
//! Left out: the disk, and time. Both are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use novella_objects::{ClaimAnswer, ClaimRequest, InstanceClaim, Lack, Rank, TerminateInstance, Terminated};
use novella_resources::{HostLimits, Taken};
use novella_service::Change;
use uuid::Uuid;

use crate::claims::record::{
    ClaimRecord, EndedRecord, Records, delete_claim, delete_ended, put_claim, put_ended, put_running,
};

/// How many claims and holds a host has at most. Schedulers refuse reports that list more.
const MAX_CLAIMS: usize = 4096;
/// How many ended instances are remembered at most. With more, claims are refused until some are forgotten.
const MAX_ENDED: usize = 100_000;
/// How many ended instances a report lists: the newest.
const LISTED_ENDED: usize = 1024;
/// For how long ended instances are remembered, in running time of the agent.
const REMEMBER_ENDED: Duration = Duration::from_secs(3600);
/// The longest hold. A longer one is shortened.
const MAX_HOLD: Duration = Duration::from_secs(24 * 3600);

/// A claim or hold, and until when it lasts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    pub record: ClaimRecord,
    pub taken: Taken,
    /// When the hold ends. `None` if it is a claim.
    pub expires: Option<Duration>,
}

/// Disk that was given, GiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// To claims and holds.
    pub all: u64,
    /// To claims, also in place of a hold. Schedulers subtract holds themselves.
    pub claims: u64,
}

impl Given {
    fn add(&mut self, grant: &Grant, before: Option<&Grant>) {
        let disk = grant.taken.allocation.amounts.disk_gb;
        if before.is_none() {
            self.all = self.all.saturating_add(disk);
        }
        if grant.expires.is_none() && before.is_none_or(|before| before.expires.is_some()) {
            self.claims = self.claims.saturating_add(disk);
        }
    }
}

/// What is known of an instance that has, or is about to have or to lose, room on this host.
#[derive(Debug)]
struct Entry {
    /// The newest staged state. `None` if it is about to end.
    staged: Option<Grant>,
    /// What was acknowledged last.
    acknowledged: Option<Grant>,
    /// What is staged of its end.
    ended: Option<EndedRecord>,
    /// The changes that are not settled, each with what it leaves, oldest first.
    unsettled: Vec<(u64, Option<Taken>)>,
}

impl Entry {
    fn new() -> Self {
        Self { staged: None, acknowledged: None, ended: None, unsettled: Vec::new() }
    }

    /// Whether nothing is staged that is not acknowledged.
    fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// What counts as used. It is one amount, except while changes with different amounts are not settled.
    fn counted(&self) -> impl Iterator<Item = &Taken> + Clone {
        let acknowledged = self.acknowledged.as_ref().map(|grant| &grant.taken);
        let unsettled = self.unsettled.iter().filter_map(|(_, taken)| taken.as_ref());
        let all = acknowledged.into_iter().chain(unsettled);
        let known = all.clone();
        // What is the same as something before it is one amount, not two.
        all.enumerate()
            .filter(move |(at, taken)| !known.clone().take(*at).any(|known| known == *taken))
            .map(|(_, taken)| taken)
    }

    fn group(&self) -> Option<&str> {
        let grant = self.staged.as_ref().or(self.acknowledged.as_ref())?;
        grant.record.claim.instance.group.as_deref()
    }
}

/// What an instance has once a change is written.
#[derive(Debug)]
pub(crate) struct Outcome {
    uuid: Uuid,
    /// The number of the change.
    change: u64,
    grant: Option<Grant>,
    ended: Option<EndedRecord>,
}

/// Changes that are decided and not yet written.
#[derive(Debug, Default)]
#[must_use = "what is staged must be written, and then settled"]
pub(crate) struct Staged {
    /// What must be written, all of it or nothing.
    pub records: Vec<Change>,
    /// What [`ClaimBook::settle`] is told afterwards.
    pub outcomes: Vec<Outcome>,
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct ClaimBook {
    host: String,
    entries: BTreeMap<Uuid, Entry>,
    ended: BTreeMap<Uuid, EndedRecord>,
    ended_by_time: BTreeSet<(u64, Uuid)>,
    /// Disk that claims and holds, and that claims alone were given since the last reading of the host.
    given: Given,
    /// The same between the two readings before. The last one may have begun before that.
    given_before: Given,
    /// Whether readings of the host show the disk of instances. A driver that lists no instances cannot see what a claim has
    /// not written yet.
    reading_shows_instances: bool,
    /// Instances whose guests are being destroyed, each with the rank of the end that follows.
    closing: BTreeMap<Uuid, Option<Rank>>,
    /// How long earlier processes ran.
    ran_before: Duration,
    next_change: u64,
}

impl ClaimBook {
    /// The book that these records describe, of a process that starts now.
    pub fn new(host: String, records: Records, now: Duration) -> Result<Self, String> {
        let mut book = Self {
            host,
            entries: BTreeMap::new(),
            ended: BTreeMap::new(),
            ended_by_time: BTreeSet::new(),
            given: Given::default(),
            given_before: Given::default(),
            reading_shows_instances: false,
            closing: BTreeMap::new(),
            // Running time is counted from `now`, whatever the clock shows.
            ran_before: Duration::from_millis(records.running.ms).saturating_sub(now),
            next_change: 0,
        };
        for (uuid, record) in records.claims {
            let taken = Taken::of_entry(&record.claim.instance)
                .map_err(|reason| format!("the claim of instance {uuid}: {reason}"))?;
            let expires = record.hold_left_ms.map(|left| now.saturating_add(Duration::from_millis(left)));
            let grant = Grant { record, taken, expires };
            let entry = Entry { staged: Some(grant.clone()), acknowledged: Some(grant), ..Entry::new() };
            book.entries.insert(uuid, entry);
        }
        records.ended.into_iter().for_each(|(uuid, record)| book.remember(uuid, record));
        Ok(book)
    }

    fn remember(&mut self, uuid: Uuid, record: EndedRecord) {
        self.forget(&uuid);
        self.ended.insert(uuid, record);
        self.ended_by_time.insert((record.at_ms, uuid));
    }

    fn forget(&mut self, uuid: &Uuid) {
        if let Some(record) = self.ended.remove(uuid) {
            self.ended_by_time.remove(&(record.at_ms, *uuid));
        }
    }

    fn running(&self, now: Duration) -> Duration {
        self.ran_before.saturating_add(now)
    }

    fn running_ms(&self, now: Duration) -> u64 {
        u64::try_from(self.running(now).as_millis()).unwrap_or(u64::MAX)
    }

    /// Makes a new state of an instance the newest.
    fn stage(&mut self, staged: &mut Staged, uuid: Uuid, grant: Option<Grant>, ended: Option<EndedRecord>) {
        self.next_change += 1;
        let change = self.next_change;
        let entry = self.entries.entry(uuid).or_insert_with(Entry::new);
        if let Some(grant) = &grant {
            self.given.add(grant, entry.staged.as_ref());
        }
        if grant.as_ref().is_some_and(|grant| grant.expires.is_some()) {
            entry.acknowledged.clone_from(&grant);
        }
        let taken = grant.as_ref().map(|grant| grant.taken.clone());
        entry.unsettled.push((change, taken));
        (entry.staged, entry.ended) = (grant.clone(), ended);
        staged.outcomes.push(Outcome { uuid, change, grant, ended });
    }

    /// Grants or refuses each instance of a request. An error means that the request itself is wrong.
    pub fn claim(
        &mut self,
        limits: &HostLimits,
        request: &ClaimRequest,
        now: Duration,
    ) -> Result<(Vec<ClaimAnswer>, Staged), String> {
        let taken = request.instances.iter().map(|wanted| self.check(wanted, request));
        let taken: Vec<Taken> = taken.collect::<Result<_, _>>()?;
        let mut staged = Staged::default();
        let mut answers = Vec::with_capacity(taken.len());
        for (wanted, taken) in request.instances.iter().zip(taken) {
            answers.push(self.claim_one(limits, request, wanted, taken, now, &mut staged));
        }
        if !staged.records.is_empty() {
            staged.records.push(put_running(self.running(now)));
        }
        Ok((answers, staged))
    }

    /// Refuses what is wrong whatever the host has room for.
    fn check(&self, wanted: &InstanceClaim, request: &ClaimRequest) -> Result<Taken, String> {
        let instance = &wanted.instance;
        let named = |reason: String| format!("instance {}: {reason}", instance.uuid);
        if instance.host != self.host {
            return Err(named(format!("it is for host {:?}, and this is {:?}", instance.host, self.host)));
        }
        if instance.service.is_some() {
            return Err(named("a compute host has no room for other services".to_owned()));
        }
        for (name, text) in [("group", &instance.group), ("flavor", &instance.flavor)] {
            if text.as_deref().is_some_and(|text| !novella_objects::is_name(text)) {
                return Err(named(format!(
                    "{name} is not a name: it is empty, too long, or has control characters"
                )));
            }
        }
        for (name, text) in [("decision_id", Some(&request.decision_id)), ("user", request.user.as_ref())] {
            if text.is_some_and(|text| !novella_objects::is_name(text)) {
                return Err(format!(
                    "{name} is not a name: it is empty, too long, or has control characters"
                ));
            }
        }
        Taken::of_entry(instance).map_err(|reason| named(reason.to_string()))
    }

    fn claim_one(
        &mut self,
        limits: &HostLimits,
        request: &ClaimRequest,
        wanted: &InstanceClaim,
        taken: Taken,
        now: Duration,
        staged: &mut Staged,
    ) -> ClaimAnswer {
        let uuid = wanted.instance.uuid;
        let hold = request.hold_ms.map(|ms| Duration::from_millis(ms).min(MAX_HOLD));
        let mut record = ClaimRecord {
            claim: wanted.clone(),
            decision_id: request.decision_id.clone(),
            user: request.user.clone(),
            hold_left_ms: hold.map(|hold| hold.as_millis() as u64),
        };
        if let Some(&up_to_rank) = self.closing.get(&uuid) {
            let ended = EndedRecord { at_ms: 0, up_to_rank };
            return match too_late(&ended, wanted.rank) {
                Some(ended) => ended,
                None => ClaimAnswer::Busy {
                    reason:
                        "the host still removes an earlier guest of this instance; try again when it is gone"
                            .to_owned(),
                },
            };
        }
        let entry = self.entries.get(&uuid);
        let mut fits = false;
        if let Some(known) = entry.and_then(|entry| entry.staged.as_ref()) {
            if let Some(reason) = conflict(known, &record) {
                return ClaimAnswer::Conflict { reason };
            }
            let before = known.record.claim.rank;
            let is_claim = known.expires.is_none();
            // A claim does not become a hold. A repeated claim needs no second record, once the first is on the disk.
            let is_told = wanted.rank <= before && entry.is_some_and(Entry::is_settled);
            if is_claim && (hold.is_some() || is_told) {
                return ClaimAnswer::Granted { rank: before };
            }
            record.claim.rank = before.max(wanted.rank);
            if is_claim {
                // The host keeps what it gave, such as the CPUs that were chosen then.
                record.claim = InstanceClaim { rank: record.claim.rank, ..known.record.claim.clone() };
                fits = true;
            }
        } else if let Some(ended) = self.end_of(&uuid).and_then(|ended| too_late(&ended, wanted.rank)) {
            return ended;
        } else if let Some(reason) = self.full() {
            return ClaimAnswer::Busy { reason };
        }
        let lacks = if fits { Vec::new() } else { self.lacks(limits, uuid, wanted, &taken) };
        if !lacks.is_empty() {
            return ClaimAnswer::Refused { lacks };
        }
        let rank = record.claim.rank;
        staged.records.push(put_claim(uuid, &record));
        if self.end_of(&uuid).is_some() {
            staged.records.push(delete_ended(uuid));
        }
        let taken = match self.entries.get(&uuid).and_then(|entry| entry.staged.as_ref()) {
            Some(known) if fits => known.taken.clone(),
            _ => taken,
        };
        let grant = Grant { record, taken, expires: hold.map(|hold| now.saturating_add(hold)) };
        self.stage(staged, uuid, Some(grant), None);
        ClaimAnswer::Granted { rank }
    }

    /// Why no further claim is taken, whatever the host has room for.
    fn full(&self) -> Option<String> {
        if self.entries.len() >= MAX_CLAIMS {
            return Some(format!("the host has {MAX_CLAIMS} claims and holds, and may not have more"));
        }
        (self.ended.len() >= MAX_ENDED)
            .then(|| format!("{MAX_ENDED} instances ended here within an hour; claims are taken again when some are forgotten"))
    }

    fn end_of(&self, uuid: &Uuid) -> Option<EndedRecord> {
        let staged = self.entries.get(uuid).and_then(|entry| entry.ended);
        staged.or_else(|| self.ended.get(uuid).copied())
    }

    fn lacks(&self, limits: &HostLimits, uuid: Uuid, wanted: &InstanceClaim, taken: &Taken) -> Vec<Lack> {
        let others = self.entries.iter().filter(|(other, _)| **other != uuid);
        let mut lacks =
            limits.lacks(others.clone().flat_map(|(_, entry)| entry.counted()), taken, self.given_gb().all);
        if let (Some(group), Some(most)) = (wanted.instance.group.as_deref(), wanted.max_in_group) {
            let members = others.filter(|(_, entry)| entry.group() == Some(group)).count();
            if members >= most as usize {
                lacks.push(Lack {
                    resource: format!("server group {group}"),
                    wanted: 1,
                    free: i64::from(most) - members as i64,
                    unit: "members".into(),
                });
            }
        }
        lacks
    }

    /// Ends the holds of a decision: of these instances, or all if none is named. Claims stay.
    pub fn end_holds(&mut self, decision_id: &str, uuids: &[Uuid]) -> Staged {
        let is_held = |grant: &Grant| grant.expires.is_some() && grant.record.decision_id == decision_id;
        let held = self.entries.iter().filter(|(uuid, entry)| {
            (uuids.is_empty() || uuids.contains(uuid)) && entry.staged.as_ref().is_some_and(is_held)
        });
        let held: Vec<Uuid> = held.map(|(uuid, _)| *uuid).collect();
        self.drop_holds(held)
    }

    /// Ends the holds whose time is up, and forgets instances that ended long ago.
    pub fn expire(&mut self, now: Duration) -> Staged {
        let is_over = |grant: &Grant| grant.expires.is_some_and(|expires| expires <= now);
        let over = self.entries.iter().filter(|(_, entry)| entry.staged.as_ref().is_some_and(is_over));
        let over: Vec<Uuid> = over.map(|(uuid, _)| *uuid).collect();
        let mut staged = self.drop_holds(over);
        let running = self.running_ms(now);
        let remember = REMEMBER_ENDED.as_millis() as u64;
        while let Some((at, uuid)) = self.ended_by_time.first().copied()
            && at.saturating_add(remember) <= running
        {
            self.forget(&uuid);
            staged.records.push(delete_ended(uuid));
        }
        staged
    }

    fn drop_holds(&mut self, uuids: Vec<Uuid>) -> Staged {
        let mut staged = Staged::default();
        for uuid in uuids {
            self.entries.remove(&uuid);
            staged.records.push(delete_claim(uuid));
        }
        staged
    }

    /// Takes note of a new reading of the host. If it shows the disk of instances, none of it is subtracted again.
    pub fn note_reading(&mut self, shows_instances: bool) {
        self.given_before = std::mem::take(&mut self.given);
        self.reading_shows_instances = shows_instances;
    }

    /// Disk that was given and that the last reading may not show.
    pub fn given_gb(&self) -> Given {
        if self.reading_shows_instances {
            return Given::default();
        }
        let Given { all, claims } = self.given_before;
        Given { all: all.saturating_add(self.given.all), claims: claims.saturating_add(self.given.claims) }
    }

    /// When the next hold ends.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.entries.values().filter_map(|entry| entry.staged.as_ref()?.expires).min()
    }

    /// Ends claims and holds. An error means that the request itself cannot be taken. Instances that the driver `built` are
    /// only closed: their claims end when their guests are gone.
    pub fn terminate(
        &mut self,
        request: &TerminateInstance,
        built: impl Fn(&Uuid) -> bool,
        now: Duration,
    ) -> Result<(Vec<Terminated>, Staged), String> {
        let unknown = request.instance_uuids.iter().filter(|uuid| !self.entries.contains_key(uuid)).count();
        if unknown > 0 && self.ended.len().saturating_add(unknown) > MAX_ENDED {
            return Err(format!(
                "{} ended instances are remembered, and at most {MAX_ENDED} may be",
                self.ended.len()
            ));
        }
        let mut staged = Staged::default();
        let mut answers = Vec::with_capacity(request.instance_uuids.len());
        for &uuid in &request.instance_uuids {
            answers.push(match built(&uuid) {
                true if self.outranks(&uuid, request.up_to_rank) => Terminated::Outranked,
                true => {
                    self.close(uuid, request.up_to_rank);
                    Terminated::Ended
                }
                false => self.terminate_one(uuid, request.up_to_rank, now, &mut staged),
            });
        }
        if !staged.records.is_empty() {
            staged.records.push(put_running(self.running(now)));
        }
        Ok((answers, staged))
    }

    /// Whether the instance has a higher rank than this.
    fn outranks(&self, uuid: &Uuid, up_to_rank: Option<Rank>) -> bool {
        up_to_rank.is_some_and(|rank| self.claim_of(uuid).is_some_and(|claim| claim.rank > rank))
    }

    /// What is granted to an instance, written or not.
    pub fn claim_of(&self, uuid: &Uuid) -> Option<&InstanceClaim> {
        Some(&self.entries.get(uuid)?.staged.as_ref()?.record.claim)
    }

    /// Gives the claim of an instance to nobody any more, because its guest is being destroyed. Of two ends the stricter
    /// counts. Returns how it will end.
    pub fn close(&mut self, uuid: Uuid, up_to_rank: Option<Rank>) -> Option<Rank> {
        let end = match self.closing.get(&uuid) {
            Some(before) => before.zip(up_to_rank).map(|(one, other)| one.max(other)),
            None => up_to_rank,
        };
        self.closing.insert(uuid, end);
        end
    }

    /// Takes back [`close`](Self::close), because it could not be written. `before` is how it was to end before, if it was.
    pub fn reopen(&mut self, uuid: Uuid, before: Option<Option<Rank>>) {
        match before {
            Some(before) => drop(self.closing.insert(uuid, before)),
            None => drop(self.closing.remove(&uuid)),
        }
    }

    /// How a closed instance will end. `None` if it is not closed.
    pub fn closing(&self, uuid: &Uuid) -> Option<Option<Rank>> {
        self.closing.get(uuid).copied()
    }

    /// Ends a closed instance, because its guest is gone. It stays closed until that is settled.
    pub fn end_closed(&mut self, uuid: Uuid, now: Duration) -> Staged {
        let up_to_rank = self.closing.get(&uuid).copied().flatten();
        let mut staged = Staged::default();
        // A closed instance gets no higher rank, so this is never outranked.
        self.terminate_one(uuid, up_to_rank, now, &mut staged);
        staged.records.push(put_running(self.running(now)));
        staged
    }

    fn terminate_one(
        &mut self,
        uuid: Uuid,
        up_to_rank: Option<Rank>,
        now: Duration,
        staged: &mut Staged,
    ) -> Terminated {
        if self.outranks(&uuid, up_to_rank) {
            return Terminated::Outranked;
        }
        let is_known = self.claim_of(&uuid).is_some();
        // The stricter of two ends counts: one without a rank forbids all claims.
        let up_to_rank = match self.end_of(&uuid) {
            Some(EndedRecord { up_to_rank: before, .. }) => {
                before.zip(up_to_rank).map(|(one, other)| one.max(other))
            }
            None => up_to_rank,
        };
        let ended = EndedRecord { at_ms: self.running_ms(now), up_to_rank };
        // Both, whatever is known: an earlier end of the instance may not get onto the disk.
        staged.records.push(delete_claim(uuid));
        staged.records.push(put_ended(uuid, &ended));
        self.stage(staged, uuid, None, Some(ended));
        if is_known { Terminated::Ended } else { Terminated::Unknown }
    }

    /// Takes note of what became of staged changes, in the order in which they were staged.
    pub fn settle(&mut self, outcomes: Vec<Outcome>, written: bool) {
        for Outcome { uuid, change, grant, ended } in outcomes {
            if written {
                match ended {
                    Some(ended) => {
                        self.closing.remove(&uuid);
                        self.remember(uuid, ended);
                    }
                    None => self.forget(&uuid),
                }
            }
            let Some(entry) = self.entries.get_mut(&uuid) else { continue };
            entry.unsettled.retain(|(known, _)| *known != change);
            if written {
                entry.acknowledged = grant;
            }
            // While there is a later change of the same instance, that one decides what is staged.
            if entry.unsettled.is_empty() {
                entry.staged.clone_from(&entry.acknowledged);
                entry.ended = None;
                if entry.staged.is_none() {
                    self.entries.remove(&uuid);
                }
            }
        }
    }

    /// All that is acknowledged, by instance.
    pub fn granted(&self) -> impl Iterator<Item = (&Uuid, &Grant)> {
        self.entries.iter().filter_map(|(uuid, entry)| Some((uuid, entry.acknowledged.as_ref()?)))
    }

    /// The instances that ended last, newest first.
    pub fn newest_ended(&self) -> impl Iterator<Item = Uuid> {
        self.ended_by_time.iter().rev().take(LISTED_ENDED).map(|(_, uuid)| *uuid)
    }
}

/// Why a request is not a repetition of what was granted.
fn conflict(known: &Grant, wanted: &ClaimRecord) -> Option<String> {
    let (before, after) = (&known.record.claim.instance, &wanted.claim.instance);
    if known.record.user != wanted.user && known.record.user.is_some() {
        let owner = known.record.user.as_deref().unwrap_or_default();
        return Some(format!("instance {} belongs to the broker user {owner}", after.uuid));
    }
    if known.expires.is_none()
        && let Some(build) = &wanted.claim.build
    {
        match &known.record.claim.build {
            None => {
                return Some(format!(
                    "instance {} is only a claim on this host; release it before the host builds it",
                    after.uuid
                ));
            }
            Some(known) if known != build => {
                return Some(format!(
                    "instance {} is on this host with another name, image or tags",
                    after.uuid
                ));
            }
            Some(_) => {}
        }
    }
    (before.spec_hash != after.spec_hash)
        .then(|| format!("instance {} is on this host with another specification", after.uuid))
}

/// The answer to a claim of this rank that comes after the end of its instance. `None` if it may come.
fn too_late(ended: &EndedRecord, rank: Rank) -> Option<ClaimAnswer> {
    let Some(last) = ended.up_to_rank else {
        return Some(ClaimAnswer::Ended { reason: "the instance was deleted".to_owned(), deleted: true });
    };
    let Rank { attempt, try_number } = last;
    let reason = format!("the instance was given up here at attempt {attempt}, try {try_number}");
    (rank <= last).then_some(ClaimAnswer::Ended { reason, deleted: false })
}

#[cfg(test)]
mod tests;
