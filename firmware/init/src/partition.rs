//! Carries out the layout of the first boot on the boot disk: zeroes what the new partitions will cover at their edges,
//! then writes the table (both copies, the second at the end of the real disk), then tells the kernel. In this order a
//! power cut leaves either no new partition or clean ones.
//! `unsafe`: one ioctl (BLKPG), by which a partition is added to a disk that is in use.

use crate::layout::{self, Existing, Layout, MIB, New};
use gpt::disk::LogicalBlockSize;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Where every partition of the boot disk is found by its GPT name, also those made on this boot.
pub const BY_LABEL: &str = "/dev/disk/by-partlabel";
/// Attribute of a partition that was made and whose file system was not finished. The first of the bits that GPT
/// leaves to the partition's type.
const UNFINISHED: u64 = 1 << 48;

/// Written at a time, bytes: PID 1 stays small.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why the table was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The disk under the root is not known.
    #[error("cannot tell which disk the root is on")]
    NoDisk,
    /// The table is damaged or not there.
    #[error("cannot {what} the partition table of {}", disk.display())]
    Table {
        /// Read or write.
        what: &'static str,
        /// Disk.
        disk: PathBuf,
        /// Why.
        #[source]
        source: gpt::GptError,
    },
    /// The disk cannot be written.
    #[error("cannot write {}", disk.display())]
    Write {
        /// Disk.
        disk: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not take a new partition.
    #[error("the kernel does not take partition {number}")]
    Kernel {
        /// Number in the table.
        number: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is too small.
    #[error("no room on the disk for {names}: it must have at least {lacking_mib} MiB more")]
    NoRoom {
        /// What was not made.
        names: String,
        /// How much is missing for the smallest sizes.
        lacking_mib: u64,
    },
}

/// A new partition with its number in the table.
pub type Made = (u32, New);

/// Makes what is missing on the disk or image file `disk`. Returns what was made and what found no room.
///
/// # Errors
/// See [`PartitionError`]; nothing is half done except that edges may be zeroed which belong to no partition.
pub fn make(disk: &Path, sector_bytes: u64) -> Result<(Vec<Made>, Layout), PartitionError> {
    let table = |what| move |source| PartitionError::Table { what, disk: disk.to_owned(), source };
    let mut gpt = open(disk, sector_bytes, true).map_err(table("read"))?;
    let partitions = gpt.partitions().clone();
    // Puts the second copy to the end of the real disk and lets the usable space grow with it.
    gpt.update_partitions(partitions).map_err(table("read"))?;
    let existing: Vec<Existing> = used(&gpt)
        .map(|(_, partition)| Existing { name: partition.name.clone(), last_lba: partition.last_lba })
        .collect();
    let layout = layout::plan(&existing, gpt.header().first_usable, gpt.header().last_usable, sector_bytes);
    if layout.new.is_empty() {
        return Ok((Vec::new(), layout));
    }
    let write = |source| PartitionError::Write { disk: disk.to_owned(), source };
    let file = File::options().write(true).open(disk).map_err(write)?;
    for new in &layout.new {
        zero_edges(&file, new.first_lba * sector_bytes, new.sectors * sector_bytes).map_err(write)?;
    }
    file.sync_all().map_err(write)?;
    let mut made = Vec::new();
    for new in &layout.new {
        let number = gpt.find_next_partition_id().unwrap_or(u32::MAX);
        let flags = if has_file_system(new.name) { UNFINISHED } else { 0 };
        let kind = gpt::partition_types::LINUX_FS;
        gpt.add_partition_at(new.name, number, new.first_lba, new.sectors, kind, flags)
            .map_err(table("extend"))?;
        made.push((number, *new));
    }
    let file = gpt.write().map_err(table("write"))?;
    file.sync_all().map_err(write)?;
    Ok((made, layout))
}

/// Names of the partitions on `disk` that were made and whose file system was not finished.
///
/// # Errors
/// When the table cannot be read.
pub fn unfinished(disk: &Path, sector_bytes: u64) -> Result<Vec<String>, PartitionError> {
    let gpt = open(disk, sector_bytes, false).map_err(|source| PartitionError::Table {
        what: "read",
        disk: disk.to_owned(),
        source,
    })?;
    Ok(used(&gpt)
        .filter(|(_, partition)| partition.flags & UNFINISHED != 0)
        .map(|(_, partition)| partition.name.clone())
        .collect())
}

/// Notes that the file system of `name` is finished.
///
/// # Errors
/// When the table cannot be read or written.
pub fn finish(disk: &Path, sector_bytes: u64, name: &str) -> Result<(), PartitionError> {
    let table = |what| move |source| PartitionError::Table { what, disk: disk.to_owned(), source };
    let mut gpt = open(disk, sector_bytes, true).map_err(table("read"))?;
    let mut partitions = gpt.partitions().clone();
    for partition in partitions.values_mut().filter(|partition| partition.name == name) {
        partition.flags &= !UNFINISHED;
    }
    gpt.update_partitions(partitions).map_err(table("extend"))?;
    let file = gpt.write().map_err(table("write"))?;
    file.sync_all().map_err(|source| PartitionError::Write { disk: disk.to_owned(), source })
}

/// Tells the kernel of new partitions.
///
/// # Errors
/// The first one that the kernel refuses.
pub fn announce(disk: &Path, sector_bytes: u64, made: &[Made]) -> Result<(), PartitionError> {
    let file = File::options().read(true).open(disk);
    let file = file.map_err(|source| PartitionError::Write { disk: disk.to_owned(), source })?;
    for (number, new) in made {
        add(&file, *number, new.first_lba * sector_bytes, new.sectors * sector_bytes)
            .map_err(|source| PartitionError::Kernel { number: *number, source })?;
    }
    Ok(())
}

/// Links every partition of `disk` (kernel name) by its GPT name into [`BY_LABEL`].
///
/// # Errors
/// When the table cannot be read.
pub fn link(disk: &str, sector_bytes: u64) -> Result<(), PartitionError> {
    let path = Path::new("/dev").join(disk);
    let gpt = open(&path, sector_bytes, false).map_err(|source| PartitionError::Table {
        what: "read",
        disk: path.clone(),
        source,
    })?;
    let nodes = crate::disk::partition_names(disk);
    let _ = fs::create_dir_all(BY_LABEL);
    for (number, partition) in used(&gpt) {
        let Some((_, node)) = nodes.iter().find(|(index, _)| *index == number) else { continue };
        if partition.name.is_empty() || partition.name.contains('/') {
            continue;
        }
        let place = Path::new(BY_LABEL).join(&partition.name);
        let _ = fs::remove_file(&place);
        let _ = std::os::unix::fs::symlink(format!("../../{node}"), place);
    }
    Ok(())
}

/// Whether `init` makes a file system on it; the mail volumes belong to replication.
#[must_use]
pub fn has_file_system(name: &str) -> bool {
    name == "state" || name == "log"
}

fn open(disk: &Path, sector_bytes: u64, writable: bool) -> Result<gpt::GptDisk<File>, gpt::GptError> {
    let size = if sector_bytes == 4096 { LogicalBlockSize::Lb4096 } else { LogicalBlockSize::Lb512 };
    gpt::GptConfig::new().writable(writable).logical_block_size(size).open(disk)
}

fn used(gpt: &gpt::GptDisk<File>) -> impl Iterator<Item = (u32, &gpt::partition::Partition)> {
    gpt.partitions().iter().filter(|(_, partition)| partition.is_used()).map(|(number, p)| (*number, p))
}

/// Zeroes the first and the last MiB: no old file system and no old replication metadata shows through.
fn zero_edges(file: &File, start: u64, bytes: u64) -> io::Result<()> {
    let zeroes = vec![0; CHUNK_BYTES];
    let step = u64::try_from(CHUNK_BYTES).map_err(io::Error::other)?;
    for edge in [start, start + bytes.saturating_sub(MIB)] {
        for at in (edge..edge + MIB).step_by(CHUNK_BYTES) {
            file.write_all_at(&zeroes[..usize::try_from(step.min(edge + MIB - at)).unwrap_or(0)], at)?;
        }
    }
    Ok(())
}

/// `struct blkpg_partition` of linux/blkpg.h.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArg {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut BlkpgPartition,
}

/// `BLKPG`: `_IO(0x12, 105)`.
const BLKPG: libc::Ioctl = 0x1269;
/// `BLKPG_ADD_PARTITION`.
const ADD: libc::c_int = 1;

fn add(disk: &File, number: u32, start: u64, bytes: u64) -> io::Result<()> {
    let signed = |value: u64| i64::try_from(value).map_err(io::Error::other);
    let mut partition = BlkpgPartition {
        start: signed(start)?,
        length: signed(bytes)?,
        number: i32::try_from(number).map_err(io::Error::other)?,
        names: [0; 128],
    };
    let length = i32::try_from(size_of::<BlkpgPartition>()).map_err(io::Error::other)?;
    let mut argument = BlkpgArg { operation: ADD, flags: 0, length, data: &raw mut partition };
    // SAFETY: both structures have the kernel's layout and outlive the call, which only reads them.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &raw mut argument) };
    let error = io::Error::last_os_error();
    match (result, error.raw_os_error()) {
        (0, _) | (_, Some(libc::EBUSY)) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek as _, SeekFrom};

    fn image() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("scratch file");
        file.as_file().set_len(64 * MIB).expect("grows");
        gpt::mbr::ProtectiveMBR::new().overwrite_lba0(&mut file.as_file()).expect("writes");
        let mut disk = gpt::GptConfig::new()
            .writable(true)
            .create_from_device(Box::new(file.reopen().expect("opens")), None)
            .expect("creates");
        disk.add_partition_at("root-B", 1, 2048, 20480, gpt::partition_types::LINUX_FS, 0).expect("fits");
        disk.write().expect("writes").sync_all().expect("syncs");
        file
    }

    #[test]
    fn image_on_a_larger_disk_with_old_data_gets_clean_partitions_and_a_backup_at_the_end() {
        let file = image();
        let size = 1200 * MIB;
        file.as_file().set_len(size).expect("grows");
        file.as_file().write_all_at(&[0xff; 4096], 12 * MIB).expect("old data");
        let (made, layout) = make(file.path(), 512).expect("makes");
        assert_eq!(made.iter().map(|(_, new)| new.name).collect::<Vec<_>>(), crate::layout::MADE);
        assert!(layout.no_room.is_empty());
        let strict =
            gpt::GptConfig::new().only_valid_headers(true).open(file.path()).expect("both copies valid");
        assert_eq!(strict.backup_header().expect("there").current_lba, size / 512 - 1);
        assert_eq!(strict.partitions().get(&1).expect("kept").name, "root-B");
        let mut bytes = vec![1; 4096];
        for (_, new) in &made {
            file.as_file().read_exact_at(&mut bytes, new.first_lba * 512).expect("reads");
            assert!(bytes.iter().all(|byte| *byte == 0), "{}", new.name);
        }
        assert_eq!(unfinished(file.path(), 512).expect("reads"), ["state", "log"]);
        finish(file.path(), 512, "state").expect("notes");
        assert_eq!(unfinished(file.path(), 512).expect("reads"), ["log"]);
        assert!(make(file.path(), 512).expect("again").0.is_empty());
    }

    #[test]
    fn damaged_table_is_refused_and_not_touched() {
        let mut file = tempfile::NamedTempFile::new().expect("scratch file");
        file.as_file().set_len(64 * MIB).expect("grows");
        assert!(matches!(make(file.path(), 512), Err(PartitionError::Table { .. })));
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).expect("seeks");
        std::io::Read::read_to_end(&mut file, &mut bytes).expect("reads");
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}
