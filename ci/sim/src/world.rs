//! Time of the simulated world: what comes when, events into the decision cores, their actions out. What the world is made of is in
//! the neighbouring modules.

use crate::disk::Disk;
use crate::judge::{Check, Violation};
use crate::mail::Mail;
use crate::mutation::Mutation;
use crate::network::{Arrival, Links, Sessions};
use crate::rng::Rng;
use crate::settings::{Checks, PairSettings};
use crate::unit::{Doing, Unit};
use twinpost_ha::{Action, CheckState, Event, FenceAnswer, Note, Step, VipAnswer};
use twinpost_types::*;

/// Microseconds of a millisecond.
pub(crate) const MS: u64 = 1000;
/// Microseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000;
/// Most events that a core may take in a second of the world, faults and all; more is a busy loop.
const HANDLES_A_SECOND: u64 = 2000;
/// Most actions that one event may cause (the bound of `any_order` in `firmware/ha`).
const ACTIONS_MAX: usize = 40;
/// Most lines kept of a log.
const LINES_MAX: usize = 4000;
/// A supervisor that ended is started again by init after this time.
pub(crate) const RESTART: u64 = 1500 * MS;
/// init resets the machine when the supervisor gave no sign for this long: 5 s of patience and 10 s of the hardware's.
pub(crate) const WATCHDOG: u64 = 15 * SECOND;
/// A drive that does not answer is told after this time.
const HUNG_LIMIT: u64 = 9 * SECOND;

/// A promotion waits for the answer to its fence question this long.
const FENCE_LIMIT: u64 = 30 * SECOND;

/// Something that arrives later.
#[derive(Clone, Debug)]
pub(crate) struct Coming {
    pub(crate) at: u64,
    pub(crate) to: usize,
    /// Start of the receiver's supervisor that it is for; `None` = whichever runs then.
    pub(crate) start: Option<u32>,
    pub(crate) what: Arrival,
}

/// The pair and all around it.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) units: [Unit; 2],
    pub(crate) checks: Checks,
    pub(crate) links: Links,
    pub(crate) sessions: Sessions,
    pub(crate) rng: Rng,
    pub(crate) coming: Vec<Coming>,
    pub(crate) connected_on: Option<usize>,
    pub(crate) handshake_at: Option<u64>,
    pub(crate) sync_ends: Option<u64>,
    pub(crate) broken_since: Option<u64>,
    pub(crate) generations: u64,
    pub(crate) mail: Mail,
    /// Mail data is on a server that both units can mount: nothing but the decisions keeps one of them from it.
    pub(crate) nfs: bool,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) judge: crate::judge::Memory,
    pub(crate) violation: Option<Violation>,
    /// Notes of both units, in order.
    pub(crate) notes: Vec<(u64, usize, Note)>,
    /// Starts of supervisors.
    pub(crate) begins: Vec<(u64, usize)>,
    /// Lines are written down.
    pub(crate) recording: bool,
    pub(crate) log: Vec<String>,
    handles: u64,
    second: u64,
}

impl World {
    /// A new pair without power.
    pub(crate) fn new(
        settings: &PairSettings,
        seed: u64,
        mutation: Option<Mutation>,
        recording: bool,
    ) -> Self {
        Self {
            now: 0,
            units: settings.units.map(|settings| Unit::new(settings, Disk::fresh())),
            checks: settings.checks,
            links: Links::default(),
            sessions: Sessions::default(),
            rng: Rng::new(seed),
            coming: Vec::new(),
            connected_on: None,
            handshake_at: None,
            sync_ends: None,
            broken_since: None,
            generations: 100,
            mail: Mail::default(),
            nfs: false,
            mutation,
            judge: crate::judge::Memory::default(),
            violation: None,
            notes: Vec::new(),
            begins: Vec::new(),
            recording,
            log: Vec::new(),
            handles: 0,
            second: 0,
        }
    }

    /// Runs until a time of the world, or until a check fails.
    pub(crate) fn run_until(&mut self, end: u64) {
        while self.now < end && self.violation.is_none() {
            self.run_one(end);
        }
    }

    /// Goes on to the next moment at which something happens, `end` at most.
    pub(crate) fn run_one(&mut self, end: u64) {
        self.now = self.next_time().min(end).max(self.now + 1);
        self.step();
    }

    /// A line of the log; costs nothing when nobody reads it.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if self.recording && self.log.len() < LINES_MAX {
            let line = format!("{:>10.3} {}", self.now as f64 / 1e6, line());
            self.log.push(line);
        }
    }

    pub(crate) fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn next_time(&self) -> u64 {
        let now = self.now;
        let mut next = u64::MAX;
        // What is past was done in the step before, or waits for something else.
        let mut take = |at: u64| next = if at > now { next.min(at) } else { next };
        self.mail.next_time().into_iter().for_each(&mut take);
        for coming in &self.coming {
            take(coming.at.max(self.units[coming.to].held_until()).max(now + 1));
        }
        for unit in &self.units {
            let held = unit.held_until();
            unit.up_at.into_iter().for_each(|at| take(at.max(unit.frozen_until)));
            [unit.frozen_until, unit.hung_until].into_iter().for_each(&mut take);
            unit.stopped_since.into_iter().for_each(|since| {
                take(since + SECOND);
                take(since + WATCHDOG);
            });
            unit.mail_gone.into_iter().for_each(&mut take);
            unit.recording.iter().for_each(|(at, _)| take((*at).max(unit.frozen_until)));
            let Some(ha) = &unit.ha else { continue };
            take(unit.next_beat.max(held));
            if let Some(at) = ha.next_deadline() {
                take(unit.when(at.0).max(held).max(now + 1));
            }
            if let Some(doing) = &unit.doing {
                take(doing.ends.max(held));
                take((doing.ends + FENCE_LIMIT).max(held));
            }
        }
        [self.handshake_at, self.sync_ends].into_iter().flatten().for_each(&mut take);
        self.broken_since.into_iter().for_each(|since| take(since + crate::replication::NOTICE));
        next
    }

    fn step(&mut self) {
        for i in 0..2 {
            self.start_due(i);
            self.leases(i);
        }
        self.settle_replication();
        self.arrive();
        for i in 0..2 {
            self.step_unit(i);
        }
        self.carry_mail();
        self.check();
    }

    fn arrive(&mut self) {
        let mut index = 0;
        while index < self.coming.len() {
            let coming = &self.coming[index];
            let to = coming.to;
            if coming.at > self.now || self.units[to].held_until() > self.now {
                index += 1;
                continue;
            }
            // What a unit sleeps through waits in its kernel; the order of arrival is kept where it matters, by sequence numbers.
            let coming = self.coming.remove(index);
            let current = coming.start.is_none_or(|start| self.units[to].starts == start);
            let cable = matches!(coming.what, Arrival::Cable(..));
            if cable || (current && self.units[to].powered) {
                self.receive(to, coming.what);
            }
        }
    }

    fn start_due(&mut self, i: usize) {
        let frozen = self.units[i].frozen_until > self.now;
        if frozen || self.units[i].up_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.units[i].up_at = None;
        let booted = !self.units[i].powered;
        if booted {
            self.units[i].boot();
        }
        self.say(|| format!("unit {i} starts{}", if booted { " after a boot" } else { " again" }));
        self.begins.push((self.now, i));
        self.sessions.begin(i, &self.units[i], &mut self.rng);
        let now = self.now;
        let forgotten = self.is(Mutation::ForgetRoleChangeLimit);
        // Addresses that a predecessor left are taken away first.
        if !self.is(Mutation::ForgetLease) {
            self.units[i].vips = false;
        }
        let event = self.units[i].start(now, forgotten);
        self.feed(i, event);
        let up = self.units[i].service_up;
        self.feed(i, Event::ServiceCarrier { up });
        for link in 0..LINKS {
            self.tell_carriers(link);
        }
        let health = self.health(i);
        self.feed(i, Event::Health(health));
        self.tell_volumes(i);
        if self.units[i].asking {
            self.ask_fence(i);
        }
    }

    fn step_unit(&mut self, i: usize) {
        let now = self.now;
        if self.units[i].mail_gone.is_some_and(|at| at <= now) {
            self.units[i].mail_gone = None;
            self.units[i].mail = self.units[i].mounted;
        }
        if !self.units[i].runs(now) {
            return;
        }
        self.tell_volumes(i);
        self.tell_checks(i);
        self.work(i);
        let unit = &self.units[i];
        let due = unit.ha.as_ref().and_then(twinpost_ha::Ha::next_deadline);
        if due.is_some_and(|at| at.0 <= unit.shown(now)) {
            self.feed(i, Event::Tick);
        }
        let unit = &mut self.units[i];
        if unit.next_beat <= now && unit.ha.is_some() {
            let interval = unit.settings.interval.as_micros() as u64;
            unit.next_beat = now + interval;
            self.beat(i);
        }
    }

    /// Gives one event to a core and does what it asks for.
    pub(crate) fn feed(&mut self, i: usize, event: Event) {
        let quiet = matches!(event, Event::Heartbeat { .. } | Event::Tick | Event::Carrier { .. });
        if !quiet {
            self.say(|| format!("  {i} < {event:?}"));
        }
        self.count_handle(i);
        let now = self.now;
        let unit = &mut self.units[i];
        let shown = Instant(unit.shown(now));
        let Some(ha) = &mut unit.ha else { return };
        ha.handle(shown, event);
        let mut actions = Vec::new();
        while let Some(action) = ha.next_action() {
            actions.push(action);
        }
        if actions.len() > ACTIONS_MAX {
            self.violate(Check::Bounds, || format!("{} actions at once of unit {i}", actions.len()));
        }
        self.check_actions(i, &actions, shown.0);
        for action in actions {
            self.act(i, action);
        }
    }

    fn count_handle(&mut self, i: usize) {
        if self.now / SECOND != self.second {
            (self.second, self.handles) = (self.now / SECOND, 0);
        }
        self.handles += 1;
        // 10 ms heartbeats on two links bring 200 a second; the rest is room for faults.
        if self.handles == HANDLES_A_SECOND {
            self.violate(Check::Bounds, || {
                format!("busy loop: {HANDLES_A_SECOND} events of unit {i} in a second")
            });
        }
    }

    fn act(&mut self, i: usize, action: Action) {
        if !matches!(action, Action::HeartbeatNow | Action::Probe(_)) {
            self.say(|| format!("  {i} > {action:?}"));
        }
        match action {
            Action::HeartbeatNow => self.beat(i),
            Action::Probe(target) => self.probe(i, target),
            Action::ProbeVips => self.probe_vips(i),
            Action::AskRemote => {
                let answered = self.reaches(i) && self.units[1 - i].greets(self.now);
                self.send(i, 200 * MS, Event::RemoteAnswered(answered));
            }
            Action::Run(step) => {
                self.check_step(i, step);
                if matches!(step, Step::Reset) {
                    self.units[i].stop_steps();
                }
                self.units[i].steps.push_back(step);
            }
            Action::AnswerFence(answer) => self.fence_answered(i, answer),
            Action::Note(note) => self.notes.push((self.now, i, note)),
            Action::Mode(mode) => self.units[i].mode = mode,
            Action::Announce => {}
        }
    }

    /// An event for a core, later.
    pub(crate) fn send(&mut self, to: usize, delay: u64, event: Event) {
        let start = Some(self.units[to].starts);
        self.coming.push(Coming { at: self.now + delay, to, start, what: Arrival::Event(event) });
    }

    pub(crate) fn probe_vips(&mut self, i: usize) {
        let both = self.reaches(i) && !self.is(Mutation::BlindVipProbe);
        let peer = &self.units[1 - i];
        let (delay, answer) = match (both && peer.vips, peer.mail) {
            (false, _) => (300, VipAnswer::Nobody),
            (true, true) => (350, VipAnswer::Peer { mail: true }),
            (true, false) => (2300, VipAnswer::Peer { mail: false }),
        };
        self.send(i, delay * MS, Event::VipsProbed(answer));
    }

    fn work(&mut self, i: usize) {
        if self.units[i].doing.is_none()
            && let Some(step) = self.units[i].steps.pop_front()
        {
            let slow = if self.units[i].stressed_until > self.now { 4 } else { 1 };
            let (began, ends) = (self.now, self.now + Unit::duration(step) * slow);
            self.units[i].doing = Some(Doing { step, began, ends, fence: None });
            // Both hold the queue manager, also one that was started again since the drain.
            let holds = matches!(step, Step::DrainMail | Step::StopMail);
            self.units[i].draining |= holds && !self.is(Mutation::SkipDrain);
            if self.is(Mutation::ClaimBeforePromotion) && step == Step::Promote {
                self.units[i].vips = true;
            }
        }
        let Some(doing) = self.units[i].doing else { return };
        if doing.ends > self.now {
            return;
        }
        if doing.fence == Some(None) {
            // The executor waits for the answer that long.
            if self.now < doing.ends + FENCE_LIMIT {
                return;
            }
            self.units[i].doing = None;
            self.feed(i, Event::StepDone { step: doing.step, result: Err(twinpost_ha::Fault::TimedOut) });
            return;
        }
        let Some(result) = self.finish(i, doing) else { return };
        self.units[i].doing = None;
        self.tell_volumes(i);
        self.feed(i, Event::StepDone { step: doing.step, result });
    }

    pub(crate) fn tell_volumes(&mut self, i: usize) {
        let runs = self.units[i].runs(self.now);
        let hidden = self.is(Mutation::PromoteOutdated);
        let unit = &mut self.units[i];
        if !runs || unit.told == Some(unit.live) {
            return;
        }
        unit.told = Some(unit.live);
        let mut report = unit.live.report(&unit.disk);
        if hidden && report.local == DiskState::Outdated {
            report.local = DiskState::UpToDate;
        }
        self.feed(i, Event::Volumes([report; VOLUMES]));
    }

    /// What the shell's checks come to, told when it has been so for long enough.
    fn tell_checks(&mut self, i: usize) {
        for check in twinpost_ha::Check::ALL {
            let state = self.check_state(i, check);
            let index = check as usize;
            let limit = self.checks[index].map_or(0, |limit| limit.as_micros() as u64);
            let limit = if state == CheckState::Hung { HUNG_LIMIT } else { limit };
            let now = self.now;
            let unit = &mut self.units[i];
            if state == unit.checks_told[index] {
                unit.checks_since[index] = None;
                continue;
            }
            let since = *unit.checks_since[index].get_or_insert(now);
            if now >= since + limit {
                unit.checks_told[index] = state;
                self.feed(i, Event::Checked { check, state });
            }
        }
    }

    fn check_state(&self, i: usize, check: twinpost_ha::Check) -> CheckState {
        use twinpost_ha::Check::{LocalDrives, LocalMail, LocalPorts};
        let unit = &self.units[i];
        let follows = unit.mode == EffectiveMode::Secondary;
        let failed = self.checks[check as usize].is_some()
            && match check {
                LocalPorts => !unit.service_up,
                LocalDrives if unit.disk_hangs => return CheckState::Hung,
                LocalDrives => unit.disk_failed,
                LocalMail => unit.mail_gone.is_some() && unit.mode == EffectiveMode::Primary,
                _ => follows && !(self.reaches(i) && self.units[1 - i].greets(self.now)),
            };
        if failed { CheckState::Failed } else { CheckState::Good }
    }

    pub(crate) fn health(&self, i: usize) -> Health {
        let unit = &self.units[i];
        let storage = !unit.disk_failed && !unit.disk_hangs;
        Health { service_port: unit.service_up, third_party: unit.service_up, mail: true, storage }
    }

    /// The unit's volumes ask what became of the peer.
    pub(crate) fn ask_fence(&mut self, i: usize) {
        if self.is(Mutation::FenceAlwaysPeerDown) {
            self.fence_answered(i, FenceAnswer::PeerDown);
            return;
        }
        if !self.units[i].runs(self.now) {
            // The question waits for its answer; a supervisor that starts is asked again.
            self.send(i, MS, Event::FenceAsked { volume: VolumeId::Queue });
            return;
        }
        for volume in VolumeId::ALL {
            self.feed(i, Event::FenceAsked { volume });
        }
    }

    fn fence_answered(&mut self, i: usize, answer: FenceAnswer) {
        if let Some(Doing { fence: Some(waiting @ None), .. }) = &mut self.units[i].doing {
            *waiting = Some(answer);
            return;
        }
        if std::mem::take(&mut self.units[i].asking) {
            self.unfreeze(i, answer);
        }
    }

    pub(crate) fn power_cut(&mut self, i: usize) {
        self.units[i].power_cut();
        self.sessions.end(i);
        for link in 0..LINKS {
            self.tell_carriers(link);
        }
    }
}
