//! Two decision cores in a small simulated world: cables, a service network, power, replication after the model in `disk`,
//! steps that take time or fail, a mail client. Checks the invariants of `spec/ha.md` after every event. Deterministic.
#![allow(dead_code, reason = "each test binary uses a part of the world")]

pub mod disk;
pub mod judge;
pub mod replication;
pub mod unit;

use disk::Disk;
use twinpost_ha::{Action, Command, Event, FenceAnswer, Note, ProbeTarget, Settings, Step, VipAnswer};
use twinpost_types::*;
use unit::{Doing, Unit};

const MS: u64 = 1000;
const SECOND: u64 = 1_000_000;

/// What can be done to the pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    PowerCut(usize),
    PowerRestore(usize),
    Link(usize, bool),
    OneWay(usize, usize, bool),
    Service(usize, bool),
    Loss(u8),
    Freeze(usize, u64),
    ClockAhead(usize, u64),
    KillSupervisor(usize),
    FailStep(usize, Step),
    Operator(usize, Command),
}

/// Something that arrives later.
#[derive(Clone, Debug)]
struct Coming {
    at: u64,
    to: usize,
    boot: u32,
    event: Event,
}

pub struct World {
    pub now: u64,
    pub units: [Unit; 2],
    pub link_up: [bool; LINKS],
    /// Direction `unit → other` of a link is dead.
    pub deaf: [[bool; LINKS]; 2],
    pub loss_percent: u8,
    seed: u64,
    coming: Vec<Coming>,
    pub connected_on: Option<usize>,
    pub handshake_at: Option<u64>,
    pub sync_ends: Option<u64>,
    pub broken_since: Option<u64>,
    pub generations: u64,
    pub acked: Vec<u32>,
    next_mail: u64,
    pub longest_outage: u64,
    last_ack: u64,
    pub log: Vec<String>,
    pub notes: [Vec<Note>; 2],
    handles: u64,
    pub diverged: bool,
    /// A kernel stood still and looked dead by every proof there is, or a unit was cut off from everything and saw the
    /// service network again only when its peer had died: the copies may diverge, and nothing may be discarded.
    pub excused: bool,
}

impl World {
    pub fn new(units: [Unit; 2], seed: u64) -> Self {
        Self {
            now: 0,
            units,
            link_up: [true; LINKS],
            deaf: [[false; LINKS]; 2],
            loss_percent: 0,
            seed: seed.wrapping_mul(2).wrapping_add(1),
            coming: Vec::new(),
            connected_on: None,
            handshake_at: None,
            sync_ends: None,
            broken_since: None,
            generations: 100,
            acked: Vec::new(),
            next_mail: 0,
            longest_outage: 0,
            last_ack: 0,
            log: Vec::new(),
            notes: [Vec::new(), Vec::new()],
            handles: 0,
            diverged: false,
            excused: false,
        }
    }

    /// A new pair, both powered on.
    pub fn fresh(seed: u64, adjust: impl Fn(&mut Settings)) -> Self {
        let [a, b] = [(1, ConfiguredMode::Primary), (2, ConfiguredMode::Secondary)].map(|(id, mode)| {
            let mut settings = unit::settings(id, mode);
            adjust(&mut settings);
            Unit::new(settings, Disk::fresh(), Epoch(0))
        });
        let mut world = Self::new([a, b], seed);
        world.apply(Fault::PowerRestore(0));
        world.apply(Fault::PowerRestore(1));
        world
    }

    /// A pair that is up and in sync; unit 0 is PRIMARY.
    pub fn in_sync(seed: u64) -> Self {
        Self::in_sync_with(seed, |_| ())
    }

    /// The same with other settings on both units.
    pub fn in_sync_with(seed: u64, adjust: impl Fn(&mut Settings)) -> Self {
        let mut world = Self::fresh(seed, adjust);
        world.run(60 * SECOND);
        assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{}", world.story());
        assert_eq!(world.units[1].effective(), EffectiveMode::Secondary, "{}", world.story());
        world.longest_outage = 0;
        world
    }

    pub fn story(&self) -> String {
        let from = self.log.len().saturating_sub(400);
        self.log[from..].join("\n")
    }

    pub fn say(&mut self, line: String) {
        self.log.push(format!("{:>10.3} {line}", self.now as f64 / 1e6));
    }

    pub fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    pub fn apply(&mut self, fault: Fault) {
        self.say(format!("== {fault:?}"));
        match fault {
            Fault::PowerCut(i) if self.units[i].powered => self.power_cut(i),
            Fault::PowerRestore(i) if !self.units[i].powered && self.units[i].up_at.is_none() => {
                let delay = 2 * SECOND + self.random() % (3 * SECOND);
                self.units[i].up_at = Some(self.now + delay);
            }
            Fault::Link(link, up) => {
                self.link_up[link] = up;
                self.tell_carriers(link);
            }
            Fault::OneWay(i, link, deaf) => self.deaf[i][link] = deaf,
            Fault::Service(i, up) => {
                self.units[i].service_up = up;
                self.feed(i, Event::ServiceCarrier { up });
            }
            Fault::Loss(percent) => self.loss_percent = percent,
            Fault::Freeze(i, time) => {
                self.excused = true;
                self.units[i].frozen_until = self.now + time;
            }
            Fault::ClockAhead(i, by) => self.units[i].clock_ahead += by,
            Fault::KillSupervisor(i) if self.units[i].ha.is_some() => {
                let unit = &mut self.units[i];
                unit.ha = None;
                unit.stop_steps();
                unit.vips_until = self.now + SECOND;
                unit.up_at = Some(self.now + 1500 * MS);
            }
            Fault::FailStep(i, step) => self.units[i].fails.push(step),
            Fault::Operator(i, command) => self.feed(i, Event::Operator(command)),
            _ => {}
        }
    }

    fn power_cut(&mut self, i: usize) {
        self.units[i].power_cut();
        for link in 0..LINKS {
            self.tell_carriers(link);
        }
    }

    fn tell_carriers(&mut self, link: usize) {
        let up = self.carrier(link);
        for i in 0..2 {
            self.feed(i, Event::Carrier { link: LinkId::ALL[link], up });
        }
    }

    fn carrier(&self, link: usize) -> bool {
        self.link_up[link] && self.units.iter().all(|unit| unit.powered)
    }

    /// Datagrams get from unit `i` to the other one.
    pub fn passes(&self, i: usize, link: usize) -> bool {
        self.carrier(link) && !self.deaf[i][link]
    }

    /// Both directions of a link, and both kernels run: what a TCP connection needs.
    pub fn carries(&self, link: usize) -> bool {
        self.passes(0, link)
            && self.passes(1, link)
            && self.units.iter().all(|unit| unit.kernel_runs(self.now))
    }

    fn on_service_network(&self, i: usize) -> bool {
        self.units[i].service_up && self.units[i].kernel_runs(self.now)
    }

    /// Runs for this long.
    pub fn run(&mut self, time: u64) {
        let end = self.now + time;
        let handles = self.handles;
        while self.now < end {
            let next = self.next_time().min(end).max(self.now + 1);
            self.now = next;
            self.step();
        }
        let limit = (time / SECOND + 1) * 400 + 4000;
        assert!(self.handles - handles < limit, "busy loop\n{}", self.story());
    }

    fn next_time(&self) -> u64 {
        let mut next = self.next_mail;
        let mut take = |at: u64| next = next.min(at);
        for coming in &self.coming {
            take(coming.at.max(self.units[coming.to].frozen_until));
        }
        for unit in &self.units {
            if let Some(at) = unit.up_at {
                take(at);
            }
            if let Some(ha) = &unit.ha {
                take(unit.next_beat.max(unit.frozen_until));
                if let Some(at) = ha.next_deadline() {
                    take(at.0.saturating_sub(unit.clock_ahead).max(unit.frozen_until));
                }
                if let Some(doing) = &unit.doing {
                    take(doing.ends.max(unit.frozen_until));
                }
            }
        }
        [self.handshake_at, self.sync_ends].into_iter().flatten().for_each(take);
        next
    }

    fn step(&mut self) {
        for i in 0..2 {
            self.start_due(i);
        }
        self.settle_replication();
        let now = self.now;
        let mut due = Vec::new();
        let units = &self.units;
        self.coming.retain(|coming| {
            let ready = coming.at <= now && units[coming.to].frozen_until <= now;
            if ready {
                due.push(coming.clone());
            }
            !ready
        });
        due.sort_by_key(|coming| coming.at);
        for coming in due {
            if self.units[coming.to].boots == coming.boot {
                self.feed(coming.to, coming.event);
            }
        }
        for i in 0..2 {
            self.step_unit(i);
        }
        self.mail();
        self.check();
    }

    fn start_due(&mut self, i: usize) {
        if self.units[i].up_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.units[i].up_at = None;
        let booted = !self.units[i].powered;
        if booted {
            self.units[i].boot();
        }
        self.say(format!("unit {i} starts"));
        for event in self.units[i].start(self.now) {
            self.feed(i, event);
        }
        self.units[i].vips &= !booted;
        if !booted {
            self.units[i].vips = false;
            self.units[i].vips_until = u64::MAX;
        }
        let up = self.units[i].service_up;
        self.feed(i, Event::ServiceCarrier { up });
        for link in 0..LINKS {
            self.tell_carriers(link);
        }
        self.tell_volumes(i);
        if self.units[i].asking {
            self.ask_fence(i);
        }
    }

    fn step_unit(&mut self, i: usize) {
        if self.units[i].vips_until <= self.now {
            self.units[i].vips = false;
            self.units[i].vips_until = u64::MAX;
        }
        if !self.units[i].runs(self.now) {
            return;
        }
        self.tell_volumes(i);
        self.work(i);
        let shown = self.now + self.units[i].clock_ahead;
        let due = self.units[i].ha.as_ref().and_then(|ha| ha.next_deadline());
        if due.is_some_and(|at| at.0 <= shown) {
            self.feed(i, Event::Tick);
        }
        if self.units[i].next_beat <= self.now && self.units[i].ha.is_some() {
            let interval = self.units[i].settings.interval.as_micros() as u64;
            self.units[i].next_beat = self.now + interval;
            self.beat(i);
        }
    }

    fn beat(&mut self, i: usize) {
        let Some(ha) = &self.units[i].ha else { return };
        let mut report = ha.report(Instant(self.now));
        report.service = ServiceAddress { ipv4: [192, 0, 2, 11 + i as u8], mac: [2; 6] };
        let boots = self.units[i].boots;
        let rebooted = std::mem::replace(&mut self.units[i].rebooted_told, boots) != boots;
        for link in 0..LINKS {
            let lost = self.random() % 100 < u64::from(self.loss_percent);
            if !self.passes(i, link) || lost {
                continue;
            }
            let from = self.units[i].settings.unit;
            let event = Event::Heartbeat { link: LinkId::ALL[link], from, rebooted, report };
            let delay = 200 + self.random() % 800;
            self.send(1 - i, delay, event);
        }
    }

    fn send(&mut self, to: usize, delay: u64, event: Event) {
        let boot = self.units[to].boots;
        self.coming.push(Coming { at: self.now + delay, to, boot, event });
    }

    /// Gives one event to a core and does what it asks for.
    pub fn feed(&mut self, i: usize, event: Event) {
        let now = self.now;
        let Some(mut ha) = self.units[i].ha.take() else { return };
        let quiet = matches!(event, Event::Heartbeat { .. } | Event::Tick | Event::Carrier { .. });
        if !quiet {
            self.say(format!("  {i} < {event:?}"));
        }
        self.handles += 1;
        ha.handle(Instant(now + self.units[i].clock_ahead), event);
        let mut actions = Vec::new();
        while let Some(action) = ha.next_action() {
            actions.push(action);
        }
        assert!(actions.len() <= 40, "{} actions at once\n{}", actions.len(), self.story());
        self.units[i].ha = Some(ha);
        for action in actions {
            self.act(i, action);
        }
    }

    fn act(&mut self, i: usize, action: Action) {
        if !matches!(action, Action::HeartbeatNow | Action::Probe(_)) {
            self.say(format!("  {i} > {action:?}"));
        }
        match action {
            Action::HeartbeatNow => self.beat(i),
            Action::Probe(target) => {
                if self.answers(i, target) {
                    self.send(i, 2 * MS, Event::ProbeAnswered { target });
                }
            }
            Action::ProbeVips => self.probe_vips(i),
            Action::AskRemote => self.send(i, MS, Event::RemoteAnswered(false)),
            Action::Run(step) => {
                self.check_step(i, step);
                if matches!(step, Step::Reset) {
                    self.units[i].stop_steps();
                }
                self.units[i].steps.push_back(step);
            }
            Action::AnswerFence(answer) => self.fence_answered(i, answer),
            Action::Note(note) => self.notes[i].push(note),
            Action::Announce | Action::Mode(_) => {}
        }
    }

    fn answers(&self, i: usize, target: ProbeTarget) -> bool {
        let both = self.on_service_network(i) && self.on_service_network(1 - i);
        match target {
            ProbeTarget::PeerService => both,
            ProbeTarget::Vip(_) => both && self.units[1 - i].vips,
            ProbeTarget::PeerHeartbeat(link) => self.carries(link.index()),
            ProbeTarget::ThirdParty => self.on_service_network(i),
        }
    }

    fn probe_vips(&mut self, i: usize) {
        let both = self.on_service_network(i) && self.on_service_network(1 - i);
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
            let ends = self.now + Unit::duration(step);
            self.units[i].doing = Some(Doing { step, ends, fence: None });
        }
        let Some(doing) = self.units[i].doing else { return };
        if doing.ends > self.now || doing.fence == Some(None) {
            return;
        }
        let Some(result) = self.finish(i, doing) else { return };
        self.units[i].doing = None;
        self.tell_volumes(i);
        self.feed(i, Event::StepDone { step: doing.step, result });
    }

    pub fn tell_volumes(&mut self, i: usize) {
        let unit = &mut self.units[i];
        if unit.told == Some(unit.live) || unit.ha.is_none() {
            return;
        }
        unit.told = Some(unit.live);
        let report = unit.live.report(&unit.disk);
        self.feed(i, Event::Volumes([report; VOLUMES]));
    }

    pub fn ask_fence(&mut self, i: usize) {
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

    /// The client's messages, ten a second, through the virtual IP; and the contest when both hold it.
    fn mail(&mut self) {
        if self.now < self.next_mail {
            return;
        }
        self.next_mail = self.now + 100 * MS;
        let holders: Vec<usize> =
            (0..2).filter(|i| self.units[*i].vips && self.on_service_network(*i)).collect();
        if holders.len() == 2 && self.next_mail / (SECOND) != self.now / SECOND {
            for i in 0..2 {
                self.send(i, MS, Event::VipContested { by_peer: true });
            }
        }
        let message = (self.now / (100 * MS)) as u32;
        let mut stored = false;
        for i in 0..2 {
            stored |= self.units[i].serves(self.now) && self.write(i, message);
        }
        if stored {
            self.acked.push(message);
            self.longest_outage = self.longest_outage.max(self.now - self.last_ack);
            self.last_ack = self.now;
        }
    }
}
