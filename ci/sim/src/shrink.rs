//! Makes a failing scenario shorter while it still fails in the same check: whole spans of lines first, then single ones, then settings.

use crate::judge::Check;
use crate::play::Simulator;
use twinpost_scenario::{Action, Scenario, Step, What};

/// Most runs that are spent on it.
const RUNS_MAX: u32 = 600;

/// The shortest scenario found that fails in the same check with the same seed.
pub fn shrink(simulator: &mut Simulator, scenario: &Scenario, seed: u64) -> Scenario {
    let mut runs = RUNS_MAX;
    let mut fails = |candidate: &Scenario, check: Option<Check>| -> Option<Option<Check>> {
        runs = runs.checked_sub(1)?;
        let failure = simulator.run(candidate, seed, false).ok()?.failure?;
        (check.is_none() || failure.check == check).then_some(failure.check)
    };
    let Some(check) = fails(scenario, None) else { return scenario.clone() };
    let mut best = scenario.clone();
    let mut span = best.steps.len().max(1);
    while span > 0 {
        let mut from = 0;
        while from < best.steps.len() {
            let end = (from + span).min(best.steps.len());
            let mut candidate = best.clone();
            let mut index = 0;
            candidate.steps.retain(|step| {
                index += 1;
                !(from..end).contains(&(index - 1)) || is_end(step)
            });
            if candidate.steps.len() < best.steps.len() && fails(&candidate, check).is_some() {
                best = candidate;
            } else {
                from = end;
            }
        }
        span /= 2;
    }
    for index in (0..best.settings.len()).rev() {
        let mut candidate = best.clone();
        candidate.settings.remove(index);
        if fails(&candidate, check).is_some() {
            best = candidate;
        }
    }
    best
}

/// Repairs and expectations stay: without them the rest would prove nothing.
fn is_end(step: &Step) -> bool {
    matches!(step.what, What::Act(Action::Repair) | What::Expect(_))
}
