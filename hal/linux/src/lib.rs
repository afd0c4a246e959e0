//! The `hal` traits on Linux: sysfs for ports, drives and LEDs, the watchdog device for the watchdog. The only crate
//! that touches these. Carrier *events* come from netlink in `net`; here the carrier is read.
//!
//! Every implementation takes its folders from [`Roots`], so that the contract suite runs on a fake tree.
//! Block devices made of others (`dm`, `loop_device`) are here too, since `init` and `storage` both need them.
//! `unsafe`: the ioctls of the watchdog, of device-mapper and of loop devices, which rustix does not offer.

#![allow(clippy::disallowed_methods, reason = "an IO crate: it runs smartctl and waits for it")]

pub mod dm;
mod drive;
mod error;
mod led;
pub mod loop_device;
mod port;
mod reserve;
mod smart;
mod watchdog;

pub use drive::SysfsDrive;
pub use error::LinuxError;
pub use led::SysfsLed;
pub use port::SysfsPort;
pub use watchdog::DeviceWatchdog;

use std::path::{Path, PathBuf};

/// Where the kernel's trees are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sys: PathBuf::from("/sys"), dev: PathBuf::from("/dev") }
    }
}

impl Roots {
    /// The trees below another root, for tests.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { sys: root.join("sys"), dev: root.join("dev") }
    }
}

/// Text of an attribute without the newline.
fn read(path: &Path) -> Result<String, LinuxError> {
    std::fs::read_to_string(path)
        .map(|text| text.trim_end().to_owned())
        .map_err(|source| LinuxError::Read { path: path.to_owned(), source })
}

/// Writes an attribute in one call.
fn write(path: &Path, text: &str) -> Result<(), LinuxError> {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| LinuxError::Write { path: path.to_owned(), source })
}
