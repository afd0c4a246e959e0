//! `cargo xtask sim` and `cargo xtask scenario --on sim`: builds the simulator with a profile of its own, since it runs thousands of pairs
//! a second, and runs it. Exit code 0 = everything held, 1 = a check or an expectation failed, 2 = a line cannot be simulated.

use crate::image;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `cargo xtask sim`.
#[derive(clap::Args)]
pub struct SimArgs {
    /// Number of random scenarios, each from a seed of its own
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// First seed
    #[arg(long, default_value_t = 0)]
    from: u64,
}

/// Random scenarios. The first seed that fails is printed with a shortened scenario and both event logs.
pub fn sim(args: SimArgs) -> anyhow::Result<i32> {
    random(args.from, args.seeds)
}

/// The same for the test command.
pub(super) fn random(from: u64, seeds: u64) -> anyhow::Result<i32> {
    run(&["random".to_owned(), from.to_string(), seeds.to_string()])
}

/// Scenario files.
pub(super) fn play(seed: u64, times: u32, files: &[PathBuf]) -> anyhow::Result<i32> {
    let mut words = vec!["play".to_owned(), seed.to_string(), times.to_string()];
    let here = std::env::current_dir().context("no current folder")?;
    for file in files {
        // The simulator is started from the workspace; names stay as short as they are given.
        let absolute = here.join(file);
        let name: &Path = if image::workspace().join(file).exists() { file } else { &absolute };
        words.push(name.to_str().with_context(|| format!("{} is no UTF-8", name.display()))?.to_owned());
    }
    run(&words)
}

fn run(words: &[String]) -> anyhow::Result<i32> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--profile", "sim", "--package", "twinpost-sim", "--"])
        .args(words)
        .current_dir(image::workspace())
        .status()
        .context("cannot run cargo")?;
    status.code().context("the simulator was killed")
}
