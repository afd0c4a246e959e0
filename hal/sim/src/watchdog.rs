//! The simulated watchdog. Time passes only through [`SimWatchdogState::pass`].

use crate::SimError;
use core::time::Duration;
use std::cell::RefCell;
use std::rc::Rc;
use twinpost_hal::{ErrorKind, Watchdog};

/// State of a simulated watchdog.
#[derive(Clone, Debug, Default)]
pub struct SimWatchdogState {
    /// Time left until the reset and the timeout in force; `None` = not armed.
    pub countdown: Option<(Duration, Duration)>,
    /// Resets it caused.
    pub resets: u32,
}

impl SimWatchdogState {
    /// Lets time pass; a countdown that ends counts one reset and stops.
    pub fn pass(&mut self, time: Duration) {
        if let Some((left, timeout)) = self.countdown {
            if left <= time {
                self.resets += 1;
                self.countdown = None;
            } else {
                self.countdown = Some((left - time, timeout));
            }
        }
    }
}

/// A simulated watchdog.
#[derive(Clone, Debug, Default)]
pub struct SimWatchdog {
    state: Rc<RefCell<SimWatchdogState>>,
}

impl SimWatchdog {
    /// Its state, shared with the watchdog.
    #[must_use]
    pub fn state(&self) -> Rc<RefCell<SimWatchdogState>> {
        Rc::clone(&self.state)
    }
}

impl Watchdog for SimWatchdog {
    type Error = SimError;

    fn arm(&mut self, timeout: Duration) -> Result<Duration, SimError> {
        self.state.borrow_mut().countdown = Some((timeout, timeout));
        Ok(timeout)
    }

    fn pet(&mut self) -> Result<(), SimError> {
        let mut state = self.state.borrow_mut();
        let (_, timeout) = state.countdown.ok_or(SimError(ErrorKind::Unsupported))?;
        state.countdown = Some((timeout, timeout));
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), SimError> {
        self.state.borrow_mut().countdown = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_only_when_nobody_pets() {
        let mut watchdog = SimWatchdog::default();
        let state = watchdog.state();
        watchdog.arm(Duration::from_secs(10)).expect("arms");
        state.borrow_mut().pass(Duration::from_secs(9));
        watchdog.pet().expect("armed");
        state.borrow_mut().pass(Duration::from_secs(9));
        assert_eq!(state.borrow().resets, 0);
        state.borrow_mut().pass(Duration::from_secs(1));
        assert_eq!(state.borrow().resets, 1);
    }
}
