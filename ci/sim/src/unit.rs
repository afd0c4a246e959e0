//! One unit of the simulated pair: its decision core, what it has made of the machine, and the steps it is doing.

use crate::disk::{Disk, Live};
use std::collections::VecDeque;
use twinpost_ha::{Check, CheckState, Event, Fault, FenceAnswer, Ha, Settings, Step, Verdict};
use twinpost_types::*;

/// A step under way: what, when it ends, how.
#[derive(Clone, Copy, Debug)]
pub struct Doing {
    /// Which.
    pub step: Step,
    /// It began at this time.
    pub began: u64,
    /// It ends at this time.
    pub ends: u64,
    /// Waits for the answer to a fence question instead of for the time.
    pub fence: Option<Option<FenceAnswer>>,
}

/// One unit. Times are microseconds of the world.
#[derive(Clone, Debug)]
pub struct Unit {
    /// As configured.
    pub settings: Settings,
    /// `None` while powered off or while the supervisor is dead.
    pub ha: Option<Ha>,
    /// The machine has power.
    pub powered: bool,
    /// Boots of the machine.
    pub boots: u32,
    /// Starts of the supervisor.
    pub starts: u32,
    /// When it started last.
    pub began: u64,
    /// When the machine or its supervisor comes (back) up.
    pub up_at: Option<u64>,
    /// Neither kernel nor programs run until then.
    pub frozen_until: u64,
    /// The supervisor does not run until then; the kernel does.
    pub hung_until: u64,
    /// Everything takes longer until then.
    pub stressed_until: u64,
    /// The unit's clock gains this much, parts in a million.
    pub rate_ppm: u64,
    /// Highest epoch on the state partition.
    pub epoch: Epoch,
    /// Epoch of the last promotion of this unit.
    pub promoted_epoch: Epoch,
    /// What survives a power cut.
    pub disk: Disk,
    /// What does not.
    pub live: Live,
    /// Replication is set up over this link.
    pub want_link: Option<LinkId>,
    /// Gives its copy up if it diverged.
    pub discards: bool,
    /// The disk does not answer.
    pub disk_hangs: bool,
    /// The disk answers with errors; it was detached.
    pub disk_failed: bool,
    /// Volumes mounted.
    pub mounted: bool,
    /// Mail services listen.
    pub mail: bool,
    /// Mail services were stopped behind the supervisor's back; they come back at this time, or never.
    pub mail_gone: Option<u64>,
    /// The queue manager is held back: no new deliveries.
    pub draining: bool,
    /// Deliveries that the next hop has answered, whose record is written at this time or waits.
    pub recording: Vec<(u64, u32)>,
    /// Such deliveries that ended with mail services in an orderly stop, without their record.
    pub unrecorded: Vec<u32>,
    /// The virtual IPs are on the service port.
    pub vips: bool,
    /// They were released since they were claimed last.
    pub released: bool,
    /// The service port has carrier.
    pub service_up: bool,
    /// What the service port sends does not get out.
    pub service_mute: bool,
    /// Since when the supervisor does not run, while the machine has power.
    pub stopped_since: Option<u64>,
    /// Steps asked for.
    pub steps: VecDeque<Step>,
    /// The one under way.
    pub doing: Option<Doing>,
    /// The next regular heartbeat.
    pub next_beat: u64,
    /// Steps that fail once.
    pub fails: Vec<Step>,
    /// State of the volumes that the core was told last.
    pub told: Option<Live>,
    /// Fence question of a promoted volume that lost its peer.
    pub asking: bool,
    /// State of each check that the core was told last.
    pub checks_told: [CheckState; Check::ALL.len()],
    /// Since when a check is otherwise than told.
    pub checks_since: [Option<u64>; Check::ALL.len()],
    /// Last datagram accepted on each link, by the world's clock.
    pub heard_at: [Option<u64>; LINKS],
    /// Start of the peer's supervisor and highest sequence number heard on each link.
    pub heard: ([u64; LINKS], u32),
    /// Heartbeats sent in this start.
    pub sent: u64,
    /// The last verdict that was written down.
    pub verdict: Verdict,
    /// Effective mode as of the last event.
    pub mode: EffectiveMode,
    /// Times of automatic role changes in this life of the core, by its own clock.
    pub changes: Vec<u64>,
}

impl Unit {
    /// A unit without power.
    #[must_use]
    pub fn new(settings: Settings, disk: Disk) -> Self {
        Self {
            settings,
            ha: None,
            powered: false,
            boots: 0,
            starts: 0,
            began: 0,
            up_at: None,
            frozen_until: 0,
            hung_until: 0,
            stressed_until: 0,
            rate_ppm: 0,
            epoch: Epoch(0),
            promoted_epoch: Epoch(0),
            disk,
            live: Live::default(),
            want_link: None,
            discards: false,
            disk_hangs: false,
            disk_failed: false,
            mounted: false,
            mail: false,
            mail_gone: None,
            draining: false,
            recording: Vec::new(),
            unrecorded: Vec::new(),
            vips: false,
            released: false,
            service_up: true,
            service_mute: false,
            stopped_since: None,
            steps: VecDeque::new(),
            doing: None,
            next_beat: 0,
            fails: Vec::new(),
            told: None,
            asking: false,
            checks_told: Default::default(),
            checks_since: Default::default(),
            heard_at: [None; LINKS],
            heard: ([0; LINKS], 0),
            sent: 0,
            verdict: Verdict::Unknown,
            mode: EffectiveMode::Off,
            changes: Vec::new(),
        }
    }

    /// The supervisor runs.
    #[must_use]
    pub fn runs(&self, now: u64) -> bool {
        self.ha.is_some() && now >= self.held_until()
    }

    /// Its supervisor has heard the other unit, once.
    #[must_use]
    pub fn knows_peer(&self) -> bool {
        self.ha.as_ref().is_some_and(|ha| ha.status().peer.is_some())
    }

    /// Nothing of the supervisor happens before this time.
    #[must_use]
    pub fn held_until(&self) -> u64 {
        self.frozen_until.max(self.hung_until)
    }

    /// The kernel runs.
    #[must_use]
    pub fn kernel_runs(&self, now: u64) -> bool {
        self.powered && now >= self.frozen_until
    }

    /// The unit's clock at a time of the world.
    #[must_use]
    pub fn shown(&self, now: u64) -> u64 {
        now + now / 1_000_000 * self.rate_ppm + now % 1_000_000 * self.rate_ppm / 1_000_000
    }

    /// The first time of the world at which the unit's clock shows `shown` or a little more.
    #[must_use]
    pub fn when(&self, shown: u64) -> u64 {
        let now = shown;
        let early = now - now / 1_000_000 * self.rate_ppm;
        // The rate is at most 500 ppm, so that two corrections are exact to the microsecond.
        early + shown.saturating_sub(self.shown(early))
    }

    /// The effective mode; `OFF` without a supervisor.
    #[must_use]
    pub fn effective(&self) -> EffectiveMode {
        if self.ha.is_some() && !self.leaves() { self.mode } else { EffectiveMode::Off }
    }

    /// Is about to restart or switch off: what it says of itself no longer counts.
    #[must_use]
    pub fn leaves(&self) -> bool {
        let leaving = |step: &Step| matches!(step, Step::Reboot | Step::PowerOff | Step::Reset);
        self.steps.iter().any(leaving) || self.doing.is_some_and(|doing| leaving(&doing.step))
    }

    /// The supervisor starts, after a boot or after it was killed.
    pub fn start(&mut self, now: u64, limit_forgotten: bool) -> Event {
        let mut settings = self.settings;
        if limit_forgotten {
            settings.max_role_changes = 20;
        }
        self.ha = Some(Ha::new(settings, Instant(self.shown(now))));
        self.starts += 1;
        self.began = now;
        self.next_beat = now;
        self.told = None;
        self.hung_until = 0;
        self.stopped_since = None;
        (self.checks_told, self.checks_since) = Default::default();
        (self.sent, self.heard) = (0, ([0; LINKS], 0));
        (self.verdict, self.mode) = (Verdict::Unknown, EffectiveMode::Off);
        self.changes.clear();
        Event::Started { epoch: self.epoch }
    }

    /// The machine comes up.
    pub fn boot(&mut self) {
        self.boots += 1;
        self.powered = true;
        let local = if self.disk_failed { DiskState::Diskless } else { self.disk.attach() };
        self.live = Live { local, peer: self.disk.peer(), ..Live::default() };
        self.forget();
    }

    /// The machine loses its power.
    pub fn power_cut(&mut self) {
        self.disk.crashed_primary |= self.live.promoted;
        self.powered = false;
        self.up_at = None;
        self.live = Live::default();
        self.forget();
    }

    fn forget(&mut self) {
        self.ha = None;
        self.want_link = None;
        self.discards = false;
        (self.mounted, self.mail, self.vips, self.mail_gone) = (false, false, false, None);
        (self.asking, self.stopped_since) = (false, None);
        self.agents_end();
        self.unrecorded.clear();
        self.released = false;
        (self.frozen_until, self.hung_until) = (0, 0);
        self.heard_at = [None; LINKS];
        self.stop_steps();
    }

    /// Mail services end, and deliveries under way with them. Gives those without a record.
    pub fn agents_end(&mut self) -> Vec<u32> {
        self.draining = false;
        self.recording.drain(..).map(|(_, message)| message).collect()
    }

    /// The executor forgets what it was asked for.
    pub fn stop_steps(&mut self) {
        self.steps.clear();
        self.doing = None;
    }

    /// Gives a greeting on the virtual IP, seen from its own machine.
    #[must_use]
    pub fn greets(&self, now: u64) -> bool {
        self.kernel_runs(now) && self.vips && self.mail && self.service_up && !self.service_mute
    }

    /// What its programs write gets to its disk or to its peer's.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.mail && self.flushes()
    }

    /// What was written to the mounted volume gets there.
    #[must_use]
    pub fn flushes(&self) -> bool {
        let has_disk = self.live.local != DiskState::Diskless || self.live.replication.is_connected();
        let waits = self.live.suspended || self.disk_hangs || !has_disk;
        self.live.promoted && self.mounted && !waits
    }

    /// Serves mail that is acknowledged.
    #[must_use]
    pub fn serves(&self, now: u64) -> bool {
        self.greets(now) && self.writes()
    }

    /// How long a step takes, µs.
    #[must_use]
    pub fn duration(step: Step) -> u64 {
        let ms = match step {
            Step::StoreEpoch(_) => 12,
            Step::Promote | Step::PromoteForced => 90,
            Step::Mount => 60,
            Step::StartMail => 400,
            Step::DrainMail => 250,
            Step::StopMail => 250,
            Step::Unmount => 80,
            Step::Initialise | Step::Disconnect => 150,
            Step::PassMail => 300,
            Step::Reboot | Step::PowerOff => 500,
            _ => 25,
        };
        ms * 1000
    }

    /// Why a local step fails in the machine as it is; `None` when it succeeds.
    #[must_use]
    pub fn local_fault(&self, step: Step) -> Option<Fault> {
        let diskless = matches!(self.live.local, DiskState::Diskless);
        match step {
            Step::Promote | Step::PromoteForced if diskless && !self.live.promoted => Some(Fault::Refused),
            Step::Mount if !self.live.promoted => Some(Fault::Refused),
            Step::StartMail if !self.mounted => Some(Fault::Failed),
            Step::Unmount if self.mounted && self.live.suspended => Some(Fault::TimedOut),
            Step::Unmount if self.mail => Some(Fault::Failed),
            Step::Demote if self.mounted => Some(Fault::Refused),
            Step::Outdate if self.live.promoted || self.live.replication.is_connected() => {
                Some(Fault::Refused)
            }
            _ => None,
        }
    }
}
