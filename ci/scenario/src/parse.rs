//! Text to [`Scenario`]. The grammar is the table of the house (section "Simulator and scenario files").

use crate::model::{
    Action, Destination, DiskFault, Expectation, Firmware, Group, LoadOrder, MachineKind, Scenario, Step,
    Stress, What,
};
use crate::words::{Parsed, ScenarioError, Words};

/// Most lines of a scenario.
const LINES_MAX: usize = 1000;
/// No switch or cable flaps faster, and a shorter period would only be rounded by whoever runs it.
const FLAP_PERIOD_MIN: std::time::Duration = std::time::Duration::from_millis(100);
/// Size of a message if the line does not say: that of a short letter with its headers, bytes.
const MESSAGE_BYTES: usize = 4096;

/// Parses a scenario; `file` is named in errors.
///
/// # Errors
/// The first line that is not understood, with its place and what is allowed there.
pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let mut scenario = Scenario {
        group: Group::ActivePassive,
        firmware: Firmware::Bios,
        machines: [MachineKind::default(); 2],
        nfs: false,
        settings: Vec::new(),
        steps: Vec::new(),
    };
    let mut grouped = false;
    for (index, raw) in text.lines().enumerate() {
        let words = Words::split(file, index + 1, raw)?;
        if words.is_empty() {
            continue;
        }
        if index >= LINES_MAX {
            return Err(words.error(1, "the scenario is too long", &format!("{LINES_MAX} lines")));
        }
        if !grouped && words.peek() != Some("group") {
            return Err(words.error(1, "the group comes first", "group active-passive, group config-only N"));
        }
        grouped = true;
        line(&mut scenario, words, index + 1, raw)?;
    }
    match grouped {
        true => Ok(scenario),
        false => Err(Words::split(file, 1, "")?.error(1, "the file is empty", "group active-passive")),
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Group,
    Firmware,
    Machine,
    MailData,
    Set,
    Expect,
    Hold,
    At,
    Act,
}

fn line(scenario: &mut Scenario, mut words: Words<'_>, number: usize, raw: &str) -> Parsed<()> {
    let verb = match words.peek() {
        Some("cli" | "refused" | "load") => Verb::Act,
        _ => words.choice(&[
            ("group", Verb::Group),
            ("firmware", Verb::Firmware),
            ("machine", Verb::Machine),
            ("mail-data", Verb::MailData),
            ("set", Verb::Set),
            ("expect", Verb::Expect),
            ("hold", Verb::Hold),
            ("at", Verb::At),
            ("cli", Verb::Act),
            ("refused", Verb::Act),
            ("load", Verb::Act),
        ])?,
    };
    let started = !scenario.steps.is_empty();
    let (at, what) = match verb {
        Verb::Group | Verb::Firmware | Verb::Machine | Verb::MailData | Verb::Set if started => {
            return Err(words.error(
                1,
                "this line belongs before the first action",
                "at <time> set …, or move it up",
            ));
        }
        Verb::Group => {
            scenario.group = group(&mut words)?;
            return words.finish();
        }
        Verb::Firmware => {
            scenario.firmware = words.choice(&[("bios", Firmware::Bios), ("ovmf", Firmware::Ovmf)])?;
            return words.finish();
        }
        Verb::Machine => {
            let unit = words.unit()?;
            scenario.machines[unit] = words.choice(&MachineKind::ALL)?;
            return words.finish();
        }
        Verb::MailData => {
            scenario.nfs = words.choice(&[("replicated", false), ("nfs", true)])?;
            return words.finish();
        }
        Verb::Set => {
            let variable = words.word("the name of an HA setting")?;
            scenario.settings.push((variable, words.rest("its value")?));
            return words.finish();
        }
        Verb::Expect => (None, What::Expect(expectation(&mut words)?)),
        Verb::Hold => (None, What::Expect(hold(&mut words)?)),
        Verb::At => (Some(words.time()?), What::Act(action(&mut words)?)),
        Verb::Act => (None, What::Act(action(&mut words)?)),
    };
    words.finish()?;
    scenario.steps.push(Step { line: number, text: raw.trim().to_owned(), at, what });
    Ok(())
}

fn group(words: &mut Words<'_>) -> Parsed<Group> {
    match words.choice(&[("active-passive", true), ("config-only", false)])? {
        true => Ok(Group::ActivePassive),
        // The bound makes the conversion exact (`spec/ha.md` section 1: 2–25 units).
        false => Ok(Group::ConfigOnly(u8::try_from(words.number(2, 25)?).unwrap_or(25))),
    }
}

#[derive(Clone, Copy)]
enum Deed {
    Set,
    Cli,
    Refused,
    Load,
    Power,
    Link,
    Freeze,
    Kill,
    Disk,
    Stress,
    Clock,
    NextHop,
    Nas,
    Reboot,
    Service,
    Step,
    Repair,
}

fn action(words: &mut Words<'_>) -> Parsed<Action> {
    let deed = words.choice(&[
        ("power", Deed::Power),
        ("link", Deed::Link),
        ("freeze", Deed::Freeze),
        ("kill", Deed::Kill),
        ("disk", Deed::Disk),
        ("stress", Deed::Stress),
        ("clock", Deed::Clock),
        ("next-hop", Deed::NextHop),
        ("nas", Deed::Nas),
        ("reboot", Deed::Reboot),
        ("service", Deed::Service),
        ("step", Deed::Step),
        ("repair", Deed::Repair),
        ("set", Deed::Set),
        ("cli", Deed::Cli),
        ("refused", Deed::Refused),
        ("load", Deed::Load),
    ])?;
    Ok(match deed {
        Deed::Set => Action::Set(words.word("the name of an HA setting")?, words.rest("its value")?),
        Deed::Cli => {
            let unit = words.unit()?;
            let commands = words.word("a command in quotes")?;
            Action::Cli(unit, commands.split(';').map(|command| command.trim().to_owned()).collect())
        }
        Deed::Refused => Action::Refused(words.unit()?, words.word("a command in quotes")?),
        Deed::Load => Action::Load(load(words)?),
        Deed::Power => {
            let cut = words.choice(&[("cut", true), ("restore", false)])?;
            let unit = words.unit()?;
            if cut { Action::PowerCut(unit) } else { Action::PowerRestore(unit) }
        }
        Deed::Link => link(words)?,
        Deed::Freeze => Action::Freeze(words.unit()?, words.time()?),
        Deed::Kill => {
            let (unit, service) = (words.unit()?, words.word("a service such as had, postfix, dovecot")?);
            let signal = if words.is_empty() { 9 } else { words.parsed(SIGNALS_ALLOWED, signal)? };
            Action::Kill(unit, service, signal)
        }
        Deed::Disk => disk(words)?,
        Deed::Stress => {
            let kind =
                words.choice(&[("cpu", Stress::Cpu), ("io", Stress::Io), ("memory", Stress::Memory)])?;
            Action::Stress(kind, words.unit()?, words.time()?)
        }
        Deed::Clock => {
            words.expect("jump")?;
            let unit = words.unit()?;
            let (forward, time) = words.signed_time()?;
            Action::ClockJump(unit, forward, time)
        }
        Deed::Nas => Action::Nas(words.choice(&[("start", true), ("stop", false)])?),
        Deed::NextHop => Action::NextHop(words.choice(&[("start", true), ("stop", false)])?),
        Deed::Reboot => Action::Reboot(words.unit()?),
        Deed::Step => {
            words.expect("fail")?;
            Action::StepFail(words.unit()?, words.choice(&STEPS)?.to_owned())
        }
        Deed::Repair => Action::Repair,
        Deed::Service => {
            let start = words.choice(&[("start", true), ("stop", false)])?;
            Action::Service(words.unit()?, start, words.word("a service such as postfix or dovecot")?)
        }
    })
}

fn disk(words: &mut Words<'_>) -> Parsed<Action> {
    let choices = [("hang", DiskFault::Hang), ("fail", DiskFault::Fail), ("restore", DiskFault::Restore)];
    let fault = words.choice(&choices)?;
    let (unit, disk) = words.unit_dot_name("a.<disk> or b.<disk>, such as a.system")?;
    Ok(Action::Disk(fault, unit, disk))
}

fn link(words: &mut Words<'_>) -> Parsed<Action> {
    #[derive(Clone, Copy)]
    enum Kind {
        Cut,
        Restore,
        Loss,
        Delay,
        Oneway,
        Flap,
    }
    let kind = words.choice(&[
        ("cut", Kind::Cut),
        ("restore", Kind::Restore),
        ("loss", Kind::Loss),
        ("delay", Kind::Delay),
        ("oneway", Kind::Oneway),
        ("flap", Kind::Flap),
    ])?;
    let number = match kind {
        Kind::Loss => words.number(0, 100)?,
        Kind::Delay => words.number(0, 10_000)?,
        _ => 0,
    };
    let (period, time) = match kind {
        Kind::Flap => (words.time()?, words.time()?),
        _ => Default::default(),
    };
    let (unit, port) = words.port()?;
    Ok(match kind {
        Kind::Flap => Action::LinkFlap(period.max(FLAP_PERIOD_MIN), time, unit, port),
        Kind::Cut => Action::LinkCut(unit, port),
        Kind::Restore => Action::LinkRestore(unit, port),
        Kind::Loss => Action::LinkLoss(u8::try_from(number).unwrap_or(100), unit, port),
        Kind::Delay => Action::LinkDelay(std::time::Duration::from_millis(number), unit, port),
        Kind::Oneway => Action::LinkOneway(unit, port),
    })
}

fn load(words: &mut Words<'_>) -> Parsed<Option<LoadOrder>> {
    if !words.choice(&[("smtp", true), ("stop", false)])? {
        return Ok(None);
    }
    let rate = words.parsed("messages a second, such as 20/s", |word| {
        word.strip_suffix("/s")?.parse().ok().filter(|rate| (0.01..=10_000.0).contains(rate))
    })?;
    let mut order = LoadOrder { rate, size: MESSAGE_BYTES, to: Destination::Relay };
    while !words.is_empty() {
        match words.choice(&[("size", true), ("to", false)])? {
            true => order.size = usize::try_from(words.number(1, 10_000_000)?).unwrap_or(MESSAGE_BYTES),
            false => {
                let choices = [("relay", Destination::Relay), ("mailbox", Destination::Mailbox)];
                order.to = words.choice(&choices)?;
            }
        }
    }
    Ok(Some(order))
}

fn expectation(words: &mut Words<'_>) -> Parsed<Expectation> {
    #[derive(Clone, Copy)]
    enum Subject {
        Unit(usize),
        Vip,
        NoVip,
        Event,
        Whole,
        Outage,
        Stall,
        Ledger,
    }
    let subject = words.choice(&[
        ("a", Subject::Unit(0)),
        ("b", Subject::Unit(1)),
        ("vip", Subject::Vip),
        ("no-vip", Subject::NoVip),
        ("event", Subject::Event),
        ("whole", Subject::Whole),
        ("outage", Subject::Outage),
        ("stall", Subject::Stall),
        ("ledger", Subject::Ledger),
    ])?;
    let within = |words: &mut Words<'_>| words.expect("within").and_then(|()| words.time());
    Ok(match subject {
        Subject::Unit(unit) => Expectation::Mode(unit, words.mode()?, within(words)?),
        Subject::Vip => Expectation::Vip(words.unit()?, within(words)?),
        Subject::NoVip => Expectation::NoVip(words.unit()?, within(words)?),
        Subject::Event => {
            Expectation::Event(words.unit()?, words.word("the name of an event")?, within(words)?)
        }
        Subject::Whole => Expectation::Whole(within(words)?),
        Subject::Outage => {
            words.expect("at-most")?;
            Expectation::Outage(words.time()?)
        }
        Subject::Stall => {
            words.expect("at-most")?;
            Expectation::Stall(words.time()?)
        }
        Subject::Ledger => {
            words.expect("lost")?;
            let lost = words.number(0, u64::MAX)?;
            words.expect("duplicated")?;
            Expectation::Ledger(lost, words.number(0, u64::MAX)?)
        }
    })
}

fn hold(words: &mut Words<'_>) -> Parsed<Expectation> {
    let (unit, mode) = (words.unit()?, words.mode()?);
    words.expect("for")?;
    Ok(Expectation::Hold(unit, mode, words.time()?))
}

/// Steps that can be made to fail, by name.
const STEPS: [(&str, &str); 12] = [
    ("fence", "fence"),
    ("promote", "promote"),
    ("mount", "mount"),
    ("start-mail", "start-mail"),
    ("claim-vips", "claim-vips"),
    ("stop-mail", "stop-mail"),
    ("unmount", "unmount"),
    ("demote", "demote"),
    ("release-vips", "release-vips"),
    ("initialise", "initialise"),
    ("outdate", "outdate"),
    ("pass-mail", "pass-mail"),
];
const SIGNALS_ALLOWED: &str = "1 to 31, HUP, INT, QUIT, KILL, SEGV, TERM, CONT, STOP (with or without SIG)";

fn signal(word: &str) -> Option<u8> {
    let names = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("SEGV", 11),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
    ];
    let name = word.strip_prefix("SIG").unwrap_or(word);
    let named = names.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number);
    named.or_else(|| word.parse().ok().filter(|number| (1..=31).contains(number)))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
