//! The heartbeat threads of two units, with decisions, sealing, sockets, probes and announcements in them, from the start over the
//! roles to a takeover: they allocate and free nothing. An allocation aborts this program. The executors are stand-ins that
//! answer at once. Needs root and iproute2; says SKIPPED otherwise.
#![allow(clippy::disallowed_methods, reason = "its ports are made with `ip`, and it waits for the units")]

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use rustix::thread::UnshareFlags;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use twinpost_alert::EventLog;
use twinpost_ha::{Event, Step};
use twinpost_had::channel::{self, Inbox, Sender};
use twinpost_had::heartbeat::{Input, Output};
use twinpost_had::shared::Shared;
use twinpost_had::{HeartbeatParts, assemble_heartbeat};
use twinpost_net::lease::Pulse;
use twinpost_net::rt;
use twinpost_types::{DiskState, EffectiveMode, Epoch, Health, Replication, VOLUMES, VolumeReport};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

/// A unit with a running heartbeat thread.
struct Unit {
    inputs: Sender<Input>,
    outputs: Inbox<Output>,
    volumes: [VolumeReport; VOLUMES],
    mode: EffectiveMode,
    shared: Arc<Shared>,
}

impl Unit {
    /// Ports `{prefix}1` (service, with virtual IPs of both kinds) to `{prefix}3` (heartbeat).
    fn start(prefix: char, mode: &str, own: u8, peer: u8, log: &std::path::Path) -> Self {
        let ports = [1, 2, 3].map(|number| format!("{prefix}{number}"));
        let script = format!(
            "config system interface\nedit {prefix}1\nset ip 192.0.2.{own}/24\nset ip6 2001:db8::{own}/64\nnext\nend\n\
             config system ha\nset mode {mode}\nset password secret\nset hb-lost-threshold 1\nset hb-interval 10\n\
             set heartbeat-1-interface {prefix}2\nset heartbeat-1-ip 10.0.0.{own}/24\nset heartbeat-1-peer 10.0.0.{peer}\n\
             set heartbeat-2-interface {prefix}3\nset heartbeat-2-ip 10.0.1.{own}/24\nset heartbeat-2-peer 10.0.1.{peer}\n\
             set failover {prefix}1 add 192.0.2.10/24\nset failover {prefix}1 add 2001:db8::10/64\nend\n"
        );
        let config = twinpost_config::parse(&script, &ports.each_ref().map(String::as_str)).expect("valid");
        let shared = Arc::new(Shared::new(EventLog::open(log, 1)));
        let (inputs, inbox) = channel::bounded(256).expect("sockets");
        let (outbox, outputs) = channel::bounded(256).expect("sockets");
        let parts =
            HeartbeatParts { inbox, outbox, revision: 1, pulse: Arc::new(Pulse::new()), epoch: Epoch(1) };
        let (heartbeat, started, sink) = assemble_heartbeat(&config, &shared, parts).expect("whole");
        assert!(shared.alarms().is_empty(), "{:?}", shared.alarms());
        std::thread::spawn(move || {
            let _kept = sink;
            rt::become_realtime(rt::Priority::Heartbeat).expect("root");
            rt::touch_stack();
            assert_no_alloc(|| heartbeat.run(started))
        });
        let volume = VolumeReport {
            local: DiskState::UpToDate,
            peer: DiskState::UpToDate,
            replication: Replication::Connected,
            size_mib: 1,
            ..VolumeReport::default()
        };
        let unit = Self { inputs, outputs, volumes: [volume; VOLUMES], mode: EffectiveMode::Off, shared };
        unit.tell(Event::Volumes(unit.volumes));
        unit.tell(Event::Health(Health { service_port: true, third_party: true, mail: true, storage: true }));
        unit
    }

    fn tell(&self, event: Event) {
        assert!(self.inputs.send(Input::Event(event)), "the heartbeat thread does not keep up");
    }

    /// Does what the decisions asked for.
    fn serve(&mut self) {
        while let Some(output) = self.outputs.next() {
            match output {
                Output::Run(step) => self.run(step),
                Output::Mode(mode) => self.mode = mode,
                Output::AskGreeting => assert!(self.inputs.send(Input::Greeting(false))),
                Output::AskRemote => self.tell(Event::RemoteAnswered(false)),
                Output::Note(_) | Output::AnswerFence(_) => {}
            }
        }
    }

    fn run(&mut self, step: Step) {
        let held = match step {
            Step::ClaimVips => Some(true),
            Step::ReleaseVips => Some(false),
            _ => None,
        };
        if let Some(held) = held {
            assert!(self.inputs.send(Input::VipsHeld(held)));
        }
        for volume in &mut self.volumes {
            match step {
                Step::Promote => volume.promoted = true,
                Step::Demote => volume.promoted = false,
                Step::Fence => {
                    volume.replication = Replication::Down;
                    volume.peer = DiskState::Outdated;
                }
                _ => {}
            }
        }
        self.tell(Event::Volumes(self.volumes));
        self.tell(Event::StepDone { step, result: Ok(()) });
    }
}

/// Both units until each has its mode.
fn until(a: &mut Unit, b: &mut Unit, wanted: [EffectiveMode; 2]) {
    let begin = Instant::now();
    while [a.mode, b.mode] != wanted {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} and {}, not {wanted:?}", a.mode, b.mode);
        a.serve();
        b.serve();
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ip(arguments: &str) {
    call("ip", arguments);
}

fn call(program: &str, arguments: &str) {
    let status =
        Command::new(program).args(arguments.split(' ')).status().expect("iproute2 and mount are there");
    assert!(status.success(), "{program} {arguments}");
}

#[test]
fn two_heartbeat_threads_allocate_nothing_from_start_to_takeover() {
    let run = || {
        let flags = UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::FS;
        // SAFETY: neither a network nor a mount namespace nor separate file system attributes take anything from other threads
        // that they could hold a reference to.
        if let Err(error) = unsafe { rustix::thread::unshare_unsafe(flags) } {
            eprintln!("SKIPPED: no network namespace can be made here ({error}); run as root");
            return;
        }
        // Carriers are read in sysfs, which shows the namespace that it was mounted from.
        call("mount", "--make-rprivate /");
        call("mount", "-t sysfs sysfs /sys");
        for number in 1..=3 {
            ip(&format!("link add p{number} type veth peer name q{number}"));
            ip(&format!("link set p{number} up"));
            ip(&format!("link set q{number} up"));
        }
        let logs = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let mut a = Unit::start('p', "primary", 11, 12, logs[0].path());
        let mut b = Unit::start('q', "secondary", 12, 11, logs[1].path());
        until(&mut a, &mut b, [EffectiveMode::Primary, EffectiveMode::Secondary]);
        assert!(a.shared.view().links.iter().all(|link| link.received > 0));
        // Both cables: b's decisions run through silence, probes, verdict and takeover.
        ip("link set p2 down");
        ip("link set p3 down");
        until(&mut a, &mut b, [EffectiveMode::Primary, EffectiveMode::Primary]);
        // The addresses are claimed some steps after the mode; then they are announced for a while.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) || !b.shared.view().vips_held {
            assert!(begin.elapsed() < Duration::from_secs(20), "the virtual IPs are not claimed");
            b.serve();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!([&a, &b].iter().all(|unit| unit.shared.view().overflows == 0));
        // They meet again and settle it: the later epoch stays.
        ip("link set p2 up");
        let begin = Instant::now();
        while a.mode == EffectiveMode::Primary {
            assert!(begin.elapsed() < Duration::from_secs(20), "a does not give way");
            a.serve();
            b.serve();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(b.mode, EffectiveMode::Primary);
    };
    std::thread::spawn(run).join().expect("the test failed");
}
