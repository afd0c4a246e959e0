//! A Twinpost unit without volumes and mail: the appliance's own heartbeat thread, decisions and lease of the virtual IPs, started by
//! the supervisor's own function. Storage, mail and the machine are **stand-ins that answer at once**: what is measured here is
//! how long it takes to see a death, to decide and to move the address, not how long a volume takes to mount.
//!
//! Prints `mode NAME` at each change of mode and `vips held`; answers `stats` on its input with a [`Stats`] as JSON.

use crate::enclose::told;
use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use twinpost_alert::EventLog;
use twinpost_ha::{Event, Fault, Step};
use twinpost_had::channel::{self, Sender};
use twinpost_had::heartbeat::{Input, Output};
use twinpost_had::network::leased_vips;
use twinpost_had::shared::Shared;
use twinpost_had::{HeartbeatParts, start_heartbeat, words};
use twinpost_net::lease::{LeaseKeeper, LeaseState, Pulse, Vip};
use twinpost_types::{DiskState, Epoch, Health, Replication, VOLUMES, VolumeReport};

/// As in the supervisor.
const QUEUE_BOUND: usize = 256;

/// The lease is looked at this often, as the supervisor's minder does.
const MINDED: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// Arguments of a node.
#[derive(clap::Args)]
pub struct NodeArgs {
    /// Its settings in the operator's syntax
    script: PathBuf,
    /// Where its event log is kept
    log: PathBuf,
}

/// What a node has used and how late it was.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Worst lateness of the heartbeat thread since its start, µs.
    pub late_us: u64,
    /// Processor time of the whole process, ns.
    pub cpu_ns: u64,
    /// Processor time of its heartbeat thread, ns.
    pub heartbeat_ns: u64,
    /// Clock, µs.
    pub now_us: u64,
    /// Heartbeats heard on both links.
    pub heard: u64,
}

/// Runs until it is killed or its input ends.
pub fn node(args: &NodeArgs) -> anyhow::Result<ExitCode> {
    let script = std::fs::read_to_string(&args.script).context("no script")?;
    let config = twinpost_config::parse(&script, &crate::scripts::PORTS)
        .map_err(|error| anyhow::anyhow!("the script is refused: {error}"))?;
    let shared = Arc::new(Shared::new(EventLog::open(&args.log, 1)));
    let (inputs, inbox) = channel::bounded(QUEUE_BOUND)?;
    let (outbox, outputs) = channel::bounded(QUEUE_BOUND)?;
    let pulse = Arc::new(Pulse::new());
    let mut stand_ins = StandIns {
        lease: LeaseKeeper::start(Arc::clone(&pulse))?,
        vips: leased_vips(&config, &shared),
        inputs,
        volumes: [in_sync(); VOLUMES],
    };
    let parts = HeartbeatParts { inbox, outbox, revision: 1, pulse, epoch: Epoch(1) };
    let _sink = start_heartbeat(&config, &shared, parts)?;
    stand_ins.tell(Event::Volumes(stand_ins.volumes));
    stand_ins.tell(Event::Health(Health {
        service_port: true,
        third_party: true,
        mail: true,
        storage: true,
    }));
    anyhow::ensure!(shared.alarms().is_empty(), "this node is not whole: {:?}", shared.alarms());
    let input = std::io::stdin();
    loop {
        let bell = outputs.fd();
        let mut fds = [PollFd::new(&bell, PollFlags::IN), PollFd::new(&input, PollFlags::IN)];
        let _interrupted = poll(&mut fds, Some(&MINDED));
        let asked = !fds[1].revents().is_empty();
        stand_ins.mind();
        outputs.clear();
        while let Some(output) = outputs.next() {
            stand_ins.take(output, &shared);
        }
        if asked && !obey(&shared)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Volumes as a pair in sync reports them.
fn in_sync() -> VolumeReport {
    VolumeReport {
        local: DiskState::UpToDate,
        peer: DiskState::UpToDate,
        replication: Replication::Connected,
        size_mib: 1,
        ..VolumeReport::default()
    }
}

struct StandIns {
    lease: LeaseKeeper,
    vips: Vec<Vip>,
    inputs: Sender<Input>,
    volumes: [VolumeReport; VOLUMES],
}

impl StandIns {
    fn take(&mut self, output: Output, shared: &Shared) {
        match output {
            Output::Run(step) => {
                let result = self.run(step);
                self.tell(Event::StepDone { step, result });
            }
            Output::Mode(mode) => println!("mode {mode}"),
            Output::Note(note) => {
                let (name, text) = words::note(&note);
                shared.event(name, &text);
            }
            // Mail always greets here; no remote service is configured; nothing is replicated, so nobody asks about fences.
            Output::AskGreeting => self.put(Input::Greeting(true)),
            Output::AskRemote => self.tell(Event::RemoteAnswered(false)),
            Output::AnswerFence(_) => {}
        }
    }

    fn run(&mut self, step: Step) -> Result<(), Fault> {
        match step {
            Step::ClaimVips => {
                self.lease.claim(&self.vips).map_err(|_| Fault::Failed)?;
                self.put(Input::VipsHeld(true));
                println!("vips held");
            }
            Step::ReleaseVips => {
                self.put(Input::VipsHeld(false));
                self.lease.release().map_err(|_| Fault::Failed)?;
            }
            Step::Promote | Step::PromoteForced => self.volumes(|volume| volume.promoted = true),
            Step::Demote => self.volumes(|volume| volume.promoted = false),
            Step::Fence => self.volumes(|volume| {
                volume.replication = Replication::Down;
                volume.peer = DiskState::Outdated;
            }),
            Step::Connect(_) => self.volumes(|volume| {
                volume.replication = Replication::Connected;
                volume.peer = DiskState::UpToDate;
            }),
            // Durable epoch, mounts, mail and its hand-over, the machine: done at once.
            _ => {}
        }
        Ok(())
    }

    /// A lease that ran out is told, as on the appliance; it is claimed again from there.
    fn mind(&self) {
        if self.lease.state() == LeaseState::Lost && self.lease.release().is_ok() {
            println!("lease lost");
            self.put(Input::VipsHeld(false));
            self.tell(Event::LeaseLost);
        }
    }

    fn volumes(&mut self, change: impl Fn(&mut VolumeReport)) {
        self.volumes.iter_mut().for_each(change);
        self.tell(Event::Volumes(self.volumes));
    }

    fn tell(&self, event: Event) {
        self.put(Input::Event(event));
    }

    fn put(&self, input: Input) {
        assert!(self.inputs.send(input), "the heartbeat thread does not keep up");
    }
}

fn obey(shared: &Shared) -> anyhow::Result<bool> {
    if told()?.is_none() {
        return Ok(false);
    }
    let view = shared.view();
    let (cpu_ns, heartbeat_ns) = cpu()?;
    let stats = Stats {
        late_us: view.lateness_us_max,
        cpu_ns,
        heartbeat_ns,
        now_us: twinpost_net::rt::now().0,
        heard: view.links.iter().map(|link| link.received).sum(),
    };
    println!("stats {}", serde_json::to_string(&stats)?);
    Ok(true)
}

/// Processor time of all threads and of the heartbeat thread, as the scheduler counts it.
fn cpu() -> anyhow::Result<(u64, u64)> {
    let (mut all, mut heartbeat) = (0, 0);
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let text = std::fs::read_to_string(task.join("schedstat")).context("the kernel has no schedstat")?;
        let ran: u64 = text.split(' ').next().unwrap_or_default().parse().context("schedstat")?;
        all += ran;
        if std::fs::read_to_string(task.join("comm"))?.trim() == "heartbeat" {
            heartbeat += ran;
        }
    }
    Ok((all, heartbeat))
}
