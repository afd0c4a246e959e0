//! Ethernet, IPv4 or IPv6, and UDP around a heartbeat: built and parsed strictly with checksums, over smoltcp's wire types. No
//! fragments, no options or extension headers, no VLAN tags: heartbeat links are direct cables. RFC 894, RFC 791, RFC 768; RFC 2464, RFC 8200.

use core::net::IpAddr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr,
};

/// Ethernet header.
pub(crate) const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
pub(crate) const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
/// Shortest Ethernet frame without its check sequence; shorter ones are padded.
pub(crate) const FRAME_BYTES_MIN: usize = 60;
/// Bytes that a frame with IPv4 adds to its payload.
pub const OVERHEAD_BYTES: usize = ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES;
/// Bytes that a frame with IPv6 adds to its payload.
pub const OVERHEAD6_BYTES: usize = ETHERNET_BYTES + IPV6_BYTES + UDP_BYTES;
/// Longest frame with a heartbeat.
pub const FRAME_BYTES_MAX: usize = OVERHEAD6_BYTES + crate::DATAGRAM_BYTES_MAX;
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
    pub src_ip: IpAddr,
    /// Receiver, of the same kind.
    pub dst_ip: IpAddr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Builds the frame of `udp` in `buf`; returns its length, or `None` when the payload is longer than
/// [`crate::DATAGRAM_BYTES_MAX`], a port is 0, or the addresses are not of one kind.
pub fn build(udp: &Udp<'_>, buf: &mut [u8; FRAME_BYTES_MAX]) -> Option<usize> {
    if udp.payload.len() > crate::DATAGRAM_BYTES_MAX || udp.src_port == 0 || udp.dst_port == 0 {
        return None;
    }
    let (ethertype, header) = match (udp.src_ip, udp.dst_ip) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (EthernetProtocol::Ipv4, IPV4_BYTES),
        (IpAddr::V6(_), IpAddr::V6(_)) => (EthernetProtocol::Ipv6, IPV6_BYTES),
        _ => return None,
    };
    let body = ETHERNET_BYTES + header;
    let end = body + UDP_BYTES + udp.payload.len();
    let length = end.max(FRAME_BYTES_MIN);
    buf[end..length].fill(0);
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(udp.src_mac),
        dst_addr: EthernetAddress(udp.dst_mac),
        ethertype,
    };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut buf[..end]));
    emit_ip(udp, &mut buf[ETHERNET_BYTES..end]);
    let ports = UdpRepr { src_port: udp.src_port, dst_port: udp.dst_port };
    ports.emit(
        &mut UdpPacket::new_unchecked(&mut buf[body..end]),
        &udp.src_ip.into(),
        &udp.dst_ip.into(),
        udp.payload.len(),
        |payload| payload.copy_from_slice(udp.payload),
        &ChecksumCapabilities::default(),
    );
    Some(length)
}

/// The header of the addresses' kind; the caller has seen that they are of one kind.
fn emit_ip(udp: &Udp<'_>, packet: &mut [u8]) {
    let payload_len = UDP_BYTES + udp.payload.len();
    let (next_header, hop_limit) = (IpProtocol::Udp, HOP_LIMIT);
    match (udp.src_ip, udp.dst_ip) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let header = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            header.emit(&mut Ipv4Packet::new_unchecked(packet), &ChecksumCapabilities::default());
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let header = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            header.emit(&mut Ipv6Packet::new_unchecked(packet));
        }
        _ => {}
    }
}

/// Reads a frame. `None` for anything but a whole, unrouted UDP datagram with good checksums and unicast source.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Udp<'_>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if !ethernet.src_addr().is_unicast() {
        return None;
    }
    let (src_ip, dst_ip, datagram) = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => ipv4(ethernet.payload())?,
        EthernetProtocol::Ipv6 => ipv6(ethernet.payload())?,
        _ => return None,
    };
    let udp = UdpPacket::new_checked(datagram).ok()?;
    // A checksum of zero means "none" on IPv4 and is forbidden on IPv6; ours always have one.
    if udp.checksum() == 0 || usize::from(udp.len()) != datagram.len() {
        return None;
    }
    let checksums = ChecksumCapabilities::default();
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

type Addressed<'a> = (IpAddr, IpAddr, &'a [u8]);

fn ipv4(packet: &[u8]) -> Option<Addressed<'_>> {
    let ipv4 = Ipv4Packet::new_checked(packet).ok()?;
    if usize::from(ipv4.header_len()) != IPV4_BYTES {
        return None;
    }
    let addresses = Ipv4Repr::parse(&ipv4, &ChecksumCapabilities::default()).ok()?;
    let good = addresses.next_header == IpProtocol::Udp && addresses.hop_limit == HOP_LIMIT;
    good.then(|| (addresses.src_addr.into(), addresses.dst_addr.into(), ipv4.payload()))
}

fn ipv6(packet: &[u8]) -> Option<Addressed<'_>> {
    let ipv6 = Ipv6Packet::new_checked(packet).ok()?;
    // Traffic class and flow label are not ours: a frame with them was built by somebody else.
    let is_plain = ipv6.traffic_class() == 0 && ipv6.flow_label() == 0;
    let addresses = Ipv6Repr::parse(&ipv6).ok().filter(|_| is_plain)?;
    let good = addresses.next_header == IpProtocol::Udp && addresses.hop_limit == HOP_LIMIT;
    good.then(|| (addresses.src_addr.into(), addresses.dst_addr.into(), ipv6.payload()))
}
