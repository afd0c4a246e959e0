//! Two units that both are PRIMARY hear each other: the higher epoch stays, then the configured primary, then the lower unit
//! id (`spec/ha.md` section 4, last row). The other one gives everything up; its data stays until replication decides.

use crate::plan::{Purpose, Then};
use crate::{Action, FenceAnswer, Ha, Note, Reason};
use twinpost_types::{ConfiguredMode, EffectiveMode, Report};

impl Ha {
    pub(crate) fn settle_arbitration(&mut self) {
        let meeting = self.effective == EffectiveMode::Primary && self.is_peer_primary();
        if !meeting {
            if core::mem::take(&mut self.arbitrating) && self.effective == EffectiveMode::Primary {
                // The other one has given way: its claims are still in the neighbours' tables.
                self.push(Action::Announce);
            }
            return;
        }
        let giving_up = self.plan.as_ref().is_some_and(|plan| matches!(plan.purpose, Purpose::GiveUp { .. }));
        if self.arbitrating || giving_up || self.leaving.is_some() {
            return;
        }
        let Some(peer) = self.living_peer().copied() else { return };
        self.arbitrating = true;
        self.changed = true;
        let stays = self.outranks(&peer);
        self.note(Note::Arbitrated { stays });
        if stays {
            self.push(Action::Announce);
        } else {
            self.answer_fence(FenceAnswer::PeerPrimary);
            self.give_up(Then::Follow(Reason::GaveWay));
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
}
