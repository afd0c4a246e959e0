//! A scenario back to text, in the grammar of `parse`: for scenarios that a program made. Comments of a file are not kept.

use crate::{
    Action, Destination, DiskFault, Expectation, Firmware, Group, MachineKind, Scenario, Stress, UNITS, What,
};
use std::fmt::{Display, Formatter, Result};
use std::time::Duration;

impl Display for Scenario {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.group {
            Group::ActivePassive => writeln!(f, "group active-passive")?,
            Group::ConfigOnly(units) => writeln!(f, "group config-only {units}")?,
        }
        if self.firmware == Firmware::Ovmf {
            writeln!(f, "firmware ovmf")?;
        }
        for (unit, machine) in UNITS.iter().zip(self.machines) {
            let kind =
                MachineKind::ALL.iter().find(|(_, kind)| *kind == machine && machine != MachineKind::Q35);
            if let Some((word, _)) = kind {
                writeln!(f, "machine {unit} {word}")?;
            }
        }
        if self.nfs {
            writeln!(f, "mail-data nfs")?;
        }
        for (variable, value) in &self.settings {
            writeln!(f, "set {variable} {value}")?;
        }
        for step in &self.steps {
            if let Some(at) = step.at {
                write!(f, "at {} ", Time(at))?;
            }
            writeln!(f, "{}", step.what)?;
        }
        Ok(())
    }
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Act(action) => action.fmt(f),
            Self::Expect(expectation) => expectation.fmt(f),
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Load(None) => write!(f, "load stop"),
            Self::Load(Some(order)) => {
                let to = if order.to == Destination::Mailbox { "mailbox" } else { "relay" };
                write!(f, "load smtp {}/s size {} to {to}", order.rate, order.size)
            }
            Self::Set(variable, value) => write!(f, "set {variable} {value}"),
            Self::Cli(unit, commands) => write!(f, "cli {} \"{}\"", name(*unit), commands.join("; ")),
            Self::Refused(unit, command) => write!(f, "refused {} \"{command}\"", name(*unit)),
            Self::LinkFlap(period, time, unit, port) => {
                write!(f, "link flap {} {} {}", Time(*period), Time(*time), Port(*unit, *port))
            }
            Self::Nas(answers) => write!(f, "nas {}", if *answers { "start" } else { "stop" }),
            Self::NextHop(accepts) => write!(f, "next-hop {}", if *accepts { "start" } else { "stop" }),
            Self::PowerCut(unit) => write!(f, "power cut {}", name(*unit)),
            Self::PowerRestore(unit) => write!(f, "power restore {}", name(*unit)),
            Self::LinkCut(unit, port) => write!(f, "link cut {}", Port(*unit, *port)),
            Self::LinkRestore(unit, port) => write!(f, "link restore {}", Port(*unit, *port)),
            Self::LinkLoss(percent, unit, port) => write!(f, "link loss {percent} {}", Port(*unit, *port)),
            Self::LinkDelay(delay, unit, port) => {
                write!(f, "link delay {} {}", delay.as_millis(), Port(*unit, *port))
            }
            Self::LinkOneway(unit, port) => write!(f, "link oneway {}", Port(*unit, *port)),
            Self::Freeze(unit, time) => write!(f, "freeze {} {}", name(*unit), Time(*time)),
            Self::Kill(unit, service, signal) => write!(f, "kill {} {service} {signal}", name(*unit)),
            Self::Disk(fault, unit, disk) => {
                let fault = match fault {
                    DiskFault::Hang => "hang",
                    DiskFault::Fail => "fail",
                    DiskFault::Restore => "restore",
                };
                write!(f, "disk {fault} {}.{disk}", name(*unit))
            }
            Self::Stress(kind, unit, time) => {
                let kind = match kind {
                    Stress::Cpu => "cpu",
                    Stress::Io => "io",
                    Stress::Memory => "memory",
                };
                write!(f, "stress {kind} {} {}", name(*unit), Time(*time))
            }
            Self::ClockJump(unit, forward, time) => {
                write!(f, "clock jump {} {}{}", name(*unit), if *forward { '+' } else { '-' }, Time(*time))
            }
            Self::Reboot(unit) => write!(f, "reboot {}", name(*unit)),
            Self::Service(unit, start, service) => {
                write!(f, "service {} {} {service}", if *start { "start" } else { "stop" }, name(*unit))
            }
            Self::StepFail(unit, step) => write!(f, "step fail {} {step}", name(*unit)),
            Self::Repair => write!(f, "repair"),
        }
    }
}

impl Display for Expectation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Mode(unit, mode, within) => {
                write!(f, "expect {} {mode} within {}", name(*unit), Time(*within))
            }
            Self::Hold(unit, mode, time) => write!(f, "hold {} {mode} for {}", name(*unit), Time(*time)),
            Self::Vip(unit, within) => write!(f, "expect vip {} within {}", name(*unit), Time(*within)),
            Self::NoVip(unit, within) => write!(f, "expect no-vip {} within {}", name(*unit), Time(*within)),
            Self::Event(unit, event, within) => {
                write!(f, "expect event {} {event} within {}", name(*unit), Time(*within))
            }
            Self::Whole(within) => write!(f, "expect whole within {}", Time(*within)),
            Self::Outage(time) => write!(f, "expect outage at-most {}", Time(*time)),
            Self::Stall(time) => write!(f, "expect stall at-most {}", Time(*time)),
            Self::Ledger(lost, duplicated) => write!(f, "expect ledger lost {lost} duplicated {duplicated}"),
        }
    }
}

/// A time in the unit that needs no fraction.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ms = self.0.as_millis();
        if ms.is_multiple_of(1000) { write!(f, "{}s", ms / 1000) } else { write!(f, "{ms}ms") }
    }
}

struct Port(usize, usize);

impl Display for Port {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}.port{}", name(self.0), self.1)
    }
}

fn name(unit: usize) -> &'static str {
    UNITS.get(unit).copied().unwrap_or("?")
}
