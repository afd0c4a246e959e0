//! Durable state on the state partition: named records in two copies, each with generation and checksum, replaced by
//! rename; and the epoch in two preallocated slots that are overwritten in place, so that a full partition never
//! stops a takeover. Knows nothing of what the records mean (`spec/ha.md` section 1, house style rule 11).
//!
//! All calls block until the data is on the medium: call them off the heartbeat path.

mod copy;
mod slot;

use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::{Path, PathBuf};
use twinpost_types::Epoch;

/// Largest record, bytes. A configuration of the largest board is about 20 KiB; the bound keeps a fault from filling
/// the partition.
pub const BYTES_MAX: usize = 1024 * 1024;
/// Longest record name, characters.
pub const NAME_CHARS_MAX: usize = 32;
/// Both copies of a record.
const COPIES: [&str; 2] = ["a", "b"];

/// The durable state of this unit.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The content.
    pub data: Vec<u8>,
    /// Grows by one with every write.
    pub generation: u64,
    /// The other copy is damaged: one sentence for the log. The next write repairs it.
    pub damaged: Option<String>,
}

impl Store {
    /// Opens the folder, which must exist, and makes the epoch slots if they are missing.
    ///
    /// # Errors
    /// The folder is missing or not writable, or the partition is full before the slots were ever made.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let store = Self { dir: dir.to_path_buf() };
        for copy in COPIES {
            slot::reserve(&store.slot_path(copy))
                .map_err(|source| OpenError { dir: store.dir.clone(), source })?;
        }
        sync_folder(dir).map_err(|source| OpenError { dir: store.dir.clone(), source })?;
        Ok(store)
    }

    /// Reads the newest valid copy; `None` if the record was never written.
    ///
    /// # Errors
    /// The name is not allowed, or copies exist and none of them is valid.
    pub fn read(&self, name: &str) -> Result<Option<Record>, ReadError> {
        check_name(name).map_err(|reason| ReadError::Name { name: name.to_owned(), reason })?;
        let copies = COPIES.map(|copy| copy::read(&self.path(name, copy), BYTES_MAX));
        newest(name, copies)
    }

    /// Replaces a record: the older (or damaged) copy is written anew, so the newer one stays whole whatever happens.
    /// Returns the new generation.
    ///
    /// # Errors
    /// The name or size is not allowed, the partition is full, or the medium fails. The last content stays readable.
    pub fn write(&self, name: &str, data: &[u8]) -> Result<u64, WriteError> {
        check_name(name).map_err(|reason| WriteError::Name { name: name.to_owned(), reason })?;
        if data.len() > BYTES_MAX {
            return Err(WriteError::TooLarge { name: name.to_owned(), bytes: data.len() });
        }
        let generations = COPIES.map(|copy| copy::read(&self.path(name, copy), BYTES_MAX).ok().flatten());
        let generation = |index: usize| generations[index].as_ref().map_or(0, |(generation, _)| *generation);
        let older = if generation(0) <= generation(1) { COPIES[0] } else { COPIES[1] };
        let next = generation(0).max(generation(1)).saturating_add(1);
        copy::replace(&self.path(name, older), next, data)
            .and_then(|()| sync_folder(&self.dir))
            .map_err(|source| WriteError::from_io(name, source))?;
        Ok(next)
    }

    /// Highest epoch stored here; `None` on a unit that never took over.
    ///
    /// # Errors
    /// Neither slot can be read, or both are damaged.
    pub fn read_epoch(&self) -> Result<Option<Epoch>, ReadError> {
        let slots = COPIES.map(|copy| slot::read(&self.slot_path(copy)));
        if slots.iter().all(Result::is_err) {
            let [first, _] = slots;
            return Err(ReadError::Damaged {
                name: "epoch".to_owned(),
                detail: first.err().map_or_else(String::new, |error| error.to_string()),
            });
        }
        Ok(slots.into_iter().filter_map(Result::ok).flatten().max().map(Epoch))
    }

    /// Stores the epoch in the slot that holds the lower one, in place. Needs no free space.
    ///
    /// # Errors
    /// The medium fails; the epoch stored before stays readable.
    pub fn write_epoch(&self, epoch: Epoch) -> Result<(), WriteError> {
        let values = COPIES.map(|copy| slot::read(&self.slot_path(copy)).ok().flatten());
        let target = if values[0] <= values[1] { COPIES[0] } else { COPIES[1] };
        slot::write(&self.slot_path(target), epoch.0).map_err(|source| WriteError::from_io("epoch", source))
    }

    fn path(&self, name: &str, copy: &str) -> PathBuf {
        self.dir.join(format!("{name}.{copy}"))
    }

    fn slot_path(&self, copy: &str) -> PathBuf {
        self.dir.join(format!("epoch-slot.{copy}"))
    }
}

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "state folder {dir} cannot be used: check that the state partition is mounted, writable and has 8 KiB free"
)]
pub struct OpenError {
    dir: PathBuf,
    source: io::Error,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Name not allowed.
    #[error("state record name '{name}' is not allowed: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is allowed.
        reason: &'static str,
    },
    /// Copies exist and none is valid.
    #[error(
        "state record '{name}' is damaged in both copies ({detail}): restore it or provision the unit again"
    )]
    Damaged {
        /// The record.
        name: String,
        /// What was found.
        detail: String,
    },
}

/// Why a record was not written. The content before stays readable.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Name not allowed.
    #[error("state record name '{name}' is not allowed: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is allowed.
        reason: &'static str,
    },
    /// Larger than [`BYTES_MAX`].
    #[error("state record '{name}' has {bytes} bytes, allowed are {BYTES_MAX}")]
    TooLarge {
        /// The record.
        name: String,
        /// Its size.
        bytes: usize,
    },
    /// No space left. Epochs are still stored.
    #[error(
        "the state partition is full, '{name}' was not stored and the old content stays in force: remove what does not belong there from /state, then repeat the change"
    )]
    Full {
        /// The record.
        name: String,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// The medium failed.
    #[error("state record '{name}' could not be written: check the drive of the state partition")]
    Medium {
        /// The record.
        name: String,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
}

impl WriteError {
    fn from_io(name: &str, source: io::Error) -> Self {
        let name = name.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { name, source },
            _ => Self::Medium { name, source },
        }
    }
}

type Copy = Result<Option<(u64, Vec<u8>)>, copy::Damage>;

fn newest(name: &str, copies: [Copy; 2]) -> Result<Option<Record>, ReadError> {
    let mut damaged = None;
    let mut best: Option<(u64, Vec<u8>)> = None;
    for (copy, label) in copies.into_iter().zip(COPIES) {
        match copy {
            Ok(Some(found)) if best.as_ref().is_none_or(|best| best.0 < found.0) => best = Some(found),
            Ok(_) => {}
            Err(damage) => damaged = Some(format!("copy {label} of state record '{name}': {damage}")),
        }
    }
    match (best, damaged) {
        (Some((generation, data)), damaged) => Ok(Some(Record { data, generation, damaged })),
        (None, None) => Ok(None),
        (None, Some(detail)) => Err(ReadError::Damaged { name: name.to_owned(), detail }),
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(allowed) {
        return Err("1 to 32 of a-z, 0-9 and -");
    }
    Ok(())
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    let folder = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(folder)?)
}

#[cfg(test)]
mod tests;
