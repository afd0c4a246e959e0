//! Asks a drive for its own opinion of its health by `smartctl -H` (smartmontools): the only program that knows all sorts of drives.
//! Bounded in time; whatever is not a clear "failing" is no sign of a failure.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use twinpost_hal::Health;

/// Where smartmontools puts it.
const SMARTCTL: &str = "/usr/sbin/smartctl";
/// Longest wait: a drive that wakes from sleep takes about ten seconds.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bits of smartctl's exit status (smartctl(8)): 0 command line, 1 drive did not open, 2 a command failed, 3 "DISK FAILING".
const NOT_ASKED: i32 = 0b0111;
const DISK_FAILING: i32 = 0b1000;

/// Asks for the health of one drive.
#[derive(Debug, Default)]
pub(crate) struct Smart {
    /// One that did not end in time: it waits for the drive in the kernel, and cannot be killed there.
    left: Option<Child>,
}

impl Smart {
    /// The drive behind this device node.
    pub fn health(&mut self, device: &Path) -> Health {
        if let Some(left) = &mut self.left {
            match left.try_wait() {
                Ok(None) => return Health::Unknown,
                Ok(Some(_)) | Err(_) => self.left = None,
            }
        }
        let program = PathBuf::from(SMARTCTL);
        let nothing = Stdio::null;
        let started = Command::new(program)
            .arg("-H")
            .arg(device)
            .stdin(nothing())
            .stdout(nothing())
            .stderr(nothing())
            .spawn();
        let Ok(mut child) = started else { return Health::Unknown };
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            match child.try_wait() {
                Ok(Some(status)) => return meaning(status.code()),
                Ok(None) => std::thread::sleep(LOOK_EVERY),
                Err(_) => return Health::Unknown,
            }
        }
        // If it cannot be killed, it is looked for before the next one is started.
        let _ = child.kill();
        self.left = Some(child);
        Health::Unknown
    }
}

fn meaning(status: Option<i32>) -> Health {
    match status {
        Some(bits) if bits & DISK_FAILING != 0 => Health::Failing,
        Some(bits) if bits & NOT_ASKED == 0 => Health::Well,
        _ => Health::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_word_of_the_drive_is_a_failure() {
        assert_eq!(meaning(Some(0)), Health::Well);
        assert_eq!(meaning(Some(0b1000)), Health::Failing);
        assert_eq!(meaning(Some(0b1000_1000)), Health::Failing, "with errors in its log besides");
        assert_eq!(meaning(Some(0b0100_0000)), Health::Well, "old errors in its log");
        for unknown in [Some(0b0001), Some(0b0010), Some(0b0100), None] {
            assert_eq!(meaning(unknown), Health::Unknown);
        }
    }
}
