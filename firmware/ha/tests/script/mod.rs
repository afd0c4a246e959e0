//! Tells a story to one decision core and writes down what it does: its steps end as the story says, its probes are answered
//! by a peer and a gateway that the story switches on and off.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;
use twinpost_ha::*;
use twinpost_types::*;

const MS: u64 = 1000;

/// Tells a whole story; every line is printed before what it causes.
pub fn tell(story: &str) -> String {
    let mut script = Script::new();
    for line in story.lines() {
        let words = line.split('#').next().unwrap_or_default().trim();
        let _ = writeln!(script.out, "{line}");
        if !words.is_empty() {
            script.line(words);
        }
    }
    script.out
}

struct Script {
    out: String,
    now: u64,
    settings: Settings,
    ha: Option<Ha>,
    own: VolumeReport,
    peer: Report,
    peer_id: UnitId,
    beats: [bool; LINKS],
    next_beat: u64,
    kernel: bool,
    gateway: bool,
    vips: VipAnswer,
    /// A service of the peer answers.
    remote: bool,
    step_ms: Option<u64>,
    fails: Vec<String>,
    coming: BTreeMap<(u64, u64), Event>,
    count: u64,
}

impl Script {
    fn new() -> Self {
        let settings = Settings {
            unit: UnitId(1),
            mode: ConfiguredMode::Primary,
            on_failure: OnFailure::default(),
            reboot_action: RebootAction::default(),
            threshold: Duration::from_secs(15),
            interval: Duration::from_millis(200),
            fast_detect: true,
            links: [true, true],
            vips: 1,
            third_party: true,
            max_role_changes: 4,
            remote_heartbeat: false,
        };
        Self {
            out: String::new(),
            now: 0,
            settings,
            ha: None,
            own: VolumeReport::default(),
            peer: Report {
                service: ServiceAddress { ipv4: [192, 0, 2, 12], mac: [2; 6] },
                health: Health { service_port: true, third_party: true, mail: true, storage: true },
                heard: [Heard { sequence: 1, age_ms: 0, lost: 0 }; LINKS],
                ..Report::default()
            },
            peer_id: UnitId(2),
            beats: [false; LINKS],
            next_beat: 0,
            kernel: true,
            gateway: true,
            vips: VipAnswer::Nobody,
            remote: false,
            step_ms: Some(50),
            fails: Vec::new(),
            coming: BTreeMap::new(),
            count: 0,
        }
    }

    /// One line: `unit`, `started`, `own`, `peer`, `beat`, `kernel`, `gateway`, `vips`, `carrier`, `service`, `steps`, `fail`,
    /// `fence`, `contested`, `lease-lost`, `check`, `remote`, `split-brain`, `do`, `jump`, `run`.
    fn line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        match verb {
            "unit" => self.unit(&words),
            "started" => {
                self.ha = Some(Ha::new(self.settings, Instant(self.now)));
                self.feed(Event::Started { epoch: Epoch(number(words[0])) });
            }
            "own" => {
                volume(&mut self.own, &words);
                self.feed(Event::Volumes([self.own; VOLUMES]));
            }
            "peer" => self.peer_says(&words),
            "beat" => {
                self.beats = [words.contains(&"1"), words.contains(&"2")];
                self.next_beat = self.now;
            }
            "kernel" => self.kernel = words[0] == "on",
            "gateway" => self.gateway = words[0] == "on",
            "vips" => {
                self.vips = match words[0] {
                    "nobody" => VipAnswer::Nobody,
                    "stranger" => VipAnswer::Stranger([6; 6]),
                    other => VipAnswer::Peer { mail: other == "mail" },
                }
            }
            "carrier" => {
                let link = LinkId::ALL[number(words[0]) as usize - 1];
                self.feed(Event::Carrier { link, up: words[1] == "up" });
            }
            "service" => self.feed(Event::ServiceCarrier { up: words[0] == "up" }),
            "steps" => self.step_ms = words[0].parse().ok(),
            "fail" => self.fails.push(words[0].into()),
            "fence" => VolumeId::ALL.into_iter().for_each(|volume| self.feed(Event::FenceAsked { volume })),
            "contested" => self.feed(Event::VipContested { by_peer: words[0] == "peer" }),
            "lease-lost" => self.feed(Event::LeaseLost),
            "check" => self.feed(Event::Checked { check: check(words[0]), state: check_state(words[1]) }),
            "remote" => self.remote = words[0] == "answers",
            "split-brain" => self.feed(Event::SplitBrain),
            "do" => self.feed(Event::Operator(command(words[0]))),
            "jump" => self.now += seconds(words[0]),
            "run" => self.run(seconds(words[0])),
            other => panic!("unknown word {other}"),
        }
    }

    fn unit(&mut self, words: &[&str]) {
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("primary", _) => self.settings.mode = ConfiguredMode::Primary,
                ("secondary", _) => self.settings.mode = ConfiguredMode::Secondary,
                ("off", _) => self.settings.mode = ConfiguredMode::Off,
                ("on-failure", "off") => self.settings.on_failure = OnFailure::Off,
                ("on-failure", "restore-role") => self.settings.on_failure = OnFailure::RestoreRole,
                ("reboot-action", "hold-off") => self.settings.reboot_action = RebootAction::HoldOff,
                ("remote-services-as-heartbeat", _) => self.settings.remote_heartbeat = true,
                ("fast-detect", "disable") => self.settings.fast_detect = false,
                ("max-role-changes", value) => self.settings.max_role_changes = number(value) as u8,
                ("interval-ms", value) => self.settings.interval = Duration::from_millis(number(value)),
                ("threshold-ms", value) => self.settings.threshold = Duration::from_millis(number(value)),
                (id, _) => self.settings.unit = UnitId(number(id)),
            }
        }
    }

    fn peer_says(&mut self, words: &[&str]) {
        let mut rest = Vec::new();
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("id", value) => self.peer_id = UnitId(number(value)),
                ("configured", "primary") => self.peer.configured = ConfiguredMode::Primary,
                ("configured", _) => self.peer.configured = ConfiguredMode::Secondary,
                ("PRIMARY", _) => self.peer.effective = EffectiveMode::Primary,
                ("SECONDARY", _) => self.peer.effective = EffectiveMode::Secondary,
                ("HOLD-OFF", _) => self.peer.effective = EffectiveMode::HoldOff,
                ("FAILED", _) => self.peer.effective = EffectiveMode::Failed,
                ("deaf", "no") => self.peer.heard = [Heard { sequence: 1, age_ms: 0, lost: 0 }; LINKS],
                ("deaf", _) => self.peer.heard = Default::default(),
                ("health", "bad") => self.peer.health = Health::default(),
                ("OFF", _) => self.peer.effective = EffectiveMode::Off,
                ("epoch", value) => self.peer.epoch = Epoch(number(value)),
                ("link", value) => self.peer.replication_link = LinkId::new(number(value) as usize - 1),
                ("intent", "none") => self.peer.intent = Intent::None,
                ("intent", "leaving") => self.peer.intent = Intent::Leaving,
                ("intent", "switch") => self.peer.intent = Intent::RequestSwitch,
                ("intent", "step-down") => self.peer.intent = Intent::StepDown,
                ("intent", "hold-off") => self.peer.intent = Intent::HoldOff,
                ("intent", "outdate") => self.peer.intent = Intent::RequestOutdate,
                ("hand-over", value) => self.peer.intent = Intent::HandOver(Epoch(number(value))),
                _ => rest.push(*word),
            }
        }
        for report in &mut self.peer.volumes {
            volume(report, &rest);
        }
    }

    fn run(&mut self, time: u64) {
        let end = self.now + time;
        loop {
            let beat = self.beats.contains(&true).then_some(self.next_beat);
            let coming = self.coming.keys().next().map(|(at, _)| *at);
            let due = self.ha.as_ref().and_then(Ha::next_deadline).map(|at| at.0);
            let next = [beat, coming, due].into_iter().flatten().min().unwrap_or(end).max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            if coming == Some(next) {
                let event = self.coming.pop_first().map(|(_, event)| event);
                event.into_iter().for_each(|event| self.feed(event));
            } else if beat == Some(next) {
                self.next_beat = next + self.settings.interval.as_micros() as u64;
                self.beat();
            } else if due.is_some_and(|at| at <= next) {
                self.feed(Event::Tick);
            } else {
                return;
            }
        }
    }

    fn beat(&mut self) {
        for link in LinkId::ALL {
            if self.beats[link.index()] {
                let event = Event::Heartbeat { link, from: self.peer_id, rebooted: false, report: self.peer };
                self.feed(event);
            }
        }
    }

    fn feed(&mut self, event: Event) {
        let Some(ha) = &mut self.ha else { return };
        ha.handle(Instant(self.now), event);
        let actions: Vec<Action> = std::iter::from_fn(|| ha.next_action()).collect();
        let probes = actions.iter().filter(|action| matches!(action, Action::Probe(_))).count();
        if probes > 0 {
            self.print(&format!("Probe {probes} targets"));
        }
        for action in actions {
            self.act(action);
        }
    }

    fn print(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:>12.3}  {text}", self.now as f64 / 1e6);
    }

    fn later(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.coming.insert((self.now + delay, self.count), event);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Probe(target) => {
                let answered = if target == ProbeTarget::ThirdParty { self.gateway } else { self.kernel };
                if answered {
                    self.later(MS, Event::ProbeAnswered { target });
                }
                return;
            }
            Action::AskRemote => self.later(200 * MS, Event::RemoteAnswered(self.remote)),
            Action::ProbeVips => self.later(300 * MS, Event::VipsProbed(self.vips)),
            Action::Run(step) => self.step(step),
            _ => {}
        }
        if let Action::Note(Note::Verdict { verdict, evidence: e }) = action {
            let gasp = if e.gasp { " gasp" } else { "" };
            self.print(&format!(
                "Verdict {verdict:?}: silence {:?} ms, carrier {:?}, probes {}/{} answered, service {}, gateway {}{gasp}",
                e.silence_ms, e.carrier, e.probes_answered, e.probes_sent, e.service_carrier, e.third_party
            ));
        } else {
            self.print(&format!("{action:?}"));
        }
    }

    /// The machine does a step, and its replication shows it.
    fn step(&mut self, step: Step) {
        let name = format!("{step:?}");
        let Some(ms) = self.step_ms else { return };
        let place = self.fails.iter().position(|fail| name.starts_with(fail.as_str()));
        let result = match place {
            Some(place) => {
                self.fails.remove(place);
                let unfinished = matches!(step, Step::PassMail | Step::DrainMail);
                Err(if unfinished { Fault::Unfinished } else { Fault::Failed })
            }
            None => Ok(()),
        };
        if result.is_ok() {
            match step {
                Step::Promote | Step::PromoteForced => self.own.promoted = true,
                Step::Demote => self.own.promoted = false,
                Step::Fence => self.own.replication = Replication::Down,
                Step::Connect(_) | Step::ConnectDiscarding(_) if !self.own.replication.is_connected() => {
                    self.own.replication = Replication::Connecting;
                }
                Step::Disconnect => {
                    (self.own.local, self.own.replication) = (DiskState::Outdated, Replication::Down);
                }
                Step::Outdate => self.own.local = DiskState::Outdated,
                Step::Initialise => {
                    (self.own.local, self.own.peer, self.own.fresh) =
                        (DiskState::UpToDate, DiskState::UpToDate, false);
                }
                _ => {}
            }
            self.later(ms * MS, Event::Volumes([self.own; VOLUMES]));
        }
        self.later(ms * MS, Event::StepDone { step, result });
    }
}

fn volume(report: &mut VolumeReport, words: &[&str]) {
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("local", value) => report.local = disk(value),
            ("peer", value) => report.peer = disk(value),
            ("fresh", value) => report.fresh = value != "no",
            ("promoted", value) => report.promoted = value != "no",
            ("suspended", value) => report.suspended = value != "no",
            ("Connected", _) => report.replication = Replication::Connected,
            ("Connecting", _) => report.replication = Replication::Connecting,
            ("StandAlone", _) => report.replication = Replication::StandAlone,
            ("Down", _) => report.replication = Replication::Down,
            ("SyncTarget", _) => report.replication = Replication::SyncTarget,
            ("SyncSource", _) => report.replication = Replication::SyncSource,
            other => panic!("unknown state {other:?}"),
        }
    }
}

fn disk(name: &str) -> DiskState {
    match name {
        "UpToDate" => DiskState::UpToDate,
        "Consistent" => DiskState::Consistent,
        "Outdated" => DiskState::Outdated,
        "Inconsistent" => DiskState::Inconsistent,
        "Diskless" => DiskState::Diskless,
        "Unknown" => DiskState::Unknown,
        other => panic!("unknown disk state {other}"),
    }
}

fn check(name: &str) -> Check {
    match name {
        "local-ports" => Check::LocalPorts,
        "local-hd" => Check::LocalDrives,
        "local-mail" => Check::LocalMail,
        "remote-smtp" => Check::RemoteSmtp,
        "remote-imap" => Check::RemoteImap,
        "remote-pop" => Check::RemotePop,
        "remote-http" => Check::RemoteHttp,
        other => panic!("unknown check {other}"),
    }
}

fn check_state(name: &str) -> CheckState {
    match name {
        "good" => CheckState::Good,
        "failed" => CheckState::Failed,
        "hung" => CheckState::Hung,
        other => panic!("unknown state {other}"),
    }
}

fn command(name: &str) -> Command {
    match name {
        "failover" => Command::Failover,
        "restore" => Command::Restore,
        "restart" => Command::Restart,
        "force-primary" => Command::ForcePrimary,
        "reboot" => Command::Reboot,
        "shutdown" => Command::Shutdown,
        other => panic!("unknown command {other}"),
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn seconds(word: &str) -> u64 {
    (word.parse::<f64>().unwrap_or_else(|_| panic!("{word} is no time")) * 1e6) as u64
}
