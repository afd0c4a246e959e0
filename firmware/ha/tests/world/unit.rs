//! One unit of the simulated pair: its decision core, what it has made of the machine, and the steps it is doing.

use super::disk::{Disk, Live};
use std::collections::VecDeque;
use std::time::Duration;
use twinpost_ha::{Event, Fault, FenceAnswer, Ha, Settings, Step};
use twinpost_types::*;

/// A step under way: what, when it ends, how.
#[derive(Clone, Copy, Debug)]
pub struct Doing {
    pub step: Step,
    pub ends: u64,
    /// Waits for the answer to a fence question instead of for the time.
    pub fence: Option<Option<FenceAnswer>>,
}

/// One unit.
pub struct Unit {
    pub settings: Settings,
    /// `None` while powered off or while the supervisor is dead.
    pub ha: Option<Ha>,
    pub powered: bool,
    pub boots: u32,
    /// When the machine or its supervisor comes (back) up.
    pub up_at: Option<u64>,
    pub frozen_until: u64,
    /// Added to the time that the core is shown.
    pub clock_ahead: u64,
    pub epoch: Epoch,
    pub promoted_epoch: Epoch,
    pub disk: Disk,
    pub live: Live,
    pub want_link: Option<LinkId>,
    /// Gives its copy up if it diverged.
    pub discards: bool,
    pub mounted: bool,
    pub mail: bool,
    pub vips: bool,
    pub vips_until: u64,
    pub service_up: bool,
    pub steps: VecDeque<Step>,
    pub doing: Option<Doing>,
    pub next_beat: u64,
    pub fails: Vec<Step>,
    pub told: Option<Live>,
    /// Fence question of a promoted volume that lost its peer.
    pub asking: bool,
    pub reset_seen: bool,
    pub rebooted_told: u32,
}

impl Unit {
    pub fn new(settings: Settings, disk: Disk, epoch: Epoch) -> Self {
        Self {
            settings,
            ha: None,
            powered: false,
            boots: 0,
            up_at: None,
            frozen_until: 0,
            clock_ahead: 0,
            epoch,
            promoted_epoch: Epoch(0),
            disk,
            live: Live::default(),
            want_link: None,
            discards: false,
            mounted: false,
            mail: false,
            vips: false,
            vips_until: u64::MAX,
            service_up: true,
            steps: VecDeque::new(),
            doing: None,
            next_beat: 0,
            fails: Vec::new(),
            told: None,
            asking: false,
            reset_seen: false,
            rebooted_told: 0,
        }
    }

    pub fn runs(&self, now: u64) -> bool {
        self.ha.is_some() && now >= self.frozen_until
    }

    pub fn kernel_runs(&self, now: u64) -> bool {
        self.powered && now >= self.frozen_until
    }

    pub fn effective(&self) -> EffectiveMode {
        self.ha.as_ref().map_or(EffectiveMode::Off, |ha| ha.status().effective)
    }

    /// The supervisor starts, after a boot or after it was killed.
    pub fn start(&mut self, now: u64) -> Vec<Event> {
        let shown = Instant(now + self.clock_ahead);
        self.ha = Some(Ha::new(self.settings, shown));
        self.next_beat = now;
        self.told = None;
        vec![Event::Started { epoch: self.epoch }]
    }

    pub fn boot(&mut self) {
        self.boots += 1;
        self.powered = true;
        self.live = Live { local: self.disk.attach(), ..Live::default() };
        self.want_link = None;
        self.asking = false;
    }

    pub fn power_cut(&mut self) {
        self.disk.crashed_primary |= self.live.promoted;
        self.ha = None;
        self.powered = false;
        self.up_at = None;
        self.live = Live::default();
        self.want_link = None;
        (self.mounted, self.mail, self.vips) = (false, false, false);
        self.asking = false;
        self.stop_steps();
    }

    pub fn stop_steps(&mut self) {
        self.steps.clear();
        self.doing = None;
    }

    /// Serves mail that is acknowledged.
    pub fn serves(&self, now: u64) -> bool {
        self.kernel_runs(now)
            && self.vips
            && self.mail
            && self.mounted
            && self.live.promoted
            && !self.live.suspended
            && self.service_up
    }

    pub fn duration(step: Step) -> u64 {
        let ms = match step {
            Step::StoreEpoch(_) => 12,
            Step::Promote | Step::PromoteForced => 90,
            Step::Mount => 60,
            Step::StartMail => 400,
            Step::StopMail => 250,
            Step::Unmount => 80,
            Step::Initialise => 150,
            Step::Reboot | Step::PowerOff => 500,
            _ => 25,
        };
        ms * 1000
    }
}

/// Why a local step fails in the machine as it is; `None` when it succeeds.
pub fn local_fault(unit: &Unit, step: Step) -> Option<Fault> {
    match step {
        Step::Mount if !unit.live.promoted => Some(Fault::Refused),
        Step::StartMail if !unit.mounted => Some(Fault::Failed),
        Step::Unmount if unit.mounted && unit.live.suspended => Some(Fault::TimedOut),
        Step::Unmount if unit.mail => Some(Fault::Failed),
        Step::Demote if unit.mounted => Some(Fault::Refused),
        Step::Outdate if unit.live.promoted || unit.live.replication.is_connected() => Some(Fault::Refused),
        _ => None,
    }
}

/// Settings of the tests: defaults of `spec/ha.md` section 2 with both links.
pub fn settings(unit: u64, mode: ConfiguredMode) -> Settings {
    Settings {
        unit: UnitId(unit),
        mode,
        on_failure: OnFailure::default(),
        reboot_action: RebootAction::default(),
        threshold: Duration::from_secs(15),
        interval: Duration::from_millis(200),
        fast_detect: true,
        links: [true, true],
        vips: 1,
        third_party: true,
        max_role_changes: 20,
        remote_heartbeat: false,
    }
}
