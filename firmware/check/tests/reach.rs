//! Two units that ask the same neighbour: whenever it dies and comes back, neither takes it for lost while it is told that the
//! other one is well. Otherwise a dead gateway would move the role to and fro.

use proptest::prelude::*;
use std::time::Duration;
use twinpost_check::{ASK_EVERY, Reach};
use twinpost_types::Instant;

/// Step of the replay; the shell looks at its sockets every 250 ms.
const STEP_MS: u64 = 50;
const LOOK_MS: u64 = 250;
/// Health is looked at every two seconds and travels with a heartbeat, at most one second later.
const TOLD_LATE_MS_MAX: u64 = 3_000;

fn at(millis: u64) -> Instant {
    Instant(millis * 1000)
}

/// Who is lost and who is steady at every step, for a unit that asks with this phase while the neighbour lives as `alive` says.
fn replay(alive: &[bool], phase_ms: u64) -> Vec<(bool, bool)> {
    let ask_ms = u64::try_from(ASK_EVERY.as_millis()).expect("a second");
    let mut reach = Reach::new(at(0));
    let mut waits = false;
    (0..)
        .zip(alive)
        .map(|(step, alive)| {
            let now = step * STEP_MS;
            if (now + phase_ms).is_multiple_of(LOOK_MS) && core::mem::take(&mut waits) {
                reach.answered(at(now));
            }
            if (now + phase_ms).is_multiple_of(ask_ms) {
                reach.asked();
                waits = *alive;
            }
            (reach.is_lost(), reach.is_steady(at(now)))
        })
        .collect()
}

proptest! {
    #[test]
    fn a_neighbour_that_is_dead_for_both_moves_no_role(
        lives in proptest::collection::vec((0_u64..40_000, any::<bool>()), 1..8),
        phases in (0_u64..20, 0_u64..20),
        late in 0..=TOLD_LATE_MS_MAX,
    ) {
        let mut alive = vec![true; 400];
        for (millis, lives) in lives {
            alive.extend(std::iter::repeat_n(lives, usize::try_from(millis / STEP_MS).unwrap()));
        }
        let [own, peer] = [phases.0, phases.1].map(|phase| replay(&alive, phase * STEP_MS));
        let late = usize::try_from(late / STEP_MS).unwrap();
        for (step, (lost, _)) in own.iter().enumerate().skip(late) {
            prop_assert!(!(*lost && peer[step - late].1), "at {:?}", Duration::from_millis(step as u64 * STEP_MS));
        }
    }

    #[test]
    fn a_neighbour_that_only_one_unit_reaches_is_told_by_both(phases in (0_u64..20, 0_u64..20)) {
        let cut: Vec<bool> = (0..800).map(|step| step < 400).collect();
        let own = replay(&cut, phases.0 * STEP_MS);
        let peer = replay(&[true; 800], phases.1 * STEP_MS);
        prop_assert!(own[799].0 && peer[799].1, "lost here and steady there 20 s after the cut");
    }
}
