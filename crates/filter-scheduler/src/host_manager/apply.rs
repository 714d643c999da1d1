//! One report into the map.
//!
//! First everything that can refuse it is asked, then it is written: a refused report leaves the host as it was. The
//! usual report differs from the last one in a few numbers, and costs comparisons and no allocation.

use std::time::Duration;

use novella_objects::{Capabilities, HostWarning, NovellaReport};

use super::claims::{ClaimChange, More};
use super::devices::{self, takes_devices};
use super::identity::{Identity, NameHolder, Verdict, judge};
use super::liveness::{Hearing, Liveness};
use super::outcome::{Applied, BadReport, Event, Fault};
use super::record::{Record, inventories, resources};
use super::reported::Difference;
use super::reservations::Kind;
use super::{COMPUTE, HostManager, check};
use crate::{Devices, Resources, Row, Status, Unusable};

/// What a report changes, after everything that could refuse it was asked.
struct Plan {
    difference: Difference,
    claims: Option<ClaimChange>,
    resources: Resources,
    /// What is left of NUMA cells and PCI devices, if it may be other than before.
    devices: Option<Devices>,
}

impl HostManager {
    /// Applies what a service on a host says of itself.
    pub fn apply_report(
        &mut self,
        service_name: &str,
        host: &str,
        caps: &Capabilities<'_>,
        now: Duration,
    ) -> Applied {
        let applied = self.admit(service_name, host, caps, now).unwrap_or_else(Applied::Bad);
        self.counters.count(&applied);
        applied
    }

    fn admit(
        &mut self,
        service_name: &str,
        host: &str,
        caps: &Capabilities<'_>,
        now: Duration,
    ) -> Result<Applied, BadReport> {
        check::name("host", host)?;
        if service_name != COMPUTE {
            check::name("service_name", service_name)?;
            check::words(caps)?;
            return Ok(self.services.apply(service_name, host, caps, &mut self.texts, &self.options, now));
        }
        check::integers(caps)?;
        let by_name = self.table.row_of(host);
        let Some(report) = caps.novella.as_deref() else {
            return match by_name {
                Some(row) if self.record(row).identity.is_some() => Ok(Applied::NoIdentityIgnored),
                Some(row) => self.update(row, host, caps, None, 0, now),
                None => self.insert(host, caps, None, now),
            };
        };
        check::numbers(report, self.options.max_claims_per_host)?;
        self.admit_identified(by_name, host, caps, report, now)
    }

    fn admit_identified(
        &mut self,
        by_name: Option<Row>,
        host: &str,
        caps: &Capabilities<'_>,
        report: &NovellaReport<'_>,
        now: Duration,
    ) -> Result<Applied, BadReport> {
        let presented = Identity {
            uuid: report.uuid,
            incarnation: report.incarnation,
            nonce: report.nonce,
            seq: report.seq,
        };
        let held_name = by_name.and_then(|row| self.record(row).identity);
        let same_name = held_name.is_some_and(|holder| holder.uuid == report.uuid);
        let by_uuid = if same_name { by_name } else { self.by_identity.get(&report.uuid).copied() };
        let known = by_uuid.and_then(|row| self.record(row).identity);
        let holder = match by_name {
            None => NameHolder::Nobody,
            Some(_) if same_name => NameHolder::Nobody,
            Some(row) => self.name_holder(row, now),
        };
        match judge(known, same_name, holder, presented) {
            Verdict::Insert => self.insert(host, caps, Some(presented), now),
            Verdict::Update { gap } => {
                let row = by_uuid.expect("only a known identity is updated");
                self.update(row, host, caps, Some(presented), gap, now)
            }
            Verdict::Rename { gap, previous } => {
                let row = by_uuid.expect("only a known identity is renamed");
                let from = self.table.host(row).to_owned();
                let plan = self.plan(row, caps)?;
                self.take_name(row, by_name, host, caps);
                self.write(row, caps, Some(presented), plan, gap, now);
                self.join_aggregates(row);
                self.note_takeover(row, host, previous, now);
                Ok(Applied::Renamed { from, previous })
            }
            Verdict::Adopt { previous } => {
                let row = by_name.expect("only a known name is adopted");
                self.update(row, host, caps, Some(presented), 0, now)?;
                self.note_takeover(row, host, previous, now);
                Ok(Applied::TakenOver { previous })
            }
            Verdict::Stale => Ok(Applied::Stale),
            Verdict::Cloned => {
                let row = by_uuid.expect("only a known identity is cloned");
                let first = self.table.host(row).to_owned();
                self.warn(row, HostWarning::ClonedIdentity { other_host: host.to_owned() }, now);
                Ok(Applied::Cloned { host: first })
            }
            Verdict::DuplicateName => {
                let row = by_name.expect("only a known name is duplicated");
                self.warn(row, HostWarning::DuplicateName { other: report.uuid }, now);
                let holder = held_name.expect("only an identity holds a name against others").uuid;
                Ok(Applied::DuplicateName { holder })
            }
        }
    }

    fn name_holder(&self, row: Row, now: Duration) -> NameHolder {
        let record = self.record(row);
        match record.identity {
            None => NameHolder::Anonymous,
            Some(holder) if record.hearing.is_silent(&self.outages, self.options.service_down_time, now) => {
                NameHolder::Silent(holder.uuid)
            }
            Some(_) => NameHolder::Live,
        }
    }

    /// Refused reports come again with every interval, so a warning is shown until they have stopped.
    fn warn(&mut self, row: Row, warning: HostWarning, now: Duration) {
        let until = now.saturating_add(self.options.service_down_time);
        self.record_mut(row).warn(warning, now, until);
    }

    fn note_takeover(&mut self, row: Row, host: &str, previous: Option<uuid::Uuid>, now: Duration) {
        let Some(uuid) = self.record(row).identity.map(|identity| identity.uuid) else { return };
        if let Some(previous) = previous {
            let until = now.saturating_add(self.options.forget_after);
            self.record_mut(row).warn(HostWarning::TakenOver { previous }, now, until);
            self.note(Event::TakenOver { host: host.to_owned(), previous, uuid });
        }
    }

    fn insert(
        &mut self,
        host: &str,
        caps: &Capabilities<'_>,
        identity: Option<Identity>,
        now: Duration,
    ) -> Result<Applied, BadReport> {
        if self.table.len() >= self.options.max_hosts {
            return Ok(Applied::TooMany);
        }
        let row = self.table.insert(host, nodename(host, caps));
        if self.records.len() <= row.index() {
            self.records.resize_with(row.index() + 1, || None);
        }
        self.records[row.index()] = Some(Box::new(Record::new(now)));
        match self.plan(row, caps) {
            Err(bad) => {
                self.remove(row);
                Err(bad)
            }
            Ok(plan) => {
                for uuid in self.reservations.arrive(host, row) {
                    self.hold(uuid);
                }
                self.table.set_status(row, Status::Up); // so that being heard is no return
                let goodbye = self.write(row, caps, identity, plan, 0, now).is_none();
                self.join_aggregates(row);
                Ok(if goodbye { Applied::Goodbye } else { Applied::New })
            }
        }
    }

    fn update(
        &mut self,
        row: Row,
        host: &str,
        caps: &Capabilities<'_>,
        identity: Option<Identity>,
        gap: u64,
        now: Duration,
    ) -> Result<Applied, BadReport> {
        let plan = self.plan(row, caps)?;
        let nodename = nodename(host, caps);
        if self.table.view(row).nodename() != nodename {
            self.table.insert(host, nodename);
        }
        let other_words = plan.difference.in_words();
        let settled = self.write(row, caps, identity, plan, gap, now);
        if other_words {
            self.join_aggregates(row);
        }
        Ok(settled.map_or(Applied::Goodbye, |settled| Applied::Updated { gap, settled }))
    }

    /// Asks everything that can refuse a report. Changes nothing.
    fn plan(&mut self, row: Row, caps: &Capabilities<'_>) -> Result<Plan, BadReport> {
        let record = self.record(row);
        let difference = record.reported.compare(caps, &self.texts);
        if difference.in_text() {
            check::words(caps)?;
        }
        let claims = record.claims.compare(caps.novella.as_ref().map_or(&[], |report| &report.claims))?;
        let reported = caps.novella.iter().flat_map(|report| &report.claims);
        let takers = || record.claims.take_devices() || reported.clone().any(takes_devices);
        let devices = difference.in_devices() || (claims.is_some() && takers());
        let devices = devices.then(|| devices::devices(caps)).transpose()?;
        let resources = resources(caps);
        if *self.table.view(row).reported() != resources {
            resources.check().map_err(unusable)?;
        }
        Ok(Plan { difference, claims, resources, devices })
    }

    /// Writes a report that nothing refused. Returns how many reservations it settled; `None` for a goodbye.
    fn write(
        &mut self,
        row: Row,
        caps: &Capabilities<'_>,
        identity: Option<Identity>,
        plan: Plan,
        gap: u64,
        now: Duration,
    ) -> Option<u32> {
        let Self { table, records, texts, .. } = self;
        let record = records[row.index()].as_deref_mut().expect("every host in the table has a record");
        if *table.view(row).reported() != plan.resources {
            table.set_resources(row, &plan.resources).expect("the plan checked the resources");
        }
        if plan.difference.any() {
            record.reported.replace(caps, plan.difference, texts);
            let zone = caps.novella.as_ref().and_then(|report| report.availability_zone.as_deref());
            table.set_zone(row, zone);
            table.set_capabilities(row, caps);
            let traits = caps.novella.iter().flat_map(|report| &report.traits);
            table.set_traits(row, traits.map(|name| &**name));
        }
        if plan.difference.any() || plan.claims.is_some() {
            table.set_inventories(row, inventories(caps));
        }
        if let Some(devices) = &plan.devices {
            table.set_devices(row, devices);
        }
        record.refresh(caps);
        let before = std::mem::replace(&mut record.identity, identity).map(|identity| identity.uuid);
        self.counters.missed = self.counters.missed.saturating_add(gap);
        if gap > 0 && !std::mem::replace(&mut record.ask_again, true) {
            self.ask_again.push(row);
        }
        if before != identity.map(|identity| identity.uuid) {
            before.map(|uuid| self.by_identity.remove(&uuid));
            identity.map(|identity| self.by_identity.insert(identity.uuid, row));
        }
        let mut settled = plan.claims.map_or(0, |change| self.change_claims(row, change));
        settled += self.end_ended(row, caps);
        self.counters.settled += u64::from(settled);
        self.hear(row, caps, now).then_some(settled)
    }

    /// Applies a new list of claims. Returns how many reservations it settled.
    fn change_claims(&mut self, row: Row, change: ClaimChange) -> u32 {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        let owned = |text: Option<&str>| text.map(Box::<str>::from);
        let claims = &mut self.records[row.index()].as_deref_mut().expect("a host has a record").claims;
        let before = claims.rows().len();
        claims.apply(
            change,
            |uuid, group| gone.push((uuid, owned(group))),
            |uuid, more| {
                let More { group, flavor, image } = more;
                come.push((uuid, Kind { group: owned(group), flavor: owned(flavor), image: owned(image) }));
            },
        );
        self.claims = self.claims - before + claims.rows().len();
        let mut settled = 0;
        if !self.reservations.is_empty() {
            for (uuid, _) in &come {
                settled += u32::from(self.end_reservation(uuid));
            }
        }
        let Self { table, records, members, .. } = self;
        for (uuid, group) in &gone {
            members.go(table, row, *uuid, group.as_deref());
        }
        for (uuid, kind) in &come {
            members.come(table, row, *uuid, kind.more());
        }
        let claims = &records[row.index()].as_deref().expect("a host has a record").claims;
        // A list may name an instance twice; what went may still be there.
        for (uuid, _) in gone.iter().filter(|(uuid, _)| claims.rows().iter().any(|row| row.uuid == *uuid)) {
            let group = claims.grouped().find(|(grouped, _)| grouped == uuid).map(|(_, group)| group);
            members.come(table, row, *uuid, More { group, ..More::default() });
        }
        settled
    }

    /// Ends the reservations on a host of instances that ended there.
    fn end_ended(&mut self, row: Row, caps: &Capabilities<'_>) -> u32 {
        let Some(report) = caps.novella.as_deref() else { return 0 };
        if self.record(row).held == 0 {
            return 0;
        }
        let here = super::Place::Row(row);
        let mut settled = 0;
        for uuid in &report.ended {
            if self.reservations.get(uuid).is_some_and(|r| r.place == here) {
                settled += u32::from(self.end_reservation(uuid));
            }
        }
        settled
    }

    /// Marks the host as heard; false if these were its last words.
    fn hear(&mut self, row: Row, caps: &Capabilities<'_>, now: Duration) -> bool {
        let goodbye = caps.novella.as_ref().is_some_and(|report| report.goodbye);
        let before = self.table.view(row).status();
        let record = self.record_mut(row);
        record.hearing = Hearing::new(now, goodbye);
        let status = record.status(if goodbye { Liveness::Down } else { Liveness::Up });
        if status != before {
            self.table.set_status(row, status);
            if matches!(before, Status::Suspect | Status::Down) && status != Status::Down {
                self.note(Event::Back { host: self.table.host(row).to_owned() });
            }
        }
        let watch = if goodbye { self.options.forget_after } else { self.options.service_down_time };
        self.next_watch = self.next_watch.min(now.saturating_add(watch));
        !goodbye
    }

    /// Moves a row to a name, which its holder, silent or without identity, loses with its row. What was reserved there
    /// was reserved by name, so it goes along.
    fn take_name(&mut self, row: Row, holder: Option<Row>, host: &str, caps: &Capabilities<'_>) {
        let mut arrived = Vec::new();
        if let Some(holder) = holder {
            arrived = self.reservations.change_row(holder, row);
            for uuid in &arrived {
                let group = self.reservations.get(uuid).and_then(|reservation| reservation.more().group);
                self.members.forget(holder, *uuid, group);
            }
            self.remove(holder);
        }
        let renamed = self.table.rename(row, host, nodename(host, caps));
        debug_assert!(renamed, "the name was freed");
        arrived.extend(self.reservations.arrive(host, row));
        arrived.into_iter().for_each(|uuid| self.hold(uuid));
    }
}

/// Nova's node name; the host's own where the report has none.
fn nodename<'a>(host: &'a str, caps: &'a Capabilities<'_>) -> &'a str {
    caps.hypervisor_hostname.as_deref().unwrap_or(host)
}

/// The table refuses only amounts and ratios, of which ratios were checked before.
fn unusable(refused: Unusable) -> BadReport {
    match refused {
        Unusable::TooLarge { field, .. } => BadReport { key: field, fault: Fault::Absurd(crate::MAX_AMOUNT) },
        Unusable::Ratio { field, .. } => BadReport { key: field, fault: Fault::Ratio },
    }
}
