//! A drive that was replaced by a smaller one: the unit whose copy does not fit must stay without a role, both units say what is wrong and
//! what to fit, and the service does not move.

use super::pair::never_primary;
use super::{FaultError, expect, expect_alarm, summary, with_pair};
use crate::pair::{Pair, PairSettings};
use crate::qemu::factory_disk;
use crate::scenario::{StartLimits, bring_up};
use std::fs::File;
use std::time::Duration;
use twinpost_types::{DiskState, EffectiveMode};

/// The new drive of unit b, bytes: 1 GiB less than the one before.
const SMALL_DRIVE_BYTES: u64 = 3 * 1024 * 1024 * 1024;
/// A unit boots from a new drive and meets its peer, under emulation on a shared machine.
const JOIN_WITHIN: Duration = Duration::from_secs(240);
/// What both units say about it.
const ADVICE: [&str; 3] = ["is not replicated", "cannot be smaller", "fit a drive at least as large"];

/// Runs the story. Tells what was seen.
///
/// # Errors
/// See [`FaultError`].
pub fn smaller_drive(settings: &PairSettings) -> Result<String, FaultError> {
    with_pair(settings, |pair| story(pair, settings))
}

fn story(pair: &mut Pair, settings: &PairSettings) -> Result<String, FaultError> {
    bring_up(pair, StartLimits::default(), |_| true)?;
    pair.power_cut(1)?;
    let disk = pair.layout(1).disk();
    factory_disk(&settings.image, &disk)?;
    let shrunk = File::options().write(true).open(&disk).and_then(|file| file.set_len(SMALL_DRIVE_BYTES));
    shrunk.map_err(|source| FaultError::Damage { what: "shrink", path: disk, source })?;
    pair.power_on(1)?;
    let b = expect_alarm("b", pair.watch(1), JOIN_WITHIN, &ADVICE)?;
    expect_alarm("a", pair.watch(0), JOIN_WITHIN, &ADVICE)?;
    never_primary(pair, 1, "took the role with an empty, smaller volume")?;
    let a = expect("a", pair.watch(0), JOIN_WITHIN, "it still serves", |status| {
        let whole = status.volumes.iter().all(|volume| volume.local == DiskState::UpToDate);
        status.effective == EffectiveMode::Primary && whole && status.mail.smtp
    })?;
    if b.volumes.iter().any(|volume| volume.local == DiskState::UpToDate) {
        let what = "calls an empty volume up to date".to_owned();
        return Err(FaultError::Forbidden { unit: "b", what, seen: summary(Some(&b)) });
    }
    Ok(format!("a: {:?}; b: {:?}", a.alarms, b.alarms))
}
