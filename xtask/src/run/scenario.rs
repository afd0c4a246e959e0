//! `cargo xtask scenario`: runs scenario files and says PASS or FAIL for each.

use super::{Bench, UnitArgs};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::time::Instant;
use twinpost_harness::scenario::{Outcome, RunError, RunSettings, StartLimits, run};
use twinpost_scenario::{Scenario, parse};

/// Arguments of `cargo xtask scenario`.
#[derive(clap::Args)]
pub struct ScenarioArgs {
    /// Where to run
    #[arg(long, value_enum, default_value_t = On::Qemu)]
    on: On,
    /// Run each file this many times
    #[arg(long, default_value_t = 1)]
    times: u32,
    #[command(flatten)]
    units: UnitArgs,
    /// Scenario files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Values of `--on`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Two QEMU units with the real image
    Qemu,
    /// Two simulated units, in milliseconds
    Sim,
}

/// How many passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

impl Tally {
    /// Counts one result.
    pub fn count(&mut self, passed: bool) {
        if passed { self.passed += 1 } else { self.failed += 1 }
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// The closing line, and the exit code.
    pub fn close(self) -> i32 {
        println!("{} passed, {} failed", self.passed, self.failed);
        i32::from(self.failed > 0 || self.passed == 0)
    }
}

/// Runs it. Exit code 0 only if every expectation held, 2 when something cannot be run here.
pub fn scenario(args: ScenarioArgs) -> anyhow::Result<i32> {
    if args.on == On::Sim {
        return super::sim::play(args.units.seed, args.times, &args.files);
    }
    // Every file is read before the first one costs minutes.
    for file in &args.files {
        read(file)?;
    }
    let bench = Bench::set_up(&args.units)?;
    Ok(run_all(&bench, &args.files, args.times)?.close())
}

/// Runs every file `times` times.
pub fn run_all(bench: &Bench, files: &[PathBuf], times: u32) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for file in files {
        for _ in 0..times {
            tally.count(run_one(bench, file)?);
        }
    }
    Ok(tally)
}

fn run_one(bench: &Bench, file: &Path) -> anyhow::Result<bool> {
    let scenario = read(file)?;
    let name = file.file_stem().map_or_else(|| "scenario".into(), |stem| stem.to_string_lossy());
    println!("---- {name}");
    let settings = RunSettings { pair: bench.pair_in(&name), limits: StartLimits::default() };
    let began = Instant::now();
    let result = run(&scenario, &settings, &mut |line| println!("  {line}"));
    let seconds = began.elapsed().as_secs_f64();
    match result {
        Ok(outcome) => Ok(judge(&name, file, &outcome, seconds)),
        Err(error @ RunError::NotAvailable { .. }) => {
            println!("FAIL {name} {seconds:.1} s: {}: {error}", file.display());
            Ok(false)
        }
        Err(error) => {
            println!("FAIL {name} {seconds:.1} s: {:#}", anyhow::Error::from(error));
            Ok(false)
        }
    }
}

fn judge(name: &str, file: &Path, outcome: &Outcome, seconds: f64) -> bool {
    let mail = &outcome.mail;
    let figures = format!(
        "outage {} ms, acknowledged {}, {} {}, duplicated {}, in flight {}, longest 250 {} ms",
        outcome.outage.as_millis(),
        mail.acknowledged,
        // Whoever stopped early did not wait until the queue was empty.
        if outcome.failure.is_none() { "lost" } else { "not (yet) delivered" },
        mail.lost,
        mail.duplicated,
        mail.in_flight,
        mail.stall_ms_max
    );
    match &outcome.failure {
        None => println!("PASS {name} {seconds:.1} s ({figures})"),
        Some(failure) => {
            println!("{}", outcome.evidence);
            let place = match failure.line {
                0 => file.display().to_string(),
                line => format!("{}:{line}", file.display()),
            };
            println!("FAIL {name} {seconds:.1} s: {place}: {}: {} ({figures})", failure.text, failure.why);
        }
    }
    outcome.failure.is_none()
}

fn read(file: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(parse(&file.display().to_string(), &text)?)
}
