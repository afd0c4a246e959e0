//! The scenario files of `ci/scenarios` on simulated units: each holds with several seeds, or is refused with a reason.

use twinpost_scenario::{What, parse};
use twinpost_sim::Simulator;

/// Seeds of each file.
const SEEDS: u64 = 5;
/// At least so many files play here. The others are about what only the shell has (IPv6, encryption, its own events) and say so.
const FILES_MIN: usize = 45;

#[test]
fn every_shipped_scenario_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
    let mut simulator = Simulator::default();
    let mut wrong = Vec::new();
    let mut played = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|end| end != "scn") {
            continue;
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let scenario = parse(&name, &text).unwrap_or_else(|error| panic!("{error}"));
        assert!(scenario.steps.iter().any(|step| matches!(step.what, What::Expect(_))));
        for seed in 1..=SEEDS {
            match simulator.run(&scenario, seed, true) {
                Err(error) => println!("{name}: {error}"),
                Ok(outcome) => {
                    played += 1;
                    let Some(failure) = outcome.failure else { continue };
                    let tail = outcome.log[outcome.log.len().saturating_sub(40)..].join("\n");
                    wrong.push(format!(
                        "{name} seed {seed}: line {}: {}: {}\n{tail}",
                        failure.line, failure.text, failure.why
                    ));
                }
            }
        }
    }
    assert!(played >= FILES_MIN * SEEDS as usize, "only {played} runs");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
