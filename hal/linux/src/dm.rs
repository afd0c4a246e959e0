//! Device-mapper ioctls: make a device with one target, and remove it. Structures after `linux/dm-ioctl.h`, version 4.
//! `unsafe`: one ioctl per command; rustix has none for device-mapper.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `struct dm_ioctl`, bytes.
const HEADER_BYTES: usize = 312;
/// `struct dm_target_spec`, bytes.
const SPEC_BYTES: usize = 40;
/// Whole buffer; a verity table has about 300 characters.
const BUFFER_BYTES: usize = 4096;
/// `DM_READONLY_FLAG`.
const READ_ONLY: u32 = 1;
/// `_IOWR(0xfd, nr, struct dm_ioctl)`.
const fn request(number: u32) -> libc::Ioctl {
    (0xC000_0000 | ((HEADER_BYTES as libc::Ioctl) << 16) | (0xfd << 8)) | number as libc::Ioctl
}

/// Who may write to a mapped device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    ReadOnly,
    /// Whoever opens it.
    ReadWrite,
}

/// Why a mapped device was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// No control device.
    #[error("cannot open /dev/mapper/control")]
    Control(#[source] io::Error),
    /// A command failed.
    #[error("device-mapper refuses {command}")]
    Command {
        /// Which.
        command: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The table does not fit into the buffer.
    #[error("device-mapper table is too long")]
    Long,
}

/// Makes the device `name` with one target over `sectors`; returns its number in `/dev/dm-<number>`.
///
/// # Errors
/// The command that the kernel refused.
pub fn map(
    name: &str,
    target: &str,
    sectors: u64,
    parameters: &str,
    access: Access,
) -> Result<u32, MapError> {
    let control = File::options().read(true).write(true).open("/dev/mapper/control");
    let control = control.map_err(MapError::Control)?;
    run(&control, "DM_VERSION", 0, name, 0, &[])?;
    run(&control, "DM_DEV_CREATE", 3, name, 0, &[])?;
    let table = table(target, sectors, parameters).ok_or(MapError::Long)?;
    let flags = if access == Access::ReadOnly { READ_ONLY } else { 0 };
    run(&control, "DM_TABLE_LOAD", 9, name, flags, &table)?;
    let device = run(&control, "DM_DEV_SUSPEND", 6, name, 0, &[])?;
    // Minor number as the kernel's huge_encode_dev packs it.
    Ok(u32::try_from((device & 0xff) | ((device >> 12) & 0xfff_ff00)).unwrap_or(u32::MAX))
}

/// Removes the device `name` with its table.
///
/// # Errors
/// There is none, or it is in use.
pub fn remove(name: &str) -> Result<(), MapError> {
    let control = File::options().read(true).write(true).open("/dev/mapper/control");
    run(&control.map_err(MapError::Control)?, "DM_DEV_REMOVE", 4, name, 0, &[]).map(drop)
}

fn table(target: &str, sectors: u64, parameters: &str) -> Option<Vec<u8>> {
    let mut table = vec![0; SPEC_BYTES];
    table[8..16].copy_from_slice(&sectors.to_ne_bytes());
    table.get_mut(24..24 + target.len())?.copy_from_slice(target.as_bytes());
    table.extend_from_slice(parameters.as_bytes());
    table.push(0);
    while !table.len().is_multiple_of(8) {
        table.push(0);
    }
    (HEADER_BYTES + table.len() <= BUFFER_BYTES).then_some(table)
}

/// Runs one command; returns the device number of the answer.
fn run(
    control: &File,
    command: &'static str,
    number: u32,
    name: &str,
    flags: u32,
    data: &[u8],
) -> Result<u64, MapError> {
    // Eight-byte units keep the alignment that the kernel's structure has.
    let mut buffer = vec![0_u64; BUFFER_BYTES / 8];
    let mut header = [0_u8; HEADER_BYTES];
    let mut put = |at: usize, value: u32| header[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(0, 4); // version 4.0.0: what every kernel of the last fifteen years takes
    put(12, u32::try_from(BUFFER_BYTES).unwrap_or(0));
    put(16, u32::try_from(HEADER_BYTES).unwrap_or(0));
    put(20, u32::from(!data.is_empty()));
    put(28, flags);
    if command != "DM_VERSION" {
        // 128 bytes with the final zero; names here are constants of a few letters.
        header[48..48 + name.len()].copy_from_slice(name.as_bytes());
    }
    for (place, chunk) in
        buffer.iter_mut().zip(header.iter().chain(data).copied().collect::<Vec<u8>>().chunks(8))
    {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        *place = u64::from_ne_bytes(bytes);
    }
    // SAFETY: `buffer` holds BUFFER_BYTES bytes, which the header's `data_size` says; the kernel writes no more than
    // that, and the buffer outlives the call.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), request(number), buffer.as_mut_ptr()) };
    if result != 0 {
        return Err(MapError::Command { command, source: io::Error::last_os_error() });
    }
    Ok(buffer[5])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_layout() {
        assert_eq!(request(0), 0xC138_FD00);
        let table = table("verity", 80, "1 254:1").expect("short");
        assert_eq!(table.len(), 48);
        assert_eq!(&table[8..16], &80_u64.to_ne_bytes());
        assert_eq!(&table[24..31], b"verity\0");
        assert_eq!(&table[40..48], b"1 254:1\0");
        assert!(super::table("verity", 80, &"x".repeat(5000)).is_none());
    }
}
