//! The own copies of the mail volumes, readable without changing them: each partition under a snapshot whose changes go to memory,
//! mounted read-only. The snapshot lets ext4 replay its journal, which holds the last acknowledged messages; a mount without it
//! would miss them, and a replay on the partition itself would be unknown to replication and never be resynchronised.
//!
//! ```text
//! partition (held by DRBD, disconnected, not promoted) ─ loop, read-only, direct ─┐
//! file in memory, as long as the changes are ───────────── loop ──────────────────┴─ dm snapshot ─ ext4, read-only
//! ```
//! DRBD keeps the partition to itself, but a loop device reads beside it; its metadata is behind the file system. A volume that is not
//! replicated is mounted as it is, and may be written to. All calls block.

use crate::partition::{self, PartitionError};
use crate::volume::{self, MountError};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use twinpost_hal_linux::dm::{self, Access, MapError};
use twinpost_hal_linux::loop_device::{self, Backing};
use twinpost_types::{VOLUMES, VolumeId};

/// Where the copies are mounted.
const ROOT: &str = "/run/twinpost/stale";
/// Most bytes that a replay may change. mke2fs makes journals of at most 128 MiB on volumes below 32 GiB and of 1 GiB above
/// 128 GiB; memory is taken only as it is written.
const CHANGES_BYTES: u64 = 1 << 30;
/// Sectors of 512 bytes that a change copies at once: one block of ext4.
const CHUNK_SECTORS: u64 = 8;

/// How the own copy of a volume is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Replicated: through a snapshot, read-only.
    Snapshot,
    /// Not replicated: the volume itself.
    Itself,
    /// The volume lies on a server now: what is left of it here. It is replicated no more.
    Left,
    /// Not at all: an empty folder stands for it.
    Nothing,
}

/// Both copies, mounted until this is dropped.
#[derive(Debug)]
pub struct StaleCopies {
    _private: (),
}

/// Why a copy cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StaleError {
    /// The partition is not there.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// The kernel refuses.
    #[error("the own copy of volume {volume} cannot be read: {what}")]
    Io {
        /// Volume.
        volume: &'static str,
        /// Which part.
        what: &'static str,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// The volume itself.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// No snapshot.
    #[error("no snapshot of the own copy of volume {volume}")]
    Snapshot {
        /// Volume.
        volume: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
}

impl StaleCopies {
    /// Mounts both as asked. Under a snapshot nothing may write meanwhile: replication must be disconnected and the volume not
    /// promoted.
    ///
    /// # Errors
    /// See [`StaleError`]; nothing stays mounted.
    pub fn open(looks: [Look; VOLUMES]) -> Result<Self, StaleError> {
        // What a supervisor that was killed left behind.
        VolumeId::ALL.into_iter().for_each(close);
        let copies = Self { _private: () };
        VolumeId::ALL.into_iter().zip(looks).try_for_each(|(volume, look)| open(volume, look))?;
        Ok(copies)
    }

    /// Where the copy of this volume is.
    #[must_use]
    pub fn root(&self, volume: VolumeId) -> PathBuf {
        Path::new(ROOT).join(volume.name())
    }
}

impl Drop for StaleCopies {
    fn drop(&mut self) {
        VolumeId::ALL.into_iter().for_each(close);
    }
}

fn open(volume: VolumeId, look: Look) -> Result<(), StaleError> {
    let io = |what| move |source| StaleError::Io { volume: volume.name(), what, source };
    let root = Path::new(ROOT).join(volume.name());
    fs::create_dir_all(&root).map_err(io("no folder to mount it on"))?;
    match look {
        Look::Snapshot => {}
        Look::Itself => return Ok(volume::mount_local_at(volume, false, &root).map(drop)?),
        Look::Left => return Ok(volume::mount_local_at(volume, true, &root).map(drop)?),
        Look::Nothing => return Ok(()),
    }
    let partition = partition::find(&format!("mail-{}", volume.name()))?;
    if partition::is_fresh(&partition.device).map_err(io("its drive"))? {
        // Never used: an empty folder shows what is on it.
        return Ok(());
    }
    let origin =
        loop_device::attach(&partition.device, Backing::Device).map_err(io("a loop device on it"))?;
    let changes = changes(volume);
    let file = File::create(&changes).and_then(|file| file.set_len(CHANGES_BYTES));
    file.map_err(io("no room in memory"))?;
    let changed = loop_device::attach(&changes, Backing::File).map_err(io("a loop device in memory"));
    // The loop device keeps the file; without its name it vanishes together with the device.
    let _ = fs::remove_file(&changes);
    let changed = changed?;
    let table = format!("{} {} N {CHUNK_SECTORS}", origin.path.display(), changed.path.display());
    let number = dm::map(&name(volume), "snapshot", partition.size_bytes / 512, &table, Access::ReadWrite)
        .map_err(|source| StaleError::Snapshot { volume: volume.name(), source })?;
    let flags = MountFlags::RDONLY
        | MountFlags::NOATIME
        | MountFlags::NODEV
        | MountFlags::NOSUID
        | MountFlags::NOEXEC;
    rustix::mount::mount(format!("/dev/dm-{number}"), &root, c"ext4", flags, None)
        .map_err(|errno| io("its file system")(errno.into()))
}

/// Takes down what there is; what is not there is fine.
fn close(volume: VolumeId) {
    let _ = rustix::mount::unmount(Path::new(ROOT).join(volume.name()), UnmountFlags::NOFOLLOW);
    let _ = dm::remove(&name(volume));
    let _ = fs::remove_file(changes(volume));
}

fn name(volume: VolumeId) -> String {
    format!("stale-{}", volume.name())
}

fn changes(volume: VolumeId) -> PathBuf {
    Path::new(ROOT).join(format!("{}.changes", volume.name()))
}
