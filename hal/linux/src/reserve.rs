//! The block of a drive that is reserved for tests: a small file of its own on a file system of that drive, written and read
//! with `O_DIRECT`, so that neither goes further than the drive and neither stops short of it.
//!
//! A file, not a raw sector: partitions are filled to their last block by file systems and by replication, and a file belongs to
//! nobody else. Overwriting it in place touches the drive and not the journal, and a file system that the kernel made read-only
//! refuses, which is a failure that must be seen.

use crate::LinuxError;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Size and alignment: the largest block that `O_DIRECT` asks for on drives of today.
const BLOCK: usize = 4096;

/// A reserved block.
#[derive(Clone, Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    round: u64,
}

impl Reserve {
    /// The file is made at the first test.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), round: 0 }
    }

    /// Writes another pattern than the last one and reads it back.
    pub fn exercise(&mut self) -> Result<(), LinuxError> {
        let written = |source| LinuxError::Write { path: self.path.clone(), source };
        // A file that can be neither made nor found has failed, whatever the kernel calls it: the drive itself is there.
        let file = open(&self.path)?;
        self.round = self.round.wrapping_add(1);
        // Zeroed memory twice the size holds an aligned block of it.
        let mut memory = vec![0_u8; 2 * BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        let block = memory.get_mut(start..start + BLOCK).ok_or_else(|| LinuxError::Nonsense {
            path: self.path.clone(),
            text: "no aligned memory".to_owned(),
        })?;
        block.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&self.round.to_le_bytes()));
        file.write_all_at(block, 0).map_err(written)?;
        block.fill(0);
        file.read_exact_at(block, 0)
            .map_err(|source| LinuxError::Read { path: self.path.clone(), source })?;
        let same = block.chunks_exact(8).all(|part| part == self.round.to_le_bytes());
        if same { Ok(()) } else { Err(LinuxError::Forgets { path: self.path.clone() }) }
    }
}

/// `O_DSYNC`: the drive's own cache is no answer.
fn open(path: &Path) -> Result<File, LinuxError> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .mode(0o600)
        .open(path)
        .map_err(|source| LinuxError::Write { path: path.to_owned(), source })
}
