//! Which partitions the first boot makes and where (ARCHITECTURE.md "Boot chain"). Pure; `partition.rs` carries it out.
//! A partition that exists is never moved, resized or deleted. The free space behind the last partition is used.

/// One MiB, bytes; also the alignment of every partition.
pub const MIB: u64 = 1 << 20;
/// State: two copies of the configuration, epoch, keys, ledgers; 1 MiB in use on a typical unit.
const STATE_BYTES: u64 = 64 * MIB;
/// Log: two generations of service log, event log, room for a bug report.
const LOG_BYTES: u64 = 128 * MIB;
/// Smallest mail queue: one message of the largest default size and some thousand small ones.
const QUEUE_BYTES_MIN: u64 = 256 * MIB;
/// Smallest mail data volume; below this, mailboxes are pointless.
const DATA_BYTES_MIN: u64 = 256 * MIB;
/// Part of the rest that the queue gets; relayed mail stays for hours, mailboxes for years.
const QUEUE_SHARE: u64 = 4;

/// Names of what the first boot makes, in their order on the disk.
pub const MADE: [&str; 4] = ["state", "log", "mail-queue", "mail-data"];

/// A partition that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// GPT name.
    pub name: String,
    /// Last sector.
    pub last_lba: u64,
}

/// A partition to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct New {
    /// GPT name.
    pub name: &'static str,
    /// First sector.
    pub first_lba: u64,
    /// Length in sectors.
    pub sectors: u64,
}

/// What to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// To make, in order of place.
    pub new: Vec<New>,
    /// What was left out for want of space.
    pub no_room: Vec<&'static str>,
    /// How much larger the disk must be at least for that, MiB.
    pub lacking_mib: u64,
}

/// Plans the missing partitions into the sectors after the last existing one up to `last_usable`.
#[must_use]
pub fn plan(existing: &[Existing], first_usable: u64, last_usable: u64, sector_bytes: u64) -> Layout {
    let mut layout = Layout::default();
    if sector_bytes == 0 || sector_bytes > MIB {
        return layout;
    }
    let step = MIB / sector_bytes;
    let behind = existing.iter().map(|partition| partition.last_lba + 1).max().unwrap_or(0);
    let mut at = behind.max(first_usable).div_ceil(step) * step;
    let end = (last_usable + 1) / step * step;
    let missing = |name: &str| existing.iter().all(|partition| partition.name != name);
    let mut lacking = 0;
    for name in MADE.into_iter().filter(|name| missing(name)) {
        let left = end.saturating_sub(at) * sector_bytes;
        let wanted = match name {
            "state" => STATE_BYTES,
            "log" => LOG_BYTES,
            // Both volumes or only the one: what is missing shares what is left.
            "mail-queue" if missing("mail-data") => (left / QUEUE_SHARE / MIB * MIB).max(QUEUE_BYTES_MIN),
            "mail-queue" => left.max(QUEUE_BYTES_MIN),
            _ => left.max(DATA_BYTES_MIN),
        };
        if wanted > left {
            layout.no_room.push(name);
            lacking += wanted;
            continue;
        }
        layout.new.push(New { name, first_lba: at, sectors: wanted / sector_bytes });
        at += wanted / sector_bytes;
    }
    layout.lacking_mib = lacking.saturating_sub(end.saturating_sub(at) * sector_bytes).div_ceil(MIB);
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(end_mib: u64) -> Vec<Existing> {
        vec![Existing { name: "root-B".into(), last_lba: end_mib * 2048 - 1 }]
    }

    #[test]
    fn fresh_disk_of_two_gib_gets_all_four() {
        let layout = plan(&image(300), 34, 2048 * 2048 - 34, 512);
        let sizes: Vec<_> = layout.new.iter().map(|new| (new.name, new.sectors / 2048)).collect();
        // 2047 MiB end (backup table) − 300 − 64 − 128 = 1555; a quarter is 388.
        assert_eq!(sizes, [("state", 64), ("log", 128), ("mail-queue", 388), ("mail-data", 1167)]);
        assert_eq!(layout.new[0].first_lba, 300 * 2048);
        for pair in layout.new.windows(2) {
            assert_eq!(pair[0].first_lba + pair[0].sectors, pair[1].first_lba);
        }
        assert!(layout.no_room.is_empty());
    }

    #[test]
    fn second_boot_makes_nothing() {
        let mut existing = image(300);
        let first = plan(&existing, 34, 2048 * 2048 - 34, 512);
        existing.extend(
            first
                .new
                .iter()
                .map(|new| Existing { name: new.name.into(), last_lba: new.first_lba + new.sectors - 1 }),
        );
        assert_eq!(plan(&existing, 34, 2048 * 2048 - 34, 512), Layout::default());
    }

    #[test]
    fn small_disk_gets_state_and_log_only() {
        let layout = plan(&image(300), 34, 700 * 2048, 512);
        assert_eq!(layout.new.len(), 2);
        assert_eq!(layout.no_room, ["mail-queue", "mail-data"]);
        // 700 − 300 − 64 − 128 = 208 MiB are left, both volumes need 256 at least.
        assert_eq!(layout.lacking_mib, 2 * 256 - 208);
        let larger = plan(&image(300), 34, (700 + layout.lacking_mib) * 2048, 512);
        assert!(larger.no_room.is_empty() && larger.lacking_mib == 0, "{larger:?}");
        assert_eq!(plan(&image(300), 34, 300 * 2048, 512).no_room.len(), 4);
    }

    #[test]
    fn large_sectors_and_one_missing_volume() {
        let existing = [
            Existing { name: "state".into(), last_lba: 999 },
            Existing { name: "log".into(), last_lba: 1999 },
            Existing { name: "mail-data".into(), last_lba: 256_000 },
        ];
        let layout = plan(&existing, 6, 512 * 1024, 4096);
        assert_eq!(layout.new.len(), 1);
        assert_eq!(layout.new[0].first_lba % 256, 0);
        assert!(layout.new[0].first_lba > 256_000);
        assert_eq!(plan(&existing, 6, 512 * 1024, 0), Layout::default());
    }
}
