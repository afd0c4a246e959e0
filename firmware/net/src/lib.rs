//! The network side of a unit: raw heartbeat sockets, carriers, addresses, the leased virtual IPs with their announcements,
//! sockets for neighbour probes. Executes and reports; decides nothing (`ha` does). Linux only: AF_PACKET, rtnetlink, sysfs.
//! `spec/ha.md` sections 3, 5 and 6.
//!
//! ```text
//! heartbeat thread (SCHED_FIFO)      poll(raw links, raw service, LinkWatch)
//!    │ Pulse::beat                     wire::Session, wire::neighbour, ha, Announcer: no allocation
//!    ▼
//! lease thread (SCHED_FIFO, lower)   every 250 ms: refresh the virtual IPs while the pulse is fresh
//! executors (tokio)                  address, greeting, wireguard, LeaseKeeper::claim and release
//! ```
//!
//! # Example
//!
//! ```
//! use twinpost_net::announce::AnnounceSchedule;
//! use twinpost_types::Instant;
//!
//! let mut schedule = AnnounceSchedule::default();
//! schedule.start(Instant(1_000_000));
//! assert!(schedule.due(Instant(1_000_000)), "the first at once");
//! assert_eq!(schedule.next_deadline(), Some(Instant(1_050_000)), "the second 50 ms after it");
//! ```
//!
//! # Unsafe code
//!
//! `unsafe` is used where rustix has no safe call: binding AF_PACKET sockets, attaching their filters, `SO_PRIORITY`,
//! `SIOCGIFHWADDR`, `sched_setscheduler` and `bpf`. Each place says why it is sound.
#![allow(clippy::disallowed_methods, reason = "an IO crate: it reads the clock and waits for the network")]

pub mod address;
pub mod announce;
pub mod bridge;
pub mod gate;
pub mod greeting;
pub mod lease;
pub mod links;
mod netlink;
mod port;
pub mod raw;
pub mod rt;
pub mod wireguard;

pub use address::Cidr;
pub use port::{Port, PortError};
