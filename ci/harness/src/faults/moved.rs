//! Mail data that was replicated moves to an NFS server: both units lose their settings and are provided anew, and what lies on their own
//! partitions is handed over, by the PRIMARY to itself and by the SECONDARY to the PRIMARY (`spec/ha.md` section 8).

use super::{FaultError, damage, expect, with_pair};
use crate::clock::wait_until;
use crate::pair::{Pair, PairSettings, UNITS};
use crate::provision;
use crate::qemu::provisioning_disk;
use crate::scenario::{StartLimits, bring_up};
use std::time::Duration;
use twinpost_scenario::{Destination, LoadOrder};

/// Mail that is stored before the move.
const LOAD: LoadOrder = LoadOrder { rate: 4.0, size: 4096, to: Destination::Mailbox };
const LOAD_FOR: Duration = Duration::from_secs(10);
/// Less would prove little.
const MESSAGES_MIN: u64 = 20;
/// Everything is in the mailbox by then.
const DRAIN_WITHIN: Duration = Duration::from_secs(150);
/// Each unit looks every 5 s; the PRIMARY lists its mailboxes first.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(90);

/// Runs the story. Tells what was handed over.
///
/// # Errors
/// See [`FaultError`].
pub fn moved_to_nfs(settings: &PairSettings) -> Result<String, FaultError> {
    let settings = PairSettings { nfs: true, ..settings.clone() };
    with_pair(&settings, |pair| story(pair, &settings))
}

fn story(pair: &mut Pair, settings: &PairSettings) -> Result<String, FaultError> {
    provide(pair, settings, false)?;
    bring_up(pair, StartLimits::default(), |_| true)?;
    pair.load.set(Some(LOAD));
    std::thread::sleep(LOAD_FOR);
    let stored = all_there(pair, "stored on both units")?;
    for unit in [1, 0] {
        pair.power_cut(unit)?;
        damage::erase(&pair.layout(unit).disk(), "state")?;
    }
    provide(pair, settings, true)?;
    let marks = [0, 1].map(|unit| pair.watch(unit).last_event());
    bring_up(pair, StartLimits::default(), |_| true)?;
    let handed = [
        handed_over(pair, 0, marks[0], "left on this unit's own partition")?,
        handed_over(pair, 1, marks[1], "of volumes that are not synchronised")?,
    ];
    if handed.iter().any(|(_, found)| *found != stored) || handed[0].0 + handed[1].0 != stored {
        let what = format!("of {stored} messages on each unit were handed over (passed, found): {handed:?}");
        return Err(FaultError::Forbidden { unit: "a", what, seen: "see events.txt".to_owned() });
    }
    let mounted = |wanted| {
        move |status: &twinpost_api::Status| status.nfs.as_ref().is_some_and(|nfs| nfs.mounted == wanted)
    };
    expect(UNITS[0], pair.watch(0), DRAIN_WITHIN, "the export is mounted", mounted(true))?;
    expect(UNITS[1], pair.watch(1), DRAIN_WITHIN, "the export is not mounted", mounted(false))?;
    all_there(pair, "on the server")?;
    Ok(format!(
        "{stored} messages on both units, {} taken in by the PRIMARY, {} passed by the SECONDARY, each there once",
        handed[0].0, handed[1].0
    ))
}

/// New provisioning disks, with mail data on both units or on the server.
fn provide(pair: &Pair, settings: &PairSettings, nfs: bool) -> Result<(), FaultError> {
    for unit in 0..2 {
        let script = provision::script(unit, &settings.settings, nfs);
        provisioning_disk(&script, &pair.layout(unit).provisioning())?;
    }
    Ok(())
}

/// Every acknowledged message is in the mailbox once; how many there are.
fn all_there(pair: &Pair, place: &str) -> Result<u64, FaultError> {
    let _ = pair.drain(DRAIN_WITHIN);
    let mail = pair.ledger.summary();
    if mail.lost == 0 && mail.duplicated == 0 && mail.acknowledged >= MESSAGES_MIN {
        return Ok(mail.delivered);
    }
    let what = format!("not every message is {place} once: {mail:?}");
    Err(FaultError::Forbidden { unit: "a", what, seen: pair.mailbox.trouble().unwrap_or_default() })
}

/// Mailbox messages that a unit passed and found, as its event says.
fn handed_over(pair: &Pair, unit: usize, after: u64, whose: &str) -> Result<(u64, u64), FaultError> {
    let told = || {
        let events = pair.watch(unit).events(after);
        let of = |event: &crate::watch::SeenEvent| {
            event.record.name == "handover-done" && event.record.text.contains(whose)
        };
        events.into_iter().filter(of).find_map(|event| counts(&event.record.text))
    };
    wait_until(HANDED_OVER_WITHIN, super::EVERY, || told().is_some());
    told().ok_or_else(|| FaultError::NotSeen {
        unit: UNITS[unit],
        what: format!("the event handover-done, {whose}"),
        limit: HANDED_OVER_WITHIN,
        seen: super::summary(pair.watch(unit).status(crate::clock::Micros::default()).as_ref()),
    })
}

/// `… <passed> of <found> mailbox messages …`
fn counts(text: &str) -> Option<(u64, u64)> {
    let before = text.split_once(" mailbox messages")?.0;
    let mut words = before.rsplit(' ');
    let (found, of, passed) = (words.next()?, words.next()?, words.next()?);
    (of == "of").then_some((passed.parse().ok()?, found.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_event() {
        let text = "left on this unit's own partition, to the mail data on the server in 0.1 s, 7 messages a second: 0 of 0 queue messages and \
                    3 of 42 mailbox messages, 9 bytes; the PRIMARY had the others";
        assert_eq!(counts(text), Some((3, 42)));
        assert_eq!(counts("nothing of the kind"), None);
    }
}
