//! `cargo xtask fuzz`: builds the targets of `ci/fuzz` with the coverage that libFuzzer needs and runs each for some seconds. It does what
//! cargo-fuzz does, without the need to install it: the passes that count edges are in the stable compiler. No sanitizer: the
//! parsers are safe Rust, what is hunted are panics, overflows, hangs and memory.

use crate::{hostdeps, image};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What cargo-fuzz tells the compiler, and overflow checks.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
/// Built apart from everything else, for all crates are built with these flags.
const FOLDER: &str = "target/fuzz";
const HOST: &str = "x86_64-unknown-linux-gnu";
/// One input may take this long, and this much memory.
const LIMITS: [&str; 4] = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=8192", "-verbosity=0"];
/// Files to begin with: target, folder.
const SEEDS: &[(&str, &str)] =
    &[("scenario", "ci/scenarios"), ("config", "ci/fuzz/seeds/config"), ("board", "board/qemu-q35")];
/// How long a target runs unless told otherwise: all of them together take less than two minutes.
const SECONDS: u64 = 20;
/// Targets that run at the same time: each keeps one core busy.
const AT_ONCE: usize = 2;
/// Prefix of the programs.
const PREFIX: &str = "fuzz-";

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct FuzzArgs {
    /// One target only
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = SECONDS)]
    seconds: u64,
}

impl Default for FuzzArgs {
    fn default() -> Self {
        Self { target: None, seconds: SECONDS }
    }
}

/// Fuzzes. Exit code 0 only if no target found anything.
pub fn fuzz(args: &FuzzArgs) -> anyhow::Result<i32> {
    anyhow::ensure!(args.seconds > 0, "libFuzzer takes 0 seconds for ever; say at least 1");
    hostdeps::ensure(hostdeps::FUZZ)?;
    let names = targets()?;
    let wanted: Vec<&String> =
        names.iter().filter(|name| args.target.as_ref().is_none_or(|only| only == *name)).collect();
    anyhow::ensure!(!wanted.is_empty(), "there is no such target; there are {}", names.join(", "));
    build()?;
    let mut failed = Vec::new();
    for pair in wanted.chunks(AT_ONCE) {
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = pair.iter().map(|name| scope.spawn(|| run(name, args.seconds))).collect();
            threads.into_iter().map(|thread| thread.join().expect("run returns its errors")).collect()
        });
        for (name, result) in pair.iter().zip(results) {
            match result {
                Ok(seen) => println!("PASS fuzz {name} ({seen})"),
                Err(error) => {
                    println!("FAIL fuzz {name}: {error:#}");
                    failed.push(name.as_str());
                }
            }
        }
    }
    Ok(i32::from(!failed.is_empty()))
}

/// The programs of `ci/fuzz`.
fn targets() -> anyhow::Result<Vec<String>> {
    let folder = image::workspace().join("ci/fuzz/src/bin");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn build() -> anyhow::Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--package", "twinpost-fuzz", "--bins"])
        .args(["--target", HOST, "--target-dir", FOLDER])
        .env("RUSTFLAGS", FLAGS)
        // Symbols for what is found; the profile of the product has none, and takes minutes to link.
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
        .current_dir(image::workspace())
        .status()
        .context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "the fuzz targets do not compile: see above");
    Ok(())
}

/// Runs one target; what it has seen, in words.
fn run(name: &str, seconds: u64) -> anyhow::Result<String> {
    let base = image::workspace().join(FOLDER);
    let (corpus, artifacts) = (base.join("corpus").join(name), base.join("artifacts").join(name));
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let program = base.join(HOST).join("release").join(format!("{PREFIX}{name}"));
    let output = Command::new(&program)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(LIMITS)
        .arg("-print_final_stats=1")
        .arg(&corpus)
        .args(seeds(name))
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let tail: Vec<&str> = said.lines().rev().take(40).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        anyhow::bail!(
            "{}; the input is in {}. Its last words:\n{}",
            output.status,
            artifacts.display(),
            tail.join("\n")
        );
    }
    let runs = statistic(&said, "stat::number_of_executed_units:").context("libFuzzer gave no figures")?;
    anyhow::ensure!(runs > 0, "nothing was run");
    let kept = std::fs::read_dir(&corpus)?.count();
    Ok(format!("{runs} inputs in {seconds} s, {kept} in the corpus"))
}

fn seeds(name: &str) -> Vec<PathBuf> {
    let folder = |path: &str| image::workspace().join(Path::new(path));
    SEEDS.iter().filter(|(target, _)| *target == name).map(|(_, path)| folder(path)).collect()
}

/// A figure of `-print_final_stats=1`.
fn statistic(said: &str, name: &str) -> Option<u64> {
    said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_and_every_seed_is_there() {
        let names = targets().unwrap();
        assert!(names.len() >= 7, "{names:?}");
        for (target, folder) in SEEDS {
            assert!(names.iter().any(|name| name == target), "{target}");
            assert!(image::workspace().join(folder).is_dir(), "{folder}");
        }
    }

    #[test]
    fn figures_of_libfuzzer_are_read() {
        let said = "Done 5 runs\nstat::number_of_executed_units: 12345\nstat::average_exec_per_sec: 1\n";
        assert_eq!(statistic(said, "stat::number_of_executed_units:"), Some(12345));
        assert_eq!(statistic("", "stat::number_of_executed_units:"), None);
    }
}
