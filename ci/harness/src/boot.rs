//! Boots of a single unit that prove what the boot chain does with an altered image (`spec/appliance.md` section 2): a flipped byte in
//! root A boots slot B, or stops with a clear line on the console; altered code never runs.

use crate::clock::{Micros, wait_until};
use crate::console::Console;
use crate::pair::PairSettings;
use crate::provision;
use crate::qemu::{
    DiskError, Layout, Machine, MachineError, MachineSettings, factory_disk, provisioning_disk,
};
use crate::watch::Watch;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twinpost_scenario::MachineKind;

/// Three tries of slot A that end in a panic of 10 s each, then slot B up to its supervisor, under emulation.
const LIMIT: Duration = Duration::from_secs(360);
/// Bytes from the start of a squashfs to its time of making: read at every mount, of no meaning to it. Only verity notices.
const SQUASHFS_TIME: u64 = 8;
/// What the boot loader says when it starts the other slot.
const OTHER_SLOT: &str = "twinpost: slot B: booting";
/// What the boot loader says when nothing is left to boot.
const STOPPED: &str = "twinpost: NOTHING BOOTABLE";
/// Logical sectors of the image, bytes.
const SECTOR: u64 = 512;

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub enum AlteredError {
    /// The altered disk could not be made.
    #[error("cannot alter the disk {path}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The disk could not be copied.
    #[error("no disk for the unit")]
    Copy(#[from] DiskError),
    /// QEMU failed.
    #[error("the unit cannot be run")]
    Machine(#[from] MachineError),
    /// The unit came up from the altered slot.
    #[error("the supervisor runs from the altered slot A (console: {console})")]
    Runs {
        /// Console log.
        console: PathBuf,
    },
    /// Neither slot B nor a clear line in time.
    #[error("neither slot B nor a clear stop within {limit:?} (console: {console})")]
    Nothing {
        /// The limit.
        limit: Duration,
        /// Console log.
        console: PathBuf,
    },
}

/// Flips one byte in root A and boots. Tells what the unit did.
///
/// # Errors
/// See [`AlteredError`].
pub fn altered_root(settings: &PairSettings) -> Result<String, AlteredError> {
    let layout = Layout { folder: settings.folder.join("a") };
    let disk_error = |source| AlteredError::Disk { path: layout.disk(), source };
    // What an earlier run left; a missing folder is as good.
    let _ = std::fs::remove_dir_all(&layout.folder);
    std::fs::create_dir_all(&layout.folder).map_err(disk_error)?;
    factory_disk(&settings.image, &layout.disk())?;
    provisioning_disk(&provision::script(0, &settings.settings, false), &layout.provisioning())?;
    flip(&layout.disk()).map_err(disk_error)?;

    let machine_settings = MachineSettings {
        memory_mib: settings.memory_mib,
        processors: settings.processors,
        firmware: settings.firmware,
        kind: MachineKind::Q35,
        kvm: settings.kvm,
    };
    let console = layout.console_log();
    let watch = Watch::start(Console::of(&layout, MachineKind::Q35));
    let mut machine = Machine::new("a", layout, machine_settings, Vec::new());
    machine.power_on(&[])?;
    watch.set_powered(true);
    let said = |what: &str| {
        let text = std::fs::read(&console).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(what)
    };
    let began = Micros::now();
    let mut verdict = None;
    wait_until(LIMIT, Duration::from_millis(250), || {
        let runs = watch.status(Micros::default()).is_some();
        let (other, stopped) = (said(OTHER_SLOT), said(STOPPED));
        verdict = match (runs, other, stopped) {
            (true, false, _) => Some(Err(AlteredError::Runs { console: console.clone() })),
            (true, true, _) => Some(Ok("slot B runs instead")),
            (false, _, true) => Some(Ok("the boot loader stopped with a clear line")),
            (false, _, false) => None,
        };
        verdict.is_some()
    });
    let seconds = Micros::now().since(began).as_secs();
    match verdict {
        Some(result) => result.map(|what| format!("{what} after {seconds} s")),
        None => Err(AlteredError::Nothing { limit: LIMIT, console }),
    }
}

fn flip(disk: &Path) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).open(disk)?;
    let at = partition(&file, "root-A")?.start + SQUASHFS_TIME;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1], at)
}

/// Bytes of a GPT partition by name (UEFI specification, section 5.3).
pub(crate) fn partition(disk: &File, name: &str) -> std::io::Result<std::ops::Range<u64>> {
    let mut header = [0; 92];
    disk.read_exact_at(&mut header, SECTOR)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
    let (table, count, size) = (number(&header[72..80]), number(&header[80..84]), number(&header[84..88]));
    for index in 0..count.min(128) {
        let mut entry = [0; 128];
        disk.read_exact_at(&mut entry, table.saturating_mul(SECTOR) + index * size)?;
        let units = entry[56..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let label: String = char::decode_utf16(units.take_while(|unit| *unit != 0)).flatten().collect();
        if label == name {
            let end = number(&entry[40..48]).saturating_add(1);
            return Ok(number(&entry[32..40]).saturating_mul(SECTOR)..end.saturating_mul(SECTOR));
        }
    }
    Err(std::io::Error::other(format!("the image has no partition {name}")))
}
