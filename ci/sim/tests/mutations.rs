//! Deliberate bugs around the decisions prove the checks: each is caught by a check that is named for it. The table is in README.md;
//! `TWINPOST_BLESS=1` writes it anew.

use twinpost_scenario::{Scenario, parse};
use twinpost_sim::{Mutation, Simulator, random_scenario};

/// Seeds tried for each bug.
const SEEDS: u64 = 3000;
/// Stories that lead to a bug that random ones seldom meet.
const DIRECTED: [&str; 2] = [
    "set max-role-changes 2\nat 1s cli a \"diagnose system ha failover\"\nexpect b PRIMARY within 20s\nexpect whole within 60s\n\
     at 10s cli b \"diagnose system ha failover\"\nexpect a PRIMARY within 20s\nexpect whole within 60s\nat 20s power cut a\n\
     expect event b verdict within 20s\nhold b SECONDARY for 5s",
    "set hb-lost-threshold 10\nset local-service HD 2 2\nat 1s link cut b.port3\nat 6s disk fail a.system\nat 10800ms link cut a.port4\nat 24s freeze b 2s\n\
     at 60s repair\nexpect whole within 600s",
];
const BEGIN: &str = "<!-- mutations: begin -->\n";
const END: &str = "<!-- mutations: end -->\n";

fn directed() -> Vec<Scenario> {
    let read =
        |lines: &&str| parse("directed", &format!("group active-passive\n{lines}\n")).expect("written above");
    DIRECTED.iter().map(read).collect()
}

#[test]
fn every_deliberate_bug_is_caught_by_its_check() {
    let mut missed = Vec::new();
    for mutation in Mutation::ALL {
        let mut simulator = Simulator::with(mutation);
        let random = (0..SEEDS).map(|seed| (seed, random_scenario(seed)));
        let stories = directed().into_iter().map(|scenario| (1, scenario));
        let caught = stories.chain(random).any(|(seed, scenario)| {
            let failure = simulator.run(&scenario, seed, false).unwrap().failure;
            failure
                .and_then(|failure| failure.check)
                .is_some_and(|check| mutation.caught_by().contains(&check))
        });
        if !caught {
            missed.push(mutation);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn without_a_bug_the_same_scenarios_hold() {
    let mut simulator = Simulator::default();
    let random = (0..SEEDS).map(|seed| (seed, random_scenario(seed)));
    for (seed, scenario) in directed().into_iter().map(|scenario| (1, scenario)).chain(random) {
        let failure = simulator.run(&scenario, seed, false).unwrap().failure;
        assert_eq!(failure, None, "seed {seed}\n{scenario}");
    }
}

#[test]
fn the_readme_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let mut table = String::from("| deliberate bug | caught by |\n| --- | --- |\n");
    for mutation in Mutation::ALL {
        let checks: Vec<_> = mutation.caught_by().iter().map(|check| format!("`{check:?}`")).collect();
        table.push_str(&format!("| {} | {} |\n", mutation.words(), checks.join(", ")));
    }
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (now, after) = rest.split_once(END).unwrap();
    if std::env::var_os("TWINPOST_BLESS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(now, table);
    }
}
