//! Tests of the scenario grammar: every line of the house's table, refusals with their places, and no panic on any text.

use crate::*;
use proptest::prelude::*;
use std::time::Duration;
use twinpost_types::EffectiveMode;

fn one(line: &str) -> What {
    let text = format!("group active-passive\n{line}\n");
    let scenario = parse("x.scn", &text).unwrap_or_else(|error| panic!("{error}"));
    scenario.steps.into_iter().next_back().unwrap().what
}

fn refusal(text: &str) -> String {
    parse("x.scn", text).unwrap_err().to_string()
}

#[test]
fn the_example_of_the_house() {
    let text = "# power cut of the primary under load
group active-passive
set hb-lost-threshold 15
load smtp 20/s
at 10s  power cut a
expect  b PRIMARY within 3s
at 40s  power restore a
expect  a SECONDARY within 90s
expect  outage at-most 4s
expect  ledger lost 0 duplicated 0
";
    let scenario = parse("x.scn", text).unwrap();
    assert_eq!(scenario.settings, [("hb-lost-threshold".to_owned(), "15".to_owned())]);
    assert_eq!(scenario.steps.len(), 7);
    assert_eq!(scenario.steps[1].at, Some(Duration::from_secs(10)));
    assert_eq!(scenario.steps[1].what, What::Act(Action::PowerCut(0)));
    let primary = Expectation::Mode(1, EffectiveMode::Primary, Duration::from_secs(3));
    assert_eq!(scenario.steps[2].what, What::Expect(primary));
    assert_eq!(scenario.steps[6].what, What::Expect(Expectation::Ledger(0, 0)));
}

#[test]
fn every_shipped_file() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let scenarios: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "scn")).collect();
    assert!(scenarios.len() > 10, "{scenarios:?}");
    for file in scenarios {
        let text = std::fs::read_to_string(&file).unwrap();
        let scenario = parse(&file.display().to_string(), &text).unwrap_or_else(|error| panic!("{error}"));
        assert!(
            scenario.steps.iter().any(|step| matches!(step.what, What::Expect(_))),
            "{file:?} expects nothing"
        );
        let printed = scenario.to_string();
        let again = parse("printed", &printed).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.to_string(), printed);
        assert_eq!(again.steps.len(), scenario.steps.len());
    }
}

#[test]
fn hardware_is_a_units_own_and_comes_before_the_start() {
    let scenario = parse("x.scn", "group active-passive\nmachine b express\nat 1s repair\n").unwrap();
    assert_eq!(scenario.machines, [MachineKind::Q35, MachineKind::Express]);
    assert_eq!(parse("x.scn", &scenario.to_string()).unwrap().machines, scenario.machines);
    assert!(refusal("group active-passive\nmachine a toaster\n").contains("q35, pc, express"));
    assert!(
        refusal("group active-passive\nat 1s repair\nmachine a pc\n").contains("before the first action")
    );
}

#[test]
fn mail_data_is_replicated_unless_the_file_says_otherwise() {
    let scenario = parse("x.scn", "group active-passive\nmail-data nfs\nat 1s repair\n").unwrap();
    assert!(scenario.nfs && parse("x.scn", &scenario.to_string()).unwrap().nfs);
    assert!(!parse("x.scn", "group active-passive\nat 1s repair\n").unwrap().nfs);
    assert!(refusal("group active-passive\nmail-data floppy\n").contains("replicated, nfs"));
    assert!(
        refusal("group active-passive\nat 1s repair\nmail-data nfs\n").contains("before the first action")
    );
}

#[test]
fn every_action_of_the_table() {
    let second = Duration::from_secs(1);
    let cases = [
        ("at 0s power restore b", Action::PowerRestore(1)),
        ("at 1s link cut a.port3", Action::LinkCut(0, 3)),
        ("at 1s link restore b.port4", Action::LinkRestore(1, 4)),
        ("at 1s link loss 30 a.port1", Action::LinkLoss(30, 0, 1)),
        ("at 1s link delay 40 a.port1", Action::LinkDelay(Duration::from_millis(40), 0, 1)),
        ("at 1s link oneway a.port3", Action::LinkOneway(0, 3)),
        ("at 1s freeze a 1s", Action::Freeze(0, second)),
        ("at 1s kill a had", Action::Kill(0, "had".into(), 9)),
        ("at 1s kill a postfix SIGTERM", Action::Kill(0, "postfix".into(), 15)),
        ("at 1s disk hang a.system", Action::Disk(DiskFault::Hang, 0, "system".into())),
        ("at 1s stress io b 1s", Action::Stress(Stress::Io, 1, second)),
        ("at 1s clock jump a -1s", Action::ClockJump(0, false, second)),
        ("at 1s reboot a", Action::Reboot(0)),
        ("at 1s step fail a start-mail", Action::StepFail(0, "start-mail".into())),
        ("at 1s repair", Action::Repair),
        ("at 1s service stop a dovecot", Action::Service(0, false, "dovecot".into())),
        (
            "cli a \"get system ha status; diagnose x\"",
            Action::Cli(0, vec!["get system ha status".into(), "diagnose x".into()]),
        ),
        ("refused b \"execute x\"", Action::Refused(1, "execute x".into())),
        (
            "at 1s link flap 4s 10m a.port3",
            Action::LinkFlap(Duration::from_secs(4), Duration::from_secs(600), 0, 3),
        ),
        ("at 1s next-hop stop", Action::NextHop(false)),
        ("at 1s nas stop", Action::Nas(false)),
        ("at 1s set on-failure off", Action::Set("on-failure".into(), "off".into())),
        ("load stop", Action::Load(None)),
        (
            "load smtp 2.5/s size 900 to mailbox",
            Action::Load(Some(LoadOrder { rate: 2.5, size: 900, to: Destination::Mailbox })),
        ),
    ];
    for (line, action) in cases {
        let printed = action.to_string();
        assert_eq!(one(line), What::Act(action.clone()), "{line}");
        assert_eq!(one(&format!("at 1s {printed}")), What::Act(action), "{printed}");
    }
}

#[test]
fn every_expectation_of_the_table() {
    let second = Duration::from_secs(1);
    let cases = [
        ("hold b SECONDARY for 1s", Expectation::Hold(1, EffectiveMode::Secondary, second)),
        ("expect vip b within 1000ms", Expectation::Vip(1, second)),
        ("expect no-vip a within 1s", Expectation::NoVip(0, second)),
        ("expect event a takeover within 1s", Expectation::Event(0, "takeover".into(), second)),
        ("expect outage at-most 1s # comment", Expectation::Outage(second)),
        ("expect stall at-most 1s", Expectation::Stall(second)),
        ("expect whole within 1s", Expectation::Whole(second)),
    ];
    for (line, expectation) in cases {
        let printed = expectation.to_string();
        assert_eq!(one(line), What::Expect(expectation.clone()), "{line}");
        assert_eq!(one(&printed), What::Expect(expectation), "{printed}");
    }
}

#[test]
fn refusals_name_the_place_and_what_is_allowed() {
    let cases = [
        ("", "x.scn:1:1: the file is empty; allowed: group active-passive"),
        (
            "load smtp 1/s",
            "x.scn:1:1: the group comes first; allowed: group active-passive, group config-only N",
        ),
        ("group active-passive\nat 10s power cut c", "x.scn:2:18: `c` is not understood; allowed: a, b"),
        (
            "group active-passive\nexpect b PRIMARY within 3",
            "x.scn:2:25: `3` is not understood; allowed: a time such as 500ms, 3s, 1.5s, 2m or 1h",
        ),
        ("group active-passive\nhold a PRIMARY", "x.scn:2:15: the line ends here; allowed: for"),
        (
            "group active-passive\nat 1s link cut a.port9",
            "x.scn:2:16: `a.port9` is not understood; allowed: a.port1 to a.port4, b.port1 to b.port4",
        ),
        (
            "group active-passive\ncli a \"x",
            "x.scn:2:7: quotation is not closed; allowed: a closing \" on the same line",
        ),
        (
            "group active-passive\nload stop now",
            "x.scn:2:11: `now` is not understood; allowed: the end of the line or a comment",
        ),
        (
            "group active-passive\nload stop\nset a b",
            "x.scn:3:1: this line belongs before the first action; allowed: at <time> set …, or move it up",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message);
    }
    assert!(refusal("group config-only 1").contains("2 to 25"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(group active-passive\n)?[ -~é\n\"]{0,200}") {
        let _ = parse("x.scn", &text);
    }

    #[test]
    fn no_shuffle_of_words_makes_it_panic(words in prop::collection::vec(prop::sample::select(vec![
        "at", "10s", "expect", "hold", "a", "b", "power", "cut", "link", "loss", "101", "a.port3", "PRIMARY", "within",
        "for", "ledger", "lost", "0", "load", "smtp", "20/s", "size", "99999999999999999999", "clock", "jump", "+", "é", "cli",
    ]), 0..12)) {
        let _ = parse("x.scn", &format!("group active-passive\n{}", words.join(" ")));
    }
}
