//! Runs scenarios on simulated pairs. Lines are carried out in order; `at` waits for its time, expectations count from the last
//! action, and what must always hold is checked at every step. A pair that is up and in sync is made once for each set of settings
//! and copied.

use crate::faults::refused;
use crate::judge::{Check, Violation};
use crate::mutation::Mutation;
use crate::rng::Rng;
use crate::settings::{PairSettings, SettingError};
use crate::world::{MS, SECOND, World};
use std::collections::HashMap;
use std::time::Duration;
use twinpost_ha::{Note, Stay};
use twinpost_scenario::{Action, Expectation, Scenario, Step, UNITS, What};
use twinpost_types::*;

/// Seed of the pair that others are copied from.
const SEED_OF_PAIRS: u64 = 1;
/// A new pair is in sync within this time.
const START_WITHIN: u64 = 120 * SECOND;
/// A unit that must not speak for an address is listened to for this long.
const QUIET: u64 = 2 * SECOND;
/// Sealed heartbeats introduce themselves within this time before a scenario begins.
const INTRODUCTION: u64 = 3 * SECOND;
/// Queues drain within this time when the service is up.
const DRAIN_WITHIN: u64 = 150 * SECOND;
/// At the end, a unit that can be PRIMARY becomes so within this time; the check `PrimaryExists` has its own, shorter bound.
const END_WITHIN: u64 = 400 * SECOND;
/// One seed of so many seals its heartbeats; the others would spend most of their time in ChaCha20.
const SEALED_OF: u64 = 16;

/// Simulated pairs, ready to be copied.
#[derive(Default)]
pub struct Simulator {
    mutation: Option<Mutation>,
    pairs: HashMap<Vec<(String, String)>, World>,
}

/// What became of one run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The first thing that was not as it must be.
    pub failure: Option<Failure>,
    /// Event logs of both units and what was done to them; empty unless recorded.
    pub log: Vec<String>,
    /// Longest time without a greeting.
    pub outage: Duration,
    /// Acknowledged messages.
    pub acknowledged: u32,
    /// Acknowledged and not delivered (yet).
    pub lost: u32,
    /// Delivered again while the copies were apart: what both had queued when they parted.
    pub split_duplicated: u32,
    /// Delivered again since the unit that had delivered ended, or was given up, before it could record that.
    pub in_flight_duplicated: u32,
    /// Delivered again.
    pub duplicated: u32,
    /// Time of the world from the start of the scenario.
    pub simulated: Duration,
    /// Heartbeats were sealed.
    pub sealed: bool,
}

/// What was not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line of the scenario, 0 if it is none's.
    pub line: usize,
    /// Its text, or the name of the check.
    pub text: String,
    /// What was seen.
    pub why: String,
    /// The check that failed; `None` = an expectation of the file.
    pub check: Option<Check>,
}

/// Why a scenario cannot be run here at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// A line means nothing on simulated units.
    #[error("line {line}: `{text}` cannot be simulated: {why}")]
    NotAvailable {
        /// Line.
        line: usize,
        /// Its text.
        text: String,
        /// Why.
        why: &'static str,
    },
    /// A `set` line is not understood.
    #[error("the settings cannot be simulated")]
    Settings(#[from] SettingError),
}

impl Simulator {
    /// With a deliberate bug in the simulated machine.
    #[must_use]
    pub fn with(mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..Self::default() }
    }

    /// Runs a scenario. The same scenario and seed give the same outcome.
    ///
    /// # Errors
    /// See [`RunError`]; an expectation or a check that fails is an [`Outcome`].
    pub fn run(&mut self, scenario: &Scenario, seed: u64, recording: bool) -> Result<Outcome, RunError> {
        if let Some((line, text, why)) = refused(scenario) {
            return Err(RunError::NotAvailable { line, text, why });
        }
        let mut world = self.pair(&scenario.settings)?;
        world.recording = recording;
        world.nfs = scenario.nfs;
        surroundings(&mut world, seed);
        if world.sessions.sealed {
            world.run_until(world.now + INTRODUCTION);
        }
        world.mail.begin();
        let mut player = Player { zero: world.now, last_action: world.now, marks: [0; 2], world };
        let failure = player.play(&scenario.steps).err();
        let world = player.world;
        Ok(Outcome {
            failure,
            outage: micros(world.mail.outage(world.now)),
            acknowledged: world.mail.acked_count,
            lost: world.mail.lost(),
            duplicated: world.mail.duplicated,
            in_flight_duplicated: world.mail.in_flight_duplicated,
            split_duplicated: world.mail.split_duplicated,
            simulated: micros(world.now - player.zero),
            sealed: world.sessions.sealed,
            log: world.log,
        })
    }

    /// A pair that is up and in sync, unit a PRIMARY.
    fn pair(&mut self, settings: &[(String, String)]) -> Result<World, SettingError> {
        if let Some(world) = self.pairs.get(settings) {
            return Ok(world.clone());
        }
        let read = PairSettings::read(settings)?;
        let mut world = World::new(&read, SEED_OF_PAIRS, self.mutation, false);
        world.apply_power_restore(0);
        world.apply_power_restore(1);
        let whole = world.wait(START_WITHIN, |world| world.whole() == Ok(0));
        if !whole {
            world.violate(Check::WholeAgain, || "a new pair does not come up".into());
        }
        self.pairs.insert(settings.to_vec(), world.clone());
        Ok(world)
    }
}

/// What a seed decides beside the order of things: clocks, cables, sealing.
fn surroundings(world: &mut World, seed: u64) {
    world.rng = Rng::new(seed);
    let mut rng = Rng::new(seed.rotate_left(17));
    for unit in &mut world.units {
        unit.rate_ppm = rng.below(500);
    }
    if rng.percent(20) {
        world.links.twice_percent = 5;
        world.links.jitter = 20 * MS;
    }
    world.sessions.sealed = seed % SEALED_OF == 1;
}

struct Player {
    world: World,
    zero: u64,
    last_action: u64,
    /// Notes and starts before the last action.
    marks: [usize; 2],
}

impl Player {
    fn play(&mut self, steps: &[Step]) -> Result<(), Failure> {
        self.judge(None)?;
        for step in steps {
            if let Some(at) = step.at {
                self.world.run_until(self.zero + whole_micros(at));
            }
            self.judge(Some(step))?;
            match &step.what {
                What::Act(action) => {
                    self.last_action = self.world.now;
                    self.marks = [self.world.notes.len(), self.world.begins.len()];
                    match action {
                        Action::Refused(unit, command) => self.refused(step, *unit, command)?,
                        Action::Repair => self.world.heal(),
                        _ => self.world.apply(action),
                    }
                }
                What::Expect(expectation) => {
                    let why = self.expect(expectation);
                    self.judge(Some(step))?;
                    if let Some(why) = why {
                        self.world.say(|| format!("!! {}: {why}", step.text));
                        let check = matches!(expectation, Expectation::Whole(_) | Expectation::Ledger(..))
                            .then_some(Check::WholeAgain);
                        return Err(Failure { line: step.line, text: step.text.clone(), why, check });
                    }
                }
            }
        }
        if !self.world.units.iter().any(|unit| unit.serves(self.world.now)) {
            // The check of a missing primary speaks within this time, if one could be.
            let _ =
                self.world.wait(END_WITHIN, |world| world.units.iter().any(|unit| unit.serves(world.now)));
        }
        self.judge(None)
    }

    /// A command that the unit must refuse.
    fn refused(&mut self, step: &Step, unit: usize, command: &str) -> Result<(), Failure> {
        let before = self.world.notes.len();
        self.world.apply(&Action::Cli(unit, vec![command.to_owned()]));
        let refused =
            |(_, who, note): &(u64, usize, Note)| *who == unit && matches!(note, Note::Refused { .. });
        if self.world.notes[before..].iter().any(refused) {
            return Ok(());
        }
        let why = format!("{} did not refuse it", UNITS[unit]);
        Err(Failure { line: step.line, text: step.text.clone(), why, check: None })
    }

    /// The check that failed meanwhile.
    fn judge(&self, step: Option<&Step>) -> Result<(), Failure> {
        let Some(Violation { check, at, what }) = &self.world.violation else { return Ok(()) };
        Err(Failure {
            line: step.map_or(0, |step| step.line),
            text: format!("{check:?}"),
            why: format!("{what} (at {:.3} s)", at.saturating_sub(self.zero) as f64 / 1e6),
            check: Some(*check),
        })
    }

    /// `Some(what was seen instead)` when the expectation does not hold.
    fn expect(&mut self, expectation: &Expectation) -> Option<String> {
        let since = self.last_action;
        let world = &mut self.world;
        let left = |within: &Duration| (since + whole_micros(*within)).saturating_sub(world.now);
        match expectation {
            Expectation::Mode(unit, mode, within) => {
                let left = left(within);
                let held = world.wait(left, |world| world.units[*unit].effective() == *mode);
                (!held).then(|| world.describe(*unit))
            }
            Expectation::Hold(unit, mode, time) => {
                let lost = world.wait(whole_micros(*time), |world| world.units[*unit].effective() != *mode);
                lost.then(|| world.describe(*unit))
            }
            Expectation::Vip(unit, within) => {
                let left = left(within);
                let held = world.wait(left, |world| {
                    world.units[*unit].greets(world.now) && !world.units[1 - *unit].greets(world.now)
                });
                (!held).then(|| format!("{} gives no greeting there", UNITS[*unit]))
            }
            Expectation::NoVip(unit, within) => {
                world.run_until(since + whole_micros(*within));
                let speaks = world.wait(QUIET, |world| world.units[*unit].greets(world.now));
                speaks.then(|| format!("{} still answers there", UNITS[*unit]))
            }
            Expectation::Event(unit, name, within) => {
                // The shell tells with figures what the note after it tells without.
                let name = if name == "handover-done" { "hand-over-done" } else { name };
                let (left, [notes, begins]) = (left(within), self.marks);
                let held = world.wait(left, |world| {
                    let noted = |(_, who, note): &(u64, usize, Note)| who == unit && event_name(note) == name;
                    let began = name == "start" && world.begins[begins..].iter().any(|(_, who)| who == unit);
                    began
                        || world.notes[notes..].iter().any(noted)
                        || (name == "replication" && world.syncs(*unit))
                        || (name == "handover-report" && world.mail.is_drained())
                });
                (!held).then(|| format!("{} logged no such event since the last action", UNITS[*unit]))
            }
            Expectation::Whole(within) => {
                let left = left(within);
                let held = world.wait(left, |world| world.whole().is_ok());
                (!held).then(|| world.whole().err().unwrap_or_default())
            }
            Expectation::Outage(limit) => {
                let longest = micros(world.mail.outage(world.now));
                (longest > *limit).then(|| format!("{} ms without a greeting", longest.as_millis()))
            }
            Expectation::Stall(limit) => {
                let longest = micros(world.mail.stall);
                (longest > *limit).then(|| format!("a 250 took {} ms", longest.as_millis()))
            }
            Expectation::Ledger(lost, duplicated) => {
                world.mail.order(world.now, None);
                let _ = world.wait(DRAIN_WITHIN, |world| world.mail.is_drained());
                let seen = (u64::from(world.mail.lost()), u64::from(world.mail.duplicated));
                (seen != (*lost, *duplicated)).then(|| format!("lost {} duplicated {}", seen.0, seen.1))
            }
        }
    }
}

impl World {
    /// Runs until `condition` holds (true) or `time` has passed or a check failed (false).
    pub(crate) fn wait(&mut self, time: u64, condition: impl Fn(&World) -> bool) -> bool {
        let end = self.now + time;
        loop {
            if condition(self) {
                return true;
            }
            if self.now >= end || self.violation.is_some() {
                return false;
            }
            self.run_one(end);
        }
    }

    /// The PRIMARY of a whole pair, or what is missing.
    pub(crate) fn whole(&self) -> Result<usize, String> {
        let primary = match [0, 1].map(|i| self.units[i].effective()) {
            [EffectiveMode::Primary, EffectiveMode::Secondary] => 0,
            [EffectiveMode::Secondary, EffectiveMode::Primary] => 1,
            _ => return Err(format!("{}, {}", self.describe(0), self.describe(1))),
        };
        let current = |unit: &crate::unit::Unit| {
            unit.live.local == DiskState::UpToDate
                && unit.live.peer == DiskState::UpToDate
                && unit.live.replication == Replication::Connected
        };
        if let Some(i) = (0..2).find(|i| !current(&self.units[*i])) {
            return Err(format!("{} is not in sync: {:?}", UNITS[i], self.units[i].live));
        }
        match self.units[primary].serves(self.now) {
            true => Ok(primary),
            false => Err("the virtual IP gives no greeting".into()),
        }
    }

    fn describe(&self, i: usize) -> String {
        let unit = &self.units[i];
        let waiting: Option<Stay> = unit.ha.as_ref().and_then(|ha| ha.status().waiting);
        format!("{} is {} ({waiting:?}, {:?})", UNITS[i], unit.effective(), unit.live.local)
    }

    fn syncs(&self, i: usize) -> bool {
        self.units[i].live.replication.is_connected()
    }
}

/// The name of a note in the event log, as `had` writes it.
fn event_name(note: &Note) -> &'static str {
    match note {
        Note::ModeChanged { .. } => "mode",
        Note::Verdict { .. } => "verdict",
        Note::Link { up: true, .. } => "heartbeat-up",
        Note::Link { up: false, .. } => "heartbeat-down",
        Note::ReplicationMoved(_) => "replication-moved",
        Note::ViewsDiffer => "replication-anew",
        Note::TakeoverCancelled => "takeover-cancelled",
        Note::VipHeldByStranger { .. } => "virtual-ip-conflict",
        Note::StepFailed { .. } => "step-failed",
        Note::FenceAnswered(_) => "fence",
        Note::SwitchEnded { done: true } => "switch-done",
        Note::SwitchEnded { done: false } => "switch-failed",
        Note::Refused { .. } => "refused",
        Note::Waiting(_) => "waiting",
        Note::Arbitrated { .. } => "arbitration",
        Note::SteppingDown(_) => "stepping-down",
        Note::AskingToStepDown(_) => "asking-to-step-down",
        Note::FailureKept(_) => "failure-kept",
        Note::HeartbeatLostPeerServes => "heartbeat-lost",
        Note::HoldOff(_) => "hold-off",
        Note::HandingOver => "hand-over",
        Note::HandedOver => "hand-over-done",
    }
}

fn micros(time: u64) -> Duration {
    Duration::from_micros(time)
}

fn whole_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 4)
}
