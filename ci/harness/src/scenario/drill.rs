//! What drives, load and clocks of QEMU units can be made to do, in the words of the units' operator. Pure; `run` carries it out.

use std::time::Duration;
use twinpost_api::{STRESS_SECONDS_MAX, date};
use twinpost_scenario::{Action, Stress};

use crate::qemu::SYSTEM_DISK;

/// False for what no QEMU unit of this release can do.
pub fn is_possible(action: &Action) -> bool {
    match action {
        Action::Disk(_, _, disk) => disk == SYSTEM_DISK,
        Action::Stress(_, _, time) => {
            (Duration::from_secs(1)..=Duration::from_secs(STRESS_SECONDS_MAX.into())).contains(time)
        }
        Action::StepFail(..) | Action::Repair => false,
        _ => true,
    }
}

/// The command that loads a unit; parts of a second are rounded up.
pub fn stress(kind: Stress, time: Duration) -> String {
    let kind = match kind {
        Stress::Cpu => "cpu",
        Stress::Io => "io",
        Stress::Memory => "memory",
    };
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    format!("diagnose debug stress {kind} {seconds}")
}

/// The command that sets a unit's clock to the host's, `ahead` seconds later.
pub fn set_clock(host_unix_s: u64, ahead: i64) -> String {
    let unix_s = host_unix_s.saturating_add_signed(ahead);
    format!("execute date {}", date::utc(unix_s.saturating_mul(1000)).trim_end_matches(" UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_scenario::DiskFault;

    #[test]
    fn commands_are_those_of_the_operator() {
        assert_eq!(set_clock(1_795_330_801, -31_536_000), "execute date 2025-11-22 07:00:01");
        assert_eq!(set_clock(1_795_330_801, 3), "execute date 2026-11-22 07:00:04");
        assert_eq!(stress(Stress::Io, Duration::from_millis(1500)), "diagnose debug stress io 2");
    }

    #[test]
    fn only_the_drive_that_exists_can_fail() {
        assert!(is_possible(&Action::Disk(DiskFault::Hang, 0, "system".into())));
        assert!(!is_possible(&Action::Disk(DiskFault::Hang, 0, "mail".into())));
        assert!(!is_possible(&Action::Stress(Stress::Cpu, 0, Duration::from_secs(7200))));
    }
}
