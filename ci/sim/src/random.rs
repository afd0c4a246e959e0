//! Random scenarios: a seed gives settings and a list of faults, then everything is repaired and the pair must be whole and its mail
//! delivered. The result is an ordinary scenario that can be printed and run again.

use crate::rng::Rng;
use std::time::Duration;
use twinpost_scenario::{
    Action, Destination, DiskFault, Expectation, Firmware, Group, LoadOrder, MachineKind, Scenario, Step,
    Stress, What,
};

/// Most faults of one scenario.
const FAULTS_MAX: u64 = 14;
/// Settings that scenarios are played with: those of the reference and the corners where rules meet.
const SETTINGS: [&[(&str, &str)]; 12] = [
    &[MANY],
    &[MANY, ("hb-lost-threshold", "5"), ("local-service", "PORTS 2 2")],
    &[MANY, ("hb-lost-threshold", "5"), ("hb-interval", "1000"), ("fast-detect", "disable")],
    &[MANY, ("hb-lost-threshold", "15"), ("hb-interval", "1000"), ("fast-detect", "disable")],
    &[MANY, ("hb-lost-threshold", "30"), ("hb-interval", "1000")],
    &[
        MANY,
        ("hb-lost-threshold", "10"),
        ("hb-interval", "500"),
        ("on-failure", "restore-role"),
        ("local-service", "PORTS 2 2"),
    ],
    &[MANY, ("hb-lost-threshold", "10"), ("hb-interval", "1000"), ("on-failure", "restore-role")],
    &[MANY, ("hb-lost-threshold", "10"), ("hb-interval", "500"), ("local-service", "HD 2 2")],
    &[MANY, ("hb-lost-threshold", "15"), ("hb-interval", "1000"), ("reboot-action", "hold-off")],
    &[
        MANY,
        ("hb-lost-threshold", "10"),
        ("hb-interval", "500"),
        ("remote-service", "smtp 192.0.2.10 25 3 3 2"),
        ("remote-services-as-heartbeat", "enable"),
    ],
    &[("hb-lost-threshold", "8"), ("hb-interval", "500"), ("max-role-changes", "3")],
    &[MANY, ("hb-lost-threshold", "3"), ("hb-interval", "500"), ("on-failure", "off")],
];
/// A scenario is not about the latch unless it says so.
const MANY: (&str, &str) = ("max-role-changes", "20");
const STEPS: [&str; 12] = [
    "fence",
    "promote",
    "mount",
    "start-mail",
    "claim-vips",
    "stop-mail",
    "unmount",
    "demote",
    "release-vips",
    "initialise",
    "outdate",
    "pass-mail",
];
/// A switch takes about so long until the volumes are demoted, ms.
const SWITCH_MS: u64 = 1000;
const WHOLE_WITHIN: Duration = Duration::from_secs(600);

/// The scenario of a seed.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let settings = SETTINGS[rng.index(SETTINGS.len())];
    let mut scenario = Scenario {
        group: Group::ActivePassive,
        firmware: Firmware::Bios,
        machines: [MachineKind::default(); 2],
        nfs: seed.is_multiple_of(2),
        settings: settings.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        steps: Vec::new(),
    };
    let order = LoadOrder { rate: 4.0, size: 4096, to: Destination::Relay };
    push(&mut scenario, None, What::Act(Action::Load(Some(order))));
    let mut at = 0;
    for _ in 0..=rng.below(FAULTS_MAX) {
        at += pause(&mut rng);
        push(&mut scenario, Some(at), What::Act(action(&mut rng)));
    }
    disturb_switches(&mut scenario, seed);
    at += pause(&mut rng);
    push(&mut scenario, Some(at), What::Act(Action::Repair));
    let is_set = |name: &str, value: &str| settings.iter().any(|(a, b)| *a == name && *b == value);
    if is_set("max-role-changes", "3") {
        // A latched unit waits for its operator.
        for unit in 0..2 {
            at += 30_000;
            push(
                &mut scenario,
                Some(at),
                What::Act(Action::Cli(unit, vec!["diagnose system ha restart".into()])),
            );
        }
    }
    if !is_set("on-failure", "off") {
        push(&mut scenario, None, What::Expect(Expectation::Whole(WHOLE_WITHIN)));
    }
    push(&mut scenario, None, What::Expect(Expectation::Ledger(0, 0)));
    scenario
}

/// Cuts a cable while many a switch is under way, which faults at random times seldom meet: deliveries are let end, records wait.
fn disturb_switches(scenario: &mut Scenario, seed: u64) {
    let mut rng = Rng::new(seed.rotate_left(29));
    let mut index = 0;
    while let Some(step) = scenario.steps.get(index) {
        let (at, next) =
            (step.at.unwrap_or_default(), scenario.steps.get(index + 1).and_then(|next| next.at));
        let switches = matches!(&step.what, What::Act(Action::Cli(_, commands)) if commands.iter().any(|command| command.ends_with("failover")))
            || matches!(step.what, What::Act(Action::Reboot(_)));
        index += 1;
        if !switches || !rng.percent(40) {
            continue;
        }
        let port = if rng.percent(75) { 3 } else { 4 };
        let cut = at + Duration::from_millis(rng.below(SWITCH_MS));
        let what = What::Act(Action::LinkCut(rng.index(2), port));
        let at = Some(next.map_or(cut, |next| cut.min(next)));
        scenario.steps.insert(index, Step { line: 0, text: what.to_string(), at, what });
        index += 1;
    }
    let first = scenario.settings.len() + 2;
    scenario.steps.iter_mut().enumerate().for_each(|(index, step)| step.line = first + index);
}

/// Adds a line; its text is what it prints as.
fn push(scenario: &mut Scenario, at_ms: Option<u64>, what: What) {
    let line = scenario.steps.len() + scenario.settings.len() + 2;
    scenario.steps.push(Step { line, text: what.to_string(), at: at_ms.map(Duration::from_millis), what });
}

/// Milliseconds between two faults: often so few that the second meets the first at work.
fn pause(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0..2 => rng.below(300),
        2..6 => rng.below(4_000),
        6 => rng.below(12_000),
        _ => rng.below(30_000),
    }
}

fn action(rng: &mut Rng) -> Action {
    let unit = rng.index(2);
    let port = 3 + rng.index(2);
    let time = |rng: &mut Rng, seconds: u64| Duration::from_millis(rng.below(seconds * 1000).max(100));
    match rng.below(48) {
        0..5 => Action::PowerCut(unit),
        5..11 => Action::PowerRestore(unit),
        11..15 => Action::LinkCut(unit, port),
        15..18 => Action::LinkRestore(unit, port),
        18..20 => Action::LinkOneway(unit, port),
        20 => Action::LinkLoss(u8::try_from(rng.below(90)).unwrap_or(0), unit, port),
        21 => Action::LinkDelay(time(rng, 1), unit, port),
        22..24 => Action::LinkCut(unit, 1),
        24..26 => Action::LinkRestore(unit, 1),
        26 => Action::LinkOneway(unit, 1),
        27 => Action::Freeze(unit, time(rng, 3)),
        28 => Action::Freeze(unit, time(rng, 40)),
        29 => Action::ClockJump(unit, true, time(rng, 4000)),
        30..32 => Action::Kill(unit, "had".into(), 9),
        32 => Action::Kill(unit, "had".into(), rng.pick(&[18, 19, 19])),
        33 => Action::Kill(unit, "postfix".into(), 9),
        34..38 => Action::StepFail(unit, rng.pick(&STEPS).to_owned()),
        38..41 => cli(unit, "diagnose system ha failover"),
        41 => cli(unit, "diagnose system ha restore"),
        42 => cli(unit, "diagnose system ha restart"),
        43 => Action::Reboot(unit),
        44 => Action::Disk(DiskFault::Hang, unit, "system".into()),
        45 => Action::Disk(DiskFault::Fail, unit, "system".into()),
        46 => Action::Disk(DiskFault::Restore, unit, "system".into()),
        _ => Action::Stress(Stress::Io, unit, time(rng, 20)),
    }
}

fn cli(unit: usize, command: &str) -> Action {
    Action::Cli(unit, vec![command.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_file_that_parses_to_itself() {
        for seed in 0..200 {
            let scenario = scenario(seed);
            let text = scenario.to_string();
            let parsed =
                twinpost_scenario::parse("random", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(parsed.to_string(), text);
            assert_eq!(parsed.settings, scenario.settings);
        }
    }
}
