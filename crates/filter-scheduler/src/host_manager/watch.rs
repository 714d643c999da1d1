//! The passing of time: who is silent, whose silence it is, and what has run out.
//!
//! A sweep over all hosts happens only when some host's state can have changed. The rules are in
//! [`liveness`](super::liveness).

use std::time::Duration;

use super::HostManager;
use super::liveness::{Liveness, MIN_LOST_TOGETHER};
use super::outcome::Event;
use crate::{Row, Status};

/// While hosts are suspect, or an outage is under way, a sweep is due after this at the latest.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

impl HostManager {
    /// Brings the map to `now`: reservations end, hosts become suspect, go down, are forgotten. To be called about once
    /// a second; every placement does it too. Returns what happened since the last call.
    pub fn expire(&mut self, now: Duration) -> Vec<Event> {
        self.advance(now);
        std::mem::take(&mut self.events)
    }

    /// The scheduler itself did not run between these instants, so nobody could be heard.
    pub fn note_stall(&mut self, from: Duration, to: Duration) {
        self.outages.add(from, to);
        self.give_grace(to);
    }

    /// The scheduler has no broker from now on.
    pub fn broker_lost(&mut self, now: Duration) {
        if self.outages.begin(now) {
            self.next_watch = Duration::ZERO;
        }
    }

    /// The scheduler has a broker again.
    pub fn broker_back(&mut self, now: Duration) {
        if self.outages.end(now) {
            self.give_grace(now);
        }
    }

    /// After an outage agents need time to come back; those that were down before it get none.
    fn give_grace(&mut self, end: Duration) {
        let down_time = self.options.service_down_time;
        for record in self.records.iter_mut().flatten() {
            let hearing = &mut record.hearing;
            if hearing.heard < end && !hearing.is_silent(&self.outages, down_time, end) {
                hearing.give_grace(end.saturating_add(down_time));
            }
        }
        self.next_watch = Duration::ZERO;
    }

    /// As [`Self::expire`], leaving the events for it.
    pub(super) fn advance(&mut self, now: Duration) {
        let expired = self.reservations.take_expired(now);
        for (uuid, reservation) in &expired {
            self.let_go(*uuid, reservation);
        }
        if !expired.is_empty() {
            self.counters.expired += expired.len() as u64;
            self.note(Event::ReservationsExpired { count: expired.len() });
        }
        if now >= self.next_watch {
            self.watch(now);
        }
    }

    fn watch(&mut self, now: Duration) {
        self.excuse_lost_together(now);
        let down_time = self.options.service_down_time;
        let mut next = Duration::MAX;
        let mut forgotten = Vec::new();
        let rows: Vec<Row> = self.table.rows().collect();
        for row in rows {
            let record = self.record(row);
            let liveness = record.hearing.judge(&self.outages, down_time, now);
            let status = record.status(liveness);
            next = next.min(match liveness {
                Liveness::Up => record.hearing.heard.saturating_add(down_time),
                Liveness::Suspect => now + WATCH_INTERVAL,
                Liveness::Down => record.hearing.heard.saturating_add(self.options.forget_after),
            });
            let silent = record.hearing.own_silence(&self.outages, now);
            if liveness == Liveness::Down && silent > self.options.forget_after {
                forgotten.push(row);
            } else {
                self.change_status(row, status);
            }
        }
        for row in forgotten {
            self.counters.forgotten += 1;
            self.note(Event::Forgotten { host: self.table.host(row).to_owned() });
            self.remove(row);
        }
        self.services.forget_silent(&mut self.texts, &self.outages, self.options.forget_after, now);
        self.next_watch = next.max(now + WATCH_INTERVAL);
    }

    fn change_status(&mut self, row: Row, status: Status) {
        let before = self.table.view(row).status();
        if status == before {
            return;
        }
        self.table.set_status(row, status);
        let host = self.table.host(row).to_owned();
        match status {
            Status::Down => {
                self.counters.down += 1;
                self.note(Event::Down { host });
            }
            Status::Suspect => {
                self.counters.suspect += 1;
                self.note(Event::Suspect { host });
            }
            Status::Up | Status::Disabled => self.note(Event::Back { host }),
        }
    }

    /// When a host is about to go down, those that have missed reports for half as long may be lost with it. If they are
    /// more than the allowed share of all live hosts, the cause is likelier here than there, and they get a grace.
    fn excuse_lost_together(&mut self, now: Duration) {
        let down_time = self.options.service_down_time;
        let (mut live, mut late, mut falling) = (0usize, Vec::new(), false);
        for row in self.table.rows() {
            if self.table.view(row).status() == Status::Down {
                continue;
            }
            live += 1;
            let hearing = &self.record(row).hearing;
            if hearing.goodbye || hearing.grace_until.is_some() {
                continue;
            }
            let silence = hearing.own_silence(&self.outages, now);
            if silence > down_time / 2 {
                late.push(row);
                falling |= silence > down_time;
            }
        }
        let share = live as f64 * self.options.suspect_fraction;
        if !falling || late.len() < MIN_LOST_TOGETHER || late.len() as f64 <= share {
            return;
        }
        self.note(Event::LostTogether { hosts: late.len(), live });
        let until = now.saturating_add(self.options.suspect_limit);
        for row in late {
            self.record_mut(row).hearing.give_grace(until);
        }
    }
}
