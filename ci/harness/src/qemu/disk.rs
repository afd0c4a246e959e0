//! The disks of a unit: a sparse copy of the image, as large as the box's drive, and the small provisioning disk that a factory would
//! plug in. Copies are made anew for each pair; a unit's disk survives its power cuts.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Size of a unit's drive, bytes.
const DRIVE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Copied in pieces of this size, bytes; pieces of zeros become holes.
const PIECE_BYTES: usize = 64 * 1024;
/// Size of the provisioning disk: a multiple of every sector size.
const PROVISIONING_BYTES: u64 = 1024 * 1024;
/// Name in the archive that the firmware looks for (ARCHITECTURE, "Provisioning").
const SCRIPT_NAME: &str = "twinpost.conf";

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the disk {path} (is there room?)")]
pub struct DiskError {
    /// Which.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// Copies the image to `disk` and extends it to the size of a drive.
///
/// # Errors
/// Reading or writing failed.
pub fn factory_disk(image: &Path, disk: &Path) -> Result<(), DiskError> {
    let copy = || -> std::io::Result<()> {
        let mut from = File::open(image)?;
        let mut to = File::create(disk)?;
        to.set_len(DRIVE_BYTES.max(from.metadata()?.len()))?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0u64;
        loop {
            let length = from.read(&mut piece)?;
            let Some(bytes) = piece.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            if bytes.iter().any(|byte| *byte != 0) {
                to.seek(SeekFrom::Start(at))?;
                to.write_all(bytes)?;
            }
            at += length as u64;
        }
    };
    copy().map_err(|source| DiskError { path: disk.to_owned(), source })
}

/// Writes a provisioning disk with `script` in the operator's syntax.
///
/// # Errors
/// Writing failed.
pub fn provisioning_disk(script: &str, disk: &Path) -> Result<(), DiskError> {
    let write = || -> std::io::Result<()> {
        let mut archive = tar::Builder::new(File::create(disk)?);
        let mut header = tar::Header::new_ustar();
        header.set_size(script.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(0);
        archive.append_data(&mut header, SCRIPT_NAME, script.as_bytes())?;
        archive.into_inner()?.set_len(PROVISIONING_BYTES)
    };
    write().map_err(|source| DiskError { path: disk.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factory_disk_is_the_image_and_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (image, disk) = (folder.path().join("i"), folder.path().join("d"));
        let mut bytes = vec![0; 300_000];
        bytes[200_000] = 7;
        std::fs::write(&image, &bytes).unwrap();
        factory_disk(&image, &disk).unwrap();
        let mut copy = vec![0; 300_000];
        File::open(&disk).unwrap().read_exact(&mut copy).unwrap();
        assert_eq!(copy, bytes);
        assert_eq!(std::fs::metadata(&disk).unwrap().len(), DRIVE_BYTES);
    }

    #[test]
    fn the_provisioning_disk_begins_with_a_ustar_header_of_the_script() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("p");
        provisioning_disk("config system ha\nend\n", &disk).unwrap();
        let bytes = std::fs::read(disk).unwrap();
        assert_eq!(&bytes[..13], b"twinpost.conf");
        assert_eq!(&bytes[257..262], b"ustar");
        assert_eq!(&bytes[512..528], b"config system ha");
        assert_eq!(bytes.len() as u64, PROVISIONING_BYTES);
    }
}
