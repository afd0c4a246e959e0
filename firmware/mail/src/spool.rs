//! The folders that Postfix and Dovecot expect on the mail volumes, with owners and modes as Postfix's `postfix-files` and
//! the image's numeric users have them. Made at the first mount, checked at every one. Deletes nothing but stale locks.

use crate::render::{MAILBOXES, POSTFIX_DATA, SPOOL};
use rustix::fs::{Gid, Mode, Uid, chmod, chown};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

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
/// A deferred file is put off into the future on purpose, by `maximal_backoff_time` at most.
const BACKOFF_MAX: Duration = Duration::from_secs(600);
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

/// Gives queue files from the future the present time: Postfix leaves a file alone until its time has come, and the clock that wrote it may
/// have been a year ahead. Only while no queue manager runs, or before it is started anew.
///
/// # Errors
/// The volume cannot be written to.
pub fn settle_times() -> io::Result<()> {
    settle_times_below(Path::new(SPOOL), SystemTime::now())
}

fn settle_times_below(spool: &Path, now: SystemTime) -> io::Result<()> {
    let mut left = COUNT_MAX;
    for (queue, ahead) in
        [("incoming", Duration::ZERO), ("active", Duration::ZERO), ("deferred", BACKOFF_MAX)]
    {
        present_below(&spool.join(queue), 3, now, now + ahead, &mut left)?;
    }
    Ok(())
}

fn present_below(
    folder: &Path,
    depth: u8,
    now: SystemTime,
    latest: SystemTime,
    left: &mut u64,
) -> io::Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(data) = entry.metadata() else { continue };
        if data.is_dir() && depth > 0 {
            present_below(&entry.path(), depth - 1, now, latest, left)?;
        } else if data.is_file() && *left > 0 {
            *left -= 1;
            if data.modified().is_ok_and(|time| time > latest) {
                match std::fs::File::options().write(true).open(entry.path()) {
                    // Delivered and gone meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    file => file?.set_modified(now)?,
                }
            }
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_from_the_future_come_back_to_the_present() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let cases = [
            ("incoming/past", -100, -100),
            ("incoming/ahead", 5, 0),
            ("active/ahead", 31_536_000, 0),
            ("deferred/A/waiting", 300, 300),
            ("deferred/A/ahead", 31_536_000, 0),
        ];
        let at = |seconds: i64| {
            now.checked_add(Duration::from_secs(1_000_000_000)).unwrap()
                - Duration::from_secs(u64::try_from(1_000_000_000 - seconds).unwrap())
        };
        for (name, seconds, _) in cases {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::File::create(path).unwrap().set_modified(at(seconds)).unwrap();
        }
        settle_times_below(folder.path(), now).unwrap();
        for (name, _, seconds) in cases {
            let modified = std::fs::metadata(folder.path().join(name)).unwrap().modified().unwrap();
            assert_eq!(modified, at(seconds), "{name}");
        }
    }
}
