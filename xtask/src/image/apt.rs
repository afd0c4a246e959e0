//! apt as an ordinary user: the machine's own sources, private state, an empty status file.
//!
//! Resolves package names to exact files with hashes, and downloads files. Whether a file is the locked one is the
//! store's duty to check.

use super::lock::{Lock, Package};
use super::recipe::Packages;
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A private apt.
#[derive(Debug)]
pub struct Apt {
    config: PathBuf,
}

impl Apt {
    /// Prepares a private apt in `dir` and fetches the lists of the machine's sources.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let dir = std::path::absolute(dir)?;
        for part in ["state/lists/partial", "cache/archives/partial", "parts", "preferences.d"] {
            std::fs::create_dir_all(dir.join(part))?;
        }
        copy_sources(&dir)?;
        std::fs::write(dir.join("status"), "")?;
        // A machine may have sources of others; the image is made of Debian's packages only.
        std::fs::write(dir.join("preferences"), "Package: *\nPin: release o=Debian\nPin-Priority: 990\n")?;
        let config = dir.join("apt.conf");
        std::fs::write(&config, configuration(&dir)?)?;
        let apt = Self { config };
        apt.run("apt-get", &["update", "-q"])
            .context("fetching the lists of the machine's package sources")?;
        Ok(apt)
    }

    /// Resolves the wanted packages and all they depend on, without the excluded ones.
    pub fn resolve(&self, packages: &Packages) -> anyhow::Result<Lock> {
        let closure = |wanted: &[String]| -> anyhow::Result<Vec<Package>> {
            let mut words = vec!["install", "-y", "-q", "--no-install-recommends", "--print-uris"];
            words.extend(wanted.iter().map(String::as_str));
            let text = self.run("apt-get", &words).context("resolving packages")?;
            let names: Vec<String> = text
                .lines()
                .filter_map(uri_package)
                .filter(|(name, _)| !packages.exclude.contains(name))
                .map(|(name, version)| format!("{name}={version}"))
                .collect();
            if names.is_empty() {
                bail!("apt found no packages; are Debian's sources configured on this machine?");
            }
            self.show(&names)
        };
        Ok(Lock { image: closure(&packages.image)?, build: closure(&packages.build)? })
    }

    /// What the sources know about `name=version` words; unknown ones are left out.
    pub fn show(&self, names: &[String]) -> anyhow::Result<Vec<Package>> {
        let mut words = vec!["show", "--no-all-versions"];
        words.extend(names.iter().map(String::as_str));
        // apt-cache fails when one of the names is unknown, and prints the others nevertheless.
        let output = self.command("apt-cache", &words).output().context("starting apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let packages: BTreeSet<Package> = text.split("\n\n").filter_map(stanza).collect();
        Ok(packages.into_iter().collect())
    }

    /// Downloads packages into a folder; returns the files in the order of the packages.
    pub fn download(&self, packages: &[Package], into: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let words: Vec<String> =
            packages.iter().map(|package| format!("{}={}", package.name, package.version)).collect();
        let mut all = vec!["download", "-q"];
        all.extend(words.iter().map(String::as_str));
        let output = self.command("apt-get", &all).current_dir(into).output().context("starting apt-get")?;
        if !output.status.success() {
            bail!("downloading packages: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(packages.iter().map(|package| into.join(file_name(package))).collect())
    }

    fn run(&self, program: &str, words: &[&str]) -> anyhow::Result<String> {
        let output = self.command(program, words).output().with_context(|| format!("starting {program}"))?;
        if !output.status.success() {
            bail!("{program} {}: {}", words[0], String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).env("APT_CONFIG", &self.config).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

/// The machine's sources, without its own apt hooks and preferences.
fn copy_sources(dir: &Path) -> anyhow::Result<()> {
    let parts = dir.join("sources.list.d");
    let _ = std::fs::remove_dir_all(&parts);
    std::fs::create_dir_all(&parts)?;
    let etc = Path::new("/etc/apt");
    let main = std::fs::read(etc.join("sources.list")).unwrap_or_default();
    std::fs::write(dir.join("sources.list"), main)?;
    let Ok(files) = std::fs::read_dir(etc.join("sources.list.d")) else { return Ok(()) };
    for file in files {
        let file = file?;
        let name = file.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".list") || text.ends_with(".sources") {
            std::fs::copy(file.path(), parts.join(&name))
                .with_context(|| format!("reading {}", file.path().display()))?;
        }
    }
    Ok(())
}

/// The private configuration, with the machine's proxies and transport settings.
fn configuration(dir: &Path) -> anyhow::Result<String> {
    let dump = Command::new("apt-config")
        .arg("dump")
        .stdin(Stdio::null())
        .output()
        .context("starting apt-config")?;
    let dump = String::from_utf8_lossy(&dump.stdout);
    let mut text = String::new();
    for line in dump.lines() {
        let transport = line.starts_with("Acquire::http") || line.starts_with("Acquire::Retries");
        if transport && !line.contains(" \"\";") {
            text.push_str(line);
            text.push('\n');
        }
    }
    let dir = dir.display();
    text.push_str(&format!(
        r#"Dir::State "{dir}/state";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "{dir}/parts";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "{dir}/sources.list.d";
Dir::Etc::preferences "{dir}/preferences";
Dir::Etc::preferencesparts "{dir}/preferences.d";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
"#
    ));
    Ok(text)
}

/// `'uri' name_version_arch.deb size hash` → name and version.
fn uri_package(line: &str) -> Option<(String, String)> {
    let file = line.strip_prefix('\'')?.split_whitespace().nth(1)?;
    let mut parts = file.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    Some((name.to_owned(), version.replace("%3a", ":")))
}

/// The name that apt gives to a downloaded package.
fn file_name(package: &Package) -> String {
    format!("{}_{}_{}.deb", package.name, package.version.replace(':', "%3a"), package.arch)
}

/// One paragraph of `apt-cache show`.
fn stanza(text: &str) -> Option<Package> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(|value| value.trim().to_owned())
    };
    Some(Package {
        name: field("Package")?,
        version: field("Version")?,
        arch: field("Architecture")?,
        size: field("Size")?.parse().ok()?,
        sha256: field("SHA256")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_lines() {
        let line = "'http://host/x/libacl1_2%3a2.3-1_amd64.deb' libacl1_2%3a2.3-1_amd64.deb 31488 MD5Sum:00";
        assert_eq!(uri_package(line), Some(("libacl1".to_owned(), "2:2.3-1".to_owned())));
        assert_eq!(uri_package("Reading package lists..."), None);
        let text =
            format!("Package: a\nVersion: 1:2\nArchitecture: all\nSize: 7\nSHA256: {}\n", "0".repeat(64));
        let package = stanza(&text).unwrap();
        assert_eq!(file_name(&package), "a_1%3a2_all.deb");
    }
}
