//! Keeps the latest status and all events of one unit, by asking over its machine console five times a second, and translates guest
//! times to the bench's clock. Judges nothing.
//!
//! Translation: an answer that was asked for at `t0` and read at `t1` was made in between, so `guest time = (t0 + t1) / 2` is right to
//! half the round trip; the quickest round trip since the guest's clock began (or jumped: boot, freeze) counts.

use crate::clock::Micros;
use crate::console::{Console, ConsoleError};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use twinpost_api::{EventRecord, Status};

/// Time between two questions.
const EVERY: Duration = Duration::from_millis(200);
/// An answer later than this is given up; a busy emulated unit answers within 100 ms.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Every so many status questions the events are asked for too.
const EVENTS_EVERY: u32 = 2;
/// Samples kept, for questions about the last seconds.
const SAMPLES_MAX: usize = 64;
/// Events kept; a unit logs a few hundred in an hour of faults.
const EVENTS_MAX: usize = 100_000;
/// A disagreement above the two round trips and this much means that the guest's clock jumped.
const JUMP: i64 = 100_000;

/// One status and when it was true.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Asked at.
    pub asked: Micros,
    /// Read at.
    pub answered: Micros,
    /// What it said.
    pub status: Status,
}

/// One event on the bench's clock.
#[derive(Clone, Debug)]
pub struct SeenEvent {
    /// The record.
    pub record: EventRecord,
    /// When it happened, if the record is of the boot that was being watched.
    pub at: Option<Micros>,
}

/// What is known of a unit.
#[derive(Debug, Default)]
struct View {
    samples: VecDeque<Sample>,
    events: Vec<SeenEvent>,
    last_seq: u64,
    offset: Option<Offset>,
}

/// Bench time minus guest time, µs, and the round trip it was measured with.
#[derive(Clone, Copy, Debug)]
struct Offset {
    difference: i64,
    round_trip: i64,
}

struct Shared {
    view: Mutex<View>,
    console: Mutex<Console>,
    powered: AtomicBool,
    stop: AtomicBool,
}

/// The watch of one unit. Dropping it ends its thread.
pub struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    /// Watches the unit behind `console`.
    #[must_use]
    pub fn start(console: Console) -> Self {
        let shared = Arc::new(Shared {
            view: Mutex::default(),
            console: Mutex::new(console),
            powered: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let worker = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut round = 0u32;
            while !worker.stop.load(Ordering::Relaxed) {
                if worker.powered.load(Ordering::Relaxed) {
                    worker.look(round);
                    round = round.wrapping_add(1);
                }
                std::thread::sleep(EVERY);
            }
        });
        Self { shared }
    }

    /// Tells whether the unit has power. Without power nothing is known.
    pub fn set_powered(&self, powered: bool) {
        self.shared.powered.store(powered, Ordering::Relaxed);
        let mut view = self.view();
        view.samples.clear();
        view.offset = None;
        drop(view);
        self.shared.console().hang_up();
    }

    /// The latest status that was asked for after `since`.
    #[must_use]
    pub fn status(&self, since: Micros) -> Option<Status> {
        self.view().samples.back().filter(|sample| sample.asked >= since).map(|sample| sample.status.clone())
    }

    /// The last samples, oldest first.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.view().samples.iter().cloned().collect()
    }

    /// Number of the last event seen.
    #[must_use]
    pub fn last_event(&self) -> u64 {
        self.view().last_seq
    }

    /// Events with a number above `after`.
    #[must_use]
    pub fn events(&self, after: u64) -> Vec<SeenEvent> {
        self.view().events.iter().filter(|event| event.record.seq > after).cloned().collect()
    }

    /// The first event of this name with a number above `after`.
    #[must_use]
    pub fn event(&self, after: u64, name: &str) -> Option<SeenEvent> {
        let view = self.view();
        view.events.iter().find(|event| event.record.seq > after && event.record.name == name).cloned()
    }

    /// A guest time on the bench's clock; `None` while nothing is known of the guest's clock.
    #[must_use]
    pub fn on_bench(&self, guest_us: u64) -> Option<Micros> {
        self.view().translate(guest_us)
    }

    /// The quickest answer to a question so far.
    #[must_use]
    pub fn quickest_answer(&self) -> Option<Duration> {
        let offset = self.view().offset?;
        u64::try_from(offset.round_trip).ok().map(Duration::from_micros)
    }

    /// The last lines that the services of the unit printed.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub fn service_log(&self, limit: Duration) -> Result<Vec<String>, ConsoleError> {
        self.shared.console().log(limit)
    }

    /// An operator's command.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub fn command(&self, command: &str, limit: Duration) -> Result<String, ConsoleError> {
        self.shared.console().command(command, limit)
    }

    /// Asks for the events at once, so that a report is complete.
    pub fn refresh(&self) {
        self.shared.look(0);
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.shared.view()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn console(&self) -> MutexGuard<'_, Console> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One round of questions. Failures are the unit's state, not the bench's: what is old shows in the sample's time.
    fn look(&self, round: u32) {
        let asked = Micros::now();
        let status = self.console().status(ANSWER_WITHIN);
        if let Ok(status) = status {
            self.view().take(Sample { asked, answered: Micros::now(), status });
        }
        if round.is_multiple_of(EVENTS_EVERY) {
            let after = self.view().last_seq;
            let events = self.console().events(after, ANSWER_WITHIN);
            self.view().note(events.unwrap_or_default());
        }
    }
}

impl View {
    fn take(&mut self, sample: Sample) {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let round_trip = signed(sample.answered.0 - sample.asked.0);
        let difference = signed(sample.asked.0) + round_trip / 2 - signed(sample.status.now_us);
        let better = match self.offset {
            None => true,
            Some(best) => {
                let apart = (difference - best.difference).abs();
                round_trip < best.round_trip || apart > round_trip + best.round_trip + JUMP
            }
        };
        if better {
            self.offset = Some(Offset { difference, round_trip });
        }
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    fn note(&mut self, events: Vec<EventRecord>) {
        for record in events {
            if record.seq <= self.last_seq || self.events.len() >= EVENTS_MAX {
                continue;
            }
            self.last_seq = record.seq;
            let at = self.translate(record.at_us);
            self.events.push(SeenEvent { record, at });
        }
    }

    fn translate(&self, guest_us: u64) -> Option<Micros> {
        let bench = self.offset?.difference.checked_add(i64::try_from(guest_us).ok()?)?;
        u64::try_from(bench).ok().map(Micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(asked: u64, answered: u64, now_us: u64) -> Sample {
        let status = Status { now_us, ..Status::default() };
        Sample { asked: Micros(asked), answered: Micros(answered), status }
    }

    #[test]
    fn the_quickest_round_trip_wins_until_the_guest_clock_jumps() {
        let mut view = View::default();
        view.take(sample(1_000_000, 1_040_000, 500_000));
        assert_eq!(view.translate(500_000), Some(Micros(1_020_000)));
        view.take(sample(2_000_000, 2_002_000, 1_491_000));
        assert_eq!(view.translate(1_491_000), Some(Micros(2_001_000)));
        view.take(sample(3_000_000, 3_090_000, 2_500_000));
        assert_eq!(view.translate(1_491_000), Some(Micros(2_001_000)), "a slower trip changes nothing");
        view.take(sample(9_000_000, 9_010_000, 100_000));
        assert_eq!(view.translate(100_000), Some(Micros(9_005_000)), "a reboot begins anew");
    }
}
