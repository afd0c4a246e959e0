//! The ledger of what was handed over: one JSON line a file, appended and synced before the file takes its place. It is what
//! prevents a second delivery: a message that is in here is never taken again, whatever became of it since.

use super::FOLDER;
use super::item::{Item, Key, hex};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Name of the file in the hand-over folder of the queue volume.
const NAME: &str = "ledger";
/// Most entries; a hand-over of more is refused instead of forgotten. Half a million lines are about 100 MB.
pub const ENTRIES_MAX: usize = 500_000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    item: Item,
    sha256: String,
}

/// A line for people: recipients of a message that both units had, whom the other one had finished. The marks themselves are in the
/// queue file, so nothing reads it back.
#[derive(Serialize)]
struct SettledLine<'a> {
    settled: &'a str,
    recipients: &'a [String],
}

/// The ledger, read and open for appending.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    entries: HashMap<Key, Item>,
}

impl Ledger {
    /// Reads the ledger of a queue volume; makes it if there is none. A last line that was being written when the power
    /// failed is cut off: what it would have confirmed was not confirmed.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn open(queue_root: &Path) -> io::Result<Self> {
        let path = queue_root.join(FOLDER).join(NAME);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let file = File::options().create(true).append(true).open(&path)?;
        if whole < bytes.len() {
            file.set_len(u64::try_from(whole).unwrap_or(0))?;
        }
        let lines = bytes[..whole].split(|byte| *byte == b'\n');
        // A line that is damaged confirms nothing that could be found again.
        let entries = lines.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
        let entries = entries.map(|entry| (entry.item.key(), entry.item)).collect();
        Ok(Self { path, file, entries })
    }

    /// Removes the ledger of a queue volume, if there is one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(queue_root: &Path) -> io::Result<()> {
        match std::fs::remove_file(queue_root.join(FOLDER).join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether this was handed over before.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// What has this key.
    #[must_use]
    pub fn item(&self, key: &Key) -> Option<&Item> {
        self.entries.get(key)
    }

    /// Everything that was handed over, in no order.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.entries.values()
    }

    /// Adds entries and makes them durable.
    ///
    /// # Errors
    /// They are not durable; the ledger must be opened anew before it is used again.
    pub fn append(&mut self, items: &[(Item, [u8; 32])]) -> io::Result<()> {
        if self.entries.len() + items.len() > ENTRIES_MAX {
            let full = format!("the ledger {} has {ENTRIES_MAX} entries", self.path.display());
            return Err(io::Error::other(full));
        }
        let mut text = Vec::new();
        for (item, digest) in items {
            serde_json::to_writer(&mut text, &Entry { item: item.clone(), sha256: hex(digest) })?;
            text.push(b'\n');
        }
        self.write(&text)?;
        self.entries.extend(items.iter().map(|(item, _)| (item.key(), item.clone())));
        Ok(())
    }

    /// Adds lines about settled messages, queue id and recipients, and makes them durable.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn note_settled(&mut self, messages: &[(String, Vec<String>)]) -> io::Result<()> {
        let mut text = Vec::new();
        for (settled, recipients) in messages {
            serde_json::to_writer(&mut text, &SettledLine { settled, recipients })?;
            text.push(b'\n');
        }
        if text.is_empty() { Ok(()) } else { self.write(&text) }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_all(text)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::QueueFolder;
    use super::*;

    fn item(id: &str) -> Item {
        Item::Queue { folder: QueueFolder::Incoming, id: id.into() }
    }

    #[test]
    fn a_line_that_was_cut_off_is_not_an_entry() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(FOLDER)).unwrap();
        let mut ledger = Ledger::open(root.path()).unwrap();
        ledger.append(&[(item("a1"), [1; 32]), (item("b2"), [2; 32])]).unwrap();
        let path = root.path().join(FOLDER).join(NAME);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut ledger = Ledger::open(root.path()).unwrap();
        assert!(ledger.has(&item("a1").key()) && !ledger.has(&item("b2").key()));
        ledger.append(&[(item("c3"), [3; 32])]).unwrap();
        let ledger = Ledger::open(root.path()).unwrap();
        assert!(ledger.has(&item("a1").key()) && ledger.has(&item("c3").key()));
        assert_eq!(ledger.items().count(), 2);
        let mut ledger = Ledger::open(root.path()).unwrap();
        ledger.note_settled(&[("d4".into(), vec!["a@b".into()])]).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with("{\"settled\":\"d4\",\"recipients\":[\"a@b\"]}\n"), "{text}");
        assert_eq!(Ledger::open(root.path()).unwrap().items().count(), 2);
    }
}
