//! The simulated replication and the simulated machine's side of the steps: handshake, loss of the connection, resync,
//! promotion with fence questions, writes.

use super::disk::Compared;
use super::unit::{Doing, local_fault};
use super::{MS, SECOND, World};
use twinpost_ha::{Event, Fault, FenceAnswer, Step};
use twinpost_types::*;

/// A dead connection is noticed after this time (`timeout`, `ping-timeout` of the appliance's DRBD settings).
const NOTICE: u64 = 1400 * MS;
const HANDSHAKE: u64 = 300 * MS;
const RESYNC: u64 = 4 * SECOND;

impl World {
    pub fn settle_replication(&mut self) {
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
        let waiting = |unit: &super::Unit| unit.live.replication == Replication::Connecting;
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
        let mut compared = a.disk.compare(&b.disk);
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
                    self.diverged = true;
                    self.refuse(true);
                    return;
                }
            };
            let target = if compared == Compared::FirstIsSource { 1 } else { 0 };
            if self.units[target].live.promoted {
                self.refuse(false);
                return;
            }
            self.diverged = false;
        }
        self.units.iter_mut().for_each(|unit| unit.discards = false);
        self.connected_on = Some(link);
        self.say(format!("replication connected on {link}: {compared:?}"));
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
        self.say(format!("replication refuses to connect, diverged: {diverged}"));
        for i in 0..2 {
            self.units[i].live.replication = Replication::StandAlone;
            self.units[i].discards = false;
            if diverged {
                self.feed(i, Event::SplitBrain);
            }
        }
    }

    fn begin_sync(&mut self, source: usize) {
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
        self.say("resync done".into());
    }

    fn thaw(&mut self) {
        for unit in &mut self.units {
            unit.live.suspended = false;
        }
    }

    /// The connection ends: a promoted side freezes and asks.
    pub fn disconnect(&mut self) {
        if self.connected_on.take().is_none() {
            return;
        }
        self.say("replication disconnected".into());
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
            unit.live.peer = DiskState::Unknown;
            if unit.live.promoted && !unit.disk.peer_outdated {
                unit.live.suspended = true;
                unit.asking = true;
                self.ask_fence(i);
            } else if unit.live.promoted {
                self.generations += 1;
                let generation = self.generations;
                self.units[i].disk.new_generation(generation);
            }
        }
    }

    pub fn unfreeze(&mut self, i: usize, answer: FenceAnswer) {
        let generation = self.generations + 1;
        let unit = &mut self.units[i];
        match answer {
            FenceAnswer::PeerDown | FenceAnswer::PeerOutdated
                if unit.live.promoted && unit.live.suspended =>
            {
                self.generations = generation;
                unit.disk.new_generation(generation);
                unit.live.suspended = false;
            }
            FenceAnswer::PeerPrimary => {
                unit.disk.outdated = true;
                unit.live.local = DiskState::Outdated;
            }
            _ => {}
        }
    }

    /// A message is stored; true when it may be acknowledged.
    pub fn write(&mut self, i: usize, message: u32) -> bool {
        if let Some(link) = self.connected_on {
            if !self.carries(link) {
                return false;
            }
            for unit in &mut self.units {
                if unit.disk.messages.last() != Some(&message) {
                    unit.disk.messages.push(message);
                }
            }
            return true;
        }
        let unit = &mut self.units[i];
        if unit.disk.peer_outdated && unit.disk.messages.last() != Some(&message) {
            unit.disk.messages.push(message);
        }
        unit.disk.peer_outdated
    }

    /// The end of a step in the machine; `None` when it waits on.
    pub fn finish(&mut self, i: usize, doing: Doing) -> Option<Result<(), Fault>> {
        let step = doing.step;
        if let Some(place) = self.units[i].fails.iter().position(|fail| *fail == step) {
            self.units[i].fails.remove(place);
            return Some(Err(Fault::Failed));
        }
        if let Some(fault) = local_fault(&self.units[i], step) {
            return Some(Err(fault));
        }
        let unit = &mut self.units[i];
        match step {
            Step::StoreEpoch(epoch) => unit.epoch = unit.epoch.max(epoch),
            Step::Mount => unit.mounted = true,
            Step::Unmount => unit.mounted = false,
            Step::StartMail => unit.mail = true,
            Step::StopMail => unit.mail = false,
            Step::ClaimVips => unit.vips = true,
            Step::ReleaseVips => unit.vips = false,
            Step::Demote => {
                unit.live.promoted = false;
                unit.disk.crashed_primary = false;
            }
            Step::Outdate => {
                unit.disk.outdated = true;
                unit.live.local = DiskState::Outdated;
            }
            Step::Initialise => return Some(self.initialise()),
            Step::Fence => {
                unit.want_link = None;
                unit.live.replication = Replication::Down;
                self.disconnect();
            }
            Step::Connect(link) => {
                if unit.want_link != Some(link) || !unit.live.replication.is_connected() {
                    unit.want_link = Some(link);
                    unit.live.replication = Replication::Connecting;
                    self.disconnect();
                }
            }
            Step::PassMail => return Some(self.pass_mail(i)),
            Step::ConnectDiscarding(link) => {
                unit.want_link = Some(link);
                unit.discards = true;
                unit.live.replication = Replication::Connecting;
                self.disconnect();
            }
            Step::Promote | Step::PromoteForced => return self.promote(i, doing),
            Step::Reboot | Step::Reset | Step::PowerOff => {
                if step != Step::Reset {
                    // A planned end takes replication down by itself: the peer need not wait for a time limit.
                    self.disconnect();
                }
                self.apply(super::Fault::PowerCut(i));
                self.apply(super::Fault::PowerRestore(i));
                return None;
            }
        }
        Some(Ok(()))
    }

    /// Everything that only this copy holds goes to the primary's.
    fn pass_mail(&mut self, i: usize) -> Result<(), Fault> {
        if !self.units[1 - i].live.promoted || !(0..LINKS).any(|link| self.carries(link)) {
            return Err(Fault::Failed);
        }
        let own = self.units[i].disk.messages.clone();
        let other = &mut self.units[1 - i].disk.messages;
        other.extend(own);
        other.sort_unstable();
        other.dedup();
        Ok(())
    }

    fn initialise(&mut self) -> Result<(), Fault> {
        if self.connected_on.is_none() || self.units.iter().any(|unit| !unit.disk.fresh) {
            return Err(Fault::Refused);
        }
        for unit in &mut self.units {
            unit.disk = super::Disk { generation: 1, ..super::Disk::default() };
            unit.live.local = DiskState::UpToDate;
            unit.live.peer = DiskState::UpToDate;
        }
        Ok(())
    }

    fn promote(&mut self, i: usize, doing: Doing) -> Option<Result<(), Fault>> {
        let connected = self.connected_on.is_some();
        if self.units[i].live.promoted {
            return Some(Ok(()));
        }
        if connected && self.units[1 - i].live.promoted {
            return Some(Err(Fault::Refused));
        }
        let forced = doing.step == Step::PromoteForced;
        if !forced && self.units[i].live.local != DiskState::UpToDate {
            return Some(Err(Fault::Refused));
        }
        if !connected && !self.units[i].disk.peer_outdated {
            match doing.fence {
                None => {
                    self.units[i].doing = Some(Doing { fence: Some(None), ..doing });
                    self.ask_fence(i);
                    return None;
                }
                Some(Some(FenceAnswer::PeerDown | FenceAnswer::PeerOutdated)) => {}
                _ => return Some(Err(Fault::Failed)),
            }
        }
        self.generations += 1;
        let generation = self.generations;
        let unit = &mut self.units[i];
        unit.live.promoted = true;
        if !connected {
            unit.disk.outdated = false;
            unit.live.local = DiskState::UpToDate;
            unit.disk.new_generation(generation);
        }
        Some(Ok(()))
    }

    /// An event that only the world needs.
    pub fn volumes_event(&self, i: usize) -> Event {
        let unit = &self.units[i];
        Event::Volumes([unit.live.report(&unit.disk); VOLUMES])
    }
}
