//! Own failures: a local check that fails on the PRIMARY, a PRIMARY that is asked to step down because a service of it fails
//! seen from its peer, the way back out of `FAILED`, and remote services as signs of life (`spec/ha.md` section 4). It does not run or count checks.

use crate::plan::Then;
use crate::{Action, Check, CheckState, Failure, Ha, Note, ProbeTarget, Reason, Stay, Step};
use core::time::Duration;
use twinpost_types::{ConfiguredMode, EffectiveMode, Instant, Intent, OnFailure};

/// A unit stays `FAILED` this long at least: a failure that only the peer saw has no check here that could clear it.
const FAILED_MIN: Duration = Duration::from_secs(30);

/// A third party that answered this long ago proves that it is not this unit that is cut off.
const THIRD_PARTY_FRESH: Duration = Duration::from_secs(3);
/// Between two questions to it.
const THIRD_PARTY_EVERY: Duration = Duration::from_secs(1);

/// What is known of failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures {
    states: [CheckState; Check::ALL.len()],
    /// A failure that was reported, but nobody could take over.
    kept: Option<Check>,
    /// Back out of `FAILED` not before this time.
    until: Instant,
    /// The third party was last heard.
    third_party: Option<Instant>,
    ask_third_party_at: Instant,
    /// The peer is asked to step down.
    asking: bool,
}

impl Failures {
    pub(crate) fn checked(&mut self, check: Check, state: CheckState) {
        if let Some(entry) = self.states.get_mut(check as usize) {
            *entry = state;
        }
    }

    pub(crate) fn third_party(&mut self, now: Instant) {
        self.third_party = Some(now);
    }

    fn of(&self, check: Check) -> CheckState {
        self.states.get(check as usize).copied().unwrap_or_default()
    }

    fn first(&self, remote: bool) -> Option<(Check, CheckState)> {
        let states = Check::ALL.into_iter().map(|check| (check, self.of(check)));
        states.filter(|(check, _)| check.is_remote() == remote).find(|(_, state)| *state != CheckState::Good)
    }

    /// Checks that only run in the other mode say nothing any more.
    pub(crate) fn mode_changed(&mut self) {
        for check in Check::ALL {
            if check.is_remote() || check == Check::LocalMail {
                self.checked(check, CheckState::Good);
            }
        }
        self.kept = None;
    }
}

impl Ha {
    /// PRIMARY with a failure: hands over, resets, or stays with an alarm.
    pub(crate) fn settle_failure(&mut self) {
        let busy = self.plan.is_some() || self.leaving.is_some() || self.handing.is_some();
        if self.effective != EffectiveMode::Primary || busy {
            return;
        }
        let Some((check, state)) = self.failures.first(false) else {
            self.failures.kept = None;
            let asks = self.living_peer().is_some_and(|peer| peer.intent == Intent::StepDown);
            if asks && self.may_step_down() {
                self.step_down(Failure::AskedByPeer);
            }
            return;
        };
        if !self.may_step_down() {
            if self.failures.kept != Some(check) {
                self.failures.kept = Some(check);
                self.note(Note::FailureKept(check));
            }
        } else if state == CheckState::Hung {
            // Nothing can be stopped or unmounted while its drive does not answer; every try would cost its whole limit.
            self.note(Note::SteppingDown(Failure::Check(check)));
            self.leave(Step::Reset);
        } else {
            self.step_down(Failure::Check(check));
        }
    }

    fn step_down(&mut self, failure: Failure) {
        self.note(Note::SteppingDown(failure));
        self.give_up(Then::StepDown);
    }

    /// A peer that just failed to take the role is not asked again at once.
    fn may_step_down(&mut self) -> bool {
        let took_back = self.reason == Reason::TookBack;
        let rested = !took_back || self.is_due(self.roles.took_at + FAILED_MIN);
        let now = self.now();
        rested && self.can_peer_take() && self.latch.allows(now)
    }

    /// The peer follows, its copies are as new as this unit's, and it is well itself. The own copies may be lost.
    fn can_peer_take(&self) -> bool {
        let well = |health: twinpost_types::Health| health.service_port && health.storage;
        !self.fence.is_open()
            && self.is_peer_current()
            && self
                .living_peer()
                .is_some_and(|peer| peer.effective == EffectiveMode::Secondary && well(peer.health))
    }

    /// Everything was given up: `FAILED`, and the peer's turn.
    pub(crate) fn stepped_down(&mut self) {
        self.failures.until = self.now() + FAILED_MIN;
        self.set_mode(EffectiveMode::Failed, Reason::OwnFailure);
        self.roles.lost_by_failure(self.settings.mode == ConfiguredMode::Primary, self.settings.on_failure);
        self.hand_over(None);
    }

    /// The peer has taken over after this unit stepped down: `on-failure` says what this one does.
    pub(crate) fn replaced(&mut self) {
        if self.effective == EffectiveMode::Failed && self.settings.on_failure == OnFailure::Off {
            self.roles.stop();
            self.set_mode(EffectiveMode::Off, Reason::OwnFailure);
        }
    }

    /// Why a `FAILED` unit does not follow its peer yet.
    pub(crate) fn failed_stay(&mut self) -> Option<Stay> {
        if self.effective != EffectiveMode::Failed {
            return None;
        }
        let fails = self.failures.first(false).is_some() || !self.is_due(self.failures.until);
        fails.then_some(Stay::CheckFails)
    }

    /// Why a PRIMARY is not well.
    pub(crate) fn primary_stay(&self) -> Option<Stay> {
        if self.postponed.is_some() {
            return Some(Stay::SwitchWaits);
        }
        self.failures.kept.map(|_| if self.latch.is_latched() { Stay::Latched } else { Stay::CheckFails })
    }

    /// SECONDARY: a service of the PRIMARY fails its check from here, so it shall step down, unless it is this unit that is cut off.
    pub(crate) fn settle_remote(&mut self) {
        let able = self.effective == EffectiveMode::Secondary
            && self.plan.is_none()
            && self.is_current()
            && self.is_peer_primary();
        let failed = self.failures.first(true).filter(|_| able).map(|(check, _)| check);
        let asks = failed.is_some() && self.is_not_cut_off();
        if let Some(check) = failed.filter(|_| asks && !self.failures.asking) {
            self.note(Note::AskingToStepDown(check));
        }
        self.failures.asking = asks;
    }

    fn is_not_cut_off(&mut self) -> bool {
        if !self.watch.has_service_carrier() {
            return false;
        }
        if !self.settings.third_party {
            return true;
        }
        let now = self.now();
        if self.is_due(self.failures.ask_third_party_at) {
            self.failures.ask_third_party_at = now + THIRD_PARTY_EVERY;
            self.wake_at(now + THIRD_PARTY_EVERY);
            self.push(Action::Probe(ProbeTarget::ThirdParty));
        }
        self.failures.third_party.is_some_and(|heard| now.since(heard) <= THIRD_PARTY_FRESH)
    }

    /// Whether a service of the silent peer answers. It lives then, and only the heartbeat links are broken.
    pub(crate) fn remote_answered(&mut self, answered: bool) {
        let Some(plan) = &mut self.plan else { return };
        if plan.asking.take().is_none() {
            return;
        }
        self.changed = true;
        if answered {
            self.note(Note::HeartbeatLostPeerServes);
            self.yield_to_peer();
        }
    }

    pub(crate) fn wants_step_down(&self) -> bool {
        self.failures.asking
    }
}
