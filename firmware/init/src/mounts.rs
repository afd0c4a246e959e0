//! Mounting and unmounting by system call, with the path in the error.

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::io;

/// A mount that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {target}")]
pub struct MountError {
    /// Where.
    pub target: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Nothing on it is a device, a program or a set-id program.
pub const DATA: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC).union(MountFlags::NOATIME);

/// Makes the folder if that is possible and mounts; what is mounted there already is fine.
///
/// # Errors
/// The kernel's reason.
pub fn ensure(
    kind: &str,
    source: &str,
    target: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), MountError> {
    let failed = |source| MountError { target: target.to_owned(), source };
    let _ = std::fs::create_dir_all(target);
    let data = CString::new(data).map_err(|error| failed(error.into()))?;
    match mount(source, target, kind, flags, Some(data.as_c_str())) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

/// proc, sys and dev.
///
/// # Errors
/// The first one that fails.
pub fn kernel_trees() -> Result<(), MountError> {
    ensure("devtmpfs", "dev", "/dev", MountFlags::NOSUID, "mode=0755")?;
    ensure("proc", "proc", "/proc", DATA, "")?;
    ensure("sysfs", "sys", "/sys", DATA, "")?;
    // Loading modules, mounting and renaming wait for RCU again and again: 20 ms each on an idle box, which a boot and a
    // takeover are made of. An appliance has no latency of other work to protect. Not critical if refused.
    let _ = std::fs::write("/sys/kernel/rcu_expedited", "1\n");
    Ok(())
}

/// Unmounts; a busy one is detached, so that the file system below is at least flushed by the final sync.
pub fn release(target: &str) {
    // By force: requests to a server that does not answer are ended. Disks take no notice of it.
    match unmount(target, UnmountFlags::FORCE) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => {
            crate::console::say(&format!("{target} is still in use ({error}), made read-only and detached"));
            let _ = rustix::mount::mount_remount(target, MountFlags::RDONLY, c"");
            let _ = unmount(target, UnmountFlags::DETACH);
        }
    }
}
