//! Stage 2, `/sbin/init` of the verified root: the phases of `plan::ROOT` in order. Does not supervise (`run.rs`).

use crate::console::{chain, phase, say};
use crate::plan::{self, OnFailure, Step};
use crate::run::Booted;
use crate::spawn::Terminals;
use crate::{alarm, board, cmdline, disk, filesystem, modules, mounts, network, partition, petting};
use rustix::mount::MountFlags;
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use twinpost_board::Board;
use twinpost_hal::Watchdog as _;
use twinpost_hal_linux::{DeviceWatchdog, Roots};

/// Where modules of watchdogs without hardware come from.
const SOFT_WATCHDOG: &str = "softdog";
/// What that one calls itself.
const SOFT_IDENTITY: &str = "Software Watchdog";

/// Folders that programs expect below the tmpfs mounts.
const FOLDERS: &[&str] = &[
    "/run/twinpost/alarms",
    "/run/etc",
    "/run/lock",
    "/var/lib/drbd",
    "/var/lib/postfix",
    "/var/log",
    "/var/spool",
    "/var/tmp",
    "/dev/disk/by-partlabel",
];

/// Links below the tmpfs mounts, target first. The kernel makes no `/dev/stdout`, and a program that opens it for writing (Postfix's
/// log) would make a file there, in memory and without bound.
const LINKS: &[(&str, &str)] = &[
    ("/run", "/var/run"),
    ("/run/lock", "/var/lock"),
    ("/proc/self/mounts", "/run/etc/mtab"),
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Files of the writable part of `/etc` until `had` writes better ones.
const FILES: &[(&str, &str)] = &[
    ("/run/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("/run/etc/hostname", "twinpost\n"),
    ("/run/etc/resolv.conf", ""),
];

/// What the phases find out.
#[derive(Debug, Default)]
struct Boot {
    board: Option<Board>,
    modules: modules::Modules,
    watchdog: Option<DeviceWatchdog>,
    disk: Option<(String, u64)>,
    durable_log: bool,
}

type Outcome = Result<(), Box<dyn Error>>;

/// Runs the phases before the services.
///
/// # Errors
/// The name of the phase that cannot be done without; it is on the console already.
pub fn run() -> Result<Booted, &'static str> {
    let mut boot = Boot::default();
    for step in plan::ROOT.iter().filter(|phase| phase.step != Step::Services) {
        if let Some(watchdog) = &mut boot.watchdog {
            let _ = watchdog.pet();
        }
        match boot.execute(step.step) {
            Ok(()) => phase(step.name),
            Err(error) => {
                let cause = chain(error.as_ref());
                match step.on_failure {
                    OnFailure::Alarm(name) => {
                        alarm::raise(name, &format!("{cause}; {}", alarm::advice(name)));
                    }
                    OnFailure::OtherSlot => {
                        say(&format!("{}: {cause}", step.name));
                        return Err(step.name);
                    }
                }
            }
        }
    }
    let board = boot.board.ok_or("board")?;
    let slot = fs::read_to_string("/proc/cmdline").ok().and_then(|text| cmdline::slot(&text));
    let console = Some(board.console).filter(|name| has_terminal(name));
    Ok(Booted {
        terminals: Terminals { console, screen: board.screen, machine: board.machine_console },
        watchdog: boot.watchdog,
        durable_log: boot.durable_log,
        slot,
    })
}

impl Boot {
    fn execute(&mut self, step: Step) -> Outcome {
        match step {
            Step::Mounts => mount_all()?,
            Step::Board => self.choose_board()?,
            Step::Settings => settings()?,
            Step::Watchdog => self.arm_watchdog()?,
            Step::Modules => self.load_modules()?,
            Step::Partitions => self.make_partitions()?,
            Step::State => self.provide("state", "/state")?,
            Step::Log => {
                self.provide("log", "/log")?;
                self.durable_log = true;
            }
            Step::Network => network::apply(self.board()?)?,
            _ => {}
        }
        Ok(())
    }

    fn board(&self) -> Result<&Board, Box<dyn Error>> {
        Ok(self.board.as_ref().ok_or("no board")?)
    }

    fn choose_board(&mut self) -> Outcome {
        let (board, text) = board::chosen().ok_or("no board fits")?;
        fs::write(board::CHOSEN, text)?;
        say(&format!("board {} ({})", board.id, board.tier.name()));
        self.board = Some(board);
        Ok(())
    }

    fn arm_watchdog(&mut self) -> Outcome {
        self.modules = modules::Modules::of_running_kernel()?;
        let mut missing = Vec::new();
        for wanted in &self.board()?.watchdogs {
            match self.arm_one(wanted) {
                Ok(watchdog) => {
                    self.watchdog = Some(watchdog);
                    return Ok(());
                }
                Err(error) => missing.push(chain(error.as_ref())),
            }
        }
        let causes = if missing.is_empty() { "the board has none".to_owned() } else { missing.join("; ") };
        say(&format!("no hardware watchdog, the kernel's own has to do: {causes}"));
        let soft = twinpost_board::Watchdog {
            modules: vec![SOFT_WATCHDOG.to_owned()],
            identity: SOFT_IDENTITY.to_owned(),
            countdowns: 1,
        };
        self.watchdog = Some(self.arm_one(&soft)?);
        Ok(())
    }

    fn arm_one(&self, wanted: &twinpost_board::Watchdog) -> Result<DeviceWatchdog, Box<dyn Error>> {
        for module in &wanted.modules {
            self.modules.load(module, "")?;
        }
        let watchdog = DeviceWatchdog::find(&Roots::default(), &wanted.identity)?;
        let mut watchdog = watchdog.with_countdowns(wanted.countdowns);
        let timeout = watchdog.arm(petting::TIMEOUT_BOOT)?;
        say(&format!("watchdog {} armed, {} s", wanted.identity, timeout.as_secs()));
        Ok(watchdog)
    }

    /// Loads all; the first failure is the result, but only modules that the system needs count.
    fn load_modules(&mut self) -> Outcome {
        let mut result = Ok(());
        for module in twinpost_board::SYSTEM_MODULES {
            if let Err(error) = self.modules.load(module.name, module.parameters)
                && result.is_ok()
            {
                result = Err(error.into());
            }
        }
        for name in &self.board()?.modules {
            if let Err(error) = self.modules.load(name, "") {
                say(&chain(&error));
            }
        }
        result
    }

    fn make_partitions(&mut self) -> Outcome {
        let root = disk::below_root().ok_or(partition::PartitionError::NoDisk)?;
        let name = disk::disk_of(&root).ok_or(partition::PartitionError::NoDisk)?;
        let sector_bytes = disk::sector_bytes(&name);
        let path = Path::new("/dev").join(&name);
        self.disk = Some((name.clone(), sector_bytes));
        // Links first: without them state and log would not be found when the table cannot be extended.
        partition::link(&name, sector_bytes)?;
        let (made, layout) = partition::make(&path, sector_bytes)?;
        if !made.is_empty() {
            partition::announce(&path, sector_bytes, &made)?;
            partition::link(&name, sector_bytes)?;
            let names: Vec<&str> = made.iter().map(|(_, new)| new.name).collect();
            say(&format!("made {} on {name}", names.join(", ")));
        }
        if layout.no_room.is_empty() {
            Ok(())
        } else {
            let (names, lacking_mib) = (layout.no_room.join(", "), layout.lacking_mib);
            Err(partition::PartitionError::NoRoom { names, lacking_mib }.into())
        }
    }

    fn provide(&self, name: &'static str, target: &str) -> Outcome {
        let (disk, sector_bytes) = self.disk.as_ref().ok_or(partition::PartitionError::NoDisk)?;
        Ok(filesystem::provide(name, target, &Path::new("/dev").join(disk), *sector_bytes)?)
    }
}

/// Whether the box has this terminal. The kernel makes nodes also for serial ports that are not there; their type is 0.
fn has_terminal(name: &str) -> bool {
    let kind = fs::read_to_string(Path::new("/sys/class/tty").join(name).join("type"));
    let there = kind.map_or(true, |kind| kind.trim() != "0");
    if !there {
        say(&format!("this box has no {name}"));
    }
    there
}

fn mount_all() -> Outcome {
    let quick = MountFlags::NOSUID | MountFlags::NODEV;
    mounts::kernel_trees()?;
    mounts::ensure("tmpfs", "run", "/run", quick, "mode=0755")?;
    mounts::ensure("tmpfs", "tmp", "/tmp", quick, "mode=1777,size=25%")?;
    mounts::ensure("tmpfs", "var", "/var", quick, "mode=0755,size=25%")?;
    for folder in FOLDERS {
        fs::create_dir_all(folder)?;
    }
    for (path, text) in FILES {
        fs::write(path, text)?;
    }
    for (target, place) in LINKS {
        symlink(target, place)?;
    }
    fs::set_permissions("/var/tmp", std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    rustix::system::sethostname(b"twinpost")?;
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    if let Err(error) = mounts::ensure("cgroup2", "cgroup", crate::spawn::CGROUPS, mounts::DATA, "") {
        // Process groups do as well, only less surely.
        say(&chain(&error));
    }
    Ok(())
}

/// Whether QEMU's translator (TCG) stands for the processor: the signature of the hypervisor leaf tells.
fn emulated() -> bool {
    use core::arch::x86_64::__cpuid;
    /// Leaf 1, ECX: there is a hypervisor (Intel SDM volume 2A, CPUID; reserved for its use).
    const HYPERVISOR: u32 = 1 << 31;
    let leaf = __cpuid(0x4000_0000);
    let name = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    __cpuid(1).ecx & HYPERVISOR != 0 && name.as_flattened() == b"TCGTCGTCGTCG"
}

fn settings() -> Outcome {
    if emulated() {
        // The emulator keeps translated code by virtual address: with random addresses every new process is translated anew, which
        // costs seconds of processor time at each start of the mail servers. Only there: real machines and KVM keep them random.
        let done = fs::write("/proc/sys/kernel/randomize_va_space", "0").is_ok();
        say(&format!(
            "the processor is emulated: addresses of programs are randomised: {}",
            if done { "no" } else { "yes" }
        ));
    }
    let refused = network::apply_settings();
    if refused.is_empty() { Ok(()) } else { Err(format!("the kernel refuses {}", refused.join(", ")).into()) }
}
