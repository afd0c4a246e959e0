//! Looks at the mail queue from outside of Postfix: does a write reach the volume, does the queue move (`spec/mail.md`, "Health
//! checks that mean something"). Judges nothing. Everything here may hang with the volume; call it where that is allowed.

use crate::render::SPOOL;
use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// A file that belongs to nobody else, beside the spool.
const PROBE: &str = "/mail/queue/.write-check";
/// Most names that are read in one folder: `active` never holds more (qmgr_message_active_limit), `incoming` seldom.
const NAMES_MAX: usize = 20_000;
/// Mode bit of a complete message; Postfix sets it before it answers `250`.
const COMPLETE: u32 = 0o100;

/// What was found in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueLook {
    /// A complete message in `incoming`: the watched one if it is still there.
    pub incoming: Option<String>,
    /// Messages in `active`.
    pub active: u32,
    /// Changes whenever a message enters or leaves `active`.
    pub active_mark: u64,
}

/// Writes a few bytes to the queue volume and waits until they are on it.
///
/// # Errors
/// The volume refuses; `StorageFull` when it is full.
pub fn write_and_sync() -> io::Result<()> {
    let mut file = File::create(PROBE)?;
    file.write_all(b"check\n")?;
    file.sync_data()
}

/// Looks whether `watched` still waits in `incoming`, else for another message there, and at `active`.
///
/// # Errors
/// The folders cannot be read.
pub fn look(watched: &str) -> io::Result<QueueLook> {
    look_in(Path::new(SPOOL), watched)
}

fn look_in(spool: &Path, watched: &str) -> io::Result<QueueLook> {
    let incoming = spool.join("incoming");
    let waits =
        |name: &str| !name.is_empty() && incoming.join(name).metadata().is_ok_and(|file| is_message(&file));
    let found = if waits(watched) {
        Some(watched.to_string())
    } else {
        let names = incoming
            .read_dir()?
            .take(NAMES_MAX)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.into_iter().find(|name| waits(name))
    };
    let active = spool.join("active");
    let changed = active.metadata()?;
    let mark = changed
        .mtime()
        .cast_unsigned()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(changed.mtime_nsec().cast_unsigned());
    let count = active.read_dir()?.take(NAMES_MAX).count();
    Ok(QueueLook { incoming: found, active: u32::try_from(count).unwrap_or(u32::MAX), active_mark: mark })
}

fn is_message(file: &Metadata) -> bool {
    file.is_file() && file.permissions().mode() & COMPLETE != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_messages_are_seen_and_the_watched_one_is_kept() {
        let spool = tempfile::tempdir().unwrap();
        for folder in ["incoming", "active"] {
            std::fs::create_dir(spool.path().join(folder)).unwrap();
        }
        let put = |name: &str, mode: u32| {
            let path = spool.path().join(name);
            std::fs::write(&path, "x").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put("incoming/half", 0o600);
        let empty = look_in(spool.path(), "").unwrap();
        assert_eq!((empty.incoming.as_deref(), empty.active), (None, 0));
        put("incoming/A", 0o700);
        put("incoming/B", 0o700);
        for watched in ["A", "B"] {
            assert_eq!(look_in(spool.path(), watched).unwrap().incoming.as_deref(), Some(watched));
        }
        std::fs::remove_file(spool.path().join("incoming/A")).unwrap();
        assert_eq!(look_in(spool.path(), "A").unwrap().incoming.as_deref(), Some("B"));
        std::thread::sleep(std::time::Duration::from_millis(20));
        put("active/C", 0o700);
        let later = look_in(spool.path(), "").unwrap();
        assert!(later.active == 1 && later.active_mark != empty.active_mark);
        assert!(look_in(Path::new("/nonexistent"), "").is_err());
    }
}
