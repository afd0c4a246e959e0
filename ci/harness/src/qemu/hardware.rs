//! What the kinds of machines are made of, as words of QEMU's command line. The first one is the board `qemu-q35`; the others are boxes
//! that no board file knows, with hardware as unlike as QEMU has it, so that `generic-x86_64` is what runs there
//! (`spec/appliance.md` section 7).

use twinpost_scenario::MachineKind;

/// Stands for the options of a network card in the words of [`network_card`].
pub const CARD: &str = "<card>";
/// PCI slot of port1; the others follow (the board file of `qemu-q35` names ports by these addresses).
const FIRST_NIC_SLOT: usize = 0x10;

/// Value of `-machine`.
pub fn chipset(kind: MachineKind) -> &'static str {
    match kind {
        MachineKind::Q35 | MachineKind::Express => "q35",
        MachineKind::Pc => "pc",
    }
}

/// Who made it, for `-smbios type=1`: what boards are chosen by.
pub fn product(kind: MachineKind) -> &'static str {
    match kind {
        MachineKind::Q35 => "manufacturer=Twinpost,product=Twinpost QEMU q35",
        MachineKind::Pc => "manufacturer=Example,product=Old server",
        MachineKind::Express => "manufacturer=Example,product=New server",
    }
}

/// The device of the system's drive.
pub fn system_drive(kind: MachineKind) -> &'static str {
    match kind {
        MachineKind::Q35 => "virtio-blk-pci,addr=0x8",
        MachineKind::Pc => "ide-hd,bus=ide.0,unit=0,serial=system",
        MachineKind::Express => "nvme,addr=0x8,serial=system",
    }
}

/// The device of the provisioning disk, and the controller that it needs.
pub fn provisioning_drive(kind: MachineKind) -> (Option<&'static str>, &'static str) {
    match kind {
        MachineKind::Q35 => (None, "virtio-blk-pci,addr=0x9"),
        MachineKind::Pc => (None, "ide-hd,bus=ide.1,unit=0"),
        MachineKind::Express => (Some("qemu-xhci,id=usb,addr=0x9"), "usb-storage,bus=usb.0"),
    }
}

/// Further words of its `-drive`: an IDE drive cannot be read-only.
pub fn provisioning_access(kind: MachineKind) -> &'static str {
    if kind == MachineKind::Pc { "" } else { ",readonly=on" }
}

/// The devices of the network card of a port (from 0); [`CARD`] is replaced in the one that is the card.
pub fn network_card(kind: MachineKind, port: usize) -> Vec<String> {
    let slot = FIRST_NIC_SLOT + port;
    match kind {
        MachineKind::Q35 => vec![format!("virtio-net-pci,addr={slot:#x}{CARD}")],
        MachineKind::Pc => vec![format!("e1000,addr={slot:#x}{CARD}")],
        MachineKind::Express => vec![
            format!("pcie-root-port,id=root{port},chassis={port},addr={slot:#x}"),
            format!("e1000e,bus=root{port}{CARD}"),
        ],
    }
}

/// Watchdog, entropy, screen: options and their values.
pub fn others(kind: MachineKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        MachineKind::Q35 => &[("-device", "i6300esb"), ("-device", "virtio-rng-pci")],
        MachineKind::Pc => &[("-device", "i6300esb"), ("-vga", "std")],
        // The strap that lets the chipset's watchdog reset the box; firmware of real boxes sets it.
        MachineKind::Express => &[("-global", "ICH9-LPC.noreboot=false"), ("-vga", "std")],
    }
}
