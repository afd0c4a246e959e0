//! Finds partitions by their GPT name, through the links that init makes or else in sysfs (partitions of a first boot have no
//! name there until the next one), and reads the few bytes that tell whether one was ever used. Does not
//! create partitions; that is init's work on first boot (ARCHITECTURE "Boot chain").

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where init links the partitions of the boot disk.
const BY_NAME: &str = "/dev/disk/by-partlabel";
/// Where the kernel lists block devices.
const SYS_BLOCK: &str = "/sys/class/block";
/// Most block devices looked at; the largest board has 24 drives of 16 partitions.
const DEVICES_MAX: usize = 1024;
/// A volume is fresh when this much at its beginning is zero: file systems, DRBD's older layouts and partition tables
/// all leave marks there.
pub const FRESH_BYTES: usize = 1024 * 1024;
/// sysfs counts in sectors of this size, whatever the drive's own is.
const SYSFS_SECTOR_BYTES: u64 = 512;

/// A partition that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its device node.
    pub device: PathBuf,
    /// Its size, bytes.
    pub size_bytes: u64,
}

/// Why a partition is not there.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// No partition carries the name.
    #[error(
        "partition '{name}' is missing: check that all drives are fitted and seen by the firmware, then reboot; a replaced drive gets its volumes at first boot"
    )]
    Missing {
        /// GPT name.
        name: String,
    },
    /// More than one partition carries the name: which is ours cannot be told.
    #[error(
        "partition '{name}' exists on {first} and on {second}: remove the drive that does not belong to this unit"
    )]
    Ambiguous {
        /// GPT name.
        name: String,
        /// One device.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// sysfs cannot be read.
    #[error("block devices cannot be listed while looking for partition '{name}'")]
    Sysfs {
        /// GPT name.
        name: String,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
}

/// Finds the partition with this GPT name.
///
/// # Errors
/// None or several carry the name, or sysfs cannot be read.
pub fn find(name: &str) -> Result<Partition, PartitionError> {
    match linked(Path::new(BY_NAME), Path::new(SYS_BLOCK), name) {
        Some(found) => Ok(found),
        None => find_in(Path::new(SYS_BLOCK), name),
    }
}

fn linked(by_name: &Path, sys_block: &Path, name: &str) -> Option<Partition> {
    let device = fs::canonicalize(by_name.join(name)).ok()?;
    let size_bytes = size(&sys_block.join(device.file_name()?)).ok()?;
    Some(Partition { device, size_bytes })
}

fn find_in(sys_block: &Path, name: &str) -> Result<Partition, PartitionError> {
    let sysfs = |source| PartitionError::Sysfs { name: name.to_owned(), source };
    let mut found: Option<Partition> = None;
    for entry in fs::read_dir(sys_block).map_err(sysfs)?.take(DEVICES_MAX) {
        let entry = entry.map_err(sysfs)?;
        let folder = entry.path();
        // A device may vanish between listing and reading: then it is not the one.
        let Ok(uevent) = fs::read_to_string(folder.join("uevent")) else { continue };
        if value(&uevent, "PARTNAME") != Some(name) {
            continue;
        }
        let Some(node) = value(&uevent, "DEVNAME") else { continue };
        let size_bytes = size(&folder).map_err(sysfs)?;
        let this = Partition { device: Path::new("/dev").join(node), size_bytes };
        if let Some(first) = found {
            let (name, first, second) = (name.to_owned(), first.device, this.device);
            return Err(PartitionError::Ambiguous { name, first, second });
        }
        found = Some(this);
    }
    found.ok_or_else(|| PartitionError::Missing { name: name.to_owned() })
}

/// True when the first [`FRESH_BYTES`] of the device are zero: nothing was ever stored on it.
///
/// # Errors
/// The device cannot be read.
pub fn is_fresh(device: &Path) -> io::Result<bool> {
    let mut file = File::open(device)?;
    // What this unit has cached may be older than what replication wrote below the cache. A file system that cannot
    // drop it has no such second writer.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let mut block = vec![0; 64 * 1024];
    for _ in 0..FRESH_BYTES / block.len() {
        file.read_exact(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn size(folder: &Path) -> io::Result<u64> {
    let sectors = fs::read_to_string(folder.join("size"))?;
    Ok(sectors.trim().parse::<u64>().unwrap_or(0).saturating_mul(SYSFS_SECTOR_BYTES))
}

fn value<'a>(uevent: &'a str, key: &str) -> Option<&'a str> {
    uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs(devices: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (device, uevent) in devices {
            fs::create_dir(dir.path().join(device)).unwrap();
            fs::write(dir.path().join(device).join("uevent"), uevent).unwrap();
            fs::write(dir.path().join(device).join("size"), "2048\n").unwrap();
        }
        dir
    }

    #[test]
    fn finds_a_partition_by_its_name() {
        let dir = sysfs(&[
            ("vda", "MAJOR=254\nDEVNAME=vda\nDEVTYPE=disk\n"),
            ("vda9", "DEVNAME=vda9\nDEVTYPE=partition\nPARTN=9\nPARTNAME=mail-queue\n"),
            ("vda10", "DEVNAME=vda10\nDEVTYPE=partition\nPARTN=10\nPARTNAME=mail-queue-old\n"),
        ]);
        let found = find_in(dir.path(), "mail-queue").unwrap();
        assert_eq!(found, Partition { device: "/dev/vda9".into(), size_bytes: 1 << 20 });
    }

    #[test]
    fn prefers_the_link_that_init_made() {
        let dir = sysfs(&[("vda9", "DEVNAME=vda9\nDEVTYPE=partition\n")]);
        let node = dir.path().join("vda9");
        std::os::unix::fs::symlink(&node, dir.path().join("mail-queue")).unwrap();
        let found = linked(dir.path(), dir.path(), "mail-queue").unwrap();
        assert_eq!((found.device, found.size_bytes), (node, 1 << 20));
        assert_eq!(linked(dir.path(), dir.path(), "mail-data"), None);
    }

    #[test]
    fn says_what_to_do_when_it_is_missing_or_twice_there() {
        let dir =
            sysfs(&[("sda1", "DEVNAME=sda1\nPARTNAME=state\n"), ("sdb1", "DEVNAME=sdb1\nPARTNAME=state\n")]);
        let missing = find_in(dir.path(), "mail-data").unwrap_err().to_string();
        assert!(missing.contains("'mail-data' is missing: check"), "{missing}");
        assert!(matches!(find_in(dir.path(), "state"), Err(PartitionError::Ambiguous { .. })));
    }

    #[test]
    fn only_zeros_are_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        fs::write(&path, vec![0; 2 * FRESH_BYTES]).unwrap();
        assert!(is_fresh(&path).unwrap());
        let mut bytes = vec![0; 2 * FRESH_BYTES];
        bytes[FRESH_BYTES - 1] = 1;
        fs::write(&path, bytes).unwrap();
        assert!(!is_fresh(&path).unwrap());
        fs::write(&path, b"short").unwrap();
        assert!(is_fresh(&path).is_err());
    }
}
