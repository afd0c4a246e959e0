//! Runs a scenario on two QEMU units. Lines are carried out in order; `at` waits for its time, expectations count from the last
//! action, and what must always hold is checked while waiting.

use super::check::Invariants;
use super::drill;
use super::report::{Failure, describe, describe_mail, keep_service_logs, write_events};
use super::start::{StartError, StartLimits, bring_up, is_whole_since};
use crate::clock::Micros;
use crate::console::ConsoleError;
use crate::mail::Summary;
use crate::pair::{Pair, PairError, PairSettings, UNITS};
use std::time::Duration;
use twinpost_scenario::{Action, DiskFault, Expectation, Group, Scenario, Step, What};
use twinpost_types::{DiskState, EffectiveMode};

/// Time between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Queues drain within this time when the service is up: a retry of a deferred message included.
const DRAIN_WITHIN: Duration = Duration::from_secs(150);
/// At the end, a unit that can be PRIMARY is so within this time.
const PRIMARY_WITHIN: Duration = Duration::from_secs(60);
/// A unit acts on a hung drive within this time; until then it delivers what is in memory already
/// and cannot record it.
const HANG_NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// A unit that no longer speaks for the virtual IP says nothing for this long; the probe asks for it many times meanwhile.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// After a freeze ends, the unit gives up what it no longer owns within this time.
const THAW_GRACE: Duration = Duration::from_secs(5);

/// How a scenario is run.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The pair; firmware and settings of the scenario are put in.
    pub pair: PairSettings,
    /// Limits of the start.
    pub limits: StartLimits,
}

/// How a scenario ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first expectation that failed.
    pub failure: Option<Failure>,
    /// Event logs and paths, when it failed.
    pub evidence: String,
    /// The book at the end.
    pub mail: Summary,
    /// Longest time without a greeting since time 0.
    pub outage: Duration,
    /// From power-on to time 0.
    pub start: Duration,
}

/// Why a scenario could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A line asks for what QEMU units of this release cannot do.
    #[error("line {line}: `{text}` cannot be done on QEMU units in this release")]
    NotAvailable {
        /// Line number.
        line: usize,
        /// Its text.
        text: String,
    },
    /// The bench failed.
    #[error("the bench failed")]
    Pair(#[from] PairError),
}

/// Runs `scenario`; `tell` is given one line of progress now and then.
///
/// # Errors
/// See [`RunError`]; an expectation that fails is an [`Outcome`].
pub fn run(
    scenario: &Scenario,
    settings: &RunSettings,
    tell: &mut dyn FnMut(&str),
) -> Result<Outcome, RunError> {
    refuse_unavailable(scenario)?;
    let mut pair_settings = settings.pair.clone();
    pair_settings.firmware = scenario.firmware;
    pair_settings.machines = scenario.machines;
    pair_settings.nfs = scenario.nfs;
    pair_settings.settings.extend(scenario.settings.iter().cloned());
    let powered = Micros::now();
    let mut pair = Pair::prepare(&pair_settings)?;
    let zero = match bring_up(&mut pair, settings.limits, |_| true) {
        Ok(zero) => zero,
        Err(StartError::Pair(error)) => return Err(error.into()),
        Err(error @ (StartError::NotWhole { .. } | StartError::Board { .. } | StartError::Quit)) => {
            let failure = Failure { line: 0, text: "start of the pair".into(), why: error.to_string() };
            return Ok(outcome(&pair, Some(failure), powered, powered));
        }
    };
    let quickest = [0, 1].map(|unit| pair.watch(unit).quickest_answer().unwrap_or_default().as_millis());
    tell(&format!(
        "the pair is whole after {:.1} s (quickest status: a {} ms, b {} ms)",
        zero.since(powered).as_secs_f64(),
        quickest[0],
        quickest[1]
    ));
    let mut runner = Runner {
        pair,
        zero,
        last_action: zero,
        marks: [0; 2],
        thaws: Vec::new(),
        tolerate_until: Micros::default(),
        links_cut: [[false; 4]; 2],
        clocks_ahead: [0; 2],
        flaps: Vec::new(),
        recordless_until: Micros::default(),
        had_load: false,
        ledger_judged: false,
        tell,
    };
    let result = runner.play(&scenario.steps).and_then(|()| runner.last_checks());
    let gaps = runner.pair.outages.gaps(zero);
    if !gaps.is_empty() {
        (runner.tell)(&format!("          without a greeting for {gaps}"));
    }
    match result {
        Ok(()) => Ok(outcome(&runner.pair, None, powered, zero)),
        Err(Stop::Failed(failure)) => Ok(outcome(&runner.pair, Some(failure), powered, zero)),
        Err(Stop::Bench(error)) => Err(error.into()),
    }
}

fn outcome(pair: &Pair, failure: Option<Failure>, powered: Micros, zero: Micros) -> Outcome {
    let outage = pair.outages.longest(Micros::now());
    let evidence = failure.as_ref().map(|_| write_events(pair, zero)).unwrap_or_default();
    if failure.is_some() {
        // What cannot be had of a unit in trouble is not what failed.
        let _ = keep_service_logs(pair, None);
    }
    Outcome { failure, evidence, mail: pair.ledger.summary(), outage, start: zero.since(powered) }
}

fn refuse_unavailable(scenario: &Scenario) -> Result<(), RunError> {
    if scenario.group != Group::ActivePassive {
        return Err(RunError::NotAvailable { line: 1, text: "group config-only".into() });
    }
    let unavailable = |step: &&Step| matches!(&step.what, What::Act(action) if !drill::is_possible(action));
    match scenario.steps.iter().find(unavailable) {
        Some(step) => Err(RunError::NotAvailable { line: step.line, text: step.text.clone() }),
        None => Ok(()),
    }
}

/// Why the play stopped early.
enum Stop {
    Failed(Failure),
    Bench(PairError),
}

impl From<PairError> for Stop {
    fn from(error: PairError) -> Self {
        Self::Bench(error)
    }
}

struct Runner<'a> {
    pair: Pair,
    zero: Micros,
    last_action: Micros,
    marks: [u64; 2],
    thaws: Vec<(Micros, usize)>,
    tolerate_until: Micros,
    links_cut: [[bool; 4]; 2],
    clocks_ahead: [i64; 2],
    flaps: Vec<Flap>,
    recordless_until: Micros,
    had_load: bool,
    ledger_judged: bool,
    tell: &'a mut dyn FnMut(&str),
}

/// A cable that is pulled and plugged again and again until `end`, then left plugged.
struct Flap {
    half: Duration,
    next: Micros,
    end: Micros,
    cut: bool,
    unit: usize,
    port: usize,
}

impl Runner<'_> {
    fn play(&mut self, steps: &[Step]) -> Result<(), Stop> {
        for step in steps {
            if let Some(at) = step.at {
                let due = self.zero + at;
                self.wait(due, |_| false)?;
            }
            let elapsed = Micros::now().since(self.zero).as_secs_f64();
            (self.tell)(&format!("{elapsed:7.2}s  {}", step.text));
            match &step.what {
                What::Act(action) => self.act(step, action)?,
                What::Expect(expectation) => {
                    if let Some(why) = self.expect(expectation)? {
                        let failure = Failure { line: step.line, text: step.text.clone(), why };
                        return Err(Stop::Failed(failure));
                    }
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, step: &Step, action: &Action) -> Result<(), Stop> {
        self.last_action = Micros::now();
        self.marks = [0, 1].map(|unit| self.pair.watch(unit).last_event());
        match action {
            Action::Load(order) => {
                self.had_load |= order.is_some();
                self.ledger_judged = false;
                self.pair.load.set(*order);
            }
            Action::Set(variable, value) => {
                for unit in 0..2 {
                    self.operate(step, unit, &format!("set system ha {variable} {value}"), false)?;
                }
            }
            Action::Cli(unit, commands) => {
                for command in commands.iter().filter(|command| !command.is_empty()) {
                    self.operate(step, *unit, command, false)?;
                }
            }
            Action::PowerCut(unit) => {
                self.last_action = self.pair.power_cut(*unit)?;
                // An emulated hardware clock starts anew with its QEMU.
                self.clocks_ahead[*unit] = 0;
            }
            Action::PowerRestore(unit) => self.pair.power_on(*unit)?,
            Action::Freeze(unit, time) => {
                self.pair.ledger.book().cut(self.last_action); // Its last records stay behind.
                self.pair.freeze(*unit, true)?;
                self.thaws.push((Micros::now() + *time, *unit));
            }
            Action::Kill(unit, service, signal) => {
                self.pair.ledger.book().cut(self.last_action);
                let command = format!("diagnose system process kill {service} {signal}");
                self.operate(step, *unit, &command, true)?;
            }
            Action::Nas(answers) => self.pair.set_nas(*answers),
            Action::NextHop(accepts) => self.pair.ledger.set_next_hop(*accepts),
            Action::Reboot(unit) => self.operate(step, *unit, "execute reboot", true)?,
            Action::Service(unit, start, service) => {
                let verb = if *start { "start" } else { "stop" };
                self.operate(step, *unit, &format!("diagnose system process {verb} {service}"), false)?;
            }
            Action::LinkCut(..)
            | Action::LinkRestore(..)
            | Action::LinkLoss(..)
            | Action::LinkDelay(..)
            | Action::LinkOneway(..)
            | Action::LinkFlap(..) => self.link(action)?,
            Action::Disk(fault, unit, _) => self.spoil(*unit, *fault)?,
            Action::Stress(kind, unit, time) => {
                self.operate(step, *unit, &drill::stress(*kind, *time), false)?;
            }
            Action::ClockJump(unit, forward, time) => self.jump(step, *unit, *forward, *time)?,
            Action::Refused(unit, command) => match self.pair.command(*unit, command) {
                Err(ConsoleError::Refused { answer, .. }) => {
                    (self.tell)(&format!("          {}: {answer}", UNITS[*unit]));
                }
                other => {
                    let why = format!("{} did not refuse it: {other:?}", UNITS[*unit]);
                    return Err(Stop::Failed(Failure { line: step.line, text: step.text.clone(), why }));
                }
            },
            // Refused before the start.
            Action::StepFail(..) | Action::Repair => {}
        }
        Ok(())
    }

    fn link(&mut self, action: &Action) -> Result<(), Stop> {
        match *action {
            Action::LinkCut(unit, port) => {
                self.links_cut[unit][port - 1] = true;
                self.pair.link(unit, port, false)?;
            }
            Action::LinkRestore(unit, port) => {
                self.links_cut[unit][port - 1] = false;
                self.pair.link(unit, port, true)?;
            }
            Action::LinkLoss(percent, unit, port) => {
                self.pair.fault(unit, port, |faults| faults.loss_percent = percent);
            }
            Action::LinkDelay(delay, unit, port) => {
                self.pair.fault(unit, port, |faults| faults.delay = delay);
            }
            Action::LinkFlap(period, time, unit, port) => {
                let now = Micros::now();
                let end = now + time;
                self.flaps.push(Flap { half: period / 2, next: now, end, cut: false, unit, port });
            }
            Action::LinkOneway(unit, port) => self.pair.fault(unit, port, |faults| faults.mute = true),
            _ => {}
        }
        Ok(())
    }

    /// Spoils or mends a unit's drive. As a power cut does, a fault takes away the record of what was just delivered.
    fn spoil(&mut self, unit: usize, fault: DiskFault) -> Result<(), Stop> {
        let lasts = if fault == DiskFault::Hang { HANG_NOTICED_WITHIN } else { Duration::ZERO };
        self.recordless_until = self.last_action + lasts;
        if fault != DiskFault::Restore {
            self.pair.ledger.book().cut(self.last_action);
        }
        Ok(self.pair.drive(unit, fault)?)
    }

    /// Sets a unit's clock by as much as all of its jumps together.
    fn jump(&mut self, step: &Step, unit: usize, forward: bool, time: Duration) -> Result<(), Stop> {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        self.clocks_ahead[unit] += if forward { seconds } else { -seconds };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let command = drill::set_clock(now.as_secs(), self.clocks_ahead[unit]);
        self.operate(step, unit, &command, false)
    }

    /// A command on a unit. With `may_die` a missing answer is none of the unit's faults: the command takes away what would answer.
    fn operate(&mut self, step: &Step, unit: usize, command: &str, may_die: bool) -> Result<(), Stop> {
        match self.pair.command(unit, command) {
            Ok(answer) => {
                (self.tell)(&format!("          {}: {answer}", UNITS[unit]));
                Ok(())
            }
            Err(ConsoleError::Silent { .. }) if may_die => Ok(()),
            // What the console says when the supervisor died before it could answer.
            Err(ConsoleError::Refused { answer, .. }) if may_die && answer.contains("did not answer") => {
                Ok(())
            }
            Err(error) => {
                let why = format!("{}: {error}", UNITS[unit]);
                Err(Stop::Failed(Failure { line: step.line, text: step.text.clone(), why }))
            }
        }
    }

    /// `Some(what was seen instead)` when the expectation does not hold.
    fn expect(&mut self, expectation: &Expectation) -> Result<Option<String>, Stop> {
        let since = self.last_action;
        Ok(match expectation {
            Expectation::Mode(unit, mode, within) => {
                let held = self.wait(since + *within, |pair| mode_of(pair, *unit, since) == Some(*mode))?;
                (!held).then(|| describe(&self.pair, *unit))
            }
            Expectation::Hold(unit, mode, time) => {
                let end = Micros::now() + *time;
                // A unit that has just got power may have told an event before its first status.
                let seen = |pair: &Pair| mode_of(pair, *unit, Micros::default());
                let left = self.wait(end, |pair| seen(pair).is_some_and(|seen| seen != *mode))?;
                (left || seen(&self.pair).is_none()).then(|| describe(&self.pair, *unit))
            }
            Expectation::Vip(unit, within) => {
                let owns =
                    |pair: &Pair| pair.vip_owner().is_some_and(|(owner, at)| owner == *unit && at >= since);
                let held = self.wait(since + *within, owns)?;
                (!held).then(|| format!("the last to speak for it was {:?}", self.pair.vip_owner()))
            }
            Expectation::NoVip(unit, within) => {
                let limit = since + *within;
                let speaks =
                    |pair: &Pair| pair.vip_owner().is_some_and(|(owner, at)| owner == *unit && at > limit);
                let spoke = self.wait(limit + SILENT_FOR, speaks)?;
                spoke.then(|| format!("{} still spoke for it", UNITS[*unit]))
            }
            Expectation::Event(unit, name, within) => {
                let mark = self.marks[*unit];
                let seen = |pair: &Pair| pair.watch(*unit).event(mark, name);
                let held = self.wait(since + *within, |pair| seen(pair).is_some())?;
                if let Some(event) = seen(&self.pair) {
                    (self.tell)(&format!("          {}: {}", UNITS[*unit], event.record.text));
                }
                (!held).then(|| format!("{} logged no such event since the last action", UNITS[*unit]))
            }
            Expectation::Whole(within) => {
                let held = self.wait(since + *within, |pair| is_whole_since(pair, since).is_ok())?;
                (!held).then(|| is_whole_since(&self.pair, since).err().unwrap_or_default())
            }
            Expectation::Outage(limit) => {
                let longest = self.pair.outages.longest(Micros::now());
                (longest > *limit).then(|| format!("{} ms without a greeting", longest.as_millis()))
            }
            Expectation::Stall(limit) => {
                let longest = Duration::from_millis(self.pair.ledger.summary().stall_ms_max);
                (longest > *limit).then(|| format!("a 250 took {} ms", longest.as_millis()))
            }
            Expectation::Ledger(lost, duplicated) => {
                let _ = self.pair.drain(DRAIN_WITHIN);
                self.ledger_judged = true;
                let mail = self.pair.ledger.summary();
                (self.tell)(&format!("          {}", describe_mail(&mail)));
                (mail.lost != *lost || mail.duplicated != *duplicated).then(|| describe_mail(&mail))
            }
        })
    }

    /// Waits until `condition` holds (true) or `end` has come (false), and checks meanwhile what must always hold.
    fn wait(&mut self, end: Micros, condition: impl Fn(&Pair) -> bool) -> Result<bool, Stop> {
        loop {
            self.tick()?;
            if condition(&self.pair) {
                return Ok(true);
            }
            if Micros::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn tick(&mut self) -> Result<(), Stop> {
        let now = Micros::now();
        self.pair.notice_power_off()?;
        self.flap(now)?;
        if now < self.recordless_until {
            self.pair.ledger.book().cut(now);
        }
        for (_, unit) in self.thaws.extract_if(.., |(due, _)| *due <= now) {
            self.pair.freeze(unit, false)?;
            self.tolerate_until = now + THAW_GRACE;
        }
        // In a partition and just after a freeze, a unit cannot know yet that it was replaced: another data generation.
        let parted = (2..4).all(|port| self.links_cut.iter().any(|unit| unit[port]));
        if parted || !self.thaws.is_empty() || now < self.tolerate_until {
            return Ok(());
        }
        let [a, b] = [0, 1].map(|unit| self.pair.watch(unit).samples());
        match Invariants::both_promoted(&a, &b).or_else(|| Invariants::both_mounted(&a, &b)) {
            None => Ok(()),
            Some(why) => Err(always("never two units with promoted volumes or the same export", why)),
        }
    }

    fn flap(&mut self, now: Micros) -> Result<(), Stop> {
        for index in (0..self.flaps.len()).rev() {
            let flap = &mut self.flaps[index];
            if now < flap.next {
                continue;
            }
            let (unit, port) = (flap.unit, flap.port);
            flap.next = now + flap.half;
            flap.cut = !flap.cut && now < flap.end;
            let cut = flap.cut;
            if now >= flap.end {
                self.flaps.swap_remove(index);
            }
            self.pair.link(unit, port, !cut)?;
        }
        Ok(())
    }

    fn last_checks(&mut self) -> Result<(), Stop> {
        for (_, unit) in std::mem::take(&mut self.thaws) {
            self.pair.freeze(unit, false)?;
        }
        let is_primary =
            |pair: &Pair, unit| mode_of(pair, unit, Micros::default()) == Some(EffectiveMode::Primary);
        let some_primary = |pair: &Pair| (0..2).any(|unit| is_primary(pair, unit));
        if can_have_primary(&self.pair) && !self.wait(Micros::now() + PRIMARY_WITHIN, some_primary)? {
            let why = format!("a is {}; b is {}", describe(&self.pair, 0), describe(&self.pair, 1));
            return Err(always("a primary exists at the end if one can", why));
        }
        if self.had_load && !self.ledger_judged && some_primary(&self.pair) {
            let _ = self.pair.drain(DRAIN_WITHIN);
            let mail = self.pair.ledger.summary();
            if mail.lost > 0 {
                return Err(always("never a lost acknowledged message", describe_mail(&mail)));
            }
        }
        match (0..2).find(|unit| self.had_load && is_primary(&self.pair, *unit)) {
            Some(unit) => keep_service_logs(&self.pair, Some(unit))
                .map_err(|why| always("the mail log of the PRIMARY can be read", why)),
            None => Ok(()),
        }
    }
}

fn always(check: &str, why: String) -> Stop {
    Stop::Failed(Failure { line: 0, text: check.to_owned(), why })
}

fn mode_of(pair: &Pair, unit: usize, since: Micros) -> Option<EffectiveMode> {
    pair.watch(unit).status(since).map(|status| status.effective)
}

fn can_have_primary(pair: &Pair) -> bool {
    let powered = (0..2).filter(|unit| pair.is_powered(*unit)).count();
    let current = |unit: usize| {
        pair.watch(unit).status(Micros::default()).is_some_and(|status| {
            !status.volumes.is_empty()
                && status.volumes.iter().all(|volume| volume.local == DiskState::UpToDate)
        })
    };
    powered == 2 || (0..2).any(|unit| pair.is_powered(unit) && current(unit))
}
