//! The watchdog device (kernel documentation: watchdog/watchdog-api). Opening it starts the countdown; a `V` before
//! closing stops it ("magic close"). Dropping an armed watchdog does *not* stop it: a dead program must be noticed.

use crate::{LinuxError, Roots, read};
use core::time::Duration;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use twinpost_hal::Watchdog;

/// `WDIOC_SETTIMEOUT`: `_IOWR('W', 6, int)`.
const SET_TIMEOUT: libc::Ioctl = 0xC004_5706;
/// Most watchdog devices that are looked at; boxes have one or two.
const DEVICES_MAX: usize = 8;

/// A watchdog device.
#[derive(Debug)]
pub struct DeviceWatchdog {
    device: PathBuf,
    folder: PathBuf,
    /// Countdowns that run out, one after the other, before the reset.
    countdowns: u32,
    open: Option<File>,
}

impl DeviceWatchdog {
    /// The first watchdog whose identity fits: begins with `identity` (a trailing `*` is ignored); empty = any.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn find(roots: &Roots, identity: &str) -> Result<Self, LinuxError> {
        let class = roots.sys.join("class/watchdog");
        let start = identity.trim_end_matches('*');
        for index in 0..DEVICES_MAX {
            let name = format!("watchdog{index}");
            let folder = class.join(&name);
            if read(&folder.join("identity")).is_ok_and(|text| text.starts_with(start)) {
                return Ok(Self { device: roots.dev.join(name), folder, countdowns: 1, open: None });
            }
        }
        Err(LinuxError::NotFound { path: class, pattern: identity.to_owned() })
    }

    /// Tells that the device resets the box only when `countdowns` (at least 1) have run out, whatever its driver says: each
    /// is made so much shorter.
    #[must_use]
    pub fn with_countdowns(self, countdowns: u32) -> Self {
        Self { countdowns: countdowns.max(1), ..self }
    }

    fn total(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds.saturating_mul(u64::from(self.countdowns)))
    }

    fn failed(&self, source: std::io::Error) -> LinuxError {
        LinuxError::Write { path: self.device.clone(), source }
    }
}

impl Watchdog for DeviceWatchdog {
    type Error = LinuxError;

    fn arm(&mut self, timeout: Duration) -> Result<Duration, LinuxError> {
        if self.open.is_none() {
            let file = File::options().write(true).open(&self.device).map_err(|error| self.failed(error))?;
            self.open = Some(file);
        }
        let Some(file) = &self.open else { return Err(LinuxError::NotArmed { path: self.device.clone() }) };
        let mut seconds = i32::try_from((timeout / self.countdowns).as_secs().max(1)).unwrap_or(i32::MAX);
        // SAFETY: the request reads and writes one int, which lives until the call returns; the descriptor is open.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), SET_TIMEOUT, &raw mut seconds) };
        let error = std::io::Error::last_os_error();
        self.pet()?;
        if result == 0 {
            return Ok(self.total(u64::try_from(seconds).unwrap_or(0)));
        }
        match error.raw_os_error() {
            // A device with a fixed timeout, or one that cannot do this value: its own timeout stays in force.
            Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::EINVAL) => {
                let path = self.folder.join("timeout");
                let text = read(&path)?;
                let fixed = text.parse().map_err(|_| LinuxError::Nonsense { path, text })?;
                Ok(self.total(fixed))
            }
            _ => Err(self.failed(error)),
        }
    }

    fn pet(&mut self) -> Result<(), LinuxError> {
        let Some(file) = &mut self.open else {
            return Err(LinuxError::NotArmed { path: self.device.clone() });
        };
        file.write_all(b"\0").map_err(|source| LinuxError::Write { path: self.device.clone(), source })
    }

    fn disarm(&mut self) -> Result<(), LinuxError> {
        let Some(file) = &mut self.open else { return Ok(()) };
        file.write_all(b"V").map_err(|source| LinuxError::Write { path: self.device.clone(), source })?;
        self.open = None;
        Ok(())
    }
}
