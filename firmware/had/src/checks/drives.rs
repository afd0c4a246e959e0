//! local-hd: each drive under this unit's partitions is written to and read every two seconds by a thread of its own, which may hang
//! with it for ever without anybody waiting. Besides: SMART, file systems that became read-only, volumes without a disk.

use super::Ended;
use crate::provision::chain;
use crate::shared::{Shared, now_us};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use twinpost_check::{Rules, Run, read_only_mount};
use twinpost_config::LocalRules;
use twinpost_hal::{Drive, ErrorKind, HardwareError, Health};
use twinpost_hal_linux::{Roots, SysfsDrive};
use twinpost_storage::partition;
use twinpost_types::{DiskState, Instant, VOLUMES, VolumeId, VolumeReport};

/// Between two tests of a drive: with [`HUNG_AFTER`] and a look a hung drive is told within 8 s. The wear is 60 GB a year.
const TEST_EVERY: Duration = Duration::from_secs(2);
/// A drive that does not answer for this long hangs. Drives retry internally for less (SCT ERC is 7 s on disks for desktops,
/// which do not belong into this box).
const HUNG_AFTER: Duration = Duration::from_secs(5);
/// Between two questions for SMART: its values change over days.
const SMART_EVERY: Duration = Duration::from_secs(600);
/// Stack of these threads: they call a few functions, and all memory is locked.
const STACK_BYTES: usize = 128 * 1024;
/// A run only reads what the threads found.
const LIMIT: Duration = Duration::from_secs(5);
/// Partitions under which drives are looked for, and the file that is reserved for tests on those with a file system of their own.
const PARTITIONS: [(&str, Option<&str>); 4] = [
    ("log", Some("/log/drive-check")),
    ("state", Some("/state/drive-check")),
    ("mail-queue", None),
    ("mail-data", None),
];
/// File systems that must stay writable.
const MOUNTS: [&str; 4] = ["/state", "/log", "/mail/queue", "/mail/data"];

/// All drives of this unit.
pub(super) struct Drives {
    watched: Vec<Watched>,
    /// Volumes that had a disk once: one that was never attached is told elsewhere.
    attached: [bool; VOLUMES],
}

/// One drive as its threads tell it.
#[derive(Clone)]
struct Watched {
    label: String,
    found: Arc<Mutex<Found>>,
}

/// What is known of a drive.
#[derive(Clone, Debug)]
struct Found {
    /// A test is under way since then.
    since: Option<Instant>,
    /// The last test, and how long it took.
    last: Result<Duration, String>,
    smart: Health,
}

/// Rules of the check; hanging is looked for at every turn.
pub(super) fn rules(set: LocalRules) -> Rules {
    Rules { interval: set.interval, limit: LIMIT, retries: set.retries }
}

impl Drives {
    /// Finds the drives and starts their threads.
    pub fn start(shared: &Shared) -> Self {
        let mut watched: Vec<Watched> = Vec::new();
        for (name, reserve) in PARTITIONS {
            let found = partition::find(name).ok().and_then(|found| {
                let kernel_name = found.device.file_name()?.to_str()?.to_owned();
                SysfsDrive::of_partition(&Roots::default(), &kernel_name).ok()
            });
            let Some(drive) = found else { continue };
            if watched.iter().any(|known| known.label == drive.label()) {
                continue;
            }
            let drive = match reserve {
                Some(file) => drive.with_reserve(Path::new(file)),
                None => drive,
            };
            let one = Watched { label: drive.label().to_owned(), found: Arc::default() };
            if let Err(error) = one.watch(drive) {
                shared.alarm("drives", &format!("drive {} is not watched: {error}", one.label));
            }
            watched.push(one);
        }
        Self { watched, attached: [false; VOLUMES] }
    }

    /// A drive that hangs, in words.
    pub fn hangs(&self) -> Option<String> {
        let now = Instant(now_us());
        self.watched.iter().find_map(|drive| drive.hangs(now))
    }

    /// What all of it comes to.
    pub fn run(&mut self, volumes: &[VolumeReport; VOLUMES]) -> Ended {
        if let Some(words) = self.hangs() {
            return Ended { run: Run::Hung, words };
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let read_only = read_only_mount(&mounts, &MOUNTS)
            .map(|point| format!("the kernel made {point} read-only after an error of its drive"));
        let failure = self.watched.iter().find_map(Watched::failure);
        match failure.or(read_only).or_else(|| self.detached(volumes)) {
            Some(words) => Ended { run: Run::Failed, words },
            None if self.watched.is_empty() => Ended { run: Run::Passed, words: "no drive to test".into() },
            None => {
                let words: Vec<_> = self.watched.iter().map(Watched::well).collect();
                Ended { run: Run::Passed, words: words.join("; ") }
            }
        }
    }

    fn detached(&mut self, volumes: &[VolumeReport; VOLUMES]) -> Option<String> {
        let mut words = None;
        for (volume, report) in VolumeId::ALL.into_iter().zip(volumes) {
            let attached = &mut self.attached[volume.index()];
            match report.local {
                DiskState::Diskless | DiskState::Failed if *attached => {
                    words = Some(format!("mail volume {} has lost its drive", volume.name()));
                }
                DiskState::Diskless | DiskState::Failed | DiskState::Unknown => {}
                _ => *attached = true,
            }
        }
        words
    }
}

impl Watched {
    /// Two threads: the test must not wait for SMART, and neither may hold up anybody else.
    fn watch(&self, drive: SysfsDrive) -> std::io::Result<()> {
        let label = self.label.clone();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let mut asked = SysfsDrive::new(&Roots::default(), &label, &label);
        let (one, other) = (self.clone(), self.clone());
        let mut tested = drive;
        thread("drive-test").spawn(move || {
            loop {
                one.test(&mut tested);
                std::thread::sleep(TEST_EVERY);
            }
        })?;
        thread("drive-smart").spawn(move || {
            loop {
                let health = asked.health().unwrap_or_default();
                other.change(|found| found.smart = health);
                std::thread::sleep(SMART_EVERY);
            }
        })?;
        Ok(())
    }

    fn test<D: Drive>(&self, drive: &mut D) {
        let began = Instant(now_us());
        self.change(|found| found.since = Some(began));
        let result = drive.exercise();
        let took = Instant(now_us()).since(began);
        self.change(|found| {
            found.since = None;
            found.last = match &result {
                Ok(()) => Ok(took),
                // Only volumes of the mail are on it: they tell by themselves when it fails.
                Err(error) if error.kind() == ErrorKind::Unsupported => Ok(took),
                Err(error) => Err(chain(error)),
            };
        });
    }

    fn hangs(&self, now: Instant) -> Option<String> {
        let since = self.now().since.filter(|since| now.since(*since) > HUNG_AFTER)?;
        Some(format!("drive {} has not answered for {} s", self.label, now.since(since).as_secs()))
    }

    fn failure(&self) -> Option<String> {
        match self.now() {
            Found { last: Err(why), .. } => Some(format!("drive {}: {why}", self.label)),
            Found { smart: Health::Failing, .. } => {
                Some(format!("drive {} says that it is about to fail (SMART)", self.label))
            }
            _ => None,
        }
    }

    fn well(&self) -> String {
        let found = self.now();
        let took = found.last.map_or(0, |took| took.as_millis());
        let smart = match found.smart {
            Health::Well => "SMART well",
            Health::Failing => "SMART failing",
            Health::Unknown => "no SMART",
        };
        format!("drive {} answered in {took} ms, {smart}", self.label)
    }

    fn now(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Default for Found {
    fn default() -> Self {
        Self { since: None, last: Ok(Duration::ZERO), smart: Health::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_hal::Identity;
    use twinpost_hal_sim::SimDrive;

    fn drives(watched: Watched) -> Drives {
        Drives { watched: vec![watched], attached: [false; VOLUMES] }
    }

    #[test]
    fn a_broken_drive_fails_a_missing_smart_does_not() {
        let mut drive = SimDrive::new("vda", Identity { bytes: 1 << 30, ..Identity::default() });
        let one = Watched { label: "vda".into(), found: Arc::default() };
        let mut drives = drives(one.clone());
        let volumes = [VolumeReport::default(); VOLUMES];
        one.test(&mut drive);
        let well = drives.run(&volumes);
        assert_eq!((well.run, well.words.contains("no SMART")), (Run::Passed, true), "{}", well.words);
        drive.state().borrow_mut().broken = true;
        one.test(&mut drive);
        assert_eq!(drives.run(&volumes).run, Run::Failed);
        drive.state().borrow_mut().broken = false;
        one.test(&mut drive);
        one.change(|found| found.smart = Health::Failing);
        assert!(drives.run(&volumes).words.contains("SMART"));
    }

    #[test]
    fn a_drive_that_does_not_come_back_hangs() {
        let one = Watched { label: "vda".into(), found: Arc::default() };
        one.change(|found| found.since = Some(Instant(1_000_000)));
        assert_eq!(one.hangs(Instant(6_000_000)), None);
        assert_eq!(one.hangs(Instant(6_100_000)).unwrap(), "drive vda has not answered for 5 s");
    }

    #[test]
    fn a_volume_that_loses_its_disk_is_a_failure_one_that_never_had_one_is_not() {
        let mut drives = drives(Watched { label: "vda".into(), found: Arc::default() });
        let report = |local| [VolumeReport { local, ..VolumeReport::default() }; VOLUMES];
        for state in [DiskState::Unknown, DiskState::Diskless, DiskState::UpToDate] {
            assert_eq!(drives.run(&report(state)).run, Run::Passed, "{state:?}");
        }
        let lost = drives.run(&report(DiskState::Diskless));
        assert_eq!((lost.run, lost.words.as_str()), (Run::Failed, "mail volume data has lost its drive"));
    }
}
