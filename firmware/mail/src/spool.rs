//! The folders that Postfix and Dovecot expect on the mail volumes, with owners and modes as Postfix's `postfix-files` and
//! the image's numeric users have them. Made at the first mount, checked at every one. Deletes nothing but stale locks.

use crate::render::{MAILBOXES, POSTFIX_DATA, SPOOL};
use rustix::fs::{Gid, Mode, Uid, chmod, chown};
use std::io;
use std::path::Path;

const ROOT: u32 = 0;
const POSTFIX: u32 = 100;
const POSTDROP: u32 = 103;
const VMAIL: u32 = 106;

/// Folders below the spool: name, user, group, mode.
const FOLDERS: [(&str, u32, u32, u32); 15] = [
    ("active", POSTFIX, ROOT, 0o700),
    ("bounce", POSTFIX, ROOT, 0o700),
    ("corrupt", POSTFIX, ROOT, 0o700),
    ("defer", POSTFIX, ROOT, 0o700),
    ("deferred", POSTFIX, ROOT, 0o700),
    ("flush", POSTFIX, ROOT, 0o700),
    ("hold", POSTFIX, ROOT, 0o700),
    ("incoming", POSTFIX, ROOT, 0o700),
    ("maildrop", POSTFIX, POSTDROP, 0o730),
    ("pid", ROOT, ROOT, 0o755),
    ("private", POSTFIX, ROOT, 0o700),
    ("public", POSTFIX, POSTDROP, 0o710),
    ("saved", POSTFIX, ROOT, 0o700),
    ("trace", POSTFIX, ROOT, 0o700),
    ("", ROOT, ROOT, 0o755),
];
/// Folders whose files are queued messages.
const QUEUES: [&str; 4] = ["incoming", "active", "deferred", "hold"];
/// Most files that are counted; a count is for people.
const COUNT_MAX: u64 = 100_000;
/// How deep stale locks lie below the mailboxes: domain, user, Maildir, folder.
const LOCK_DEPTH: u8 = 4;

/// Makes what is missing.
///
/// # Errors
/// The first folder that cannot be made; the volume is full, read-only or broken.
pub fn make() -> io::Result<()> {
    folder(Path::new("/mail/queue"), ROOT, ROOT, 0o755)?;
    folder(Path::new(POSTFIX_DATA), POSTFIX, ROOT, 0o700)?;
    folder(Path::new("/mail/data"), ROOT, ROOT, 0o755)?;
    folder(Path::new(MAILBOXES), VMAIL, VMAIL, 0o700)?;
    FOLDERS
        .iter()
        .rev()
        .try_for_each(|(name, user, group, mode)| folder(&Path::new(SPOOL).join(name), *user, *group, *mode))
}

/// Deletes Dovecot's lock files that a dead unit left; another host's lock blocks a mailbox for two minutes. Only while
/// no Dovecot runs.
pub fn remove_stale_locks() {
    remove_locks_below(Path::new(MAILBOXES), LOCK_DEPTH);
}

/// Queued messages: incoming, active, deferred, hold.
#[must_use]
pub fn count() -> u64 {
    let mut total = 0;
    for queue in QUEUES {
        count_below(&Path::new(SPOOL).join(queue), 3, &mut total);
    }
    total
}

fn folder(path: &Path, user: u32, group: u32, mode: u32) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    Ok(chmod(path, Mode::from_raw_mode(mode))?)
}

fn remove_locks_below(folder: &Path, depth: u8) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name();
        if is_folder && depth > 0 && name != "cur" && name != "new" {
            remove_locks_below(&entry.path(), depth - 1);
        } else if !is_folder && name.to_string_lossy().ends_with(".lock") {
            // A lock that stays costs two minutes for one mailbox; Dovecot itself then breaks it.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn count_below(folder: &Path, depth: u8, total: &mut u64) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if *total >= COUNT_MAX {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => count_below(&entry.path(), depth - 1, total),
            Ok(kind) if kind.is_file() => *total += 1,
            _ => {}
        }
    }
}
