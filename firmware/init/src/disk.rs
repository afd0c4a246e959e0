//! Disks and partitions as sysfs shows them: by GPT name, by device number, the disk of a partition. Reads only.

use std::fs;
use std::path::{Path, PathBuf};

/// Folder of all block devices.
const CLASS: &str = "/sys/class/block";

/// A partition that the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Kernel name, for instance `vda5`.
    pub name: String,
    /// `major:minor`.
    pub number: String,
}

impl Partition {
    /// Its device node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// All partitions with this GPT name on all disks, in name order.
#[must_use]
pub fn partitions_named(label: &str) -> Vec<Partition> {
    let mut found: Vec<Partition> = fs::read_dir(CLASS)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| uevent(name, "PARTNAME").as_deref() == Some(label))
        .filter_map(|name| {
            let number = attribute(&name, "dev")?;
            Some(Partition { name, number })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The disk that holds a partition: `vda5` → `vda`.
#[must_use]
pub fn disk_of(partition: &str) -> Option<String> {
    let path = fs::canonicalize(Path::new(CLASS).join(partition)).ok()?;
    path.join("partition").exists().then_some(())?;
    Some(path.parent()?.file_name()?.to_str()?.to_owned())
}

/// The partition below the mapped root device.
#[must_use]
pub fn below_root() -> Option<String> {
    let slaves = fs::read_dir("/sys/class/block/dm-0/slaves").ok()?;
    slaves.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).next()
}

/// Sector size of a disk, bytes.
#[must_use]
pub fn sector_bytes(disk: &str) -> u64 {
    attribute(disk, "queue/logical_block_size").and_then(|text| text.parse().ok()).unwrap_or(512)
}

/// Partitions of a disk: number → kernel name.
#[must_use]
pub fn partition_names(disk: &str) -> Vec<(u32, String)> {
    fs::read_dir(Path::new(CLASS).join(disk))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let number = attribute(&name, "partition")?.parse().ok()?;
            Some((number, name))
        })
        .collect()
}

fn attribute(device: &str, name: &str) -> Option<String> {
    fs::read_to_string(Path::new(CLASS).join(device).join(name)).ok().map(|text| text.trim().to_owned())
}

fn uevent(device: &str, key: &str) -> Option<String> {
    let text = attribute(device, "uevent")?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}
