//! Neighbour discovery for IPv6 in Ethernet frames: solicitations and probes of neighbours, advertisements of virtual IPs, and
//! their parsing; what [`crate::arp`] is for IPv4. Decides nothing about who answers for what. Routers, redirects and
//! extension headers are not read. RFC 4861 sections 4.3, 4.4, 7.1; RFC 4862 section 5.4 (probe); RFC 2464 (Ethernet).

use crate::frame::{ETHERNET_BYTES, IPV6_BYTES};
use core::net::Ipv6Addr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol,
    Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

/// A solicitation or advertisement without options: ICMPv6 header, flags, target.
const MESSAGE_BYTES: usize = 24;
/// The option with a link-layer address.
const OPTION_BYTES: usize = 8;
/// Bytes of the longest frame built here.
pub const NDP_FRAME_BYTES_MAX: usize = ETHERNET_BYTES + IPV6_BYTES + MESSAGE_BYTES + OPTION_BYTES;
/// Neighbour discovery is never routed; receivers insist on it (RFC 4861 section 7.1).
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// One frame of neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpFrame {
    bytes: [u8; NDP_FRAME_BYTES_MAX],
    length: usize,
}

impl NdpFrame {
    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What a frame of neighbour discovery says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ndp {
    /// Somebody asks who has `target`.
    Solicitation {
        /// Sender of the frame.
        sender_mac: [u8; 6],
        /// Sender's address; `::` in a probe (RFC 4862): somebody asks whether an address is free.
        sender_ip: Ipv6Addr,
        /// Address asked for.
        target: Ipv6Addr,
    },
    /// Somebody says that `target` is its own.
    Advertisement {
        /// Sender of the frame.
        sender_mac: [u8; 6],
        /// Address claimed.
        target: Ipv6Addr,
    },
}

/// Asks who has `target`, all hosts that might.
#[must_use]
pub fn request(own_mac: [u8; 6], own_ip: Ipv6Addr, target: Ipv6Addr) -> NdpFrame {
    solicitation(own_mac, own_ip, target, Some(EthernetAddress(own_mac).into()))
}

/// RFC 4862 section 5.4.2: asks whether anybody uses `target`, without claiming anything.
#[must_use]
pub fn probe(own_mac: [u8; 6], target: Ipv6Addr) -> NdpFrame {
    solicitation(own_mac, Ipv6Addr::UNSPECIFIED, target, None)
}

/// RFC 4861 section 7.2.6: tells everybody, unasked, that `ip` is at `own_mac` now, in place of what they knew (override).
#[must_use]
pub fn announce(own_mac: [u8; 6], ip: Ipv6Addr) -> NdpFrame {
    let message = NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: ip,
        lladdr: Some(EthernetAddress(own_mac).into()),
    };
    build(own_mac, ip, ALL_NODES, message)
}

/// Reads a frame. `None` for anything but valid solicitations and advertisements (RFC 4861 sections 7.1.1 and 7.1.2) by a unicast
/// sender whose frame and link-layer option, if there is one, name the same MAC.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Ndp> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let sender = ethernet.src_addr();
    if ethernet.ethertype() != EthernetProtocol::Ipv6 || !sender.is_unicast() {
        return None;
    }
    let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
    let ip = Ipv6Repr::parse(&packet).ok()?;
    if ip.next_header != IpProtocol::Icmpv6 || ip.hop_limit != HOP_LIMIT {
        return None;
    }
    let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    if message.msg_code() != 0 {
        return None;
    }
    let checksums = ChecksumCapabilities::default();
    let Icmpv6Repr::Ndisc(repr) = Icmpv6Repr::parse(&ip.src_addr, &ip.dst_addr, &message, &checksums).ok()?
    else {
        return None;
    };
    let (said, lladdr) = match repr {
        NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
            let (sender_mac, sender_ip) = (sender.0, ip.src_addr);
            // A probe carries no address of its sender.
            if sender_ip.is_unspecified() && lladdr.is_some() {
                return None;
            }
            (Ndp::Solicitation { sender_mac, sender_ip, target: target_addr }, lladdr)
        }
        NdiscRepr::NeighborAdvert { target_addr, lladdr, .. } => {
            (Ndp::Advertisement { sender_mac: sender.0, target: target_addr }, lladdr)
        }
        _ => return None,
    };
    let target = match said {
        Ndp::Solicitation { target, .. } | Ndp::Advertisement { target, .. } => target,
    };
    let honest = lladdr.is_none_or(|address| address.as_bytes() == sender.as_bytes());
    (honest && !target.is_multicast()).then_some(said)
}

fn solicitation(
    own_mac: [u8; 6],
    own_ip: Ipv6Addr,
    target: Ipv6Addr,
    lladdr: Option<smoltcp::wire::RawHardwareAddress>,
) -> NdpFrame {
    let message = NdiscRepr::NeighborSolicit { target_addr: target, lladdr };
    build(own_mac, own_ip, solicited_node(target), message)
}

/// The group that every owner of `target` hears (RFC 4291 section 2.7.1).
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    let [b, c] = [u16::from_be_bytes([0xff, a]), u16::from_be_bytes([b, c])];
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, b, c)
}

fn build(own_mac: [u8; 6], from: Ipv6Addr, to: Ipv6Addr, message: NdiscRepr<'_>) -> NdpFrame {
    let message = Icmpv6Repr::Ndisc(message);
    let payload_len = message.buffer_len();
    let length = ETHERNET_BYTES + IPV6_BYTES + payload_len;
    let mut bytes = [0; NDP_FRAME_BYTES_MAX];
    // Both destinations of this module are groups (RFC 2464 section 7).
    let [.., a, b, c, d] = to.octets();
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(own_mac),
        dst_addr: EthernetAddress([0x33, 0x33, a, b, c, d]),
        ethertype: EthernetProtocol::Ipv6,
    };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut bytes[..length]));
    let ip = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len,
        hop_limit: HOP_LIMIT,
    };
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut bytes[ETHERNET_BYTES..length]));
    let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[ETHERNET_BYTES + IPV6_BYTES..length]);
    message.emit(&from, &to, &mut packet, &ChecksumCapabilities::default());
    NdpFrame { bytes, length }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3410);
    const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);

    #[test]
    fn probe_claims_nothing() {
        let probe = probe(MAC, VIP);
        let said = Ndp::Solicitation { sender_mac: MAC, sender_ip: Ipv6Addr::UNSPECIFIED, target: VIP };
        assert_eq!(parse(probe.bytes()), Some(said));
        assert_eq!(probe.bytes()[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x10]);
        assert_eq!(probe.bytes().len(), NDP_FRAME_BYTES_MAX - OPTION_BYTES);
    }

    #[test]
    fn requests_name_their_sender() {
        let said = Ndp::Solicitation { sender_mac: MAC, sender_ip: OWN, target: VIP };
        assert_eq!(parse(request(MAC, OWN, VIP).bytes()), Some(said));
    }

    #[test]
    fn announcements_override_and_go_to_all_nodes() {
        let frame = announce(MAC, VIP);
        assert_eq!(parse(frame.bytes()), Some(Ndp::Advertisement { sender_mac: MAC, target: VIP }));
        assert_eq!(frame.bytes()[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(
            frame.bytes()[ETHERNET_BYTES + IPV6_BYTES + 4],
            0x20,
            "override, neither router nor solicited"
        );
    }

    #[test]
    fn liars_routed_and_cut_frames_are_refused() {
        let good = announce(MAC, VIP);
        for length in 0..good.bytes().len() {
            assert_eq!(parse(&good.bytes()[..length]), None, "{length}");
        }
        for (at, why) in [
            (6, "frame and option name different senders"),
            (21, "a router has passed it on"),
            (60, "the checksum is wrong"),
            (20, "another protocol"),
            (12, "another EtherType"),
        ] {
            let mut bad = [0; NDP_FRAME_BYTES_MAX];
            bad.copy_from_slice(good.bytes());
            bad[at] ^= 4;
            assert_eq!(parse(&bad), None, "{why}");
        }
    }
}
