//! `had`, the HA supervisor: reads the configuration, brings up the network, prepares the volumes, runs the decisions in
//! the heartbeat thread and carries out what they ask for. Under the name `drbd-helper` it is the program that the DRBD module
//! calls. Decides nothing itself. `spec/ha.md`, ARCHITECTURE.md.
//!
//! ```text
//! main thread (tokio, one thread)
//!   outputs   heartbeat thread ─▶ steps, fence answers, notes, LED
//!   steps     one at a time ─▶ storage, mail, net, init ─▶ StepDone
//!   volumes   DRBD events ─▶ Volumes            fence   DRBD helper ─▶ FenceAsked
//!   face      api socket                        minder  twice a second: proof of life, mail check, alarms
//! heartbeat   SCHED_FIFO, no allocation         lease   SCHED_FIFO, refreshes the virtual IPs
//! blocking    mounts, fsync (tokio's blocking threads)      syncer  syncfs of the queue volume
//! ```
//!
//! Exit codes: 0 never in service; 1 start failed (init starts it again); as `drbd-helper` those of drbd.conf(5).
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "the shell of the decisions: it reads the clock and runs programs"
)]

mod channel;
mod executor;
mod face;
mod heartbeat;
mod host;
mod main_unit;
mod minder;
mod network;
mod provision;
mod room;
mod shared;
mod start;
mod status;
mod tasks;
mod words;

use std::path::Path;
use std::process::ExitCode;

/// The name under which the DRBD module calls this program.
const HELPER_NAME: &str = "drbd-helper";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|file| file == HELPER_NAME) {
        return ExitCode::from(twinpost_storage::fence::helper_main(args));
    }
    match start::supervise() {
        Ok(never) => never,
        Err(error) => {
            eprintln!("had: cannot start: {}", provision::chain(&error));
            ExitCode::FAILURE
        }
    }
}
