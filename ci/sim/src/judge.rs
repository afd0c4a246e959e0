//! What must be true in the simulated world: of a step when it is asked for, of a promotion, of data that is overwritten, and of
//! everything after every step (`spec/ha.md` sections 3 to 8).

use crate::mutation::Mutation;
use crate::world::{MS, SECOND, WATCHDOG, World};
use twinpost_ha::{Action, Note, Reason, Stay, Step, Verdict};
use twinpost_types::*;

/// After a partition or a stall ended, two owners have this long to find out who stays.
const GRACE: u64 = 12 * SECOND;
/// Two owners of an address that hear each other's announcements have this long, also while no heartbeat gets through: a contest is decided after
/// 12 s, and a unit that cannot give way is reset after 8 s more.
const CONTESTED_MAX: u64 = 25 * SECOND;
/// A supervisor that stopped leaves no address behind after this time.
const LEASE_MAX: u64 = 2 * SECOND;
/// A pair that could have a PRIMARY has one this long after the last disturbance, the threshold not counted: a boot, a resynchronisation, the
/// longest pause of a plan that failed (80 s), and a wait for the other one's turn (30 s).
const PRIMARY_WITHIN: u64 = 150 * SECOND;
/// Intervals within which a heartbeat speaks against a verdict of death.
const FRESH_INTERVALS: u64 = 2;
/// Span of `max-role-changes`.
const HOUR: u64 = 3600 * SECOND;

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// At most one unit writes on one data generation, and never two at all outside of a recorded partition. Two units that can hear
    /// each other do not both keep an export mounted for more than 25 s.
    OneWriter,
    /// No acknowledged message is overwritten, or missing on the copy that is promoted.
    NothingLost,
    /// An orderly switch leaves no delivery without its record on the copy that is promoted.
    RecordedFirst,
    /// Nothing Inconsistent or Outdated is promoted.
    FitData,
    /// A promotion has a new durable epoch, higher than any before it was asked for. One that hangs in the kernel cannot be called back when
    /// the other unit has the role again meanwhile.
    NewEpoch,
    /// Who promotes because the peer is dead has cut replication before.
    FencedFirst,
    /// At most one unit answers for a virtual IP, except inside a recorded partition; there too two that hear each other's announcements do not go on.
    OneAddress,
    /// Virtual IPs are only where the volumes are promoted and mail listens.
    ClaimLast,
    /// A stopped supervisor leaves no address behind for more than 2 s.
    Lease,
    /// A machine whose supervisor hangs is reset.
    Watchdog,
    /// No mode changes without a note; no takeover without a verdict of death before it; no such verdict while heartbeats arrive.
    Recorded,
    /// No more automatic role changes in an hour than allowed.
    RoleChanges,
    /// A primary exists within a bound when one can.
    PrimaryExists,
    /// Once everything is repaired, the pair is whole again, and what was acknowledged arrives.
    WholeAgain,
    /// One step at a time, few actions an event, no busy loop.
    Bounds,
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub check: Check,
    /// Time of the world, µs.
    pub at: u64,
    /// What was seen.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {:.3} s: {}", self.check, self.at as f64 / 1e6, self.what)
    }
}

/// What the judge remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    quiet_since: u64,
    /// A partition or a stall was seen until then, its grace included.
    apart_until: u64,
    /// There was one since the copies were last equal.
    pub(crate) was_apart: bool,
    /// Replication refuses to connect.
    pub(crate) diverged: bool,
    /// An operator forced a role.
    pub(crate) forced: bool,
    /// All heartbeat links failed while no unit had the role, and they still fail. One waits ten seconds for the other, but a plan that failed
    /// is tried again just then (seed 2088889): both look for the addresses before either has claimed them, and only a link could tell them.
    parted_without_primary: bool,
    /// Both have an export mounted and can hear each other since then.
    mounted_since: Option<u64>,
    /// Both answer for a virtual IP and hear each other's announcements since then.
    contested_since: Option<u64>,
    fence_asked: [bool; 2],
    /// The other unit's epoch when this one asked for its promotion.
    used: [Epoch; 2],
    /// The verdict on which the last plan rests.
    ground: [Verdict; 2],
}

impl Memory {
    pub(crate) fn disturbed(&mut self, now: u64) {
        self.quiet_since = self.quiet_since.max(now);
    }
}

impl World {
    /// Writes the first violation down; the run ends with it.
    pub(crate) fn violate(&mut self, check: Check, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let violation = Violation { check, at: self.now, what: what() };
            self.say(|| format!("!! {violation}"));
            self.violation = Some(violation);
        }
    }

    /// What must be true of a step at the moment when it is asked for.
    pub(crate) fn check_step(&mut self, i: usize, step: Step) {
        let unit = &self.units[i];
        let busy = (unit.doing.is_some() || !unit.steps.is_empty()) && step != Step::Reset;
        let claims = step == Step::ClaimVips && !(unit.mail || unit.mail_gone.is_some());
        match step {
            Step::StoreEpoch(_) => {
                self.judge.fence_asked[i] = false;
                self.judge.ground[i] = self.units[i].verdict;
            }
            Step::Fence => self.judge.fence_asked[i] = true,
            Step::Promote | Step::PromoteForced => self.judge.used[i] = self.units[1 - i].promoted_epoch,
            _ => {}
        }
        if busy {
            self.violate(Check::Bounds, || format!("unit {i} asks for {step:?} while another step runs"));
        }
        if claims {
            self.violate(Check::ClaimLast, || format!("unit {i} claims addresses without mail"));
        }
    }

    /// A promotion that is about to succeed.
    pub(crate) fn check_promotion(&mut self, i: usize, forced: bool, connected: bool) {
        let unit = &self.units[i];
        let theirs = if self.judge.was_apart { Epoch(0) } else { self.judge.used[i] };
        let used = unit.promoted_epoch.max(theirs);
        let (epoch, outdated) = (unit.epoch, unit.disk.outdated);
        let uncut = !connected && self.judge.fence_asked[i] && unit.want_link.is_some();
        let excused = forced || self.judge.forced || self.judge.was_apart;
        let missing = self.mail.acked.first_not_in(&[&unit.disk.stored]).filter(|_| !excused);
        if epoch <= used {
            self.violate(Check::NewEpoch, || {
                format!("unit {i} promotes in epoch {}, {} was used", epoch.0, used.0)
            });
        }
        if outdated && !forced {
            self.violate(Check::FitData, || format!("unit {i} promotes Outdated data"));
        }
        if uncut {
            self.violate(Check::FencedFirst, || {
                format!("unit {i} promotes while replication may still connect")
            });
        }
        if let Some(message) = missing {
            self.violate(Check::NothingLost, || {
                format!("unit {i} promotes a copy without message {message}")
            });
        }
    }

    /// The other copy is about to be overwritten by that of `source`.
    pub(crate) fn check_overwrite(&mut self, source: usize) {
        let [a, b] = &self.units;
        let (from, to) = if source == 0 { (a, b) } else { (b, a) };
        let mut only_there = to.disk.stored.clone();
        only_there.keep(&self.mail.acked);
        if let Some(message) = only_there.first_not_in(&[&from.disk.stored]) {
            self.violate(Check::NothingLost, || {
                format!("message {message} is overwritten by a copy without it")
            });
        }
        self.judge.was_apart = false;
    }

    /// What one event made a core do.
    pub(crate) fn check_actions(&mut self, i: usize, actions: &[Action], shown: u64) {
        for action in actions {
            match action {
                Action::Mode(mode) => {
                    let dropped = self.is(Mutation::DropNotes);
                    let noted = |action: &Action| matches!(action, Action::Note(Note::ModeChanged { to, .. }) if to == mode);
                    if dropped || !actions.iter().any(noted) {
                        self.violate(Check::Recorded, || format!("unit {i} becomes {mode} without a note"));
                    }
                }
                Action::Note(Note::Verdict { verdict, evidence }) => {
                    self.units[i].verdict = *verdict;
                    self.check_verdict(i, *verdict, evidence.gasp);
                }
                Action::Note(Note::ModeChanged { from, to, reason })
                    if *from == EffectiveMode::Primary || *to == EffectiveMode::Primary =>
                {
                    self.check_change(i, *to, *reason, shown);
                }
                _ => {}
            }
        }
    }

    fn check_verdict(&mut self, i: usize, verdict: Verdict, gasp: bool) {
        if !matches!(verdict, Verdict::Gone | Verdict::Unresponsive) || gasp {
            return;
        }
        let unit = &self.units[i];
        let fresh = unit.settings.interval.as_micros() as u64 * FRESH_INTERVALS;
        let speaks = |link: &usize| {
            // What a life of the peer said that has ended says nothing of this one.
            let said = |at: u64| self.now - at < fresh && at >= self.units[1 - i].began;
            // Nor does what came late over a cable that was pulled just then, although it has been plugged again (seed 2732397).
            let plugged = |at: u64| self.carrier(*link) && at >= self.links.told[*link].1;
            unit.heard_at[*link].is_some_and(|at| said(at) && plugged(at))
        };
        if let Some(link) = (0..LINKS).find(speaks) {
            self.violate(Check::Recorded, || {
                format!("unit {i} calls its peer {verdict:?} while heartbeats arrive on link {}", link + 1)
            });
        }
    }

    /// Into or out of the role.
    fn check_change(&mut self, i: usize, to: EffectiveMode, reason: Reason, shown: u64) {
        let unit = &mut self.units[i];
        let recent = unit.changes.iter().filter(|at| shown.saturating_sub(**at) < HOUR).count();
        let limit = usize::from(unit.settings.max_role_changes);
        unit.changes.push(shown);
        let killed = unit.unrecorded.first().copied().filter(|_| reason == Reason::Switch);
        let verdict = self.judge.ground[i];
        let takes = to == EffectiveMode::Primary;
        if let Some(message) = killed {
            self.violate(Check::RecordedFirst, || {
                format!("unit {i} hands over and has not recorded that message {message} was delivered")
            });
        }
        if takes && matches!(reason, Reason::Takeover | Reason::AsConfigured) && recent >= limit {
            self.violate(Check::RoleChanges, || {
                format!("change {} of unit {i} in an hour, {limit} are allowed", recent + 1)
            });
        }
        if takes && reason == Reason::Takeover && !matches!(verdict, Verdict::Gone | Verdict::Unresponsive) {
            self.violate(Check::Recorded, || format!("unit {i} takes over while its verdict is {verdict:?}"));
        }
    }

    /// What must hold after every step.
    pub(crate) fn check(&mut self) {
        let now = self.now;
        self.watch_partition();
        let apart = now <= self.judge.apart_until;
        let [a, b] = &self.units;
        let writes = |unit: &crate::unit::Unit| unit.writes() && unit.kernel_runs(now);
        let both = writes(a) && writes(b);
        let same = a.disk.generation == b.disk.generation;
        let answers = |i: usize| {
            let unit = &self.units[i];
            unit.vips && unit.kernel_runs(now) && unit.service_up && !unit.service_mute
        };
        let two = answers(0) && answers(1);
        // A supervisor that is new and has heard nobody knows neither the other one's address nor who comes first.
        let decides = |unit: &crate::unit::Unit| unit.runs(now) && unit.knows_peer();
        let contested = two && decides(a) && decides(b);
        let since = contested.then(|| self.judge.contested_since.unwrap_or(now));
        if both && (same || !apart) {
            self.violate(Check::OneWriter, || "both units write".into());
        }
        // A primary that was cut off, or cannot let go of its drive, keeps it until it has heard that it was replaced, or is reset; its queue, which
        // is replicated, is frozen meanwhile.
        let together = self.judge.mounted_since.filter(|_| self.nfs);
        if together.is_some_and(|since| now > since + CONTESTED_MAX) {
            self.violate(Check::OneWriter, || "both units have the export with the mail data mounted".into());
        }
        if two && !apart {
            self.violate(Check::OneAddress, || "both units answer for the virtual IP".into());
        }
        self.judge.contested_since = since;
        if since.is_some_and(|since| now > since + CONTESTED_MAX) {
            self.violate(Check::OneAddress, || {
                "both units answer for the virtual IP and know of each other".into()
            });
        }
        for i in 0..2 {
            self.check_unit(i);
        }
        if now > self.judge.quiet_since + PRIMARY_WITHIN {
            self.check_primary();
        }
    }

    fn check_unit(&mut self, i: usize) {
        let now = self.now;
        let unit = &self.units[i];
        let runs = unit.kernel_runs(now);
        let stopped = unit.stopped_since.filter(|_| runs).map_or(0, |since| now - since);
        // What a killed supervisor leaves behind is the lease's.
        if unit.vips && !unit.live.promoted && unit.runs(now) && !unit.leaves() {
            self.violate(Check::ClaimLast, || format!("unit {i} holds addresses without promoted volumes"));
        } else if unit.vips && stopped > LEASE_MAX {
            self.violate(Check::Lease, || format!("unit {i} keeps its addresses without a supervisor"));
        } else if unit.hung_until > now && stopped > WATCHDOG + 100 * MS {
            self.violate(Check::Watchdog, || format!("unit {i} is not reset though its supervisor hangs"));
        }
    }

    /// A partition or a stall after which two units may both have been right.
    fn watch_partition(&mut self) {
        let now = self.now;
        // Loss that lets no heartbeat through for a threshold parts two units as a cut does. Silence over a sound link is no partition.
        let unheard = |unit: &crate::unit::Unit| {
            let heard = unit.heard_at.iter().flatten().copied().max().unwrap_or(0).max(unit.began);
            unit.runs(now) && now - heard >= unit.settings.threshold.as_micros() as u64
        };
        let mut linked = (0..LINKS).filter(|link| self.passes(0, *link) && self.passes(1, *link)).peekable();
        let cut = linked.peek().is_none();
        let lossy = linked.all(|link| self.links.loss_percent[link] > 0);
        let deaf = cut || (lossy && self.units.iter().any(unheard));
        let stalled = self.units.iter().any(|unit| unit.held_until() > now);
        // A primary without mail looks like one that serves nobody: the reference lets its silent peer take over. So it does when mail was
        // stopped for a switch that hangs while the addresses are still held (seed 11699631).
        let no_mail = |unit: &crate::unit::Unit| unit.mail_gone.is_some() || (unit.vips && !unit.mail);
        let cut_off = self.units.iter().any(|unit| !unit.service_up || unit.service_mute || no_mail(unit));
        // So does one that has released its addresses and hangs while it gives the role up (seed 594049). Nothing can tell it whether the other
        // one has taken over, so from then on the copies may part; two owners or writers are no more allowed than else.
        let replaced = |i: usize| {
            let [gives, takes] = [&self.units[i], &self.units[1 - i]];
            gives.mode == EffectiveMode::Primary && gives.released && takes.mode == EffectiveMode::Primary
        };
        let parted = deaf && (0..2).any(replaced);
        let mounted = self.units.iter().all(|unit| unit.mounted && unit.kernel_runs(now));
        let together = mounted && !deaf && !stalled;
        self.judge.mounted_since = together.then(|| self.judge.mounted_since.unwrap_or(now));
        let powered = self.units.iter().all(|unit| unit.powered);
        let orphans = self.units.iter().all(|unit| unit.mode != EffectiveMode::Primary);
        self.judge.parted_without_primary = deaf && (orphans || self.judge.parted_without_primary);
        if powered && (stalled || (deaf && cut_off) || self.judge.parted_without_primary) {
            self.judge.apart_until = now + GRACE;
            self.judge.was_apart = true;
        }
        self.judge.was_apart |= powered && parted;
        // As long as something disturbs, no bound runs.
        let booting = self.units.iter().any(|unit| unit.up_at.is_some());
        if stalled || booting || self.sync_ends.is_some() {
            self.judge.disturbed(now);
        }
    }

    fn check_primary(&mut self) {
        let now = self.now;
        let threshold = self.units[0].settings.threshold.as_micros() as u64;
        if now < self.judge.quiet_since + PRIMARY_WITHIN + threshold {
            return;
        }
        if self.units.iter().any(|unit| unit.serves(now)) {
            self.judge.disturbed(now);
            return;
        }
        let able = |i: usize| {
            let unit = &self.units[i];
            let well = unit.runs(now) && unit.service_up && !unit.service_mute && unit.mail_gone.is_none();
            let disk =
                !unit.disk_hangs && !unit.disk_failed && !unit.disk.inconsistent && !unit.disk.outdated;
            let free = unit.ha.as_ref().is_some_and(|ha| {
                let status = ha.status();
                !status.latched
                    && !matches!(status.waiting, Some(Stay::StoppedByFailure | Stay::DataOutdated))
            });
            well && disk && free
        };
        let linked = (0..LINKS).any(|link| self.carries(link));
        let alone = |i: usize| {
            able(i) && self.units[i].disk.attach() == DiskState::UpToDate && !self.units[1 - i].powered
        };
        let whole = linked && able(0) && able(1) && !self.judge.diverged;
        if whole || alone(0) || alone(1) {
            let why: Vec<_> =
                self.units.iter().map(|unit| unit.ha.as_ref().map(|ha| ha.status().waiting)).collect();
            self.violate(Check::PrimaryExists, || format!("no unit serves though one could: {why:?}"));
        } else {
            self.judge.disturbed(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::PairSettings;

    #[test]
    fn an_export_that_both_units_have_mounted_is_seen() {
        let settings = PairSettings::read(&[]).expect("no line is wrong");
        for (nfs, mounted, seen) in [(true, true, true), (true, false, false), (false, true, false)] {
            let mut world = World::new(&settings, 1, None, false);
            (0..2).for_each(|unit| world.apply_power_restore(unit));
            assert!(world.wait(120 * SECOND, |world| world.whole() == Ok(0)));
            (world.nfs, world.units[1].mounted) = (nfs, mounted);
            world.run_until(world.now + CONTESTED_MAX + SECOND);
            let found = world.violation.is_some_and(|violation| violation.check == Check::OneWriter);
            assert_eq!(found, seen, "nfs {nfs}, mounted {mounted}");
        }
    }
}
