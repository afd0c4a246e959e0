//! Stage 1, `/init` of the initrd: from the boot loader's words to the verified root (ARCHITECTURE.md "Boot chain").
//! Trusts nothing on the disk but what the root hash covers. Any failure is one line that names slot and cause, then a
//! reboot after [`REBOOT_DELAY`], so that the boot loader's try counter moves on to the other slot.

use crate::cmdline::{self, BLOCK_BYTES, BootArgs};
use crate::console::{chain, now, pause, phase, say};
use crate::plan::{self, Step};
use crate::{board, disk, modules, mounts, verity};
use core::time::Duration;
use rustix::fs::{AtFlags, FileType};
use rustix::mount::MountFlags;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use twinpost_hal_linux::dm;

/// Time for a person to read the console before the reboot.
pub const REBOOT_DELAY: Duration = Duration::from_secs(10);
/// Longest wait for the root partition: USB disks need a few seconds.
const DISK_WAIT: Duration = Duration::from_secs(15);
/// Between two looks at sysfs.
const DISK_LOOK: Duration = Duration::from_millis(20);
/// Where the new root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/newroot";
/// Deepest folder of the initrd that is freed.
const DEPTH_MAX: u32 = 16;

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
enum RootError {
    #[error("no disk has a partition {label} after {} s", DISK_WAIT.as_secs())]
    NoPartition { label: String },
    #[error("cannot read the hash tree of {label}")]
    Read {
        label: String,
        #[source]
        source: io::Error,
    },
    #[error("the hash tree of {label} does not belong to the root hash: the slot is damaged")]
    Tree { label: String },
    #[error("step order: {0} needs the command line")]
    Order(&'static str),
    #[error("cannot {what}")]
    Switch {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Runs the phases; returns only on failure, after the line on the console.
pub fn run() {
    let mut args = None;
    for step in plan::INITRD {
        match execute(step.step, &mut args) {
            Ok(()) => phase(step.name),
            Err(error) => {
                let slot = fs::read_to_string("/proc/cmdline").ok().and_then(|text| cmdline::slot(&text));
                let slot = slot.map_or('?', cmdline::Slot::letter);
                say(&format!("slot {slot} does not boot: {}: {}", step.name, chain(error.as_ref())));
                say(&format!("restarting in {} s", REBOOT_DELAY.as_secs()));
                return;
            }
        }
    }
}

fn execute(step: Step, args: &mut Option<BootArgs>) -> Result<(), Box<dyn Error>> {
    match step {
        Step::KernelTrees => {
            mounts::kernel_trees()?;
            // Every line counts while booting; the kernel would drop them after ten in five seconds.
            let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
        }
        Step::CommandLine => *args = Some(cmdline::parse(&fs::read_to_string("/proc/cmdline")?)?),
        Step::DiskModules => load_disk_modules()?,
        Step::Verity => map_root(args.as_ref().ok_or(RootError::Order("verity"))?)?,
        Step::SwitchRoot => switch_root()?,
        _ => {}
    }
    Ok(())
}

fn load_disk_modules() -> Result<(), Box<dyn Error>> {
    let modules = modules::Modules::of_running_kernel()?;
    let (board, _) = board::chosen().ok_or("no board fits")?;
    for name in &board.disk_modules {
        // A generic board names more drivers than one box has; the wait for the partition decides.
        if let Err(error) = modules.load(name, "") {
            say(&chain(&error));
        }
    }
    for module in twinpost_board::ROOT_DISK_MODULES {
        modules.load(module.name, module.parameters)?;
    }
    Ok(())
}

fn map_root(args: &BootArgs) -> Result<(), Box<dyn Error>> {
    let label = format!("root-{}", args.slot.letter());
    let deadline = now() + DISK_WAIT;
    let mut found = disk::partitions_named(&label);
    while found.is_empty() {
        if now() >= deadline {
            return Err(RootError::NoPartition { label }.into());
        }
        pause(DISK_LOOK);
        found = disk::partitions_named(&label);
    }
    let mut last = RootError::NoPartition { label: label.clone() };
    for partition in found {
        let mut top = vec![0; usize::try_from(BLOCK_BYTES)?];
        let name = format!("{label} ({})", partition.name);
        match File::open(partition.node()).and_then(|file| file.read_exact_at(&mut top, args.hash_offset)) {
            Err(source) => last = RootError::Read { label: name, source },
            Ok(()) if !verity::tree_fits(args, &top) => last = RootError::Tree { label: name },
            Ok(()) => {
                let table = verity::parameters(args, &partition.number);
                let number = dm::map("root", "verity", verity::sectors(args), &table, dm::Access::ReadOnly)?;
                let node = format!("/dev/dm-{number}");
                let _ = std::os::unix::fs::symlink(&node, "/dev/mapper/root");
                mounts::ensure("squashfs", &node, NEW_ROOT, MountFlags::RDONLY, "")?;
                return Ok(());
            }
        }
    }
    Err(last.into())
}

/// Moves the kernel's trees, frees the initrd, makes the new root `/` and becomes its `/sbin/init`.
fn switch_root() -> Result<(), Box<dyn Error>> {
    let failed = |what| move |error: rustix::io::Errno| RootError::Switch { what, source: error.into() };
    for tree in ["/dev", "/proc", "/sys"] {
        rustix::mount::mount_move(tree, format!("{NEW_ROOT}{tree}"))
            .map_err(failed("move the kernel's trees"))?;
    }
    rustix::process::chdir(NEW_ROOT).map_err(failed("enter the new root"))?;
    if let Ok(root) = rustix::fs::stat("/") {
        free("/", root.st_dev, 0);
    }
    rustix::mount::mount_move(".", "/").map_err(failed("move the new root"))?;
    rustix::process::chroot(".").map_err(failed("change root"))?;
    rustix::process::chdir("/").map_err(failed("enter /"))?;
    phase("switch-root");
    let source = std::process::Command::new("/sbin/init").exec();
    Err(RootError::Switch { what: "start /sbin/init", source }.into())
}

/// Frees the memory of the initrd: removes everything on its own file system, nothing beyond.
fn free(folder: &str, device: u64, depth: u32) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(path) = entry.path().into_os_string().into_string() else { continue };
        let Ok(stat) = rustix::fs::lstat(path.as_str()) else { continue };
        if stat.st_dev != device {
            continue;
        }
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_folder && depth < DEPTH_MAX {
            free(&path, device, depth + 1);
        }
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let _ = rustix::fs::unlinkat(rustix::fs::CWD, path.as_str(), flags);
    }
}
