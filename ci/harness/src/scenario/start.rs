//! Brings a pair up and tells when it is whole: one PRIMARY, one SECONDARY, replication connected and up to date, mail answering on the
//! virtual IP. That moment is time 0 of a scenario.

use crate::clock::{Micros, wait_until};
use crate::pair::{Pair, PairError, UNITS};
use std::path::PathBuf;
use std::time::Duration;
use twinpost_scenario::MachineKind;
use twinpost_types::{DiskState, EffectiveMode, Replication, VOLUMES, VolumeReport};

/// How fresh a status must be to count.
const FRESH: Duration = Duration::from_secs(4);
/// Time between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct StartLimits {
    /// Until both units have their roles and are in sync. A first boot under emulation on a shared machine.
    pub whole: Duration,
}

impl Default for StartLimits {
    fn default() -> Self {
        Self { whole: Duration::from_secs(300) }
    }
}

/// Why the pair did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bench failed.
    #[error("the pair could not be switched on")]
    Pair(#[from] PairError),
    /// Whoever looks wants to stop.
    #[error("interrupted")]
    Quit,
    /// A unit runs as another board than its hardware asks for.
    #[error("{unit} does not run as board {board} (console: {})", console.display())]
    Board {
        /// Unit.
        unit: &'static str,
        /// Which board it should be.
        board: &'static str,
        /// Console log.
        console: PathBuf,
    },
    /// The units did.
    #[error("the pair was not whole within {limit:?}: {state}")]
    NotWhole {
        /// The limit.
        limit: Duration,
        /// What was missing.
        state: String,
    },
}

/// Switches both units on and waits until the pair is whole with unit a as PRIMARY; returns that moment. `look` is called again and
/// again meanwhile, and ends the wait with false.
///
/// # Errors
/// See [`StartError`].
pub fn bring_up(
    pair: &mut Pair,
    limits: StartLimits,
    mut look: impl FnMut(&Pair) -> bool,
) -> Result<Micros, StartError> {
    pair.power_on(0)?;
    pair.power_on(1)?;
    let mut quit = false;
    let whole = wait_until(limits.whole, EVERY, || {
        quit = !look(pair);
        quit || is_whole(pair) == Ok(0)
    });
    if quit {
        return Err(StartError::Quit);
    }
    if !whole {
        let state = is_whole(pair).map_or_else(|why| why, |_| "b is PRIMARY instead of a".to_owned());
        return Err(StartError::NotWhole { limit: limits.whole, state });
    }
    (0..2).try_for_each(|unit| check_board(pair, unit))?;
    let zero = Micros::now();
    pair.outages.restart(zero);
    Ok(zero)
}

/// Whether the unit chose the board that fits its hardware, as it says on its console.
fn check_board(pair: &Pair, unit: usize) -> Result<(), StartError> {
    let board = match pair.kind(unit) {
        MachineKind::Q35 => "qemu-q35",
        MachineKind::Pc | MachineKind::Express => "generic-x86_64",
    };
    let console = pair.layout(unit).console_log();
    let said = std::fs::read(&console).unwrap_or_default();
    if String::from_utf8_lossy(&said).contains(&format!("twinpost: board {board} ")) {
        return Ok(());
    }
    Err(StartError::Board { unit: UNITS[unit], board, console })
}

/// The PRIMARY of a whole pair, or what is missing.
///
/// # Errors
/// What is missing, in words.
pub fn is_whole(pair: &Pair) -> Result<usize, String> {
    is_whole_since(pair, Micros::default())
}

/// The same from what was asked and answered after `since` only.
///
/// # Errors
/// What is missing, in words.
pub fn is_whole_since(pair: &Pair, since: Micros) -> Result<usize, String> {
    let fresh = Micros(Micros::now().0.saturating_sub(u64::try_from(FRESH.as_micros()).unwrap_or(0)));
    let since = since.max(fresh);
    let status = |unit: usize| pair.watch(unit).status(since);
    let (Some(a), Some(b)) = (status(0), status(1)) else {
        let which = if status(0).is_none() { "a" } else { "b" };
        return Err(format!("{which} gives no status (see its console log)"));
    };
    let units = [&a, &b];
    let modes = [a.effective, b.effective];
    let primary = match modes {
        [EffectiveMode::Primary, EffectiveMode::Secondary] => 0,
        [EffectiveMode::Secondary, EffectiveMode::Primary] => 1,
        _ => return Err(format!("a is {} ({}), b is {} ({})", a.effective, a.why, b.effective, b.why)),
    };
    for (name, status) in crate::pair::UNITS.iter().zip(units) {
        if status.volumes.len() != VOLUMES {
            return Err(format!("{name} reports {} volumes", status.volumes.len()));
        }
        if let Some(volume) = status.volumes.iter().find(|volume| !is_current(volume)) {
            return Err(format!("{name} has a volume that is not in sync: {volume:?}"));
        }
    }
    let answered = pair.outages.last_answer().is_some_and(|at| at >= since);
    let owner = pair.vip_owner().map(|(unit, _)| unit);
    match (answered, owner) {
        (false, _) => Err("the virtual IP gives no SMTP greeting".to_owned()),
        (true, Some(unit)) if unit == primary => Ok(primary),
        (true, owner) => Err(format!("the virtual IP is answered by {owner:?}, not by the PRIMARY")),
    }
}

fn is_current(volume: &VolumeReport) -> bool {
    volume.local == DiskState::UpToDate
        && volume.peer == DiskState::UpToDate
        && volume.replication == Replication::Connected
}
