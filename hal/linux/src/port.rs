//! A network port through `/sys/class/net` (kernel documentation: ABI/testing/sysfs-class-net).

use crate::{LinuxError, Roots, read};
use std::path::PathBuf;
use twinpost_hal::Port;

/// A network port.
#[derive(Clone, Debug)]
pub struct SysfsPort {
    name: String,
    folder: PathBuf,
}

impl SysfsPort {
    /// The port with this interface name; whether it exists shows at the first question.
    #[must_use]
    pub fn new(roots: &Roots, name: &str) -> Self {
        Self { name: name.to_owned(), folder: roots.sys.join("class/net").join(name) }
    }
}

impl Port for SysfsPort {
    type Error = LinuxError;

    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> Result<[u8; 6], LinuxError> {
        let path = self.folder.join("address");
        let text = read(&path)?;
        parse_mac(&text).ok_or(LinuxError::Nonsense { path, text })
    }

    fn carrier(&self) -> Result<bool, LinuxError> {
        let path = self.folder.join("carrier");
        match read(&path) {
            Ok(text) if text == "1" => Ok(true),
            Ok(text) if text == "0" => Ok(false),
            Ok(text) => Err(LinuxError::Nonsense { path, text }),
            // The kernel answers EINVAL while the interface is administratively down.
            Err(LinuxError::Read { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::parse_mac;

    #[test]
    fn addresses() {
        assert_eq!(parse_mac("52:54:00:00:00:0a"), Some([0x52, 0x54, 0, 0, 0, 10]));
        for bad in ["", "52:54:00:00:00", "52:54:00:00:00:0a:01", "52:54:00:00:00:xx"] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
