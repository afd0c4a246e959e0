//! What the lines of a scenario do to the world. Lines that cannot mean anything here are refused before the start.

use crate::unit::Unit;
use crate::world::{MS, RESTART, SECOND, World};
use twinpost_ha::{Command, Event};
use twinpost_scenario::{Action, DiskFault, Expectation, Group, Scenario, Step, What};
use twinpost_types::*;

/// A machine is up again this long after its power came back, at least, and at most that much more.
const BOOT: (u64, u64) = (2 * SECOND, 3 * SECOND);
/// init starts killed mail services again after this time.
const MAIL_RESTART: u64 = 2 * SECOND;
/// Events of the shell's own checks.
const SHELL_EVENTS: [&str; 6] =
    ["check-failed", "check-recovered", "handover-recognised", "mail-restart", "takeover", "tunnel"];
const PORT_SERVICE: usize = 1;
const PORT_MANAGEMENT: usize = 2;

/// The line that the simulator cannot carry out, and why; `None` when it can do all of them.
pub(crate) fn refused(scenario: &Scenario) -> Option<(usize, String, &'static str)> {
    if scenario.group != Group::ActivePassive {
        return Some((1, "group config-only".into(), "the simulator knows pairs only"));
    }
    scenario.steps.iter().find_map(|step| why_refused(step).map(|why| (step.line, step.text.clone(), why)))
}

fn why_refused(step: &Step) -> Option<&'static str> {
    let action = match &step.what {
        What::Act(action) => action,
        What::Expect(Expectation::Event(_, name, _)) if SHELL_EVENTS.contains(&name.as_str()) => {
            return Some("this event is written by a part of the supervisor that is not simulated");
        }
        What::Expect(_) => return None,
    };
    match action {
        Action::Nas(_) => Some("the simulator knows who has the export mounted, not whether its server answers"),
        Action::Set(..) => Some("settings are read at the start only"),
        Action::Kill(_, service, signal) if service == "had" => {
            (![3, 6, 9, 11, 15, 18, 19].contains(signal)).then_some("had is killed, stopped (19) or continued (18)")
        }
        Action::Kill(_, service, _) if !is_mail(service) => Some("only had, postfix and dovecot are simulated"),
        Action::Service(_, _, service) if !is_mail(service) => Some("only postfix and dovecot are simulated"),
        Action::Refused(_, command) => verb(command).is_none().then_some("the simulator does not know this command"),
        Action::Cli(_, commands) => commands
            .iter()
            .any(|command| !command.is_empty() && verb(command).is_none())
            .then_some("the simulator knows failover, restore, restart, force-primary, reboot, shutdown, status, event list"),
        _ => None,
    }
}

fn is_mail(service: &str) -> bool {
    ["postfix", "dovecot"].contains(&service)
}

/// `Some(None)` = understood, and without an effect.
fn verb(command: &str) -> Option<Option<Command>> {
    let words: Vec<&str> = command.split_whitespace().collect();
    Some(match words.as_slice() {
        ["diagnose", "system", "ha", "failover"] => Some(Command::Failover),
        ["diagnose", "system", "ha", "restore"] => Some(Command::Restore),
        ["diagnose", "system", "ha", "restart"] | ["execute", "ha", "restart"] => Some(Command::Restart),
        ["execute", "ha", "force-primary"] => Some(Command::ForcePrimary),
        ["execute", "reboot"] => Some(Command::Reboot),
        ["execute", "shutdown"] => Some(Command::Shutdown),
        ["get", "system", "ha", "status"] | ["diagnose", "system", "event", "list", _] => None,
        _ => return None,
    })
}

impl World {
    /// Carries out one line; returns false if it changes nothing that a role depends on.
    pub(crate) fn apply(&mut self, action: &Action) {
        let now = self.now;
        self.say(|| format!("== {action}"));
        self.judge.disturbed(now);
        match action {
            Action::NextHop(accepts) => self.mail.hop_refuses = !accepts,
            Action::LinkFlap(period, time, i, port) => self.flap(*i, *port, micros(*period), micros(*time)),
            Action::Load(order) => self.mail.order(now, *order),
            Action::PowerCut(i) => {
                self.power_cut(*i);
                // As on QEMU units, where a drive's fault ends with the machine.
                (self.units[*i].disk_hangs, self.units[*i].disk_failed) = (false, false);
            }
            Action::PowerRestore(i) => self.apply_power_restore(*i),
            Action::LinkCut(i, port) => self.cable(*i, *port, true),
            Action::LinkRestore(i, port) => self.cable(*i, *port, false),
            Action::LinkLoss(percent, _, port) if *port > PORT_MANAGEMENT => {
                self.links.loss_percent[port - 3] = *percent;
            }
            Action::LinkDelay(delay, _, port) if *port > PORT_MANAGEMENT => {
                self.links.delay[port - 3] = u64::try_from(delay.as_micros()).unwrap_or(0);
            }
            Action::LinkOneway(i, port) if *port > PORT_MANAGEMENT => self.links.mute[*i][port - 3] = true,
            Action::LinkOneway(i, PORT_SERVICE) => self.units[*i].service_mute = true,
            Action::Freeze(i, time) if self.units[*i].powered => {
                let unit = &mut self.units[*i];
                unit.frozen_until = now + micros(*time);
                unit.stopped_since.get_or_insert(now);
            }
            Action::Kill(i, service, signal) if service == "had" => self.kill_supervisor(*i, *signal),
            Action::Kill(i, ..) => self.mail_gone(*i, now + MAIL_RESTART),
            Action::Service(i, start, _) if *start => {
                let unit = &mut self.units[*i];
                unit.mail |= unit.mail_gone.take().is_some() && unit.mounted;
            }
            Action::Service(i, ..) => self.mail_gone(*i, u64::MAX),
            Action::Disk(fault, i, _) => self.disk_fault(*i, *fault),
            Action::Stress(_, i, time) => self.units[*i].stressed_until = now + micros(*time),
            Action::Reboot(i) => self.operate(*i, Command::Reboot),
            Action::Cli(i, commands) => {
                for command in commands.iter().filter_map(|command| verb(command).flatten()) {
                    self.operate(*i, command);
                }
            }
            Action::StepFail(i, step) => self.units[*i].fails.extend(crate::steps::named(step)),
            _ => {}
        }
    }

    pub(crate) fn apply_power_restore(&mut self, i: usize) {
        if !self.units[i].powered && self.units[i].up_at.is_none() {
            let delay = BOOT.0 + self.rng.below(BOOT.1);
            self.units[i].up_at = Some(self.now + delay);
        }
    }

    fn operate(&mut self, i: usize, command: Command) {
        if command == Command::Restart {
            self.units[i].changes.clear();
        }
        self.judge.forced |= command == Command::ForcePrimary;
        if self.units[i].runs(self.now) {
            self.feed(i, Event::Operator(command));
        }
    }

    pub(crate) fn cable(&mut self, i: usize, port: usize, cut: bool) {
        match port {
            PORT_SERVICE => {
                self.units[i].service_up = !cut;
                self.units[i].service_mute &= cut;
                let health = self.health(i);
                for event in [Event::ServiceCarrier { up: !cut }, Event::Health(health)] {
                    if self.units[i].runs(self.now) { self.feed(i, event) } else { self.send(i, 0, event) }
                }
            }
            PORT_MANAGEMENT => {}
            _ => {
                let link = port - 3;
                self.links.cut[link] = cut;
                if !cut {
                    self.links.loss_percent[link] = 0;
                    self.links.delay[link] = 0;
                    (self.links.mute[0][link], self.links.mute[1][link]) = (false, false);
                }
                self.tell_carriers(link);
            }
        }
    }

    /// The cable is pulled and plugged again, half a period each.
    fn flap(&mut self, i: usize, port: usize, period: u64, time: u64) {
        let mut at = 0;
        while at < time {
            for (later, cut) in [(at, true), (at + period / 2, false)] {
                let what = crate::network::Arrival::Cable(i, port, cut);
                self.coming.push(crate::world::Coming { at: self.now + later, to: i, start: None, what });
            }
            at += period;
        }
    }

    fn kill_supervisor(&mut self, i: usize, signal: u8) {
        let now = self.now;
        let unit = &mut self.units[i];
        if unit.ha.is_none() {
            return;
        }
        match signal {
            18 => unit.hung_until = unit.hung_until.min(now),
            19 => {
                unit.hung_until = u64::MAX;
                unit.stopped_since.get_or_insert(now);
            }
            _ => {
                unit.ha = None;
                unit.hung_until = 0;
                unit.stop_steps();
                unit.stopped_since.get_or_insert(now);
                unit.up_at = Some(now + RESTART);
                self.sessions.end(i);
            }
        }
    }

    fn mail_gone(&mut self, i: usize, until: u64) {
        let unit: &mut Unit = &mut self.units[i];
        if std::mem::take(&mut unit.mail) {
            unit.mail_gone = Some(until);
            // A delivery that was not recorded is SMTP's own window.
            let _ = unit.agents_end();
        }
    }

    fn disk_fault(&mut self, i: usize, fault: DiskFault) {
        let unit = &mut self.units[i];
        match fault {
            DiskFault::Hang => unit.disk_hangs = true,
            DiskFault::Fail if !unit.disk_failed => self.detach(i),
            DiskFault::Fail => {}
            DiskFault::Restore => {
                unit.disk_hangs = false;
                unit.disk_failed = false;
                // A detached disk is attached again by a boot.
            }
        }
        let health = self.health(i);
        if self.units[i].runs(self.now) {
            self.feed(i, Event::Health(health));
        }
    }

    /// DRBD detaches a disk that fails and goes on with the peer's, which is a new generation from then on.
    fn detach(&mut self, i: usize) {
        // The last disk that is left has the newest data.
        let connected = self.connected_on.is_some() && self.units[1 - i].live.local == DiskState::UpToDate;
        self.units[i].disk_failed = true;
        if !self.units[i].powered {
            return;
        }
        self.units[i].live.local = DiskState::Diskless;
        self.units[i].disk.outdated |= connected;
        if connected {
            self.generations += 1;
            let generation = self.generations;
            let other = &mut self.units[1 - i];
            other.live.peer = DiskState::Diskless;
            if !other.disk.inconsistent {
                other.disk.new_generation(generation);
            }
        }
    }

    /// Ends all faults and gives every unit its power back, as a field engineer would.
    pub(crate) fn heal(&mut self) {
        self.say(|| "== everything is repaired".to_owned());
        self.judge.disturbed(self.now);
        for i in 0..2 {
            for port in [PORT_SERVICE, 3, 4] {
                self.cable(i, port, false);
            }
            self.disk_fault(i, DiskFault::Restore);
            let unit = &mut self.units[i];
            unit.fails.clear();
            unit.hung_until = unit.hung_until.min(self.now);
            unit.mail |= unit.mail_gone.take().is_some() && unit.mounted;
            if unit.live.local == DiskState::Diskless && unit.powered {
                self.power_cut(i);
            }
            self.apply_power_restore(i);
        }
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 4).clamp(MS, u64::MAX / 4)
}
