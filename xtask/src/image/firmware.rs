//! Builds our own programs so that their bits do not depend on where the workspace lies.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs that go into the image.
#[derive(Debug, Clone)]
pub struct Programs {
    /// PID 1, of the initrd and of the root file system.
    pub init: Vec<u8>,
    /// The HA supervisor.
    pub had: Vec<u8>,
    /// The operator's face.
    pub twinpostctl: Vec<u8>,
}

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Packages that are shipped.
pub const PACKAGES: [&str; 3] = ["twinpost-init", "twinpost-had", "twinpost-cli"];

/// Builds the firmware of the workspace at `root` in a target folder of its own: its flags differ from everyday builds,
/// which would otherwise be thrown away each time.
pub fn build(root: &Path, target_dir: &Path, locked: bool) -> anyhow::Result<Programs> {
    let mut command = cargo(root);
    command.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(target_dir);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    if locked {
        command.arg("--locked");
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(root)?.join("\x1f"));
    command.env_remove("RUSTFLAGS");
    let status = command.status().context("starting cargo")?;
    if !status.success() {
        bail!("the firmware does not build, see above");
    }
    read(&target_dir.join(TARGET).join("release"))
}

/// Reads finished programs from a folder.
pub fn read(dir: &Path) -> anyhow::Result<Programs> {
    let read = |name: &str| {
        std::fs::read(dir.join(name)).with_context(|| format!("reading {}", dir.join(name).display()))
    };
    Ok(Programs { init: read("init")?, had: read("had")?, twinpostctl: read("twinpostctl")? })
}

/// cargo, in the workspace given.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// The flags of .cargo/config.toml, which an environment variable replaces, and names for the machine's paths.
fn rustflags(root: &Path) -> anyhow::Result<Vec<String>> {
    let path = root.join(".cargo/config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let config: toml::Table = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let flags = config
        .get("target")
        .and_then(|target| target.get(TARGET)?.get("rustflags")?.as_array())
        .with_context(|| format!("{} sets no rustflags for {TARGET}", path.display()))?;
    let mut flags: Vec<String> = flags.iter().filter_map(|flag| flag.as_str().map(str::to_owned)).collect();
    flags.push(format!("--remap-path-prefix={}=/cargo", cargo_home()?.display()));
    flags.push(format!("--remap-path-prefix={}=/twinpost", root.display()));
    Ok(flags)
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
            .join(".cargo")),
    }
}
