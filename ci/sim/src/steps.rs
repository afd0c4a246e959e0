//! The simulated machine's side of the steps: what each makes of it, and how it ends.

use crate::judge::Check;
use crate::mutation::Mutation;
use crate::unit::Doing;
use crate::world::{MS, SECOND, World};
use twinpost_ha::{Fault, FenceAnswer, Step};
use twinpost_types::*;

/// Messages that a hand-over passes in one go.
const PASSED_AT_ONCE: u32 = 40;
/// Deliveries and their records have this long to end before an orderly stop; tried again in parts of it.
const DRAIN_LIMIT: u64 = 4 * SECOND;
const DRAIN_LOOK: u64 = 50 * MS;
/// What a step on a disk that hangs takes until the executor gives up.
const STEP_LIMIT: u64 = 30 * SECOND;

/// A step by its name in a scenario file; `None` when there is none.
pub(crate) fn named(name: &str) -> Option<Step> {
    Some(match name {
        "fence" => Step::Fence,
        "promote" => Step::Promote,
        "mount" => Step::Mount,
        "start-mail" => Step::StartMail,
        "drain-mail" => Step::DrainMail,
        "claim-vips" => Step::ClaimVips,
        "stop-mail" => Step::StopMail,
        "unmount" => Step::Unmount,
        "demote" => Step::Demote,
        "release-vips" => Step::ReleaseVips,
        "initialise" => Step::Initialise,
        "outdate" => Step::Outdate,
        "pass-mail" => Step::PassMail,
        _ => return None,
    })
}

impl World {
    /// The end of a step; `None` when it waits on.
    pub(crate) fn finish(&mut self, i: usize, doing: Doing) -> Option<Result<(), Fault>> {
        let step = doing.step;
        if self.units[i].disk_hangs && touches_disk(step) {
            return self.hang(i, doing);
        }
        if let Some(place) = self.units[i].fails.iter().position(|fail| *fail == step) {
            self.units[i].fails.remove(place);
            self.units[i].draining &= step != Step::DrainMail;
            return Some(Err(Fault::Failed));
        }
        if let Some(fault) = self.units[i].local_fault(step) {
            return Some(Err(fault));
        }
        match step {
            Step::Promote | Step::PromoteForced => self.promote(i, doing),
            Step::Reboot | Step::Reset | Step::PowerOff => {
                if step != Step::Reset {
                    // A planned end takes replication down by itself: the peer need not wait for a time limit.
                    self.disconnect();
                }
                self.power_cut(i);
                if step != Step::PowerOff {
                    self.apply_power_restore(i);
                }
                None
            }
            Step::PassMail => Some(self.pass_mail(i)),
            Step::DrainMail => self.drain_mail(i, doing),
            Step::Initialise => Some(self.initialise()),
            Step::Connect(_) | Step::ConnectDiscarding(_) | Step::Disconnect | Step::Fence => {
                self.set_up_replication(i, step);
                Some(Ok(()))
            }
            _ => {
                self.simple(i, step);
                Some(Ok(()))
            }
        }
    }

    fn simple(&mut self, i: usize, step: Step) {
        let mutation = self.mutation;
        let unit = &mut self.units[i];
        match step {
            Step::StoreEpoch(epoch) if mutation != Some(Mutation::SkipEpochWrite) => {
                unit.epoch = unit.epoch.max(epoch);
            }
            Step::Mount => unit.mounted = true,
            Step::Unmount => unit.mounted = false,
            Step::StartMail => {
                unit.mail = true;
                unit.mail_gone = None;
                unit.draining = false;
                unit.unrecorded.clear();
            }
            Step::StopMail => {
                unit.mail = false;
                unit.mail_gone = None;
                let killed = unit.agents_end();
                unit.unrecorded.extend(killed);
            }
            Step::ClaimVips => (unit.vips, unit.released) = (true, false),
            Step::ReleaseVips => {
                unit.vips &= mutation == Some(Mutation::KeepVips);
                unit.released = !unit.vips;
            }
            Step::Demote => {
                unit.released = false;
                unit.live.promoted = false;
                unit.disk.crashed_primary = false;
            }
            Step::Outdate => {
                unit.disk.outdated = true;
                unit.live.local = DiskState::Outdated;
            }
            _ => {}
        }
    }

    fn set_up_replication(&mut self, i: usize, step: Step) {
        let always = self.is(Mutation::AlwaysDiscard);
        let skipped = self.is(Mutation::SkipFence);
        if step == Step::Disconnect && self.connected_on.is_some() && self.units[1 - i].live.promoted {
            self.units[i].disk.outdated = true;
            self.units[i].live.local = DiskState::Outdated;
            self.units[1 - i].disk.peer_outdated = true;
        }
        let unit = &mut self.units[i];
        match step {
            Step::Fence if skipped => {}
            Step::Fence | Step::Disconnect => {
                unit.want_link = None;
                unit.live.replication = Replication::Down;
                self.disconnect();
            }
            Step::Connect(link) if unit.want_link != Some(link) || !unit.live.replication.is_connected() => {
                unit.want_link = Some(link);
                unit.discards = always && i == 0;
                unit.live.replication = Replication::Connecting;
                self.disconnect();
            }
            Step::ConnectDiscarding(link) => {
                unit.want_link = Some(link);
                unit.discards = true;
                unit.live.replication = Replication::Connecting;
                self.disconnect();
            }
            _ => {}
        }
    }

    /// A step on a disk that does not answer ends by the executor's limit.
    fn hang(&mut self, i: usize, doing: Doing) -> Option<Result<(), Fault>> {
        if matches!(doing.step, Step::Reset) {
            self.power_cut(i);
            self.apply_power_restore(i);
            return None;
        }
        if doing.fence.is_some() || doing.ends + STEP_LIMIT <= self.now {
            if doing.step == Step::StopMail {
                // init has killed its processes: they end where they wait for the disk.
                self.simple(i, Step::StopMail);
            }
            return Some(Err(Fault::TimedOut));
        }
        let unit = &mut self.units[i];
        unit.doing =
            Some(Doing { ends: self.now + STEP_LIMIT, fence: Some(Some(FenceAnswer::Undecided)), ..doing });
        None
    }

    /// Everything that only this copy holds goes to the primary's, a part at a time.
    fn pass_mail(&mut self, i: usize) -> Result<(), Fault> {
        let reached = (0..LINKS).any(|link| self.carries(link));
        let [a, b] = &mut self.units;
        let (own, primary) = if i == 0 { (a, b) } else { (b, a) };
        if !reached || !primary.writes() || primary.ha.is_none() {
            return Err(Fault::Failed);
        }
        if self.mutation == Some(Mutation::DiscardWithoutHandOver) {
            return Ok(());
        }
        for _ in 0..PASSED_AT_ONCE {
            let Some(message) = own.disk.stored.first_not_in(&[&primary.disk.stored]) else { break };
            primary.disk.stored.insert(message);
            if own.disk.delivered.contains(message) {
                primary.disk.delivered.insert(message);
            }
        }
        let left = own.disk.stored.count_not_in(&primary.disk.stored);
        // What was delivered from this copy must not be delivered from the other one once more.
        primary.disk.delivered.unite(&own.disk.delivered);
        if left == 0 { Ok(()) } else { Err(Fault::Unfinished) }
    }

    /// No new deliveries; those under way end, and what was written is flushed.
    fn drain_mail(&mut self, i: usize, doing: Doing) -> Option<Result<(), Fault>> {
        if self.is(Mutation::SkipDrain) {
            return Some(Ok(()));
        }
        let reached = self.connected_on.is_none_or(|link| self.carries(link));
        let unit = &mut self.units[i];
        if !unit.mounted || (unit.recording.is_empty() && unit.flushes() && reached) {
            return Some(Ok(()));
        }
        if self.now >= doing.began + DRAIN_LIMIT {
            unit.draining = false;
            return Some(Err(Fault::Unfinished));
        }
        unit.doing = Some(Doing { ends: self.now + DRAIN_LOOK, ..doing });
        None
    }

    fn initialise(&mut self) -> Result<(), Fault> {
        if self.connected_on.is_none() || self.units.iter().any(|unit| !unit.disk.fresh) {
            return Err(Fault::Refused);
        }
        for unit in &mut self.units {
            unit.disk = crate::disk::Disk { generation: 1, ..crate::disk::Disk::default() };
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
        let blind = self.is(Mutation::PromoteOutdated) && self.units[i].live.local == DiskState::Outdated;
        let fit = self.units[i].live.local == DiskState::UpToDate || blind;
        if (!forced && !fit) || self.units[i].disk.inconsistent {
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
        self.check_promotion(i, forced, connected);
        self.generations += 1;
        let generation = self.generations;
        let unit = &mut self.units[i];
        unit.promoted_epoch = unit.epoch;
        unit.live.promoted = true;
        if !connected {
            unit.disk.outdated = false;
            unit.live.local = DiskState::UpToDate;
            unit.disk.new_generation(generation);
            unit.live.peer = unit.disk.peer();
            // The answered question ends whatever an earlier one froze.
            (unit.live.suspended, unit.asking) = (false, false);
        }
        if self.units.iter().all(|unit| unit.live.promoted) && self.connected_on.is_some() {
            self.violate(Check::OneWriter, || "both promoted while connected".into());
        }
        Some(Ok(()))
    }
}

/// A drain looks at the disk, and gives up before the executor does.
fn touches_disk(step: Step) -> bool {
    !matches!(step, Step::ClaimVips | Step::ReleaseVips | Step::DrainMail)
}
