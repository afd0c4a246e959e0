//! Ethernet, IPv4 and UDP around a heartbeat: built and parsed strictly with checksums, over smoltcp's wire types. No fragments,
//! no options, no VLAN tags: heartbeat links are direct cables. RFC 894, RFC 791, RFC 768.

use core::net::Ipv4Addr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr,
    UdpPacket, UdpRepr,
};

/// Ethernet header.
pub(crate) const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
/// Shortest Ethernet frame without its check sequence; shorter ones are padded.
pub(crate) const FRAME_BYTES_MIN: usize = 60;
/// Bytes that a frame adds to its payload.
pub const OVERHEAD_BYTES: usize = ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES;
/// Longest frame with a heartbeat.
pub const FRAME_BYTES_MAX: usize = OVERHEAD_BYTES + crate::DATAGRAM_BYTES_MAX;
/// Heartbeats are never routed. Receivers insist on it (RFC 5082, GTSM): nobody further away can send them.
const HOP_LIMIT: u8 = 255;

/// A UDP datagram in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    /// Sender of the frame.
    pub src_mac: [u8; 6],
    /// Receiver of the frame.
    pub dst_mac: [u8; 6],
    /// Sender.
    pub src_ip: Ipv4Addr,
    /// Receiver.
    pub dst_ip: Ipv4Addr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Builds the frame of `udp` in `buf`; returns its length, or `None` when the payload is longer than
/// [`crate::DATAGRAM_BYTES_MAX`] or a port is 0.
pub fn build(udp: &Udp<'_>, buf: &mut [u8; FRAME_BYTES_MAX]) -> Option<usize> {
    if udp.payload.len() > crate::DATAGRAM_BYTES_MAX || udp.src_port == 0 || udp.dst_port == 0 {
        return None;
    }
    let end = OVERHEAD_BYTES + udp.payload.len();
    let length = end.max(FRAME_BYTES_MIN);
    buf[end..length].fill(0);
    let checksums = ChecksumCapabilities::default();
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(udp.src_mac),
        dst_addr: EthernetAddress(udp.dst_mac),
        ethertype: EthernetProtocol::Ipv4,
    };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut buf[..end]));
    let ipv4 = Ipv4Repr {
        src_addr: udp.src_ip,
        dst_addr: udp.dst_ip,
        next_header: IpProtocol::Udp,
        payload_len: UDP_BYTES + udp.payload.len(),
        hop_limit: HOP_LIMIT,
    };
    ipv4.emit(&mut Ipv4Packet::new_unchecked(&mut buf[ETHERNET_BYTES..end]), &checksums);
    let ports = UdpRepr { src_port: udp.src_port, dst_port: udp.dst_port };
    ports.emit(
        &mut UdpPacket::new_unchecked(&mut buf[ETHERNET_BYTES + IPV4_BYTES..end]),
        &udp.src_ip.into(),
        &udp.dst_ip.into(),
        udp.payload.len(),
        |payload| payload.copy_from_slice(udp.payload),
        &checksums,
    );
    Some(length)
}

/// Reads a frame. `None` for anything but a whole, unrouted UDP datagram with good checksums and unicast source.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Udp<'_>> {
    let checksums = ChecksumCapabilities::default();
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 || !ethernet.src_addr().is_unicast() {
        return None;
    }
    let ipv4 = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if usize::from(ipv4.header_len()) != IPV4_BYTES {
        return None;
    }
    let addresses = Ipv4Repr::parse(&ipv4, &checksums).ok()?;
    if addresses.next_header != IpProtocol::Udp || addresses.hop_limit != HOP_LIMIT {
        return None;
    }
    let udp = UdpPacket::new_checked(ipv4.payload()).ok()?;
    // A checksum of zero means "none" on IPv4; ours always have one.
    if udp.checksum() == 0 || usize::from(udp.len()) != ipv4.payload().len() {
        return None;
    }
    let (src_ip, dst_ip) = (addresses.src_addr, addresses.dst_addr);
    let ports = UdpRepr::parse(&udp, &src_ip.into(), &dst_ip.into(), &checksums).ok()?;
    Some(Udp {
        src_mac: ethernet.src_addr().0,
        dst_mac: ethernet.dst_addr().0,
        src_ip,
        dst_ip,
        src_port: ports.src_port,
        dst_port: ports.dst_port,
        payload: udp.payload(),
    })
}
