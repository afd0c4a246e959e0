//! One slot of the epoch: a file of one block whose space is taken when the store is opened and which is then
//! overwritten in place. In-place writes of allocated blocks need no free space, and a torn write damages only the
//! slot with the lower epoch. Does not choose between slots; that is [`super::Store`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// One file system block: what is torn or written is one unit of the medium's mapping.
const SLOT_BYTES: usize = 4096;
/// First bytes of a written slot.
const MAGIC: [u8; 8] = *b"TWPEPO01";

/// Makes the slot if it is missing or shorter than a block. Zeros are written rather than allocated, because a
/// preallocated extent is converted at its first write, which needs space again.
pub fn reserve(path: &Path) -> io::Result<()> {
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length >= SLOT_BYTES {
        return Ok(());
    }
    // What a shorter file holds is kept: it is either a torn reservation (zeros) or foreign (and then damaged).
    file.read_to_end(&mut Vec::new())?;
    file.write_all(&vec![0; SLOT_BYTES - length])?;
    file.sync_all()
}

/// The epoch in this slot; `None` if none was ever written.
pub fn read(path: &Path) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    let mut block = [0; SLOT_BYTES];
    file.read_exact_at(&mut block, 0)?;
    decode(&block)
}

/// Writes the epoch in place and waits for the medium.
pub fn write(path: &Path, epoch: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(&encode(epoch), 0)?;
    file.sync_data()
}

fn encode(epoch: u64) -> [u8; SLOT_BYTES] {
    let mut block = [0; SLOT_BYTES];
    block[..8].copy_from_slice(&MAGIC);
    block[8..16].copy_from_slice(&epoch.to_le_bytes());
    let crc = crc32fast::hash(&block[..16]);
    block[16..20].copy_from_slice(&crc.to_le_bytes());
    block
}

fn decode(block: &[u8; SLOT_BYTES]) -> io::Result<Option<u64>> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let crc = u32::from_le_bytes(block[16..20].try_into().expect("a slice of 4 bytes"));
    if block[..8] != MAGIC || crc != crc32fast::hash(&block[..16]) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "epoch slot has a wrong checksum"));
    }
    Ok(Some(u64::from_le_bytes(block[8..16].try_into().expect("a slice of 8 bytes"))))
}
