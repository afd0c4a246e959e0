//! Port names from the board, `lo`, kernel settings of the network (`spec/ha.md` section 6 needs the ARP ones).
//! Addresses are not set here: that is `had`'s work through `net`.
//! `unsafe`: two interface ioctls (rename, set flags); rustix has only queries for them.

use crate::console::{now, pause, say};
use core::time::Duration;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path};
use twinpost_board::Board;

/// Longest wait for a port that the board names; drivers of large cards load firmware first.
const PORT_WAIT: Duration = Duration::from_secs(3);
/// Between two looks.
const PORT_LOOK: Duration = Duration::from_millis(20);

/// Kernel settings that hold for the whole appliance: path below `/proc/sys`, value.
pub const SETTINGS: &[(&str, &str)] = &[
    // Services listen on the virtual IP before the unit holds it.
    ("net/ipv4/ip_nonlocal_bind", "1"),
    // An address is answered for only on the port that carries it, and announced as itself.
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/default/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
    ("net/ipv4/conf/default/arp_announce", "2"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    // A mail appliance is no router.
    ("net/ipv4/ip_forward", "0"),
    // No address that the operator did not set.
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/all/autoconf", "0"),
    ("net/ipv6/conf/default/autoconf", "0"),
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    // Bounded dirty memory: a takeover's final sync stays short.
    ("vm/dirty_background_bytes", "8388608"),
    ("vm/dirty_bytes", "33554432"),
];

/// Why a port has no name.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Ports that the board names are not there.
    #[error("no network card at {0}")]
    Missing(String),
    /// The kernel refuses a name or a flag.
    #[error("cannot {what} {name}")]
    Interface {
        /// Rename or raise.
        what: &'static str,
        /// Interface.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A network card: name that the kernel gave, path of its device in sysfs.
type Card = (String, String);

/// Writes [`SETTINGS`]; returns the paths that the kernel did not take.
#[must_use]
pub fn apply_settings() -> Vec<&'static str> {
    let write = |path: &str, value: &str| fs::write(Path::new("/proc/sys").join(path), value);
    SETTINGS.iter().filter(|(path, value)| write(path, value).is_err()).map(|(path, _)| *path).collect()
}

/// Raises `lo` and renames the cards.
///
/// # Errors
/// The first card that is missing or refuses; the others are named nevertheless.
pub fn apply(board: &Board) -> Result<(), NetworkError> {
    let lo = set_up("lo");
    let mut cards = cards();
    let deadline = now() + PORT_WAIT;
    while !board.ports.iter().all(|port| cards.iter().any(|card| has_address(card, &port.address)))
        && now() < deadline
    {
        pause(PORT_LOOK);
        cards = self::cards();
    }
    let (names, missing) = assign(board, &cards);
    let mut result = lo;
    for (from, to) in names {
        let renamed = rename(&from, &to);
        if result.is_ok() {
            result = renamed;
        }
    }
    if !missing.is_empty() && result.is_ok() {
        result = Err(NetworkError::Missing(missing.join(", ")));
    }
    if cards.is_empty() {
        say("no network card found");
    }
    result
}

/// Which card gets which name, and which labels of the board have no card.
fn assign(board: &Board, cards: &[Card]) -> (Vec<(String, String)>, Vec<String>) {
    if board.ports.is_empty() {
        let mut ordered = cards.to_vec();
        ordered.sort_by(|a, b| a.1.cmp(&b.1));
        let named = ordered.into_iter().take(twinpost_board::PORTS_MAX).enumerate();
        return (named.map(|(index, card)| (card.0, format!("port{}", index + 1))).collect(), Vec::new());
    }
    let (mut names, mut missing) = (Vec::new(), Vec::new());
    for port in &board.ports {
        match cards.iter().find(|card| has_address(card, &port.address)) {
            Some(card) => names.push((card.0.clone(), port.label.clone())),
            None => missing.push(format!("{} ({})", port.address, port.label)),
        }
    }
    (names, missing)
}

fn has_address(card: &Card, address: &str) -> bool {
    Path::new(&card.1).components().any(|part| part == Component::Normal(address.as_ref()))
}

fn cards() -> Vec<Card> {
    fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let device = fs::canonicalize(format!("/sys/class/net/{name}/device")).ok()?;
            Some((name, device.to_str()?.to_owned()))
        })
        .collect()
}

/// `struct ifreq` as far as names and flags go.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

fn request(name: &str) -> Option<Request> {
    let mut request = Request { name: [0; libc::IFNAMSIZ], value: [0; 24] };
    request.name[..libc::IFNAMSIZ - 1].get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    Some(request)
}

fn call(number: libc::Ioctl, request: &mut Request) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `Request` has the size and the layout of `struct ifreq` and outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), number, request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn rename(from: &str, to: &str) -> Result<(), NetworkError> {
    if from == to {
        return Ok(());
    }
    let failed = |source| NetworkError::Interface { what: "rename", name: from.to_owned(), source };
    let long = || io::Error::from(io::ErrorKind::InvalidInput);
    let mut ioctl = request(from).ok_or_else(|| failed(long()))?;
    let target = request(to).ok_or_else(|| failed(long()))?;
    ioctl.value[..libc::IFNAMSIZ].copy_from_slice(&target.name);
    call(libc::SIOCSIFNAME as libc::Ioctl, &mut ioctl).map_err(failed)
}

fn set_up(name: &str) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Interface { what: "raise", name: name.to_owned(), source };
    let mut ioctl = request(name).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let up = u16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    ioctl.value[..2].copy_from_slice(&up.to_ne_bytes());
    call(libc::SIOCSIFFLAGS as libc::Ioctl, &mut ioctl).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, address: &str) -> Card {
        (name.into(), format!("/sys/devices/pci0000:00/{address}/virtio1"))
    }

    #[test]
    fn by_address() {
        let board = twinpost_board_qemu_q35::board();
        let cards =
            [card("eth0", "0000:00:12.0"), card("eth1", "0000:00:10.0"), card("eth2", "0000:00:1f.0")];
        let (names, missing) = assign(&board, &cards);
        assert_eq!(names, [("eth1".into(), "port1".into()), ("eth0".into(), "port3".into())]);
        assert_eq!(missing, ["0000:00:11.0 (port2)", "0000:00:13.0 (port4)"]);
    }

    #[test]
    fn by_bus_order() {
        let board = twinpost_board_generic_x86_64::board();
        let (names, missing) = assign(&board, &[card("eth0", "0000:02:00.0"), card("eth1", "0000:01:00.0")]);
        assert_eq!(names, [("eth1".into(), "port1".into()), ("eth0".into(), "port2".into())]);
        assert!(missing.is_empty());
    }

    #[test]
    fn long_names_are_refused() {
        assert!(request("port1").is_some());
        assert!(request("sixteen-letters!").is_none());
    }
}
