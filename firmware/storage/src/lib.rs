//! Storage of a unit: durable state, the replicated volumes (DRBD 8.4), mounting, fence questions. Carries out what
//! the decisions asked for and reports what is; decides nothing about roles (`spec/appliance.md` section 4,
//! `spec/mail.md` "Durability").
//!
//! ```text
//!  had ─┬─ durable::Store ─────────── /state (two copies, epoch slots)
//!       ├─ drbd::Drbd ─ tool (child, hard limit) ─ drbdsetup-84, drbdmeta
//!       ├─ drbd monitor task ─ events2 child ─▶ watch::Receiver<[VolumeReport; 2]>
//!       ├─ volume::{mount, unmount} ─ syscalls, mkfs.ext4 on fresh volumes, or nfs: a server's export
//!       ├─ stale::StaleCopies ─ loop, dm snapshot, mount: the own copies of a unit that is not promoted
//!       ├─ syncer thread ─ syncfs of the queue volume every 200 ms
//!       └─ fence::FenceListener ◀─ /run/twinpost/fence.sock ◀─ drbd-helper (fence::helper_main) ◀─ kernel
//! ```
//!
//! Without `unsafe`: system calls go through rustix.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "an IO crate: it runs programs and waits on real time limits")]

pub mod drbd;
pub mod durable;
pub mod fence;
pub mod nfs;
pub mod partition;
pub mod stale;
pub mod syncer;
mod tool;
pub mod volume;

pub use tool::CommandError;
