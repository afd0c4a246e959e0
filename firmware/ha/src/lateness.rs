//! How late the peer's heartbeats lately came. It bounds what may be asked of its kernel: a machine whose heartbeats are tens of
//! milliseconds late does not answer a probe in five. `spec/ha.md` section 5, 2b. It judges nothing.

use core::time::Duration;
use twinpost_types::Instant;

/// The worst of this long, and of as long before it, counts.
const WINDOW: Duration = Duration::from_secs(30);
/// Fewer heartbeats say nothing about the worst one.
const BEATS_MIN: u8 = 32;

/// Worst lateness of the last 30 to 60 seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lateness {
    beats: u8,
    since: Instant,
    worst: Duration,
    before: Duration,
}

impl Lateness {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { beats: 0, since: now, worst: Duration::ZERO, before: Duration::ZERO }
    }

    /// A heartbeat came on a link, so long after the one before it. Those that come early, sent for a reason, are not late.
    pub(crate) fn heard(&mut self, now: Instant, gap: Duration, interval: Duration) {
        if now.since(self.since) >= WINDOW {
            (self.since, self.before, self.worst) = (now, self.worst, Duration::ZERO);
        }
        self.beats = self.beats.saturating_add(1);
        self.worst = self.worst.max(gap.saturating_sub(interval));
    }

    /// `None` until enough heartbeats came.
    pub(crate) fn worst(&self) -> Option<Duration> {
        (self.beats >= BEATS_MIN).then_some(self.worst.max(self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(200);

    fn at(ms: u64) -> Instant {
        Instant(ms * 1000)
    }

    #[test]
    fn a_few_heartbeats_say_nothing() {
        let mut lateness = Lateness::new(at(0));
        for beat in 1..u64::from(BEATS_MIN) {
            lateness.heard(at(beat * 200), INTERVAL, INTERVAL);
        }
        assert_eq!(lateness.worst(), None);
        lateness.heard(at(6400), INTERVAL, INTERVAL);
        assert_eq!(lateness.worst(), Some(Duration::ZERO));
    }

    #[test]
    fn the_worst_is_remembered_for_half_a_minute_at_least_and_a_minute_at_most() {
        let mut lateness = Lateness::new(at(0));
        let late = Duration::from_millis(250);
        for beat in 1..=500_u64 {
            let gap = if beat == 140 { late } else { INTERVAL };
            lateness.heard(at(beat * 200), gap, INTERVAL);
            let since = Duration::from_millis(beat.saturating_sub(140) * 200);
            if beat >= 140 && since < WINDOW {
                assert_eq!(lateness.worst(), Some(Duration::from_millis(50)), "beat {beat}");
            } else if since >= WINDOW * 2 {
                assert_eq!(lateness.worst(), Some(Duration::ZERO), "beat {beat}");
            }
        }
    }
}
