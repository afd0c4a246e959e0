//! A drive through `/sys/class/block`: presence, size, identity; tested through a small file on it (`reserve`) and asked for its
//! health (`smart`). Decides nothing by what it finds.

use crate::reserve::Reserve;
use crate::smart::Smart;
use crate::{LinuxError, Roots, read};
use std::path::{Path, PathBuf};
use twinpost_hal::{Drive, ErrorKind, HardwareError, Health, Identity};

/// Unit of the `size` attribute, bytes, whatever the drive's own sector size is.
const SIZE_UNIT_BYTES: u64 = 512;

/// A whole block device.
#[derive(Debug)]
pub struct SysfsDrive {
    label: String,
    folder: PathBuf,
    device: PathBuf,
    reserve: Option<Reserve>,
    smart: Smart,
}

impl SysfsDrive {
    /// The drive with this kernel name, for instance `vda`.
    #[must_use]
    pub fn new(roots: &Roots, label: &str, name: &str) -> Self {
        Self {
            label: label.to_owned(),
            folder: roots.sys.join("class/block").join(name),
            device: roots.dev.join(name),
            reserve: None,
            smart: Smart::default(),
        }
    }

    /// The drive that holds this partition, by the partition's kernel name, for instance `vda7`; labelled with its own name.
    ///
    /// # Errors
    /// `Absent` when there is no such partition.
    pub fn of_partition(roots: &Roots, partition: &str) -> Result<Self, LinuxError> {
        let class = roots.sys.join("class/block");
        // The link leads to the partition's folder, which lies in that of its drive.
        let parent = std::fs::canonicalize(class.join(partition)).ok().and_then(|folder| {
            let is_partition = folder.join("partition").exists();
            let whole = if is_partition { folder.parent()? } else { &folder };
            Some(whole.file_name()?.to_str()?.to_owned())
        });
        parent
            .map(|name| Self::new(roots, &name, &name))
            .ok_or_else(|| LinuxError::NotFound { path: class, pattern: partition.to_owned() })
    }

    /// Reserves a file on the drive for [`Drive::exercise`].
    #[must_use]
    pub fn with_reserve(self, file: &Path) -> Self {
        Self { reserve: Some(Reserve::new(file)), ..self }
    }

    fn must_be_present(&self) -> Result<(), LinuxError> {
        if self.present()? { Ok(()) } else { Err(LinuxError::Pulled { label: self.label.clone() }) }
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

    fn exercise(&mut self) -> Result<(), LinuxError> {
        self.must_be_present()?;
        match &mut self.reserve {
            Some(reserve) => reserve.exercise(),
            None => Err(LinuxError::NoReserve { label: self.label.clone() }),
        }
    }

    fn health(&mut self) -> Result<Health, LinuxError> {
        self.must_be_present()?;
        Ok(self.smart.health(&self.device))
    }
}
