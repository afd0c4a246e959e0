//! What must hold in every scenario at every moment, judged from the samples of both units. Pure.
//!
//! Two samples of two units are never taken at one instant. So a violation is only what is certain: one unit promoted in two samples
//! in a row, and the other one promoted in a sample that lies wholly between them.

use crate::watch::Sample;
use std::time::Duration;

/// Two samples further apart than this do not tell what was in between.
const APART_MAX: Duration = Duration::from_secs(3);

/// The checks that no scenario can switch off.
pub struct Invariants;

impl Invariants {
    /// Both units with a promoted volume at one moment, in words.
    #[must_use]
    pub fn both_promoted(a: &[Sample], b: &[Sample]) -> Option<String> {
        certain_overlap(a, b, "a", "b").or_else(|| certain_overlap(b, a, "b", "a"))
    }
}

fn certain_overlap(outer: &[Sample], inner: &[Sample], outer_name: &str, inner_name: &str) -> Option<String> {
    outer.windows(2).find_map(|pair| {
        let [before, after] = pair else { return None };
        let lasting = is_promoted(before)
            && is_promoted(after)
            && after.status.now_us >= before.status.now_us
            && after.answered.since(before.asked) < APART_MAX;
        let within = |sample: &&Sample| sample.asked >= before.answered && sample.answered <= after.asked;
        let other = inner.iter().filter(|_| lasting).filter(within).find(|sample| is_promoted(sample))?;
        Some(format!(
            "both units had promoted volumes: {outer_name} in epoch {} and {inner_name} in epoch {}",
            before.status.epoch.0, other.status.epoch.0
        ))
    })
}

/// A volume whose writes are suspended takes part in no data generation any more: it is on its way out.
fn is_promoted(sample: &Sample) -> bool {
    sample.status.volumes.iter().any(|volume| volume.promoted && !volume.suspended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Micros;
    use twinpost_api::Status;
    use twinpost_types::VolumeReport;

    fn sample(asked_ms: u64, promoted: bool) -> Sample {
        let volumes = vec![VolumeReport { promoted, ..VolumeReport::default() }];
        let status = Status { now_us: asked_ms * 1000, volumes, ..Status::default() };
        Sample { asked: Micros(asked_ms * 1000), answered: Micros(asked_ms * 1000 + 5000), status }
    }

    #[test]
    fn only_a_certain_overlap_is_a_violation() {
        let a = [sample(0, true), sample(200, true), sample(400, false)];
        assert!(Invariants::both_promoted(&a, &[sample(100, true)]).is_some());
        assert!(Invariants::both_promoted(&[sample(100, true)], &a).is_some());
        assert!(
            Invariants::both_promoted(&a, &[sample(300, true)]).is_none(),
            "a may have stepped down by then"
        );
        assert!(Invariants::both_promoted(&a, &[sample(198, true)]).is_none(), "not wholly between");
        assert!(Invariants::both_promoted(&a, &[sample(100, false)]).is_none());
    }
}
