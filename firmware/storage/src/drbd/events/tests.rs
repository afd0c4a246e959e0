//! Golden vectors recorded from two units under QEMU, line by line; and lines that no kernel would write.

use super::*;
use proptest::prelude::*;

/// The reports after each stage of the recording; `#` lines in it name the stages.
fn stages(recording: &str, wanted: bool) -> Vec<(String, VolumeReport)> {
    let mut state = State::default();
    let mut stages = Vec::new();
    for line in recording.lines() {
        match line.strip_prefix("# ") {
            Some(stage) => stages.push((stage.to_owned(), state.report(VolumeId::Queue, wanted))),
            None => drop(state.apply(line)),
        }
    }
    stages
}

fn render(stages: &[(String, VolumeReport)]) -> String {
    stages.iter().map(|(stage, report)| format!("{stage}: {report:?}\n")).collect()
}

/// Compares with `<name>-output`; `TWINPOST_GOLDEN=refresh` writes it.
fn golden(name: &str, got: &str) {
    let path = format!("{}/src/drbd/golden/{name}-output", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TWINPOST_GOLDEN").is_some() {
        std::fs::write(&path, got).unwrap();
    }
    assert_eq!(got, std::fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn follows_a_pair_from_birth_to_the_loss_of_its_primary() {
    golden("01-survivor", &render(&stages(include_str!("../golden/01-survivor-input"), true)));
}

#[test]
fn follows_a_primary_that_freezes() {
    golden("02-frozen", &render(&stages(include_str!("../golden/02-frozen-input"), true)));
}

#[test]
fn follows_a_resynchronisation() {
    golden("03-resync", &render(&stages(include_str!("../golden/03-resync-input"), true)));
}

#[test]
fn a_stopped_connection_is_only_down_when_nobody_wanted_it() {
    let mut state = State::default();
    state
        .apply("exists connection name:queue peer-node-id:0 connection:StandAlone role:Unknown congested:no");
    assert_eq!(state.report(VolumeId::Queue, true).replication, Replication::StandAlone);
    assert_eq!(state.report(VolumeId::Queue, false).replication, Replication::Down);
}

#[test]
fn lost_events_ask_for_a_new_snapshot() {
    assert_eq!(State::default().apply("skipped 3 events"), Line::Skipped);
    assert_eq!(State::default().apply("2026-11-22T03:47:06.310418+00:00 exists -"), Line::Complete);
}

#[test]
fn other_resources_do_not_matter() {
    let mut state = State::default();
    state.apply("exists device name:other volume:0 minor:7 disk:UpToDate size:131032");
    assert_eq!(state, State::default());
}

#[test]
fn knows_an_attached_volume() {
    assert!(is_attached("exists device name:data volume:0 minor:1 disk:Consistent size:1", VolumeId::Data));
    assert!(!is_attached("exists device name:data volume:0 minor:1 disk:Diskless", VolumeId::Data));
    assert!(!is_attached("exists device name:queue volume:0 minor:0 disk:UpToDate", VolumeId::Data));
}

proptest! {
    #[test]
    fn no_line_panics(line in ".{0,200}") {
        let _ = State::default().apply(&line);
    }

    #[test]
    fn no_fields_panic(verb in "exists|change|create|destroy|call", object in "resource|connection|device|peer-device|-",
        key in "role|disk|size|out-of-sync|connection|replication", value in ".{0,30}") {
        let mut state = State::default();
        let _ = state.apply(&format!("{verb} {object} name:queue {key}:{value}"));
        let _ = state.report(VolumeId::Queue, true);
    }
}
