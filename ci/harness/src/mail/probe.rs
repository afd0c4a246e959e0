//! The outage probe: connects to the virtual IP again and again, each time anew, and waits for a fresh `220`. While the service
//! answers it asks seldom (a greeting costs an emulated unit a good deal); when an answer is late it asks every 50 ms, so that
//! the end of an outage is seen to that resolution.

use super::load::sweep_closing;
use crate::clock::Micros;
use crate::host::{Application, Connection, Net};
use smoltcp::wire::Ipv4Address;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// SMTP.
const PORT: u16 = 25;
/// Time between probes while the service answers.
const CALM_EVERY: Duration = Duration::from_millis(300);
/// Time between probes while it does not.
const ALARMED_EVERY: Duration = Duration::from_millis(50);
/// An answer that takes longer alarms.
const LATE_AFTER: Duration = Duration::from_millis(150);
/// A probe whose connection is not there after this long is given up, before TCP sends its request again: otherwise all probes
/// of an outage would arrive at its end in one burst and bury the unit that just took over.
const CONNECT_WITHIN: Duration = Duration::from_millis(400);
/// A probe that is connected and gets no greeting is given up after this long. Each costs the unit a process: giving up early
/// would only make more of them.
const GREETING_WITHIN: Duration = Duration::from_secs(20);
/// Young probes that may wait for a greeting on an open connection, so that a slow unit is not buried.
const GREETINGS_MAX: usize = 3;
/// A waiting probe is young for this long. An older one may hang on a unit that died: it must not keep new ones back.
const YOUNG: Duration = Duration::from_secs(3);
/// Probes under way at most, the old ones included.
const ATTEMPTS_MAX: usize = 100;

/// Gaps shorter than this are not told one by one.
const GAP_TOLD_FROM: Duration = Duration::from_secs(1);
/// Gaps that are remembered.
const GAPS_MAX: usize = 32;

/// What the probe has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    first: Option<Micros>,
    last: Option<Micros>,
    longest: Duration,
    answers: u64,
    gaps: Vec<(Micros, Duration)>,
}

/// The record shared with the bench.
#[derive(Clone, Default)]
pub struct Outages(Arc<Mutex<Record>>);

impl Outages {
    /// The last greeting.
    #[must_use]
    pub fn last_answer(&self) -> Option<Micros> {
        self.get().last
    }

    /// Greetings received.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.get().answers
    }

    /// Longest time without a greeting since [`Outages::restart`], the one that lasts until `now` included.
    #[must_use]
    pub fn longest(&self, now: Micros) -> Duration {
        let record = self.get();
        let open = record.last.or(record.first).map_or(Duration::ZERO, |last| now.since(last));
        record.longest.max(open)
    }

    /// Forgets what was; the count begins at `now`.
    pub fn restart(&self, now: Micros) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *record = Record { first: Some(now), last: Some(now), ..Record::default() };
    }

    /// Times of a second or more without a greeting, as "1.2 s from 3.4 s", the start counted from `zero`; empty without one.
    #[must_use]
    pub fn gaps(&self, zero: Micros) -> String {
        let gaps = self.get().gaps;
        let words = gaps.iter().map(|(from, length)| {
            format!("{:.1} s from {:.1} s", length.as_secs_f64(), from.since(zero).as_secs_f64())
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn get(&self) -> Record {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A fresh greeting was received.
    pub(super) fn answered(&self, now: Micros) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = record.last {
            let gap = now.since(last);
            record.longest = record.longest.max(gap);
            if gap >= GAP_TOLD_FROM && record.gaps.len() < GAPS_MAX {
                record.gaps.push((last, gap));
            }
        }
        record.first.get_or_insert(now);
        record.last = Some(now);
        record.answers += 1;
    }
}

/// The application.
pub struct Probe {
    target: Ipv4Address,
    outages: Outages,
    attempts: Vec<(Connection, Micros)>,
    closing: Vec<(Connection, Micros)>,
    began: Micros,
    failed: bool,
}

impl Probe {
    /// A probe of `target`.
    #[must_use]
    pub fn new(target: Ipv4Address, outages: Outages) -> Self {
        let began = Micros::default();
        Self { target, outages, attempts: Vec::new(), closing: Vec::new(), began, failed: false }
    }

    fn begin(&mut self, now: Micros, net: &mut Net<'_>) {
        let late = self.attempts.iter().any(|(_, began)| now.since(*began) > LATE_AFTER);
        let every = if late || self.failed { ALARMED_EVERY } else { CALM_EVERY };
        let waits = |(connection, began): &&(Connection, Micros)| {
            connection.is_established(net) && now.since(*began) < YOUNG
        };
        let greetings = self.attempts.iter().filter(waits).count();
        let room = greetings < GREETINGS_MAX && self.attempts.len() < ATTEMPTS_MAX;
        if now.since(self.began) >= every && room {
            self.attempts.push((Connection::connect(net, self.target, PORT), now));
            self.began = now;
        }
    }

    fn read(&mut self, now: Micros, net: &mut Net<'_>) {
        let mut index = 0;
        while index < self.attempts.len() {
            let (connection, began) = &mut self.attempts[index];
            connection.pump(net);
            let greeted = connection.line().is_some_and(|line| line.starts_with(b"220"));
            let limit = if connection.is_established(net) { GREETING_WITHIN } else { CONNECT_WITHIN };
            let over = connection.is_over(net) || now.since(*began) > limit;
            if !greeted && !over {
                index += 1;
                continue;
            }
            self.failed = !greeted;
            let (mut connection, _) = self.attempts.swap_remove(index);
            if greeted {
                self.outages.answered(now);
                connection.say(b"QUIT\r\n");
                connection.pump(net);
            }
            connection.close(net);
            self.closing.push((connection, now));
        }
    }
}

impl Application for Probe {
    fn poll(&mut self, now: Micros, net: &mut Net<'_>) {
        self.read(now, net);
        self.begin(now, net);
        sweep_closing(&mut self.closing, now, net);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_and_an_open_one_too() {
        let outages = Outages::default();
        let ms = |ms: u64| Micros(ms * 1000);
        outages.restart(ms(0));
        for at in [100, 300, 900, 1000] {
            outages.answered(ms(at));
        }
        assert_eq!(outages.longest(ms(1100)), Duration::from_millis(600));
        assert_eq!(outages.longest(ms(2000)), Duration::from_millis(1000));
        assert_eq!(outages.gaps(ms(0)), "", "{:?}", outages.get());
        outages.answered(ms(2300));
        assert_eq!(outages.gaps(ms(500)), "1.3 s from 0.5 s");
    }
}
