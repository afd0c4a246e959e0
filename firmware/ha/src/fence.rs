//! Answers to fence questions: may a primary go on, or begin, without its peer (`spec/ha.md` sections 5 and 7,
//! `drbd.conf(5)` handler `fence-peer`)? While a question is open writes stall, so each rule ends it as soon as that is
//! safe, and never before.

use crate::plan::{Ground, Plan};
use crate::{Action, FenceAnswer, Ha, Note, Reason, Verdict};
use core::time::Duration;
use twinpost_types::{DiskState, EffectiveMode, Instant, VOLUMES, VolumeId};

/// A living peer whose replication stays away this long is asked to mark its data outdated; at once while a plan runs, since replication
/// moves to another link only between plans, and the step of this one may wait for the very writes that stall.
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// The volumes' states may be told a little after the question; only what is told later than this counts as connected again.
const SETTLED: Duration = Duration::from_secs(1);
/// A primary whose peer is silent but has a living kernel goes on alone this long after the threshold, if nobody claimed
/// its virtual IPs. Longer than the standby's own limit for claiming them (8 s) plus an announcement.
const GRACE: Duration = Duration::from_secs(10);
/// At most one announcement a second when somebody contests an address.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);

/// Contests further apart are two; each owner announces its addresses every second while it sees the other.
const CONTEST_PAUSE: Duration = Duration::from_secs(5);

/// Open questions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence {
    open: [Option<Instant>; VOLUMES],
    told: Instant,
    outdate: bool,
    announced: Option<Instant>,
    /// First and last time of a contest with the peer that goes on.
    contest: Option<(Instant, Instant)>,
}

impl Fence {
    pub(crate) fn asked(&mut self, now: Instant, volume: VolumeId) {
        self.open[volume.index() % VOLUMES] = Some(now);
    }

    pub(crate) fn volumes_told(&mut self, now: Instant) {
        self.told = now;
    }

    /// Another contest with the peer; how long it has gone on.
    fn contested(&mut self, now: Instant) -> Duration {
        let begun = self.contest.filter(|(_, last)| now.since(*last) < CONTEST_PAUSE).map(|(begun, _)| begun);
        let begun = begun.unwrap_or(now);
        self.contest = Some((begun, now));
        now.since(begun)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.iter().any(Option::is_some)
    }

    /// The peer shall mark its data outdated.
    pub(crate) fn wants_outdate(&self) -> bool {
        self.outdate
    }
}

impl Ha {
    pub(crate) fn settle_fence(&mut self) {
        let Some(asked) = self.fence.open.iter().flatten().max().copied() else {
            self.fence.outdate = false;
            return;
        };
        if let Some(answer) = self.fence_answer(asked) {
            self.answer_fence(answer);
        }
    }

    /// Without HA nobody can know; the question must not hang all the same.
    pub(crate) fn refuse_fence(&mut self) {
        self.answer_fence(FenceAnswer::Undecided);
    }

    pub(crate) fn answer_fence(&mut self, answer: FenceAnswer) {
        if !self.fence.is_open() {
            return;
        }
        self.fence.open = [None; VOLUMES];
        self.fence.outdate = false;
        self.changed = true;
        self.push(Action::AnswerFence(answer));
        self.note(Note::FenceAnswered(answer));
    }

    fn fence_answer(&mut self, asked: Instant) -> Option<FenceAnswer> {
        let primary = self.effective == EffectiveMode::Primary;
        if self.is_peer_primary() && (!primary || self.peer_epoch() > self.epoch) {
            return Some(FenceAnswer::PeerPrimary);
        }
        let plan = self.plan.as_ref();
        match plan.and_then(Plan::ground) {
            Some(Ground::PeerDead | Ground::PeerUnable | Ground::Forced) if !primary => {
                return plan.is_some_and(Plan::is_promoting).then_some(FenceAnswer::PeerDown);
            }
            None if !primary && !self.held.promoted => return Some(FenceAnswer::Undecided),
            // The role was given over a connection that broke before the promotion: the peer that gave it lives, and takes it again.
            Some(Ground::Connected | Ground::HandedOver) if !primary && self.living_peer().is_some() => {
                return Some(FenceAnswer::Undecided);
            }
            _ => {}
        }
        self.ask_to_outdate(asked);
        match self.watch.verdict() {
            Verdict::Gone => Some(FenceAnswer::PeerDown),
            Verdict::Unresponsive => self.alone(),
            Verdict::Alive if self.watch.has_left() => Some(FenceAnswer::PeerDown),
            Verdict::Alive => self.with_living_peer(asked),
            Verdict::Silent | Verdict::Unknown => None,
        }
    }

    /// The peer is unresponsive. Proof that its kernel is silent too is enough at once. A kernel that answers belongs to a
    /// standby that sees this unit serve and cancels its takeover: when it had time to claim the addresses and did not, it
    /// has outdated itself. A unit that is itself cut off, or lost its addresses meanwhile, stays frozen: the other one may be PRIMARY
    /// by now.
    fn alone(&mut self) -> Option<FenceAnswer> {
        let now = self.now();
        if self.watch.is_kernel_silent(now) && self.watch.is_on_network(now) {
            return Some(FenceAnswer::PeerDown);
        }
        let heard = self.watch.heard()?;
        let waited = self.is_due(heard + self.watch.threshold() + GRACE);
        let shown = self.held.claimed || self.settings.vips == 0;
        (waited && shown && self.watch.is_kernel_alive(now)).then_some(FenceAnswer::PeerDown)
    }

    /// The peer lives: replication comes back, or the peer outdates itself.
    fn with_living_peer(&mut self, asked: Instant) -> Option<FenceAnswer> {
        if self.is_connected() {
            let settled = self.is_due(asked + SETTLED) && self.fence.told >= asked + SETTLED / 2;
            return settled.then_some(FenceAnswer::Undecided);
        }
        if !self.is_due(asked + self.settings.interval * 3) {
            return None;
        }
        let peer = self.living_peer()?;
        let unusable = |state| {
            matches!(
                state,
                DiskState::Outdated | DiskState::Inconsistent | DiskState::Diskless | DiskState::Failed
            )
        };
        let open = self.fence.open.iter().zip(&peer.volumes).filter(|(open, _)| open.is_some());
        if open.map(|(_, volume)| volume).all(|volume| unusable(volume.local)) {
            return Some(FenceAnswer::PeerOutdated);
        }
        None
    }

    /// Said even to a silent peer: it may hear this unit although this unit does not hear it.
    fn ask_to_outdate(&mut self, asked: Instant) {
        let patience = if self.plan.is_some() { Duration::ZERO } else { RECONNECT_MAX };
        let wanted = !self.is_connected() && self.is_due(asked + patience);
        if self.fence.outdate != wanted {
            self.fence.outdate = wanted;
            self.changed = true;
        }
    }

    /// Another host claims a virtual IP of this unit. The silent peer that claims it has taken over with a newer epoch, if
    /// this unit was PRIMARY before the silence began.
    pub(crate) fn vip_contested(&mut self, by_peer: bool) {
        if self.effective != EffectiveMode::Primary || !self.held.vips {
            return;
        }
        // So it has when it had handed the role over, and never heard that this unit took it.
        let handed = self.reason == Reason::HandedOver;
        let before = self.watch.heard().is_some_and(|heard| handed || self.roles.took_at <= heard);
        // Unless it was PRIMARY when it fell silent, and has to give way: it has not heard this unit.
        let older = self
            .peer
            .is_some_and(|(_, peer)| peer.effective == EffectiveMode::Primary && self.outranks(&peer));
        if by_peer && before && !older && !self.is_verdict(Verdict::Alive) {
            self.answer_fence(FenceAnswer::PeerPrimary);
            self.yield_to_peer();
            return;
        }
        let now = self.now();
        let lasted = if by_peer { self.fence.contested(now) } else { Duration::ZERO };
        if !self.is_verdict(Verdict::Alive) && self.loses_contest(lasted) {
            self.answer_fence(FenceAnswer::PeerPrimary);
            self.yield_to_peer();
            return;
        }
        if self.fence.announced.is_none_or(|at| now.since(at) >= ANNOUNCE_PAUSE) {
            self.fence.announced = Some(now);
            self.push(Action::Announce);
        }
    }
}
