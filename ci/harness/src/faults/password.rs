//! Two units whose HA passwords differ (`spec/ha.md` section 3): both say so, none takes the role with data that waits for its peer,
//! and nobody storms.

use super::{FaultError, expect_alarm, summary, with_pair};
use crate::clock::Micros;
use crate::pair::{Pair, PairSettings, UNITS};
use crate::provision;
use crate::qemu::provisioning_disk;
use std::time::Duration;
use twinpost_types::EffectiveMode;

/// First boot under emulation on a shared machine, and the first alarm.
const LIMIT: Duration = Duration::from_secs(240);
/// Watched for this long after both said what is wrong: longer than the default threshold (15 s) after which silence
/// counts as death.
const CALM: Duration = Duration::from_secs(20);
/// Effective modes that a unit may pass through in that time.
const MODE_CHANGES_MAX: usize = 1;

/// Boots a pair with different passwords. Tells what both units said.
///
/// # Errors
/// See [`FaultError`].
pub fn wrong_password(settings: &PairSettings) -> Result<String, FaultError> {
    with_pair(settings, |pair| story(pair, settings))
}

fn story(pair: &mut Pair, settings: &PairSettings) -> Result<String, FaultError> {
    let script = provision::script(1, &settings.settings, false);
    let script = script.replace(provision::HA_PASSWORD, "another group 2");
    provisioning_disk(&script, &pair.layout(1).provisioning())?;
    pair.power_on(0)?;
    pair.power_on(1)?;
    for (unit, name) in UNITS.into_iter().enumerate() {
        let words = ["heartbeat datagrams were dropped", "password is not the same", "set the same password"];
        expect_alarm(name, pair.watch(unit), LIMIT, &words)?;
    }
    let calm_from = [pair.watch(0).last_event(), pair.watch(1).last_event()];
    let end = Micros::now() + CALM;
    while Micros::now() < end {
        std::thread::sleep(super::EVERY);
        for (unit, name) in UNITS.into_iter().enumerate() {
            let status = pair.watch(unit).status(Micros::default());
            let promoted = status.as_ref().is_some_and(|status| {
                status.effective == EffectiveMode::Primary || status.volumes.iter().any(|v| v.promoted)
            });
            if promoted {
                let what = "takes the role although its fresh volumes never met the peer's".to_owned();
                let seen = summary(status.as_ref());
                return Err(FaultError::Forbidden { unit: name, what, seen });
            }
        }
    }
    let mut waiting = Vec::new();
    for (unit, name) in UNITS.into_iter().enumerate() {
        let watch = pair.watch(unit);
        watch.refresh();
        let changes = watch.events(calm_from[unit]).iter().filter(|e| e.record.name == "mode").count();
        let alarms =
            watch.events(0).iter().filter(|e| e.record.text.contains("datagrams were dropped")).count();
        let status = watch.status(Micros::default());
        if changes > MODE_CHANGES_MAX || alarms > 2 {
            let what =
                format!("{changes} mode changes and {alarms} alarms about the password in a quiet time");
            return Err(FaultError::Forbidden { unit: name, what, seen: summary(status.as_ref()) });
        }
        waiting
            .push(status.map_or_else(String::new, |status| format!("{} ({})", status.effective, status.why)));
    }
    Ok(format!("both name the password; a is {}, b is {}", waiting[0], waiting[1]))
}
