//! The orderly end: services in the reverse order of their start, everything else, file systems, then the kernel. All of
//! it within [`TIME_MAX`], after which the end is forced. The order is pure ([`Progress`]).

use crate::console::{now, pause, say};
use crate::mounts;
use crate::service::TABLE;
use core::time::Duration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::system::RebootCommand;
use twinpost_hal::Watchdog;
use twinpost_hal_linux::DeviceWatchdog;

/// Longest orderly end; the deadlines of all services together are shorter.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Time that stray processes have between SIGTERM and SIGKILL.
const STRAY_TIME: Duration = Duration::from_millis(200);
/// Every process but PID 1.
const ALL: Pid = Pid::from_raw(-1);
/// Unmounted in this order.
const VOLUMES: &[&str] = &["/mail/queue", "/mail/data", "/log", "/state"];

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The box starts again.
    Reboot,
    /// The box is off.
    PowerOff,
}

impl Kind {
    /// Word for the console.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "power-off",
        }
    }
}

/// How far the services are.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    until: Duration,
    /// Services below this index are still to be stopped.
    left: usize,
    asked: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this service to stop.
    Stop(usize),
    /// Nothing yet.
    Wait,
    /// All services stopped, or the time is over.
    Finish,
}

impl Progress {
    /// The end begins.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { until: now + TIME_MAX, left: TABLE.len(), asked: false }
    }

    /// When the end is forced.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.until
    }

    /// The next step; `stopped` tells whether a service has no process left.
    pub fn next(&mut self, now: Duration, stopped: impl Fn(usize) -> bool) -> Step {
        while self.left > 0 && now < self.until {
            let index = self.left - 1;
            if !self.asked {
                self.asked = true;
                return Step::Stop(index);
            }
            if !stopped(index) {
                return Step::Wait;
            }
            self.left -= 1;
            self.asked = false;
        }
        Step::Finish
    }
}

/// Ends everything. Does not return unless the kernel refuses.
pub fn finish(kind: Kind, watchdog: Option<&mut DeviceWatchdog>) {
    // Strays that left their group; none should exist.
    let _ = kill(ALL, Signal::SIGTERM);
    pause(STRAY_TIME);
    let _ = kill(ALL, Signal::SIGKILL);
    for volume in VOLUMES {
        mounts::release(volume);
    }
    rustix::fs::sync();
    say(&format!("file systems released at {:.2} s", now().as_secs_f64()));
    if let Some(watchdog) = watchdog
        && let Err(error) = watchdog.disarm()
    {
        say(&format!("watchdog: {}", crate::console::chain(&error)));
    }
    let command = match kind {
        Kind::Reboot => RebootCommand::Restart,
        Kind::PowerOff => RebootCommand::PowerOff,
    };
    if let Err(error) = rustix::system::reboot(command) {
        say(&format!("the kernel refuses: {error}"));
    }
}

/// Restart without any order, when PID 1 cannot go on.
pub fn force() {
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::Restart);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_order_one_after_the_other() {
        let mut progress = Progress::new(Duration::ZERO);
        let last = TABLE.len() - 1;
        assert_eq!(progress.next(Duration::ZERO, |_| false), Step::Stop(last));
        assert_eq!(progress.next(Duration::ZERO, |_| false), Step::Wait);
        assert_eq!(progress.next(Duration::ZERO, |index| index == last), Step::Stop(last - 1));
        let mut order = Vec::new();
        loop {
            match progress.next(Duration::ZERO, |_| true) {
                Step::Stop(index) => order.push(index),
                Step::Finish => break,
                Step::Wait => panic!("all are stopped"),
            }
        }
        assert_eq!(order, (0..last - 1).rev().collect::<Vec<_>>());
    }

    #[test]
    fn the_deadline_forces_the_end_and_covers_all_services() {
        let mut progress = Progress::new(Duration::ZERO);
        assert_eq!(progress.next(TIME_MAX, |_| false), Step::Finish);
        let all: Duration = TABLE.iter().map(|service| service.stop_time).sum();
        assert!(all < TIME_MAX / 2);
    }
}
