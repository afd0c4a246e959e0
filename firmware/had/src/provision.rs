//! Finds the unit's configuration: the stored one, or a script on a provisioning disk, which is checked whole before it is
//! stored (ARCHITECTURE.md, "Provisioning"). Applies nothing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use twinpost_config::{Config, SCRIPT_BYTES_MAX};
use twinpost_storage::durable::Store;

/// Name of the durable record.
const RECORD: &str = "config";
/// The file that makes a disk a provisioning disk.
const SCRIPT_NAME: &str = "twinpost.conf";
/// Block devices that are never provisioning disks.
const NOT_DISKS: [&str; 7] = ["dm-", "drbd", "fd", "loop", "ram", "sr", "zram"];
/// How often a disk is looked for before the unit starts without one: a stick on USB shows up some seconds after its driver.
const LOOKS: u32 = 40;
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why there is no configuration. Every text says what to do.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Nothing stored, nothing provided.
    #[error(
        "this unit has no configuration and HA is off: attach a provisioning disk, that is a tar archive with the one file \
         {SCRIPT_NAME} written to the start of an empty disk, and reboot"
    )]
    Nothing,
    /// A disk without partitions that holds something else.
    #[error(
        "this unit has no configuration and HA is off: the disk {disk} does not begin with a tar archive holding {SCRIPT_NAME} ({found}); \
         write one with: tar -cf /dev/{disk} --format=ustar {SCRIPT_NAME}, and reboot"
    )]
    NotAScript {
        /// Device name.
        disk: String,
        /// What was found.
        found: String,
    },
    /// The script is wrong; nothing was applied.
    #[error("the configuration script on {source_name} is wrong, nothing was applied: {message}")]
    Script {
        /// Where it came from.
        source_name: String,
        /// Line, column, variable, what is allowed.
        message: String,
    },
    /// The state partition cannot be read or written.
    #[error(
        "the configuration cannot be kept: {0}; check the state partition with get system ha status and the log"
    )]
    State(String),
}

/// The configuration and where it was found.
pub struct Found {
    /// The settings.
    pub config: Config,
    /// Revision: the generation of the durable record.
    pub revision: u64,
    /// It was taken from a provisioning disk just now.
    pub from_disk: Option<String>,
}

/// Reads the stored configuration, or takes one from a provisioning disk.
///
/// # Errors
/// See [`ConfigError`]; the unit then runs with factory settings and HA off.
pub fn load(store: &Store, ports: &[&str]) -> Result<Found, ConfigError> {
    let stored = store.read(RECORD).map_err(|e| ConfigError::State(chain(&e)))?;
    if let Some(record) = stored {
        let text = String::from_utf8_lossy(&record.data);
        let config = parse(&text, ports, "the state partition")?;
        return Ok(Found { config, revision: record.generation, from_disk: None });
    }
    let wait = || std::thread::sleep(LOOK_EVERY);
    let (disk, text) = search(Path::new("/sys/block"), Path::new("/dev"), wait)?;
    let config = parse(&text, ports, &format!("disk {disk}"))?;
    let revision = store.write(RECORD, text.as_bytes()).map_err(|e| ConfigError::State(chain(&e)))?;
    Ok(Found { config, revision, from_disk: Some(disk) })
}

fn parse(text: &str, ports: &[&str], source_name: &str) -> Result<Config, ConfigError> {
    twinpost_config::parse(text, ports).map_err(|error| ConfigError::Script {
        source_name: source_name.to_string(),
        message: error.to_string(),
    })
}

/// Looks until there is a disk that can be one.
fn search(sys_block: &Path, dev: &Path, mut wait: impl FnMut()) -> Result<(String, String), ConfigError> {
    for _ in 1..LOOKS {
        match look(sys_block, dev) {
            Err(ConfigError::Nothing) => wait(),
            found => return found,
        }
    }
    look(sys_block, dev)
}

/// Looks at every whole disk without partitions.
fn look(sys_block: &Path, dev: &Path) -> Result<(String, String), ConfigError> {
    let mut failure = ConfigError::Nothing;
    for disk in candidates(sys_block) {
        match read_script(&dev.join(&disk)) {
            Ok(text) => return Ok((disk, text)),
            Err(found) => failure = ConfigError::NotAScript { disk, found },
        }
    }
    Err(failure)
}

fn candidates(sys_block: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(sys_block) else { return Vec::new() };
    let mut disks: Vec<String> = folder
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|name| !has_partitions(&sys_block.join(name)) && has_medium(&sys_block.join(name)))
        .collect();
    disks.sort();
    disks
}

fn has_partitions(sys_disk: &PathBuf) -> bool {
    std::fs::read_dir(sys_disk)
        .is_ok_and(|folder| folder.flatten().any(|entry| entry.path().join("partition").exists()))
}

/// Card readers are disks also while no card is in them.
fn has_medium(sys_disk: &Path) -> bool {
    std::fs::read_to_string(sys_disk.join("size")).is_ok_and(|sectors| sectors.trim() != "0")
}

/// The script of a provisioning disk, or what stands there instead.
fn read_script(device: &Path) -> Result<String, String> {
    let file = File::open(device).map_err(|e| format!("cannot be opened: {e}"))?;
    let limit = u64::try_from(SCRIPT_BYTES_MAX).unwrap_or(u64::MAX);
    let mut archive = tar::Archive::new(file.take(limit + 4096));
    let mut entries = archive.entries().map_err(|e| format!("cannot be read: {e}"))?;
    let entry = entries.next().ok_or("it is empty")?.map_err(|_| "no tar header".to_string())?;
    let name = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
    if name.trim_start_matches("./") != SCRIPT_NAME {
        return Err(format!("its first file is {:?}", name.chars().take(40).collect::<String>()));
    }
    if entry.size() > limit {
        return Err(format!("{SCRIPT_NAME} has {} bytes, allowed are {limit}", entry.size()));
    }
    let mut text = String::new();
    entry.take(limit).read_to_string(&mut text).map_err(|e| format!("{SCRIPT_NAME} cannot be read: {e}"))?;
    Ok(text)
}

/// An error with its sources in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        line.push_str(": ");
        line.push_str(&source.to_string());
        cause = source.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn garbage_and_blank_disks_are_told_apart_from_scripts() {
        assert_eq!(read_script(disk(&[0; 65536]).path()).unwrap_err(), "it is empty");
        assert_eq!(read_script(disk(&[0xA5; 65536]).path()).unwrap_err(), "no tar header");
        let mut other = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        other.append_data(&mut header, "other.txt", &b"hi"[..]).unwrap();
        assert!(read_script(disk(&other.into_inner().unwrap()).path()).unwrap_err().contains("other.txt"));
    }

    const SCRIPT: &str = "config system ha\nend\n";

    fn archive() -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(SCRIPT.len() as u64);
        archive.append_data(&mut header, SCRIPT_NAME, SCRIPT.as_bytes()).unwrap();
        let mut bytes = archive.into_inner().unwrap();
        bytes.resize(1 << 20, 0x5A);
        bytes
    }

    #[test]
    fn a_script_is_read_whole() {
        assert_eq!(read_script(disk(&archive()).path()).unwrap(), SCRIPT);
    }

    #[test]
    fn a_disk_that_shows_up_late_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let (sys, dev) = (root.path().join("sys"), root.path().join("dev"));
        let make = |name: &str, sectors: &str| {
            std::fs::create_dir_all(sys.join(name)).unwrap();
            std::fs::write(sys.join(name).join("size"), sectors).unwrap();
        };
        std::fs::create_dir_all(&dev).unwrap();
        // A card reader without a card, and a floppy drive.
        make("sda", "0\n");
        make("fd0", "8\n");
        let mut looks = 0;
        let none = search(&sys, &dev, || looks += 1);
        assert!(matches!(none, Err(ConfigError::Nothing)) && looks == LOOKS - 1);
        let mut looks = 0;
        let found = search(&sys, &dev, || {
            looks += 1;
            if looks == 3 {
                make("sdb", "2048\n");
                std::fs::write(dev.join("sdb"), archive()).unwrap();
            }
        });
        assert_eq!((found.unwrap(), looks), (("sdb".to_owned(), SCRIPT.to_owned()), 3));
    }
}
