//! A drive through `/sys/class/block`: presence, size, identity. Health (SMART) is not read here.

use crate::{LinuxError, Roots, read};
use std::path::PathBuf;
use twinpost_hal::{Drive, ErrorKind, HardwareError, Identity};

/// Unit of the `size` attribute, bytes, whatever the drive's own sector size is.
const SIZE_UNIT_BYTES: u64 = 512;

/// A whole block device.
#[derive(Clone, Debug)]
pub struct SysfsDrive {
    label: String,
    folder: PathBuf,
}

impl SysfsDrive {
    /// The drive with this kernel name, for instance `vda`.
    #[must_use]
    pub fn new(roots: &Roots, label: &str, name: &str) -> Self {
        Self { label: label.to_owned(), folder: roots.sys.join("class/block").join(name) }
    }

    /// The first of these attributes that exists; SCSI and NVMe drives keep them in `device`, virtio ones beside `size`.
    fn text(&self, attributes: [&str; 2]) -> String {
        attributes.iter().find_map(|name| read(&self.folder.join(name)).ok()).unwrap_or_default()
    }
}

impl Drive for SysfsDrive {
    type Error = LinuxError;

    fn label(&self) -> &str {
        &self.label
    }

    fn present(&self) -> Result<bool, LinuxError> {
        match read(&self.folder.join("size")) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Absent => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn identity(&self) -> Result<Identity, LinuxError> {
        let path = self.folder.join("size");
        let text = read(&path)?;
        let units: u64 = text.parse().map_err(|_| LinuxError::Nonsense { path, text })?;
        Ok(Identity {
            model: self.text(["device/model", "model"]).trim().to_owned(),
            serial: self.text(["serial", "device/serial"]).trim().to_owned(),
            bytes: units.saturating_mul(SIZE_UNIT_BYTES),
        })
    }
}
