//! rtnetlink messages by hand, for the two places where nothing may be allocated: the carrier watch and the refresh of leases.
//! A socket, a builder into a fixed buffer, and an iterator over what arrived. netlink(7), rtnetlink(7); everything is in
//! the machine's byte order.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// Message header.
pub(crate) const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Room for one message of ours.
const MESSAGE_BYTES_MAX: usize = 96;

/// A socket of family `NETLINK_ROUTE`; non-blocking, closed on exec.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket that also hears the multicast `groups` (a mask of `RTMGRP_*`).
    pub(crate) fn open(groups: u32) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(fd))
    }

    pub(crate) fn send(&self, message: &Message) -> Result<(), Errno> {
        loop {
            match send(&self.0, message.bytes(), SendFlags::empty()) {
                Err(Errno::INTR) => {}
                result => return result.map(|_| ()),
            }
        }
    }

    /// One datagram with whole messages; `None` when none waits. `NOBUFS` means that messages were lost.
    pub(crate) fn recv<'b>(&self, buf: &'b mut [u8]) -> Result<Option<&'b [u8]>, Errno> {
        let length = loop {
            match recv(&self.0, &mut *buf, RecvFlags::empty()) {
                Ok((length, _)) => break length,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        };
        Ok(buf.get(..length))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message being built, or built once and sent many times.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: [u8; MESSAGE_BYTES_MAX],
    length: usize,
}

impl Message {
    /// A message of type `kind` with the family's own header behind the common one.
    pub(crate) fn new(kind: u16, flags: libc::c_int, family_header: &[u8]) -> Self {
        let mut message = Self { bytes: [0; MESSAGE_BYTES_MAX], length: HEADER_BYTES };
        message.bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = u16::try_from(flags).expect("netlink flags have 16 bits");
        message.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        message.append(family_header);
        message
    }

    /// Appends an attribute. All of ours together fit: their sizes are fixed and tests build every message.
    #[must_use]
    pub(crate) fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        let length =
            u16::try_from(ATTRIBUTE_HEADER_BYTES + payload.len()).expect("attributes here are short");
        self.append(&length.to_ne_bytes());
        self.append(&kind.to_ne_bytes());
        self.append(payload);
        self.length = aligned(self.length);
        self.set_length();
        self
    }

    /// Sets the number by which the answer is known.
    pub(crate) fn set_sequence(&mut self, sequence: u32) {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
        self.set_length();
    }

    fn set_length(&mut self) {
        let length = u32::try_from(self.length).expect("MESSAGE_BYTES_MAX fits into 32 bits");
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

impl Received<'_> {
    /// The kernel's verdict in an `NLMSG_ERROR` or `NLMSG_DONE` message: `Ok` is an acknowledgement.
    pub(crate) fn verdict(&self) -> Result<(), Errno> {
        match self.payload.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
            Some(0) | None => Ok(()),
            Some(code) => Err(Errno::from_raw_os_error(code.wrapping_neg())),
        }
    }
}

/// The messages of one datagram. Ends at the first that makes no sense.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    core::iter::from_fn(move || {
        let header = datagram.first_chunk::<HEADER_BYTES>()?;
        let length = usize::try_from(u32_at(header, 0)).ok()?;
        let payload = datagram.get(HEADER_BYTES..length)?;
        let received = Received {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32_at(header, 8),
            payload,
        };
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        Some(received)
    })
}

/// The number at `at` of a header that is known to be long enough.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(number)
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_what_is_read() {
        let mut message = Message::new(20, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &[1, 2, 3, 4, 5, 6, 7, 8])
            .attribute(2, &[192, 0, 2, 1])
            .attribute(3, b"p");
        message.set_sequence(77);
        assert_eq!(message.bytes().len(), HEADER_BYTES + 8 + 8 + 8);
        let read: Vec<_> = messages(message.bytes()).collect();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].kind, read[0].sequence, read[0].flags), (20, 77, 5));
        assert_eq!(read[0].payload[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn cut_and_senseless_datagrams_end_quietly() {
        let message = Message::new(16, 0, &[0; 16]);
        for length in 0..message.bytes().len() {
            assert_eq!(messages(&message.bytes()[..length]).count(), 0);
        }
        assert_eq!(messages(&[0; 64]).count(), 0, "a length of zero");
        assert_eq!(messages(&[0xff; 64]).count(), 0, "a length beyond the end");
    }
}
