//! Kernel modules that every board needs because of what Twinpost does, not because of the box. The image builder
//! takes its module lists from here and from the board files; `init` loads them. Board modules are in `board.toml`.

/// A kernel module with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Name as `modules.dep` resolves it (`-` and `_` are the same).
    pub name: &'static str,
    /// Parameters, separated by blanks.
    pub parameters: &'static str,
}

const fn plain(name: &'static str) -> Module {
    Module { name, parameters: "" }
}

/// Loaded in the initrd: what turns the root partition into a root file system.
pub const ROOT_DISK_MODULES: &[Module] = &[plain("dm_verity"), plain("squashfs")];

/// Loaded from the verified root, in this order.
pub const SYSTEM_MODULES: &[Module] = &[
    // ext4 asks the kernel's crypto layer for crc32c by name, which no dependency list shows.
    plain("crc32c_generic"),
    plain("ext4"),
    // So does replication for its checksums.
    plain("xxhash_generic"),
    // `minor_count` bounds memory; the helper asks the supervisor before anything is fenced.
    Module { name: "drbd", parameters: "minor_count=2 usermode_helper=/usr/lib/twinpost/drbd-helper" },
    // Replication between the units is encrypted by the kernel itself.
    plain("wireguard"),
    // Transparent mode. There is no modprobe that the kernel could call when the bridge is made.
    plain("bridge"),
    // A copy that is about to be overwritten is read through a snapshot, so that its journal can be replayed.
    plain("dm_snapshot"),
    plain("loop"),
    // Blinking without a process: LED patterns keep their meaning while the CPU is busy.
    plain("ledtrig_timer"),
];
