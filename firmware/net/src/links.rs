//! Carriers of the ports. [`LinkWatch`] is told by the kernel (rtnetlink multicast) and wakes the poller; [`Carrier`] asks
//! without waiting. Both allocate nothing after opening. What a lost carrier means is `ha`'s decision.
//!
//! Both are needed: the kernel tells of a lost carrier at once only when it told of none within the last second (its
//! `linkwatch` limits itself), and a peer that loses power takes several carriers at the same moment.

use crate::netlink::{HEADER_BYTES, Message, Socket, messages, u32_at};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Largest datagram that the kernel sends for a dump of links (it never exceeds 32 KiB).
const BUFFER_BYTES: usize = 32 * 1024;
/// Datagrams read in one go; more wait for the next turn of the heartbeat thread.
const DATAGRAMS_PER_READ_MAX: usize = 64;
/// Length of `struct ifinfomsg`.
const IFINFO_BYTES: usize = 16;
/// Tells that the physical layer has a signal (linux/if.h; libc names it as an `IFF_*` of another type).
const LOWER_UP: u32 = 1 << 16;

/// The carrier of one port, as the kernel told it. May repeat what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// Index of the port.
    pub index: u32,
    /// The port is up and has carrier.
    pub carrier: bool,
}

/// Hears carrier changes of all ports.
#[derive(Debug)]
pub struct LinkWatch {
    socket: Socket,
    buffer: Box<[u8; BUFFER_BYTES]>,
    /// A list of all links was asked for and has not ended.
    dump_runs: bool,
    /// Another one is to be asked for when it has.
    dump_again: bool,
}

/// Why carriers cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} carriers")]
pub struct LinkWatchError {
    what: &'static str,
    #[source]
    source: Errno,
}

impl LinkWatch {
    /// Begins to watch. The first [`read`](Self::read) tells the present carriers of all ports.
    ///
    /// # Errors
    ///
    /// [`LinkWatchError`].
    pub fn open() -> Result<Self, LinkWatchError> {
        let groups = libc::RTMGRP_LINK.cast_unsigned();
        let socket = Socket::open(groups)
            .map_err(|source| LinkWatchError { what: "open a socket to watch", source })?;
        let buffer = Box::new([0; BUFFER_BYTES]);
        let mut watch = Self { socket, buffer, dump_runs: false, dump_again: false };
        watch.ask_for_all()?;
        Ok(watch)
    }

    /// Reads what waits and tells each carrier to `tell`. Never blocks. After an overrun all carriers are asked for again, so
    /// nothing is missed for good.
    ///
    /// # Errors
    ///
    /// [`LinkWatchError`]; the watch goes on when called again.
    pub fn read(&mut self, mut tell: impl FnMut(LinkEvent)) -> Result<(), LinkWatchError> {
        for _ in 0..DATAGRAMS_PER_READ_MAX {
            let (mut ended, mut again) = (false, false);
            match self.socket.recv(&mut self.buffer[..]) {
                Ok(None) => return Ok(()),
                Ok(Some(datagram)) => {
                    for message in messages(datagram) {
                        again |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
                        match i32::from(message.kind) {
                            libc::NLMSG_DONE => ended = true,
                            libc::NLMSG_ERROR => {
                                // BUSY: a list is still on its way; ask again when it has ended.
                                ended |= message.verdict() != Err(Errno::BUSY);
                                again |= message.verdict().is_err();
                            }
                            _ => {}
                        }
                        if let Some(event) = link_event(message.kind, message.payload) {
                            tell(event);
                        }
                    }
                }
                Err(Errno::NOBUFS) => {
                    // The end of a list may be among what was lost.
                    ended = true;
                    again = true;
                }
                Err(source) => return Err(LinkWatchError { what: "hear of", source }),
            }
            self.dump_again |= again;
            self.dump_runs &= !ended;
            if self.dump_again && !self.dump_runs {
                self.ask_for_all()?;
            }
        }
        Ok(())
    }

    fn ask_for_all(&mut self) -> Result<(), LinkWatchError> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        let message = Message::new(libc::RTM_GETLINK, flags, &[0; IFINFO_BYTES]);
        self.socket.send(&message).map_err(|source| LinkWatchError { what: "ask for", source })?;
        self.dump_runs = true;
        self.dump_again = false;
        Ok(())
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn link_event(kind: u16, payload: &[u8]) -> Option<LinkEvent> {
    let header = payload.first_chunk::<IFINFO_BYTES>()?;
    // A bridge tells of its ports in its own family; that is not the port's carrier.
    if i32::from(header[0]) != libc::AF_UNSPEC {
        return None;
    }
    let (index, flags) = (u32_at(header, 4), u32_at(header, 8));
    match kind {
        libc::RTM_NEWLINK => Some(LinkEvent { index, carrier: flags & LOWER_UP != 0 }),
        libc::RTM_DELLINK => Some(LinkEvent { index, carrier: false }),
        _ => None,
    }
}

/// The carrier of one port, read from the driver's state at once: a held descriptor of `/sys/class/net/<port>/carrier`,
/// which is kernel memory, not a file on a drive.
#[derive(Debug)]
pub struct Carrier(OwnedFd);

impl Carrier {
    /// Opens the carrier of the port `name`.
    ///
    /// # Errors
    ///
    /// [`LinkWatchError`] when there is no such port.
    pub fn open(name: &str) -> Result<Self, LinkWatchError> {
        let path = format!("/sys/class/net/{name}/carrier");
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .map_err(|source| LinkWatchError { what: "read", source })
    }

    /// True with carrier, false without or while the port is down, `None` when the port is gone.
    #[must_use]
    pub fn read(&self) -> Option<bool> {
        let mut text = [0; 4];
        match rustix::io::pread(&self.0, &mut text[..], 0) {
            Ok(length) => Some(length > 0 && text[0] == b'1'),
            // The kernel's answer for a port that is down.
            Err(Errno::INVAL) => Some(false),
            Err(_) => None,
        }
    }
}

const _: () = assert!(HEADER_BYTES == 16, "nlmsghdr");

#[cfg(test)]
mod tests {
    use super::*;

    fn ifinfo(family: u8, index: u32, flags: u32) -> [u8; IFINFO_BYTES] {
        let mut bytes = [0; IFINFO_BYTES];
        bytes[0] = family;
        bytes[4..8].copy_from_slice(&index.to_ne_bytes());
        bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn carrier_is_the_lower_layer_not_the_operator() {
        let up_without_signal = u32::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("flags");
        let event = |flags| link_event(libc::RTM_NEWLINK, &ifinfo(0, 3, flags));
        assert_eq!(event(up_without_signal), Some(LinkEvent { index: 3, carrier: false }));
        assert_eq!(event(LOWER_UP), Some(LinkEvent { index: 3, carrier: true }));
    }

    #[test]
    fn a_port_that_vanished_has_no_carrier_and_others_say_nothing() {
        let gone = link_event(libc::RTM_DELLINK, &ifinfo(0, 3, LOWER_UP));
        assert_eq!(gone, Some(LinkEvent { index: 3, carrier: false }));
        assert_eq!(link_event(libc::RTM_NEWLINK, &ifinfo(7, 3, LOWER_UP)), None, "bridge port");
        assert_eq!(link_event(libc::RTM_NEWADDR, &ifinfo(0, 3, LOWER_UP)), None);
        assert_eq!(link_event(libc::RTM_NEWLINK, &[0; 15]), None);
    }

    #[test]
    fn loopback_is_told_at_the_first_read() {
        let mut watch = LinkWatch::open().expect("every process may watch links");
        let mut heard = Vec::new();
        for _ in 0..100 {
            watch.read(|event| heard.push(event)).expect("read");
        }
        assert!(heard.iter().any(|event| event.index == 1), "{heard:?}");
    }
}
