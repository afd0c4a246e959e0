//! Reads the lines of `drbdsetup-84 events2` into the state of both volumes. Pure. Unknown lines and fields are
//! skipped: newer tools print more. Vectors in `golden/` were recorded from the kernel's DRBD 8.4.11 with utils 9.22.

use twinpost_types::{DiskState, Replication, VOLUMES, VolumeId, VolumeReport};

/// What a line means besides the change of state that it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A part of the state.
    Part,
    /// The first dump is complete: the state is whole from here.
    Complete,
    /// Events were lost: a new snapshot is needed.
    Skipped,
}

/// The state as far as it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    volumes: [Seen; VOLUMES],
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    primary: bool,
    suspended: bool,
    connection: Connection,
    replication: Option<Replication>,
    disk: DiskState,
    peer_disk: DiskState,
    out_of_sync_kib: u64,
    size_kib: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Connection {
    /// Not there, or stopped: the kernel shows both alike.
    #[default]
    None,
    Trying,
    Connected,
}

impl State {
    /// Takes one line in. Lines may begin with a time stamp.
    pub fn apply(&mut self, line: &str) -> Line {
        let mut words = line.split_whitespace().peekable();
        // `--timestamps` puts an RFC 3339 time first.
        if words.peek().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            words.next();
        }
        let (verb, object) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if verb == "skipped" || object == "skipped" {
            return Line::Skipped;
        }
        if (verb, object) == ("exists", "-") {
            return Line::Complete;
        }
        let fields: Vec<(&str, &str)> = words.filter_map(|word| word.split_once(':')).collect();
        let name = fields.iter().find(|(key, _)| *key == "name").map(|(_, name)| *name);
        let Some(volume) = VolumeId::ALL.into_iter().find(|volume| Some(volume.name()) == name) else {
            return Line::Part;
        };
        let seen = &mut self.volumes[volume.index()];
        match verb {
            "exists" | "create" | "change" => seen.change(object, &fields),
            "destroy" => seen.destroy(object),
            _ => {}
        }
        Line::Part
    }

    /// The report of one volume. `wanted`: a connection was asked for, so one that is not there was stopped by DRBD.
    pub fn report(&self, volume: VolumeId, wanted: bool) -> VolumeReport {
        let seen = &self.volumes[volume.index()];
        let replication = match (seen.connection, wanted) {
            (Connection::None, true) => Replication::StandAlone,
            (Connection::None, false) => Replication::Down,
            (Connection::Trying, _) => Replication::Connecting,
            (Connection::Connected, _) => seen.replication.unwrap_or(Replication::Connected),
        };
        VolumeReport {
            local: seen.disk,
            peer: seen.peer_disk,
            replication,
            promoted: seen.primary,
            fresh: false,
            suspended: seen.suspended,
            out_of_sync_kib: u32::try_from(seen.out_of_sync_kib).unwrap_or(u32::MAX),
            size_mib: u32::try_from(seen.size_kib / 1024).unwrap_or(u32::MAX),
        }
    }
}

impl Seen {
    fn change(&mut self, object: &str, fields: &[(&str, &str)]) {
        for (key, value) in fields {
            match (object, *key) {
                ("resource", "role") => self.primary = *value == "Primary",
                ("resource", "suspended") => self.suspended = *value != "no",
                ("connection", "connection") => self.connection = connection(value),
                ("device", "disk") => self.disk = disk(value),
                ("device", "size") => self.size_kib = value.parse().unwrap_or(self.size_kib),
                ("peer-device", "peer-disk") => self.peer_disk = disk(value),
                ("peer-device", "replication") => self.replication = replication(value),
                ("peer-device", "out-of-sync") => {
                    self.out_of_sync_kib = value.parse().unwrap_or(self.out_of_sync_kib);
                }
                _ => {}
            }
        }
    }

    fn destroy(&mut self, object: &str) {
        match object {
            "resource" => *self = Self::default(),
            "connection" => self.connection = Connection::None,
            // The peer's disk state is kept by the kernel (Outdated stays known) and told again by a `change`.
            "peer-device" => self.replication = None,
            "device" => (self.disk, self.size_kib) = (DiskState::Unknown, 0),
            _ => {}
        }
    }
}

/// True when a snapshot's line says that this volume has a backing device.
pub fn is_attached(line: &str, volume: VolumeId) -> bool {
    let mut state = State::default();
    state.apply(line);
    line.contains(" device ")
        && !matches!(state.volumes[volume.index()].disk, DiskState::Unknown | DiskState::Diskless)
}

fn connection(word: &str) -> Connection {
    match word {
        "Connected" => Connection::Connected,
        // Passing states of a lost or starting connection: DRBD goes on by itself.
        "Unconnected" | "Connecting" | "Timeout" | "BrokenPipe" | "NetworkFailure" | "ProtocolError"
        | "TearDown" => Connection::Trying,
        _ => Connection::None,
    }
}

fn replication(word: &str) -> Option<Replication> {
    match word {
        "SyncSource" | "PausedSyncS" | "StartingSyncS" | "WFBitMapS" | "Ahead" => {
            Some(Replication::SyncSource)
        }
        "SyncTarget" | "PausedSyncT" | "StartingSyncT" | "WFBitMapT" | "WFSyncUUID" | "Behind" => {
            Some(Replication::SyncTarget)
        }
        "Established" | "VerifyS" | "VerifyT" => Some(Replication::Connected),
        _ => None,
    }
}

fn disk(word: &str) -> DiskState {
    match word {
        "Diskless" => DiskState::Diskless,
        "Attaching" | "Negotiating" | "Detaching" => DiskState::Negotiating,
        "Failed" => DiskState::Failed,
        "Inconsistent" => DiskState::Inconsistent,
        "Outdated" => DiskState::Outdated,
        "Consistent" => DiskState::Consistent,
        "UpToDate" => DiskState::UpToDate,
        _ => DiskState::Unknown,
    }
}

#[cfg(test)]
mod tests;
