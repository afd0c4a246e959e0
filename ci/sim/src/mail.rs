//! The mail client, the next hop and the ledger: which messages were acknowledged, where they are stored, what was delivered how often,
//! and how long nobody gave a greeting. A delivery is recorded a moment after the next hop has answered, or when writes go on again.

use crate::bits::Bits;
use crate::mutation::Mutation;
use crate::world::{MS, SECOND, World};
use twinpost_ha::Event;
use twinpost_scenario::LoadOrder;
use twinpost_types::*;

/// Sessions of the client at once; more messages than that are not sent.
const SESSIONS_MAX: usize = 12;
/// A client gives up a session after this time without an answer.
const PATIENCE: u64 = 60 * SECOND;
/// Time between two looks at the queue while something is in it.
const QUEUE_RUN: u64 = 500 * MS;
/// Deliveries of one look.
const DELIVERIES_MAX: usize = 50;
/// From the next hop's answer to its record.
const RECORD: u64 = 5 * MS;
/// Two owners of an address hear of each other this often.
const CONTEST: u64 = SECOND;

/// A message that waits for its `250`.
#[derive(Clone, Copy, Debug)]
struct Session {
    message: u32,
    since: u64,
    on: usize,
}

/// Client, next hop, ledger.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    order: Option<LoadOrder>,
    next: u64,
    queue_run: u64,
    number: u32,
    sessions: Vec<Session>,
    /// Acknowledged with `250`.
    pub(crate) acked: Bits,
    /// Acknowledged messages.
    pub(crate) acked_count: u32,
    /// Arrived at the next hop or in a mailbox.
    arrived: Bits,
    /// Arrivals beyond the first.
    pub(crate) duplicated: u32,
    /// Arrivals beyond the first while the copies were apart.
    pub(crate) split_duplicated: u32,
    /// Arrived, and the record is not durable where the next primary reads it: SMTP's own window.
    in_flight: Bits,
    /// Arrivals beyond the first of such messages.
    pub(crate) in_flight_duplicated: u32,
    /// Longest time from a message to its `250`, µs.
    pub(crate) stall: u64,
    dark_since: Option<u64>,
    longest_dark: u64,
    contest_at: u64,
    /// The next hop takes nothing for now.
    pub(crate) hop_refuses: bool,
}

impl Mail {
    pub(crate) fn order(&mut self, now: u64, order: Option<LoadOrder>) {
        self.order = order;
        self.next = now;
    }

    /// Outages count from now on.
    pub(crate) fn begin(&mut self) {
        (self.longest_dark, self.dark_since) = (0, None);
    }

    pub(crate) fn next_time(&self) -> Option<u64> {
        let load = self.order.map(|_| self.next);
        let queue = (!self.is_drained()).then_some(self.queue_run);
        load.into_iter().chain(queue).min()
    }

    /// Everything acknowledged was delivered.
    pub(crate) fn is_drained(&self) -> bool {
        self.lost() == 0
    }

    /// Acknowledged, and not delivered (yet).
    pub(crate) fn lost(&self) -> u32 {
        self.acked.count_not_in(&self.arrived)
    }

    /// Longest time without a greeting, µs.
    pub(crate) fn outage(&self, now: u64) -> u64 {
        self.longest_dark.max(self.dark_since.map_or(0, |since| now - since))
    }
}

impl World {
    /// The client, the queues and the probe of the virtual IP, after every step.
    pub(crate) fn carry_mail(&mut self) {
        let now = self.now;
        let greeting = (0..2).find(|i| self.units[*i].greets(now));
        match greeting {
            Some(_) => {
                let dark = self.mail.dark_since.take().map_or(0, |since| now - since);
                self.mail.longest_dark = self.mail.longest_dark.max(dark);
            }
            None => _ = self.mail.dark_since.get_or_insert(now),
        }
        self.contest();
        self.record_deliveries();
        if self.mail.queue_run <= now && !self.mail.is_drained() {
            self.mail.queue_run = now + QUEUE_RUN;
            if !self.mail.hop_refuses {
                self.deliver_queues();
            }
        }
        if let Some(order) = self.mail.order
            && self.mail.next <= now
        {
            self.mail.next = now + (1e6 / order.rate) as u64;
            let both = (0..2).all(|i| self.units[i].greets(now));
            let on = if both { Some(self.rng.index(2)) } else { greeting };
            if let Some(on) = on.filter(|_| self.mail.sessions.len() < SESSIONS_MAX) {
                self.mail.number += 1;
                let message = self.mail.number;
                self.mail.sessions.push(Session { message, since: now, on });
            }
        }
        self.answer_sessions();
    }

    fn answer_sessions(&mut self) {
        let now = self.now;
        let mut index = 0;
        while let Some(session) = self.mail.sessions.get(index).copied() {
            let unit = &self.units[session.on];
            let broken = !unit.mail || !unit.powered || now > session.since + PATIENCE;
            let waits = !broken && !unit.greets(now);
            if waits || (!broken && !self.store(session.on, session.message, false)) {
                index += 1;
                continue;
            }
            self.mail.sessions.remove(index);
            if !broken {
                self.mail.acked.insert(session.message);
                self.mail.acked_count += 1;
                self.mail.stall = self.mail.stall.max(now - session.since);
            }
        }
    }

    /// A write gets to a copy that is current, at once or when the connection is found to be lost.
    fn takes_writes(&self, i: usize) -> bool {
        let connected = self.connected_on;
        let current = |unit: &crate::unit::Unit| unit.live.local == DiskState::UpToDate;
        let somewhere = current(&self.units[i]) || (self.is_reached() && current(&self.units[1 - i]));
        let decided = connected.is_some() || self.units[i].disk.peer_outdated;
        self.units[i].writes() && somewhere && decided
    }

    /// What is written arrives at the other copy.
    fn is_reached(&self) -> bool {
        self.connected_on.is_some_and(|link| self.carries(link))
    }

    /// Writes a message, or the record of its delivery; true when it is as durable as it must be.
    fn store(&mut self, i: usize, message: u32, record: bool) -> bool {
        let reached = self.is_reached();
        let durable = self.connected_on.is_none() || reached || self.is(Mutation::AckBeforeReplicated);
        // The agent of a delivery waits with its write.
        if !self.takes_writes(i) || (record && !durable) {
            return false;
        }
        for (k, unit) in self.units.iter_mut().enumerate() {
            let here = k == i || reached;
            if here && unit.live.local != DiskState::Diskless {
                let set = if record { &mut unit.disk.delivered } else { &mut unit.disk.stored };
                set.insert(message);
            }
        }
        durable
    }

    /// Agents write down what the next hop has answered.
    fn record_deliveries(&mut self) {
        let now = self.now;
        for i in 0..2 {
            if !self.units[i].kernel_runs(now) {
                continue;
            }
            let mut index = 0;
            while let Some((at, message)) = self.units[i].recording.get(index).copied() {
                if at <= now && self.store(i, message, true) {
                    self.units[i].recording.remove(index);
                    self.mail.in_flight.remove(message);
                } else {
                    index += 1;
                }
            }
        }
    }

    fn deliver_queues(&mut self) {
        for i in 0..2 {
            for _ in 0..DELIVERIES_MAX {
                let unit = &self.units[i];
                // An agent does not begin while it cannot write down what it does.
                let ready = unit.kernel_runs(self.now)
                    && unit.service_up
                    && !unit.draining
                    && self.takes_writes(i)
                    && self.connected_on.is_none_or(|link| self.carries(link));
                let at = if unit.live.local == DiskState::Diskless { 1 - i } else { i };
                let mut taken = Bits::default();
                unit.recording.iter().for_each(|(_, message)| taken.insert(*message));
                let disk = &self.units[at].disk;
                let Some(message) = disk.stored.first_not_in(&[&disk.delivered, &taken]).filter(|_| ready)
                else {
                    break;
                };
                self.units[i].recording.push((self.now + RECORD, message));
                if self.mail.arrived.contains(message) {
                    // What both copies had queued when they parted is delivered by both: nobody can tell one of them.
                    let counter = match self.connected_on {
                        _ if self.mail.in_flight.contains(message) => &mut self.mail.in_flight_duplicated,
                        Some(_) => &mut self.mail.duplicated,
                        None => &mut self.mail.split_duplicated,
                    };
                    *counter += 1;
                    self.say(|| format!("unit {i} delivers message {message} once more"));
                }
                self.mail.arrived.insert(message);
                self.mail.in_flight.insert(message);
            }
        }
    }

    /// Both hold an address and hear each other's announcements.
    fn contest(&mut self) {
        let both = self.units.iter().all(|unit| unit.vips) && self.reaches(0);
        if both && self.mail.contest_at <= self.now {
            self.mail.contest_at = self.now + CONTEST;
            if self.is(Mutation::DeafToContest) {
                return;
            }
            for i in 0..2 {
                // The peer's address is known from its heartbeats alone.
                let by_peer = self.units[i].knows_peer();
                self.send(i, MS, Event::VipContested { by_peer });
            }
        }
    }
}
