//! One pair that meets several faults in turn: unequal drives, five hundred bad datagrams, a full state partition that a takeover must
//! survive, and a mail volume overwritten with garbage on the unit that was PRIMARY, up to its repair by the advice
//! of the alarm.

use super::{FaultError, damage, expect, expect_alarm, frames, summary, with_pair};
use crate::clock::{Micros, wait_until};
use crate::pair::{Pair, PairSettings, UNITS, mac};
use crate::scenario::{StartLimits, bring_up, is_whole};
use std::fs::File;
use std::time::Duration;
use twinpost_api::Status;
use twinpost_switch::{Plug, Randomness};
use twinpost_types::{DiskState, EffectiveMode, Replication, VolumeId};

/// Drive of unit b, bytes: 1 GiB more than unit a's.
const LARGE_DRIVE_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Rounds of bad frames to each unit; with eight frames a round and two units 512 frames.
const ROUNDS: u64 = 32;
/// The port of heartbeat link 1.
const HEARTBEAT_PORT: usize = 3;
/// After the first half of the bad frames: their alarm is out, and the second half must not alarm again.
const BETWEEN_BURSTS: Duration = Duration::from_secs(2);
/// Between two frames: a unit's receive queue is never full, so that every frame must be counted.
const PACE: Duration = Duration::from_millis(2);
/// A heartbeat of each unit is on the cable within this time.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(10);
/// Counters are in the status by then.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);
/// Alarms about drives are in force by then: the supervisor looks every 10 s.
const ALARM_WITHIN: Duration = Duration::from_secs(40);
/// A unit boots and joins, under emulation on a shared machine.
const JOIN_WITHIN: Duration = Duration::from_secs(180);
/// A takeover, likewise.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(60);
/// How long roles must stay as they are.
const HOLD: Duration = Duration::from_secs(10);
/// Why a unit without a volume waits, as its status says it.
const VOLUME_MISSING: &str = "a mail volume is missing or unreadable";
/// Least time between two alarms about bad datagrams.
const ALARM_EVERY: Duration = Duration::from_secs(60);

/// Runs the story. Tells what was seen.
///
/// # Errors
/// See [`FaultError`].
pub fn foreign_input(settings: &PairSettings) -> Result<String, FaultError> {
    with_pair(settings, |pair| story(pair, settings))
}

fn story(pair: &mut Pair, settings: &PairSettings) -> Result<String, FaultError> {
    let disk = pair.layout(1).disk();
    File::options()
        .write(true)
        .open(&disk)
        .and_then(|file| file.set_len(LARGE_DRIVE_BYTES))
        .map_err(|source| FaultError::Damage { what: "enlarge", path: disk.clone(), source })?;
    bring_up(pair, StartLimits::default(), |_| true)?;
    let counted = bad_datagrams(pair, settings.seed)?;
    let sizes = unequal_drives(pair)?;
    full_state_partition(pair, settings)?;
    let took = takeover_with_full_state(pair)?;
    garbled_volume(pair)?;
    alone_with_garbled_volume(pair)?;
    erased_volume(pair)?;
    Ok(format!(
        "{sizes}; {counted}; takeover with a full state partition after {took} ms; garbled volume kept out of the role, erased and filled again"
    ))
}

/// Both units name the smaller size; the larger one says that it has room to spare.
fn unequal_drives(pair: &Pair) -> Result<String, FaultError> {
    let words = ["mail volume queue", "other unit's drive is smaller", "fit a drive of the same size"];
    let b = expect_alarm("b", pair.watch(1), ALARM_WITHIN, &words)?;
    let a = expect("a", pair.watch(0), ALARM_WITHIN, "a status", |_| true)?;
    let sizes = |status: &Status| status.volumes.iter().map(|volume| volume.size_mib).collect::<Vec<_>>();
    for volume in VolumeId::ALL {
        let name = format!("mail-{}", volume.name());
        let small = damage::size_mib(&pair.layout(0).disk(), &name)?;
        let large = damage::size_mib(&pair.layout(1).disk(), &name)?;
        let both =
            [&a, &b].map(|status| status.volumes.get(volume.index()).map_or(0, |v| u64::from(v.size_mib)));
        if both[0] != both[1] || both[0] > small || both[0] + 4 < small || large <= small {
            let what = format!("{name} has {small} and {large} MiB, the units say {both:?}");
            return Err(FaultError::Forbidden { unit: "b", what, seen: summary(Some(&b)) });
        }
    }
    Ok(format!("volumes of {:?} MiB on both", sizes(&a)))
}

/// Every bad datagram is counted under its name, one alarm a minute, no change of roles.
fn bad_datagrams(pair: &Pair, seed: u64) -> Result<String, FaultError> {
    let before = [0, 1].map(|unit| pair.watch(unit).last_event());
    let began = Micros::now();
    let sent = inject(&pair.tap(HEARTBEAT_PORT), seed)?;
    for (unit, name) in UNITS.into_iter().enumerate() {
        let watch = pair.watch(unit);
        expect(name, watch, COUNTED_WITHIN, "each bad datagram counted by its name", |status| {
            let dropped = |kind: &&str| status.dropped.iter().find(|(name, _)| name == kind);
            frames::KINDS.iter().all(|kind| dropped(kind).is_some_and(|(_, count)| *count >= ROUNDS))
        })?;
        // What to do depends on the kinds that had arrived when the unit looked: cables or password.
        expect(name, watch, COUNTED_WITHIN, "an alarm that says what to do", |status| {
            let told = |alarm: &String| {
                alarm.contains("heartbeat datagrams were dropped (")
                    && (alarm.contains("check the cables") || alarm.contains("set the same password"))
            };
            status.alarms.iter().any(told)
        })?;
    }
    // A second alarm, if there were one, would be in the log by then: the supervisor looks twice a second.
    std::thread::sleep(Duration::from_secs(1));
    for (unit, name) in UNITS.into_iter().enumerate() {
        let watch = pair.watch(unit);
        watch.refresh();
        let events = watch.events(before[unit]);
        let named = |name: &str, text: &str| {
            events.iter().filter(|e| e.record.name == name && e.record.text.contains(text)).count()
        };
        let (alarms, modes) = (named("alarm", "datagrams were dropped"), named("mode", ""));
        let minutes = Micros::now().since(began).as_secs() / ALARM_EVERY.as_secs();
        if modes > 0 || alarms as u64 > 1 + minutes {
            let what = format!("{alarms} alarms and {modes} changes of role after {sent} bad frames");
            return Err(FaultError::Forbidden {
                unit: name,
                what,
                seen: summary(watch.status(began).as_ref()),
            });
        }
    }
    Ok(format!("{sent} bad frames counted, one alarm a unit, roles kept"))
}

/// Sends bad frames of every kind to both units in two bursts of one minute; their number.
fn inject(tap: &Plug, seed: u64) -> Result<u32, FaultError> {
    let mut random = Randomness::new(seed);
    let mut sent = 0;
    for round in 0..ROUNDS {
        for real in recordings(tap)? {
            for frame in frames::bad(&real, &mut random) {
                tap.send(&frame);
                sent += 1;
                std::thread::sleep(PACE);
            }
        }
        if round == ROUNDS / 2 {
            std::thread::sleep(BETWEEN_BURSTS);
        }
    }
    Ok(sent)
}

/// A fresh heartbeat of each unit, as it goes over the cable.
fn recordings(tap: &Plug) -> Result<[Vec<u8>; 2], FaultError> {
    // What waited is too old to be told from the live ones.
    while tap.try_recv().is_some() {}
    let mut found: [Option<Vec<u8>>; 2] = [None, None];
    let end = Micros::now() + HEARTBEAT_WITHIN;
    while Micros::now() < end {
        let Some(frame) = tap.recv_timeout(super::EVERY) else { continue };
        if frames::heartbeat(&frame).is_none() {
            continue;
        }
        for (unit, slot) in found.iter_mut().enumerate() {
            if frame.get(6..12).is_some_and(|from| from == mac(unit, HEARTBEAT_PORT - 1)) {
                *slot = Some(frame.clone());
            }
        }
        if let [Some(a), Some(b)] = &found {
            return Ok([a.clone(), b.clone()]);
        }
    }
    let what = "a heartbeat of each unit on heartbeat cable 1".to_owned();
    Err(FaultError::NotSeen { unit: "a", what, limit: HEARTBEAT_WITHIN, seen: format!("{found:?}") })
}

/// Unit b boots with a state partition without a free block, says so, and joins all the same.
fn full_state_partition(pair: &mut Pair, settings: &PairSettings) -> Result<(), FaultError> {
    pair.power_cut(1)?;
    damage::fill_state(&pair.layout(1).disk(), &settings.folder)?;
    pair.power_on(1)?;
    let words = ["the state partition is full", "still takes over", "delete what does not belong"];
    expect_alarm("b", pair.watch(1), JOIN_WITHIN, &words)?;
    if !wait_until(JOIN_WITHIN, super::EVERY, || is_whole(pair) == Ok(0)) {
        let seen = is_whole(pair).map_or_else(|why| why, |unit| format!("{} is PRIMARY", UNITS[unit]));
        let what = "a whole pair with a full state partition".to_owned();
        return Err(FaultError::NotSeen { unit: "b", what, limit: JOIN_WITHIN, seen });
    }
    Ok(())
}

/// The epoch of a takeover needs no free block. Milliseconds from the power cut to the first greeting of b on the virtual IP.
fn takeover_with_full_state(pair: &mut Pair) -> Result<i64, FaultError> {
    let before = expect("b", pair.watch(1), ALARM_WITHIN, "a status", |_| true)?.epoch;
    let cut = pair.power_cut(0)?;
    let owned = || pair.vip_owner().filter(|(unit, at)| *unit == 1 && *at > cut);
    if !wait_until(TAKEOVER_WITHIN, super::EVERY, || owned().is_some()) {
        return Err(not_seen(pair, 1, "b speaks for the virtual IP", TAKEOVER_WITHIN));
    }
    // A last greeting of a may have been under way at the cut: only one after b has spoken counts.
    let at = expect_greeting(pair, 1)?;
    expect("b", pair.watch(1), TAKEOVER_WITHIN, "PRIMARY with a newer epoch", |status| {
        status.effective == EffectiveMode::Primary && status.epoch > before
    })?;
    Ok(at.ms_since(cut))
}

/// The unit that was PRIMARY comes back with garbage in its queue volume: it says which volume and what to do, and the other unit goes on
/// serving.
fn garbled_volume(pair: &mut Pair) -> Result<(), FaultError> {
    damage::garble(&pair.layout(0).disk(), "mail-queue")?;
    pair.watch(1).refresh();
    let before = pair.watch(1).last_event();
    pair.power_on(0)?;
    let words = ["mail volume queue is not usable", "cannot take over", "erase its first and last MiB"];
    expect_alarm("a", pair.watch(0), JOIN_WITHIN, &words)?;
    expect(
        "a",
        pair.watch(0),
        ALARM_WITHIN,
        "a queue volume that counts as missing, and why it waits",
        |status| {
            let queue = status.volumes.first().map(|queue| queue.local);
            queue == Some(DiskState::Diskless) && status.why.contains(VOLUME_MISSING)
        },
    )?;
    never_primary(pair, 0, "takes the role with a garbled volume")?;
    expect_greeting(pair, 1)?;
    let b = expect("b", pair.watch(1), HOLD, "PRIMARY", |status| status.effective == EffectiveMode::Primary)?;
    pair.watch(1).refresh();
    // The returning unit tries again and again to connect the volume that it has not: b's writes must not wait for that.
    let stalls = pair.watch(1).events(before).iter().filter(|event| event.record.name == "fence").count();
    if stalls > 0 {
        let what = format!(
            "asks {stalls} times what became of a: its writes stall for a volume that a does not have"
        );
        return Err(FaultError::Forbidden { unit: "b", what, seen: summary(Some(&b)) });
    }
    Ok(())
}

/// Nobody else is left, and still the unit with the garbled volume keeps away from the role.
fn alone_with_garbled_volume(pair: &mut Pair) -> Result<(), FaultError> {
    pair.power_cut(1)?;
    never_primary(pair, 0, "takes over with a garbled volume from a dead peer")
}

/// The advice of the alarm works: the erased volume is filled from the other unit, which serves meanwhile.
fn erased_volume(pair: &mut Pair) -> Result<(), FaultError> {
    pair.power_cut(0)?;
    damage::erase(&pair.layout(0).disk(), "mail-queue")?;
    pair.power_on(0)?;
    pair.power_on(1)?;
    expect("b", pair.watch(1), JOIN_WITHIN, "PRIMARY", |status| status.effective == EffectiveMode::Primary)?;
    let mut roles = Ok(());
    expect("a", pair.watch(0), JOIN_WITHIN, "its erased queue volume is filled from b", |status| {
        if status.effective == EffectiveMode::Primary {
            roles = Err(());
        }
        status.volumes.first().is_some_and(|queue| {
            let filling = queue.replication == Replication::SyncTarget;
            queue.peer == DiskState::UpToDate && (filling || queue.local == DiskState::UpToDate)
        })
    })?;
    if roles.is_err() {
        let seen = summary(pair.watch(0).status(Micros::default()).as_ref());
        return Err(FaultError::Forbidden {
            unit: "a",
            what: "took the role with an empty volume".to_owned(),
            seen,
        });
    }
    expect_greeting(pair, 1).map(drop)
}

/// Watches a unit for a while that must not take the role.
pub(super) fn never_primary(pair: &Pair, unit: usize, what: &str) -> Result<(), FaultError> {
    let end = Micros::now() + HOLD;
    while Micros::now() < end {
        std::thread::sleep(super::EVERY);
        let status = pair.watch(unit).status(Micros::default());
        let promoted = |status: &Status| {
            status.effective == EffectiveMode::Primary || status.volumes.iter().any(|volume| volume.promoted)
        };
        if status.as_ref().is_some_and(promoted) {
            let seen = summary(status.as_ref());
            return Err(FaultError::Forbidden { unit: UNITS[unit], what: what.to_owned(), seen });
        }
    }
    Ok(())
}

/// The first greeting on the virtual IP from now on, and that it is this unit which speaks there.
fn expect_greeting(pair: &Pair, unit: usize) -> Result<Micros, FaultError> {
    let since = Micros::now();
    let mut greeted = None;
    wait_until(TAKEOVER_WITHIN, super::EVERY, || {
        greeted = greeted.or(pair.outages.last_answer().filter(|at| *at > since));
        greeted.is_some()
    });
    let owner = pair.vip_owner().map(|(unit, _)| unit);
    match greeted {
        Some(at) if owner == Some(unit) => Ok(at),
        _ => Err(not_seen(pair, unit, "greetings on the virtual IP", TAKEOVER_WITHIN)),
    }
}

fn not_seen(pair: &Pair, unit: usize, what: &str, limit: Duration) -> FaultError {
    let seen = summary(pair.watch(unit).status(Micros::default()).as_ref());
    FaultError::NotSeen { unit: UNITS[unit], what: what.to_owned(), limit, seen }
}
