//! One unit as a QEMU process: its command line (a value that can be printed), its disks, its control socket, its power.

mod accelerator;
mod command;
mod disk;
mod hardware;
mod machine;
mod qmp;

pub use accelerator::{Accelerator, choose};
pub use command::{Layout, MachineSettings, NicSocket, SYSTEM_DISK, arguments};
pub use disk::{DiskError, factory_disk, provisioning_disk};
pub use machine::{Machine, MachineError};
pub use qmp::{Qmp, QmpError};
