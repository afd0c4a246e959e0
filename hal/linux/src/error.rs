//! The one error type of the Linux implementations: which file, what happened.

use std::io;
use std::path::PathBuf;
use twinpost_hal::{ErrorKind, HardwareError};

/// Why the kernel's view of a device could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// An attribute could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An attribute or device could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An attribute says something that makes no sense.
    #[error("{} says {text:?}", path.display())]
    Nonsense {
        /// Which.
        path: PathBuf,
        /// What it says.
        text: String,
    },
    /// The LED has no trigger that blinks.
    #[error("{} has no timer trigger: load ledtrig_timer", path.display())]
    NoBlink {
        /// The LED.
        path: PathBuf,
    },
    /// The watchdog is not armed.
    #[error("{} is not armed", path.display())]
    NotArmed {
        /// The device.
        path: PathBuf,
    },
    /// The drive gave back something else than was written.
    #[error("{} does not keep what is written to it", path.display())]
    Forgets {
        /// Which.
        path: PathBuf,
    },
    /// No block of the drive is reserved for tests.
    #[error("no block of {label} is reserved for tests")]
    NoReserve {
        /// Which drive.
        label: String,
    },
    /// The drive is not there.
    #[error("{label} is not there")]
    Pulled {
        /// Which drive.
        label: String,
    },
    /// No device fits the name.
    #[error("no device fits {pattern:?} in {}", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
        /// What was looked for.
        pattern: String,
    },
}

impl HardwareError for LinuxError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => match source.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => ErrorKind::Absent,
                _ => ErrorKind::Failed,
            },
            Self::Nonsense { .. } | Self::Forgets { .. } => ErrorKind::Nonsense,
            Self::NoBlink { .. } | Self::NotArmed { .. } | Self::NoReserve { .. } => ErrorKind::Unsupported,
            Self::NotFound { .. } | Self::Pulled { .. } => ErrorKind::Absent,
        }
    }
}
