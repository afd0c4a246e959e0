//! Any events in any order at any time: no panic, no overflow of the queue, one step at a time, no busy loop.

use proptest::prelude::*;
use std::time::Duration;
use twinpost_ha::*;
use twinpost_types::*;

fn any_disk() -> impl Strategy<Value = DiskState> {
    prop_oneof![
        4 => Just(DiskState::UpToDate),
        1 => Just(DiskState::Unknown),
        1 => Just(DiskState::Diskless),
        1 => Just(DiskState::Inconsistent),
        1 => Just(DiskState::Outdated),
        2 => Just(DiskState::Consistent),
    ]
}

fn any_volume() -> impl Strategy<Value = VolumeReport> {
    let replication = prop_oneof![
        1 => Just(Replication::Down),
        1 => Just(Replication::StandAlone),
        1 => Just(Replication::Connecting),
        4 => Just(Replication::Connected),
        1 => Just(Replication::SyncSource),
        1 => Just(Replication::SyncTarget),
    ];
    (any_disk(), any_disk(), replication, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(local, peer, replication, promoted, fresh, suspended)| VolumeReport {
            local,
            peer,
            replication,
            promoted,
            fresh,
            suspended,
            ..VolumeReport::default()
        },
    )
}

fn any_intent() -> impl Strategy<Value = Intent> {
    prop_oneof![
        4 => Just(Intent::None),
        1 => Just(Intent::RequestSwitch),
        1 => any::<u64>().prop_map(|epoch| Intent::HandOver(Epoch(epoch))),
        1 => Just(Intent::RequestOutdate),
        1 => Just(Intent::Leaving),
    ]
}

fn any_report() -> impl Strategy<Value = Report> {
    let configured = prop_oneof![
        Just(ConfiguredMode::Primary),
        Just(ConfiguredMode::Secondary),
        Just(ConfiguredMode::Off)
    ];
    let effective = prop_oneof![
        Just(EffectiveMode::Primary),
        Just(EffectiveMode::Secondary),
        Just(EffectiveMode::Off),
        Just(EffectiveMode::Failed)
    ];
    let epoch = prop_oneof![4 => 0..9u64, 1 => any::<u64>()];
    (configured, effective, any_intent(), epoch, any_volume(), 0..3usize, any::<bool>()).prop_map(
        |(configured, effective, intent, epoch, volume, link, address)| Report {
            epoch: Epoch(epoch),
            configured,
            effective,
            intent,
            volumes: [volume; VOLUMES],
            replication_link: LinkId::new(link),
            service: ServiceAddress { ipv4: [u8::from(address); 4], mac: [2; 6] },
            ..Report::default()
        },
    )
}

fn any_target() -> impl Strategy<Value = ProbeTarget> {
    prop_oneof![
        Just(ProbeTarget::PeerService),
        any::<u8>().prop_map(ProbeTarget::Vip),
        Just(ProbeTarget::PeerHeartbeat(LinkId::ALL[0])),
        Just(ProbeTarget::ThirdParty),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Failover),
        Just(Command::Restore),
        Just(Command::Restart),
        Just(Command::ForcePrimary),
        Just(Command::Reboot),
        Just(Command::Shutdown)
    ]
}

/// `None` ends the running step, well or badly; other events are as they are.
fn any_event() -> impl Strategy<Value = Result<Event, bool>> {
    let link = (0..LINKS).prop_map(|index| LinkId::ALL[index]);
    let event = prop_oneof![
        6 => (link.clone(), 1..3u64, any::<bool>(), any_report()).prop_map(|(link, from, rebooted, report)| {
            Event::Heartbeat { link, from: UnitId(from), rebooted, report }
        }),
        3 => Just(Event::Tick),
        1 => (link, any::<bool>()).prop_map(|(link, up)| Event::Carrier { link, up }),
        1 => any::<bool>().prop_map(|up| Event::ServiceCarrier { up }),
        3 => any_target().prop_map(|target| Event::ProbeAnswered { target }),
        1 => Just(Event::VipsProbed(VipAnswer::Nobody)),
        1 => any::<bool>().prop_map(|mail| Event::VipsProbed(VipAnswer::Peer { mail })),
        1 => any::<bool>().prop_map(|by_peer| Event::VipContested { by_peer }),
        1 => Just(Event::LeaseLost),
        4 => any_volume().prop_map(|volume| Event::Volumes([volume; VOLUMES])),
        1 => any::<bool>().prop_map(|queue| Event::FenceAsked { volume: VolumeId::ALL[usize::from(queue)] }),
        1 => any_command().prop_map(Event::Operator),
        1 => any::<u64>().prop_map(|epoch| Event::Started { epoch: Epoch(epoch) }),
    ];
    prop_oneof![3 => event.prop_map(Ok), 2 => prop::bool::weighted(0.9).prop_map(Err)]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let mode = prop_oneof![4 => Just(ConfiguredMode::Primary), 4 => Just(ConfiguredMode::Secondary), 1 => Just(ConfiguredMode::Off)];
    let on_failure =
        prop_oneof![Just(OnFailure::Off), Just(OnFailure::RestoreRole), Just(OnFailure::BecomeSecondary)];
    (mode, on_failure, any::<bool>(), any::<[bool; 2]>(), 0..=VIPS_MAX, any::<bool>(), 10..1000u64).prop_map(
        |(mode, on_failure, fast_detect, links, vips, third_party, interval)| Settings {
            unit: UnitId(1),
            mode,
            on_failure,
            reboot_action: RebootAction::default(),
            threshold: Duration::from_millis(interval * 5),
            interval: Duration::from_millis(interval),
            fast_detect,
            links,
            vips,
            third_party,
            max_role_changes: 4,
            remote_heartbeat: false,
        },
    )
}

/// What the shell sees.
struct Shell {
    ha: Ha,
    now: u64,
    running: Option<Step>,
}

impl Shell {
    fn feed(&mut self, event: Event) {
        self.ha.handle(Instant(self.now), event);
        let mut count = 0;
        while let Some(action) = self.ha.next_action() {
            count += 1;
            if let Action::Run(step) = action {
                self.ran(step);
            }
        }
        assert!(count <= 40, "{count} actions at once");
        if let Some(due) = self.ha.next_deadline() {
            assert!(due.0 > self.now, "a deadline in the past");
        }
    }

    fn ran(&mut self, step: Step) {
        assert!(self.running.is_none() || step == Step::Reset, "{step:?} while {:?} runs", self.running);
        self.running = Some(step);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_events_in_any_order_are_harmless(
        settings in any_settings(),
        events in prop::collection::vec((0..3_000_000i64, any_event()), 1..200),
        backwards in any::<bool>(),
    ) {
        let ha = Ha::new(settings, Instant(5_000_000));
        let mut shell = Shell { ha, now: 5_000_000, running: None };
        for (index, (pause, event)) in events.into_iter().enumerate() {
            match event {
                Ok(event) => shell.feed(event),
                Err(well) => {
                    if let Some(step) = shell.running.take() {
                        let result = if well { Ok(()) } else { Err(Fault::Failed) };
                        shell.feed(Event::StepDone { step, result });
                    }
                }
            }
            let step = if backwards && index % 7 == 0 { -pause } else { pause };
            shell.now = shell.now.saturating_add_signed(step);
        }
    }

    /// Left alone, a unit wakes up seldom.
    #[test]
    fn no_state_is_a_busy_loop(
        settings in any_settings(),
        events in prop::collection::vec(any_event(), 1..100),
    ) {
        let ha = Ha::new(settings, Instant(0));
        let mut shell = Shell { ha, now: 0, running: None };
        shell.feed(Event::Started { epoch: Epoch(1) });
        for event in events.into_iter().flatten() {
            shell.feed(event);
        }
        let began = shell.now;
        for _ in 0..300 {
            if let Some(step) = shell.running.take() {
                shell.feed(Event::StepDone { step, result: Ok(()) });
                continue;
            }
            let Some(due) = shell.ha.next_deadline() else { return Ok(()) };
            shell.now = due.0;
            shell.feed(Event::Tick);
        }
        prop_assert!(shell.now - began > 1_000_000, "300 wake-ups in {} µs", shell.now - began);
    }
}
