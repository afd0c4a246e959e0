//! What a unit tells its peer in every heartbeat (`spec/ha.md` section 3). Group, unit, boot id and sequence number
//! belong to the envelope and are in `wire`.

use crate::{ConfiguredMode, EffectiveMode, Epoch, LINKS, LinkId, VOLUMES, VolumeReport};
use serde::{Deserialize, Serialize};

/// The body of a heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Highest epoch this unit has stored.
    pub epoch: Epoch,
    /// What the operator set.
    pub configured: ConfiguredMode,
    /// What the unit is now.
    pub effective: EffectiveMode,
    /// What the unit wants of its peer.
    pub intent: Intent,
    /// How well the unit is.
    pub health: Health,
    /// Volumes in the order of `VolumeId::ALL`.
    pub volumes: [VolumeReport; VOLUMES],
    /// The heartbeat link that replication of the sender uses or wants to use.
    pub replication_link: Option<LinkId>,
    /// Number of the configuration revision in force.
    pub config_revision: u64,
    /// CRC-32 of the synchronised part of the configuration.
    pub config_checksum: u32,
    /// Firmware version.
    pub firmware: Version,
    /// Where the unit's kernel can be probed on the service network.
    pub service: ServiceAddress,
    /// What the sender last heard on each link.
    pub heard: [Heard; LINKS],
}

/// What a unit asks of its peer or tells it about its next step. Repeated in every heartbeat until it is done, so a lost
/// datagram loses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// Nothing.
    #[default]
    None,
    /// A secondary asks the primary to hand over by an orderly switch.
    RequestSwitch,
    /// A primary has stopped, unmounted and demoted; the peer shall take over with this epoch.
    HandOver(Epoch),
    /// The peer shall mark its own data outdated: it is alive but cannot be replicated to.
    RequestOutdate,
    /// Dying gasp: an orderly shutdown or reset follows at once; the volumes are demoted or the kernel is about to stop.
    Leaving,
    /// A secondary asks the primary to step down: a service of it failed its check, seen from outside.
    StepDown,
    /// A primary is about to reboot as planned; the peer shall wait for it in `HOLD-OFF`.
    HoldOff,
}

/// Health summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The service port has carrier, and the neighbours that are asked answer.
    pub service_port: bool,
    /// The default gateway or another third party on the service network answers.
    pub third_party: bool,
    /// Mail services run (primary) or are ready to be started (secondary).
    pub mail: bool,
    /// State partition writable and the mail volumes present.
    pub storage: bool,
}

/// Firmware version, printed as `major.minor.patch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Patch.
    pub patch: u8,
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A unit's own address on the service network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// IPv4 address; 0.0.0.0 when none is set.
    pub ipv4: [u8; 4],
    /// MAC address of the port.
    pub mac: [u8; 6],
}

/// What a unit last heard on one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Highest sequence number accepted; 0 = nothing yet.
    pub sequence: u64,
    /// Milliseconds since then, at most 65535.
    pub age_ms: u16,
    /// Datagrams missed since the session began, modulo 2^16.
    pub lost: u16,
}
