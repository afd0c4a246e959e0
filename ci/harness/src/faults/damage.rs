//! Damages the disks of units that are switched off: overwrites the edges of a partition, fills the state partition to the last block.
//! Partitions are found by their GPT names in the table that the unit itself wrote.

use super::FaultError;
use crate::boot::partition;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is overwritten at each end of a partition: a file system's start, and DRBD's metadata at the end.
const EDGE_BYTES: u64 = 2 * 1024 * 1024;
/// The byte that is written.
const GARBAGE: u8 = 0x5A;
/// e2fsck: 0 nothing to do, 1 repaired.
const REPAIRED: i32 = 1;

/// What the advice tells an operator to erase at each end.
const ERASED_BYTES: u64 = 1024 * 1024;

/// Overwrites both ends of a partition with garbage.
pub fn garble(disk: &Path, name: &str) -> Result<(), FaultError> {
    overwrite(disk, name, GARBAGE, EDGE_BYTES)
}

/// Erases the first and the last MiB of a partition, as the alarm about a foreign volume advises.
pub fn erase(disk: &Path, name: &str) -> Result<(), FaultError> {
    overwrite(disk, name, 0, ERASED_BYTES)
}

fn overwrite(disk: &Path, name: &str, byte: u8, length: u64) -> Result<(), FaultError> {
    let write = || {
        let file = File::options().read(true).write(true).open(disk)?;
        let Range { start, end } = partition(&file, name)?;
        let bytes = vec![byte; usize::try_from(length).map_err(std::io::Error::other)?];
        file.write_all_at(&bytes, start)?;
        file.write_all_at(&bytes, end.saturating_sub(length))
    };
    write().map_err(|source| FaultError::Damage { what: "overwrite", path: disk.to_owned(), source })
}

/// Size of a partition, MiB.
pub fn size_mib(disk: &Path, name: &str) -> Result<u64, FaultError> {
    let read = || File::open(disk).and_then(|file| partition(&file, name));
    let range =
        read().map_err(|source| FaultError::Damage { what: "read", path: disk.to_owned(), source })?;
    Ok((range.end - range.start) / (1024 * 1024))
}

/// Fills the state partition with one large file until no block is free.
pub fn fill_state(disk: &Path, scratch: &Path) -> Result<(), FaultError> {
    let (image, filler) = (scratch.join("state.ext4"), scratch.join("filler"));
    let fill = || {
        let file = File::options().read(true).write(true).open(disk)?;
        let range = partition(&file, "state")?;
        copy(&file, range.start, &mut File::create(&image)?, 0, range.end - range.start)?;
        let size = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
        std::fs::write(&filler, vec![GARBAGE; size])?;
        // The unit lost its power while the file system was mounted: the journal comes first.
        repair(&image)?;
        // It says that there is no room for all of it: that is what is wanted.
        let order = format!("write {} filler", filler.display());
        run(Command::new("/usr/sbin/debugfs").args(["-w", "-R", &order]).arg(&image))?;
        repair(&image)?;
        copy(&File::open(&image)?, 0, &mut &file, range.start, range.end - range.start)
    };
    let filled = fill();
    // Scratch of the run; the next run empties the folder anyway.
    let _ = std::fs::remove_file(&image);
    let _ = std::fs::remove_file(&filler);
    filled.map_err(|source| FaultError::Damage {
        what: "fill the state partition (with debugfs of e2fsprogs) of",
        path: disk.to_owned(),
        source,
    })
}

fn repair(image: &Path) -> std::io::Result<()> {
    let code = run(Command::new("/usr/sbin/e2fsck").arg("-fy").arg(image))?;
    if code > REPAIRED {
        return Err(std::io::Error::other(format!("e2fsck ended with {code}")));
    }
    Ok(())
}

fn run(command: &mut Command) -> std::io::Result<i32> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    status.code().ok_or_else(|| std::io::Error::other("killed by a signal"))
}

fn copy(
    mut from: &File,
    from_at: u64,
    to: &mut (impl Write + Seek),
    to_at: u64,
    bytes: u64,
) -> std::io::Result<()> {
    from.seek(SeekFrom::Start(from_at))?;
    to.seek(SeekFrom::Start(to_at))?;
    std::io::copy(&mut from.take(bytes), to).map(drop)
}
