//! The demonstration: a pair under load loses its primary's power, and what became of the mail. The story is here; how it is shown is
//! in `face` and `screen`, what is reported in `report`.

mod face;
mod report;
mod screen;

pub use face::{Face, Lines};
pub use report::{Report, Takeover};
pub use screen::Screen;

use crate::clock::Micros;
use crate::pair::{Pair, PairError, PairSettings};
use crate::qemu::Accelerator;
use crate::scenario::{StartError, StartLimits, is_whole, write_events};
use std::time::Duration;
use twinpost_scenario::{Destination, LoadOrder};
use twinpost_types::EffectiveMode;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// Mail flows this long before the power cut, so that queues and caches are as in use.
const FLOW_BEFORE: Duration = Duration::from_secs(12);
/// Mail flows this long after the takeover, before the power comes back.
const FLOW_AFTER: Duration = Duration::from_secs(8);
/// The other unit carries the service within this time, or the demonstration has failed.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(60);
/// The unit that comes back has booted and resynchronised within this time.
const WHOLE_AGAIN_WITHIN: Duration = Duration::from_secs(300);
/// The queue drains within this time.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);

/// How the demonstration is run.
#[derive(Clone, Debug)]
pub struct DemoSettings {
    /// The pair.
    pub pair: PairSettings,
    /// For the report.
    pub accelerator: Accelerator,
    /// Messages a second.
    pub rate: f64,
    /// Stay up for hands-on use until the visitor quits.
    pub stay: bool,
}

/// Why the demonstration ended without a report.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The bench failed.
    #[error("the bench failed")]
    Pair(#[from] PairError),
    /// The pair did not do its part.
    #[error("{stage}: {why}\n{evidence}")]
    Stuck {
        /// Where in the story.
        stage: &'static str,
        /// What was missing.
        why: String,
        /// Event logs and paths.
        evidence: String,
    },
    /// The visitor quit.
    #[error("interrupted")]
    Quit,
}

/// Tells the story; `face` shows it.
///
/// # Errors
/// See [`DemoError`].
pub fn run(settings: &DemoSettings, face: &mut dyn Face) -> Result<Report, DemoError> {
    let began = Micros::now();
    let mut pair = Pair::prepare(&settings.pair)?;
    face.say("booting two units from the same image");
    let started = crate::scenario::bring_up(&mut pair, StartLimits::default(), |pair| face.look(pair));
    let zero = match started {
        Ok(zero) => zero,
        Err(StartError::Pair(error)) => return Err(error.into()),
        Err(StartError::Quit) => return Err(DemoError::Quit),
        Err(error) => return Err(stuck(&pair, began, "start", error.to_string())),
    };
    face.say(&format!("the pair is whole {:.1} s after power-on", zero.since(began).as_secs_f64()));
    let order = LoadOrder { rate: settings.rate, size: 4096, to: Destination::Relay };
    pair.load.set(Some(order));
    face.say(&format!("mail flows at {} messages/s through the virtual IP to the next hop", settings.rate));
    flow(&pair, face, FLOW_BEFORE)?;

    let cut = pair.power_cut(0)?;
    face.say("the power of a, the PRIMARY, is cut");
    let answers = pair.outages.answers();
    let taken_over = |pair: &Pair| {
        let status = pair.watch(1).status(cut);
        status.is_some_and(|status| status.effective == EffectiveMode::Primary)
            && pair.outages.last_answer().is_some_and(|at| at > cut)
            && pair.outages.answers() > answers + 1
            && takeover(pair, cut).is_some()
    };
    if !wait(&pair, face, TAKEOVER_WITHIN, taken_over)? {
        return Err(stuck(&pair, zero, "takeover", "b did not take over".into()));
    }
    let takeover = takeover(&pair, cut).unwrap_or_default();
    for line in takeover.lines() {
        face.say(&line);
    }
    flow(&pair, face, FLOW_AFTER)?;

    pair.power_on(0)?;
    face.say("a has power again; it boots and resynchronises");
    if !wait(&pair, face, WHOLE_AGAIN_WITHIN, |pair| is_whole(pair) == Ok(1))? {
        let why = is_whole(&pair).map_or_else(|why| why, |_| "a took the role back by itself".to_owned());
        return Err(stuck(&pair, zero, "return of the failed unit", why));
    }
    face.say("the pair is whole again: a is SECONDARY, b is PRIMARY");
    let outage = pair.outages.longest(Micros::now());
    say_readiness(&pair, face);
    face.say("the load stops; waiting for the queue to drain");
    pair.load.set(None);
    face.look(&pair);
    let _ = pair.drain(DRAIN_WITHIN);
    let mail = pair.ledger.summary();
    let report = Report::new(mail, outage, settings.accelerator, takeover, is_whole(&pair).is_ok());
    for line in report.lines() {
        face.say(&line);
    }
    if !report.is_good() {
        face.say(&write_events(&pair, zero));
    }
    if settings.stay {
        stay(&pair, face);
    }
    face.say(&format!("logs and captures: {}", settings.pair.folder.display()));
    Ok(report)
}

/// Keeps the pair up until the visitor quits.
fn stay(pair: &Pair, face: &mut dyn Face) {
    for (unit, name) in crate::pair::UNITS.iter().enumerate() {
        let console = pair.layout(unit).console();
        face.say(&format!(
            "console of {name}: cargo xtask console {}   (Ctrl-] leaves it)",
            console.display()
        ));
    }
    face.say("the pair stays up; q or Ctrl-C ends it");
    while face.look(pair) {
        std::thread::sleep(LOOK_EVERY);
    }
}

fn say_readiness(pair: &Pair, face: &mut dyn Face) {
    for (unit, name) in crate::pair::UNITS.iter().enumerate() {
        if let Some(status) = pair.watch(unit).status(Micros::default()) {
            let (supervisor, init) = status.memory_kib;
            face.say(&format!(
                "{name}: ready {:.1} s after kernel start; resident: supervisor {:.1} MB, init {:.1} MB",
                status.ready_us as f64 / 1e6,
                supervisor as f64 / 1024.0,
                init as f64 / 1024.0
            ));
        }
    }
}

fn flow(pair: &Pair, face: &mut dyn Face, time: Duration) -> Result<(), DemoError> {
    wait(pair, face, time, |_| false).map(|_| ())
}

fn wait(
    pair: &Pair,
    face: &mut dyn Face,
    limit: Duration,
    condition: impl Fn(&Pair) -> bool,
) -> Result<bool, DemoError> {
    let end = Micros::now() + limit;
    while Micros::now() < end {
        if !face.look(pair) {
            return Err(DemoError::Quit);
        }
        if condition(pair) {
            return Ok(true);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(false)
}

/// Phase times of b's takeover, counted from the cut; `None` until all of them are known.
fn takeover(pair: &Pair, cut: Micros) -> Option<Takeover> {
    let timeline = pair.watch(1).status(cut)?.takeover?;
    let ms = |guest_us: u64| {
        let at = pair.watch(1).on_bench(guest_us).filter(|_| guest_us != 0)?;
        Some(at.ms_since(cut))
    };
    let takeover = Takeover {
        verdict_ms: ms(timeline.verdict_us)?,
        fenced_ms: ms(timeline.fenced_us)?,
        promoted_ms: ms(timeline.promoted_us)?,
        mounted_ms: ms(timeline.mounted_us)?,
        services_ms: ms(timeline.services_us)?,
        claimed_ms: ms(timeline.claimed_us)?,
    };
    // An older takeover would lie before the cut; the two clocks agree to a few milliseconds.
    (takeover.claimed_ms > 0).then_some(takeover)
}

fn stuck(pair: &Pair, zero: Micros, stage: &'static str, why: String) -> DemoError {
    DemoError::Stuck { stage, why, evidence: write_events(pair, zero) }
}
