//! Makes the ext4 file system on a new volume, by `mkfs.ext4` with a time limit. Whether the volume is new is the
//! caller's knowledge.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The real tool: the image's shell would run its own applet.
const MKFS: &str = "/usr/sbin/mkfs.ext4";
/// A volume of 1 TB over a replicated link of 1 Gbit/s takes about 20 s.
const LIMIT: Duration = Duration::from_secs(120);
/// Between looks whether it ended.
const STEP: Duration = Duration::from_millis(10);

/// Why no file system was made.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Could not be started.
    #[error("mkfs.ext4 could not be started")]
    Start(#[source] io::Error),
    /// Did not end in time.
    #[error("mkfs.ext4 did not end within {} s: check the drive and the replication link", LIMIT.as_secs())]
    TimedOut,
    /// Failed.
    #[error("mkfs.ext4 failed: {0}")]
    Failed(String),
}

/// Makes the file system. Nothing is left for a background thread to write later, so that the first takeover finds a
/// finished file system.
pub fn make(device: &Path, label: &str) -> Result<(), FormatError> {
    let mut child = Command::new(MKFS)
        .env_clear()
        // No discard: below DRBD it becomes a write of zeros over the whole volume. One per cent is kept for root, so
        // that a full queue can still be worked on.
        .args(["-q", "-F", "-m", "1", "-L", &format!("mail-{label}")])
        .args(["-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"])
        .arg(device)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(FormatError::Start)?;
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        match child.try_wait().map_err(FormatError::Start)? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(FormatError::Failed(complaint(&mut child))),
            None => std::thread::sleep(STEP),
        }
    }
    // A child that hangs in the kernel dies when the kernel lets go of it; there is nothing to wait for here.
    let _ = child.kill();
    Err(FormatError::TimedOut)
}

/// The tool's words. With `-q` they are far below the size of a pipe, so it never waited for us.
fn complaint(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = child.stderr.take() {
        // Words that cannot be read are missing from a message, nothing more.
        let _ = stderr.take(1024).read_to_string(&mut text);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
