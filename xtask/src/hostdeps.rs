//! Programs of the host that the build and the tests need.
//!
//! [`ensure`] looks for them, installs what is missing with the system's package manager (as root, or through sudo after
//! saying what and why), and otherwise prints what to install and ends the process with exit code 2. It knows Debian's
//! package names only; on other systems the list tells the programs.

use std::path::Path;
use std::process::{Command, Stdio};

/// A program or file of the host, and the package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostProgram {
    /// Programs are looked up in `PATH` and the usual system folders; a name with `/` is a file.
    pub name: &'static str,
    /// Debian package.
    pub package: &'static str,
    /// What it is for, shown to the person who is asked to install it.
    pub purpose: &'static str,
}

const fn program(name: &'static str, package: &'static str, purpose: &'static str) -> HostProgram {
    HostProgram { name, package, purpose }
}

/// Needed to build the image.
pub const BUILD: &[HostProgram] = &[
    program("cc", "gcc", "links the firmware"),
    program("/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev", "static linking of the firmware"),
    program("dpkg-deb", "dpkg", "unpacks Debian packages"),
    program("apt-get", "apt", "resolves and downloads Debian packages"),
    program("mksquashfs", "squashfs-tools", "writes the root file system"),
];

/// Needed to run units: the demo and scenarios.
pub const RUN: &[HostProgram] = &[
    program("qemu-system-x86_64", "qemu-system-x86", "runs the units"),
    program("qemu-img", "qemu-utils", "makes the units' disks"),
    program("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf", "UEFI firmware of the units"),
    program("/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf", "UEFI firmware of the units"),
];

/// Needed by tests, besides [`BUILD`] and [`RUN`].
pub const TEST: &[HostProgram] = &[
    program("veritysetup", "cryptsetup-bin", "checks our verity tree against the reference"),
    program("debugfs", "e2fsprogs", "fills a unit's state partition in a test"),
    program("ip", "iproute2", "makes network namespaces for tests of real sockets"),
    program("keepalived", "keepalived", "is what our failover is measured beside"),
];

/// Needed by `cargo xtask fuzz`.
pub const FUZZ: &[HostProgram] =
    &[program("cc", "gcc", "links the fuzz targets"), program("c++", "g++", "compiles libFuzzer")];

/// Needed by `cargo xtask bench`.
pub const BENCH: &[HostProgram] = &[
    program("ip", "iproute2", "makes the network namespaces of the units"),
    program("unshare", "util-linux", "makes the network namespaces of the units"),
    program("keepalived", "keepalived", "is what our failover is measured beside"),
    program("stress-ng", "stress-ng", "loads the machine while the heartbeat's lateness is measured"),
];

/// Exit code when programs are missing and cannot be installed.
pub const EXIT_MISSING: i32 = 2;

/// Makes sure that all programs are there. Installs what is missing; ends the process with [`EXIT_MISSING`] if it cannot.
pub fn ensure(programs: &[HostProgram]) -> anyhow::Result<()> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages(&missing);
    println!("These programs are needed and missing:");
    for program in &missing {
        println!("  {:<34} {} (package {})", program.name, program.purpose, program.package);
    }
    let problem = match package_manager() {
        Some(prefix) => match install(&prefix, &packages) {
            Ok(()) if self::missing(programs).is_empty() => return Ok(()),
            Ok(()) => "the packages were installed, but do not bring the programs".to_owned(),
            Err(problem) => problem,
        },
        None => "neither root nor sudo, or no apt-get, to install them".to_owned(),
    };
    eprintln!("error: {problem}. Install them and try again:\n  apt-get install {}", packages.join(" "));
    std::process::exit(EXIT_MISSING);
}

/// The programs of the list that are not there.
pub fn missing(programs: &[HostProgram]) -> Vec<HostProgram> {
    programs.iter().filter(|program| !found(program.name)).copied().collect()
}

fn found(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).exists();
    }
    // Ordinary users' PATH often lacks the sbin folders.
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .any(|dir| Path::new(dir).join(name).is_file())
}

fn packages(missing: &[HostProgram]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing.iter().map(|program| program.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// The words before `apt-get`, if this user can install at all.
fn package_manager() -> Option<Vec<&'static str>> {
    if !found("apt-get") {
        return None;
    }
    if is_root() {
        return Some(vec![]);
    }
    if !found("sudo") {
        return None;
    }
    // Without a terminal nobody can type a password.
    use std::io::IsTerminal;
    Some(if std::io::stdin().is_terminal() { vec!["sudo"] } else { vec!["sudo", "-n"] })
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").map(|metadata| metadata.uid() == 0).unwrap_or(false)
}

fn install(prefix: &[&str], packages: &[&str]) -> Result<(), String> {
    let how = if prefix.is_empty() { "as root" } else { "through sudo" };
    println!(
        "Installing {how}, because the build or the units cannot do without them: {}",
        packages.join(" ")
    );
    // An update may fail in part (a third-party source that is down) and still serve what is needed.
    let updated = apt(prefix, &["update", "-q"]);
    let mut words = vec!["install", "-y", "-q", "--no-install-recommends"];
    words.extend(packages);
    match (apt(prefix, &words), updated) {
        (Ok(()), _) => Ok(()),
        (Err(problem), Ok(())) => Err(problem),
        (Err(problem), Err(update)) => Err(format!("{problem}, after {update}")),
    }
}

fn apt(prefix: &[&str], words: &[&str]) -> Result<(), String> {
    let mut all: Vec<&str> = prefix.to_vec();
    all.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    all.extend(words);
    let line = all.join(" ");
    let status = Command::new(all[0]).args(&all[1..]).stdin(Stdio::inherit()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed with {status}")),
        Err(error) => Err(format!("`{line}` could not be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_once() {
        let wanted =
            [program("sh", "dash", "a"), program("no-such-1", "pkg", "b"), program("/no/such/2", "pkg", "c")];
        let missing = missing(&wanted);
        assert_eq!(missing.len(), 2);
        assert_eq!(packages(&missing), ["pkg"]);
    }
}
