//! Simulated port, drive, LED and watchdog: the whole state is in memory and shared with whoever plays the world.
//! No clock: a simulated watchdog is told how much time passed.
//!
//! ```
//! use twinpost_hal::Port;
//! let port = twinpost_hal_sim::SimPort::new("port1", [2, 0, 0, 0, 0, 1]);
//! port.state().borrow_mut().carrier = true;
//! assert!(port.carrier().expect("there"));
//! ```
#![forbid(unsafe_code)]

mod watchdog;

pub use watchdog::{SimWatchdog, SimWatchdogState};

use std::cell::RefCell;
use std::rc::Rc;
use twinpost_hal::{Drive, ErrorKind, HardwareError, Health, Identity, Led, Pattern, Port};

/// A simulated failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("simulated hardware: {0:?}")]
pub struct SimError(pub ErrorKind);

impl HardwareError for SimError {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

/// State of a simulated port.
#[derive(Clone, Debug, Default)]
pub struct SimPortState {
    /// The port is gone.
    pub gone: bool,
    /// Signal from the other end.
    pub carrier: bool,
}

/// A simulated port; starts without a signal.
#[derive(Clone, Debug)]
pub struct SimPort {
    name: String,
    mac: [u8; 6],
    state: Rc<RefCell<SimPortState>>,
}

impl SimPort {
    /// A port with this label and address.
    #[must_use]
    pub fn new(name: &str, mac: [u8; 6]) -> Self {
        Self { name: name.to_owned(), mac, state: Rc::default() }
    }

    /// Its state, shared with the port.
    #[must_use]
    pub fn state(&self) -> Rc<RefCell<SimPortState>> {
        Rc::clone(&self.state)
    }
}

impl Port for SimPort {
    type Error = SimError;

    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> Result<[u8; 6], SimError> {
        if self.state.borrow().gone { Err(SimError(ErrorKind::Absent)) } else { Ok(self.mac) }
    }

    fn carrier(&self) -> Result<bool, SimError> {
        let state = self.state.borrow();
        if state.gone { Err(SimError(ErrorKind::Absent)) } else { Ok(state.carrier) }
    }
}

/// State of a simulated drive.
#[derive(Clone, Debug, Default)]
pub struct SimDriveState {
    /// What is in the bay; `None` = pulled.
    pub medium: Option<Identity>,
    /// Reads and writes fail.
    pub broken: bool,
    /// What it says of its health.
    pub health: Health,
}

/// A simulated drive. One that hangs is played by not calling it: a call always comes back.
#[derive(Clone, Debug)]
pub struct SimDrive {
    label: String,
    state: Rc<RefCell<SimDriveState>>,
}

impl SimDrive {
    /// A drive bay with `medium` in it.
    #[must_use]
    pub fn new(label: &str, medium: Identity) -> Self {
        let state = SimDriveState { medium: Some(medium), ..SimDriveState::default() };
        Self { label: label.to_owned(), state: Rc::new(RefCell::new(state)) }
    }

    /// Its state, shared with the drive.
    #[must_use]
    pub fn state(&self) -> Rc<RefCell<SimDriveState>> {
        Rc::clone(&self.state)
    }
}

impl Drive for SimDrive {
    type Error = SimError;

    fn label(&self) -> &str {
        &self.label
    }

    fn present(&self) -> Result<bool, SimError> {
        Ok(self.state.borrow().medium.is_some())
    }

    fn identity(&self) -> Result<Identity, SimError> {
        self.state.borrow().medium.clone().ok_or(SimError(ErrorKind::Absent))
    }

    fn exercise(&mut self) -> Result<(), SimError> {
        self.identity()?;
        if self.state.borrow().broken { Err(SimError(ErrorKind::Failed)) } else { Ok(()) }
    }

    fn health(&mut self) -> Result<Health, SimError> {
        self.identity()?;
        Ok(self.state.borrow().health)
    }
}

/// A simulated LED.
#[derive(Clone, Debug)]
pub struct SimLed {
    shown: Rc<RefCell<Pattern>>,
}

impl Default for SimLed {
    fn default() -> Self {
        Self { shown: Rc::new(RefCell::new(Pattern::Off)) }
    }
}

impl SimLed {
    /// What it shows, shared with the LED.
    #[must_use]
    pub fn shown(&self) -> Rc<RefCell<Pattern>> {
        Rc::clone(&self.shown)
    }
}

impl Led for SimLed {
    type Error = SimError;

    fn set(&mut self, pattern: Pattern) -> Result<(), SimError> {
        *self.shown.borrow_mut() = pattern;
        Ok(())
    }
}
