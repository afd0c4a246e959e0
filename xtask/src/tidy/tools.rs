//! The tools that tidy calls: cargo metadata, rustfmt, clippy and, where it is installed, cargo-deny.

use super::Finding;
use anyhow::{Context, bail};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// The platform that the product is built for; dependencies of others do not matter.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// `cargo metadata` of the workspace with its resolved dependencies.
pub(crate) fn metadata(root: &Path) -> anyhow::Result<Value> {
    let output = cargo(root, &["metadata", "--format-version", "1", "--filter-platform", PLATFORM])?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata does not answer in JSON")
}

/// Everything that takes part in a build for the product's platform, a line `name version|licence` each. Unlike metadata this
/// leaves out what stands behind features that are off.
pub(crate) fn linked(root: &Path) -> anyhow::Result<String> {
    let arguments = [
        "tree",
        "--workspace",
        "--target",
        PLATFORM,
        "--edges",
        "all",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ];
    let output = cargo(root, &arguments)?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Files that rustfmt would change.
pub(crate) fn fmt(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let output = cargo(root, &["fmt", "--all", "--", "--check", "-l"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let files = text.lines().map(|line| Path::new(line.trim()));
    let found: Vec<_> = files
        .map(|file| {
            Finding::new(file.strip_prefix(root).unwrap_or(file), 1, "not formatted", "run `cargo fmt`")
        })
        .collect();
    if found.is_empty() && !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Ok(vec![Finding::new("Cargo.toml", 1, "cargo fmt failed", error.trim())]);
    }
    Ok(found)
}

/// Warnings and errors of clippy.
pub(crate) fn clippy(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let arguments = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--message-format",
        "short",
        "--",
        "-D",
        "warnings",
    ];
    let output = cargo(root, &arguments)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut found: Vec<_> = text.lines().filter_map(message).collect();
    if found.is_empty() && !output.status.success() {
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        found.push(Finding::new("Cargo.toml", 1, "clippy failed", last));
    }
    Ok(found)
}

/// cargo-deny, if there is one; otherwise a note that says what was left out.
pub(crate) fn deny(root: &Path, notes: &mut Vec<String>) -> anyhow::Result<Vec<Finding>> {
    if !cargo(root, &["deny", "--version"])?.status.success() {
        notes.push(
            "cargo-deny is not installed: licences were checked here, sources and duplicates were not \
             (cargo install cargo-deny)"
                .into(),
        );
        return Ok(Vec::new());
    }
    // Advisories need a database from the network; `cargo deny check advisories` asks for them where there is one.
    let output = cargo(root, &["deny", "--color", "never", "check", "licenses", "bans", "sources"])?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = text.lines().filter(|line| line.starts_with("error"));
    let mut found: Vec<_> =
        errors.map(|line| Finding::new("deny.toml", 1, line, "see `cargo deny check`")).collect();
    if found.is_empty() {
        found.push(Finding::new("deny.toml", 1, "cargo-deny failed", "see `cargo deny check`"));
    }
    Ok(found)
}

/// `file:line:column: level: words` of the compiler's short form.
fn message(line: &str) -> Option<Finding> {
    let (place, words) = line.split_once(": ")?;
    let mut parts = place.rsplitn(3, ':');
    let (_column, number) = (parts.next()?.parse::<usize>().ok()?, parts.next()?.parse().ok()?);
    Some(Finding::new(parts.next()?, number, words.trim(), "correct it (cargo clippy)"))
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Command::new(program).args(arguments).current_dir(root).output();
    run.with_context(|| format!("running cargo {}", arguments.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_messages_become_findings() {
        let found = message("ci/a.rs:12:5: warning: unused variable: `x`").unwrap();
        assert_eq!(found.to_string(), "ci/a.rs:12: warning: unused variable: `x`, correct it (cargo clippy)");
        assert_eq!(message("error: could not compile"), None);
    }
}
