//! A queue manager that stands still: SMTP answers `250 queued`, but nothing leaves (`spec/mail.md`, "Health checks that mean
//! something"). The age is counted from when a message was first seen, by the monotonic clock: the times of the files are
//! worthless when the wall clock jumps. Reads no folders.

use core::time::Duration;
use twinpost_types::Instant;

/// A complete message in `incoming` is taken within a second or two; slow disks and full processors get their time.
const INCOMING_MAX: Duration = Duration::from_secs(60);
/// With only `active` filled, nothing may end for as long as Postfix waits for a next hop's last answer (600 s), and some.
const ACTIVE_MAX: Duration = Duration::from_secs(900);
/// Postfix takes no more than this many messages into `active` (qmgr_message_active_limit).
const ACTIVE_FULL: u32 = 20_000;
/// Longest queue id that is told apart, bytes; long ids have 15 or so.
const ID_MAX: usize = 32;

/// What was found in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueView<'a> {
    /// A complete message in `incoming`: the one that was asked for if it is still there, else any.
    pub incoming: Option<&'a str>,
    /// Messages in `active`.
    pub active: u32,
    /// Anything that changes whenever a message enters or leaves `active`.
    pub active_mark: u64,
}

/// Remembers since when nothing moves.
#[derive(Clone, Debug, Default)]
pub struct QueueWatch {
    incoming: heapless::String<ID_MAX>,
    incoming_since: Instant,
    mark: u64,
    mark_since: Instant,
}

impl QueueWatch {
    /// The message in `incoming` that is watched; empty for none.
    #[must_use]
    pub fn watched(&self) -> &str {
        &self.incoming
    }

    /// Takes a look at the queue. `Some`: nothing moves, for so long.
    pub fn look(&mut self, now: Instant, view: QueueView<'_>) -> Option<Duration> {
        let id: heapless::String<ID_MAX> = view.incoming.unwrap_or_default().chars().take(ID_MAX).collect();
        if id != self.incoming {
            self.incoming = id;
            self.incoming_since = now;
        }
        if view.active_mark != self.mark || view.active == 0 {
            self.mark = view.active_mark;
            self.mark_since = now;
        }
        // An empty `active` stands still by nature: then only `incoming` tells.
        let incoming = if self.incoming.is_empty() { Duration::ZERO } else { now.since(self.incoming_since) };
        let active = now.since(self.mark_since);
        let moved = if view.active == 0 { incoming } else { incoming.min(active) };
        if moved > INCOMING_MAX && view.active < ACTIVE_FULL {
            return Some(moved);
        }
        (active > ACTIVE_MAX).then_some(active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000)
    }

    fn view(incoming: &str, active: u32, active_mark: u64) -> QueueView<'_> {
        QueueView { incoming: (!incoming.is_empty()).then_some(incoming), active, active_mark }
    }

    #[test]
    fn a_stopped_queue_manager_is_noticed_by_what_it_leaves() {
        let mut watch = QueueWatch::default();
        assert_eq!(watch.look(at(10), view("A", 0, 1)), None);
        assert_eq!(watch.watched(), "A");
        assert_eq!(watch.look(at(69), view("A", 0, 1)), None);
        assert_eq!(watch.look(at(71), view("A", 0, 1)), Some(Duration::from_secs(61)));
        assert_eq!(watch.look(at(72), view("B", 0, 1)), None, "another one: the first was taken");
        assert_eq!(watch.look(at(600), view("", 0, 1)), None, "an empty queue is well");
    }

    #[test]
    fn a_slow_next_hop_is_not_a_stopped_queue_manager() {
        let mut watch = QueueWatch::default();
        for n in 0..100 {
            assert_eq!(watch.look(at(10 * n), view("A", ACTIVE_FULL, n / 30)), None, "full, but it moves");
            assert_eq!(watch.look(at(10 * n), view("A", 5, n / 5)), None, "it moves");
        }
        let mut watch = QueueWatch::default();
        assert_eq!(watch.look(at(0), view("", 5, 1)), None);
        assert_eq!(watch.look(at(800), view("", 5, 1)), None, "the next hop may still answer");
        assert_eq!(watch.look(at(901), view("", 5, 1)), Some(Duration::from_secs(901)));
    }
}
