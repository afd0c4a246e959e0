//! The flap latch: counts changes into and out of the role; too many within an hour stop automatic changes until an operator
//! clears it (`max-role-changes`, `spec/ha.md` sections 2 and 4). What safety asks for (giving way) is never latched.

use core::time::Duration;
use twinpost_types::Instant;

/// The span in which changes are counted.
const SPAN: Duration = Duration::from_secs(3600);
/// Largest value of `max-role-changes`.
const CHANGES_MAX: usize = 20;

/// Times of the last role changes.
#[derive(Clone, Debug)]
pub(crate) struct Latch {
    changes: heapless::Deque<Instant, CHANGES_MAX>,
    limit: usize,
    latched: bool,
}

impl Latch {
    pub(crate) fn new(limit: u8) -> Self {
        Self {
            changes: heapless::Deque::new(),
            limit: usize::from(limit).clamp(1, CHANGES_MAX),
            latched: false,
        }
    }

    /// The unit took or left the role.
    pub(crate) fn count(&mut self, now: Instant) {
        if self.changes.is_full() {
            self.changes.pop_front();
        }
        // Room was made above.
        let _ = self.changes.push_back(now);
    }

    /// An automatic change is wanted: is it allowed?
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let recent = self.changes.iter().filter(|at| now.since(**at) < SPAN).count();
        self.latched |= recent >= self.limit;
        !self.latched
    }

    pub(crate) fn is_latched(&self) -> bool {
        self.latched
    }

    /// An operator cleared it.
    pub(crate) fn clear(&mut self) {
        self.changes.clear();
        self.latched = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latches_at_the_limit_and_stays_until_cleared() {
        let mut latch = Latch::new(2);
        let at = |seconds: u64| Instant(seconds * 1_000_000);
        latch.count(at(0));
        assert!(latch.allows(at(1)));
        latch.count(at(2));
        assert!(!latch.allows(at(3)));
        assert!(!latch.allows(at(9_000)), "an hour alone does not clear it");
        latch.clear();
        assert!(latch.allows(at(9_001)));
    }

    #[test]
    fn old_changes_are_forgotten() {
        let mut latch = Latch::new(2);
        latch.count(Instant(0));
        latch.count(Instant(1));
        assert!(latch.allows(Instant(3_700_000_000)));
    }
}
