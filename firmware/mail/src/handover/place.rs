//! Puts received files where they belong: parts are written in the hand-over folder of the volume they go to, and renamed
//! into the queue or the mailbox once the ledger has them. Knows no messages and no protocol.

use super::item::{Item, Key, hex};
use super::{FOLDER, Layout};
use rustix::fs::{Gid, Mode, Uid, chmod, chown};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Folder of parts below the hand-over folder.
const PARTS: &str = "parts";

/// Makes the hand-over folders of both volumes.
pub fn make_folders(layout: &Layout) -> io::Result<()> {
    for root in [&layout.queue, &layout.data] {
        let folder = root.join(FOLDER);
        std::fs::create_dir_all(folder.join(PARTS))?;
        chmod(&folder, Mode::RWXU)?;
    }
    Ok(())
}

/// Where the part of an item is written.
pub fn part(layout: &Layout, item: &Item) -> PathBuf {
    let root = if item.is_mail() { &layout.data } else { &layout.queue };
    root.join(FOLDER).join(PARTS).join(hex(&item.key()))
}

/// Parts that are there, with the key that their name tells; `None` for a file that is no part.
pub fn parts(layout: &Layout) -> io::Result<Vec<(PathBuf, Option<Key>)>> {
    let mut all = Vec::new();
    for root in [&layout.queue, &layout.data] {
        for entry in std::fs::read_dir(root.join(FOLDER).join(PARTS))? {
            let entry = entry?;
            all.push((entry.path(), key(&entry.file_name().to_string_lossy())));
        }
    }
    Ok(all)
}

/// A new part, empty, with the owner and mode that this unit's programs expect: they are not those of the other one.
pub fn create_part(layout: &Layout, item: &Item) -> io::Result<File> {
    let (owner, mode) = match item {
        Item::Mail { .. } => (layout.vmail, 0o600),
        // What its owner may execute is whole (Postfix `mail_queue.h`); logs are plain files.
        Item::Queue { folder, .. } if folder.is_log() => (layout.postfix, 0o600),
        Item::Queue { .. } => (layout.postfix, 0o700),
    };
    let path = part(layout, item);
    // One that an interruption left may have another mode: it is made anew, so that none has to be set.
    let mut new = File::options();
    new.write(true).create_new(true).mode(mode);
    let file = match new.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&path)?;
            new.open(&path)
        }
        other => other,
    }?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
    Ok(file)
}

/// Renames a part into its place. A part that is gone was placed before.
pub fn place(layout: &Layout, item: &Item) -> io::Result<()> {
    let (folder, name) = item.place();
    let root = if item.is_mail() { layout.mailboxes() } else { layout.spool() };
    let (part, place) = (part(layout, item), root.join(&folder).join(name));
    match std::fs::rename(&part, &place) {
        // The folder is not there, or the part: then it was placed before.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !part.exists() {
                return Ok(());
            }
            if item.is_mail() {
                make_maildir(layout, &root, &folder)?;
            }
            std::fs::rename(&part, &place)
        }
        other => other,
    }
}

/// Tells the queue manager that there is new mail (Postfix `qmgr(8)`, trigger `I`). Without it, or while no Postfix runs, the mail
/// is found at the next look through the queue.
pub fn wake(spool: &Path) {
    if let Ok(mut socket) = UnixStream::connect(spool.join("public/qmgr")) {
        let _ = socket.write_all(b"I");
    }
}

/// Makes what lacks of `<domain>/<user>/Maildir[/.folder]/{new,cur,tmp}` with the mailbox user as owner.
fn make_maildir(layout: &Layout, root: &Path, messages: &Path) -> io::Result<()> {
    let mut path = root.to_path_buf();
    for component in messages.parent().into_iter().flat_map(Path::components) {
        path.push(component);
        make_folder(layout, &path)?;
    }
    ["new", "cur", "tmp"].iter().try_for_each(|name| make_folder(layout, &path.join(name)))
}

fn make_folder(layout: &Layout, path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    chown(path, Some(Uid::from_raw(layout.vmail.0)), Some(Gid::from_raw(layout.vmail.1)))?;
    Ok(chmod(path, Mode::RWXU)?)
}

fn key(name: &str) -> Option<Key> {
    let mut key = Key::default();
    if name.len() != 2 * key.len() || !name.is_ascii() {
        return None;
    }
    for (place, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&name[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(key)
}
