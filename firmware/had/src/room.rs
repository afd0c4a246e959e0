//! What an operator must know about room on the drives and nothing else tells: the units' mail volumes differ in size, or the state
//! partition is full. Looks every ten seconds, off the event loop, and puts alarms into force or takes them back. Decides nothing.

use crate::main_unit::Unit;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use twinpost_storage::partition;
use twinpost_types::{Replication, VOLUMES, VolumeId, VolumeReport};

/// Time between two looks: the state partition fills slowly, sizes change when a drive does.
const EVERY: Duration = Duration::from_secs(10);
/// Below this much a configuration of the largest size (1 MiB, with its old copy beside it) may no longer fit, KiB.
const STATE_FREE_KIB_MIN: u64 = 2048;
/// DRBD's own data takes 32 KiB a GiB and some; rounding takes the rest, MiB.
const METADATA_MIB: u32 = 2;
/// And this share of the partition, as a divisor.
const METADATA_SHARE: u32 = 4096;
/// Where durable state is.
const STATE: &str = "/state";

/// Runs for ever.
pub async fn watch(unit: Arc<Unit>) {
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        // A drive that hangs holds a thread of the pool, not the event loop.
        let Ok((free, partitions)) = tokio::task::spawn_blocking(look).await else { continue };
        let state = free.and_then(state_trouble);
        set(&unit, "state-room", state);
        let own = *unit.volumes.borrow();
        let peer = unit.shared.view().ha.and_then(|ha| ha.peer).map(|peer| peer.volumes);
        for volume in VolumeId::ALL {
            let i = volume.index();
            let peer = peer.as_ref().map(|peer| &peer[i]);
            // A volume that is not replicated has the size of nobody else; what is told of it is the other one's.
            let replicated = !unit.executor.drbd.is_local(volume);
            let trouble =
                partitions[i].filter(|_| replicated).and_then(|mib| size_trouble(volume, mib, &own[i], peer));
            set(&unit, &format!("size-{}", volume.name()), trouble);
        }
    }
}

fn set(unit: &Unit, key: &str, trouble: Option<String>) {
    match trouble {
        Some(sentence) => unit.shared.alarm(key, &sentence),
        None => unit.shared.clear(key),
    }
}

/// Free KiB of the state partition, and the sizes of the mail partitions in MiB, as far as they can be read.
fn look() -> (Option<u64>, [Option<u32>; VOLUMES]) {
    let state = rustix::fs::statvfs(Path::new(STATE)).ok();
    let free = state.map(|state| state.f_bavail.saturating_mul(state.f_frsize) / 1024);
    let partitions = VolumeId::ALL.map(|volume| {
        let found = partition::find(&format!("mail-{}", volume.name())).ok()?;
        u32::try_from(found.size_bytes / (1024 * 1024)).ok()
    });
    (free, partitions)
}

fn state_trouble(free_kib: u64) -> Option<String> {
    (free_kib < STATE_FREE_KIB_MIN).then(|| {
        format!(
            "the state partition is full (less than {STATE_FREE_KIB_MIN} KiB free): this unit still takes over, but changes of the \
             configuration are refused; delete what does not belong on the partition named state, or have the unit's drive renewed"
        )
    })
}

/// What differs in size. `own` and `peer` carry the sizes that replication works with.
fn size_trouble(
    volume: VolumeId,
    partition_mib: u32,
    own: &VolumeReport,
    peer: Option<&VolumeReport>,
) -> Option<String> {
    let name = volume.name();
    let usable = partition_mib.saturating_sub(METADATA_MIB + partition_mib / METADATA_SHARE);
    if own.replication.is_connected() && own.size_mib > 0 && own.size_mib < usable {
        return Some(format!(
            "mail volume {name} has {} MiB although this unit has room for {usable} MiB, because the other unit's drive is smaller: \
             mail is safe; to use all the room, fit a drive of the same size in the other unit",
            own.size_mib
        ));
    }
    let refused = own.replication == Replication::StandAlone;
    let peer = peer.filter(|peer| refused && peer.size_mib > 0 && peer.size_mib != own.size_mib)?;
    Some(format!(
        "mail volume {name} is not replicated: it has {} MiB here and {} MiB on the other unit, and a copy cannot be smaller than \
         its original; fit a drive at least as large as the other unit's in the unit with the smaller volume",
        own.size_mib, peer.size_mib
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(size_mib: u32, replication: Replication) -> VolumeReport {
        VolumeReport { size_mib, replication, ..VolumeReport::default() }
    }

    #[test]
    fn equal_drives_are_no_trouble() {
        let own = report(876, Replication::Connected);
        assert_eq!(size_trouble(VolumeId::Queue, 877, &own, Some(&own)), None);
        let large = report(8 * 1024 * 1024 - 300, Replication::Connected);
        assert_eq!(size_trouble(VolumeId::Data, 8 * 1024 * 1024, &large, Some(&large)), None);
        assert_eq!(size_trouble(VolumeId::Data, 2631, &VolumeReport::default(), None), None);
    }

    #[test]
    fn a_larger_drive_is_told_and_a_smaller_one_explained() {
        let own = report(876, Replication::Connected);
        let told = size_trouble(VolumeId::Queue, 1100, &own, Some(&own)).unwrap();
        assert!(told.contains("queue has 876 MiB") && told.contains("fit a drive"), "{told}");
        let own = report(876, Replication::StandAlone);
        let told = size_trouble(VolumeId::Queue, 877, &own, Some(&report(500, Replication::Down))).unwrap();
        assert!(told.contains("876 MiB here and 500 MiB") && told.contains("fit a drive"), "{told}");
        assert_eq!(
            size_trouble(VolumeId::Queue, 877, &own, Some(&own)),
            None,
            "diverged, not of another size"
        );
    }

    #[test]
    fn a_full_state_partition_says_what_still_works() {
        assert_eq!(state_trouble(STATE_FREE_KIB_MIN), None);
        let told = state_trouble(0).unwrap();
        assert!(told.contains("still takes over") && told.contains("delete"), "{told}");
    }
}
