//! `cargo xtask model`: runs the model checker of `ci/model`, which is a program of its own so that stateright is no part of this one.

use crate::image;
use anyhow::Context;
use std::process::Command;

/// Checks the model; exit code 0 only if everything held.
pub fn model() -> anyhow::Result<i32> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--package", "twinpost-model"])
        .current_dir(image::workspace())
        .status()
        .context("cannot run cargo")?;
    Ok(status.code().unwrap_or(1))
}
