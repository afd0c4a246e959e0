//! Loop devices: a file, or another block device, as a block device of its own. Structures after `linux/loop.h`.
//! `unsafe`: two ioctls, which rustix does not offer.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// `LOOP_CTL_GET_FREE`.
const GET_FREE: libc::Ioctl = 0x4C82;
/// `LOOP_CONFIGURE`, Linux 5.8.
const CONFIGURE: libc::Ioctl = 0x4C0A;
/// `struct loop_config`, bytes.
const CONFIG_BYTES: usize = 304;
/// Where `lo_flags` is in it: behind descriptor and block size, five words of 64 bits and three of 32.
const FLAGS_AT: usize = 60;
/// `LO_FLAGS_READ_ONLY`, `LO_FLAGS_AUTOCLEAR`, `LO_FLAGS_DIRECT_IO`.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// Another program may take the free device first.
const TRIES: u32 = 8;

/// A loop device; it goes away when nobody holds it open any more.
#[derive(Debug)]
pub struct LoopDevice {
    /// Its node.
    pub path: PathBuf,
    /// Keeps it until something else does.
    _open: File,
}

/// What a loop device shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A block device, read below the page cache, which may be older than the device. Nobody writes through it.
    Device,
    /// A file that may be written.
    File,
}

/// Attaches `path` to a free loop device.
///
/// # Errors
/// The kernel has no loop devices, or refuses.
pub fn attach(path: &Path, backing: Backing) -> io::Result<LoopDevice> {
    let writable = backing == Backing::File;
    let file = File::options().read(true).write(writable).open(path)?;
    let flags = AUTOCLEAR | if writable { 0 } else { READ_ONLY | DIRECT_IO };
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..TRIES {
        // SAFETY: the command takes no memory; both descriptors outlive the call.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let open = File::options().read(true).write(writable).open(&path)?;
        let config = config(file.as_raw_fd(), flags);
        // SAFETY: `config` holds CONFIG_BYTES bytes, as the kernel's structure has, and outlives the call, which only reads it.
        if unsafe { libc::ioctl(open.as_raw_fd(), CONFIGURE, config.as_ptr()) } == 0 {
            return Ok(LoopDevice { path, _open: open });
        }
        last = io::Error::last_os_error();
        if last.kind() != io::ErrorKind::ResourceBusy {
            break;
        }
    }
    Err(last)
}

/// In words of 64 bits, which keep the alignment that the kernel's structure has.
fn config(file: i32, flags: u32) -> [u64; CONFIG_BYTES / 8] {
    let mut bytes = [0; CONFIG_BYTES];
    bytes[..4].copy_from_slice(&file.to_ne_bytes());
    bytes[FLAGS_AT..FLAGS_AT + 4].copy_from_slice(&flags.to_ne_bytes());
    let mut words = [0; CONFIG_BYTES / 8];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*chunk);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let words = config(7, READ_ONLY | AUTOCLEAR);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes.len(), CONFIG_BYTES);
        assert_eq!((&bytes[..4], &bytes[60..64]), (&7_u32.to_ne_bytes()[..], &5_u32.to_ne_bytes()[..]));
    }

    #[test]
    fn what_does_not_exist_is_not_attached() {
        assert!(attach(Path::new("/nonexistent"), Backing::Device).is_err());
    }
}
