//! Ties the model's rules to the real decisions: the same questions to both, through the public events and actions of `ha`.

use core::time::Duration;
use twinpost_ha::{Action, Event, FenceAnswer, Ha, Note, ProbeTarget, Settings, Step, VipAnswer};
use twinpost_model::{Budget, World, outranks};
use twinpost_types::*;

const INTERVAL: Duration = Duration::from_millis(200);
const NO_FAULTS: Budget = Budget { crashes: 0, cuts: 0, isolations: 0, drops: 0, switches: 0, messages: 0 };

/// A real core and a shell that does every step at once.
struct Real {
    ha: Ha,
    now: Instant,
    seen: Vec<Action>,
    third_party: bool,
}

impl Real {
    fn new(unit: usize, epoch: u64, volume: VolumeReport) -> Self {
        let settings = Settings {
            unit: UnitId(unit as u64 + 1),
            mode: [ConfiguredMode::Primary, ConfiguredMode::Secondary][unit],
            on_failure: OnFailure::default(),
            reboot_action: RebootAction::default(),
            threshold: Duration::from_secs(2),
            interval: INTERVAL,
            fast_detect: true,
            links: [true, true],
            vips: 1,
            third_party: true,
            max_role_changes: 20,
            remote_heartbeat: false,
        };
        let now = Instant(1_000_000);
        let mut real = Self { ha: Ha::new(settings, now), now, seen: Vec::new(), third_party: true };
        real.tell(Event::Started { epoch: Epoch(epoch) });
        real.tell(Event::Volumes([volume; VOLUMES]));
        real
    }

    fn tell(&mut self, event: Event) {
        let mut waiting = vec![event];
        while let Some(event) = waiting.pop() {
            self.ha.handle(self.now, event);
            while let Some(action) = self.ha.next_action() {
                self.seen.push(action);
                match action {
                    Action::Run(step) => waiting.insert(0, Event::StepDone { step, result: Ok(()) }),
                    Action::ProbeVips => waiting.insert(0, Event::VipsProbed(VipAnswer::Nobody)),
                    Action::Probe(target @ ProbeTarget::ThirdParty) if self.third_party => {
                        waiting.insert(0, Event::ProbeAnswered { target });
                    }
                    _ => {}
                }
            }
        }
    }

    /// Time passes; with a report the peer is heard all the while.
    fn pass(&mut self, time: Duration, peer: Option<(UnitId, Report)>) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + INTERVAL / 4;
            if let Some((from, report)) = peer {
                let link = LinkId::ALL[0];
                self.tell(Event::Heartbeat { link, from, rebooted: false, report });
            }
            self.tell(Event::Tick);
        }
    }

    fn ran(&self, step: Step) -> bool {
        self.seen.contains(&Action::Run(step))
    }
}

fn connected() -> VolumeReport {
    VolumeReport {
        local: DiskState::UpToDate,
        peer: DiskState::UpToDate,
        replication: Replication::Connected,
        ..VolumeReport::default()
    }
}

fn apart(local: DiskState) -> VolumeReport {
    VolumeReport { local, replication: Replication::Connecting, ..VolumeReport::default() }
}

/// What the other unit says.
fn report(unit: usize, epoch: u64, effective: EffectiveMode, volume: VolumeReport) -> (UnitId, Report) {
    let report = Report {
        epoch: Epoch(epoch),
        configured: [ConfiguredMode::Primary, ConfiguredMode::Secondary][unit],
        effective,
        volumes: [volume; VOLUMES],
        service: ServiceAddress { ipv4: [192, 0, 2, 11], mac: [2; 6] },
        ..Report::default()
    };
    (UnitId(unit as u64 + 1), report)
}

/// A real PRIMARY with this epoch, which it took from a PRIMARY that died.
fn alone(unit: usize, epoch: u64) -> Real {
    let mut real = Real::new(unit, epoch - 1, connected());
    let peer = report(1 - unit, 0, EffectiveMode::Primary, connected());
    real.pass(Duration::from_secs(1), Some(peer));
    real.pass(Duration::from_secs(40), None);
    assert_eq!(real.ha.status().effective, EffectiveMode::Primary, "{:?}", real.ha.status());
    assert_eq!(real.ha.status().epoch, Epoch(epoch));
    real
}

#[test]
fn who_stays_is_the_same_in_the_model() {
    for unit in 0..2 {
        for (own, other) in [(3_u8, 2_u8), (3, 3), (3, 4), (2, 9), (9, 2)] {
            let mut real = alone(unit, u64::from(own));
            let mut peer =
                report(1 - unit, u64::from(other), EffectiveMode::Primary, apart(DiskState::UpToDate));
            peer.1.volumes.iter_mut().for_each(|volume| volume.promoted = true);
            real.pass(INTERVAL, Some(peer));
            let arbitrated = real.seen.iter().find_map(|action| match action {
                Action::Note(Note::Arbitrated { stays }) => Some(*stays),
                _ => None,
            });
            let mut world = World::in_sync(NO_FAULTS);
            world.units[unit].disk.epoch = own;
            let modelled = outranks(&world, unit, other, None);
            assert_eq!(arbitrated, Some(modelled), "unit {unit}, epochs {own} and {other}");
        }
    }
}

#[test]
fn what_may_be_promoted_is_the_same_in_the_model() {
    for local in [
        DiskState::UpToDate,
        DiskState::Consistent,
        DiskState::Outdated,
        DiskState::Inconsistent,
        DiskState::Diskless,
        DiskState::Unknown,
    ] {
        let mut real = Real::new(1, 1, connected());
        let peer = report(0, 1, EffectiveMode::Primary, connected());
        real.pass(Duration::from_secs(1), Some(peer));
        assert_eq!(real.ha.status().effective, EffectiveMode::Secondary);
        real.tell(Event::Volumes([apart(local); VOLUMES]));
        real.pass(Duration::from_secs(40), None);
        let mut world = World::in_sync(NO_FAULTS);
        world.units[1].up_to_date = local == DiskState::UpToDate;
        world.units[1].disk.outdated = local == DiskState::Outdated;
        world.units[1].disk.inconsistent = local == DiskState::Inconsistent;
        assert_eq!(real.ran(Step::Promote), world.is_current(1), "{local:?}");
    }
}

#[test]
fn a_unit_that_is_cut_off_takes_nothing() {
    let mut real = Real::new(1, 1, connected());
    let peer = report(0, 1, EffectiveMode::Primary, connected());
    real.pass(Duration::from_secs(1), Some(peer));
    real.third_party = false;
    real.tell(Event::ServiceCarrier { up: false });
    real.pass(Duration::from_secs(60), None);
    assert!(!real.ran(Step::Promote), "the model's `service` of a unit guards every takeover by silence");
}

#[test]
fn a_living_peer_must_be_outdated_before_a_primary_goes_on_alone() {
    for local in [DiskState::UpToDate, DiskState::Consistent, DiskState::Outdated, DiskState::Inconsistent] {
        let mut real = alone(0, 2);
        let mut own = apart(DiskState::UpToDate);
        own.promoted = true;
        own.suspended = true;
        real.tell(Event::Volumes([own; VOLUMES]));
        let peer = report(1, 1, EffectiveMode::Secondary, apart(local));
        real.pass(Duration::from_secs(1), Some(peer));
        real.seen.clear();
        for volume in VolumeId::ALL {
            real.tell(Event::FenceAsked { volume });
        }
        real.pass(Duration::from_secs(4), Some(peer));
        let answer = real.seen.iter().find_map(|action| match action {
            Action::AnswerFence(answer) => Some(*answer),
            _ => None,
        });
        let unusable = matches!(local, DiskState::Outdated | DiskState::Inconsistent);
        assert_eq!(answer, unusable.then_some(FenceAnswer::PeerOutdated), "{local:?}");
    }
}
