//! Operator's verbs and the orderly switch, both sides of it: asking, handing over, waiting for the other, taking back
//! (`spec/ha.md` sections 4 and 7).

use crate::plan::{Ground, Purpose, Then};
use crate::{Command, FenceAnswer, Ha, Note, Reason, Stay, Step, Verdict};
use core::time::Duration;
use twinpost_types::{ConfiguredMode, EffectiveMode, Epoch, Instant, Intent, RebootAction};

/// The other one must be PRIMARY this long after the hand-over, or the role is taken again.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(10);
/// The primary must hand over this long after it was asked.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// A switch that waits for replication is given up after this time: as long as the other unit waits for it.
const POSTPONED_MAX: Duration = REQUEST_LIMIT;

/// This unit has handed over and waits for the other to be PRIMARY.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handing {
    pub(crate) epoch: Epoch,
    until: Instant,
    /// Then this unit leaves.
    after: Option<Step>,
}

/// The role is handed over as soon as replication is whole again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Postponed {
    until: Instant,
    /// Then this unit leaves; also when the time is over.
    after: Option<Step>,
}

/// This unit has asked for the role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requesting {
    until: Instant,
}

impl Ha {
    pub(crate) fn operator(&mut self, command: Command) {
        if let Err(why) = self.obey(command) {
            self.note(Note::Refused { command, why });
        }
    }

    fn obey(&mut self, command: Command) -> Result<(), Stay> {
        let switching = self.handing.is_some() || self.postponed.is_some();
        let busy = self.plan.is_some() || switching || self.holding.is_some();
        if !self.started || self.leaving.is_some() || busy {
            return Err(Stay::Busy);
        }
        match command {
            Command::Reboot => return self.depart(Step::Reboot),
            Command::Shutdown => return self.depart(Step::PowerOff),
            _ if !self.is_active() => return Err(Stay::HaOff),
            _ => {}
        }
        match command {
            Command::Failover => self.switch(),
            Command::Restore if self.is_as_configured() => Ok(()),
            Command::Restore => self.switch(),
            Command::Restart => self.restart(),
            _ => self.force_primary(),
        }
    }

    /// Nothing to restore: this unit has its configured role, or the peer is configured for the same one.
    fn is_as_configured(&self) -> bool {
        let own = match self.effective {
            EffectiveMode::Primary => ConfiguredMode::Primary,
            _ => ConfiguredMode::Secondary,
        };
        let other = self.peer.map(|(_, report)| report.configured);
        own == self.settings.mode || other != Some(own)
    }

    fn switch(&mut self) -> Result<(), Stay> {
        match self.effective {
            EffectiveMode::Primary => {
                self.may_switch()?;
                self.begin_switch(None);
                Ok(())
            }
            EffectiveMode::Secondary => self.ask_for_role(),
            _ => Err(Stay::WrongMode),
        }
    }

    /// An orderly switch would neither lose data nor leave no primary.
    pub(crate) fn may_switch(&self) -> Result<(), Stay> {
        if self.plan.is_some() || self.fence.is_open() {
            return Err(Stay::Busy);
        }
        let peer = self.living_peer().ok_or(Stay::NoPeer)?;
        if peer.effective != EffectiveMode::Secondary || !self.is_current() || !self.is_peer_current() {
            return Err(Stay::PeerNotCurrent);
        }
        Ok(())
    }

    /// Hands over, at once or when the link that replication runs over is another one: without its cable it is lost already, although nobody
    /// has noticed.
    pub(crate) fn begin_switch(&mut self, after: Option<Step>) {
        if self.has_replication_cable() {
            self.give_up(Then::HandOver(after));
        } else {
            self.postpone(after);
        }
    }

    fn has_replication_cable(&self) -> bool {
        self.link.wanted().is_none_or(|link| self.watch.has_carrier_on(link))
    }

    /// Mail goes on meanwhile. The time counts from the first postponement.
    pub(crate) fn postpone(&mut self, after: Option<Step>) {
        let until = self.now() + POSTPONED_MAX;
        self.postponed.get_or_insert(Postponed { until, after });
        self.changed = true;
    }

    /// Everything that was delivered is recorded: the switch goes on.
    pub(crate) fn drained(&mut self, then: Then) {
        self.roles.undrained = false;
        if matches!(then, Then::HandOver(_)) {
            self.postponed = None;
        }
    }

    fn settle_postponed(&mut self) {
        let Some(Postponed { until, after }) = self.postponed else { return };
        if self.plan.is_some() || self.handing.is_some() || self.running.is_some() {
            return;
        }
        let primary = self.effective == EffectiveMode::Primary;
        if primary && !self.is_due(until) {
            let settled = self.is_due(self.link.settled_at());
            if settled && self.has_replication_cable() && self.may_switch().is_ok() {
                self.give_up(Then::HandOver(after));
            }
            return;
        }
        self.postponed = None;
        self.changed = true;
        self.note(Note::SwitchEnded { done: false });
        if let Some(step) = after {
            self.give_up(Then::Leave(step));
        }
    }

    fn ask_for_role(&mut self) -> Result<(), Stay> {
        let peer = self.living_peer().ok_or(Stay::NoPeer)?;
        if peer.effective != EffectiveMode::Primary {
            return Err(Stay::WrongMode);
        }
        if self.requesting.is_some() {
            return Err(Stay::Busy);
        }
        if let Some(stay) = self.data_stay() {
            return Err(stay);
        }
        self.requesting = Some(Requesting { until: self.now() + REQUEST_LIMIT });
        self.changed = true;
        Ok(())
    }

    /// on-failure restore-role asks for the role by itself.
    pub(crate) fn request_switch(&mut self) {
        if let Err(why) = self.ask_for_role() {
            self.note(Note::Refused { command: Command::Restore, why });
        }
    }

    fn restart(&mut self) -> Result<(), Stay> {
        self.latch.clear();
        self.link.peer_rebooted();
        if self.effective != EffectiveMode::Primary {
            self.roles.restart();
            self.requesting = None;
            self.looking_since = self.now();
            self.link.adopt(self.is_connected());
            self.set_mode(EffectiveMode::Off, Reason::Operator);
        }
        self.changed = true;
        Ok(())
    }

    fn force_primary(&mut self) -> Result<(), Stay> {
        if self.effective == EffectiveMode::Primary {
            // Frozen and cut off: the operator knows what became of the peer.
            if !self.fence.is_open() {
                return Err(Stay::WrongMode);
            }
            self.answer_fence(FenceAnswer::PeerDown);
            return Ok(());
        }
        if self.is_peer_primary() {
            return Err(Stay::WrongMode);
        }
        match self.data_stay() {
            Some(stay @ (Stay::VolumeMissing | Stay::DataInconsistent | Stay::LookingForPeer)) => Err(stay),
            _ => {
                self.take(Reason::Operator, Ground::Forced, Epoch::default());
                Ok(())
            }
        }
    }

    /// Planned reboot or power-off. Nobody waits for a unit that is switched off.
    fn depart(&mut self, step: Step) -> Result<(), Stay> {
        let may_switch = self.effective == EffectiveMode::Primary && self.may_switch().is_ok();
        match self.settings.reboot_action {
            RebootAction::HoldOff if may_switch && step == Step::Reboot => self.ask_to_hold(step),
            _ if may_switch => self.begin_switch(Some(step)),
            _ => self.give_up(Then::Leave(step)),
        }
        Ok(())
    }

    /// The next epoch to offer to the peer: above everything that was used or offered.
    pub(crate) fn offer(&mut self) -> Epoch {
        let theirs = match self.peer.map(|(_, report)| report.intent) {
            Some(Intent::HandOver(epoch)) => epoch,
            _ => Epoch::default(),
        };
        self.roles.offered = self.epoch.max(self.peer_epoch()).max(theirs).max(self.roles.offered).next();
        self.roles.offered
    }

    pub(crate) fn epoch_stored(&mut self, epoch: Epoch) {
        let purpose = self.plan.as_ref().map(|plan| plan.purpose);
        if matches!(purpose, Some(Purpose::GiveUp { then: Then::HandOver(_) | Then::StepDown })) {
            // Told together with the offer: a standby keeps the epoch of a PRIMARY, and could not use it any more.
            self.roles.durable_offer = epoch;
        } else {
            self.epoch = self.epoch.max(epoch);
            self.beat = true;
        }
    }

    /// Demoted: the other one shall take over.
    pub(crate) fn hand_over(&mut self, after: Option<Step>) {
        self.epoch = self.epoch.max(self.roles.durable_offer);
        let epoch = if self.roles.offered == self.epoch { self.epoch } else { self.offer() };
        self.handing = Some(Handing { epoch, until: self.now() + HAND_OVER_LIMIT, after });
        self.changed = true;
    }

    /// The own way into the role failed: a living peer with the same data may have more luck, once.
    pub(crate) fn hand_back(&mut self) {
        let able = self.living_peer().is_some_and(|peer| peer.effective == EffectiveMode::Secondary);
        if able && self.is_current() && self.is_peer_current() && !self.roles.handed_back {
            self.roles.handed_back = true;
            self.hand_over(None);
        }
    }

    pub(crate) fn settle_switch(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        self.settle_handing();
        self.settle_postponed();
        self.settle_requesting();
        let asks = self.living_peer().is_some_and(|peer| peer.intent == Intent::RequestSwitch);
        let begins = asks && !self.roles.peer_requests && self.effective == EffectiveMode::Primary;
        self.roles.peer_requests = asks;
        if begins {
            self.operator(Command::Failover);
        }
    }

    fn settle_handing(&mut self) {
        let Some(handing) = self.handing else { return };
        if self.is_peer_primary() {
            self.end_handing(true);
            self.replaced();
            if let Some(step) = handing.after {
                self.give_up(Then::Leave(step));
            }
            return;
        }
        let offered = match self.living_peer().map(|peer| peer.intent) {
            Some(Intent::HandOver(epoch)) => Some(epoch).filter(|epoch| *epoch > handing.epoch),
            _ => None,
        };
        if let Some(epoch) = offered {
            self.end_handing(false);
            if self.is_current() && self.is_connected() {
                self.take(Reason::TookBack, Ground::HandedOver, epoch);
            }
        } else if self.is_lost() || self.is_due(handing.until) {
            self.end_handing(false);
        }
    }

    /// The peer cannot take what it is offered. Silence alone does not say so while replication is connected: it may be taking the role.
    fn is_lost(&self) -> bool {
        self.is_verdict(Verdict::Gone) || (self.is_verdict(Verdict::Unresponsive) && !self.is_connected())
    }

    fn end_handing(&mut self, done: bool) {
        self.handing = None;
        self.roles.take_back = !done;
        self.changed = true;
        self.note(Note::SwitchEnded { done });
    }

    fn settle_requesting(&mut self) {
        let Some(requesting) = self.requesting else { return };
        let dead = self.is_peer_dead() || self.is_verdict(Verdict::Unknown);
        let waits = self.plan.is_none();
        if dead || (waits && self.is_due(requesting.until)) {
            self.requesting = None;
            self.changed = true;
            self.note(Note::SwitchEnded { done: false });
        }
    }
}
