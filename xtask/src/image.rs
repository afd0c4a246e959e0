//! `cargo xtask image` and `cargo xtask lock`: the disk image from locked packages and our own programs.
//!
//! Works as an ordinary user without loop devices; the same inputs give the same bits (`reproducible` proves it). Every
//! costly step is kept under a key of its inputs in `<out>/cache`, so that only what changed is made again.
//! See spec appliance.md, sections 1 and 2, and ARCHITECTURE.md, "Boot chain" and "Root file system".

mod apt;
mod base;
mod disk;
mod elf;
mod firmware;
mod grub;
mod initrd;
mod lock;
mod modules;
mod progress;
mod recipe;
mod reproducible;
mod rootfs;
mod sbom;
mod slot;
mod steps;
mod store;
mod tree;
mod verity;

use crate::hostdeps;
use anyhow::Context;
pub use reproducible::check_reproducible;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Arguments of `cargo xtask image`.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ImageArgs {
    /// Refuse packages that are not the locked ones, and changes of Cargo.lock
    #[arg(long)]
    locked: bool,
    /// Folder for the image, its SBOM and its manifest [default: target/image]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Compress for speed, not for size; the manifest says so (also: TWINPOST_FAST=1)
    #[arg(long)]
    fast: bool,
    /// Take init, had and twinpostctl from this folder instead of building them; the manifest says so
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Build twice in different folders, umask and time zone, and compare
    #[arg(long)]
    check_reproducible: bool,
    /// Workspace to build, if it is not the one that this program was built from
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
}

/// Arguments of `cargo xtask lock`.
#[derive(clap::Args, Debug)]
pub struct LockArgs {}

/// What to build, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The workspace.
    pub root: PathBuf,
    /// Where the results go.
    pub out: PathBuf,
    /// Refuse everything that is not locked.
    pub locked: bool,
    /// Compress for speed.
    pub fast: bool,
    /// Folder with finished programs, in place of building the firmware.
    pub programs: Option<PathBuf>,
}

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Raw disk image.
    pub image: PathBuf,
    /// Versions, sizes and hashes; what is not locked.
    pub manifest: PathBuf,
    /// CycloneDX JSON.
    pub sbom: PathBuf,
}

impl Default for Options {
    /// This workspace into `target/image`; `TWINPOST_FAST=1` chooses speed.
    fn default() -> Self {
        let root = workspace();
        let fast = std::env::var("TWINPOST_FAST").is_ok_and(|value| value == "1");
        Self { out: root.join("target/image"), root, locked: false, fast, programs: None }
    }
}

/// `cargo xtask image`.
pub fn image(args: ImageArgs) -> anyhow::Result<i32> {
    if args.check_reproducible {
        match &args.root {
            Some(root) => reproducible::check_workspace(&std::path::absolute(root)?)?,
            None => check_reproducible()?,
        }
        return Ok(0);
    }
    let mut options = Options::default();
    if let Some(root) = args.root {
        options.root = std::path::absolute(root)?;
        options.out = options.root.join("target/image");
    }
    if let Some(out) = args.out {
        options.out = std::path::absolute(out)?;
    }
    options.locked = args.locked;
    options.fast |= args.fast;
    options.programs = args.programs;
    let built = build(&options)?;
    println!("image:    {}", built.image.display());
    println!("manifest: {}", built.manifest.display());
    println!("sbom:     {}", built.sbom.display());
    Ok(0)
}

/// Builds the image, or finds that nothing changed.
pub fn build(options: &Options) -> anyhow::Result<BuiltImage> {
    hostdeps::ensure(hostdeps::BUILD)?;
    steps::run(options)
}

/// `cargo xtask lock`.
pub fn lock(_args: LockArgs) -> anyhow::Result<i32> {
    hostdeps::ensure(hostdeps::BUILD)?;
    let root = workspace();
    let recipe = recipe::Recipe::read(&root)?;
    let path = root.join("image/packages.lock");
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => lock::Lock::parse(&text).with_context(|| format!("in {}", path.display()))?,
        Err(_) => lock::Lock::default(),
    };
    let new = {
        let _step = progress::Step::new("resolving packages");
        apt::Apt::open(&root.join("target/image/apt"))?.resolve(&recipe.packages)?
    };
    let difference = old.difference(&new);
    for line in &difference {
        println!("{line}");
    }
    if difference.is_empty() {
        println!("nothing changed");
    } else {
        std::fs::write(&path, new.to_string())?;
    }
    Ok(0)
}

/// The workspace that this program was built from.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// Hexadecimal text.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of a hexadecimal text.
fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    anyhow::ensure!(text.len().is_multiple_of(2) && text.is_ascii(), "`{text}` is not hexadecimal");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Writes a file that can be run.
fn write_program(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o755).open(path)?;
    file.write_all(contents)?;
    Ok(())
}
