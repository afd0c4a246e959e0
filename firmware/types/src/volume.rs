//! States of the replicated volumes, in DRBD's words (DRBD 8.4 user's guide, "Disk states" and "Connection states").

use serde::{Deserialize, Serialize};

/// One of the two replicated volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VolumeId {
    /// Postfix queue.
    Queue,
    /// Mailboxes, quarantine, archives, preferences.
    Data,
}

impl VolumeId {
    /// Both volumes in index order.
    pub const ALL: [VolumeId; crate::VOLUMES] = [VolumeId::Queue, VolumeId::Data];

    /// Index for arrays of `VOLUMES` elements; also the DRBD minor number.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Queue => 0,
            Self::Data => 1,
        }
    }

    /// Name of the DRBD resource and of the partition `mail-<name>`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Data => "data",
        }
    }
}

/// What is known of one side's copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DiskState {
    /// Not known (peer not connected, or nothing read yet).
    #[default]
    Unknown,
    /// No backing device.
    Diskless,
    /// Being attached or negotiated.
    Negotiating,
    /// The backing device failed.
    Failed,
    /// Being resynchronised, or never synchronised. Never promoted.
    Inconsistent,
    /// Consistent but known to be old. Never promoted.
    Outdated,
    /// Consistent; whether it is the newest is not known without the peer.
    Consistent,
    /// Consistent and the newest.
    UpToDate,
}

/// State of the replication connection of one volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Replication {
    /// Not set up.
    #[default]
    Down,
    /// Set up but not trying to connect (an operator or a split brain stopped it).
    StandAlone,
    /// Trying to connect.
    Connecting,
    /// Connected, both sides the same or about to compare.
    Connected,
    /// This side is sending changed blocks.
    SyncSource,
    /// This side is receiving changed blocks.
    SyncTarget,
}

impl Replication {
    /// True while blocks written here reach the peer.
    #[must_use]
    pub fn is_connected(self) -> bool {
        matches!(self, Self::Connected | Self::SyncSource | Self::SyncTarget)
    }
}

/// What a unit knows of one volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VolumeReport {
    /// This unit's copy.
    pub local: DiskState,
    /// The peer's copy as this unit knows it.
    pub peer: DiskState,
    /// The connection.
    pub replication: Replication,
    /// This side is promoted (DRBD role Primary).
    pub promoted: bool,
    /// The volume was made on this boot or an earlier one and was never part of a pair: it holds no mail.
    pub fresh: bool,
    /// Writes wait because the peer's fate is not decided (DRBD `susp`).
    pub suspended: bool,
    /// KiB that differ between the copies.
    pub out_of_sync_kib: u32,
    /// Size in MiB.
    pub size_mib: u32,
}
