//! Which role this unit takes: boot, the standby's view of a dead peer, two units without a primary
//! (`spec/ha.md` section 4). It begins plans; `plan` carries them out, `switch` and `arbitration` know their own cases.

use crate::plan::{Ground, Plan, Then};
use crate::{Ha, Reason, Stay, Verdict};
use core::time::Duration;
use twinpost_types::{
    ConfiguredMode, DiskState, EffectiveMode, Epoch, Heard, Instant, Intent, OnFailure, Report, VolumeReport,
};

/// Two units without a primary: the preferred one waits this long for the other's plans to show.
const ORPHAN_PREFERRED: Duration = Duration::from_secs(3);
/// And the other one this long: every try of the preferred one has failed by then.
const ORPHAN_OTHER: Duration = Duration::from_secs(30);
/// Both silent, both kernels alive, and none was PRIMARY: the other one goes this much later, and finds the virtual IPs taken.
const SILENT_OTHER: Duration = Duration::from_secs(10);

/// What the rules about roles remember.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// A silent peer serves; nothing is taken until it is heard.
    pub(crate) yielded: bool,
    /// The peer went on without this unit; own data is old until replication is connected again.
    pub(crate) stale: bool,
    /// A probe of the virtual IPs was asked for by a plan that is gone; its answer is not used.
    pub(crate) probe_stale: bool,
    /// When the volumes were last promoted.
    pub(crate) took_at: Instant,
    /// This unit was PRIMARY when it last heard its peer.
    pub(crate) led: bool,
    /// When the role was last given up.
    pub(crate) gave_at: Option<Instant>,
    /// The role was handed over in vain: take it again.
    pub(crate) take_back: bool,
    /// Hand-overs after an own failed plan; one is enough.
    pub(crate) handed_back: bool,
    /// The epoch that the peer was offered last: it may have used it although this unit never heard so.
    pub(crate) offered: Epoch,
    /// An epoch that is stored in order to be offered.
    pub(crate) durable_offer: Epoch,
    /// The addresses vanished once, and may have been claimed again: they are released whatever is known of them.
    pub(crate) lease_lost: bool,
    /// What was heard of the peer before says nothing about who has the addresses since they vanished.
    pub(crate) news_from: Option<Instant>,
    /// A unit that fails could not record what it had delivered, and waited once.
    pub(crate) undrained: bool,
    /// The peer asked for a switch, and was answered.
    pub(crate) peer_requests: bool,
    retry_at: Instant,
    failures: u32,
    orphan_since: Option<Instant>,
    /// on-failure was applied since boot.
    followed: bool,
    /// on-failure is `off`: an operator must restart.
    stopped: bool,
    /// on-failure is `restore-role`: take the role back once the data is current.
    restore: bool,
}

impl Memory {
    /// A heartbeat arrived; true when this ends a time of yielding.
    pub(crate) fn heard(&mut self) -> bool {
        core::mem::take(&mut self.yielded)
    }

    /// A plan into the role failed: the next one waits, longer each time.
    pub(crate) fn failed(&mut self, now: Instant, pause: Duration, doublings: u32) {
        self.retry_at = now + pause * (1 << self.failures.min(doublings));
        self.failures = self.failures.saturating_add(1);
    }

    /// The role was taken.
    pub(crate) fn taken(&mut self) {
        *self = Self {
            took_at: self.took_at,
            led: self.led,
            gave_at: self.gave_at,
            probe_stale: self.probe_stale,
            // The claim may have ended after it.
            lease_lost: self.lease_lost,
            news_from: self.news_from,
            followed: true,
            ..Self::default()
        };
    }

    /// The role was given up for an own failure; `configured` = this unit is the configured primary.
    pub(crate) fn lost_by_failure(&mut self, configured: bool, on_failure: OnFailure) {
        self.followed = true;
        self.restore = configured && on_failure == OnFailure::RestoreRole;
    }

    /// `on-failure off`: nothing more until an operator restarts.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// An operator restarts HA on this unit.
    pub(crate) fn restart(&mut self) {
        *self = Self {
            took_at: self.took_at,
            led: self.led,
            gave_at: self.gave_at,
            probe_stale: self.probe_stale,
            stale: self.stale,
            // The operator's word replaces on-failure: without this, `off` would stop the unit again at once.
            followed: true,
            ..Self::default()
        };
    }
}

impl Ha {
    /// Begins a plan or changes between the modes without the service, and says what is waited for.
    pub(crate) fn settle_roles(&mut self) {
        self.watch_staleness();
        self.watch_orphans();
        if self.plan.is_some() || self.leaving.is_some() || self.handing.is_some() {
            return;
        }
        let waiting = match self.effective {
            EffectiveMode::Off | EffectiveMode::Failed => self.decide_boot(),
            EffectiveMode::Secondary => self.decide_secondary(),
            EffectiveMode::HoldOff => self.decide_hold(),
            EffectiveMode::Primary => self.primary_stay(),
            _ => None,
        };
        if self.plan.is_none() {
            let diverged = self
                .link
                .is_diverged()
                .then(|| if self.must_pass_mail() { Stay::HandingOver } else { Stay::Diverged });
            self.set_waiting(diverged.or(waiting));
        }
    }

    /// Volumes that are promoted before this unit ever began a plan: only the supervisor was restarted. They may be told a
    /// little after the first look.
    pub(crate) fn adopt_volumes(&mut self, first: bool, volumes: &[VolumeReport; twinpost_types::VOLUMES]) {
        let untouched =
            self.timeline.is_none() && self.plan.is_none() && self.effective == EffectiveMode::Off;
        if untouched && volumes.iter().any(|volume| volume.promoted) {
            self.held = crate::plan::Held::ALL;
        }
        if first {
            self.link.adopt(volumes.iter().all(|volume| volume.replication.is_connected()));
        }
    }

    fn decide_boot(&mut self) -> Option<Stay> {
        if self.roles.stopped {
            return Some(Stay::StoppedByFailure);
        }
        if !self.volumes_known {
            return Some(Stay::LookingForPeer);
        }
        let looked = self.is_due(self.looking_since + self.watch.threshold());
        if self.is_peer_primary() {
            return self.join();
        }
        let Some(peer) = self.living_peer().copied() else {
            // A peer that was heard and is proven dead need not be looked for any longer.
            let known_dead = self.watch.heard().is_some() && self.is_peer_dead();
            return if (looked && self.is_peer_dead()) || known_dead {
                self.take_over()
            } else {
                Some(Stay::LookingForPeer)
            };
        };
        if !self.held.is_none() {
            // The peer went on alone meanwhile, and this unit's volumes can never be written again as they are.
            if self.volumes.iter().any(|volume| volume.promoted && volume.local == DiskState::Outdated) {
                self.give_up(Then::Follow(Reason::GaveWay));
                return None;
            }
            // A standby that does not hear this supervisor may be about to take over: without the addresses nothing shows it that the role is held.
            let waited = self.looking_since + self.watch.threshold() + SILENT_OTHER;
            if !self.is_heard() && !self.is_due(waited) {
                return Some(Stay::LookingForPeer);
            }
            self.take(Reason::Boot, Ground::Resumed, Epoch::default());
            return None;
        }
        if self.try_claim(&peer) {
            return None;
        }
        if self.is_connected() && self.is_current() && self.plan.is_none() {
            self.set_mode(EffectiveMode::Secondary, Reason::Boot);
            return None;
        }
        self.data_stay().or(Some(Stay::LookingForPeer))
    }

    /// The peer has heard this supervisor, not only the one before it.
    fn is_heard(&self) -> bool {
        let life = self.now().since(self.looking_since).as_millis();
        let since =
            |heard: &Heard| heard.sequence > 0 && heard.age_ms < u16::MAX && u128::from(heard.age_ms) <= life;
        self.living_peer().is_some_and(|peer| peer.heard.iter().any(since))
    }

    /// The peer is PRIMARY: follow it, as on-failure says.
    fn join(&mut self) -> Option<Stay> {
        if !self.held.is_none() {
            self.give_up(Then::Follow(Reason::PeerIsPrimary));
            return None;
        }
        let lost_role = self.settings.mode == ConfiguredMode::Primary && !self.roles.followed;
        if lost_role && self.settings.on_failure == OnFailure::Off {
            self.roles.followed = true;
            self.roles.stopped = true;
            return Some(Stay::StoppedByFailure);
        }
        if !self.is_connected() {
            return self.data_stay().or(Some(Stay::PeerNotCurrent));
        }
        if let Some(stay) = self.failed_stay() {
            return Some(stay);
        }
        if lost_role {
            self.roles.followed = true;
            self.roles.restore = self.settings.on_failure == OnFailure::RestoreRole;
        }
        if self.roles.restore && !self.is_current() {
            self.set_mode(EffectiveMode::Failed, Reason::PeerIsPrimary);
            return self.data_stay();
        }
        self.set_mode(EffectiveMode::Secondary, Reason::PeerIsPrimary);
        if core::mem::take(&mut self.roles.restore) {
            // A refusal is in the log; the unit stays SECONDARY.
            self.request_switch();
        }
        None
    }

    fn decide_secondary(&mut self) -> Option<Stay> {
        if self.is_peer_dead() {
            return self.take_over();
        }
        let peer = self.living_peer().copied()?;
        if peer.effective == EffectiveMode::Primary {
            return if self.is_asked_to_hold() { self.hold_off() } else { self.data_stay() };
        }
        if let Intent::HandOver(epoch) = peer.intent {
            if epoch > self.epoch && self.is_current() && self.is_connected() {
                self.take(Reason::HandedOver, Ground::HandedOver, epoch);
                return None;
            }
        } else if self.try_claim(&peer) {
            return None;
        }
        self.data_stay()
    }

    /// The peer is dead or unresponsive.
    fn take_over(&mut self) -> Option<Stay> {
        if self.roles.yielded {
            return Some(Stay::PeerServes);
        }
        if let Some(stay) = self.data_stay().or(self.roles.stale.then_some(Stay::DataOutdated)) {
            return Some(stay);
        }
        let now = self.now();
        // Silence may be this unit's own isolation; then the peer goes on alone. Only a unit that boots alone with the newest
        // data cannot be wrong: its peer is known to be outdated.
        let unheard = self.watch.heard().is_none() && self.held.is_none();
        let newest = unheard && self.is_peer_outdated();
        if unheard && !newest {
            // Nobody told this supervisor which epochs the peer has used, and whether it went on alone; connected volumes do not tell.
            return Some(Stay::DataMayBeStale);
        }
        if self.is_verdict(Verdict::Unresponsive) && !newest && !self.watch.is_on_network(now) {
            return Some(Stay::CutOff);
        }
        if !self.is_due(self.roles.retry_at) || self.lets_the_other_go_first() {
            return Some(Stay::Busy);
        }
        let reason = if self.roles.take_back { Reason::TookBack } else { Reason::Takeover };
        if !self.roles.take_back && !self.latch.allows(now) {
            return Some(Stay::Latched);
        }
        self.take(reason, Ground::PeerDead, Epoch::default());
        None
    }

    /// Both heartbeat links broke while none was PRIMARY: both see the other's kernel answer, and would take over at the same time. So they
    /// would when the supervisor of a frozen PRIMARY is new and hears nobody: the other one has lost it as it has lost its peer.
    fn lets_the_other_go_first(&mut self) -> bool {
        let frozen = self.volumes.iter().any(|volume| volume.promoted && volume.suspended);
        if frozen && self.watch.heard().is_none() {
            return !self.is_due(self.looking_since + self.watch.threshold() + SILENT_OTHER);
        }
        let (Some((_, peer)), Some(heard)) = (self.peer, self.watch.heard()) else { return false };
        let could_go = peer.effective != EffectiveMode::Primary && !is_unable(&peer);
        // It has not heard that this unit is PRIMARY no more, and waits for nobody.
        let follows = !self.outranks(&peer) || self.roles.gave_at.is_some_and(|at| at >= heard);
        let lives = self.is_verdict(Verdict::Unresponsive) && self.watch.is_kernel_alive(self.now());
        lives && could_go && follows && !self.is_due(heard + self.watch.threshold() + SILENT_OTHER)
    }

    /// Both live and none is PRIMARY: takes the role if it is this unit's turn.
    fn try_claim(&mut self, peer: &Report) -> bool {
        let (Some(since), true) = (self.roles.orphan_since, self.is_current()) else { return false };
        let now = self.now();
        if !self.is_due(self.roles.retry_at) {
            return false;
        }
        let ground = if self.is_connected() {
            Ground::Connected
        } else if (is_unable(peer) && !self.roles.stale || self.link.is_diverged() && self.outranks(peer))
            && self.is_due(self.looking_since + self.watch.threshold())
        {
            Ground::PeerUnable
        } else {
            return false;
        };
        let take_back = self.roles.take_back;
        let Some(pause) = self.turn(peer, ground) else { return false };
        if !self.is_due(since + pause) || !(take_back || self.latch.allows(now)) {
            return false;
        }
        let reason = if take_back { Reason::TookBack } else { Reason::AsConfigured };
        self.take(reason, ground, Epoch::default());
        true
    }

    /// How long this unit lets the other one go first; `None` = for ever.
    fn turn(&self, peer: &Report, ground: Ground) -> Option<Duration> {
        if self.roles.take_back {
            return Some(Duration::ZERO);
        }
        let own = self.settings.mode == ConfiguredMode::Primary;
        let other = peer.configured == ConfiguredMode::Primary;
        let able = ground == Ground::Connected && self.is_peer_current();
        let first = match (own, other) {
            _ if !able || peer.effective == EffectiveMode::HoldOff => true,
            (false, false) => return None,
            (own, other) if own != other => own,
            _ => self.outranks(peer),
        };
        Some(match (first, own && self.effective == EffectiveMode::Off) {
            (true, true) => Duration::ZERO,
            (true, false) => ORPHAN_PREFERRED,
            (false, _) => ORPHAN_OTHER,
        })
    }

    /// A primary that is heard but not replicated from goes on alone, or asks for leave to do so: own data is old from then
    /// on, whatever the disk says, until replication is connected. So it is when the peer did that unheard, and is PRIMARY no more.
    fn watch_staleness(&mut self) {
        let connected = self.is_connected();
        let follows = self.effective != EffectiveMode::Primary && self.held.is_none();
        let goes_alone = self.is_peer_primary()
            && self.living_peer().is_some_and(|peer| {
                peer.intent == Intent::RequestOutdate || peer.volumes.iter().any(writes_alone)
            });
        // Said just now, be it the peer's last word.
        let told = self.peer.filter(|_| self.watch.heard() == Some(self.now()));
        let says_so =
            |(_, peer): (_, Report)| peer.volumes.iter().any(|volume| volume.peer == DiskState::Outdated);
        let went_alone = !self.is_peer_outdated() && told.is_some_and(says_so);
        if connected {
            self.roles.stale = false;
        } else if follows && goes_alone {
            self.roles.stale = true;
            self.link.outdate();
        } else if follows && went_alone {
            self.roles.stale = true;
        } else if follows && !self.roles.stale && !self.roles.yielded && self.is_too_late() {
            self.roles.stale = true;
            self.plan = None;
            self.changed = true;
        }
    }

    /// A PRIMARY that is silent while its kernel answers goes on alone when nobody claimed its addresses in time (`fence`). A step that hung, a plan
    /// that failed or the latch kept this unit from looking for them until then.
    fn is_too_late(&mut self) -> bool {
        let led = self.peer.is_some_and(|(_, peer)| peer.effective == EffectiveMode::Primary);
        let Some(heard) =
            self.watch.heard().filter(|_| led && !self.plan.as_ref().is_some_and(Plan::has_looked))
        else {
            return false;
        };
        self.is_due(heard + self.watch.threshold() + crate::plan::CLAIM_LIMIT)
            && self.is_verdict(Verdict::Unresponsive)
            && self.watch.is_kernel_alive(self.now())
    }

    /// Turns are counted from when this unit could take one: while its own copy was not current the peer had none either.
    fn watch_orphans(&mut self) {
        let orphaned = self.is_current()
            && self.effective != EffectiveMode::Primary
            && self.living_peer().is_some_and(|peer| {
                peer.effective != EffectiveMode::Primary
                    && peer.volumes.iter().all(|volume| !volume.promoted)
                    && !matches!(peer.intent, Intent::HandOver(_))
            });
        let now = self.now();
        self.roles.orphan_since = orphaned.then(|| self.roles.orphan_since.unwrap_or(now));
    }

    /// The verdict is one on which a primary may be replaced without its word.
    pub(crate) fn is_verdict(&self, verdict: Verdict) -> bool {
        self.watch.verdict() == verdict
    }
}

/// What is written there does not arrive here.
fn writes_alone(volume: &VolumeReport) -> bool {
    volume.promoted && !volume.suspended && !volume.replication.is_connected()
}

/// The peer lives but could not be promoted: one of its volumes is unusable, or it takes no part.
fn is_unable(peer: &Report) -> bool {
    let unusable = |state| {
        matches!(
            state,
            DiskState::Diskless | DiskState::Failed | DiskState::Inconsistent | DiskState::Outdated
        )
    };
    peer.configured == ConfiguredMode::Off || peer.volumes.iter().any(|volume| unusable(volume.local))
}
