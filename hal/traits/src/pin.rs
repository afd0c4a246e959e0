//! An LED on a digital output, over embedded-hal's pin trait. It cannot blink by itself: a pin has no timer.

use crate::{ErrorKind, HardwareError, Led, Pattern};
use embedded_hal::digital::{OutputPin, PinState};

/// An LED on an output pin.
#[derive(Debug)]
pub struct PinLed<P> {
    pin: P,
    lit: PinState,
}

impl<P: OutputPin> PinLed<P> {
    /// An LED that is lit while `pin` is in the state `lit`.
    pub fn new(pin: P, lit: PinState) -> Self {
        Self { pin, lit }
    }
}

/// Why an LED on a pin did not change.
#[derive(Debug, thiserror::Error)]
pub enum PinLedError {
    /// Blinking needs a timer.
    #[error("an LED on a pin cannot blink by itself")]
    Blink,
    /// The pin refused.
    #[error("pin failed: {0:?}")]
    Pin(embedded_hal::digital::ErrorKind),
}

impl HardwareError for PinLedError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Blink => ErrorKind::Unsupported,
            Self::Pin(_) => ErrorKind::Failed,
        }
    }
}

impl<P: OutputPin> Led for PinLed<P> {
    type Error = PinLedError;

    fn set(&mut self, pattern: Pattern) -> Result<(), Self::Error> {
        let state = match pattern {
            Pattern::On => self.lit,
            Pattern::Off => !self.lit,
            Pattern::Slow | Pattern::Fast => return Err(PinLedError::Blink),
        };
        self.pin
            .set_state(state)
            .map_err(|error| PinLedError::Pin(embedded_hal::digital::Error::kind(&error)))
    }
}
