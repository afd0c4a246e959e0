//! Mounts and unmounts the mail volumes by system calls, and makes the file system on a volume that was never used. Never
//! touches a volume that carries anything, never unmounts lazily (`spec/mail.md` "Durability"). How an export is mounted is in `nfs`.
//!
//! All calls block: run them on a thread that may wait.

mod format;
mod users;

use crate::drbd::superblock;
use crate::nfs::{self, Export, NfsError};
use crate::partition::{self, PartitionError};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use twinpost_types::VolumeId;

pub use format::FormatError;

/// Where ext4 keeps its magic number, bytes from the start, and what it is (`ext4_super_block.s_magic`).
const EXT4_MAGIC: (u64, [u8; 2]) = (1080, [0x53, 0xef]);
/// How long the users of a volume have to die after SIGKILL, in steps of [`DEATH_STEP`].
const DEATH_STEPS: u32 = 50;
/// How long a server may take to store what is left to be written, before the unmounting gives it up. Nobody was told that it is stored.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
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

/// Where a volume lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On this unit's partition and, below DRBD, on the other one's.
    #[default]
    Replicated,
    /// On this unit's partition alone.
    Local,
    /// On a server. What lies on this unit's partition was left there before.
    Server(Export),
}

/// Mounts a promoted volume; makes the file system first when its beginning is all zero. A mounted volume stays as it is.
///
/// # Errors
/// The volume carries foreign data or a damaged file system, its partition is missing, or its server does not give it; the text says
/// what the operator can do.
pub fn mount(volume: VolumeId, place: &Place) -> Result<MountReport, MountError> {
    if is_mounted(volume) {
        return Ok(MountReport { made: false });
    }
    let device = match place {
        Place::Replicated => device(volume),
        Place::Local => local(volume)?,
        Place::Server(export) => {
            nfs::mount(export, mount_point(volume))?;
            return Ok(MountReport { made: false });
        }
    };
    mount_at(volume, device, mount_point(volume))
}

/// Mounts the partition of a volume that is not replicated somewhere else, so that it can be emptied; `None` when it was never used.
/// What is mounted twice is one file system. A copy that was replicated is taken out of replication for good if it is `left` behind: the
/// volume lies on a server now.
///
/// # Errors
/// As [`mount`].
pub fn mount_local_at(
    volume: VolumeId,
    left: bool,
    target: &Path,
) -> Result<Option<MountReport>, MountError> {
    let found = partition::find(&format!("mail-{}", volume.name())).map_err(MountError::Partition)?;
    let unreadable = |source| MountError::unreadable(volume, source);
    if content(&found.device).map_err(unreadable)? == Content::Nothing {
        return Ok(None);
    }
    if left {
        retire(volume, &found.device)?;
    }
    let device = local(volume)?;
    fs::create_dir_all(target).map_err(unreadable)?;
    mount_at(volume, device, target).map(Some)
}

/// The partition of a volume that is not replicated. Written to beside DRBD, its metadata would vouch for blocks that it has not seen.
fn local(volume: VolumeId) -> Result<PathBuf, MountError> {
    let device = partition::find(&format!("mail-{}", volume.name())).map_err(MountError::Partition)?.device;
    match superblock::read(&device).map_err(|source| MountError::unreadable(volume, source))? {
        None => Ok(device),
        Some(_) => Err(MountError::Replicated { volume: volume.name(), device }),
    }
}

/// Takes a copy out of replication. One in the middle of a resynchronisation is no file system, and stays as it is.
fn retire(volume: VolumeId, device: &Path) -> Result<(), MountError> {
    let unreadable = |source| MountError::unreadable(volume, source);
    match superblock::read(device).map_err(unreadable)? {
        None => Ok(()),
        Some(found) if found.consistent => superblock::erase(device).map_err(unreadable),
        Some(_) => Err(MountError::Half { volume: volume.name(), device: device.to_path_buf() }),
    }
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

/// Flushes and unmounts. Programs that still use the volume are killed: by now all services were asked to stop. What a server does not
/// take within [`FLUSH_LIMIT`] is given up.
///
/// # Errors
/// It is still in use or cannot be flushed: the unit must then be reset, because the peer is about to write.
pub fn unmount(volume: VolumeId) -> Result<(), UnmountError> {
    let Some(kind) = mounted(volume) else { return Ok(()) };
    let target = mount_point(volume);
    let mut killed = Vec::new();
    let mut flags = UnmountFlags::NOFOLLOW;
    if kind == Kind::Nfs && !flushed(target) {
        killed.extend(users::kill(target));
        flags |= UnmountFlags::FORCE;
    }
    for step in 0..=DEATH_STEPS {
        match rustix::mount::unmount(target, flags) {
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

/// Whether all that was written reached the server within the limit. A thread that waits for a dead server ends when its requests are
/// ended by force.
fn flushed(target: &'static Path) -> bool {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let flushed = File::open(target).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
        // Nobody waits any more.
        let _ = done.send(flushed.is_ok());
    });
    wait.recv_timeout(FLUSH_LIMIT).unwrap_or(false)
}

/// True while the volume is mounted. Asks the kernel only, never a server.
#[must_use]
pub fn is_mounted(volume: VolumeId) -> bool {
    mounted(volume).is_some()
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Disk,
    Nfs,
}

fn mounted(volume: VolumeId) -> Option<Kind> {
    mounted_in(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), mount_point(volume))
}

fn mounted_in(mounts: &str, target: &Path) -> Option<Kind> {
    let mut there = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        (Path::new(at) == target).then_some(if kind.starts_with("nfs") { Kind::Nfs } else { Kind::Disk })
    });
    there.next_back()
}

/// Why a volume was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// It is not replicated, and its partition is not there.
    #[error(transparent)]
    Partition(PartitionError),
    /// Its server does not give it.
    #[error(transparent)]
    Server(#[from] NfsError),
    /// It is not to be replicated, but it was.
    #[error(
        "volume {volume} on {device} was replicated before and is not to be any more, it was left untouched: enable its synchronisation again, \
         or, if nothing on it is needed, erase its first and last MiB and reboot"
    )]
    Replicated {
        /// Volume.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
    },
    /// Left behind in the middle of a resynchronisation.
    #[error(
        "what is left of volume {volume} on {device} is half of a resynchronisation and cannot be read, it was left untouched: the other \
         unit's copy is whole; erase the first and last MiB of this one and reboot"
    )]
    Half {
        /// Volume.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
    },
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
    fn mounts_are_told_apart() {
        let mounts =
            "/dev/drbd0 /mail/queue ext4 rw 0 0\n192.0.2.30:/export/mail /mail/data nfs rw,vers=3 0 0\nodd\n";
        assert_eq!(mounted_in(mounts, Path::new("/mail/queue")), Some(Kind::Disk));
        assert_eq!(mounted_in(mounts, Path::new("/mail/data")), Some(Kind::Nfs));
        assert_eq!(mounted_in(mounts, Path::new("/mail")), None);
    }

    #[test]
    fn a_whole_copy_is_taken_out_of_replication_and_a_half_one_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let disk = |flags: u8| {
            let mut block = vec![0; 4096];
            block[56..64].copy_from_slice(&[0, 0, 0, flags, 0x83, 0x74, 0x02, 0x6c]);
            let mut disk = vec![7; 2 * 4096];
            disk.extend(&block);
            fs::write(&path, &disk).unwrap();
            disk
        };
        let half = disk(0);
        assert!(matches!(retire(VolumeId::Data, &path), Err(MountError::Half { .. })));
        assert_eq!(fs::read(&path).unwrap(), half);
        let whole = disk(1);
        retire(VolumeId::Data, &path).unwrap();
        assert_eq!(superblock::read(&path).unwrap(), None);
        assert_eq!(fs::read(&path).unwrap()[..2 * 4096], whole[..2 * 4096]);
        retire(VolumeId::Data, &path).unwrap();
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
