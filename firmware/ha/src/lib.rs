//! The decisions of Twinpost: roles, verdicts, timers, takeover plans (`spec/ha.md` sections 3 to 8). Sans-IO: the shell
//! passes in [`Event`]s with the time, drains [`Action`]s, and calls again at [`Ha::next_deadline`]. No clock, no IO, no
//! allocation. How an action is done is the shell's business; its result comes back as an event.
#![no_std]
#![forbid(unsafe_code)]

mod interface;

pub use interface::{
    Action, Command, Event, Evidence, Fault, FenceAnswer, Note, ProbeTarget, Reason, Settings, Status, Stay,
    Step, Timeline, Verdict, VipAnswer,
};

use heapless::Deque;
use twinpost_types::{EffectiveMode, Epoch, Health, Instant, LINKS, Report, VOLUMES, VolumeReport};

/// Most actions that one event can cause: a probe round (12), a fence answer, notes and a step, with room to spare.
const ACTIONS_MAX: usize = 64;

/// The decision core of one unit.
#[derive(Clone, Debug)]
pub struct Ha {
    settings: Settings,
    epoch: Epoch,
    effective: EffectiveMode,
    since: Instant,
    health: Health,
    volumes: [VolumeReport; VOLUMES],
    actions: Deque<Action, ACTIONS_MAX>,
}

impl Ha {
    /// A unit that has just started: `OFF`, knowing nothing.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            epoch: Epoch::default(),
            effective: EffectiveMode::Off,
            since: now,
            health: Health::default(),
            volumes: Default::default(),
            actions: Deque::new(),
        }
    }

    /// Takes one event. Afterwards drain [`Ha::next_action`], then wait until [`Ha::next_deadline`] or the next event.
    pub fn handle(&mut self, _now: Instant, event: Event) {
        match event {
            Event::Started { epoch } => self.epoch = epoch,
            Event::Volumes(volumes) => self.volumes = volumes,
            Event::Health(health) => self.health = health,
            _ => {}
        }
    }

    /// The next thing to do, in order; `None` when all was taken.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to send [`Event::Tick`] if nothing else happens before. `None` = no need.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// The fields of the heartbeat that the decisions own; the shell fills in the others (configuration, firmware, service
    /// address, heard).
    #[must_use]
    pub fn report(&self, _now: Instant) -> Report {
        Report {
            epoch: self.epoch,
            configured: self.settings.mode,
            effective: self.effective,
            health: self.health,
            volumes: self.volumes,
            ..Report::default()
        }
    }

    /// What a status view shows.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            effective: self.effective,
            since: self.since,
            reason: Reason::Boot,
            verdict: Verdict::Unknown,
            evidence: Evidence::default(),
            waiting: Some(Stay::LookingForPeer),
            epoch: self.epoch,
            peer: None,
            link_up: [false; LINKS],
            replication_link: None,
            takeover: None,
            busy: false,
            latched: false,
        }
    }
}
