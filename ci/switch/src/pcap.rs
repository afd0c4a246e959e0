//! Writes captured frames in the classic pcap format (microseconds, Ethernet), readable by tshark and Wireshark. Bounded:
//! after [`BYTES_MAX`] the capture stops and says so in its counters, since a test must not fill a disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Largest capture file, bytes: several minutes of mail at 20 messages/s.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Frames longer than this are recorded shortened, bytes.
const SNAP_LENGTH: u32 = 2048;
/// LINKTYPE_ETHERNET (www.tcpdump.org/linktypes.html).
const LINK_ETHERNET: u32 = 1;
/// Bytes that wait in memory at most.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why a capture could not be begun.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the capture file {path}")]
pub struct PcapError {
    /// Which file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// One capture file.
pub struct PcapWriter {
    out: BufWriter<File>,
    written: u64,
}

impl PcapWriter {
    /// Creates `path` and writes the header.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: &Path) -> Result<Self, PcapError> {
        let open = || {
            let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
            out.write_all(&header())?;
            out.flush()?;
            Ok(out)
        };
        let out = open().map_err(|source| PcapError { path: path.to_owned(), source })?;
        Ok(Self { out, written: 24 })
    }

    /// Records one frame stamped `since_epoch` (time since 1970). Returns false when the capture is full or failed.
    pub fn record(&mut self, since_epoch: Duration, frame: &[u8]) -> bool {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let kept = length.min(SNAP_LENGTH);
        if self.written + 16 + u64::from(kept) > BYTES_MAX {
            return false;
        }
        let seconds = u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX);
        let mut record = [0u8; 16];
        for (slot, value) in
            record.chunks_exact_mut(4).zip([seconds, since_epoch.subsec_micros(), kept, length])
        {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        let body = frame.get(..kept as usize).unwrap_or(frame);
        let done = self.out.write_all(&record).and_then(|()| self.out.write_all(body)).is_ok();
        self.written += 16 + u64::from(kept);
        done
    }

    /// Hands what is buffered to the system, so that another program can read it.
    pub fn flush(&mut self) {
        // A full disk costs the capture, never the test.
        let _ = self.out.flush();
    }
}

fn header() -> [u8; 24] {
    let mut header = [0u8; 24];
    header[..4].copy_from_slice(&0xA1B2_C3D4u32.to_le_bytes());
    header[4..6].copy_from_slice(&2u16.to_le_bytes());
    header[6..8].copy_from_slice(&4u16.to_le_bytes());
    header[16..20].copy_from_slice(&SNAP_LENGTH.to_le_bytes());
    header[20..].copy_from_slice(&LINK_ETHERNET.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_record_are_those_of_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pcap");
        let mut pcap = PcapWriter::create(&path).unwrap();
        assert!(pcap.record(Duration::new(5, 7000), &[0xAB; 60]));
        pcap.flush();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(&bytes[..8], [0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0]);
        assert_eq!(&bytes[16..24], [0, 8, 0, 0, 1, 0, 0, 0]);
        assert_eq!(&bytes[24..40], [5, 0, 0, 0, 7, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0]);
        assert_eq!(bytes.len(), 24 + 16 + 60);
    }
}
