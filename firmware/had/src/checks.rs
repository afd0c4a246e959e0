//! Runs the checks of this unit and of its peer in their rhythm, each in a task of its own, and tells the decisions when one comes to
//! another state. Which run follows from the mode: ports and drives always, the own mail service while PRIMARY, the peer's services
//! while SECONDARY and the peer is PRIMARY. What a failure means is `ha`'s decision. `spec/ha.md` sections 2 and 4.

mod drives;
mod mail;
mod neighbours;
mod ports;
mod remote;
mod tls;

use crate::heartbeat::Input;
use crate::main_unit::Unit;
use crate::shared::{View, now_us};
use drives::Drives;
use mail::OwnMail;
use neighbours::Neighbours;
use ports::Ports;
use remote::Remote;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use twinpost_api::CheckStatus;
use twinpost_check::{Rules, Run, Schedule, State};
use twinpost_config::Config;
use twinpost_ha::{Check, CheckState, Event};
use twinpost_types::{EffectiveMode, Instant};

/// Between two looks whether a check is due, may run in this mode, or hangs.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Beyond its own limit, after which a run that did not end by itself is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
/// Longest answer to the question whether any service of the peer answers.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How a run ended, in words too.
struct Ended {
    run: Run,
    words: String,
}

/// What the present mode says about a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It runs.
    Runs,
    /// It runs, but not now: what it looks at is being changed, or stands still for another reason.
    Waits,
    /// It does not run, and what it found before says nothing any more.
    Rests,
}

/// What is done in a run.
enum Work {
    Ports(Ports),
    Drives(Drives),
    Mail(Box<OwnMail>),
    Remote(Box<Remote>),
}

/// One check as status views show it.
struct Entry {
    check: Check,
    schedule: Schedule,
    /// It may run in the present mode.
    runs: bool,
    last: String,
    last_at: Option<Instant>,
}

/// All checks that are configured.
#[derive(Default)]
pub struct Board {
    entries: Mutex<Vec<Entry>>,
    remotes: Vec<Remote>,
    neighbours: Arc<Neighbours>,
}

impl Board {
    /// The checks of this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            entries: Mutex::default(),
            remotes: remote::all(config),
            neighbours: Arc::new(Neighbours::new(config)),
        }
    }

    /// All neighbours behind the own ports answer, if any is to be asked.
    #[must_use]
    pub fn reaches_neighbours(&self) -> bool {
        self.neighbours.are_steady()
    }

    /// For status views, in the order of [`Check::ALL`].
    #[must_use]
    pub fn status(&self) -> Vec<CheckStatus> {
        self.lock().iter().map(Entry::status).collect()
    }

    /// Whether any service of the peer passes its check now.
    pub async fn ask_remote(&self) -> bool {
        let mut asked = tokio::task::JoinSet::new();
        for remote in &self.remotes {
            let remote = remote.clone();
            asked.spawn(async move { remote.run(ASK_LIMIT).await.run == Run::Passed });
        }
        while let Some(answer) = asked.join_next().await {
            if answer.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a task for each check.
pub fn start(unit: &Arc<Unit>) {
    let services = &unit.config.ha().services;
    let mut all: Vec<(Check, Rules, Work)> = Vec::new();
    if let Some(rules) = services.local_ports() {
        tokio::spawn(neighbours::ask(Arc::clone(&unit.checks.neighbours)));
        all.push((Check::LocalPorts, ports::rules(rules), Work::Ports(Ports::new(&unit.config))));
    }
    if let Some(rules) = services.local_drives() {
        all.push((Check::LocalDrives, drives::rules(rules), Work::Drives(Drives::start(&unit.shared))));
    }
    all.push((Check::LocalMail, mail::RULES, Work::Mail(Box::new(OwnMail::new(&unit.config)))));
    for remote in &unit.checks.remotes {
        all.push((remote.check(), remote.rules(), Work::Remote(Box::new(remote.clone()))));
    }
    for (index, (check, rules, work)) in all.into_iter().enumerate() {
        let schedule = Schedule::new(rules, Instant(now_us()));
        let entry = Entry { check, schedule, runs: false, last: String::new(), last_at: None };
        unit.checks.lock().push(entry);
        tokio::spawn(mind(Arc::clone(unit), index, check, rules, work));
    }
}

/// Runs one check for ever.
async fn mind(unit: Arc<Unit>, index: usize, check: Check, rules: Rules, mut work: Work) {
    let mut told = State::Good;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Instant(now_us());
        let with = |change: &mut dyn FnMut(&mut Entry)| {
            if let Some(entry) = unit.checks.lock().get_mut(index) {
                change(entry);
            }
        };
        let (mut state, mut is_due) = (told, false);
        let turn = work.turn(&unit, &unit.shared.view());
        let runs = turn != Turn::Rests;
        with(&mut |entry| {
            if !runs && entry.runs {
                entry.schedule.forget(now + rules.interval.min(work.first_after()));
                entry.last.clear();
                entry.last_at = None;
            }
            entry.runs = runs;
            is_due = turn == Turn::Runs && entry.schedule.next_run().is_some_and(|at| at <= now);
            state = entry.schedule.state();
        });
        if !runs {
            work.forget();
        }
        let hangs = work.hangs().filter(|_| runs && state != State::Hung);
        if is_due || hangs.is_some() {
            with(&mut |entry| entry.schedule.begin(now));
            let ended = match hangs {
                Some(words) => Ended { run: Run::Hung, words },
                None => run(&mut work, &unit, rules).await,
            };
            if work.turn(&unit, &unit.shared.view()) == Turn::Rests {
                // The mode changed meanwhile: the next turn forgets this run.
                continue;
            }
            with(&mut |entry| {
                let at = Instant(now_us());
                let changed = entry.schedule.end(at, ended.run);
                (entry.last, entry.last_at) = (ended.words.clone(), Some(at));
                state = entry.schedule.state();
                if changed.is_some() {
                    write_down(&unit, entry);
                }
            });
        }
        let event = Event::Checked { check, state: state_for_decisions(state) };
        if state != told && unit.inputs.send(Input::Event(event)) {
            told = state;
        }
    }
}

async fn run(work: &mut Work, unit: &Unit, rules: Rules) -> Ended {
    let limit = rules.limit + GIVE_UP_AFTER;
    let run = async {
        match work {
            Work::Ports(ports) => ports.run(unit).await,
            Work::Drives(drives) => drives.run(&unit.volumes.borrow().clone()),
            Work::Mail(mail) => mail.run(unit).await,
            Work::Remote(remote) => remote.run(rules.limit).await,
        }
    };
    tokio::time::timeout(limit, run).await.unwrap_or_else(|_| Ended {
        run: Run::Failed,
        words: format!("no result within {} s", limit.as_secs()),
    })
}

impl Work {
    fn turn(&self, unit: &Unit, view: &View) -> Turn {
        let Some(ha) = &view.ha else { return Turn::Rests };
        let peer = ha.peer.map(|peer| peer.effective);
        match self {
            Work::Ports(ports) if ports.is_empty() => Turn::Rests,
            Work::Ports(_) | Work::Drives(_) => Turn::Runs,
            Work::Mail(_) if ha.effective != EffectiveMode::Primary => Turn::Rests,
            Work::Mail(_) if ha.busy || is_frozen(unit) => Turn::Waits,
            Work::Mail(_) => Turn::Runs,
            Work::Remote(_) if ha.effective != EffectiveMode::Secondary => Turn::Rests,
            // Without a PRIMARY there is nobody to be checked.
            Work::Remote(_) if peer != Some(EffectiveMode::Primary) => Turn::Rests,
            Work::Remote(_) => Turn::Runs,
        }
    }

    /// How long after the mode allows it the first run begins: services that just came up get a moment.
    fn first_after(&self) -> Duration {
        match self {
            Work::Ports(_) | Work::Drives(_) => Duration::ZERO,
            Work::Mail(_) | Work::Remote(_) => Duration::from_secs(5),
        }
    }

    fn hangs(&self) -> Option<String> {
        match self {
            Work::Drives(drives) => drives.hangs(),
            Work::Ports(_) | Work::Mail(_) | Work::Remote(_) => None,
        }
    }

    fn forget(&mut self) {
        if let Work::Mail(mail) = self {
            mail.forget();
        }
    }
}

/// Writes wait for the peer's fate: whatever hangs now is not the mail service's fault.
fn is_frozen(unit: &Unit) -> bool {
    unit.volumes.borrow().iter().any(|volume| volume.suspended)
}

fn write_down(unit: &Unit, entry: &Entry) {
    let (name, retries) = (name(entry.check), entry.schedule.rules().retries);
    let why = &entry.last;
    match entry.schedule.state() {
        State::Good => {
            unit.shared.event("check-recovered", &format!("{name}: {why} (well {retries} times in a row)"))
        }
        State::Failed => {
            unit.shared.event("check-failed", &format!("{name}: {why} ({retries} failures in a row)"))
        }
        State::Hung => unit.shared.event("check-failed", &format!("{name}: {why}")),
    };
}

impl Entry {
    fn status(&self) -> CheckStatus {
        let state = match self.schedule.state() {
            State::Good => "good",
            State::Failed => "failed",
            State::Hung => "hung",
        };
        CheckStatus {
            name: name(self.check).to_string(),
            state: state.to_string(),
            runs: self.runs,
            last: self.last.clone(),
            last_us: self.last_at.map_or(0, |at| at.0),
            next_us: self.schedule.next_run().filter(|_| self.runs).map_or(0, |at| at.0),
            failures: self.schedule.failures(),
            retries: self.schedule.rules().retries,
        }
    }
}

/// A check's name in settings, status and events.
#[must_use]
pub fn name(check: Check) -> &'static str {
    match check {
        Check::LocalPorts => "local-ports",
        Check::LocalDrives => "local-hd",
        Check::LocalMail => "local-mail",
        Check::RemoteSmtp => "remote-smtp",
        Check::RemoteImap => "remote-imap",
        Check::RemotePop => "remote-pop",
        Check::RemoteHttp => "remote-http",
    }
}

fn state_for_decisions(state: State) -> CheckState {
    match state {
        State::Good => CheckState::Good,
        State::Failed => CheckState::Failed,
        State::Hung => CheckState::Hung,
    }
}
