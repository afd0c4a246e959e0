//! When a check runs and what its runs add up to: `retries` failures in a row make it fail, as many passes in a row clear it; a
//! drive that hangs counts at once. Knows no check and reads no clock. `spec/ha.md` sections 2 and 4.

use core::time::Duration;
use twinpost_types::Instant;

/// Settings of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// From the begin of one run to the begin of the next; a run that takes longer delays the next one.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub limit: Duration,
    /// Failures in a row until the check fails, and passes in a row until it is good again; 0 counts as 1.
    pub retries: u8,
}

/// How one run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Passed.
    Passed,
    /// Failed.
    Failed,
    /// Does not come back: not to be counted, acted upon at once.
    Hung,
}

/// What the runs add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Well, or not yet failed often enough. So at the start.
    #[default]
    Good,
    /// Failed.
    Failed,
    /// Hangs.
    Hung,
}

/// One check's counters.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    rules: Rules,
    state: State,
    failures: u32,
    passes: u32,
    next: Instant,
    begun: Option<Instant>,
}

impl Schedule {
    /// A check that is good and runs for the first time at `first`.
    #[must_use]
    pub fn new(rules: Rules, first: Instant) -> Self {
        Self { rules, state: State::Good, failures: 0, passes: 0, next: first, begun: None }
    }

    /// When a run begins; `None` while one is under way.
    #[must_use]
    pub fn next_run(&self) -> Option<Instant> {
        if self.begun.is_none() { Some(self.next) } else { None }
    }

    /// When the run under way has failed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.begun.map(|begun| begun + self.rules.limit)
    }

    /// A run begins.
    pub fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        self.next = now + self.rules.interval;
    }

    /// A run ended. Tells the new state if it is another one.
    pub fn end(&mut self, now: Instant, run: Run) -> Option<State> {
        self.begun = None;
        self.next = self.next.max(now);
        let before = self.state;
        let retries = u32::from(self.rules.retries).max(1);
        if run == Run::Passed {
            self.failures = 0;
            self.passes = self.passes.saturating_add(1);
            if self.passes >= retries {
                self.state = State::Good;
            }
        } else {
            self.passes = 0;
            self.failures = self.failures.saturating_add(1);
            match run {
                Run::Hung => self.state = State::Hung,
                // A drive that hung and now fails is still not one that was seen well.
                _ if self.failures >= retries && self.state == State::Good => self.state = State::Failed,
                _ => {}
            }
        }
        (self.state != before).then_some(self.state)
    }

    /// Nothing is known any more: the check does not run in the present mode. Runs again at `first`. Tells `Good` if it was not.
    pub fn forget(&mut self, first: Instant) -> Option<State> {
        let was_good = self.state == State::Good;
        *self = Self::new(self.rules, first);
        (!was_good).then_some(State::Good)
    }

    /// What the runs add up to.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Failures in a row, up to now.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Its settings.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { interval: Duration::from_secs(10), limit: Duration::from_secs(3), retries: 3 };

    fn runs(schedule: &mut Schedule, runs: &[Run]) -> heapless::Vec<State, 16> {
        let mut told = heapless::Vec::new();
        for run in runs {
            let at = schedule.next_run().unwrap();
            schedule.begin(at);
            assert_eq!(schedule.next_run(), None);
            assert_eq!(schedule.deadline(), Some(at + RULES.limit));
            told.extend(schedule.end(at + Duration::from_secs(1), *run));
        }
        told
    }

    #[test]
    fn three_failures_in_a_row_fail_and_three_passes_clear() {
        use Run::{Failed as F, Passed as P};
        let mut schedule = Schedule::new(RULES, Instant(0));
        assert_eq!(runs(&mut schedule, &[F, F, P, F, F]), []);
        assert_eq!(schedule.failures(), 2);
        assert_eq!(runs(&mut schedule, &[F]), [State::Failed]);
        assert_eq!(runs(&mut schedule, &[F, P, P, F, P, P]), []);
        assert_eq!(runs(&mut schedule, &[P]), [State::Good]);
    }

    #[test]
    fn a_hung_drive_is_told_at_once() {
        let mut schedule = Schedule::new(RULES, Instant(0));
        assert_eq!(runs(&mut schedule, &[Run::Hung]), [State::Hung]);
        assert_eq!(runs(&mut schedule, &[Run::Failed; 5]), []);
        assert_eq!(runs(&mut schedule, &[Run::Passed; 3]), [State::Good]);
    }

    #[test]
    fn runs_keep_their_rhythm_and_a_long_one_delays() {
        let mut schedule = Schedule::new(RULES, Instant(5));
        schedule.begin(Instant(5));
        schedule.end(Instant(5) + Duration::from_secs(2), Run::Passed);
        assert_eq!(schedule.next_run(), Some(Instant(5) + RULES.interval));
        schedule.begin(Instant(5) + RULES.interval);
        let late = Instant(5) + RULES.interval * 3;
        schedule.end(late, Run::Failed);
        assert_eq!(schedule.next_run(), Some(late));
    }

    #[test]
    fn what_is_forgotten_was_good() {
        let mut schedule = Schedule::new(Rules { retries: 0, ..RULES }, Instant(0));
        assert_eq!(schedule.forget(Instant(9)), None);
        assert_eq!(runs(&mut schedule, &[Run::Failed]), [State::Failed]);
        assert_eq!(schedule.forget(Instant(7)), Some(State::Good));
        assert_eq!((schedule.next_run(), schedule.failures()), (Some(Instant(7)), 0));
    }
}
