//! The log's two files: `events.log` and the generation before it, one JSON record a line, each at most 1 MiB. Tolerates a last
//! line torn by a power cut. Does not number records; that is the log.

use crate::log::EVENTS_MAX;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use twinpost_api::EventRecord;

/// Largest size of one generation, bytes: about 4,000 records.
pub const GENERATION_BYTES_MAX: u64 = 1024 * 1024;
/// Longest line that is read back, bytes; longer ones are damage.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Why the log is not durable.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Cannot be opened or read.
    #[error("the event log is kept in memory only: {path} cannot be used; check the log partition", path = path.display())]
    Open {
        /// File.
        path: PathBuf,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// Cannot be written.
    #[error("events are not written to disk: {path}; free space on the log partition or check its drive", path = path.display())]
    Write {
        /// File.
        path: PathBuf,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
}

/// The open log.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The last append failed in the middle: a line must be ended before the next one.
    torn: bool,
}

impl Files {
    /// Opens or makes the files and reads the last records. A torn last line is ended, so that it spoils no other.
    pub fn open(dir: &Path) -> Result<(Self, VecDeque<EventRecord>), FileError> {
        let path = dir.join("events.log");
        let failed = |source| FileError::Open { path: path.clone(), source };
        let mut records = VecDeque::new();
        for name in [older(&path), path.clone()] {
            read_records(&name, &mut records).map_err(failed)?;
        }
        let mut file = File::options().read(true).append(true).create(true).open(&path).map_err(failed)?;
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let torn = bytes > 0 && !ends_a_line(&mut file).map_err(failed)?;
        Ok((Self { path, file, bytes, torn }, records))
    }

    /// Appends one record; begins a new generation when this one is full.
    pub fn append(&mut self, record: &EventRecord) -> Result<(), FileError> {
        self.try_append(record).map_err(|source| FileError::Write { path: self.path.clone(), source })
    }

    /// Waits until all is on the medium.
    pub fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|source| FileError::Write { path: self.path.clone(), source })
    }

    fn try_append(&mut self, record: &EventRecord) -> io::Result<()> {
        let mut line = Vec::new();
        if self.torn {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        if self.bytes + line.len() as u64 > GENERATION_BYTES_MAX {
            self.turn()?;
        }
        self.torn = true;
        self.file.write_all(&line)?;
        self.torn = false;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// The present generation becomes the older one. This also frees space on a full partition.
    fn turn(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        fs::rename(&self.path, older(&self.path))?;
        self.file = File::options().read(true).append(true).create(true).open(&self.path)?;
        self.bytes = 0;
        self.torn = false;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_added_extension("1")
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Appends the file's valid records to `records`, keeping the last [`EVENTS_MAX`] in rising order.
fn read_records(path: &Path, records: &mut VecDeque<EventRecord>) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Twice the bound: a file that somebody else made larger is not read without end.
    let mut reader = BufReader::new(file.take(2 * GENERATION_BYTES_MAX));
    let mut line = Vec::new();
    while (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 {
        let known = records.back().map_or(0, |last| last.seq);
        if let Ok(record) = serde_json::from_slice::<EventRecord>(&line)
            && record.seq > known
        {
            records.push_back(record);
        }
        if records.len() > EVENTS_MAX {
            records.pop_front();
        }
        line.clear();
    }
    Ok(())
}
