//! Lists the messages of one copy: queue files that were acknowledged and mailbox messages. Reads names and modes only.

use super::item::{Item, Key, QueueFolder};
use super::{Layout, manifest};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{DirEntryExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Queues whose files are messages, and where such a file goes on the primary. What waits in `deferred` is tried there at once.
const QUEUES: [(&str, QueueFolder); 5] = [
    ("incoming", QueueFolder::Incoming),
    ("active", QueueFolder::Incoming),
    ("deferred", QueueFolder::Incoming),
    ("hold", QueueFolder::Hold),
    ("maildrop", QueueFolder::Maildrop),
];
/// Queues whose messages a queue manager delivers. What it moves while they are listed goes from `deferred` over `incoming` and `active`
/// to `deferred`, so that in this order nothing is missed.
pub const DELIVERED: &[&str] = &["deferred", "incoming", "active", "deferred", "hold"];
/// Everywhere in a spool where a message may be that was not finished: also what Postfix could not read and put aside.
pub const KEPT: &[&str] = &["incoming", "active", "deferred", "hold", "maildrop", "corrupt", "saved"];
/// Logs that go with a message.
const LOGS: [QueueFolder; 2] = [QueueFolder::Bounce, QueueFolder::Trace];
/// Hashed queues have one level of folders by default; two are read.
const QUEUE_DEPTH: u8 = 2;

/// Something found on a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub item: Item,
    /// Where it is.
    pub path: PathBuf,
    /// Its inode: files that are read in this order are read along the drive.
    pub inode: u64,
}

/// One Maildir folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailFolder {
    domain: String,
    user: String,
    folder: String,
    path: PathBuf,
}

/// Acknowledged messages of the queue. A file that its owner may not execute was never acknowledged.
///
/// # Errors
/// A folder that cannot be read; a spool that does not exist is empty.
pub fn queue(layout: &Layout) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (name, folder) in QUEUES {
        files_below(&layout.spool().join(name), QUEUE_DEPTH, &mut |File { path, name, inode }| {
            let item = Item::Queue { folder, id: name };
            if item.is_valid() && found.len() < manifest::KEYS_MAX {
                found.push(Found { item, path, inode });
            }
        })?;
    }
    found.sort_unstable_by_key(|one| one.inode);
    found.retain(|one| {
        // One that vanished or cannot be looked at is offered: reading it tells.
        one.path.metadata().map_or(true, |data| data.permissions().mode() & 0o100 != 0)
    });
    Ok(found)
}

/// The logs of a copy that does not change, by queue id, listed once: few messages have any.
#[derive(Clone, Debug, Default)]
pub struct Logs(HashMap<String, Vec<Found>>);

impl Logs {
    /// Lists them.
    ///
    /// # Errors
    /// A folder that cannot be read; one that does not exist is empty.
    pub fn of(layout: &Layout) -> io::Result<Self> {
        let mut all = Self::default();
        for folder in LOGS {
            files_below(&layout.spool().join(folder.name()), 0, &mut |File { path, name, inode }| {
                let item = Item::Queue { folder, id: name.clone() };
                all.0.entry(name).or_default().push(Found { item, path, inode });
            })?;
        }
        Ok(all)
    }

    /// Those of a message.
    #[must_use]
    pub fn with(&self, item: &Item) -> Vec<Found> {
        match item {
            Item::Queue { id, folder: QueueFolder::Incoming | QueueFolder::Hold } => {
                self.0.get(id).cloned().unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

/// Keys of all files of the queue, also of those that are not acknowledged yet.
///
/// # Errors
/// A folder that cannot be read.
pub fn queue_keys(layout: &Layout) -> io::Result<Vec<Key>> {
    let mut keys = Vec::new();
    for (name, folder) in QUEUES {
        files_below(&layout.spool().join(name), QUEUE_DEPTH, &mut |file| {
            keys.push(Item::Queue { folder, id: file.name }.key());
        })?;
    }
    Ok(keys)
}

/// Where each file of these queues is, by its key.
///
/// # Errors
/// A folder that cannot be read.
pub fn places(layout: &Layout, queues: &[&str]) -> io::Result<HashMap<Key, PathBuf>> {
    let mut places = HashMap::new();
    for name in queues {
        files_below(&layout.spool().join(name), QUEUE_DEPTH, &mut |file| {
            places.insert(queue_key(&file.name), file.path);
        })?;
    }
    Ok(places)
}

/// Key of the message with this queue id.
#[must_use]
pub fn queue_key(id: &str) -> Key {
    Item::Queue { folder: QueueFolder::Incoming, id: id.to_owned() }.key()
}

/// All Maildir folders.
///
/// # Errors
/// A folder that cannot be read.
pub fn mail_folders(layout: &Layout) -> io::Result<Vec<MailFolder>> {
    let mut all = Vec::new();
    for (domain, domain_path) in folders(&layout.mailboxes())? {
        for (user, user_path) in folders(&domain_path)? {
            all.extend(folders_of(&user_path.join("Maildir"), &domain, &user)?);
        }
    }
    Ok(all)
}

/// The Maildir folders of one mailbox.
///
/// # Errors
/// A folder that cannot be read; a mailbox that does not exist has an inbox that is empty.
pub fn mail_folders_of(layout: &Layout, domain: &str, user: &str) -> io::Result<Vec<MailFolder>> {
    folders_of(&layout.mailboxes().join(domain).join(user).join("Maildir"), domain, user)
}

fn folders_of(maildir: &Path, domain: &str, user: &str) -> io::Result<Vec<MailFolder>> {
    let sub = folders(maildir)?.into_iter().filter(|(name, _)| name.starts_with('.'));
    let all = sub.chain([(String::new(), maildir.to_path_buf())]);
    let folder =
        |(folder, path)| MailFolder { domain: domain.to_owned(), user: user.to_owned(), folder, path };
    Ok(all.map(folder).collect())
}

/// The messages of one folder, and how many files there have names that no Maildir has.
///
/// # Errors
/// The folder cannot be read.
pub fn mail(folder: &MailFolder) -> io::Result<(Vec<Found>, u64)> {
    let (mut found, mut strange) = (Vec::new(), 0);
    for (name, seen) in [("new", false), ("cur", true)] {
        files_below(&folder.path.join(name), 0, &mut |File { path, name, inode }| match Item::of_mail(
            &folder.domain,
            &folder.user,
            &folder.folder,
            seen,
            &name,
        ) {
            Some(item) => found.push(Found { item, path, inode }),
            None => strange += 1,
        })?;
    }
    found.sort_unstable_by_key(|one| one.inode);
    Ok((found, strange))
}

/// Keys of all messages in all mailboxes, and whether each was stored before `before_s`, seconds since 1970.
///
/// # Errors
/// A folder that cannot be read; `Interrupted` when `stop` was set.
pub fn mail_keys(layout: &Layout, before_s: u64, stop: &AtomicBool) -> io::Result<Vec<(Key, bool)>> {
    let mut keys = Vec::new();
    for folder in mail_folders(layout)? {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let found = mail(&folder)?.0.into_iter().map(|found| found.item);
        keys.extend(found.map(|item| (item.key(), stored_s(&item).is_some_and(|at| at < before_s))));
        if keys.len() > manifest::KEYS_MAX {
            break;
        }
    }
    Ok(keys)
}

/// When a message was stored: its name begins with the time (Maildir, "unique name").
#[must_use]
pub fn stored_s(item: &Item) -> Option<u64> {
    let Item::Mail { unique, .. } = item else { return None };
    unique.split('.').next()?.parse().ok()
}

/// A regular file.
struct File {
    path: PathBuf,
    name: String,
    inode: u64,
}

/// Regular files, folders `depth` levels down included. A folder that does not exist is empty.
fn files_below(folder: &Path, depth: u8, each: &mut dyn FnMut(File)) -> io::Result<()> {
    for entry in entries(folder)? {
        let entry = entry?;
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            // Renamed by Postfix between listing and looking: it is listed again where it went, or delivered.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if kind.is_dir() && depth > 0 {
            files_below(&entry.path(), depth - 1, each)?;
        } else if kind.is_file() {
            // A name that is no text is no message of ours; its replacement marks make it invalid further on.
            let name = entry.file_name().to_string_lossy().into_owned();
            each(File { path: entry.path(), name, inode: entry.ino() });
        }
    }
    Ok(())
}

fn folders(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    for entry in entries(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    Ok(all)
}

fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<std::fs::DirEntry>>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}
