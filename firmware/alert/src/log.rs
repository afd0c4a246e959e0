//! The event log: numbered records in a ring in memory, written behind to the log partition by one thread. Without a
//! usable partition the ring goes on and [`EventLog::trouble`] says so.

use crate::file::Files;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use twinpost_api::EventRecord;

/// Records kept in memory and given out at once.
pub const EVENTS_MAX: usize = 500;
/// Records that may wait for a slow drive; a takeover writes about 20.
const QUEUE: usize = 1024;
/// Longest text of a record, bytes. A verdict with all its evidence has about 300.
const TEXT_BYTES_MAX: usize = 2048;
/// Longest name of a record, bytes.
const NAME_BYTES_MAX: usize = 64;

/// The event log. Clones write the same log.
#[derive(Clone, Debug)]
pub struct EventLog {
    shared: Arc<Shared>,
    writer: Option<SyncSender<Job>>,
}

#[derive(Debug)]
struct Shared {
    boot: u64,
    ring: Mutex<Ring>,
    trouble: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Ring {
    next: u64,
    records: VecDeque<EventRecord>,
}

enum Job {
    Write(EventRecord),
    Flush(SyncSender<()>),
}

impl EventLog {
    /// Opens the log in `dir` and goes on after the last number found there. Never fails: without a usable folder records
    /// are kept in memory only, and [`EventLog::trouble`] says what is wrong.
    #[must_use]
    pub fn open(dir: &Path, boot: u64) -> Self {
        let (files, records, trouble) = match Files::open(dir) {
            Ok((files, records)) => (Some(files), records, None),
            Err(error) => (None, VecDeque::new(), Some(words(&error))),
        };
        let next = records.back().map_or(1, |last| last.seq.saturating_add(1));
        let shared =
            Arc::new(Shared { boot, ring: Mutex::new(Ring { next, records }), trouble: Mutex::new(trouble) });
        let writer = files.and_then(|files| start_writer(files, Arc::clone(&shared)));
        Self { shared, writer }
    }

    /// Records an event under a stable name with one line of text. Never waits. Names and texts that are too long are cut.
    pub fn append(&self, name: &str, text: &str, now_us: u64, wall_ms: u64) -> EventRecord {
        let mut ring = lock(&self.shared.ring);
        let record = EventRecord {
            seq: ring.next,
            boot: self.shared.boot,
            at_us: now_us,
            wall_ms,
            name: one_line(name, NAME_BYTES_MAX),
            text: one_line(text, TEXT_BYTES_MAX),
        };
        ring.next = ring.next.saturating_add(1);
        if ring.records.len() >= EVENTS_MAX {
            ring.records.pop_front();
        }
        ring.records.push_back(record.clone());
        // Under the lock, so that the file has the order of the numbers; sending never waits.
        if let Some(writer) = &self.writer {
            match writer.try_send(Job::Write(record.clone())) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => self.shared.complain(
                    "the event log cannot keep up and lost records on disk: check the drive of the log partition",
                ),
                Err(TrySendError::Disconnected(_)) => {
                    self.shared.complain("the event log is no longer written to disk: restart the supervisor");
                }
            }
        }
        record
    }

    /// Records with a number above `seq`, oldest first, at most [`EVENTS_MAX`]. Older ones than the last
    /// [`EVENTS_MAX`] are on the log partition only.
    #[must_use]
    pub fn after(&self, seq: u64) -> Vec<EventRecord> {
        let ring = lock(&self.shared.ring);
        ring.records.iter().filter(|record| record.seq > seq).cloned().collect()
    }

    /// What keeps the log from being durable, one sentence; `None` while all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// Waits until everything recorded so far is on the medium, at most `limit`. False when it is not.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        let Some(writer) = &self.writer else { return false };
        let (done, wait) = sync_channel(1);
        writer.try_send(Job::Flush(done)).is_ok() && wait.recv_timeout(limit).is_ok()
    }
}

impl Shared {
    fn complain(&self, words: &str) {
        *lock(&self.trouble) = Some(words.to_owned());
    }
}

/// Starts the thread that writes. It ends when the last clone of the log is dropped.
fn start_writer(files: Files, shared: Arc<Shared>) -> Option<SyncSender<Job>> {
    let (sender, jobs) = sync_channel(QUEUE);
    let complaining = Arc::clone(&shared);
    let started = std::thread::Builder::new()
        .name("event-log".to_owned())
        .spawn(move || write_all(files, &jobs, &complaining));
    if started.is_err() {
        shared.complain("the event log is kept in memory only: no thread could be started, memory is short");
        return None;
    }
    Some(sender)
}

fn write_all(mut files: Files, jobs: &Receiver<Job>, shared: &Shared) {
    while let Ok(first) = jobs.recv() {
        let mut waiting = Vec::new();
        let mut outcome = Ok(());
        // What has gathered is written at once and synced once.
        for job in std::iter::once(first).chain(jobs.try_iter().take(QUEUE)) {
            match job {
                Job::Write(record) => outcome = outcome.and(files.append(&record)),
                Job::Flush(done) => waiting.push(done),
            }
        }
        match outcome.and_then(|()| files.sync()) {
            Ok(()) => {
                *lock(&shared.trouble) = None;
                // Who asked may have given up waiting.
                for done in waiting {
                    let _ = done.try_send(());
                }
            }
            Err(error) => shared.complain(&words(&error)),
        }
    }
}

fn words(error: &crate::file::FileError) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error} ({source})"))
}

fn one_line(text: &str, bytes_max: usize) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = line.len().min(bytes_max);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

/// A panic elsewhere leaves a ring that is still in order: records are pushed whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
