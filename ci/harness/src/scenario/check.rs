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
        overlap(a, b, &is_promoted, "had promoted volumes")
    }

    /// Both units with mail data on NFS mounted at one moment, in words.
    #[must_use]
    pub fn both_mounted(a: &[Sample], b: &[Sample]) -> Option<String> {
        let mounted = |sample: &Sample| sample.status.nfs.as_ref().is_some_and(|nfs| nfs.mounted);
        overlap(a, b, &mounted, "had mail data on NFS mounted")
    }
}

fn overlap(a: &[Sample], b: &[Sample], is_so: &dyn Fn(&Sample) -> bool, what: &str) -> Option<String> {
    let (outer, inner, names) = match certain_overlap(a, b, is_so) {
        Some((outer, inner)) => (outer, inner, ["a", "b"]),
        None => certain_overlap(b, a, is_so).map(|(outer, inner)| (outer, inner, ["b", "a"]))?,
    };
    Some(format!(
        "both units {what}: {} in epoch {} and {} in epoch {}",
        names[0], outer.status.epoch.0, names[1], inner.status.epoch.0
    ))
}

fn certain_overlap<'a>(
    outer: &'a [Sample],
    inner: &'a [Sample],
    is_so: &dyn Fn(&Sample) -> bool,
) -> Option<(&'a Sample, &'a Sample)> {
    outer.windows(2).find_map(|pair| {
        let [before, after] = pair else { return None };
        let lasting = is_so(before)
            && is_so(after)
            && after.status.now_us >= before.status.now_us
            && after.answered.since(before.asked) < APART_MAX;
        let within = |sample: &&Sample| sample.asked >= before.answered && sample.answered <= after.asked;
        let other = inner.iter().filter(|_| lasting).filter(within).find(|sample| is_so(sample))?;
        Some((before, other))
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
    use twinpost_api::{NfsStatus, Status};
    use twinpost_types::VolumeReport;

    fn sample(asked_ms: u64, promoted: bool) -> Sample {
        let volumes = vec![VolumeReport { promoted, ..VolumeReport::default() }];
        let status = Status { now_us: asked_ms * 1000, volumes, ..Status::default() };
        Sample { asked: Micros(asked_ms * 1000), answered: Micros(asked_ms * 1000 + 5000), status }
    }

    #[test]
    fn an_export_is_mounted_by_one_unit() {
        let mounted = |asked_ms, mounted| {
            let mut sample = sample(asked_ms, false);
            sample.status.nfs = Some(NfsStatus { export: "192.0.2.30:/export/mail".into(), mounted });
            sample
        };
        let a = [mounted(0, true), mounted(200, true)];
        let told = Invariants::both_mounted(&a, &[mounted(100, true)]).unwrap();
        assert!(told.contains("mail data on NFS mounted: a in epoch"), "{told}");
        assert!(Invariants::both_mounted(&a, &[mounted(100, false)]).is_none());
        assert!(Invariants::both_mounted(&a, &[sample(100, true)]).is_none());
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
