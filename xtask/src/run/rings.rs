//! `cargo xtask test`: the rings of tests, one closing line over all of them.

use super::scenario::{Tally, run_all};
use super::{Bench, UnitArgs};
use crate::{hostdeps, image, tidy};
use anyhow::Context;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Scenarios of the system ring. The others are run by `cargo xtask test full` only: with them the whole would take longer than 45
/// minutes on two cores.
const IN_SYSTEM_RING: [&str; 11] = [
    "boot-ovmf",
    "both-links-cut",
    "link-1-cut",
    "link-1-flapping",
    "mailbox",
    "on-failure-become-secondary",
    "orderly-switch",
    "power-cut-both-a-first",
    "power-cut-primary",
    "power-cut-secondary",
    "supervisor-killed",
];

/// Random scenarios of the unit ring: about 20 seconds on two cores that have nothing else to do.
const SIMULATED: u64 = 100_000;

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct TestArgs {
    /// One ring only
    #[arg(value_enum)]
    ring: Option<Ring>,
    #[command(flatten)]
    units: UnitArgs,
}

/// The rings.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Unit tests, properties, golden vectors of all crates; the model of the pair; each fuzz target for 20 seconds
    Unit,
    /// Walls and style
    Tidy,
    /// Image, and scenarios on QEMU units, as far as they fit into 45 minutes on two cores
    System,
    /// All rings with all scenarios
    Full,
}

/// Runs the tests. Exit code 0 only if all passed.
pub fn test(args: TestArgs) -> anyhow::Result<i32> {
    let full = args.ring == Some(Ring::Full);
    let wanted = |ring| full || args.ring.is_none_or(|only| only == ring);
    // Before the long work, so that nobody is asked for a password in the middle of it.
    if wanted(Ring::System) {
        hostdeps::ensure(hostdeps::BUILD)?;
        hostdeps::ensure(hostdeps::RUN)?;
    }
    if wanted(Ring::System) || wanted(Ring::Unit) {
        hostdeps::ensure(hostdeps::TEST)?;
        hostdeps::ensure(hostdeps::FUZZ)?;
    }
    let mut tally = Tally::default();
    if wanted(Ring::Tidy) {
        println!("==== tidy");
        let clean = tidy::tidy(tidy::TidyArgs::default()).and_then(|code| match code {
            0 => Ok(String::new()),
            _ => anyhow::bail!("see the findings above"),
        });
        tally.count(passed("tidy", clean));
    }
    if wanted(Ring::Unit) {
        println!("==== unit");
        tally.add(unit()?);
        println!("==== model");
        tally.count(passed("the model of the pair holds", as_result(super::model())));
        println!("==== fuzz");
        tally.count(passed("fuzzing finds nothing", as_result(super::fuzz(&super::FuzzArgs::default()))));
    }
    if wanted(Ring::Unit) {
        println!("==== simulator");
        let held = super::sim::random(0, SIMULATED).and_then(|code| match code {
            0 => Ok(String::new()),
            _ => anyhow::bail!("see the seed above"),
        });
        tally.count(passed("random scenarios on simulated units", held));
    }
    if wanted(Ring::System) {
        println!("==== system");
        tally.add(system(&args.units, full)?);
    }
    Ok(tally.close())
}

/// The exit code of another verb as the result of a test.
fn as_result(code: anyhow::Result<i32>) -> anyhow::Result<String> {
    match code? {
        0 => Ok(String::new()),
        _ => anyhow::bail!("see above"),
    }
}

/// `cargo test` over the workspace; its own results are added up.
fn unit() -> anyhow::Result<Tally> {
    let mut child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(image::workspace())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let mut tally = Tally::default();
    let out = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(out).lines() {
        let line = line?;
        println!("{line}");
        tally.add(result_line(&line).unwrap_or_default());
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // It did not get as far as running tests.
        tally.count(false);
    }
    Ok(tally)
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn result_line(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let part = rest.split([';', '.']).find(|part| part.trim_end().ends_with(word))?;
        part.trim().split(' ').next()?.parse().ok()
    };
    Some(Tally { passed: number("passed")?, failed: number("failed")? })
}

fn system(units: &UnitArgs, full: bool) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let bench = match Bench::set_up(units) {
        Ok(bench) => bench,
        Err(error) => {
            tally.count(passed("the image builds", Err(error)));
            return Ok(tally);
        }
    };
    tally.count(passed("the image builds", Ok(String::new())));
    if units.image.is_none() {
        let same = image::check_reproducible().map(|()| String::new());
        tally.count(passed("two builds give the same bits", same));
    }
    let flip = twinpost_harness::boot::altered_root(&bench.pair_in("altered-root"));
    tally.count(passed("a flipped byte in root A never runs", flip.map_err(Into::into)));
    for test in twinpost_harness::faults::ALL.iter().filter(|test| full || !test.only_in_full) {
        tally.count(passed(test.name, (test.run)(&bench.pair_in(test.folder)).map_err(Into::into)));
    }
    tally.add(run_all(&bench, &shipped(full)?, 1)?);
    Ok(tally)
}

/// The shipped scenarios in the order of their names; without `full` those of [`IN_SYSTEM_RING`].
fn shipped(full: bool) -> anyhow::Result<Vec<PathBuf>> {
    let folder = image::workspace().join("ci/scenarios");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "scn"));
    let in_ring =
        |file: &PathBuf| IN_SYSTEM_RING.iter().any(|name| file.file_stem().is_some_and(|stem| stem == *name));
    files.retain(|file| full || in_ring(file));
    files.sort();
    anyhow::ensure!(!files.is_empty(), "there are no scenarios in {}", folder.display());
    Ok(files)
}

/// Says PASS or FAIL, with what was seen.
fn passed(name: &str, result: anyhow::Result<String>) -> bool {
    match &result {
        Ok(seen) if seen.is_empty() => println!("PASS {name}"),
        Ok(seen) => println!("PASS {name} ({seen})"),
        Err(error) => println!("FAIL {name}: {error:#}"),
    }
    result.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_result_lines_of_cargo_test() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(result_line(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(result_line("test x ... ok"), None);
    }
}
