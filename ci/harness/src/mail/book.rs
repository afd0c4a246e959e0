//! The book of every message: tried, acknowledged, delivered how often and when, and where the power was cut. Pure; the rules are
//! those of the house (scenario files, `expect ledger`).
//!
//! Every attempt has an id of its own. An attempt that was not acknowledged may be delivered or not, both are right; one that was
//! acknowledged must be delivered exactly once. A further delivery is *in flight* instead of *duplicated* when the next hop
//! had answered the first one less than [`IN_FLIGHT_MAX`] before a power cut, kill or freeze: SMTP cannot exclude it. Into local
//! mailboxes it always counts.

use crate::clock::Micros;
use std::time::Duration;

/// How short before a power cut, kill or freeze a delivery must be to excuse a second one (under emulation).
pub const IN_FLIGHT_MAX: Duration = Duration::from_millis(500);
/// Attempts kept at most: a day at 20 a second. More are refused by the load client.
pub const ATTEMPTS_MAX: usize = 2_000_000;
/// Deliveries kept for each message; more are only counted as duplicates already are.
const DELIVERIES_MAX: usize = 16;

/// Number of an attempt.
pub type AttemptId = usize;

/// One attempt to hand over one message.
#[derive(Clone, Debug, Default)]
struct Attempt {
    acknowledged: Option<Micros>,
    mailbox: bool,
    delivered: Vec<Micros>,
}

/// The book.
#[derive(Clone, Debug, Default)]
pub struct Book {
    attempts: Vec<Attempt>,
    cuts: Vec<Micros>,
    strangers: u64,
    stall_max: Duration,
}

/// What the book adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Attempts begun.
    pub tried: u64,
    /// Answered with `250` after the message.
    pub acknowledged: u64,
    /// Messages that arrived at least once.
    pub delivered: u64,
    /// Acknowledged and not delivered (yet).
    pub lost: u64,
    /// Delivered twice without excuse.
    pub duplicated: u64,
    /// Delivered twice, excused by a power cut or kill.
    pub in_flight: u64,
    /// Longest time from the end of a message to its `250`, ms.
    pub stall_ms_max: u64,
}

impl Book {
    /// Opens an attempt; `None` when the book is full.
    pub fn open(&mut self, mailbox: bool) -> Option<AttemptId> {
        if self.attempts.len() >= ATTEMPTS_MAX {
            return None;
        }
        self.attempts.push(Attempt { mailbox, ..Attempt::default() });
        Some(self.attempts.len() - 1)
    }

    /// The `250` after the message was read at `now`; the message had been sent completely at `sent`.
    pub fn acknowledge(&mut self, id: AttemptId, sent: Micros, now: Micros) {
        if let Some(attempt) = self.attempts.get_mut(id) {
            attempt.acknowledged = Some(now);
            self.stall_max = self.stall_max.max(now.since(sent));
        }
    }

    /// The next hop answered `250` at `now`, or the message was found in the mailbox.
    pub fn deliver(&mut self, id: AttemptId, now: Micros) {
        match self.attempts.get_mut(id) {
            Some(attempt) if attempt.delivered.len() < DELIVERIES_MAX => attempt.delivered.push(now),
            Some(_) => {}
            None => self.strangers += 1,
        }
    }

    /// The mailbox was read and holds `copies` of each message; what was known of mailbox deliveries before is replaced.
    pub fn count_mailbox(&mut self, copies: &std::collections::HashMap<AttemptId, usize>, now: Micros) {
        for (id, attempt) in self.attempts.iter_mut().enumerate().filter(|(_, attempt)| attempt.mailbox) {
            let copies = copies.get(&id).copied().unwrap_or(0).min(DELIVERIES_MAX);
            attempt.delivered = vec![now; copies];
        }
    }

    /// Something arrived that no attempt sent.
    pub fn stranger(&mut self) {
        self.strangers += 1;
    }

    /// Messages that arrived and that no attempt sent (bounces, foreign mail).
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// The power of a unit was cut, or one of its services was killed.
    pub fn cut(&mut self, now: Micros) {
        self.cuts.push(now);
    }

    /// True when an attempt went to a mailbox.
    #[must_use]
    pub fn has_mailbox(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.mailbox)
    }

    /// Adds the book up.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let stall_ms_max = u64::try_from(self.stall_max.as_millis()).unwrap_or(u64::MAX);
        let mut sum = Summary { tried: self.attempts.len() as u64, stall_ms_max, ..Summary::default() };
        for attempt in &self.attempts {
            let acknowledged = attempt.acknowledged.is_some();
            sum.acknowledged += u64::from(acknowledged);
            sum.delivered += u64::from(!attempt.delivered.is_empty());
            sum.lost += u64::from(acknowledged && attempt.delivered.is_empty());
            if attempt.delivered.len() > 1 {
                let excused = self.excuses(attempt);
                sum.in_flight += u64::from(excused);
                sum.duplicated += u64::from(!excused);
            }
        }
        sum
    }

    /// Numbers of acknowledged attempts that have not arrived, at most `limit`, for the report of a failure.
    #[must_use]
    pub fn missing(&self, limit: usize) -> Vec<(AttemptId, Micros)> {
        let missing = |(id, attempt): (AttemptId, &Attempt)| {
            attempt.acknowledged.filter(|_| attempt.delivered.is_empty()).map(|at| (id, at))
        };
        self.attempts.iter().enumerate().filter_map(missing).take(limit).collect()
    }

    /// Deliveries of messages that arrived more than once, at most `limit`, for the report of a failure.
    #[must_use]
    pub fn repeated(&self, limit: usize) -> Vec<(AttemptId, Vec<Micros>)> {
        let repeated = |(id, attempt): (AttemptId, &Attempt)| {
            (attempt.delivered.len() > 1).then(|| (id, attempt.delivered.clone()))
        };
        self.attempts.iter().enumerate().filter_map(repeated).take(limit).collect()
    }

    /// Each further delivery must have a cut of its own kind: after the delivery before it, and less than the limit after.
    fn excuses(&self, attempt: &Attempt) -> bool {
        !attempt.mailbox
            && attempt.delivered.windows(2).all(|pair| {
                let (first, second) = (pair[0], pair[1]);
                self.cuts
                    .iter()
                    .any(|cut| first <= *cut && cut.since(first) < IN_FLIGHT_MAX && *cut <= second)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn ms(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    fn with_deliveries(mailbox: bool, cut: u64, deliveries: &[u64]) -> Summary {
        let mut book = Book::default();
        let id = book.open(mailbox).unwrap();
        book.acknowledge(id, ms(0), ms(7));
        book.cut(ms(cut));
        for at in deliveries {
            book.deliver(id, ms(*at));
        }
        book.summary()
    }

    #[test]
    fn acknowledged_and_not_delivered_is_lost() {
        let sum = with_deliveries(false, 1000, &[]);
        assert_eq!((sum.acknowledged, sum.delivered, sum.lost, sum.stall_ms_max), (1, 0, 1, 7));
        let mut book = Book::default();
        book.open(false).unwrap();
        assert_eq!(book.summary().lost, 0, "an unacknowledged attempt cannot be lost");
    }

    #[test]
    fn a_second_delivery_is_excused_only_just_before_a_cut() {
        let sum = with_deliveries(false, 1000, &[501, 3000]);
        assert_eq!((sum.duplicated, sum.in_flight), (0, 1));
        for deliveries in [&[499, 3000][..], &[1001, 3000], &[501, 999], &[501, 3000, 4000]] {
            let sum = with_deliveries(false, 1000, deliveries);
            assert_eq!((sum.duplicated, sum.in_flight), (1, 0), "{deliveries:?}");
        }
        assert_eq!(with_deliveries(true, 1000, &[501, 3000]).duplicated, 1, "mailboxes have no excuse");
    }

    #[test]
    fn counting_a_mailbox_twice_changes_nothing() {
        let mut book = Book::default();
        let id = book.open(true).unwrap();
        book.acknowledge(id, ms(1), ms(2));
        let copies = HashMap::from([(id, 1)]);
        book.count_mailbox(&copies, ms(5));
        book.count_mailbox(&copies, ms(6));
        assert_eq!(
            book.summary(),
            Summary { tried: 1, acknowledged: 1, delivered: 1, stall_ms_max: 1, ..Summary::default() }
        );
    }

    #[test]
    fn strangers_are_counted_apart() {
        let mut book = Book::default();
        book.deliver(4, ms(1));
        assert_eq!((book.strangers(), book.summary().delivered), (1, 0));
    }
}
