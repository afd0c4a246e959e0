//! Proves that the same inputs give the same image: builds a copy of the workspace in another folder, under another umask
//! and time zone, with an empty cache and a firmware compiled from nothing, and compares hashes.
//!
//! Both builds use this machine's compiler and mksquashfs: it is not a proof across machines.

use super::{Options, build, hex, sha256, workspace};
use anyhow::{Context, bail, ensure};
use std::path::Path;
use std::process::Command;

/// Builds twice and compares. Both builds compress fast: what is compared are inputs and order, not the compressor's effort.
pub fn check_reproducible() -> anyhow::Result<()> {
    check_workspace(&workspace())
}

/// The same for a workspace given, which must not change meanwhile.
pub fn check_workspace(root: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::Builder::new().prefix("twinpost-again-").tempdir()?;
    let first = build(&Options {
        root: root.to_owned(),
        out: root.join("target/image/reproducible"),
        locked: false,
        fast: true,
        programs: None,
    })?;
    let copy = scratch.path().join("another place");
    copy_workspace(root, &copy)?;
    let out = scratch.path().join("out");
    eprintln!("  building again in {}", copy.display());
    let status = Command::new("sh")
        .args(["-c", "umask 077 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe()?)
        .args(["image", "--fast", "--root"])
        .arg(&copy)
        .arg("--out")
        .arg(&out)
        .env("TZ", "Asia/Kathmandu")
        .env("LC_ALL", "C")
        .status()
        .context("starting the second build")?;
    ensure!(status.success(), "the second build failed");
    for path in [&first.image, &first.sbom] {
        let name = path.file_name().context("results have names")?;
        let hashes =
            [path.clone(), out.join(name)].map(|path| std::fs::read(path).map(|bytes| hex(&sha256(&bytes))));
        let [Ok(one), Ok(two)] = hashes else { bail!("{} is missing after a build", name.display()) };
        ensure!(one == two, "{} differs between two builds: {one} and {two}", name.display());
        println!("{}: the same bits twice, {one}", name.display());
    }
    Ok(())
}

/// Copies everything but what builds make.
fn copy_workspace(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for item in std::fs::read_dir(from)? {
        let item = item?;
        let name = item.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        let (source, destination) = (item.path(), to.join(&name));
        let kind = item.file_type()?;
        if kind.is_dir() {
            copy_workspace(&source, &destination)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &destination)?;
        } else {
            std::fs::copy(&source, &destination).with_context(|| format!("copying {}", source.display()))?;
        }
    }
    Ok(())
}
