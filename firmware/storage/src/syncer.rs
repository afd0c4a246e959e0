//! Flushes the queue volume every 200 ms while it is mounted, so that Postfix's marks "recipient done" are on both units
//! before a crash can resurrect them (`spec/mail.md` "Durability": this and `data=journal` reduce second deliveries from
//! hundreds to the last tenth of a second). One thread, which may hang in the kernel without holding anybody else.

use crate::volume;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use twinpost_types::VolumeId;

/// Between two flushes. Shorter costs throughput, longer leaves more marks behind.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long [`Syncer::stop`] waits for a flush that is under way. The open folder would keep the volume busy.
const STOP: Duration = Duration::from_millis(100);

/// A running flusher. Dropping it stops it.
#[derive(Debug)]
pub struct Syncer {
    stop: Option<Sender<()>>,
    ended: mpsc::Receiver<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    flushes: AtomicU64,
    slowest_us: AtomicU64,
    trouble: RwLock<Option<String>>,
}

impl Syncer {
    /// Starts flushing a mounted volume.
    ///
    /// # Errors
    /// The mount point cannot be opened, or no thread can be started.
    pub fn start(volume: VolumeId) -> io::Result<Self> {
        Self::start_at(volume::mount_point(volume))
    }

    fn start_at(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let (stop, stopped) = mpsc::channel::<()>();
        let (ending, ended) = mpsc::channel::<()>();
        let shared = Arc::new(Shared::default());
        let counted = Arc::clone(&shared);
        std::thread::Builder::new().name("syncer".to_owned()).spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                counted.flush(&folder);
            }
            // Closed before the end is told: who waits for the end wants to unmount.
            drop(folder);
            drop(ending);
        })?;
        Ok(Self { stop: Some(stop), ended, shared })
    }

    /// Stops. Returns within 100 ms; false when a flush still hangs in the kernel.
    pub fn stop(&mut self) -> bool {
        drop(self.stop.take());
        matches!(self.ended.recv_timeout(STOP), Err(RecvTimeoutError::Disconnected))
    }

    /// Flushes so far, and the slowest of them.
    #[must_use]
    pub fn flushes(&self) -> (u64, Duration) {
        let slowest = Duration::from_micros(self.shared.slowest_us.load(Ordering::Relaxed));
        (self.shared.flushes.load(Ordering::Relaxed), slowest)
    }

    /// The last error of the medium, if there was one.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn flush(&self, folder: &impl std::os::fd::AsFd) {
        let began = Instant::now();
        if let Err(error) = rustix::fs::syncfs(folder) {
            let words = format!("the mail queue could not be flushed ({error}): check the drive");
            *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = Some(words);
        }
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.slowest_us.fetch_max(took, Ordering::Relaxed);
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_until_it_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut syncer = Syncer::start_at(dir.path()).unwrap();
        let began = Instant::now();
        while syncer.flushes().0 < 2 && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(syncer.flushes().0 >= 2);
        assert_eq!(syncer.trouble(), None);
        syncer.stop();
    }

    #[test]
    fn a_missing_mount_point_is_an_error() {
        assert!(Syncer::start_at(Path::new("/nonexistent")).is_err());
    }
}
