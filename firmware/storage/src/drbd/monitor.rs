//! Follows the volumes: an `events2` child read line by line; a fresh start of it when it ends, loses events or says nothing
//! intelligible; and a snapshot every second while copies differ, because the kernel tells no progress by itself, and now and then while
//! the pair is not whole, because an event that was lost would be missed for ever.
//! Decides nothing.

use super::Drbd;
use super::arguments::FOLLOW;
use super::events::{Line, State};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use twinpost_types::{DiskState, Replication, VOLUMES, VolumeReport};

/// First pause before the child is started again.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Between snapshots while a resynchronisation runs.
const PROGRESS: Duration = Duration::from_secs(1);
/// Snapshots of a pair that is not whole, though nothing is copied: every so many of [`PROGRESS`].
const UNSETTLED_EVERY: u32 = 10;
/// Longest line that is taken; real ones have below 300 bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// Starts following. Ends by itself when every receiver is gone.
pub fn spawn(drbd: Drbd) -> watch::Receiver<[VolumeReport; VOLUMES]> {
    let (sender, receiver) = watch::channel([VolumeReport::default(); VOLUMES]);
    tokio::spawn(async move {
        let mut pause = BACK_OFF_MIN;
        while !sender.is_closed() {
            if follow(&drbd, &sender).await {
                pause = BACK_OFF_MIN;
            }
            // A stream that broke off says nothing of the present: ask once while waiting.
            if let Ok(reports) = drbd.status().await {
                publish(&sender, reports);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = sender.closed() => return,
            }
            pause = (pause * 2).min(BACK_OFF_MAX);
        }
    });
    receiver
}

/// Follows one child until it ends. True when it worked at least until its first dump was complete.
async fn follow(drbd: &Drbd, sender: &watch::Sender<[VolumeReport; VOLUMES]>) -> bool {
    let Some((_child, stdout)) = start(drbd) else { return false };
    let mut lines = BufReader::new(stdout);
    let mut state = State::default();
    let mut complete = false;
    let mut progress_at = Instant::now() + PROGRESS;
    let mut looks: u32 = 0;
    let mut line = Vec::new();
    loop {
        tokio::select! {
            read = next_line(&mut lines, &mut line) => {
                if !read {
                    return complete;
                }
                match state.apply(&String::from_utf8_lossy(&line)) {
                    Line::Skipped => return complete,
                    Line::Complete => complete = true,
                    Line::Part => {}
                }
                line.clear();
                // Lines come in bundles: publish when the bundle is read.
                if complete && lines.buffer().is_empty() {
                    publish(sender, drbd.report(&state).await);
                }
            }
            () = sleep_until(progress_at) => {
                progress_at = Instant::now() + PROGRESS;
                looks = looks.wrapping_add(1);
                let (syncing, settled) = {
                    let told = sender.borrow();
                    (told.iter().any(is_syncing), told.iter().all(is_settled))
                };
                let due = syncing || (!settled && looks.is_multiple_of(UNSETTLED_EVERY));
                if due && let Ok(reports) = drbd.status().await {
                    let missed = !syncing && sender.borrow().map(states) != reports.map(states);
                    publish(sender, reports);
                    if missed {
                        // The lines read so far do not add up to the present: the next one would bring the old state back.
                        return complete;
                    }
                }
            }
            () = sender.closed() => return complete,
        }
    }
}

fn start(drbd: &Drbd) -> Option<(Child, impl AsyncRead + Unpin + use<>)> {
    let mut child = Command::new(&drbd.shared.drbdsetup)
        .args(FOLLOW)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    Some((child, stdout))
}

/// Appends to `line` until it is whole; false at the end of the stream or when a line is too long. May be cancelled and
/// called again with the same `line`.
async fn next_line(lines: &mut (impl AsyncBufReadExt + Unpin), line: &mut Vec<u8>) -> bool {
    let room = LINE_BYTES_MAX.saturating_sub(line.len() as u64);
    let read = lines.take(room).read_until(b'\n', line).await;
    matches!(read, Ok(bytes) if bytes > 0) && line.ends_with(b"\n")
}

fn publish(sender: &watch::Sender<[VolumeReport; VOLUMES]>, reports: [VolumeReport; VOLUMES]) {
    sender.send_if_modified(|current| {
        let changed = *current != reports;
        *current = reports;
        changed
    });
}

/// What the kernel tells by events; the count of blocks that differ grows without one.
fn states(report: VolumeReport) -> (DiskState, DiskState, Replication, bool, bool) {
    (report.local, report.peer, report.replication, report.promoted, report.suspended)
}

fn is_settled(report: &VolumeReport) -> bool {
    let both = (report.local, report.peer) == (DiskState::UpToDate, DiskState::UpToDate);
    both && report.replication == Replication::Connected
}

fn is_syncing(report: &VolumeReport) -> bool {
    matches!(report.replication, Replication::SyncSource | Replication::SyncTarget)
}
