//! `reboot-action hold-off`: a PRIMARY that reboots as planned asks its peer to wait, and the peer waits in `HOLD-OFF`
//! (`spec/ha.md` section 4). An orderly switch is the other action and lives in `switch`.

use crate::plan::Then;
use crate::{Ha, Note, Reason, Stay, Step};
use core::time::Duration;
use twinpost_types::{EffectiveMode, Instant, Intent};

/// Longest time in `HOLD-OFF` (`spec/ha.md` section 4).
const HOLD_OFF_MAX: Duration = Duration::from_secs(300);
/// The peer must show `HOLD-OFF` this long after it was asked, or the role is handed over instead.
const CONSENT_LIMIT: Duration = Duration::from_secs(3);

/// This unit is about to reboot and waits for its peer's consent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    step: Step,
    until: Instant,
}

impl Ha {
    /// Asks the peer to wait for this unit.
    pub(crate) fn ask_to_hold(&mut self, step: Step) {
        self.holding = Some(Asking { step, until: self.now() + CONSENT_LIMIT });
        self.changed = true;
    }

    pub(crate) fn settle_hold(&mut self) {
        let Some(asking) = self.holding else { return };
        if self.plan.is_some() || self.leaving.is_some() {
            return;
        }
        let consents = self.living_peer().is_some_and(|peer| peer.effective == EffectiveMode::HoldOff);
        if consents {
            // The intent stays until the unit leaves.
            self.give_up(Then::Leave(asking.step));
        } else if self.is_due(asking.until) {
            self.holding = None;
            let may_switch = self.may_switch().is_ok();
            if may_switch {
                self.begin_switch(Some(asking.step));
            } else {
                self.give_up(Then::Leave(asking.step));
            }
        }
    }

    /// SECONDARY: the primary asks this unit to wait for it.
    pub(crate) fn is_asked_to_hold(&self) -> bool {
        self.is_peer_primary() && self.living_peer().is_some_and(|peer| peer.intent == Intent::HoldOff)
    }

    pub(crate) fn hold_off(&mut self) -> Option<Stay> {
        self.hold_until = self.now() + HOLD_OFF_MAX;
        self.set_mode(EffectiveMode::HoldOff, Reason::PeerReboots);
        self.note(Note::HoldOff(true));
        Some(Stay::HoldOff)
    }

    /// `HOLD-OFF`: until the primary is back, or the time is over.
    pub(crate) fn decide_hold(&mut self) -> Option<Stay> {
        if self.is_asked_to_hold() {
            return Some(Stay::HoldOff);
        }
        let over = self.is_due(self.hold_until);
        if over {
            self.note(Note::HoldOff(false));
        }
        let back = self.is_peer_primary();
        if over || back {
            let reason = if back { Reason::PeerIsPrimary } else { Reason::HoldOffEnded };
            self.set_mode(EffectiveMode::Secondary, reason);
            return None;
        }
        Some(Stay::HoldOff)
    }
}
