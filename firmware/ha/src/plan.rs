//! Plans and their execution: the steps into the role and out of it, one at a time, what this unit holds meanwhile, and what
//! follows when a step fails (`spec/ha.md` section 7). It does not decide when a plan is due.

use crate::{Action, Fault, Ha, Note, Reason, Stay, Step, Timeline, Verdict, VipAnswer};
use core::time::Duration;
use heapless::Deque;
use twinpost_types::{EffectiveMode, Epoch, Instant};

/// Longest plan: remote services, probe, epoch, fence, promote, mount, mail, addresses.
const TASKS_MAX: usize = 8;
/// A step without an answer counts as timed out after this; the shell's own limits are shorter.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// The same for the probe of the virtual IPs (at most 2.3 s).
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// When only silence speaks against a peer whose kernel still answers, the virtual IPs must be claimed this long after the
/// threshold at the latest: a primary that is cut off goes on alone when nobody claimed them by then (`fence`).
const CLAIM_LIMIT: Duration = Duration::from_secs(8);
/// First pause after a plan failed; doubled each time.
const RETRY: Duration = Duration::from_secs(5);
/// Doublings of this pause: at most 80 s.
const RETRY_DOUBLINGS: u32 = 4;

fn is_undoing(step: Step) -> bool {
    matches!(step, Step::StopMail | Step::ReleaseVips | Step::Unmount | Step::Demote)
}

/// What this unit holds of the role, or may hold: set when a step is asked for, cleared when its undoing succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) promoted: bool,
    pub(crate) mounted: bool,
    pub(crate) mail: bool,
    pub(crate) vips: bool,
}

impl Held {
    pub(crate) const ALL: Held = Held { promoted: true, mounted: true, mail: true, vips: true };

    fn set(&mut self, step: Step, held: bool) {
        match step {
            Step::Promote | Step::PromoteForced | Step::Demote => self.promoted = held,
            Step::Mount | Step::Unmount => self.mounted = held,
            Step::StartMail | Step::StopMail => self.mail = held,
            Step::ClaimVips | Step::ReleaseVips => self.vips = held,
            _ => {}
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self == Held::default()
    }
}

/// The step that the shell is doing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) step: Step,
    since: Instant,
    /// Asked for by the plan, not by replication.
    of_plan: bool,
}

/// On what a way into the role rests; tells when it is given up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// The peer is dead or unresponsive: fence it.
    PeerDead,
    /// The peer lives and is no primary, replication is connected.
    Connected,
    /// The peer handed over, replication is connected.
    HandedOver,
    /// The peer lives but holds no data that could be promoted.
    PeerUnable,
    /// This unit still holds the role from before its supervisor was restarted.
    Resumed,
    /// An operator insists.
    Forced,
}

/// What follows when the role is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Follows as `SECONDARY`.
    Follow(Reason),
    /// The peer that took over is not heard: own data is outdated, nothing is taken until it is heard.
    Yield,
    /// Asks the peer to take over; then perhaps leaves.
    HandOver(Option<Step>),
    /// The same for an own failure; then `on-failure` decides.
    StepDown,
    /// The way into the role failed.
    Failed,
    /// Leaves.
    Leave(Step),
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Take {
        reason: Reason,
        ground: Ground,
    },
    /// An orderly switch could not be done; the role is made whole again.
    Resume,
    GiveUp {
        then: Then,
    },
}

/// One thing of a plan to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    AskRemote,
    ProbeVips,
    Do(Step),
}

/// A running plan.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) purpose: Purpose,
    tasks: Deque<Task, TASKS_MAX>,
    /// Waiting for [`crate::Event::RemoteAnswered`] since then.
    pub(crate) asking: Option<Instant>,
    /// Waiting for [`crate::Event::VipsProbed`] since then.
    probing: Option<Instant>,
    claim_by: Option<Instant>,
    /// The promotion was asked for: from here on only an undoing in reverse leads back.
    promoting: bool,
}

impl Plan {
    fn new(purpose: Purpose) -> Self {
        Self { purpose, tasks: Deque::new(), asking: None, probing: None, claim_by: None, promoting: false }
    }

    fn then(mut self, step: Step) -> Self {
        // No plan has more than TASKS_MAX tasks: the longest is written in `take`.
        let _ = self.tasks.push_back(Task::Do(step));
        self
    }

    /// The way into the role is past its last look around: nothing of the peer is accepted any more.
    pub(crate) fn is_promoting(&self) -> bool {
        self.promoting
    }

    pub(crate) fn ground(&self) -> Option<Ground> {
        match self.purpose {
            Purpose::Take { ground, .. } => Some(ground),
            _ => None,
        }
    }
}

impl Ha {
    /// Begins the way into the role.
    pub(crate) fn take(&mut self, reason: Reason, ground: Ground, at_least: Epoch) {
        let newest = self.epoch.max(self.peer_epoch()).max(self.roles.offered);
        // What was offered is this unit's to use; the peer has stored it and uses a later one.
        let offered = at_least > self.epoch && at_least >= newest;
        let epoch = if offered { at_least } else { newest.next() };
        let fence = matches!(ground, Ground::PeerDead | Ground::PeerUnable | Ground::Forced);
        let verdict = self.watch.verdict();
        let mut plan = Plan::new(Purpose::Take { reason, ground });
        // Proof needs no second look: a kernel that answers nobody carries no service.
        if ground == Ground::PeerDead && verdict == Verdict::Unresponsive && self.settings.remote_heartbeat {
            let _ = plan.tasks.push_back(Task::AskRemote);
        }
        if fence && verdict != Verdict::Gone && self.settings.vips > 0 {
            let _ = plan.tasks.push_back(Task::ProbeVips);
        }
        plan = plan.then(Step::StoreEpoch(epoch));
        if fence {
            plan = plan.then(Step::Fence);
        }
        let promote = if ground == Ground::Forced { Step::PromoteForced } else { Step::Promote };
        plan = plan.then(promote).then(Step::Mount).then(Step::StartMail).then(Step::ClaimVips);
        self.timeline = Some(Timeline {
            epoch,
            verdict,
            evidence: self.watch.evidence(self.now()),
            heard: self.watch.heard().map(|heard| self.clock.to_shell(heard)),
            begun: self.clock.shell(),
            ..Timeline::default()
        });
        self.begin(plan);
    }

    /// Gives up what is held of the role, in reverse.
    pub(crate) fn give_up(&mut self, then: Then) {
        let mut plan = Plan::new(Purpose::GiveUp { then });
        let held = self.held;
        let mut steps = [
            (Step::StopMail, held.mail),
            (Step::ReleaseVips, held.vips),
            (Step::Unmount, held.mounted),
            (Step::Demote, held.promoted),
        ];
        // Another one has the addresses already: they go first.
        if matches!(then, Then::Follow(Reason::GaveWay) | Then::Yield) {
            steps.swap(0, 1);
        }
        for (step, needed) in steps {
            if needed {
                plan = plan.then(step);
            }
        }
        // What is offered is durable first: a restarted supervisor must not use that epoch itself.
        if matches!(then, Then::HandOver(_) | Then::StepDown) {
            plan = plan.then(Step::StoreEpoch(self.offer()));
        }
        self.begin(plan);
    }

    fn begin(&mut self, plan: Plan) {
        self.plan = Some(plan);
        self.set_waiting(None);
        self.changed = true;
    }

    /// Asks for the next step, notices steps that never end, ends plans.
    pub(crate) fn settle_plan(&mut self) {
        if let Some(running) = self.running {
            if self.is_due(running.since + STEP_LIMIT) {
                self.step_done(running.step, Err(Fault::TimedOut));
            }
            return;
        }
        self.settle_abort();
        let now = self.now();
        let Some(plan) = &mut self.plan else { return };
        if let Some(since) = plan.asking.or(plan.probing) {
            if self.is_due(since + PROBE_LIMIT) {
                // The shell owes an answer; without one nothing is claimed. Again after the pause.
                self.roles.failed(now, RETRY, RETRY_DOUBLINGS);
                self.plan = None;
                self.changed = true;
            }
            return;
        }
        match plan.tasks.pop_front() {
            Some(Task::AskRemote) => {
                plan.asking = Some(now);
                self.push(Action::AskRemote);
                self.wake_at(now + PROBE_LIMIT);
            }
            Some(Task::ProbeVips) => {
                plan.probing = Some(now);
                if !self.roles.probe_stale {
                    self.push(Action::ProbeVips);
                }
                self.wake_at(now + PROBE_LIMIT);
            }
            Some(Task::Do(step)) => {
                plan.promoting |= matches!(step, Step::Promote | Step::PromoteForced);
                if matches!(plan.purpose, Purpose::Take { .. } | Purpose::Resume) {
                    self.held.set(step, true);
                }
                self.run(step, true);
            }
            None => self.plan_done(),
        }
    }

    /// Hands one step to the shell.
    pub(crate) fn run(&mut self, step: Step, of_plan: bool) {
        self.running = Some(Running { step, since: self.now(), of_plan });
        self.push(Action::Run(step));
        self.changed = true;
    }

    /// A way into the role is given up when its ground is gone: until the promotion begins this costs nothing.
    fn settle_abort(&mut self) {
        let Some(plan) = &self.plan else { return };
        let Some(ground) = plan.ground() else { return };
        let late = plan.claim_by.is_some_and(|by| self.now() >= by) && !self.held.vips;
        if late {
            self.yield_to_peer();
            return;
        }
        if plan.promoting {
            return;
        }
        // A newer offer asks for a newer epoch: this unit was slow, and the peer had the role again meanwhile.
        let epoch = self.timeline.map_or(Epoch::default(), |timeline| timeline.epoch);
        let handed = matches!(
            self.living_peer().map(|peer| peer.intent),
            Some(twinpost_types::Intent::HandOver(offered)) if offered <= epoch
        );
        let void = match ground {
            Ground::PeerDead => self.living_peer().is_some(),
            Ground::Connected => self.is_peer_primary() || !self.is_connected(),
            Ground::HandedOver => !handed || !self.is_connected(),
            Ground::PeerUnable | Ground::Forced | Ground::Resumed => self.is_peer_primary(),
        };
        if !void {
            return;
        }
        if plan.probing.is_some() {
            self.roles.probe_stale = true;
        }
        self.plan = None;
        self.changed = true;
    }

    /// Who answered for the virtual IPs.
    pub(crate) fn vips_probed(&mut self, answer: VipAnswer) {
        let stale = core::mem::take(&mut self.roles.probe_stale);
        let limit = self.watch.threshold() + CLAIM_LIMIT;
        let heard = self.watch.heard();
        let Some(plan) = &mut self.plan else { return };
        if plan.probing.is_none() {
            return;
        }
        if stale {
            plan.probing = Some(self.clock.own());
            self.push(Action::ProbeVips);
            return;
        }
        plan.probing = None;
        match answer {
            VipAnswer::Nobody => {}
            VipAnswer::Peer { mail: true } => {
                self.note(Note::TakeoverCancelled);
                self.yield_to_peer();
            }
            VipAnswer::Peer { mail: false } => plan.claim_by = heard.map(|heard| heard + limit),
            // Claimed all the same: without a primary there is no service at all, and the contest is repeated in the log.
            VipAnswer::Stranger(mac) => self.note(Note::VipHeldByStranger { mac }),
        }
    }

    /// The peer serves although it is not heard: give up what is held, mark own data outdated so that the peer may go on
    /// alone, and take nothing until it is heard again.
    pub(crate) fn yield_to_peer(&mut self) {
        self.plan = None;
        if self.held.is_none() {
            self.after_yield();
        } else {
            self.give_up(Then::Yield);
        }
    }

    fn after_yield(&mut self) {
        self.roles.yielded = true;
        self.link.outdate();
        self.set_waiting(Some(Stay::PeerServes));
        self.changed = true;
    }

    /// A step has ended.
    pub(crate) fn step_done(&mut self, step: Step, result: Result<(), Fault>) {
        let Some(running) = self.running.filter(|running| running.step == step) else { return };
        self.running = None;
        self.changed = true;
        if let Err(fault) = result {
            self.note(Note::StepFailed { step, fault });
        } else if let Step::StoreEpoch(epoch) = step {
            self.epoch_stored(epoch);
        }
        match step {
            Step::Fence => self.link.cut(),
            Step::Reboot | Step::PowerOff | Step::Reset => {
                if result.is_err() {
                    self.reset();
                }
                return;
            }
            _ => {}
        }
        if !running.of_plan {
            self.replication_done(step, result);
            return;
        }
        let Some(plan) = &self.plan else { return };
        match (plan.purpose, result) {
            (Purpose::Take { reason, .. }, Ok(())) => self.took(step, reason),
            (Purpose::Resume, Ok(())) => {}
            (Purpose::Take { .. } | Purpose::Resume, Err(fault)) => {
                if fault == Fault::Refused {
                    self.held.set(step, false);
                }
                self.give_up(Then::Failed);
            }
            // A step into the role that was still running when it was given up: its undoing follows.
            (Purpose::GiveUp { .. }, _) if !is_undoing(step) => {}
            (Purpose::GiveUp { .. }, Ok(())) => self.held.set(step, false),
            (Purpose::GiveUp { then }, Err(_)) => self.undo_failed(step, then),
        }
    }

    fn took(&mut self, step: Step, reason: Reason) {
        let at = Some(self.clock.shell());
        if let Some(timeline) = &mut self.timeline {
            match step {
                Step::StoreEpoch(_) => timeline.stored = at,
                Step::Fence => timeline.fenced = at,
                Step::Promote | Step::PromoteForced => timeline.promoted = at,
                Step::Mount => timeline.mounted = at,
                Step::StartMail => timeline.services = at,
                Step::ClaimVips => timeline.claimed = at,
                _ => {}
            }
        }
        if matches!(step, Step::Promote | Step::PromoteForced) {
            self.roles.took_at = self.now();
            self.link.promoted();
            self.set_mode(EffectiveMode::Primary, reason);
        }
    }

    fn undo_failed(&mut self, step: Step, then: Then) {
        match then {
            Then::HandOver(_) => {
                self.note(Note::SwitchEnded { done: false });
                let mut plan = Plan::new(Purpose::Resume);
                for step in [Step::Promote, Step::Mount, Step::StartMail, Step::ClaimVips] {
                    plan = plan.then(step);
                }
                self.begin(plan);
            }
            // The machine restarts anyway; whatever can still be given up before it is.
            Then::Leave(_) => self.held.set(step, false),
            // Mail that cannot be stopped keeps the volumes busy: the next steps show it.
            _ if step == Step::StopMail => self.held.set(step, false),
            _ => self.reset(),
        }
    }

    /// What is held cannot be given up: only a reset frees it.
    pub(crate) fn reset(&mut self) {
        self.plan = None;
        self.leave(Step::Reset);
    }

    /// Nothing more is decided; the peer is told at once.
    pub(crate) fn leave(&mut self, step: Step) {
        self.leaving = Some(step);
        self.handing = None;
        self.requesting = None;
        self.push(Action::HeartbeatNow);
        self.run(step, false);
    }

    fn plan_done(&mut self) {
        let Some(plan) = self.plan.take() else { return };
        self.changed = true;
        match plan.purpose {
            Purpose::Take { reason, .. } => self.role_taken(reason),
            Purpose::Resume => {}
            Purpose::GiveUp { then } => self.given_up(then),
        }
    }

    fn role_taken(&mut self, reason: Reason) {
        self.roles.taken();
        if reason == Reason::HandedOver && self.requesting.take().is_some() {
            self.note(Note::SwitchEnded { done: true });
        }
    }

    fn given_up(&mut self, then: Then) {
        let was_primary = self.effective == EffectiveMode::Primary;
        match then {
            Then::Follow(reason) => self.set_mode(EffectiveMode::Secondary, reason),
            Then::Yield => {
                if was_primary {
                    self.set_mode(EffectiveMode::Secondary, Reason::GaveWay);
                }
                self.after_yield();
            }
            Then::HandOver(after) => {
                self.set_mode(EffectiveMode::Secondary, Reason::Switch);
                self.hand_over(after);
            }
            Then::StepDown => self.stepped_down(),
            Then::Failed => {
                if was_primary {
                    self.set_mode(EffectiveMode::Secondary, Reason::OwnFailure);
                }
                self.roles.failed(self.clock.own(), RETRY, RETRY_DOUBLINGS);
                self.hand_back();
            }
            Then::Leave(step) => {
                if was_primary {
                    self.set_mode(EffectiveMode::Secondary, Reason::Operator);
                }
                self.leave(step);
            }
        }
    }
}
