//! `cargo xtask bench`: builds the measuring program as the firmware is built, optimised, and starts it. Its command line is
//! its own.

use crate::{hostdeps, image};
use anyhow::Context;
use std::ffi::OsString;
use std::process::Command;

/// Crate and program.
const PROGRAM: &str = "twinpost-bench";
/// The folder of optimised programs, as `.cargo/config.toml` sets the target.
const BUILT: &str = "target/x86_64-unknown-linux-gnu/release";

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct BenchArgs {
    /// What to measure, and how: see `cargo xtask bench --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs a measurement; its exit code is returned.
pub fn bench(args: &BenchArgs) -> anyhow::Result<i32> {
    hostdeps::ensure(hostdeps::BENCH)?;
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--package", PROGRAM])
        .current_dir(image::workspace())
        .status()
        .context("cannot run cargo")?;
    anyhow::ensure!(built.success(), "{PROGRAM} does not compile: see above");
    let program = image::workspace().join(BUILT).join(PROGRAM);
    let status = Command::new(&program)
        .args(&args.arguments)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(status.code().unwrap_or(1))
}
