//! The replication link: over which heartbeat link, when to connect again, first initialisation of a new pair, outdating own
//! data, and adopting the primary's epoch: everything that is asked of the shell outside of a plan (`spec/ha.md` sections 3,
//! 4 and 8). Diverged data is given up only after every message of it was passed on and confirmed.

use crate::{Fault, Ha, Note, Step, Verdict};
use core::time::Duration;
use twinpost_types::{
    ConfiguredMode, DiskState, EffectiveMode, Epoch, Instant, LinkId, Replication, VolumeReport,
};

/// Pause between tries to connect.
const RETRY: Duration = Duration::from_secs(5);
/// Tries after which StandAlone counts as diverged data.
const TRIES: u8 = 3;
/// Pause between tries after that: the cause is no passing one.
const RETRY_SLOW: Duration = Duration::from_secs(60);

/// Two units that try over the same link meet within this time, or one of them is asked again.
const LOST: Duration = Duration::from_secs(15);

/// The volumes' states may be told a little after a connection was asked for.
const SETTLED: Duration = Duration::from_secs(1);

/// Two views of one copy that differ longer than this do not come from news under way: the worse one counts.
const VIEWS_DIFFER: Duration = Duration::from_secs(3);
/// Pause until replication is connected anew for that, and between tries: a resynchronisation that begins late ends it by itself.
const VIEWS_RENEWED: Duration = Duration::from_secs(10);

/// What is known of the replication link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    wanted: Option<LinkId>,
    /// Connected before this supervisor started; over which link only the peer knows.
    adopted: bool,
    /// Connect must run; at once, without regard to the pause.
    cut: bool,
    /// The last Connect failed.
    failed: bool,
    tries: u8,
    retry_at: Instant,
    retry_slow_at: Instant,
    lost_at: Instant,
    /// What the volumes said before this time may be older than the last Connect.
    settled_at: Instant,
    /// Since when the two units see different states of one copy.
    differ_since: Option<Instant>,
    /// The unit that leads replicates to the own copy as to one that is not good, whatever this unit's disk says.
    disowned: bool,
    /// Replication is to be ended in order and connected anew, not before `renew_at` again.
    renew: bool,
    renew_at: Instant,
    outdate: bool,
    chore_at: Instant,
    epoch_at: Instant,
    /// Replication said that the copies diverged.
    split: bool,
    /// A hand-over was begun since then.
    passing: bool,
    /// All mail of the own copy is confirmed by the PRIMARY.
    passed: bool,
    pass_at: Instant,
}

impl Link {
    /// From this time on the volumes' states are those after the last Connect.
    pub(crate) fn settled_at(&self) -> Instant {
        self.settled_at
    }

    pub(crate) fn wanted(&self) -> Option<LinkId> {
        self.wanted
    }

    /// First look at the volumes: what is connected need not be connected.
    pub(crate) fn adopt(&mut self, connected: bool) {
        self.cut = !connected;
        self.adopted = connected && self.wanted.is_none();
    }

    /// Replication was cut, or should be set up anew.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
    }

    /// Own data shall be marked outdated.
    pub(crate) fn outdate(&mut self) {
        self.outdate = true;
    }

    /// Replication refuses to connect diverged copies. Whatever was passed on before, it may have been another divergence: asking
    /// again costs little, discarding what was not passed costs mail.
    pub(crate) fn split(&mut self) {
        self.split = true;
        self.passed = false;
    }

    /// The own copy is missing writes for all that is known, although the disk calls it good.
    pub(crate) fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// This unit writes from now on: what it accepts is not what it passed on before.
    pub(crate) fn promoted(&mut self) {
        self.disowned = false;
        (self.passing, self.passed, self.pass_at) = (false, false, Instant::default());
    }

    /// The copies are one again, or being made so.
    fn connected(&mut self, now: Instant) {
        self.tries = 0;
        self.lost_at = now + LOST;
        (self.split, self.passing, self.passed) = (false, false, false);
    }

    /// Another boot of the peer: earlier failures say nothing about it.
    pub(crate) fn peer_rebooted(&mut self) {
        self.tries = 0;
    }

    /// Replication does not come up although both units agree on the link.
    pub(crate) fn is_diverged(&self) -> bool {
        self.split || (self.tries >= TRIES && !self.failed)
    }

    fn connecting(&mut self, now: Instant, again: bool) {
        self.cut = false;
        self.tries = self.tries.saturating_add(u8::from(again));
        self.retry_at = now + RETRY;
        self.retry_slow_at = now + if self.tries < TRIES { RETRY } else { RETRY_SLOW };
        self.lost_at = now + LOST;
    }
}

impl Ha {
    pub(crate) fn settle_replication(&mut self) {
        if !self.volumes_known || self.leaving.is_some() {
            return;
        }
        self.choose_link();
        if self.is_connected() {
            let now = self.now();
            if core::mem::take(&mut self.link.passed) {
                self.note(Note::HandedOver);
            }
            self.link.connected(now);
        }
        self.compare_views();
        if self.plan.is_some() || self.running.is_some() {
            return;
        }
        if let Some(step) = self.chore() {
            self.run(step, false);
        }
    }

    /// Connected, nothing is copied, and yet one unit calls a copy good that the other one calls bad: what is written then goes to one copy
    /// only, and nothing would ever change that (seen on busy units after the first initialisation of a pair). The unit that does not lead
    /// does not trust its copy, ends replication in order, which marks the copy as old, and connects anew, which mends it.
    fn compare_views(&mut self) {
        let Some(peer) = self.living_peer().copied() else { return };
        let pairs = || self.volumes.iter().zip(&peer.volumes);
        let settled = |volume: &VolumeReport| volume.replication == Replication::Connected;
        let differ = pairs().any(|(own, other)| {
            settled(own) && settled(other) && (own.local, own.peer) != (other.peer, other.local)
        });
        let agree = !differ && pairs().all(|(own, other)| settled(own) && settled(other));
        let now = self.now();
        if !differ || self.leads() {
            self.link.differ_since = None;
            self.link.disowned &= !agree;
            return;
        }
        let since = *self.link.differ_since.get_or_insert(now);
        if !self.is_due(since + VIEWS_DIFFER) {
            return;
        }
        self.link.disowned = true;
        if self.is_due(self.link.renew_at.max(since + VIEWS_RENEWED)) {
            self.link.renew = true;
            self.link.renew_at = now + VIEWS_RENEWED;
            self.note(Note::ViewsDiffer);
        }
    }

    /// The primary decides, else the configured primary; the other one follows. Never back by itself while the link works.
    fn choose_link(&mut self) {
        let first = LinkId::ALL.into_iter().find(|link| self.settings.links[link.index()]);
        if core::mem::take(&mut self.link.adopted) {
            self.link.wanted = self.living_peer().and_then(|peer| peer.replication_link);
            self.link.adopted = self.link.wanted.is_none() && self.is_connected();
            if self.link.adopted {
                return;
            }
        }
        let Some(wanted) = self.link.wanted.or(first) else { return };
        let mut choice = wanted;
        if self.leads() {
            let is_useless = self.watch.is_dead(wanted, self.now()) || !self.is_connected();
            if self.watch.up_since(wanted).is_none() && is_useless {
                let other = LinkId::ALL.into_iter().find(|link| *link != wanted);
                let up = other.and_then(|link| Some((link, self.watch.up_since(link)?)));
                if let Some((link, up)) = up
                    && self.watch.outlived(wanted, link)
                    && self.is_due(up + self.settings.interval)
                {
                    choice = link;
                }
            }
        } else if let Some(link) = self.living_peer().and_then(|peer| peer.replication_link)
            && self.settings.links[link.index()]
        {
            choice = link;
        }
        if self.link.wanted.is_some_and(|wanted| wanted != choice) {
            self.note(Note::ReplicationMoved(choice));
            self.link.cut = true;
            self.changed = true;
        }
        self.link.wanted = Some(choice);
    }

    fn leads(&self) -> bool {
        if self.effective == EffectiveMode::Primary {
            return true;
        }
        let Some(peer) = self.living_peer() else { return false };
        if peer.effective == EffectiveMode::Primary {
            return false;
        }
        let own = self.settings.mode == ConfiguredMode::Primary;
        let other = peer.configured == ConfiguredMode::Primary;
        if own == other { self.peer.is_some_and(|(from, _)| self.settings.unit < from) } else { own }
    }

    /// The next step that no plan asks for.
    fn chore(&mut self) -> Option<Step> {
        let now = self.now();
        if self.link.outdate {
            let needed = self.volumes.iter().any(|volume| {
                matches!(volume.local, DiskState::UpToDate | DiskState::Consistent)
                    && !volume.replication.is_connected()
            });
            if !needed || self.effective == EffectiveMode::Primary || !self.held.is_none() {
                self.link.outdate = false;
            } else if self.is_due(self.link.chore_at) {
                self.link.chore_at = now + RETRY;
                return Some(Step::Outdate);
            }
        }
        if let Some(epoch) = self.newer_epoch()
            && self.is_due(self.link.epoch_at)
        {
            // Not held up by other chores: until it is stored, a restart would forget it.
            self.link.epoch_at = now + RETRY;
            return Some(Step::StoreEpoch(epoch));
        }
        if self.may_reclaim() && self.is_due(self.link.chore_at) {
            self.link.chore_at = now + RETRY;
            // From now on giving up releases them again.
            self.held.set(Step::ClaimVips, true);
            return Some(Step::ClaimVips);
        }
        if core::mem::take(&mut self.link.renew) && self.held.is_none() {
            return Some(Step::Disconnect);
        }
        if self.must_pass_mail() {
            return self.pass_mail();
        }
        if self.is_new_pair() && self.is_due(self.link.chore_at) {
            self.link.chore_at = now + RETRY;
            return Some(Step::Initialise);
        }
        self.connect()
    }

    /// A standby keeps the primary's epoch, so that after a reboot its own is not lower.
    fn newer_epoch(&self) -> Option<Epoch> {
        let follows = self.effective != EffectiveMode::Primary && self.is_peer_primary();
        Some(self.peer_epoch()).filter(|epoch| follows && *epoch > self.epoch)
    }

    /// A unit that stalled has old news of its peer: two intervals bring fresh ones before the addresses may be claimed again.
    pub(crate) fn lease_lost(&mut self) {
        if self.held.vips {
            // A claim may be under way just now, and end after this.
            self.roles.lease_lost = true;
            self.held.set(Step::ReleaseVips, false);
            self.link.chore_at = self.now() + self.settings.interval * 2;
            // What waited in the sockets meanwhile is read now, and is as old.
            self.roles.news_from = Some(self.now() + self.settings.interval);
            self.changed = true;
        }
    }

    /// PRIMARY without its virtual IPs, and no sign that the peer has them or is about to. A peer that is PRIMARY too and has to give way may not
    /// hear this unit: the contest about the addresses tells it.
    fn may_reclaim(&self) -> bool {
        self.effective == EffectiveMode::Primary
            && self.settings.vips > 0
            && !self.held.vips
            && self.handing.is_none()
            && (!self.is_peer_primary() || self.stays())
            && match self.watch.verdict() {
                Verdict::Silent => false,
                // What it said before this unit stalled is old news: it may have taken over since.
                Verdict::Alive => self.watch.heard() >= self.roles.news_from,
                // It may have taken over in that silence: what is frozen here is its to serve.
                Verdict::Unresponsive => {
                    !self.fence.is_open() && !self.volumes.iter().any(|volume| volume.suspended)
                }
                _ => true,
            }
    }

    /// Both copies of a volume are empty, both units say that they are connected, and it is this unit that begins. The other volume may be
    /// equal already: power may have gone between the two. A unit whose kernel has only just connected tells its first state once more; it
    /// would undo here what is declared before that arrives, so its own word is waited for.
    fn is_new_pair(&self) -> bool {
        let Some(peer) = self.living_peer() else { return false };
        let fresh = |volume: &VolumeReport| volume.fresh && volume.local == DiskState::Inconsistent;
        let equal = |volume: &VolumeReport| volume.local == DiskState::UpToDate;
        let both = |own: &VolumeReport, other: &VolumeReport| {
            (own.replication, other.replication) == (Replication::Connected, Replication::Connected)
                && (fresh(own) && fresh(other) || equal(own) && equal(other))
        };
        self.settings.mode == ConfiguredMode::Primary
            && self.leads()
            && self.volumes.iter().any(fresh)
            && self.volumes.iter().zip(&peer.volumes).all(|(own, other)| both(own, other))
    }

    /// The own copy diverged from the one of a living PRIMARY: what only this unit holds is passed on before it is given up.
    pub(crate) fn must_pass_mail(&self) -> bool {
        self.link.is_diverged()
            && !self.is_connected()
            && self.effective != EffectiveMode::Primary
            && self.held.is_none()
            && self.is_peer_primary()
    }

    fn pass_mail(&mut self) -> Option<Step> {
        let link = self.link.wanted?;
        if !self.is_due(self.link.pass_at) {
            return None;
        }
        if self.link.passed {
            // Both must be connecting; the other one follows within its own pause.
            self.link.pass_at = self.now() + LOST;
            return Some(Step::ConnectDiscarding(link));
        }
        if !core::mem::replace(&mut self.link.passing, true) {
            self.note(Note::HandingOver);
        }
        Some(Step::PassMail)
    }

    fn connect(&mut self) -> Option<Step> {
        let link = self.link.wanted?;
        let agreed = self.living_peer().is_some_and(|peer| peer.replication_link == Some(link));
        // A peer that waits for this side has settled what kept the two apart.
        let invited = self.living_peer().is_some_and(|peer| {
            peer.volumes.iter().any(|volume| volume.replication == Replication::Connecting)
        });
        let retry_at =
            if invited { self.link.retry_at } else { self.link.retry_at.max(self.link.retry_slow_at) };
        let is_stopped =
            |volume: &VolumeReport| matches!(volume.replication, Replication::Down | Replication::StandAlone);
        let stopped = agreed && !self.is_connected() && self.volumes.iter().any(is_stopped);
        // What failed, for want of the peer's keys for instance, is tried again for a peer that is there.
        let failed = self.link.failed && self.living_peer().is_some();
        let again = (stopped || failed) && self.is_due(retry_at);
        // Both try and never meet: one of them may try elsewhere. Asking once more costs nothing.
        let lost = agreed && !stopped && !self.is_connected() && self.is_due(self.link.lost_at);
        if !self.link.cut && !again && !lost {
            return None;
        }
        self.link.connecting(self.now(), again);
        Some(Step::Connect(link))
    }

    /// A step outside of a plan has ended.
    pub(crate) fn replication_done(&mut self, step: Step, result: Result<(), Fault>) {
        match step {
            Step::Connect(_) => {
                self.link.failed = result.is_err();
                self.link.settled_at = self.now() + SETTLED;
                // Until the volumes' states are told, nothing is known to be wrong.
                self.link.retry_at = self.link.retry_at.max(self.now() + RETRY);
            }
            Step::ClaimVips if matches!(result, Err(Fault::Refused | Fault::Failed)) => {
                self.held.vips = false
            }
            Step::Outdate if result.is_ok() => self.link.outdate = false,
            Step::Disconnect => self.link.cut = true,
            Step::PassMail => {
                self.link.passed = result.is_ok();
                let pause = if matches!(result, Err(Fault::Refused | Fault::Failed | Fault::TimedOut)) {
                    RETRY
                } else {
                    Duration::ZERO
                };
                self.link.pass_at = self.now() + pause;
            }
            Step::StoreEpoch(_) if result.is_ok() => self.link.epoch_at = self.now(),
            _ => {}
        }
    }
}
