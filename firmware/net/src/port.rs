//! A network port by name: index and MAC address. Read once at start; carriers are in [`crate::links`].

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// A port that exists. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    name: heapless::String<NAME_BYTES_MAX>,
    /// Kernel's index.
    pub index: u32,
    /// MAC address.
    pub mac: [u8; 6],
}

/// Longest name of an interface (`IFNAMSIZ` less the final zero).
const NAME_BYTES_MAX: usize = 15;

/// Why a port cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Not a name of an interface.
    #[error("`{name}` is no port name: 1 to 15 bytes without `/` and spaces are allowed")]
    Name {
        /// What was asked for.
        name: String,
    },
    /// No interface has this name.
    #[error("there is no port `{name}`")]
    Missing {
        /// What was asked for.
        name: String,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// Not an Ethernet port.
    #[error("port `{name}` has no Ethernet address")]
    NotEthernet {
        /// What was asked for.
        name: String,
    },
}

impl Port {
    /// Looks `name` up.
    ///
    /// # Errors
    ///
    /// [`PortError`].
    pub fn find(name: &str) -> Result<Self, PortError> {
        let bad_name = || PortError::Name { name: name.into() };
        if name.is_empty() || name.contains(['/', ' ', '\0']) {
            return Err(bad_name());
        }
        let short = heapless::String::try_from(name).map_err(|_| bad_name())?;
        let missing = |source| PortError::Missing { name: name.into(), source };
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(missing)?;
        let index = netdevice::name_to_index(&socket, name).map_err(missing)?;
        let mac = hardware_address(&socket, name).map_err(missing)?;
        let mac = mac.ok_or_else(|| PortError::NotEthernet { name: name.into() })?;
        Ok(Self { name: short, index, mac })
    }

    /// Name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// `SIOCGIFHWADDR`; `None` when it is not an Ethernet address.
fn hardware_address(socket: &impl AsFd, name: &str) -> Result<Option<[u8; 6]>, Errno> {
    // SAFETY: an all-zero ifreq is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes().iter().take(NAME_BYTES_MAX)) {
        *to = from.cast_signed();
    }
    // SAFETY: SIOCGIFHWADDR reads the name in the ifreq, which is zero-terminated (at most 15 bytes were copied into
    // 16 zeroed ones), and writes within the same structure, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) };
    if result < 0 {
        return Err(last_errno());
    }
    // SAFETY: after SIOCGIFHWADDR has succeeded this member of the union is the one that was written.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    if address.sa_family != libc::ARPHRD_ETHER {
        return Ok(None);
    }
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(address.sa_data) {
        *to = from.cast_unsigned();
    }
    Ok(Some(mac))
}

/// The error of the libc call that has just failed on this thread.
pub(crate) fn last_errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
