//! Whether a neighbour of a port still answers, from questions and answers with their times. Knows no frames and asks nobody.
//!
//! Two readings with different patience, since both units ask the same neighbour: a unit counts it as lost after ten questions, but tells its peer
//! to be well only while answers come steadily. So when the neighbour itself dies or comes back, there is no moment in which one unit
//! takes it for lost while the other one says that it is well, and no role moves for nothing.

use core::time::Duration;
use twinpost_types::Instant;

/// Between two questions.
pub const ASK_EVERY: Duration = Duration::from_secs(1);
/// Questions in a row without an answer, after which the neighbour is lost. Counted, so that a program that stood still and asked
/// nothing blames nobody.
const LOST: u8 = 10;
/// Silence after which answers are no longer steady: three questions. It reaches the peer, with its health (2 s) and a heartbeat
/// (1 s), long before that peer counts [`LOST`].
const GAP: Duration = Duration::from_secs(3);
/// Answers without such a gap for this long are steady: the peer, which asks every second too, has heard the first one by then.
const STEADY: Duration = Duration::from_secs(5);

/// What is known of one neighbour.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    began: Instant,
    heard: Option<Instant>,
    steady_since: Instant,
    unanswered: u8,
}

impl Reach {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { began: now, heard: None, steady_since: now, unanswered: 0 }
    }

    /// A question was sent, or could not be.
    pub fn asked(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// The neighbour spoke.
    pub fn answered(&mut self, now: Instant) {
        if self.heard.is_none_or(|heard| now.since(heard) > GAP) {
            self.steady_since = now;
        }
        (self.heard, self.unanswered) = (Some(now), 0);
    }

    /// Since the last answer, or since the beginning.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        now.since(self.heard.unwrap_or(self.began))
    }

    /// Ten questions in a row had no answer.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.unanswered >= LOST
    }

    /// Answers come, and have come without a gap for five seconds.
    #[must_use]
    pub fn is_steady(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) <= GAP && now.since(self.steady_since) >= STEADY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(millis * 1000)
    }

    #[test]
    fn a_neighbour_is_lost_after_ten_questions_and_back_at_its_first_answer() {
        let mut reach = Reach::new(at(0));
        reach.answered(at(100));
        for _ in 0..9 {
            reach.asked();
        }
        assert!(!reach.is_lost() && reach.silence(at(9_100)) == Duration::from_secs(9));
        reach.asked();
        assert!(reach.is_lost());
        reach.answered(at(11_000));
        assert!(!reach.is_lost() && !reach.is_steady(at(11_000)));
    }

    #[test]
    fn answers_are_steady_after_five_seconds_and_no_more_after_three_of_silence() {
        let mut reach = Reach::new(at(0));
        assert!(!reach.is_steady(at(60_000)), "never heard");
        for second in 0..5 {
            reach.answered(at(second * 1000));
            assert!(!reach.is_steady(at(second * 1000)));
        }
        reach.answered(at(5_000));
        assert!(reach.is_steady(at(5_000)) && reach.is_steady(at(8_000)) && !reach.is_steady(at(8_001)));
        reach.answered(at(8_100));
        assert!(!reach.is_steady(at(8_100)), "a gap begins anew");
    }

    #[test]
    fn a_program_that_stood_still_blames_nobody() {
        let mut reach = Reach::new(at(0));
        reach.answered(at(1_000));
        assert!(!reach.is_lost() && !reach.is_steady(at(600_000)));
        reach.asked();
        assert!(!reach.is_lost());
    }
}
