//! Twice a second: proves to init that the supervisor lives, turns counters into alarms, writes finished takeovers down, and tells
//! init once that this boot is good. Apart from that it looks at the mail service. Decides nothing about roles.

use crate::heartbeat::Input;
use crate::main_unit::Unit;
use crate::provision::chain;
use crate::shared::{View, now_us};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use twinpost_ha::Event;
use twinpost_hal::{Led, Pattern};
use twinpost_hal_linux::{Roots, SysfsLed};
use twinpost_mail::{MailHealth, init_client};
use twinpost_net::lease::LeaseState;
use twinpost_types::{EffectiveMode, Health, Instant};

/// Time between rounds.
const ROUND: Duration = Duration::from_millis(500);
/// The heartbeat thread turns at least every 100 ms; after this long it no longer counts as alive.
const TURN_AGE_MAX: Duration = Duration::from_secs(2);
/// Bad datagrams are told at most this often.
const BAD_DATAGRAMS_EVERY: Duration = Duration::from_secs(60);
/// Replays that a sound start may count: what the peer sent on both links before it knew of a restarted supervisor.
const REPLAYED_AT_START: u64 = 64;
/// Time between two looks at the mail service.
const MAIL_EVERY: Duration = Duration::from_secs(2);
/// Servers that greeted are asked for a greeting again after so many looks: each costs them a session and lines in their log. Their own
/// check (`checks/mail.rs`) asks more, and more often.
const GREETED_LOOKS: u32 = 5;
/// A unit that has not found its role by then is still a good boot if its supervisor runs.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// What the minder remembers between rounds.
#[derive(Default)]
struct Memory {
    good: bool,
    claimed: Option<Instant>,
    bad_told_us: u64,
    bad_total: u64,
}

/// Runs for ever.
pub async fn mind(unit: Arc<Unit>) {
    let mut memory = Memory::default();
    let mut clock = tokio::time::interval(ROUND);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let view = unit.shared.view();
        prove_life(&unit, &view).await;
        tell_lost_lease(&unit, &view).await;
        tell_takeover(&unit, &view, &mut memory);
        tell_ready(&unit, &view, &mut memory).await;
        tell_bad_datagrams(&unit, &view, &mut memory);
    }
}

/// init pets the watchdog only while the heartbeat thread turns, not merely while this program exists.
async fn prove_life(unit: &Unit, view: &View) {
    let turned = Instant(unit.shared.turn_us.load(Ordering::Relaxed));
    let has_thread = view.ha.is_some();
    if has_thread && Instant(now_us()).since(turned) > TURN_AGE_MAX {
        return unit.shared.alarm(
            "stall",
            "the heartbeat thread does not turn; the watchdog resets this unit unless it recovers",
        );
    }
    unit.shared.clear("stall");
    // An init that does not answer keeps its own record; nothing can be done about it here.
    let _ = init_client::alive().await;
}

/// Told again every round until the addresses are claimed or released; the decisions take the first one.
async fn tell_lost_lease(unit: &Unit, view: &View) {
    if unit.executor.claims.state() != LeaseState::Lost {
        return unit.shared.clear("lease");
    }
    if let Err(error) = unit.executor.claims.recover().await {
        unit.shared.alarm("ports", &format!("a port is not as configured: {}", chain(&error)));
    }
    unit.shared.alarm(
        "lease",
        "this unit stalled for so long that the kernel took its virtual IPs away; they are claimed again unless the peer has them. If this \
         comes back, look for an overloaded host or a failing drive",
    );
    if view.ha.as_ref().is_none_or(|ha| ha.effective != EffectiveMode::Primary) {
        // The role is gone as well: nothing is to be claimed again, and what the kernel has removed is released.
        let _ = unit.executor.claims.release().await;
        return;
    }
    for input in [Input::VipsHeld(false), Input::Event(Event::LeaseLost)] {
        // A full queue takes it in the next round.
        let _ = unit.inputs.send(input);
    }
}

fn tell_takeover(unit: &Unit, view: &View, memory: &mut Memory) {
    let Some(timeline) = view.ha.as_ref().and_then(|ha| ha.takeover) else { return };
    if timeline.claimed.is_none() || timeline.claimed == memory.claimed {
        return;
    }
    memory.claimed = timeline.claimed;
    let t = crate::status::timeline(&timeline);
    let ms = |us: u64| us.saturating_sub(t.verdict_us) / 1000;
    unit.shared.event(
        "takeover",
        &format!(
            "epoch {}: fenced +{} ms, promoted +{} ms, mounted +{} ms, services +{} ms, virtual IPs +{} ms; {}",
            t.epoch.0,
            ms(t.fenced_us),
            ms(t.promoted_us),
            ms(t.mounted_us),
            ms(t.services_us),
            ms(t.claimed_us),
            t.evidence
        ),
    );
}

async fn tell_ready(unit: &Unit, view: &View, memory: &mut Memory) {
    if memory.good {
        return;
    }
    let now = now_us();
    let ready = match &view.ha {
        None => true,
        Some(ha) if ha.effective == EffectiveMode::Primary => memory.claimed.is_some(),
        Some(ha) => ha.effective == EffectiveMode::Secondary,
    };
    if ready {
        unit.ready_us.store(now, Ordering::Relaxed);
        unit.shared.event("ready", &format!("ready for service {} ms after kernel start", now / 1000));
    }
    if ready || Instant(now).since(Instant(0)) > GOOD_AFTER {
        memory.good = true;
        if let Err(error) = init_client::good().await {
            unit.shared.alarm("boot-good", &format!("this boot could not be marked good: {}", chain(&error)));
        }
    }
}

/// Forged, replayed and foreign datagrams: one event a minute at most, with the totals.
fn tell_bad_datagrams(unit: &Unit, view: &View, memory: &mut Memory) {
    let total: u64 = view.counters.dropped().map(|(_, n)| n).sum();
    let total = if total == view.counters.replayed && total <= REPLAYED_AT_START { 0 } else { total };
    let now = now_us();
    let quiet = Instant(now).since(Instant(memory.bad_told_us)) >= BAD_DATAGRAMS_EVERY;
    if !quiet && memory.bad_told_us != 0 {
        return;
    }
    if total == memory.bad_total {
        return unit.shared.clear("bad-authentication");
    }
    memory.bad_total = total;
    memory.bad_told_us = now;
    let list: Vec<String> =
        view.counters.dropped().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    let hint = if view.counters.forged > 0 {
        "the HA password is not the same on both units, or somebody forges heartbeats: set the same password in config system ha on both"
    } else {
        "something that is not this unit's peer sends on a heartbeat link: check the cables"
    };
    unit.shared.alarm(
        "bad-authentication",
        &format!("heartbeat datagrams were dropped ({}); {hint}", list.join(", ")),
    );
}

/// Looks at the mail service for ever. A task of its own: while writes are frozen a look at the queue does not come back, and
/// the proof of life must not wait for it.
pub async fn watch_mail(unit: Arc<Unit>) {
    let mut told = None;
    let mut look = 0u32;
    let mut clock = tokio::time::interval(MAIL_EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let view = unit.shared.view();
        let health = check_mail(&unit, &view, look).await;
        look = look.wrapping_add(1);
        if told != Some(health) && unit.inputs.send(Input::Event(Event::Health(health))) {
            told = Some(health);
        }
    }
}

async fn check_mail(unit: &Unit, view: &View, look: u32) -> Health {
    let primary = view.ha.as_ref().is_some_and(|ha| ha.effective == EffectiveMode::Primary);
    let mail = Arc::clone(&unit.executor.mail);
    let (health, queued) = if primary {
        let before = unit.mail.lock().unwrap_or_else(PoisonError::into_inner).0;
        let greeted = before.smtp && before.imap && !look.is_multiple_of(GREETED_LOOKS);
        let health = if greeted { before } else { mail.check().await };
        let queued = tokio::task::spawn_blocking(move || mail.queue_count()).await.unwrap_or(0);
        (health, queued)
    } else {
        (MailHealth::default(), 0)
    };
    *unit.mail.lock().unwrap_or_else(PoisonError::into_inner) = (health, queued);
    let storage =
        unit.volumes.borrow().iter().all(|volume| volume.local != twinpost_types::DiskState::Diskless);
    let third_party = view.ha.as_ref().is_some_and(|ha| ha.evidence.third_party);
    let service_port = view.service_carrier && unit.checks.reaches_neighbours();
    Health { service_port, third_party, mail: !primary || health.smtp, storage }
}

/// Shows the effective mode on the status LED; a board without one shows nothing.
pub fn show(led: Option<&str>, mode: EffectiveMode) {
    let Some(name) = led else { return };
    let pattern = match mode {
        EffectiveMode::Primary | EffectiveMode::ConfigPrimary => Pattern::On,
        EffectiveMode::Secondary | EffectiveMode::ConfigSecondary => Pattern::Slow,
        EffectiveMode::Failed => Pattern::Fast,
        EffectiveMode::Off | EffectiveMode::HoldOff => Pattern::Off,
    };
    let result = SysfsLed::find(&Roots::default(), name).and_then(|mut led| led.set(pattern));
    if let Err(error) = result {
        eprintln!("had: the status LED does not show {mode}: {}", chain(&error));
    }
}
