//! The system test bench: units as QEMU processes, their power and cables, the hosts around them (mail client, next hop), the
//! ledger of every message, scenario files, and the demo. Runs as an ordinary user. The Ethernet is `twinpost-switch`; building
//! images is `xtask`'s.
//!
//! ```text
//!  scenario::run ─▶ Pair ─▶ Unit a, Unit b (QEMU: QMP, machine console, disks)
//!       │             ├──▶ Lan service, Lan management, Lan cable 1, Lan cable 2
//!       │             ├──▶ Host client (Load, Probe, Mailbox), Host next hop (NextHop) ─▶ Ledger
//!       │             └──▶ Host nas (Nas), where a scenario asks for it
//!       └─▶ Watch a, Watch b: poll status and events over the machine consoles
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "the test bench is a shell: it runs programs, reads clocks and waits"
)]

pub mod attach;
pub mod boot;
pub mod clock;
pub mod console;
pub mod demo;
pub mod faults;
pub mod host;
pub mod mail;
pub mod nas;
pub mod pair;
pub mod provision;
pub mod qemu;
pub mod scenario;
pub mod watch;
