//! When the watchdog is petted: only while the supervisor proves that it is alive. Pure.

use core::time::Duration;

/// Countdown while booting: making file systems may take a while.
pub const TIMEOUT_BOOT: Duration = Duration::from_secs(30);
/// Countdown once services run. Together with `PROOF` it is shorter than the default `hb-lost-threshold` (15 s): a box whose supervisor
/// stalls resets before its peer may take over.
pub const TIMEOUT: Duration = Duration::from_secs(8);
/// Between two pets; a third of the countdown, so that one late wake-up costs nothing.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// How long a proof of life holds; the supervisor sends one at least every 2 s.
const PROOF: Duration = Duration::from_secs(4);
/// Time that the supervisor has for its first proof after services were started.
const GRACE: Duration = Duration::from_secs(120);

/// The petting policy.
#[derive(Clone, Copy, Debug)]
pub struct Petting {
    started: Duration,
    proof: Option<Duration>,
    last_pet: Option<Duration>,
    until: Option<Duration>,
}

impl Petting {
    /// Services were started at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { started: now, proof: None, last_pet: None, until: None }
    }

    /// The supervisor proved that it is alive. True the first time.
    pub fn alive(&mut self, now: Duration) -> bool {
        self.proof.replace(now).is_none()
    }

    /// From now on proofs do not count: an orderly shutdown runs, which must end before `until`.
    pub fn shutting_down(&mut self, until: Duration) {
        self.until = Some(until);
    }

    /// Whether the watchdog may be petted now.
    #[must_use]
    pub fn trusted(&self, now: Duration) -> bool {
        match (self.until, self.proof) {
            (Some(until), _) => now < until,
            (None, Some(proof)) => now.saturating_sub(proof) <= PROOF,
            (None, None) => now.saturating_sub(self.started) < GRACE,
        }
    }

    /// Whether to pet now; counts as done.
    pub fn due(&mut self, now: Duration) -> bool {
        let due = self.trusted(now) && self.last_pet.is_none_or(|last| now.saturating_sub(last) >= INTERVAL);
        if due {
            self.last_pet = Some(now);
        }
        due
    }

    /// When [`due`](Self::due) should be asked again.
    #[must_use]
    pub fn next_deadline(&self, now: Duration) -> Duration {
        self.last_pet.map_or(now, |last| (last + INTERVAL).max(now + Duration::from_millis(100)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    #[test]
    fn grace_then_proofs_only() {
        let mut petting = Petting::new(s(10));
        assert!(petting.due(s(10)));
        assert!(!petting.due(s(11)), "not more often than needed");
        assert!(petting.due(s(129)));
        assert!(!petting.due(s(131)), "grace is over");
        assert!(petting.alive(s(132)));
        assert!(!petting.alive(s(133)));
        assert!(petting.due(s(137)));
        assert!(!petting.due(s(138)), "the proof is too old");
    }

    #[test]
    fn a_stalled_supervisor_is_reset_before_its_peer_may_take_over() {
        // The last pet is at the end of the last proof; the default threshold is 15 s (`spec/ha.md` section 2).
        assert!(PROOF + TIMEOUT < s(15) - s(2));
    }

    #[test]
    fn shutdown_is_petted_until_its_deadline() {
        let mut petting = Petting::new(s(0));
        petting.alive(s(1));
        petting.shutting_down(s(120));
        assert!(petting.due(s(119)));
        assert!(!petting.due(s(121)));
        assert!(petting.next_deadline(s(121)) > s(121));
    }
}
