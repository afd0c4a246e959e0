//! ARP packets in Ethernet frames: requests and probes of neighbours, announcements of virtual IPs, and their parsing.
//! Decides nothing about who answers for what. RFC 826; RFC 5227 (probe and announcement).

use crate::frame::{ETHERNET_BYTES, FRAME_BYTES_MIN};
use core::net::Ipv4Addr;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

/// Bytes of every ARP frame built here: padded to the shortest Ethernet frame.
pub const ARP_FRAME_BYTES: usize = FRAME_BYTES_MIN;
/// Bytes of an ARP packet for IPv4 over Ethernet.
const ARP_BYTES: usize = 28;

const BROADCAST: [u8; 6] = [0xff; 6];
const UNKNOWN: [u8; 6] = [0; 6];

/// One ARP frame.
pub type ArpFrame = [u8; ARP_FRAME_BYTES];

/// What an ARP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// True for a request, false for a reply.
    pub request: bool,
    /// MAC address in the packet (also the sender of the frame, or the frame is refused).
    pub sender_mac: [u8; 6],
    /// Address that the sender claims; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// MAC address asked for; meaningless in requests.
    pub target_mac: [u8; 6],
    /// Address asked for.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// RFC 5227 probe: somebody asks whether an address is free.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.request && self.sender_ip.is_unspecified()
    }
}

/// Asks who has `target`. With `known` the request goes to that MAC alone, else to everybody.
#[must_use]
pub fn request(own_mac: [u8; 6], own_ip: Ipv4Addr, target: Ipv4Addr, known: Option<[u8; 6]>) -> ArpFrame {
    let arp =
        Arp { request: true, sender_mac: own_mac, sender_ip: own_ip, target_mac: UNKNOWN, target_ip: target };
    build(known.unwrap_or(BROADCAST), &arp)
}

/// Answers a request of `asker`.
#[must_use]
pub fn reply(own_mac: [u8; 6], own_ip: Ipv4Addr, asker_mac: [u8; 6], asker_ip: Ipv4Addr) -> ArpFrame {
    let arp = Arp {
        request: false,
        sender_mac: own_mac,
        sender_ip: own_ip,
        target_mac: asker_mac,
        target_ip: asker_ip,
    };
    build(asker_mac, &arp)
}

/// RFC 5227 section 2.1.1: asks whether anybody uses `target`, without claiming anything.
#[must_use]
pub fn probe(own_mac: [u8; 6], target: Ipv4Addr) -> ArpFrame {
    request(own_mac, Ipv4Addr::UNSPECIFIED, target, None)
}

/// RFC 5227 section 2.3: announces `ip` in request form, which hosts of every kind listen to.
#[must_use]
pub fn announce_request(own_mac: [u8; 6], ip: Ipv4Addr) -> ArpFrame {
    request(own_mac, ip, ip, None)
}

/// Announces `ip` in reply form, for the devices that update their tables from replies only.
#[must_use]
pub fn announce_reply(own_mac: [u8; 6], ip: Ipv4Addr) -> ArpFrame {
    let arp =
        Arp { request: false, sender_mac: own_mac, sender_ip: ip, target_mac: BROADCAST, target_ip: ip };
    build(BROADCAST, &arp)
}

/// Reads an ARP frame. `None` for anything but requests and replies for IPv4 over Ethernet by a unicast sender whose frame
/// and packet name the same MAC.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Arp> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
    // smoltcp's enum is open to other hardware; today it has one variant.
    #[allow(irrefutable_let_patterns)]
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    let request = match operation {
        ArpOperation::Request => true,
        ArpOperation::Reply => false,
        ArpOperation::Unknown(_) => return None,
    };
    if !source_hardware_addr.is_unicast() || source_hardware_addr != ethernet.src_addr() {
        return None;
    }
    Some(Arp {
        request,
        sender_mac: source_hardware_addr.0,
        sender_ip: source_protocol_addr,
        target_mac: target_hardware_addr.0,
        target_ip: target_protocol_addr,
    })
}

fn build(destination: [u8; 6], arp: &Arp) -> ArpFrame {
    let mut frame = [0; ARP_FRAME_BYTES];
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(arp.sender_mac),
        dst_addr: EthernetAddress(destination),
        ethertype: EthernetProtocol::Arp,
    };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    let repr = ArpRepr::EthernetIpv4 {
        operation: if arp.request { ArpOperation::Request } else { ArpOperation::Reply },
        source_hardware_addr: EthernetAddress(arp.sender_mac),
        source_protocol_addr: arp.sender_ip,
        target_hardware_addr: EthernetAddress(arp.target_mac),
        target_protocol_addr: arp.target_ip,
    };
    let end = ETHERNET_BYTES + ARP_BYTES;
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[ETHERNET_BYTES..end]));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    #[test]
    fn probe_claims_nothing() {
        let arp = parse(&probe(MAC, VIP)).expect("own frame");
        assert!(arp.is_probe());
        assert_eq!((arp.sender_mac, arp.target_ip), (MAC, VIP));
    }

    #[test]
    fn announcements_name_the_address_as_sender_and_target() {
        for frame in [announce_request(MAC, VIP), announce_reply(MAC, VIP)] {
            let arp = parse(&frame).expect("own frame");
            assert_eq!((arp.sender_mac, arp.sender_ip, arp.target_ip), (MAC, VIP, VIP));
            assert_eq!(frame[..6], BROADCAST);
        }
    }

    #[test]
    fn known_neighbours_are_asked_alone_and_answer() {
        let own = Ipv4Addr::new(192, 0, 2, 11);
        let asked = request(MAC, own, VIP, Some(PEER));
        assert_eq!(asked[..6], PEER);
        let answer = parse(&reply(PEER, VIP, MAC, own)).expect("own frame");
        assert_eq!((answer.request, answer.sender_ip, answer.sender_mac), (false, VIP, PEER));
    }

    #[test]
    fn liars_and_fragments_are_refused() {
        let good = announce_request(MAC, VIP);
        for length in 0..ETHERNET_BYTES + ARP_BYTES {
            assert_eq!(parse(&good[..length]), None, "{length}");
        }
        let mut liar = good;
        liar[6] ^= 4;
        assert_eq!(parse(&liar), None, "frame and packet name different senders");
        let mut other = good;
        other[21] = 9;
        assert_eq!(parse(&other), None, "unknown operation");
    }
}
