//! The decisions' own time. It runs with the clock of the shell, but time in which this unit itself did not run (it overslept
//! its own deadline: a frozen machine, a starved supervisor, a clock that jumps) counts only up to a limit, because silence
//! during it proves nothing about the peer. It reads no clock. `spec/ha.md` section 5; complaints 2, 8 and 10 of the field.

use core::time::Duration;
use twinpost_types::Instant;

/// Shell's time, own time, and the deadline that the shell was last told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    shell: Instant,
    own: Instant,
    due: Option<Instant>,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        Self { shell: now, own: now, due: None }
    }

    /// The shell says that it is `now`; of the time past the last deadline at most `oversleep_max` counts.
    pub(crate) fn advance(&mut self, now: Instant, oversleep_max: Duration) {
        let gap = now.since(self.shell);
        let counted = match self.due {
            Some(due) => gap.min(due.since(self.own).saturating_add(oversleep_max)),
            None => gap,
        };
        self.shell = self.shell.max(now);
        self.own = self.own + counted;
    }

    /// Own time: what every timer compares with.
    pub(crate) fn own(&self) -> Instant {
        self.own
    }

    /// The shell's time: what people are shown.
    pub(crate) fn shell(&self) -> Instant {
        self.shell
    }

    /// Sets the next deadline, in own time.
    pub(crate) fn set_due(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// The next deadline by the shell's clock.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.map(|due| self.shell + due.since(self.own))
    }

    /// An own time by the shell's clock (only for display of the recent past).
    pub(crate) fn to_shell(self, own: Instant) -> Instant {
        let ago = u64::try_from(self.own.since(own).as_micros()).unwrap_or(u64::MAX);
        Instant(self.shell.0.saturating_sub(ago))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_past_the_own_deadline_counts_little() {
        let mut clock = Clock::new(Instant(0));
        clock.set_due(Some(Instant(1_000)));
        clock.advance(Instant(60_000_000), Duration::from_micros(200));
        assert_eq!(clock.own(), Instant(1_200));
        assert_eq!(clock.shell(), Instant(60_000_000));
    }

    #[test]
    fn without_a_deadline_all_time_counts() {
        let mut clock = Clock::new(Instant(0));
        clock.advance(Instant(5_000), Duration::ZERO);
        assert_eq!(clock.own(), Instant(5_000));
    }

    #[test]
    fn a_clock_that_runs_backwards_stands_still() {
        let mut clock = Clock::new(Instant(5_000));
        clock.advance(Instant(1_000), Duration::ZERO);
        assert_eq!((clock.own(), clock.shell()), (Instant(5_000), Instant(5_000)));
    }
}
