//! Announcements of virtual IPs: when (a pure schedule) and with what (ARP request and reply form, unsolicited neighbour
//! advertisement). The claim itself is [`crate::lease`]. `spec/ha.md` section 6; RFC 5227 section 2.3; RFC 4861 section 7.2.6.

use crate::Port;
use crate::raw::RawSocket;
use core::net::IpAddr;
use core::time::Duration;
use rustix::io::Errno;
use twinpost_types::{Instant, VIPS_MAX};
use twinpost_wire::neighbour::announcements;

/// Times of the first announcements after a claim. Thick at the beginning, so that a switch which drops one frame is told
/// again before a client notices.
const FIRST_MS: [u64; 7] = [0, 50, 200, 1000, 2000, 5000, 10_000];
/// Afterwards, for tables that forget.
const PERIOD_MS: u64 = 60_000;

/// When the next announcement is due. No clock, no IO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnounceSchedule {
    begun: Option<Instant>,
    sent: u64,
}

impl AnnounceSchedule {
    /// Begins from the first announcement, at once; also when it runs already.
    pub fn start(&mut self, now: Instant) {
        *self = Self { begun: Some(now), sent: 0 };
    }

    /// Announces no more.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// When [`due`](Self::due) turns true; `None` while stopped.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.begun.map(|begun| begun + Duration::from_millis(offset_ms(self.sent)))
    }

    /// True once for each announcement. Those missed by a late caller are one.
    pub fn due(&mut self, now: Instant) -> bool {
        let mut due = false;
        // Bounded: a caller that is an hour late has missed 66 announcements.
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.sent += 1;
            due = true;
        }
        due
    }
}

/// Time of announcement `number` after the start.
fn offset_ms(number: u64) -> u64 {
    let first = usize::try_from(number).ok().and_then(|number| FIRST_MS.get(number));
    let last = FIRST_MS[FIRST_MS.len() - 1];
    first.copied().unwrap_or_else(|| {
        let beyond = number - (FIRST_MS.len() as u64 - 1);
        last.saturating_add(beyond.saturating_mul(PERIOD_MS))
    })
}

/// Announces the virtual IPs of one port. Allocates nothing.
#[derive(Clone, Debug)]
pub struct Announcer {
    schedule: AnnounceSchedule,
    mac: [u8; 6],
    vips: heapless::Vec<IpAddr, VIPS_MAX>,
}

impl Announcer {
    /// An announcer that is stopped. Of more than `VIPS_MAX` addresses the first are taken: a group cannot have more.
    #[must_use]
    pub fn new(port: &Port, vips: &[IpAddr]) -> Self {
        let vips = vips.iter().copied().take(VIPS_MAX).collect();
        Self { schedule: AnnounceSchedule::default(), mac: port.mac, vips }
    }

    /// Begins from the first announcement, at once; also when it runs already (`ha` asks for that when a second owner was
    /// seen).
    pub fn start(&mut self, now: Instant) {
        self.schedule.start(now);
    }

    /// Announces no more.
    pub fn stop(&mut self) {
        self.schedule.stop();
    }

    /// When [`send_due`](Self::send_due) has something to send.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.schedule.next_deadline()
    }

    /// Sends the announcement that is due, if any; true when it did.
    ///
    /// # Errors
    ///
    /// The kernel's for the first frame that failed; the others were tried, and the schedule goes on.
    pub fn send_due(&mut self, now: Instant, socket: &RawSocket) -> Result<bool, Errno> {
        if !self.schedule.due(now) {
            return Ok(false);
        }
        let mut result = Ok(true);
        for vip in &self.vips {
            for frame in announcements(self.mac, *vip) {
                if let Err(errno) = socket.send(frame.bytes()) {
                    result = result.and(Err(errno));
                }
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1000)
    }

    #[test]
    fn announcements_come_when_the_specification_says() {
        let mut schedule = AnnounceSchedule::default();
        assert_eq!(schedule.next_deadline(), None);
        assert!(!schedule.due(ms(5)));
        schedule.start(ms(100));
        let mut times = Vec::new();
        while times.len() < 9 {
            let deadline = schedule.next_deadline().expect("runs");
            assert!(schedule.due(deadline));
            assert!(!schedule.due(deadline), "once each");
            times.push(deadline.0 / 1000 - 100);
        }
        assert_eq!(times, [0, 50, 200, 1000, 2000, 5000, 10_000, 70_000, 130_000]);
    }

    #[test]
    fn a_late_caller_announces_once_and_goes_on() {
        let mut schedule = AnnounceSchedule::default();
        schedule.start(ms(0));
        assert!(schedule.due(ms(3000)));
        assert!(!schedule.due(ms(3000)));
        assert_eq!(schedule.next_deadline(), Some(ms(5000)));
    }

    #[test]
    fn start_begins_again_and_stop_ends() {
        let mut schedule = AnnounceSchedule::default();
        schedule.start(ms(0));
        assert!(schedule.due(ms(20_000)));
        schedule.start(ms(20_001));
        assert_eq!(schedule.next_deadline(), Some(ms(20_001)));
        schedule.stop();
        assert_eq!(schedule.next_deadline(), None);
    }
}
