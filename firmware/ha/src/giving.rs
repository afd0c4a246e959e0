//! The way out of the role: what is given up in which order, what follows, and when only a reset helps (`spec/ha.md` sections 4
//! and 7). It does not decide when the role is given up; `plan` carries the steps out.

use crate::plan::{Plan, Purpose, RETRY, RETRY_DOUBLINGS, Then};
use crate::{Action, Fault, Ha, Note, Reason, Stay, Step};
use core::time::Duration;
use twinpost_types::EffectiveMode;

/// Another unit has the role: what this one still shows of it must be gone after this time, or a reset makes it so. An orderly stop of mail
/// takes two seconds; the rest is room for a loaded machine. A step that hangs would hold everything up for as long as its own limit.
const CROWDED_MAX: Duration = Duration::from_secs(8);

pub(crate) fn is_undoing(step: Step) -> bool {
    matches!(step, Step::StopMail | Step::ReleaseVips | Step::Unmount | Step::Demote)
}

impl Ha {
    /// Gives up what is held of the role, in reverse.
    pub(crate) fn give_up(&mut self, then: Then) {
        let mut plan = Plan::new(Purpose::GiveUp { then });
        let held = self.held;
        let mut steps = [
            (Step::StopMail, held.mail),
            (Step::ReleaseVips, held.vips || self.roles.lease_lost),
            (Step::Unmount, held.mounted),
            (Step::Demote, held.promoted),
        ];
        // Another one has the addresses already: they go first.
        if matches!(then, Then::Follow(Reason::GaveWay) | Then::Yield) {
            steps.swap(0, 1);
        }
        // What is handed over must know every delivery that was made: a record that waits would be lost with mail services.
        if matches!(then, Then::HandOver(_) | Then::StepDown) && held.mail {
            plan = plan.then(Step::DrainMail);
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

    /// The peer serves although it is not heard: give up what is held, mark own data outdated so that the peer may go on
    /// alone, and take nothing until it is heard again.
    pub(crate) fn yield_to_peer(&mut self) {
        let yields = |plan: &Plan| plan.purpose == Purpose::GiveUp { then: Then::Yield };
        if self.plan.as_ref().is_some_and(yields) {
            return;
        }
        self.plan = None;
        if self.held.is_none() {
            self.after_yield();
        } else {
            self.give_up(Then::Yield);
        }
    }

    fn after_yield(&mut self) {
        self.changed = true;
        if self.living_peer().is_some() {
            // Heard while this unit gave way: whose data is old is no longer a guess, and the peer may have lost the role meanwhile.
            return;
        }
        self.roles.yielded = true;
        self.link.outdate();
        self.set_waiting(Some(Stay::PeerServes));
    }

    /// A step that hangs must not keep mail and addresses here while another unit serves with them.
    pub(crate) fn settle_crowded(&mut self) {
        let shows = self.held.mail || self.held.vips;
        let replaced = self.is_peer_primary();
        let silent = self.living_peer().is_none();
        let now = self.now();
        let Some(plan) = &mut self.plan else { return };
        // What the other one had when it fell silent it still has.
        let still = silent && plan.crowded.is_some();
        let crowded = match plan.purpose {
            Purpose::GiveUp { then } => shows && (replaced || still || then == Then::Yield),
            _ => false,
        };
        plan.crowded = crowded.then(|| plan.crowded.unwrap_or(now));
        if let Some(since) = plan.crowded
            && self.is_due(since + CROWDED_MAX)
        {
            self.reset();
        }
    }

    /// What was delivered cannot be recorded for the other unit now. Nothing was stopped: an orderly switch waits; a failure does so once.
    pub(crate) fn undrained(&mut self, then: Then, fault: Fault) {
        match then {
            Then::HandOver(after) => {
                self.plan = None;
                self.postpone(after);
            }
            Then::StepDown if fault != Fault::Failed && !self.roles.undrained => {
                self.roles.undrained = true;
                self.plan = None;
            }
            _ => {}
        }
    }

    pub(crate) fn undo_failed(&mut self, step: Step, then: Then) {
        match then {
            Then::HandOver(_) => {
                self.note(Note::SwitchEnded { done: false });
                let mut plan = Plan::new(Purpose::Resume);
                for step in [Step::Promote, Step::Mount, Step::StartMail, Step::ClaimVips] {
                    plan = plan.then(step);
                }
                self.begin(plan);
            }
            // The machine restarts anyway; whatever can still be given up before it is. The peer does not wait for addresses to go, so
            // the restart must be quick when they stay.
            Then::Leave(leave) => {
                self.held.set(step, step == Step::StopMail);
                if (step, leave) == (Step::ReleaseVips, Step::Reboot)
                    && let Some(plan) = &mut self.plan
                {
                    plan.purpose = Purpose::GiveUp { then: Then::Leave(Step::Reset) };
                }
            }
            // Mail that cannot be stopped keeps the volumes busy: the next steps show it. Until then it counts as there.
            _ if step == Step::StopMail => {}
            _ => self.reset(),
        }
    }

    /// A step out of the role succeeded.
    pub(crate) fn undone(&mut self, step: Step) {
        self.held.set(step, false);
        match step {
            Step::ReleaseVips => self.roles.lease_lost = false,
            // Nothing of it can be open any more.
            Step::Unmount | Step::Demote => self.held.mail = false,
            _ => {}
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
        self.postponed = None;
        self.push(Action::HeartbeatNow);
        self.run(step, false);
    }

    pub(crate) fn given_up(&mut self, then: Then) {
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
