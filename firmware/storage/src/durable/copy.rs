//! One copy of a record: a file with a 32-byte head (magic, generation, length, checksum) and the content. Written
//! beside its place and renamed over it. Does not choose between copies; that is [`super::Store`].

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// First bytes of every copy; the digit is the format's version.
const MAGIC: [u8; 8] = *b"TWPSTA01";
/// Magic 8, generation 8, length 8, CRC-32 of all else 4, zero 4.
const HEAD_BYTES: usize = 32;

/// What is wrong with a copy.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Shorter than its head says, or not one of ours.
    #[error("is cut off or not a state record")]
    Torn,
    /// Checksum differs.
    #[error("has a wrong checksum")]
    Checksum,
}

/// Reads one copy; `None` when there is no file. Never reads more than `bytes_max` of content.
pub fn read(path: &Path, bytes_max: usize) -> Result<Option<(u64, Vec<u8>)>, Damage> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Damage::Unreadable(error)),
    };
    let limit = u64::try_from(bytes_max.saturating_add(HEAD_BYTES)).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Damage::Unreadable)?;
    decode(&bytes).map(Some)
}

/// Writes one copy durably: new file, fsync, rename. The caller syncs the folder.
pub fn replace(path: &Path, generation: u64, data: &[u8]) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    let written = write_fresh(&fresh, generation, data).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // What was begun only takes space away; that it may not exist is fine.
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write_fresh(fresh: &Path, generation: u64, data: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(fresh)?;
    file.write_all(&encode(generation, data))?;
    file.sync_all()
}

fn encode(generation: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + data.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&(data.len() as u64).to_le_bytes());
    let crc = checksum(&bytes, data);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(data);
    bytes
}

fn decode(bytes: &[u8]) -> Result<(u64, Vec<u8>), Damage> {
    let Some((head, data)) = bytes.split_at_checked(HEAD_BYTES) else { return Err(Damage::Torn) };
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("a slice of 8 bytes"));
    if head[..8] != MAGIC || number(16) != data.len() as u64 || head[28..] != [0; 4] {
        return Err(Damage::Torn);
    }
    let crc = u32::from_le_bytes(head[24..28].try_into().expect("a slice of 4 bytes"));
    if crc != checksum(&head[..24], data) {
        return Err(Damage::Checksum);
    }
    Ok((number(8), data.to_vec()))
}

fn checksum(head: &[u8], data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(data);
    hasher.finalize()
}
