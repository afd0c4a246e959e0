//! The command line of QEMU 7.2 for one unit. Pure: a list of words, so that it can be read, printed and tested.

use super::hardware;
use std::path::{Path, PathBuf};
use twinpost_scenario::{Firmware, MachineKind};

/// The unit's one drive, as scenarios and QEMU's control socket name it.
pub const SYSTEM_DISK: &str = "system";
/// Its healthy image in QEMU's block graph.
pub const SYSTEM_NODE: &str = "system-image";
/// The device that the guest sees.
pub const SYSTEM_DEVICE: &str = "system-device";
/// OVMF from Debian's package `ovmf`.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// The variable store that goes with it; each unit has a copy of its own.
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The two sockets of one network port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicSocket {
    /// QEMU's own.
    pub local: PathBuf,
    /// The switch's.
    pub remote: PathBuf,
    /// Ethernet address.
    pub mac: [u8; 6],
}

/// Where the files of one unit are.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Folder of everything below; short, since socket paths end at 108 bytes.
    pub folder: PathBuf,
}

impl Layout {
    /// The unit's disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }
    /// The provisioning disk.
    #[must_use]
    pub fn provisioning(&self) -> PathBuf {
        self.folder.join("provision.img")
    }
    /// The UEFI variable store.
    #[must_use]
    pub fn vars(&self) -> PathBuf {
        self.folder.join("ovmf-vars.fd")
    }
    /// Control socket.
    #[must_use]
    pub fn qmp(&self) -> PathBuf {
        self.folder.join("qmp")
    }
    /// Console (first serial port) for people.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.folder.join("console")
    }
    /// What the console said.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.folder.join("console.log")
    }
    /// Machine console (first virtio console).
    #[must_use]
    pub fn machine(&self) -> PathBuf {
        self.folder.join("machine")
    }
    /// What QEMU itself said.
    #[must_use]
    pub fn qemu_log(&self) -> PathBuf {
        self.folder.join("qemu.log")
    }
}

/// How a machine is made.
#[derive(Clone, Copy, Debug)]
pub struct MachineSettings {
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Processors.
    pub processors: u32,
    /// Boot firmware.
    pub firmware: Firmware,
    /// Its hardware.
    pub kind: MachineKind,
    /// True with KVM, false with emulation.
    pub kvm: bool,
}

/// The words after `qemu-system-x86_64`. The machine starts stopped, so that carriers can be set before it runs.
#[must_use]
pub fn arguments(name: &str, layout: &Layout, machine: MachineSettings, nics: &[NicSocket]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-name", format!("twinpost-{name}"));
    add("-machine", hardware::chipset(machine.kind).into());
    if machine.kvm {
        add("-accel", "kvm".into());
        add("-cpu", "host".into());
    } else {
        add("-accel", "tcg,thread=multi".into());
        // Without vector instructions the guest takes scalar code, which is what emulation does fast; rdrand seeds the kernel.
        add("-cpu", "qemu64,+rdrand".into());
    }
    add("-m", machine.memory_mib.to_string());
    add("-smp", machine.processors.to_string());
    add("-display", "none".into());
    add("-smbios", format!("type=1,{},serial={name}", hardware::product(machine.kind)));
    if machine.firmware == Firmware::Ovmf {
        add("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}"));
        add("-drive", format!("if=pflash,format=raw,unit=1,file={}", path(&layout.vars())));
    }
    // Host flushes cost much and prove nothing here: killing QEMU loses no page of the host's cache anyway.
    let drive =
        |id: &str, file: PathBuf| format!("if=none,id={id},format=raw,cache=unsafe,file={}", path(&file));
    let system = drive(SYSTEM_DISK, layout.disk());
    add("-drive", format!("{system},discard=unmap,node-name={SYSTEM_NODE}"));
    let device = hardware::system_drive(machine.kind);
    add("-device", format!("{device},id={SYSTEM_DEVICE},drive={SYSTEM_DISK},bootindex=0"));
    if layout.provisioning().exists() {
        let (controller, device) = hardware::provisioning_drive(machine.kind);
        let access = hardware::provisioning_access(machine.kind);
        add("-drive", format!("{}{access}", drive("provision", layout.provisioning())));
        controller.iter().for_each(|controller| add("-device", (*controller).to_owned()));
        add("-device", format!("{device},drive=provision"));
    }
    for (index, nic) in nics.iter().enumerate() {
        let (local, remote) = (path(&nic.local), path(&nic.remote));
        let port = index + 1;
        add(
            "-netdev",
            format!(
                "dgram,id=port{port},local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"
            ),
        );
        let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
        for device in hardware::network_card(machine.kind, index) {
            let card = format!(",netdev=port{port},mac={mac},romfile=");
            add("-device", device.replace(hardware::CARD, &card));
        }
    }
    for (option, value) in hardware::others(machine.kind) {
        add(option, (*value).to_owned());
    }
    add("-action", "watchdog=reset".into());
    let console = format!("path={},logfile={}", path(&layout.console()), path(&layout.console_log()));
    add("-chardev", format!("socket,id=console,server=on,wait=off,logappend=on,{console}"));
    add("-serial", "chardev:console".into());
    if machine.kind == MachineKind::Q35 {
        add("-chardev", format!("socket,id=machine,server=on,wait=off,path={}", path(&layout.machine())));
        // A virtio console moves a line at once; a serial port costs the emulated processor an exit for each byte.
        add("-device", "virtio-serial-pci".into());
        add("-device", "virtconsole,chardev=machine".into());
    }
    add("-qmp", format!("unix:{},server=on,wait=off", path(&layout.qmp())));
    words.extend(["-nodefaults", "-no-user-config", "-S"].map(str::to_owned));
    words
}

/// QEMU doubles commas inside option values.
fn path(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: MachineKind, folder: &str) -> String {
        let layout = Layout { folder: PathBuf::from(folder) };
        let nic = |n| NicSocket { local: "/l".into(), remote: "/r".into(), mac: [0x52, 0x54, 0, 0xA, 0, n] };
        let machine =
            MachineSettings { memory_mib: 768, processors: 1, firmware: Firmware::Ovmf, kind, kvm: false };
        arguments("a", &layout, machine, &[nic(1), nic(2), nic(3), nic(4)]).join(" ")
    }

    #[test]
    fn ports_sit_where_the_board_looks_for_them() {
        let line = line(MachineKind::Q35, "/nowhere/a,b");
        assert!(line.contains("addr=0x10,netdev=port1,mac=52:54:00:0a:00:01"), "{line}");
        assert!(line.contains("addr=0x13,netdev=port4,mac=52:54:00:0a:00:04"), "{line}");
        assert!(line.contains("file=/nowhere/a,,b/disk.img"), "{line}");
        assert!(line.contains("tcg,thread=multi") && line.contains("OVMF_CODE_4M") && line.ends_with("-S"));
        assert!(line.contains("virtconsole"));
    }

    #[test]
    fn boxes_that_no_board_knows_have_no_virtio_and_no_known_name() {
        let board = twinpost_scenario::MachineKind::ALL.map(|(_, kind)| kind);
        for kind in board.into_iter().filter(|kind| *kind != MachineKind::Q35) {
            let line = line(kind, "/nowhere");
            assert!(!line.contains("virt") && !line.contains("Twinpost QEMU"), "{line}");
            assert!(line.contains("netdev=port4,mac=52:54:00:0a:00:04"), "{line}");
        }
    }
}
