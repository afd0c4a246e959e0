//! Raw Ethernet sockets (AF_PACKET) with a kernel filter, so that the heartbeat thread is woken by nothing but heartbeats and
//! ARP; and the UDP socket that keeps the kernel from answering heartbeats with "port unreachable". Frames go in and out as
//! they are: building and parsing is `wire`. packet(7), socket(7).

use crate::Port;
use crate::port::last_errno;
use core::mem::size_of;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Ipv6Addr, RecvFlags, SendFlags, SocketAddrV6, SocketFlags, SocketType, bind, recv, send,
    socket_with, sockopt,
};

/// Buffer for one received frame. Longer frames arrive cut, and are dropped by their checksums.
pub const FRAME_BUF_BYTES: usize = 2048;
/// Traffic class of our frames: the highest that needs no privilege; `pfifo_fast` puts it before all bulk traffic.
const PRIORITY: libc::c_int = 6;
/// Room for frames that wait while the heartbeat thread sleeps; more is of no use, the newest heartbeat counts.
const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

/// Which frames a socket is woken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Heartbeat link: UDP to `port`, and ARP or neighbour discovery (probes are answered there too).
    Heartbeat {
        /// `hb-base-port`.
        port: u16,
        /// The link has IPv6 addresses, and no IPv4 ones.
        ipv6: bool,
    },
    /// Service port: ARP, and neighbour discovery of IPv6 if asked for (then the filter sees every frame of the port).
    Neighbours {
        /// IPv6 too.
        ipv6: bool,
    },
}

/// A raw socket on one port; non-blocking, closed on exec.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
    index: u32,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} ({what})")]
pub struct RawError {
    step: &'static str,
    what: String,
    #[source]
    source: Errno,
}

impl RawSocket {
    /// Opens a socket on `port` that sees only what `filter` lets through, and nothing that this unit sends.
    ///
    /// # Errors
    ///
    /// [`RawError`]; it needs `CAP_NET_RAW`.
    pub fn open(port: &Port, filter: Filter) -> Result<Self, RawError> {
        let fail = |step| move |source| RawError { step, what: port.name().to_owned(), source };
        // Protocol 0 receives nothing until bind names one, so nothing slips in before the filter is attached.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
            .map_err(fail("open a raw socket"))?;
        attach(&fd, &program(filter)).map_err(fail("attach the packet filter"))?;
        set_option(&fd, libc::SOL_SOCKET, libc::SO_PRIORITY, PRIORITY).map_err(fail("set the priority"))?;
        sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER_BYTES)
            .map_err(fail("set the receive buffer"))?;
        let protocol = match filter {
            Filter::Heartbeat { .. } | Filter::Neighbours { ipv6: true } => libc::ETH_P_ALL,
            Filter::Neighbours { ipv6: false } => libc::ETH_P_ARP,
        };
        bind_port(&fd, port.index, protocol).map_err(fail("bind the raw socket"))?;
        Ok(Self { fd, index: port.index })
    }

    /// Sends one whole frame.
    ///
    /// # Errors
    ///
    /// The kernel's: `NETDOWN` while the port is down, `AGAIN` or `NOBUFS` when its queue is full.
    pub fn send(&self, frame: &[u8]) -> Result<(), Errno> {
        loop {
            match send(&self.fd, frame, SendFlags::empty()) {
                Err(Errno::INTR) => {}
                result => return result.map(|_| ()),
            }
        }
    }

    /// Receives one frame; `None` when none waits. Never blocks.
    ///
    /// # Errors
    ///
    /// The kernel's. A port that went down is not an error: it has no frames.
    pub fn recv(&self, buf: &mut [u8; FRAME_BUF_BYTES]) -> Result<Option<usize>, Errno> {
        loop {
            match recv(&self.fd, &mut buf[..], RecvFlags::empty()) {
                Ok((length, _)) => return Ok(Some(length)),
                Err(Errno::AGAIN) => return Ok(None),
                // Told once after the port went down; what waited before is still there.
                Err(Errno::NETDOWN | Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Index of the port.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Owns the UDP port of the heartbeat in the kernel's eyes, and drops whatever comes: the raw sockets read it.
#[derive(Debug)]
pub struct UdpSink {
    _fd: OwnedFd,
}

impl UdpSink {
    /// Opens the sink on `port` of all addresses of both kinds.
    ///
    /// # Errors
    ///
    /// [`RawError`], for instance when another program has the port.
    pub fn open(port: u16) -> Result<Self, RawError> {
        let fail = |step| move |source| RawError { step, what: format!("UDP port {port}"), source };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None)
            .map_err(fail("open a UDP socket"))?;
        sockopt::set_ipv6_v6only(&fd, false).map_err(fail("take IPv4 too"))?;
        attach(&fd, &[statement(RETURN, 0)]).map_err(fail("attach the dropping filter"))?;
        bind(&fd, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))
            .map_err(fail("bind the heartbeat port"))?;
        Ok(Self { _fd: fd })
    }
}

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_HALF_INDEXED: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_SET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// ICMPv6 types of neighbour discovery (RFC 4861 sections 4.3 and 4.4).
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;
/// Keep the whole frame.
const KEEP: u32 = u32::MAX;

/// The classic BPF program of a filter. Offsets are those of an untagged Ethernet frame with IPv4 or IPv6.
fn program(filter: Filter) -> Vec<libc::sock_filter> {
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    let mut program = vec![
        // Not what this unit sends itself.
        statement(LOAD_BYTE, packet_type),
        jump(JUMP_EQUAL, u32::from(libc::PACKET_OUTGOING), 2, 0),
        statement(LOAD_HALF, 12),
        jump(JUMP_EQUAL, libc::ETH_P_ARP.cast_unsigned(), 1, 2),
        statement(RETURN, 0),
        statement(RETURN, KEEP),
    ];
    match filter {
        Filter::Neighbours { ipv6: false } => program.push(statement(RETURN, 0)),
        Filter::Neighbours { ipv6: true } => program.extend([
            jump(JUMP_EQUAL, libc::ETH_P_IPV6.cast_unsigned(), 0, 5),
            // No extension headers: RFC 6980 forbids them to matter here.
            statement(LOAD_BYTE, 20),
            jump(JUMP_EQUAL, libc::IPPROTO_ICMPV6.cast_unsigned(), 0, 3),
            statement(LOAD_BYTE, 54),
            jump(JUMP_EQUAL, SOLICITATION, 2, 0),
            jump(JUMP_EQUAL, ADVERTISEMENT, 1, 0),
            statement(RETURN, 0),
            statement(RETURN, KEEP),
        ]),
        Filter::Heartbeat { port, ipv6: true } => program.extend([
            jump(JUMP_EQUAL, libc::ETH_P_IPV6.cast_unsigned(), 0, 8),
            // No extension headers: ours have none.
            statement(LOAD_BYTE, 20),
            jump(JUMP_EQUAL, libc::IPPROTO_UDP.cast_unsigned(), 0, 2),
            statement(LOAD_HALF, 56),
            jump(JUMP_EQUAL, u32::from(port), 5, 4),
            jump(JUMP_EQUAL, libc::IPPROTO_ICMPV6.cast_unsigned(), 0, 3),
            statement(LOAD_BYTE, 54),
            jump(JUMP_EQUAL, SOLICITATION, 2, 0),
            jump(JUMP_EQUAL, ADVERTISEMENT, 1, 0),
            statement(RETURN, 0),
            statement(RETURN, KEEP),
        ]),
        Filter::Heartbeat { port, ipv6: false } => program.extend([
            jump(JUMP_EQUAL, libc::ETH_P_IP.cast_unsigned(), 0, 7),
            statement(LOAD_BYTE, 23),
            jump(JUMP_EQUAL, libc::IPPROTO_UDP.cast_unsigned(), 0, 5),
            // Fragments have no ports: more-fragments flag or an offset.
            statement(LOAD_HALF, 20),
            jump(JUMP_SET, 0x3fff, 3, 0),
            statement(LOAD_HEADER_LENGTH, 14),
            statement(LOAD_HALF_INDEXED, 16),
            jump(JUMP_EQUAL, u32::from(port), 1, 0),
            statement(RETURN, 0),
            statement(RETURN, KEEP),
        ]),
    }
    program
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = u16::try_from(code).expect("BPF operation codes have 16 bits");
    libc::sock_filter { code, jt, jf, k }
}

fn attach(fd: &OwnedFd, program: &[libc::sock_filter]) -> Result<(), Errno> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("our programs are short"),
        filter: program.as_ptr().cast_mut(),
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, filter)
}

fn set_option<T>(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: T) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: the kernel reads `length` bytes of `value`, which is alive and of just that size; a filter program that it
    // points to is borrowed by the caller until this returns, and the kernel copies it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn bind_port(fd: &OwnedFd, index: u32, protocol: libc::c_int) -> Result<(), Errno> {
    // SAFETY: an all-zero sockaddr_ll is a valid value of this plain C structure.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("address families have 16 bits");
    address.sll_protocol = u16::try_from(protocol).expect("EtherTypes have 16 bits").to_be();
    address.sll_ifindex = index.cast_signed();
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("addresses are small");
    // SAFETY: the kernel reads `length` bytes of `address`, which is alive and of just that size.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}
