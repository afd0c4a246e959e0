//! Two units that both are PRIMARY hear each other: the higher epoch stays, then the configured primary, then the lower unit
//! id (`spec/ha.md` section 4, last row). The other one gives everything up; its data stays until replication decides.

use crate::plan::{Purpose, Then};
use crate::{Action, FenceAnswer, Ha, Note, Reason};
use core::time::Duration;
use twinpost_types::{ConfiguredMode, DiskState, EffectiveMode, Report, VOLUMES, VolumeReport};

/// A contest about the addresses that goes on for so long is not ended by the other one, which would have given way within eight seconds, if it
/// knew that it has to.
const CONTEST_MAX: Duration = Duration::from_secs(12);

impl Ha {
    pub(crate) fn settle_arbitration(&mut self) {
        let giving_up = self.plan.as_ref().is_some_and(|plan| matches!(plan.purpose, Purpose::GiveUp { .. }));
        // A way into the role may wait for writes that are frozen.
        let busy = self.running.is_some() || giving_up || self.leaving.is_some() || self.handing.is_some();
        let overtaken =
            self.volumes.iter().any(|volume| volume.promoted && volume.local == DiskState::Outdated);
        if self.effective == EffectiveMode::Primary && overtaken && !busy && self.living_peer().is_some() {
            // The peer went on alone and is not PRIMARY any more: what is promoted here can never be written again.
            self.give_up(Then::Follow(Reason::GaveWay));
            return;
        }
        let meeting = self.effective == EffectiveMode::Primary && self.is_peer_primary();
        if !meeting {
            let met = core::mem::take(&mut self.arbitrating);
            if met && self.effective == EffectiveMode::Primary && !giving_up {
                // The other one has given way: its claims are still in the neighbours' tables.
                self.push(Action::Announce);
            }
            return;
        }
        if giving_up || self.leaving.is_some() {
            return;
        }
        let stays = self.stays();
        // Asked again as long as both serve: what each knew of the other at first may have been old.
        if core::mem::replace(&mut self.arbitrating, true) && stays {
            return;
        }
        self.changed = true;
        self.note(Note::Arbitrated { stays });
        if stays {
            self.push(Action::Announce);
        } else {
            self.answer_fence(FenceAnswer::PeerPrimary);
            self.give_up(Then::Follow(Reason::GaveWay));
        }
    }

    /// Of this unit and a living peer that both are PRIMARY, this one stays.
    pub(crate) fn stays(&self) -> bool {
        let Some(peer) = self.living_peer() else { return true };
        match (is_frozen(&self.volumes), is_frozen(&peer.volumes)) {
            (true, false) => false,
            (false, true) => true,
            _ => self.outranks(peer),
        }
    }

    /// The order in which two units of one group come first; the same on both sides.
    pub(crate) fn outranks(&self, peer: &Report) -> bool {
        let from = self.peer.map_or(self.settings.unit, |(from, _)| from);
        let own = (
            self.epoch,
            self.settings.mode == ConfiguredMode::Primary,
            core::cmp::Reverse(self.settings.unit),
        );
        own > (peer.epoch, peer.configured == ConfiguredMode::Primary, core::cmp::Reverse(from))
    }

    /// Two owners of the addresses that cannot hear each other: this one gives way when it cannot write, else by an order that knows no
    /// epochs, on which both agree. Before that, who was PRIMARY when the silence began and took the role back in it: a peer that
    /// had its offer would have given way at once, so this one took over from a PRIMARY and waits for it.
    pub(crate) fn loses_contest(&self, lasted: Duration) -> bool {
        if is_frozen(&self.volumes) {
            return lasted >= CONTEST_MAX / 2;
        }
        if self.roles.led && lasted >= CONTEST_MAX / 3 {
            return true;
        }
        let own = (self.settings.mode == ConfiguredMode::Primary, core::cmp::Reverse(self.settings.unit));
        lasted >= CONTEST_MAX
            && self.peer.is_some_and(|(from, peer)| {
                (peer.configured == ConfiguredMode::Primary, core::cmp::Reverse(from)) > own
            })
    }
}

/// What is promoted there cannot be written, and the fence question about it was answered: only a reconnection could thaw it, which a
/// hand-over to it would have to come before. Such a unit never stays while the other one can write.
fn is_frozen(volumes: &[VolumeReport; VOLUMES]) -> bool {
    volumes.iter().any(|volume| volume.suspended || volume.local == DiskState::Outdated)
}
