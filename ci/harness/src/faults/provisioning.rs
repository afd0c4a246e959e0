//! Provisioning disks that are none (`spec/appliance.md`, ARCHITECTURE "Provisioning"): garbage on one unit, a script with an error
//! in line 7 on the other. Both units stay OFF with factory settings and say which disk, which line, and what to do.

use super::{FaultError, expect_alarm, summary, with_pair};
use crate::pair::{Pair, PairSettings, UNITS};
use crate::provision;
use crate::qemu::provisioning_disk;
use std::time::Duration;
use twinpost_api::Status;
use twinpost_switch::Randomness;
use twinpost_types::{ConfiguredMode, EffectiveMode};

/// First boot under emulation on a shared machine.
const LIMIT: Duration = Duration::from_secs(240);
/// Size of the disk with garbage.
const GARBAGE_BYTES: usize = 1024 * 1024;
/// The line of the script that is made wrong, from 1: the address of port1.
const WRONG_LINE: usize = 7;

/// Boots two units with bad provisioning disks. Tells what they said.
///
/// # Errors
/// See [`FaultError`].
pub fn bad_provisioning(settings: &PairSettings) -> Result<String, FaultError> {
    with_pair(settings, |pair| story(pair, settings))
}

fn story(pair: &mut Pair, settings: &PairSettings) -> Result<String, FaultError> {
    let disk = pair.layout(0).provisioning();
    let mut random = Randomness::new(settings.seed);
    let garbage: Vec<u8> =
        std::iter::from_fn(|| Some(random.next_u64().to_le_bytes())).flatten().take(GARBAGE_BYTES).collect();
    std::fs::write(&disk, garbage).map_err(|source| FaultError::Damage {
        what: "write",
        path: disk,
        source,
    })?;
    provisioning_disk(&wrong_script(&settings.settings), &pair.layout(1).provisioning())?;
    pair.power_on(0)?;
    pair.power_on(1)?;
    let garbage = ["HA is off", "vdb", "twinpost.conf", "no tar header", "tar -cf", "reboot"];
    let script = ["vdb", "nothing was applied", "line 7", "column", "ip"];
    for (unit, words) in [&garbage[..], &script[..]].into_iter().enumerate() {
        let status = expect_alarm(UNITS[unit], pair.watch(unit), LIMIT, words)?;
        if !is_untouched(&status) {
            let what = "a bad provisioning disk changed something".to_owned();
            return Err(FaultError::Forbidden { unit: UNITS[unit], what, seen: summary(Some(&status)) });
        }
    }
    let said =
        |unit: usize| pair.watch(unit).status(crate::clock::Micros::default()).map(|status| status.alarms);
    Ok(format!("a: {:?}; b: {:?}", said(0).unwrap_or_default(), said(1).unwrap_or_default()))
}

fn wrong_script(settings: &[provision::Setting]) -> String {
    let script = provision::script(1, settings, false);
    let lines = script
        .lines()
        .enumerate()
        .map(|(index, line)| if index + 1 == WRONG_LINE { "        set ip 192.0.2.300/24" } else { line });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Factory settings are in force.
fn is_untouched(status: &Status) -> bool {
    let names: Vec<&str> = UNITS.to_vec();
    status.effective == EffectiveMode::Off
        && status.configured == ConfiguredMode::Off
        && status.vips.is_empty()
        && !names.contains(&status.host.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_wrong_in_line_7_and_nowhere_else() {
        let error = twinpost_config::parse(&wrong_script(&[]), &["port1", "port2", "port3", "port4"]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("line 7") && error.contains("192.0.2.300"), "{error}");
    }
}
