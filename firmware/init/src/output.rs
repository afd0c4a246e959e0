//! What services print: lines with time and name, in a ring in memory (`/run/twinpost/service.log`) and on the log
//! partition (`/log/service.log`), two bounded generations each. A thread of its own writes, because a disk may hang
//! and PID 1 must not; when it falls behind, lines are dropped and counted.

use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Ring in memory, bytes a generation.
const RING_BYTES_MAX: u64 = 256 * 1024;
/// Log partition, bytes a generation; both together are a sixteenth of the partition.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Lines that wait for the writer.
const LINES_MAX: usize = 256;
/// Longest line, bytes; the rest of a longer one becomes further lines.
pub const LINE_BYTES_MAX: usize = 1024;
/// Longest wait for the last lines.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Between two looks at the writer.
const CLOSE_LOOK: Duration = Duration::from_millis(5);
/// Stack of the writer; it calls only the file system.
const STACK_BYTES: usize = 64 * 1024;

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes, calls `line` for every whole line, without its newline, invalid UTF-8 replaced.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for byte in bytes {
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
            if *byte == b'\n' || self.partial.len() >= LINE_BYTES_MAX {
                if !self.partial.is_empty() {
                    line(&String::from_utf8_lossy(&self.partial));
                }
                self.partial.clear();
            }
        }
    }

    /// The stream ended.
    pub fn finish(&mut self, line: impl FnMut(&str)) {
        self.feed(b"\n", line);
    }
}

/// A file of bounded size with one older generation beside it.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    bytes_max: u64,
    open: Option<(File, u64)>,
}

impl BoundedLog {
    /// A log at `path`; the older generation is `<path>.1`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, bytes_max: u64) -> Self {
        Self { path: path.into(), bytes_max, open: None }
    }

    /// Appends a line; starts a new generation when the file would become too long.
    ///
    /// # Errors
    /// When the file system refuses; the next call tries again from the start.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        let result = self.try_append(line);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn try_append(&mut self, line: &str) -> io::Result<()> {
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        let length = match &self.open {
            Some((_, length)) => *length,
            None => self.reopen()?,
        };
        if length > 0 && length.saturating_add(bytes) > self.bytes_max {
            self.open = None;
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            self.reopen()?;
        }
        if let Some((file, length)) = &mut self.open {
            file.write_all(format!("{line}\n").as_bytes())?;
            *length = length.saturating_add(bytes);
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<u64> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let length = file.metadata()?.len();
        self.open = Some((file, length));
        Ok(length)
    }
}

/// The way to the writer.
#[derive(Debug)]
pub struct Output {
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
    dropped: u64,
}

impl Output {
    /// Starts the writer; `durable` says whether the log partition is mounted. Without a thread (no memory) lines go
    /// nowhere but the console.
    #[must_use]
    pub fn start(durable: bool) -> Self {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let thread = std::thread::Builder::new().name("log".into()).stack_size(STACK_BYTES);
        match thread.spawn(move || write_all(&receiver, durable)) {
            Ok(writer) => Self { lines: Some(sender), writer: Some(writer), dropped: 0 },
            Err(error) => {
                crate::console::say(&format!("no log writer: {error}"));
                Self { lines: None, writer: None, dropped: 0 }
            }
        }
    }

    /// Ends the writer, so that the log partition can be unmounted. A writer that hangs is left behind.
    pub fn close(&mut self) {
        self.lines = None;
        let until = crate::console::now() + CLOSE_TIME;
        while let Some(writer) =
            self.writer.take_if(|writer| writer.is_finished() || crate::console::now() < until)
        {
            if writer.is_finished() {
                let _ = writer.join();
                return;
            }
            self.writer = Some(writer);
            crate::console::pause(CLOSE_LOOK);
        }
    }

    /// One line of `service`. A prefix `<0>` to `<3>` (as systemd and the kernel have it) shows it on the console too.
    pub fn line(&mut self, now: Duration, service: &str, text: &str) {
        let (important, text) = match text.as_bytes() {
            [b'<', b'0'..=b'3', b'>', ..] => (true, &text[3..]),
            [b'<', b'4'..=b'7', b'>', ..] => (false, &text[3..]),
            _ => (false, text),
        };
        if important {
            crate::console::say(&format!("{service}: {text}"));
        }
        let lost =
            if self.dropped > 0 { format!(" [{} lines lost before]", self.dropped) } else { String::new() };
        let line = format!("{:.3} {service}:{lost} {text}", now.as_secs_f64());
        match self.lines.as_ref().map(|lines| lines.try_send(line)) {
            Some(Ok(())) => self.dropped = 0,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {
                self.dropped = self.dropped.saturating_add(1);
            }
        }
    }
}

fn write_all(lines: &Receiver<String>, durable: bool) {
    let mut ring = BoundedLog::new("/run/twinpost/service.log", RING_BYTES_MAX);
    let mut log = durable.then(|| BoundedLog::new("/log/service.log", LOG_BYTES_MAX));
    while let Ok(line) = lines.recv() {
        // A full or broken file system loses the line there, nothing else; nobody could be told more durably.
        let _ = ring.append(&line);
        if let Some(log) = &mut log {
            let _ = log.append(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_bounded() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        lines.feed(b"one\n\ntw", |line| seen.push(line.to_owned()));
        lines.feed(b"o\nx\xff", |line| seen.push(line.to_owned()));
        lines.finish(|line| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "two", "x\u{fffd}"]);
        let mut count = 0;
        lines.feed(&vec![b'a'; 10 * LINE_BYTES_MAX], |line| {
            assert!(line.len() <= LINE_BYTES_MAX);
            count += 1;
        });
        assert_eq!(count, 10);
    }

    #[test]
    fn two_generations_are_all() {
        let folder = tempfile::tempdir().expect("scratch folder");
        let mut log = BoundedLog::new(folder.path().join("service.log"), 100);
        for number in 0..100 {
            log.append(&format!("line {number:04}")).expect("appends");
        }
        let mut total = 0;
        for entry in std::fs::read_dir(folder.path()).expect("lists") {
            let length = entry.expect("entry").metadata().expect("metadata").len();
            assert!(length <= 100);
            total += 1;
        }
        assert_eq!(total, 2);
        let text = std::fs::read_to_string(folder.path().join("service.log")).expect("reads");
        assert!(text.ends_with("line 0099\n"));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_an_error_each_time_and_recovers() {
        let folder = tempfile::tempdir().expect("scratch folder");
        let mut log = BoundedLog::new(folder.path().join("later/service.log"), 100);
        assert!(log.append("x").is_err());
        std::fs::create_dir(folder.path().join("later")).expect("makes");
        assert!(log.append("x").is_ok());
    }
}
