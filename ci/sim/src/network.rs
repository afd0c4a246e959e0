//! Cables, datagrams, probes and leases: what gets from one unit to the other, sealed by `twinpost-wire` where a run asks for it.

use crate::judge::Check;
use crate::mutation::Mutation;
use crate::rng::Rng;
use crate::unit::Unit;
use crate::world::{Coming, MS, SECOND, WATCHDOG, World};
use twinpost_ha::{Event, ProbeTarget};
use twinpost_types::*;
use twinpost_wire::{DATAGRAM_BYTES_MAX, Drop, Keys, Session};

/// Virtual IPs vanish this long after their last refresh (lifetime of the address).
const LEASE: u64 = SECOND;
/// A kernel that stood still this long has lost the addresses when it runs again.
const LEASE_LOST: u64 = 900 * MS;
/// Time on a cable, µs, and what is added at most.
const CABLE: (u64, u64) = (200, 800);

/// State of the cables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    pub(crate) cut: [bool; LINKS],
    /// What `unit` sends on `link` does not arrive.
    pub(crate) mute: [[bool; LINKS]; 2],
    pub(crate) loss_percent: [u8; LINKS],
    pub(crate) delay: [u64; LINKS],
    /// Whether there is carrier, and since when.
    pub(crate) told: [(bool, u64); LINKS],
    /// Datagrams that arrive twice, in percent.
    pub(crate) twice_percent: u8,
    /// Added to each delay at random, µs: later datagrams overtake earlier ones.
    pub(crate) jitter: u64,
}

/// What arrives at a unit.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// An event for the core.
    Event(Event),
    /// A heartbeat that was never sealed: link, start of the sender, sequence number, report.
    Plain(usize, u32, u64, Box<Report>),
    /// A sealed datagram.
    Sealed(usize, Vec<u8>),
    /// Not at a unit but at its cable: unit, port, pulled or plugged.
    Cable(usize, usize, bool),
}

/// The wire sessions of both units, where heartbeats are sealed. A copy of a world begins new ones: a session must not be copied, since it
/// would use its nonces twice.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Heartbeats are sealed.
    pub(crate) sealed: bool,
    of: [Option<Session>; 2],
}

impl Clone for Sessions {
    fn clone(&self) -> Self {
        Self { sealed: self.sealed, of: [None, None] }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions {{ sealed: {} }}", self.sealed)
    }
}

impl Sessions {
    pub(crate) fn begin(&mut self, i: usize, unit: &Unit, rng: &mut Rng) {
        if self.sealed {
            let keys = Keys::from_master([7; 32], "sim");
            let boot = BootId(u128::from(rng.number()) << 64 | u128::from(rng.number()));
            self.of[i] = Some(Session::new(keys, unit.settings.unit, boot, rng.number()));
        }
    }

    pub(crate) fn end(&mut self, i: usize) {
        self.of[i] = None;
    }
}

impl World {
    /// Both kernels feel their cable.
    pub(crate) fn carrier(&self, link: usize) -> bool {
        !self.links.cut[link] && self.units.iter().all(|unit| unit.powered)
    }

    pub(crate) fn tell_carriers(&mut self, link: usize) {
        let up = self.carrier(link);
        if self.links.told[link].0 != up {
            self.links.told[link] = (up, self.now);
        }
        for i in 0..2 {
            if self.units[i].runs(self.now) {
                self.feed(i, Event::Carrier { link: LinkId::ALL[link], up });
            } else if self.units[i].ha.is_some() {
                self.send(i, 0, Event::Carrier { link: LinkId::ALL[link], up });
            }
        }
    }

    /// Datagrams get from unit `i` to the other one.
    pub(crate) fn passes(&self, i: usize, link: usize) -> bool {
        self.carrier(link) && !self.links.mute[i][link] && self.links.loss_percent[link] < 100
    }

    /// Both directions of a link, and both kernels run: what a TCP connection needs.
    pub(crate) fn carries(&self, link: usize) -> bool {
        self.passes(0, link)
            && self.passes(1, link)
            && self.units.iter().all(|unit| unit.kernel_runs(self.now))
    }

    fn on_service_network(&self, i: usize) -> bool {
        let unit = &self.units[i];
        unit.service_up && !unit.service_mute && unit.kernel_runs(self.now)
    }

    /// Both units talk to each other on the service network.
    pub(crate) fn reaches(&self, i: usize) -> bool {
        self.on_service_network(i) && self.on_service_network(1 - i)
    }

    pub(crate) fn probe(&mut self, i: usize, target: ProbeTarget) {
        let answered = match target {
            ProbeTarget::PeerService => self.reaches(i),
            ProbeTarget::Vip(_) => self.reaches(i) && self.units[1 - i].vips,
            ProbeTarget::PeerHeartbeat(link) => self.carries(link.index()),
            ProbeTarget::ThirdParty => self.on_service_network(i),
        };
        if answered {
            self.send(i, 2 * MS, Event::ProbeAnswered { target });
        }
    }

    /// One heartbeat on each link.
    pub(crate) fn beat(&mut self, i: usize) {
        let now = self.now;
        let unit = &mut self.units[i];
        let Some(ha) = &unit.ha else { return };
        let mut report = ha.report(Instant(unit.shown(now)));
        let told = unit.mode;
        unit.sent += 1;
        let (start, sequence) = (unit.starts, unit.sent);
        if report.effective != told {
            self.violate(Check::Recorded, || format!("unit {i} is {} and never said so", report.effective));
        }
        report.service = ServiceAddress { ipv4: [192, 0, 2, 11 + i as u8], mac: [2; 6] };
        report.health = self.health(i);
        report.heard = self.last_heard(i);
        if self.is(Mutation::EpochsReversed) {
            report.epoch = Epoch(1_000_000 - report.epoch.0.min(1_000_000));
        }
        for link in 0..LINKS {
            let sealed = self.seal(i, link, &report);
            if !self.passes(i, link) || self.rng.percent(self.links.loss_percent[link]) {
                continue;
            }
            let what = sealed.unwrap_or_else(|| Arrival::Plain(link, start, sequence, Box::new(report)));
            if self.links.twice_percent > 0 && self.rng.percent(self.links.twice_percent) {
                self.deliver(1 - i, link, what.clone());
            }
            self.deliver(1 - i, link, what);
        }
    }

    /// What the unit says that it last heard, of its present supervisor's life.
    fn last_heard(&self, i: usize) -> [Heard; LINKS] {
        let unit = &self.units[i];
        unit.heard_at.map(|at| match at.filter(|at| *at >= unit.began) {
            Some(at) => {
                let age_ms = u16::try_from((self.now - at) / MS).unwrap_or(u16::MAX);
                Heard { sequence: 1, age_ms, lost: 0 }
            }
            None => Heard::default(),
        })
    }

    fn deliver(&mut self, to: usize, link: usize, what: Arrival) {
        let delay = CABLE.0 + self.rng.below(CABLE.1 + self.links.jitter) + self.links.delay[link];
        self.coming.push(Coming { at: self.now + delay, to, start: None, what });
    }

    fn seal(&mut self, i: usize, link: usize, report: &Report) -> Option<Arrival> {
        if self.sessions.sealed && self.sessions.of[i].is_none() {
            self.sessions.begin(i, &self.units[i], &mut self.rng);
        }
        let session = self.sessions.of[i].as_mut()?;
        let mut bytes = [0; DATAGRAM_BYTES_MAX];
        let length = session.seal(LinkId::ALL[link], report, &mut bytes);
        Some(Arrival::Sealed(link, bytes[..length].to_vec()))
    }

    /// Something has arrived at a unit that runs.
    pub(crate) fn receive(&mut self, i: usize, what: Arrival) {
        if let Arrival::Cable(unit, port, cut) = what {
            return self.cable(unit, port, cut);
        }
        if self.units[i].ha.is_none() {
            return;
        }
        match what {
            Arrival::Cable(..) => {}
            Arrival::Event(event) => self.feed(i, event),
            Arrival::Plain(link, start, sequence, report) => {
                let (sequences, known) = self.units[i].heard;
                if start < known || (start == known && sequence <= sequences[link]) {
                    return;
                }
                let rebooted = known != 0 && start != known;
                let mut sequences = if start == known { sequences } else { [0; LINKS] };
                sequences[link] = sequence;
                self.units[i].heard = (sequences, start);
                if known != start {
                    self.beat(i);
                }
                self.heard(i, link, rebooted, *report);
            }
            Arrival::Sealed(link, bytes) => {
                let fresh = self.rng.number();
                let Some(session) = &mut self.sessions.of[i] else { return };
                match session.open(LinkId::ALL[link], &bytes, fresh) {
                    Ok(accepted) => {
                        if accepted.introduced {
                            self.beat(i);
                        }
                        self.heard(i, link, accepted.rebooted, accepted.report);
                    }
                    Err(Drop::Hello { must_answer: true }) => self.beat(i),
                    Err(_) => {}
                }
            }
        }
    }

    fn heard(&mut self, i: usize, link: usize, rebooted: bool, report: Report) {
        self.units[i].heard_at[link] = Some(self.now);
        if self.is(Mutation::IgnoreLink2) && link == 1 {
            return;
        }
        let from = self.units[1 - i].settings.unit;
        self.feed(i, Event::Heartbeat { link: LinkId::ALL[link], from, rebooted, report });
    }

    /// What becomes of the virtual IPs and of the machine when the supervisor does not run.
    pub(crate) fn leases(&mut self, i: usize) {
        let now = self.now;
        let keeps = self.is(Mutation::ForgetLease);
        let unit = &mut self.units[i];
        if unit.frozen_until != 0 && unit.frozen_until <= now {
            // The kernel's timers ran on while it stood still.
            let lost = unit.stopped_since.is_some_and(|since| now >= since + LEASE_LOST);
            if unit.hung_until == 0 {
                unit.stopped_since = None;
            }
            unit.frozen_until = 0;
            if lost && unit.vips && !keeps {
                unit.vips = false;
                self.feed(i, Event::LeaseLost);
            }
        }
        let unit = &mut self.units[i];
        if unit.hung_until != 0 && unit.hung_until <= now {
            unit.hung_until = 0;
            let lost = unit.stopped_since.take().is_some_and(|since| now >= since + LEASE_LOST);
            let held = std::mem::take(&mut unit.vips);
            unit.vips = held && (keeps || !lost);
            if lost {
                self.feed(i, Event::LeaseLost);
            }
        }
        let unit = &mut self.units[i];
        let Some(since) = unit.stopped_since.filter(|_| unit.kernel_runs(now)) else { return };
        if unit.vips && !keeps && now >= since + LEASE {
            unit.vips = false;
        }
        if unit.hung_until > now && now >= since + WATCHDOG && !self.is(Mutation::ForgetWatchdog) {
            self.say(|| format!("the watchdog resets unit {i}"));
            self.power_cut(i);
            self.apply_power_restore(i);
        }
    }
}
