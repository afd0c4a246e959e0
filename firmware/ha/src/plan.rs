//! Plans and their execution: the steps into the role, one at a time, and what this unit holds meanwhile (`spec/ha.md`
//! section 7). It does not decide when a plan is due; the way out of the role is in `giving`.

use crate::giving::is_undoing;
use crate::{Action, Fault, Ha, Note, Reason, Step, Timeline, Verdict, VipAnswer};
use core::time::Duration;
use heapless::Deque;
use twinpost_types::{EffectiveMode, Epoch, Instant, Intent};

/// Longest plan: remote services, probe, epoch, fence, promote, mount, mail, addresses.
const TASKS_MAX: usize = 8;
/// A step without an answer counts as timed out after this; the shell's own limits are shorter.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// The same for the probe of the virtual IPs (at most 2.3 s).
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// When only silence speaks against a peer whose kernel still answers, the virtual IPs must be claimed this long after the
/// threshold at the latest: a primary that is cut off goes on alone when nobody claimed them by then (`fence`).
pub(crate) const CLAIM_LIMIT: Duration = Duration::from_secs(8);
/// A step before the promotion that takes this long makes the look for the virtual IPs an old one: the peer may have come back meanwhile.
const LOOK_OLD: Duration = Duration::from_secs(5);
/// First pause after a plan failed; doubled each time.
pub(crate) const RETRY: Duration = Duration::from_secs(5);
/// Doublings of this pause: at most 80 s.
pub(crate) const RETRY_DOUBLINGS: u32 = 4;

/// What this unit holds of the role, or may hold: set when a step is asked for, cleared when its undoing succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) promoted: bool,
    pub(crate) mounted: bool,
    pub(crate) mail: bool,
    pub(crate) vips: bool,
    /// The virtual IPs are here for certain: this supervisor claimed them.
    pub(crate) claimed: bool,
}

impl Held {
    /// Whatever the supervisor before this one may have left.
    pub(crate) const ALL: Held =
        Held { promoted: true, mounted: true, mail: true, vips: true, claimed: false };

    pub(crate) fn set(&mut self, step: Step, held: bool) {
        match step {
            Step::Promote | Step::PromoteForced | Step::Demote => self.promoted = held,
            Step::Mount | Step::Unmount => self.mounted = held,
            Step::StartMail | Step::StopMail => self.mail = held,
            Step::ClaimVips | Step::ReleaseVips => (self.vips, self.claimed) = (held, false),
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
    /// Another unit has the role since then, while this one gives it up.
    pub(crate) crowded: Option<Instant>,
    /// The promotion was asked for: from here on only an undoing in reverse leads back.
    promoting: bool,
    /// The dead peer was heard while a step ran.
    void: bool,
    /// When somebody was looked for at the virtual IPs.
    looked: Option<Instant>,
}

impl Plan {
    pub(crate) fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            tasks: Deque::new(),
            asking: None,
            probing: None,
            claim_by: None,
            crowded: None,
            promoting: false,
            void: false,
            looked: None,
        }
    }

    pub(crate) fn then(mut self, step: Step) -> Self {
        // No plan has more than TASKS_MAX tasks: the longest is written in `take`.
        let _ = self.tasks.push_back(Task::Do(step));
        self
    }

    /// The way into the role is past its last look around: nothing of the peer is accepted any more.
    pub(crate) fn is_promoting(&self) -> bool {
        self.promoting
    }

    /// Somebody is being looked for at the virtual IPs, or was.
    pub(crate) fn has_looked(&self) -> bool {
        self.promoting || self.probing.is_some() || self.looked.is_some()
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
        let newest = self.newest_epoch(ground);
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
        if fence && !self.watch.is_proven_just_now(self.now()) && self.settings.vips > 0 {
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

    pub(crate) fn begin(&mut self, plan: Plan) {
        self.plan = Some(plan);
        self.set_waiting(None);
        self.changed = true;
    }

    /// The highest epoch that was used or offered. A peer that was no PRIMARY when it fell silent may have taken the role once since then,
    /// over a replication link that outlived its heartbeats. So may one that was never heard and is not outdated, where this unit still holds
    /// the role or an operator insists.
    fn newest_epoch(&self, ground: Ground) -> Epoch {
        let known = self.epoch.max(self.peer_epoch()).max(self.roles.offered);
        let could_take = self.peer.map_or(!self.is_peer_outdated(), |(_, peer)| {
            peer.effective != EffectiveMode::Primary && peer.intent != Intent::Leaving
        });
        let unsaid = ground == Ground::PeerDead || (ground == Ground::Forced && self.peer.is_none());
        if unsaid && could_take { known.next() } else { known }
    }

    /// Asks for the next step, notices steps that never end, ends plans.
    pub(crate) fn settle_plan(&mut self) {
        self.settle_crowded();
        if let Some(running) = self.running {
            self.settle_running(running);
            return;
        }
        self.settle_abort();
        let now = self.now();
        // Slow steps after the promotion, and a silence since: the peer saw no addresses here, and may have taken over.
        let unresponsive = self.settings.vips > 0 && self.is_verdict(Verdict::Unresponsive);
        let frozen = self.volumes.iter().any(|volume| volume.suspended);
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
        let old = |at: Instant| now.since(at) >= LOOK_OLD;
        let again = match plan.tasks.front() {
            Some(Task::Do(Step::ClaimVips)) => unresponsive && plan.looked.is_none_or(old),
            Some(Task::Do(_)) => !plan.promoting && plan.looked.is_some_and(old),
            _ => false,
        };
        if again {
            // What was done of the plan has left a place free.
            let _ = plan.tasks.push_front(Task::ProbeVips);
        }
        if frozen && plan.tasks.front() == Some(&Task::Do(Step::ClaimVips)) {
            // Replication was cut since the promotion: the peer may serve. Nothing can be served here before the fence question is answered.
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

    /// What became true while a step runs.
    fn settle_running(&mut self, running: Running) {
        if self.is_due(running.since + STEP_LIMIT) {
            self.step_done(running.step, Err(Fault::TimedOut));
        } else if !running.of_plan {
            // A plan that has not begun yet may lose its ground meanwhile.
            self.settle_abort();
        } else if self.is_overtaken() {
            // The step may hang: what is held is given up after it, or by a reset.
            self.give_up(Then::Follow(Reason::PeerIsPrimary));
        } else if self.is_void()
            && let Some(plan) = self.plan.as_mut().filter(|plan| plan.ground() == Some(Ground::PeerDead))
        {
            // It may be silent again when the step ends.
            plan.void = true;
        }
    }

    /// Hands one step to the shell.
    pub(crate) fn run(&mut self, step: Step, of_plan: bool) {
        self.running = Some(Running { step, since: self.now(), of_plan });
        self.push(Action::Run(step));
        self.changed = true;
    }

    /// On the way into the role, with what the supervisor before this one held of it, while another unit has it.
    fn is_overtaken(&self) -> bool {
        let taking = self.plan.as_ref().is_some_and(|plan| plan.ground().is_some() && !plan.promoting);
        taking && !self.held.is_none() && self.is_peer_primary()
    }

    /// A way into the role is given up when its ground is gone: until the promotion begins this costs nothing.
    fn settle_abort(&mut self) {
        let Some(plan) = &self.plan else { return };
        if plan.ground().is_none() {
            return;
        }
        let late = plan.claim_by.is_some_and(|by| self.now() >= by) && !self.held.vips;
        if late {
            self.yield_to_peer();
            return;
        }
        if plan.promoting || !(plan.void || self.is_void()) {
            return;
        }
        if plan.probing.is_some() {
            self.roles.probe_stale = true;
        }
        self.plan = None;
        self.changed = true;
    }

    /// The ground of the way into the role is gone.
    fn is_void(&self) -> bool {
        let Some(plan) = self.plan.as_ref().filter(|plan| !plan.promoting) else { return false };
        let Some(ground) = plan.ground() else { return false };
        // A newer offer asks for a newer epoch: this unit was slow, and the peer had the role again meanwhile.
        let epoch = self.timeline.map_or(Epoch::default(), |timeline| timeline.epoch);
        let handed = matches!(
            self.living_peer().map(|peer| peer.intent),
            Some(Intent::HandOver(offered)) if offered <= epoch
        );
        match ground {
            // Also when it says that it leaves: until it has given everything up it may still write.
            Ground::PeerDead => self.is_verdict(Verdict::Alive) && !self.watch.has_left(),
            Ground::Connected => self.is_peer_primary() || !self.is_connected(),
            Ground::HandedOver => !handed || !self.is_connected(),
            Ground::PeerUnable | Ground::Forced | Ground::Resumed => self.is_peer_primary(),
        }
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
        plan.looked = Some(self.clock.own());
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
            Step::ClaimVips => self.held.claimed = self.held.vips && result.is_ok(),
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
            (Purpose::GiveUp { then }, Err(fault)) if step == Step::DrainMail => self.undrained(then, fault),
            (Purpose::GiveUp { then }, Ok(())) if step == Step::DrainMail => self.drained(then),
            // A step into the role that was still running when it was given up: its undoing follows.
            (Purpose::GiveUp { .. }, _) if !is_undoing(step) => {}
            (Purpose::GiveUp { .. }, Ok(())) => self.undone(step),
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
            self.catch_up();
        }
    }

    /// The promotion took so long that the peer has had the role again meanwhile: this one is newer all the same.
    fn catch_up(&mut self) {
        let newest = self.peer_epoch();
        let (Some(plan), Some(timeline)) = (&mut self.plan, &mut self.timeline) else { return };
        if newest > timeline.epoch {
            timeline.epoch = newest.next();
            // The promotion has left a place free.
            let _ = plan.tasks.push_front(Task::Do(Step::StoreEpoch(timeline.epoch)));
        }
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
}
