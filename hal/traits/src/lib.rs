//! The hardware boundary: narrow traits for port, drive, LED and watchdog (`spec/appliance.md` section 7). Knows no
//! Linux and no board. Implementations: `hal/linux` and `hal/sim`; both pass `hal/contract`.
#![forbid(unsafe_code)]

mod pin;

pub use pin::PinLed;

use core::time::Duration;

/// What sort of failure an error is; what a caller may decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The device is not there (any more).
    Absent,
    /// The device cannot do this, now or ever; another request may work.
    Unsupported,
    /// The device or its driver refused or failed; the same request may work later.
    Failed,
    /// The device answered something that makes no sense.
    Nonsense,
}

/// An error of a hardware implementation.
pub trait HardwareError: core::error::Error {
    /// What sort of failure it is.
    fn kind(&self) -> ErrorKind;
}

/// A network port.
pub trait Port {
    /// Error of the implementation.
    type Error: HardwareError;

    /// Front-panel label, for instance `port1`. Never fails and never changes.
    fn name(&self) -> &str;

    /// Hardware address.
    ///
    /// # Errors
    /// `Absent` when the port is gone, `Nonsense` when it is not six bytes, `Failed` otherwise.
    fn mac(&self) -> Result<[u8; 6], Self::Error>;

    /// Whether there is a signal from the other end of the cable. A port that is administratively down has none.
    ///
    /// # Errors
    /// `Absent` when the port is gone, `Nonsense` or `Failed` otherwise.
    fn carrier(&self) -> Result<bool, Self::Error>;
}

/// What a drive says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Model, empty if the drive gives none.
    pub model: String,
    /// Serial number, empty if the drive gives none.
    pub serial: String,
    /// Size in bytes; 0 = no medium.
    pub bytes: u64,
}

/// What a drive's own watch over itself says (SMART).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It watches itself and finds nothing.
    Well,
    /// It expects to fail.
    Failing,
    /// It does not watch itself, cannot be asked, or did not answer in time: no sign of a failure.
    #[default]
    Unknown,
}

/// A drive.
pub trait Drive {
    /// Error of the implementation.
    type Error: HardwareError;

    /// Label for people. Never fails and never changes.
    fn label(&self) -> &str;

    /// Whether the drive is there. A drive that was pulled gives `false`, not an error.
    ///
    /// # Errors
    /// `Failed` when the bus cannot be asked.
    fn present(&self) -> Result<bool, Self::Error>;

    /// Identity.
    ///
    /// # Errors
    /// `Absent` when the drive is not there, `Nonsense` or `Failed` otherwise.
    fn identity(&self) -> Result<Identity, Self::Error>;

    /// Writes a block that is reserved for this on the drive and reads it back, past all caches of the kernel. Takes as long as
    /// the drive takes: on a drive that hangs it does not come back, so it wants a thread of its own.
    ///
    /// # Errors
    /// `Absent` when the drive is not there, `Unsupported` when no block is reserved on it, `Nonsense` when something else was
    /// read than was written, `Failed` when the drive refuses (also when its file system became read-only).
    fn exercise(&mut self) -> Result<(), Self::Error>;

    /// What the drive says of its own health. Comes back within half a minute; a drive that hangs or knows nothing is `Unknown`.
    ///
    /// # Errors
    /// `Absent` when the drive is not there.
    fn health(&mut self) -> Result<Health, Self::Error>;
}

/// What an LED shows. The status LED shows the effective mode: PRIMARY and CONFIG-PRIMARY [`On`](Pattern::On),
/// SECONDARY and CONFIG-SECONDARY [`Slow`](Pattern::Slow), FAILED [`Fast`](Pattern::Fast),
/// OFF and HOLD-OFF [`Off`](Pattern::Off).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Dark.
    Off,
    /// Lit.
    On,
    /// One second lit, one second dark.
    Slow,
    /// 0.125 s lit, 0.125 s dark.
    Fast,
}

impl Pattern {
    /// All patterns.
    pub const ALL: [Pattern; 4] = [Pattern::Off, Pattern::On, Pattern::Slow, Pattern::Fast];

    /// Lit and dark time of one period; `None` for steady patterns.
    #[must_use]
    pub fn half_period(self) -> Option<Duration> {
        match self {
            Self::Off | Self::On => None,
            Self::Slow => Some(Duration::from_millis(1000)),
            Self::Fast => Some(Duration::from_millis(125)),
        }
    }
}

/// An LED.
pub trait Led {
    /// Error of the implementation.
    type Error: HardwareError;

    /// Shows `pattern` until the next call; blinking goes on without further calls. After an error the LED may show
    /// anything.
    ///
    /// # Errors
    /// `Absent` when the LED is gone; `Unsupported` when it cannot blink by itself, only for [`Pattern::Slow`] and
    /// [`Pattern::Fast`]; `Failed` otherwise.
    fn set(&mut self, pattern: Pattern) -> Result<(), Self::Error>;
}

/// A watchdog: resets the box unless it is petted in time.
pub trait Watchdog {
    /// Error of the implementation.
    type Error: HardwareError;

    /// Starts the countdown, or restarts it with another timeout. Returns the timeout in force, which is the nearest
    /// one that the device can do and may be far from what was asked when the device has a fixed one.
    ///
    /// # Errors
    /// `Absent` when there is none, `Failed` when another program holds it or the driver refuses. Whether a
    /// countdown runs after an error is unknown.
    fn arm(&mut self, timeout: Duration) -> Result<Duration, Self::Error>;

    /// Restarts the countdown.
    ///
    /// # Errors
    /// `Unsupported` when it is not armed; `Failed` when the device did not take it: the reset will come.
    fn pet(&mut self) -> Result<(), Self::Error>;

    /// Stops the countdown for good, before an orderly end. On a watchdog that is not armed it does nothing.
    ///
    /// # Errors
    /// `Failed` when the device does not stop: the reset will come.
    fn disarm(&mut self) -> Result<(), Self::Error>;
}
