//! Bad input on real units: foreign, forged and replayed datagrams, unequal drives, a smaller replacement drive, a full state partition,
//! an unreadable mail volume, different HA passwords, provisioning disks that are none, mailboxes that move to a server. Each function is one test: it tells what it saw, or what was not as it must
//! be. That every message says what to do is part of each. Boots are expensive under emulation, so one pair meets several faults in turn.
//!
//! What happens to altered images is `boot`'s; what units do when power and cables fail is written in scenario files.

mod damage;
mod drive;
mod frames;
mod moved;
mod pair;
mod password;
mod provisioning;

pub use drive::smaller_drive;
pub use moved::moved_to_nfs;
pub use pair::foreign_input;
pub use password::wrong_password;
pub use provisioning::bad_provisioning;

use crate::clock::{Micros, wait_until};
use crate::pair::{Pair, PairError, PairSettings};
use crate::qemu::{DiskError, MachineError};
use crate::scenario::{StartError, write_events};
use crate::watch::Watch;
use std::path::PathBuf;
use std::time::Duration;
use twinpost_api::Status;

/// Time between two looks at a unit.
const EVERY: Duration = Duration::from_millis(100);

/// One test.
pub struct Test {
    /// What holds when it passes.
    pub name: &'static str,
    /// Folder of its run below that of all runs; short, for the paths of sockets.
    pub folder: &'static str,
    /// Left to `cargo xtask test full`: with it the default tests would take too long.
    pub only_in_full: bool,
    /// Runs it; tells what was seen.
    pub run: fn(&PairSettings) -> Result<String, FaultError>,
}

/// All of them, the cheapest first.
pub const ALL: [Test; 5] = [
    Test {
        name: "bad provisioning disks change nothing and are explained",
        folder: "bad-provisioning",
        only_in_full: false,
        run: bad_provisioning,
    },
    Test {
        name: "different HA passwords are named by both units, and none storms",
        folder: "wrong-password",
        only_in_full: false,
        run: wrong_password,
    },
    Test {
        name: "a smaller replacement drive is named by both units, and the service stays",
        folder: "smaller-drive",
        only_in_full: true,
        run: smaller_drive,
    },
    Test {
        name: "mailboxes that were replicated move to an NFS server, each message once",
        folder: "moved-to-nfs",
        only_in_full: true,
        run: moved_to_nfs,
    },
    Test {
        name: "foreign datagrams, unequal drives, full state, garbled volume",
        folder: "foreign-input",
        only_in_full: false,
        run: foreign_input,
    },
];

/// Why a test failed.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The bench failed.
    #[error("the units cannot be set up or controlled")]
    Pair(#[from] PairError),
    /// The pair did not come up before anything was done to it.
    #[error("no pair to begin with")]
    Start(#[from] StartError),
    /// QEMU failed.
    #[error("a unit cannot be run")]
    Machine(#[from] MachineError),
    /// A disk could not be made.
    #[error("no disk for a unit")]
    Disk(#[from] DiskError),
    /// A disk could not be damaged as planned.
    #[error("cannot {what} {path}")]
    Damage {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something did not happen in time.
    #[error("{unit}: {what} was expected within {limit:?}; {seen}")]
    NotSeen {
        /// Unit.
        unit: &'static str,
        /// What was expected.
        what: String,
        /// How long was waited.
        limit: Duration,
        /// What the unit said last.
        seen: String,
    },
    /// Something happened that must not.
    #[error("{unit}: {what}; {seen}")]
    Forbidden {
        /// Unit.
        unit: &'static str,
        /// What happened.
        what: String,
        /// What the unit said last.
        seen: String,
    },
}

/// Prepares a pair that is off, lets `story` happen to it, and leaves both event logs in the folder of the run.
fn with_pair(
    settings: &PairSettings,
    story: impl FnOnce(&mut Pair) -> Result<String, FaultError>,
) -> Result<String, FaultError> {
    let mut pair = Pair::prepare(settings)?;
    let zero = Micros::now();
    let told = story(&mut pair);
    let path = settings.folder.join("events.txt");
    let written = std::fs::write(&path, write_events(&pair, zero));
    let told = told?;
    written.map_err(|source| FaultError::Damage { what: "write", path, source })?;
    Ok(told)
}

/// Waits until a status that was asked for from now on is as wanted.
fn expect(
    unit: &'static str,
    watch: &Watch,
    limit: Duration,
    what: &str,
    mut wanted: impl FnMut(&Status) -> bool,
) -> Result<Status, FaultError> {
    let began = Micros::now();
    let mut last = None;
    let seen = wait_until(limit, EVERY, || {
        last = watch.status(began).or(last.take());
        last.as_ref().is_some_and(&mut wanted)
    });
    match last {
        Some(status) if seen => Ok(status),
        last => Err(FaultError::NotSeen { unit, what: what.to_owned(), limit, seen: summary(last.as_ref()) }),
    }
}

/// Waits for an alarm that holds all of `words`.
fn expect_alarm(
    unit: &'static str,
    watch: &Watch,
    limit: Duration,
    words: &[&str],
) -> Result<Status, FaultError> {
    expect(unit, watch, limit, &format!("an alarm with {words:?}"), |status| {
        status.alarms.iter().any(|alarm| words.iter().all(|word| alarm.contains(word)))
    })
}

/// What a unit says of itself, for reports of failures.
fn summary(status: Option<&Status>) -> String {
    status.map_or_else(
        || "it gives no status (see its console log)".to_owned(),
        |status| {
            format!(
                "{} is {} ({}), dropped {:?}, alarms {:?}",
                status.host, status.effective, status.why, status.dropped, status.alarms
            )
        },
    )
}
