//! The decisions of Twinpost: roles, verdicts, timers, takeover plans (`spec/ha.md` sections 3 to 8). Sans-IO: the shell
//! passes in [`Event`]s with the time, drains [`Action`]s, and calls again at [`Ha::next_deadline`]. No clock, no IO, no
//! allocation. How an action is done is the shell's business; its result comes back as an event.
//!
//! ```text
//! event ─▶ take_in ─▶ settle: verdict ─ fence ─ arbitration ─ failure ─ switch ─ hold ─ roles ─ plan ─ replication
//!                      └─▶ actions, deadline
//! ```
//!
//! `settle` repeats its rules until none of them changes anything, so that rules stay independent of each other's order.
//! At most one step is asked of the shell at a time; what a plan has made of this unit is kept in `Held`, so that any
//! state can be undone in reverse.
#![no_std]
#![forbid(unsafe_code)]

mod arbitration;
mod clock;
mod failure;
mod fence;
mod giving;
mod hold;
mod interface;
mod latch;
mod lateness;
mod notes;
mod plan;
mod replication;
mod roles;
mod switch;
mod verdict;

pub use interface::{
    Action, Check, CheckState, Command, Event, Evidence, Fault, FenceAnswer, ProbeTarget, Settings, Status,
    Step, Timeline, Verdict, VipAnswer,
};
pub use notes::{Failure, Note, Reason, Stay};

use clock::Clock;
use core::time::Duration;
use failure::Failures;
use fence::Fence;
use heapless::Deque;
use latch::Latch;
use plan::{Held, Plan, Running};
use replication::Link;
use switch::{Handing, Postponed, Requesting};
use twinpost_types::{
    ConfiguredMode, DiskState, EffectiveMode, Epoch, Health, Instant, Intent, LinkId, Report, UnitId,
    VOLUMES, VolumeReport,
};
use verdict::Watch;

/// Most actions that one event can cause: a probe round (12), a fence answer, notes and a step, with room to spare.
const ACTIONS_MAX: usize = 64;
/// Places of the queue that only steps and fence answers may take, if a shell ever forgets to drain it.
const ACTIONS_KEPT: usize = 8;
/// Most rounds of `settle`: a plan that ends, one that begins, its first step, and the same once more.
const ROUNDS_MAX: usize = 8;
/// If rules still change something after that, they go on after this time.
const ROUNDS_PAUSE: Duration = Duration::from_millis(1);

/// The decision core of one unit.
///
/// ```
/// use core::time::Duration;
/// use twinpost_ha::{Action, Event, Ha, Settings};
/// use twinpost_types::*;
/// let settings = Settings {
///     unit: UnitId(1), mode: ConfiguredMode::Primary, on_failure: OnFailure::default(),
///     reboot_action: RebootAction::default(), threshold: Duration::from_secs(15),
///     interval: Duration::from_millis(200), fast_detect: true, links: [true, true], vips: 1,
///     third_party: true, max_role_changes: 4, remote_heartbeat: false,
/// };
/// let mut ha = Ha::new(settings, Instant(0));
/// ha.handle(Instant(0), Event::Started { epoch: Epoch(7) });
/// while let Some(action) = ha.next_action() { let _: Action = action; }
/// assert_eq!(ha.report(Instant(0)).epoch, Epoch(7));
/// assert_eq!(ha.status().effective, EffectiveMode::Off);
/// ```
#[derive(Clone, Debug)]
pub struct Ha {
    settings: Settings,
    clock: Clock,
    actions: Deque<Action, ACTIONS_MAX>,
    /// Earliest own time that some rule waits for.
    wake: Option<Instant>,
    changed: bool,
    beat: bool,
    told_intent: Intent,

    started: bool,
    /// When looking for the peer began.
    looking_since: Instant,
    epoch: Epoch,
    effective: EffectiveMode,
    since: Instant,
    reason: Reason,
    waiting: Option<Stay>,
    health: Health,
    volumes: [VolumeReport; VOLUMES],
    volumes_known: bool,

    watch: Watch,
    peer: Option<(UnitId, Report)>,

    plan: Option<Plan>,
    running: Option<Running>,
    held: Held,
    timeline: Option<Timeline>,
    latch: Latch,
    roles: roles::Memory,
    link: Link,
    fence: Fence,
    handing: Option<Handing>,
    requesting: Option<Requesting>,
    postponed: Option<Postponed>,
    failures: Failures,
    /// This unit is about to reboot and waits for its peer's consent.
    holding: Option<hold::Asking>,
    /// `HOLD-OFF` ends at this time.
    hold_until: Instant,
    arbitrating: bool,
    /// Leaves (reboot, power-off, reset) and decides nothing any more.
    leaving: Option<Step>,
}

impl Ha {
    /// A unit that has just started: `OFF`, knowing nothing.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            clock: Clock::new(now),
            actions: Deque::new(),
            wake: None,
            changed: false,
            beat: false,
            told_intent: Intent::None,
            started: false,
            looking_since: now,
            epoch: Epoch::default(),
            effective: EffectiveMode::Off,
            since: now,
            reason: Reason::Boot,
            waiting: None,
            health: Health::default(),
            volumes: Default::default(),
            volumes_known: false,
            watch: Watch::new(&settings, now),
            peer: None,
            plan: None,
            running: None,
            held: Held::default(),
            timeline: None,
            latch: Latch::new(settings.max_role_changes),
            roles: roles::Memory::default(),
            link: Link::default(),
            fence: Fence::default(),
            handing: None,
            requesting: None,
            postponed: None,
            failures: Failures::default(),
            holding: None,
            hold_until: now,
            arbitrating: false,
            leaving: None,
        }
    }

    /// Takes one event. Afterwards drain [`Ha::next_action`], then wait until [`Ha::next_deadline`] or the next event.
    ///
    /// Any order of events is harmless, and so is a `now` that stands still, runs backwards or jumps.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.clock.advance(now, self.settings.interval);
        self.take_in(event);
        self.settle();
        let intent = self.intent();
        if intent != self.told_intent {
            self.told_intent = intent;
            self.beat = true;
        }
        if core::mem::take(&mut self.beat) {
            self.push(Action::HeartbeatNow);
        }
        self.clock.set_due(self.wake);
    }

    /// The next thing to do, in order; `None` when all was taken.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to send [`Event::Tick`] if nothing else happens before. `None` = no need.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.clock.due()
    }

    /// The fields of the heartbeat that the decisions own; the shell fills in the others (configuration, firmware, service
    /// address, heard).
    #[must_use]
    pub fn report(&self, _now: Instant) -> Report {
        Report {
            epoch: self.epoch,
            configured: self.settings.mode,
            effective: self.effective,
            intent: self.intent(),
            health: self.health,
            volumes: self.volumes,
            replication_link: self.link.wanted(),
            ..Report::default()
        }
    }

    /// What a status view shows.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            effective: self.effective,
            since: self.since,
            reason: self.reason,
            verdict: self.watch.verdict(),
            evidence: self.watch.evidence(self.now()),
            waiting: self.waiting,
            epoch: self.epoch,
            peer: self.peer.map(|(_, report)| report),
            link_up: LinkId::ALL.map(|link| self.watch.up_since(link).is_some()),
            replication_link: self.link.wanted(),
            takeover: self.timeline,
            busy: self.plan.is_some() || self.handing.is_some(),
            latched: self.latch.is_latched(),
        }
    }

    /// Facts only; rules look at them in `settle`. Verbs and answers go to the module that waits for them.
    fn take_in(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Started { epoch } => {
                self.epoch = self.epoch.max(epoch);
                if !core::mem::replace(&mut self.started, true) {
                    self.looking_since = now;
                    self.watch.begin(now);
                }
            }
            Event::Tick => {}
            Event::Heartbeat { link, from, rebooted, report } => {
                // The shell feeds neither; a unit that hears itself, or on a link it does not have, learns nothing.
                if from == self.settings.unit || !self.settings.links[link.index()] {
                    return;
                }
                if rebooted {
                    self.link.peer_rebooted();
                }
                // A slower link brings older words after newer ones; a life sign they are all the same. Within a boot no epoch falls.
                let known =
                    self.peer.filter(|(id, last)| *id == from && !rebooted && report.epoch < last.epoch);
                let report = known.map_or(report, |(_, last)| last);
                self.peer = Some((from, report));
                self.watch.heartbeat(now, link, &report);
                self.roles.led = self.effective == EffectiveMode::Primary;
                if self.roles.heard() {
                    self.link.cut();
                }
            }
            Event::Carrier { link, up } => self.watch.carrier(now, link, up),
            Event::ServiceCarrier { up } => self.watch.service_carrier(up),
            Event::ProbeAnswered { target } => {
                if target == ProbeTarget::ThirdParty {
                    self.failures.third_party(now);
                }
                self.watch.probe_answered(now, target);
            }
            Event::VipsProbed(answer) => self.vips_probed(answer),
            Event::VipContested { by_peer } => self.vip_contested(by_peer),
            Event::LeaseLost => self.lease_lost(),
            Event::Volumes(volumes) => {
                let first = !core::mem::replace(&mut self.volumes_known, true);
                self.adopt_volumes(first, &volumes);
                self.volumes = volumes;
                self.fence.volumes_told(now);
            }
            Event::Health(health) => self.health = health,
            Event::StepDone { step, result } => self.step_done(step, result),
            Event::FenceAsked { volume } => self.fence.asked(now, volume),
            Event::Operator(command) => self.operator(command),
            Event::Checked { check, state } => self.failures.checked(check, state),
            Event::RemoteAnswered(answered) => self.remote_answered(answered),
            Event::SplitBrain => self.link.split(),
        }
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.wake = None;
            self.changed = false;
            if !self.started {
                return;
            }
            if self.is_active() {
                self.look_at_peer();
                self.settle_fence();
                self.settle_arbitration();
                self.settle_failure();
                self.settle_remote();
                self.settle_switch();
                self.settle_hold();
                self.settle_roles();
            } else {
                self.refuse_fence();
                self.waiting = Some(Stay::HaOff);
            }
            self.settle_plan();
            if self.is_active() {
                self.settle_replication();
            }
            if !self.changed {
                return;
            }
        }
        self.wake_at(self.now() + ROUNDS_PAUSE);
    }

    fn look_at_peer(&mut self) {
        let now = self.now();
        let seen = self.watch.poll(now);
        for (link, changed) in LinkId::ALL.into_iter().zip(seen.links) {
            if let Some(up) = changed {
                self.note(Note::Link { link, up });
                self.changed = true;
            }
        }
        if seen.probe {
            for target in self.watch.probe_targets(self.held.vips) {
                self.push(Action::Probe(target));
            }
            self.changed = true;
        }
        if let Some(verdict) = seen.verdict {
            let evidence = self.watch.evidence(now);
            self.note(Note::Verdict { verdict, evidence });
            self.changed = true;
        }
        if let Some(next) = seen.next {
            self.wake_at(next);
        }
    }

    /// What this unit wants of its peer, by what it is doing.
    fn intent(&self) -> Intent {
        if self.leaving.is_some() {
            Intent::Leaving
        } else if let Some(handing) = &self.handing {
            Intent::HandOver(handing.epoch)
        } else if self.fence.wants_outdate() {
            Intent::RequestOutdate
        } else if self.holding.is_some() {
            Intent::HoldOff
        } else if self.requesting.is_some() {
            Intent::RequestSwitch
        } else if self.wants_step_down() {
            Intent::StepDown
        } else {
            Intent::None
        }
    }
}

/// Small words that every rule uses.
impl Ha {
    fn now(&self) -> Instant {
        self.clock.own()
    }

    /// Active-passive HA is configured and the unit does not leave. Config-only groups have no roles to decide.
    fn is_active(&self) -> bool {
        matches!(self.settings.mode, ConfiguredMode::Primary | ConfiguredMode::Secondary)
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// True from `at` on; before, the unit wakes at that time.
    fn is_due(&mut self, at: Instant) -> bool {
        let due = self.now() >= at;
        if !due {
            self.wake_at(at);
        }
        due
    }

    fn push(&mut self, action: Action) {
        let vital = matches!(action, Action::Run(_) | Action::AnswerFence(_));
        if vital || self.actions.len() < ACTIONS_MAX - ACTIONS_KEPT {
            // Full only if the shell stopped draining; a lost step is noticed by its time limit.
            let _ = self.actions.push_back(action);
        }
    }

    fn note(&mut self, note: Note) {
        self.push(Action::Note(note));
    }

    fn set_mode(&mut self, to: EffectiveMode, reason: Reason) {
        if self.effective == to {
            return;
        }
        let from = core::mem::replace(&mut self.effective, to);
        if from == EffectiveMode::Primary {
            self.roles.gave_at = Some(self.now());
        }
        if from == EffectiveMode::Primary || to == EffectiveMode::Primary {
            self.latch.count(self.now());
            self.failures.mode_changed();
        }
        self.since = self.clock.shell();
        self.reason = reason;
        self.beat = true;
        self.changed = true;
        self.push(Action::Mode(to));
        self.note(Note::ModeChanged { from, to, reason });
    }

    fn set_waiting(&mut self, waiting: Option<Stay>) {
        if self.waiting != waiting {
            self.waiting = waiting;
            if let Some(stay) = waiting {
                self.note(Note::Waiting(stay));
            }
        }
    }

    /// The peer's last report, if its heartbeats arrive and it does not leave.
    fn living_peer(&self) -> Option<&Report> {
        let alive = self.watch.verdict() == Verdict::Alive;
        self.peer
            .as_ref()
            .map(|(_, report)| report)
            .filter(|report| alive && report.intent != Intent::Leaving)
    }

    /// The peer is heard and carries the service.
    fn is_peer_primary(&self) -> bool {
        self.living_peer().is_some_and(|report| report.effective == EffectiveMode::Primary)
    }

    fn is_peer_dead(&self) -> bool {
        matches!(self.watch.verdict(), Verdict::Gone | Verdict::Unresponsive)
    }

    fn peer_epoch(&self) -> Epoch {
        self.peer.map_or(Epoch::default(), |(_, report)| report.epoch)
    }

    fn is_connected(&self) -> bool {
        self.volumes.iter().all(|volume| volume.replication.is_connected())
    }

    /// Own data is the newest for certain.
    fn is_current(&self) -> bool {
        let good = |volume: &VolumeReport| volume.local == DiskState::UpToDate;
        self.volumes_known && !self.link.is_disowned() && self.volumes.iter().all(good)
    }

    /// The peer's copy is recorded as old: nothing can have been written there since.
    fn is_peer_outdated(&self) -> bool {
        self.volumes.iter().all(|volume| volume.peer == DiskState::Outdated)
    }

    /// The peer's copy is connected and as new as the own.
    fn is_peer_current(&self) -> bool {
        self.is_connected() && self.volumes.iter().all(|volume| volume.peer == DiskState::UpToDate)
    }

    /// Why own data must not be promoted; `None` when it may.
    fn data_stay(&self) -> Option<Stay> {
        if !self.volumes_known {
            return Some(Stay::LookingForPeer);
        }
        let worst = |states: &[DiskState]| self.volumes.iter().any(|volume| states.contains(&volume.local));
        if worst(&[DiskState::Diskless, DiskState::Failed]) {
            Some(Stay::VolumeMissing)
        } else if worst(&[DiskState::Inconsistent]) {
            Some(Stay::DataInconsistent)
        } else if worst(&[DiskState::Outdated]) {
            Some(Stay::DataOutdated)
        } else if self.is_current() {
            None
        } else {
            Some(Stay::DataMayBeStale)
        }
    }
}
