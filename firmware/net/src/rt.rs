//! What the heartbeat thread needs of the kernel: real-time priority, locked memory, the clock, a timer and a wake-up that can
//! be polled, entropy. Sets the thread up; what it does then is `had`'s.
//!
//! Time is `CLOCK_MONOTONIC`: steady, not set by anybody, and the clock that timers and `poll` count in. `CLOCK_BOOTTIME`
//! differs only by time in suspend, which an appliance does not do; a virtual machine that its host stops is seen by
//! neither.

use crate::port::last_errno;
use core::time::Duration;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use twinpost_types::Instant;

/// Real-time priorities (`SCHED_FIFO`, 1 to 99). All are below 50, where threaded interrupt handlers run, and far above
/// nothing: ordinary programs have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The heartbeat thread: 40.
    Heartbeat,
    /// The thread that refreshes the leases of the virtual IPs: 39, so that it never delays a heartbeat.
    Lease,
}

/// Which request the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to {what}")]
pub struct RtError {
    what: &'static str,
    #[source]
    source: Errno,
}

/// Stack that is touched ahead of time, bytes. The heartbeat path uses a few KiB of it.
const STACK_BYTES: usize = 64 * 1024;

/// Monotonic time now.
#[must_use]
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = time.tv_sec.cast_unsigned();
    let micros = time.tv_nsec.cast_unsigned() / 1000;
    Instant(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

/// Gives the calling thread `SCHED_FIFO` with `priority`. Threads and programs that it starts are ordinary again.
///
/// # Errors
///
/// [`RtError`]; it needs `CAP_SYS_NICE`.
pub fn become_realtime(priority: Priority) -> Result<(), RtError> {
    let level = match priority {
        Priority::Heartbeat => 40,
        Priority::Lease => 39,
    };
    let parameters = libc::sched_param { sched_priority: level };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 names the calling thread; the kernel reads `parameters`, which is alive during the call.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result < 0 {
        return Err(RtError { what: "give real-time priority", source: last_errno() });
    }
    Ok(())
}

/// Keeps the pages of this process in memory: those that are there, and others from their first use on (so that
/// reserved but unused stacks cost nothing). Call it after [`twinpost_wire::Keys::derive`].
///
/// # Errors
///
/// [`RtError`]; it needs `CAP_IPC_LOCK`.
pub fn lock_memory() -> Result<(), RtError> {
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags).map_err(|source| RtError { what: "lock memory", source })
}

/// Touches the stack of the calling thread, so that the heartbeat path meets no page fault later. Call it after
/// [`lock_memory`], on the heartbeat thread.
#[inline(never)]
pub fn touch_stack() {
    let mut stack = [0_u8; STACK_BYTES];
    core::hint::black_box(&mut stack);
}

/// Random number from the kernel, for challenges. Allocates nothing.
#[must_use]
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Random number from the kernel, for boot ids. Blocks early after power-on until the kernel has entropy.
#[must_use]
pub fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    u128::from_le_bytes(bytes)
}

fn fill_random(bytes: &mut [u8]) {
    loop {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Err(Errno::INTR) => {}
            result => {
                let length = result.expect("getrandom without flags fails only when interrupted");
                assert_eq!(length, bytes.len(), "getrandom gives up to 256 bytes whole");
                return;
            }
        }
    }
}

/// A timer that can be polled (timerfd, monotonic).
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not armed.
    ///
    /// # Errors
    ///
    /// [`RtError`] when there are no file descriptors left.
    pub fn new() -> Result<Self, RtError> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        timerfd_create(TimerfdClockId::Monotonic, flags)
            .map(Self)
            .map_err(|source| RtError { what: "make a timer", source })
    }

    /// Becomes readable at `deadline`, at once when that has passed. Replaces the deadline before.
    pub fn arm(&self, deadline: Instant) {
        // Zero would disarm the timer.
        self.set(Duration::from_micros(deadline.0.max(1)));
    }

    /// Never becomes readable.
    pub fn disarm(&self) {
        self.set(Duration::ZERO);
    }

    /// Makes the timer unreadable until its next deadline.
    pub fn drain(&self) {
        let _not_due = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }

    fn set(&self, at: Duration) {
        let value = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(at) };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &value)
            .expect("a timer takes every normalised time that is not negative");
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Wakes a thread that polls (eventfd).
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// A wake-up that nobody has asked for yet.
    ///
    /// # Errors
    ///
    /// [`RtError`] when there are no file descriptors left.
    pub fn new() -> Result<Self, RtError> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Self)
            .map_err(|source| RtError { what: "make an event descriptor", source })
    }

    /// Wakes the poller.
    pub fn notify(&self) {
        // Fails only when 2^64 - 2 wake-ups wait already: the poller is awake then.
        let _already_awake = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Forgets the wake-ups so far; true when there was one.
    pub fn drain(&self) -> bool {
        rustix::io::read(&self.0, &mut [0_u8; 8]).is_ok()
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn readable(fd: &impl AsFd, limit_ms: u64) -> bool {
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(Duration::from_millis(limit_ms)))).expect("poll") == 1
    }

    #[test]
    fn timer_fires_at_its_deadline_and_not_before() {
        let timer = Timer::new().expect("timer");
        assert!(!readable(&timer, 0));
        let deadline = now() + Duration::from_millis(20);
        timer.arm(deadline);
        assert!(readable(&timer, 5000));
        assert!(now() >= deadline);
        timer.drain();
        assert!(!readable(&timer, 0));
        timer.arm(Instant(0));
        assert!(readable(&timer, 1000), "a deadline in the past fires at once");
        timer.disarm();
        assert!(!readable(&timer, 0));
    }

    #[test]
    fn wake_ups_are_remembered_until_drained() {
        let wake = Wake::new().expect("wake");
        assert!(!wake.drain());
        wake.notify();
        wake.notify();
        assert!(readable(&wake, 0));
        assert!(wake.drain());
        assert!(!readable(&wake, 0));
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random_u64(), random_u64());
        assert_ne!(random_u128(), random_u128());
    }
}
