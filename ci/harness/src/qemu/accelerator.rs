//! KVM or emulation. KVM is used only after a real boot under it worked on this machine: it may open and still not run a stock
//! kernel (`spec/appliance.md` section 8). The answer is kept in a file, since the probe takes up to half a minute.

use super::command::{Layout, MachineSettings};
use super::disk::factory_disk;
use super::machine::Machine;
use crate::clock::wait_until;
use std::path::Path;
use std::time::Duration;
use twinpost_scenario::{Firmware, MachineKind};

/// Under working KVM services are started within a few seconds.
const BOOT_WITHIN: Duration = Duration::from_secs(40);
/// What the console shows when init has come as far as services; the boot loader's lines prove nothing about the kernel.
const PROOF: &str = "twinpost: services at";

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Emulation.
    Tcg,
    /// Virtualisation by the processor.
    Kvm,
}

impl Accelerator {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// Chooses KVM if a boot of `image` under it worked, now or earlier (`cache` remembers for this image).
#[must_use]
pub fn choose(image: &Path, scratch: &Path, cache: &Path) -> Accelerator {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Accelerator::Tcg;
    }
    match std::fs::read_to_string(cache).as_deref().map(str::trim) {
        Ok("kvm") => return Accelerator::Kvm,
        Ok("tcg") => return Accelerator::Tcg,
        _ => {}
    }
    let chosen = if boots_under_kvm(image, scratch) { Accelerator::Kvm } else { Accelerator::Tcg };
    // Without the file the probe is only repeated.
    let _ = std::fs::write(cache, chosen.name());
    chosen
}

fn boots_under_kvm(image: &Path, scratch: &Path) -> bool {
    let layout = Layout { folder: scratch.join("kvm-probe") };
    let _ = std::fs::remove_dir_all(&layout.folder);
    if std::fs::create_dir_all(&layout.folder).is_err() || factory_disk(image, &layout.disk()).is_err() {
        return false;
    }
    let (firmware, kind) = (Firmware::Bios, MachineKind::Q35);
    let settings = MachineSettings { memory_mib: 512, processors: 1, firmware, kind, kvm: true };
    let log = layout.console_log();
    let mut machine = Machine::new("kvm-probe", layout, settings, Vec::new());
    machine.power_on(&[]).is_ok()
        && wait_until(BOOT_WITHIN, Duration::from_millis(200), || {
            let console = std::fs::read(&log).unwrap_or_default();
            String::from_utf8_lossy(&console).contains(PROOF)
        })
}
