//! A model of replication with the disk states and data generations of DRBD 8.4, both volumes as one: what survives a power
//! cut, how two copies compare when they connect, who becomes the source. No timing; that is in `mod.rs`.

use crate::bits::Bits;
use twinpost_types::{DiskState, Replication, VolumeReport};

/// What is on the disk and survives a power cut.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Current data generation.
    pub generation: u64,
    /// Generations that this copy went through.
    pub history: Vec<u64>,
    /// A resynchronisation did not finish, or nothing was ever written.
    pub inconsistent: bool,
    /// Consistent, and known to be old.
    pub outdated: bool,
    /// The peer is known to be outdated.
    pub peer_outdated: bool,
    /// Was promoted when the power went.
    pub crashed_primary: bool,
    /// Never part of a pair.
    pub fresh: bool,
    /// Messages stored here.
    pub stored: Bits,
    /// Messages whose delivery is recorded here.
    pub delivered: Bits,
}

/// What is known while the unit runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Live {
    /// The own copy.
    pub local: DiskState,
    /// The peer's copy, as far as it is known.
    pub peer: DiskState,
    /// The connection.
    pub replication: Replication,
    /// Role Primary.
    pub promoted: bool,
    /// Writes wait.
    pub suspended: bool,
}

/// How two copies compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Equal.
    Same,
    /// Unit a has what b lacks.
    FirstIsSource,
    /// Unit b has what a lacks.
    SecondIsSource,
    /// Both have what the other lacks.
    Diverged,
    /// Both are empty.
    NothingYet,
}

impl Disk {
    /// A new disk.
    #[must_use]
    pub fn fresh() -> Self {
        Self { inconsistent: true, fresh: true, ..Self::default() }
    }

    /// State after attaching at boot.
    #[must_use]
    pub fn attach(&self) -> DiskState {
        if self.inconsistent {
            DiskState::Inconsistent
        } else if self.outdated {
            DiskState::Outdated
        } else if self.peer_outdated {
            DiskState::UpToDate
        } else {
            DiskState::Consistent
        }
    }

    /// The peer's copy as it is recorded here.
    #[must_use]
    pub fn peer(&self) -> DiskState {
        if self.peer_outdated { DiskState::Outdated } else { DiskState::Unknown }
    }

    /// The copies part: this one goes on alone.
    pub fn new_generation(&mut self, generation: u64) {
        self.history.push(self.generation);
        self.generation = generation;
        self.peer_outdated = true;
    }

    /// Who has what the other lacks?
    #[must_use]
    pub fn compare(&self, other: &Disk) -> Compared {
        match (self.inconsistent, other.inconsistent) {
            (true, true) => return Compared::NothingYet,
            (true, false) => return Compared::SecondIsSource,
            (false, true) => return Compared::FirstIsSource,
            _ => {}
        }
        if self.generation == other.generation {
            return match (self.crashed_primary, other.crashed_primary) {
                (true, false) => Compared::FirstIsSource,
                (false, true) => Compared::SecondIsSource,
                (false, false) => Compared::Same,
                (true, true) => Compared::Diverged,
            };
        }
        if self.history.contains(&other.generation) {
            Compared::FirstIsSource
        } else if other.history.contains(&self.generation) {
            Compared::SecondIsSource
        } else {
            Compared::Diverged
        }
    }

    /// Becomes a copy of `source`.
    pub fn overwrite(&mut self, source: &Disk) {
        *self = Disk { peer_outdated: false, crashed_primary: false, outdated: false, ..source.clone() };
    }
}

impl Live {
    /// As the unit reports it, both volumes being in the same state.
    #[must_use]
    pub fn report(&self, disk: &Disk) -> VolumeReport {
        VolumeReport {
            local: self.local,
            peer: self.peer,
            replication: self.replication,
            promoted: self.promoted,
            fresh: disk.fresh,
            suspended: self.suspended,
            out_of_sync_kib: 0,
            size_mib: 64,
        }
    }
}
