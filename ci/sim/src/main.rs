//! The program around the simulator: reads scenario files, gives random scenarios to all cores, prints what failed. `cargo xtask sim` and
//! `cargo xtask scenario --on sim` are its command line.
//!
//! Exit code 0 = everything held, 1 = a check or an expectation failed, 2 = a line cannot be simulated or a file cannot be read.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a tool measures time and uses threads")]

use anyhow::Context;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use twinpost_scenario::{Scenario, parse};
use twinpost_sim::{Failure, Outcome, Simulator, random_scenario, shrink};

/// Seeds that a thread takes at a time.
const SEEDS_AT_ONCE: u64 = 64;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["random", from, seeds] => random(from, seeds),
        ["play", seed, times, files @ ..] => play(seed, times, files),
        _ => Err(anyhow::anyhow!("use cargo xtask sim, or cargo xtask scenario --on sim FILE")),
    };
    match result {
        Ok(held) => std::process::exit(i32::from(!held)),
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::exit(2);
        }
    }
}

/// What many runs came to.
#[derive(Default)]
struct Total {
    runs: u64,
    sealed: u64,
    simulated: Duration,
    busy: Duration,
    acknowledged: u64,
    duplicated: u64,
    in_flight: u64,
    failed: Option<u64>,
}

impl Total {
    fn add(&mut self, other: Total) {
        self.runs += other.runs;
        self.sealed += other.sealed;
        self.simulated += other.simulated;
        self.busy += other.busy;
        self.acknowledged += other.acknowledged;
        self.duplicated += other.duplicated;
        self.in_flight += other.in_flight;
        self.failed = [self.failed, other.failed].into_iter().flatten().min();
    }
}

/// Random scenarios on all cores, until one fails.
fn random(from: &str, seeds: &str) -> anyhow::Result<bool> {
    let (from, seeds): (u64, u64) = (from.parse().context("--from")?, seeds.parse().context("--seeds")?);
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let end = from.saturating_add(seeds);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let mut total = Total::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(|| worker(&next, end, &stop))).collect();
        for worker in workers {
            // A panic of a worker is a bug of the simulator and ends the program.
            total.add(worker.join().expect("a worker does not panic"));
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} random scenarios from seed {from} in {seconds:.1} s on {cores} cores: {:.0} a second of a core's time, {:.0} hours simulated, \
         {} with sealed heartbeats, {} messages acknowledged, {} delivered twice after a split brain, {} more in flight",
        total.runs,
        total.runs as f64 / total.busy.as_secs_f64().max(0.001),
        total.simulated.as_secs_f64() / 3600.0,
        total.sealed,
        total.acknowledged,
        total.duplicated,
        total.in_flight,
    );
    if let Some(seed) = total.failed {
        explain(seed);
    }
    Ok(total.failed.is_none())
}

fn worker(next: &AtomicU64, end: u64, stop: &AtomicBool) -> Total {
    let mut simulator = Simulator::default();
    let mut total = Total::default();
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let first = next.fetch_add(SEEDS_AT_ONCE, Ordering::Relaxed);
        for seed in first..(first + SEEDS_AT_ONCE).min(end) {
            let outcome = simulator.run(&random_scenario(seed), seed, false);
            total.runs += 1;
            let Ok(outcome) = outcome else {
                unreachable!("random scenarios are made of what can be simulated");
            };
            total.sealed += u64::from(outcome.sealed);
            total.simulated += outcome.simulated;
            total.acknowledged += u64::from(outcome.acknowledged);
            total.duplicated += u64::from(outcome.split_duplicated);
            total.in_flight += u64::from(outcome.in_flight_duplicated);
            if outcome.failure.is_some() {
                stop.store(true, Ordering::Relaxed);
                total.failed.get_or_insert(seed);
                break;
            }
        }
        if first >= end {
            break;
        }
    }
    total.busy = began.elapsed();
    total
}

/// A failing seed: what failed, the shortest scenario found, the event logs.
fn explain(seed: u64) {
    let mut simulator = Simulator::default();
    let short = shrink(&mut simulator, &random_scenario(seed), seed);
    let Ok(Outcome { failure: Some(failure), log, .. }) = simulator.run(&short, seed, true) else { return };
    print_log(&log);
    println!("\nFAIL seed {seed}: {}", words(&failure));
    println!("\nthe same in a file (cargo xtask scenario --on sim --seed {seed} FILE):\n\n{short}");
}

/// Scenario files, each `times` times with seeds that follow each other.
fn play(seed: &str, times: &str, files: &[&str]) -> anyhow::Result<bool> {
    let (seed, times): (u64, u64) = (seed.parse().context("--seed")?, times.parse().context("--times")?);
    let mut simulator = Simulator::default();
    let mut scenarios: Vec<(&str, Scenario)> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        scenarios.push((*file, parse(file, &text)?));
    }
    let (mut passed, mut failed) = (0, 0);
    for (file, scenario) in &scenarios {
        for seed in seed..seed + times {
            let began = Instant::now();
            let outcome = simulator.run(scenario, seed, true).with_context(|| (*file).to_owned())?;
            let figures = format!(
                "seed {seed}, {:.1} s simulated in {} ms, outage {} ms, acknowledged {}, lost {}, duplicated {}",
                outcome.simulated.as_secs_f64(),
                began.elapsed().as_millis(),
                outcome.outage.as_millis(),
                outcome.acknowledged,
                outcome.lost,
                outcome.duplicated
            );
            match outcome.failure {
                None => {
                    passed += 1;
                    println!("PASS {file} ({figures})");
                }
                Some(failure) => {
                    failed += 1;
                    print_log(&outcome.log);
                    println!("FAIL {file}:{}: {} ({figures})", failure.line, words(&failure));
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

fn words(failure: &Failure) -> String {
    format!("{}: {}", failure.text, failure.why)
}

fn print_log(log: &[String]) {
    log.iter().for_each(|line| println!("{line}"));
}
