//! The vocabulary of Twinpost: identities, epochs, time, modes, volume states and the report that units send each
//! other. Pure and `no_std`; every other crate speaks in these types. No decisions, no encoding, no IO.
//!
//! Names and modes follow `spec/ha.md` sections 1 to 4.
#![no_std]
#![forbid(unsafe_code)]

mod mode;
mod report;
mod time;
mod volume;

pub use mode::{ConfiguredMode, EffectiveMode, OnFailure, RebootAction};
pub use report::{Health, Heard, Intent, Report, ServiceAddress, Version};
pub use time::Instant;
pub use volume::{DiskState, Replication, VolumeId, VolumeReport};

use serde::{Deserialize, Serialize};

/// Number of heartbeat links a unit can have: heartbeat 1 (primary) and heartbeat 2 (secondary).
pub const LINKS: usize = 2;
/// Number of replicated volumes: mail queue and mail data.
pub const VOLUMES: usize = 2;
/// Most virtual IPv4 addresses that one group can carry: one for each port of the largest board.
pub const VIPS_MAX: usize = 8;

/// Which unit of the group: a number that no other unit has (the MAC address of port1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitId(pub u64);

/// Random name of one boot of one unit; never repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootId(pub u128);

/// Grows by one at every takeover; stored durably before the takeover acts (`spec/ha.md` section 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one. Saturates: 2^64 takeovers do not happen.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One heartbeat link: 0 is heartbeat 1 (primary), 1 is heartbeat 2 (secondary).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(u8);

impl LinkId {
    /// Both links in order.
    pub const ALL: [LinkId; LINKS] = [LinkId(0), LinkId(1)];

    /// The link with this index; `None` from `LINKS` on.
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// Index for arrays of `LINKS` elements.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0) % LINKS
    }
}

impl core::fmt::Display for LinkId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "heartbeat {}", self.0 + 1)
    }
}
