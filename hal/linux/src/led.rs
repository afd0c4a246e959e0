//! An LED through `/sys/class/leds` and the kernel's `timer` trigger, which blinks without a process.

use crate::{LinuxError, Roots, read, write};
use std::path::PathBuf;
use twinpost_hal::{Led, Pattern};

/// An LED.
#[derive(Clone, Debug)]
pub struct SysfsLed {
    folder: PathBuf,
}

impl SysfsLed {
    /// The LED whose name fits `pattern` (`*` for any text); the first in name order.
    ///
    /// # Errors
    /// `NotFound` when none fits.
    pub fn find(roots: &Roots, pattern: &str) -> Result<Self, LinuxError> {
        let folder = roots.sys.join("class/leds");
        let (head, tail) = pattern.split_once('*').unwrap_or((pattern, ""));
        let whole = head.len() == pattern.len();
        let fits = |name: &str| {
            if whole {
                name == pattern
            } else {
                name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
            }
        };
        std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| fits(name))
            .min()
            .map(|name| Self { folder: folder.join(name) })
            .ok_or(LinuxError::NotFound { path: folder, pattern: pattern.to_owned() })
    }
}

impl Led for SysfsLed {
    type Error = LinuxError;

    fn set(&mut self, pattern: Pattern) -> Result<(), LinuxError> {
        let trigger = self.folder.join("trigger");
        let Some(half) = pattern.half_period() else {
            write(&trigger, "none")?;
            let level =
                if pattern == Pattern::On { read(&self.folder.join("max_brightness"))? } else { "0".into() };
            return write(&self.folder.join("brightness"), &level);
        };
        if !read(&trigger)?.split([' ', '[', ']']).any(|name| name == "timer") {
            return Err(LinuxError::NoBlink { path: self.folder.clone() });
        }
        write(&trigger, "timer")?;
        let milliseconds = half.as_millis().to_string();
        write(&self.folder.join("delay_on"), &milliseconds)?;
        write(&self.folder.join("delay_off"), &milliseconds)
    }
}
