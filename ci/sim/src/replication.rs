//! The simulated replication: handshake, loss of the connection, resynchronisation, freezing and the answer to its question. The
//! states are in `disk`.

use crate::disk::Compared;
use crate::mutation::Mutation;
use crate::world::{MS, SECOND, World};
use twinpost_ha::{Event, FenceAnswer};
use twinpost_types::*;

/// A dead connection is noticed after this time (`timeout`, `ping-timeout` of the appliance's DRBD settings).
pub(crate) const NOTICE: u64 = 1400 * MS;
const HANDSHAKE: u64 = 300 * MS;
const RESYNC: u64 = 4 * SECOND;

impl World {
    pub(crate) fn settle_replication(&mut self) {
        if let Some(link) = self.connected_on {
            let dead = !self.carries(link);
            let since = *self.broken_since.get_or_insert(self.now);
            if !dead {
                self.broken_since = None;
            } else if self.now >= since + NOTICE {
                self.disconnect();
            }
        } else {
            self.connect();
        }
        if self.sync_ends.is_some_and(|at| at <= self.now) {
            self.sync_ends = None;
            self.end_sync();
        }
    }

    fn connect(&mut self) {
        let [a, b] = &self.units;
        let agreed = match (a.want_link, b.want_link) {
            (Some(x), Some(y)) if x == y && self.carries(x.index()) => Some(x.index()),
            _ => None,
        };
        let waiting = |unit: &crate::unit::Unit| unit.live.replication == Replication::Connecting;
        let Some(link) = agreed.filter(|_| waiting(a) && waiting(b)) else {
            self.handshake_at = None;
            return;
        };
        let at = *self.handshake_at.get_or_insert(self.now + HANDSHAKE);
        if at <= self.now {
            self.handshake_at = None;
            self.compare(link);
        }
    }

    fn compare(&mut self, link: usize) {
        let [a, b] = &self.units;
        if self.units.iter().any(|unit| unit.disk_hangs || unit.live.local == DiskState::Diskless) {
            // Nothing can be compared; tried again when it is asked for.
            self.refuse(false);
            return;
        }
        let mut compared = a.disk.compare(&b.disk);
        if self.is(Mutation::ResyncBackwards) {
            compared = match compared {
                Compared::FirstIsSource if !b.disk.inconsistent && !a.live.promoted => {
                    Compared::SecondIsSource
                }
                Compared::SecondIsSource if !a.disk.inconsistent && !b.live.promoted => {
                    Compared::FirstIsSource
                }
                other => other,
            };
        }
        let target_promoted = match compared {
            Compared::FirstIsSource => b.live.promoted,
            Compared::SecondIsSource => a.live.promoted,
            _ => false,
        };
        let both = a.live.promoted && b.live.promoted;
        if target_promoted || both {
            self.refuse(false);
            return;
        }
        // A copy that stayed promoted and went on is the source even when the generations are the same.
        if compared == Compared::Same && a.live.promoted {
            compared = Compared::FirstIsSource;
        } else if compared == Compared::Same && b.live.promoted {
            compared = Compared::SecondIsSource;
        }
        if compared == Compared::Diverged {
            // The side that gives its copy up follows the other one.
            compared = match (self.units[0].discards, self.units[1].discards) {
                (true, false) => Compared::SecondIsSource,
                (false, true) => Compared::FirstIsSource,
                _ => {
                    self.judge.diverged = true;
                    self.refuse(true);
                    return;
                }
            };
            let target = if compared == Compared::FirstIsSource { 1 } else { 0 };
            if self.units[target].live.promoted {
                self.refuse(false);
                return;
            }
            self.judge.diverged = false;
        }
        self.connected(link, compared);
    }

    fn connected(&mut self, link: usize, compared: Compared) {
        self.units.iter_mut().for_each(|unit| unit.discards = false);
        self.connected_on = Some(link);
        self.say(|| format!("replication connected on {link}: {compared:?}"));
        match compared {
            Compared::FirstIsSource => self.begin_sync(0),
            Compared::SecondIsSource => self.begin_sync(1),
            _ => {
                let state =
                    if compared == Compared::Same { DiskState::UpToDate } else { DiskState::Inconsistent };
                for unit in &mut self.units {
                    unit.live.local = state;
                    unit.live.peer = state;
                    unit.live.replication = Replication::Connected;
                    if state == DiskState::UpToDate {
                        unit.disk.outdated = false;
                        unit.disk.peer_outdated = false;
                    }
                }
            }
        }
        self.thaw();
    }

    fn refuse(&mut self, diverged: bool) {
        self.say(|| format!("replication refuses to connect, diverged: {diverged}"));
        for i in 0..2 {
            self.units[i].live.replication = Replication::StandAlone;
            self.units[i].discards = false;
            if diverged {
                self.send(i, MS, Event::SplitBrain);
            }
        }
    }

    fn begin_sync(&mut self, source: usize) {
        self.check_overwrite(source);
        let [a, b] = &mut self.units;
        let (from, to) = if source == 0 { (a, b) } else { (b, a) };
        from.live.local = DiskState::UpToDate;
        from.live.peer = DiskState::Inconsistent;
        from.live.replication = Replication::SyncSource;
        from.disk.outdated = false;
        from.disk.peer_outdated = true;
        to.live.local = DiskState::Inconsistent;
        to.live.peer = DiskState::UpToDate;
        to.live.replication = Replication::SyncTarget;
        to.disk.inconsistent = true;
        self.sync_ends = Some(self.now + RESYNC);
    }

    fn end_sync(&mut self) {
        let source = if self.units[0].live.replication == Replication::SyncSource { 0 } else { 1 };
        if self.broken_since.is_some() {
            self.sync_ends = Some(self.now + RESYNC);
            return;
        }
        if self.connected_on.is_none() || self.units[source].live.replication != Replication::SyncSource {
            return;
        }
        let copy = self.units[source].disk.clone();
        self.units[1 - source].disk.overwrite(&copy);
        self.units[source].disk.peer_outdated = false;
        self.units[source].disk.crashed_primary = false;
        for unit in &mut self.units {
            unit.live.local = DiskState::UpToDate;
            unit.live.peer = DiskState::UpToDate;
            unit.live.replication = Replication::Connected;
        }
        self.say(|| "resync done".into());
    }

    fn thaw(&mut self) {
        for unit in &mut self.units {
            unit.live.suspended = false;
        }
    }

    /// The connection ends: a promoted side freezes and asks.
    pub(crate) fn disconnect(&mut self) {
        if self.connected_on.take().is_none() {
            return;
        }
        self.say(|| "replication disconnected".into());
        self.broken_since = None;
        self.sync_ends = None;
        for i in 0..2 {
            let unit = &mut self.units[i];
            if !unit.powered {
                continue;
            }
            if unit.want_link.is_some() {
                unit.live.replication = Replication::Connecting;
            }
            unit.live.peer = unit.disk.peer();
            if unit.live.promoted && !unit.disk.peer_outdated {
                unit.live.suspended = true;
                unit.asking = true;
                self.ask_fence(i);
            } else if unit.live.promoted && unit.live.local != DiskState::Diskless {
                self.generations += 1;
                let generation = self.generations;
                self.units[i].disk.new_generation(generation);
            }
        }
    }

    pub(crate) fn unfreeze(&mut self, i: usize, answer: FenceAnswer) {
        let generation = self.generations + 1;
        let unit = &mut self.units[i];
        match answer {
            FenceAnswer::PeerDown | FenceAnswer::PeerOutdated
                if unit.live.promoted && unit.live.suspended && unit.live.local != DiskState::Diskless =>
            {
                self.generations = generation;
                unit.disk.new_generation(generation);
                unit.live.peer = unit.disk.peer();
                unit.live.suspended = false;
            }
            FenceAnswer::PeerPrimary => {
                unit.disk.outdated = true;
                unit.live.local = DiskState::Outdated;
            }
            _ => {}
        }
    }
}
