//! `diagnose system ha sync`: what is written so far goes onto the drives of both units now, and the operator is told what that
//! means at this moment. Replication goes on by itself; configurations are compared, not carried. `spec/ha.md` section 4.

use crate::main_unit::Unit;
use std::time::Duration;
use twinpost_api::Reply;
use twinpost_types::{DiskState, EffectiveMode, VolumeId, VolumeReport};

/// Longest wait for both file systems. A drive that hangs must not hold the operator.
const LIMIT: Duration = Duration::from_secs(20);

/// Does it, or says why not.
pub async fn now(unit: &Unit) -> Reply {
    unit.shared.event("operator", "sync");
    let effective = unit.shared.view().ha.map_or(EffectiveMode::Off, |ha| ha.effective);
    let volumes = *unit.volumes.borrow();
    match refusal(effective, &volumes) {
        Some(message) => Reply::Refused { message },
        None => match flush().await {
            Ok(()) => Reply::Accepted { message: done(&volumes) },
            Err(message) => Reply::Refused { message },
        },
    }
}

fn refusal(effective: EffectiveMode, volumes: &[VolumeReport]) -> Option<String> {
    if effective != EffectiveMode::Primary {
        return Some(format!(
            "nothing was done: this unit is {effective} and has nothing mounted; run it on the PRIMARY. Replication goes on by itself"
        ));
    }
    let apart = VolumeId::ALL.iter().zip(volumes).find(|(_, report)| !report.replication.is_connected());
    apart.map(|(volume, _)| {
        format!(
            "nothing was done: volume {} is not connected with the other unit; changed blocks follow by themselves when it is back",
            volume.name()
        )
    })
}

fn done(volumes: &[VolumeReport]) -> String {
    let behind: u64 = volumes.iter().map(|report| u64::from(report.out_of_sync_kib)).sum();
    let current = volumes.iter().all(|report| report.peer == DiskState::UpToDate);
    let data = if current {
        "all data written so far is on the drives of both units".to_string()
    } else {
        format!(
            "all data written so far is on this unit's drive; {behind} KiB are still on their way to the other one"
        )
    };
    format!(
        "{data}; configurations are not synchronised by this release, compare: diagnose system ha showcsum all"
    )
}

/// `syncfs` of both volumes; replication acknowledges a write only when the peer's drive has it.
async fn flush() -> Result<(), String> {
    let work = tokio::task::spawn_blocking(|| {
        VolumeId::ALL.into_iter().try_for_each(|volume| {
            let folder = std::fs::File::open(format!("/mail/{}", volume.name()))?;
            rustix::fs::syncfs(&folder).map_err(std::io::Error::from)
        })
    });
    match tokio::time::timeout(LIMIT, work).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(format!("the mail volumes could not be flushed: {error}")),
        Ok(Err(error)) => Err(format!("the mail volumes could not be flushed: {error}")),
        Err(_) => Err(format!(
            "the mail volumes were not flushed within {} s; see get system ha status",
            LIMIT.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_types::Replication;

    fn report(peer: DiskState, replication: Replication) -> VolumeReport {
        VolumeReport { local: DiskState::UpToDate, peer, replication, ..VolumeReport::default() }
    }

    #[test]
    fn what_is_said_is_what_is_so() {
        let good = [report(DiskState::UpToDate, Replication::Connected); 2];
        assert_eq!(refusal(EffectiveMode::Primary, &good), None);
        assert!(done(&good).starts_with("all data written so far is on the drives of both units"));
        assert!(refusal(EffectiveMode::Secondary, &good).unwrap().contains("run it on the PRIMARY"));
        let apart = [good[0], report(DiskState::Unknown, Replication::Down)];
        assert!(refusal(EffectiveMode::Primary, &apart).unwrap().contains("volume data is not connected"));
        let behind = [good[0], report(DiskState::Inconsistent, Replication::SyncSource)];
        assert!(done(&behind).contains("still on their way"));
    }
}
