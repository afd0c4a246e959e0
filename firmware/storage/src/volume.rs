//! Mounts and unmounts the mail volumes by system calls, and makes the file system on a volume that was never used. Never
//! touches a volume that carries anything, never unmounts lazily (`spec/mail.md` "Durability").
//!
//! All calls block: run them on a thread that may wait.

mod format;
mod users;

use crate::partition::{self, PartitionError};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twinpost_types::VolumeId;

pub use format::FormatError;

/// Where ext4 keeps its magic number, bytes from the start, and what it is (`ext4_super_block.s_magic`).
const EXT4_MAGIC: (u64, [u8; 2]) = (1080, [0x53, 0xef]);
/// How long the users of a volume have to die after SIGKILL, in steps of [`DEATH_STEP`].
const DEATH_STEPS: u32 = 50;
/// Pause between attempts to unmount.
const DEATH_STEP: Duration = Duration::from_millis(20);

/// What [`mount`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountReport {
    /// The file system was made now: the volume was new.
    pub made: bool,
}

/// Where the volume is mounted.
#[must_use]
pub fn mount_point(volume: VolumeId) -> &'static Path {
    match volume {
        VolumeId::Queue => Path::new("/mail/queue"),
        VolumeId::Data => Path::new("/mail/data"),
    }
}

/// The DRBD device of the volume.
#[must_use]
pub fn device(volume: VolumeId) -> PathBuf {
    PathBuf::from(format!("/dev/drbd{}", volume.index()))
}

/// Mounts a promoted volume; makes the file system first when its beginning is all zero. A mounted volume stays as it is. One that
/// is not replicated (`local`) lies on its partition.
///
/// # Errors
/// The volume carries foreign data or a damaged file system, or its partition is missing; the text says what the operator can do.
pub fn mount(volume: VolumeId, local: bool) -> Result<MountReport, MountError> {
    if is_mounted(volume) {
        return Ok(MountReport { made: false });
    }
    let device = if local {
        partition::find(&format!("mail-{}", volume.name())).map_err(MountError::Partition)?.device
    } else {
        device(volume)
    };
    mount_at(volume, device, mount_point(volume))
}

/// Mounts the partition of a volume that is not replicated somewhere else, so that it can be emptied; `None` when it was never used.
/// What is mounted twice is one file system.
///
/// # Errors
/// As [`mount`].
pub fn mount_local_at(volume: VolumeId, target: &Path) -> Result<Option<MountReport>, MountError> {
    let found = partition::find(&format!("mail-{}", volume.name())).map_err(MountError::Partition)?;
    let unreadable = |source| MountError::unreadable(volume, source);
    if content(&found.device).map_err(unreadable)? == Content::Nothing {
        return Ok(None);
    }
    fs::create_dir_all(target).map_err(unreadable)?;
    mount_at(volume, found.device, target).map(Some)
}

fn mount_at(volume: VolumeId, device: PathBuf, target: &Path) -> Result<MountReport, MountError> {
    let made = match content(&device).map_err(|source| MountError::unreadable(volume, source))? {
        Content::Ext4 => false,
        Content::Nothing => {
            format::make(&device, volume.name())
                .map_err(|source| MountError::Format { volume: volume.name(), source })?;
            true
        }
        Content::Foreign => return Err(MountError::Foreign { volume: volume.name(), device }),
    };
    // Nothing on the volumes is ever executed or trusted as a device or with another's rights.
    let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    // The queue journals data as well: Postfix does not sync its marks "recipient done", and whole-data journalling keeps
    // them at most one transaction behind. Dovecot syncs what it must.
    let options = match volume {
        VolumeId::Queue => c"data=journal,errors=remount-ro",
        VolumeId::Data => c"errors=remount-ro",
    };
    rustix::mount::mount(&device, target, c"ext4", flags, Some(options))
        .map_err(|source| MountError::unreadable(volume, source.into()))?;
    Ok(MountReport { made })
}

/// Flushes and unmounts. Programs that still use the volume are killed: by now all services were asked to stop.
///
/// # Errors
/// It is still in use or cannot be flushed: the unit must then be reset, because the peer is about to write.
pub fn unmount(volume: VolumeId) -> Result<(), UnmountError> {
    if !is_mounted(volume) {
        return Ok(());
    }
    let target = mount_point(volume);
    let mut killed = Vec::new();
    for step in 0..=DEATH_STEPS {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if step < DEATH_STEPS => {
                killed.extend(users::kill(target));
                std::thread::sleep(DEATH_STEP);
            }
            Err(rustix::io::Errno::BUSY) => break,
            Err(source) => return Err(UnmountError::Io { volume: volume.name(), source: source.into() }),
        }
    }
    killed.sort_unstable();
    killed.dedup();
    Err(UnmountError::Busy { volume: volume.name(), users: killed.join(", ") })
}

/// True while the volume is mounted.
#[must_use]
pub fn is_mounted(volume: VolumeId) -> bool {
    let target = mount_point(volume);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == target))
}

/// Why a volume was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// It is not replicated, and its partition is not there.
    #[error(transparent)]
    Partition(PartitionError),
    /// Neither empty nor ext4.
    #[error(
        "volume {volume} ({device}) holds data that is not a mail file system, it was left untouched: restore it, or, if nothing on it is needed, erase its first MiB on the unit that is PRIMARY and run 'diagnose system ha restart'"
    )]
    Foreign {
        /// Volume.
        volume: &'static str,
        /// Device.
        device: PathBuf,
    },
    /// Cannot be read or mounted.
    #[error(
        "volume {volume} cannot be mounted: check the drive; if the file system is damaged, run e2fsck on {device} while no unit is PRIMARY"
    )]
    Unreadable {
        /// Volume.
        volume: &'static str,
        /// Device.
        device: PathBuf,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// The file system could not be made.
    #[error("volume {volume} is new and its file system could not be made")]
    Format {
        /// Volume.
        volume: &'static str,
        /// Why.
        #[source]
        source: FormatError,
    },
}

impl MountError {
    fn unreadable(volume: VolumeId, source: io::Error) -> Self {
        Self::Unreadable { volume: volume.name(), device: device(volume), source }
    }
}

/// Why a volume was not unmounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Still in use after its users were killed.
    #[error(
        "volume {volume} is still in use after 1 s (killed: {users}): the unit must be reset before the other one takes over"
    )]
    Busy {
        /// Volume.
        volume: &'static str,
        /// Programs that were killed.
        users: String,
    },
    /// The kernel cannot.
    #[error("volume {volume} could not be unmounted: the unit must be reset before the other one takes over")]
    Io {
        /// Volume.
        volume: &'static str,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    Ext4,
    Foreign,
}

fn content(device: &Path) -> io::Result<Content> {
    let (at, expected) = EXT4_MAGIC;
    let mut magic = [0; 2];
    File::open(device)?.read_exact_at(&mut magic, at)?;
    Ok(match magic {
        magic if magic == expected => Content::Ext4,
        _ if partition::is_fresh(device)? => Content::Nothing,
        _ => Content::Foreign,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_empty_from_ours_from_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(16 << 20).unwrap();
        assert_eq!(content(&path).unwrap(), Content::Nothing);
        format::make(&path, "queue").unwrap();
        assert_eq!(content(&path).unwrap(), Content::Ext4);
        fs::write(&path, vec![7; 2 << 20]).unwrap();
        assert_eq!(content(&path).unwrap(), Content::Foreign);
        assert!(content(&dir.path().join("nothing")).is_err());
    }

    #[test]
    fn what_is_not_mounted_is_unmounted_already() {
        assert!(!is_mounted(VolumeId::Queue));
        unmount(VolumeId::Queue).unwrap();
    }

    #[test]
    fn errors_tell_the_operator_what_to_do() {
        let error = MountError::Foreign { volume: "queue", device: device(VolumeId::Queue) };
        assert!(error.to_string().contains("left untouched") && error.to_string().contains("erase"));
    }
}
