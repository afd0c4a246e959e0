//! The parts of `had`, the HA supervisor: reads the configuration, brings up the network, prepares the volumes, runs the decisions
//! in the heartbeat thread and carries out what they ask for. Decides nothing itself. `spec/ha.md`, ARCHITECTURE.md.
//!
//! ```text
//! main thread (tokio, one thread)
//!   outputs   heartbeat thread ─▶ steps, fence answers, notes, LED
//!   steps     one at a time ─▶ storage, mail, net, init ─▶ StepDone
//!   volumes   DRBD events ─▶ Volumes            fence   DRBD helper ─▶ FenceAsked
//!   checks    ports, drives, own mail, peer's services ─▶ Checked
//!   face      api socket                        minder  twice a second: proof of life, mail check, alarms
//!   control   the other unit, hb-base-port+1, both ways
//! heartbeat   SCHED_FIFO, no allocation         lease   SCHED_FIFO, refreshes the virtual IPs
//! blocking    mounts, fsync (tokio's blocking threads)      syncer  syncfs of the queue volume
//! ```
//!
//! A library, so that the benchmark of the failover runs the same heartbeat thread as the appliance: what is public here is
//! what it needs, and the program's entry.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "the shell of the decisions: it reads the clock and runs programs"
)]

pub mod channel;
mod checks;
mod claims;
pub mod control;
mod executor;
mod face;
mod handover;
pub mod heartbeat;
mod host;
mod leftovers;
mod main_unit;
mod minder;
pub mod network;
mod provision;
mod room;
pub mod shared;
mod start;
mod status;
mod sync;
mod tasks;
mod tunnel;
mod upkeep;
pub mod words;

pub use provision::chain;
pub use start::{HeartbeatParts, StartError, assemble_heartbeat, start_heartbeat, supervise};
