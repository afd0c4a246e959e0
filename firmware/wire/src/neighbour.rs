//! One view of [`crate::arp`] and [`crate::ndp`]: asks, probes and announces an address of either kind, and tells who speaks for
//! which address. What that means is decided by who holds the address. `spec/ha.md` sections 5 and 6.

use crate::arp::{self, ArpFrame};
use crate::ndp::{self, Ndp, NdpFrame};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourFrame {
    /// IPv4.
    Arp(ArpFrame),
    /// IPv6.
    Ndp(NdpFrame),
}

/// Own addresses on a port, as neighbours are asked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// MAC address.
    pub mac: [u8; 6],
    /// 0.0.0.0 when there is none: what is asked then is a probe.
    pub ipv4: Ipv4Addr,
    /// `::` when there is none.
    pub ipv6: Ipv6Addr,
}

/// Somebody uses an address: it answered for it, announced it, or spoke from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// With this MAC address.
    pub mac: [u8; 6],
    /// This address.
    pub ip: IpAddr,
}

impl NeighbourFrame {
    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Arp(frame) => frame,
            Self::Ndp(frame) => frame.bytes(),
        }
    }
}

/// Asks everybody who has `target`, so that an answer comes whatever MAC address it has now.
#[must_use]
pub fn request(own: &Own, target: IpAddr) -> NeighbourFrame {
    match target {
        IpAddr::V4(target) => NeighbourFrame::Arp(arp::request(own.mac, own.ipv4, target, None)),
        IpAddr::V6(target) if own.ipv6.is_unspecified() => NeighbourFrame::Ndp(ndp::probe(own.mac, target)),
        IpAddr::V6(target) => NeighbourFrame::Ndp(ndp::request(own.mac, own.ipv6, target)),
    }
}

/// Asks whether anybody uses `target`, without claiming anything (RFC 5227, RFC 4862).
#[must_use]
pub fn probe(own_mac: [u8; 6], target: IpAddr) -> NeighbourFrame {
    match target {
        IpAddr::V4(target) => NeighbourFrame::Arp(arp::probe(own_mac, target)),
        IpAddr::V6(target) => NeighbourFrame::Ndp(ndp::probe(own_mac, target)),
    }
}

/// What announces `ip`: request and reply form for IPv4, an unsolicited advertisement for IPv6.
pub fn announcements(own_mac: [u8; 6], ip: IpAddr) -> impl Iterator<Item = NeighbourFrame> {
    let frames = match ip {
        IpAddr::V4(ip) => [
            Some(NeighbourFrame::Arp(arp::announce_request(own_mac, ip))),
            Some(NeighbourFrame::Arp(arp::announce_reply(own_mac, ip))),
        ],
        IpAddr::V6(ip) => [Some(NeighbourFrame::Ndp(ndp::announce(own_mac, ip))), None],
    };
    frames.into_iter().flatten()
}

/// Who speaks in a frame. `None` for what is neither ARP nor neighbour discovery, and for probes: they claim nothing.
#[must_use]
pub fn speaker(frame: &[u8]) -> Option<Speaker> {
    let heard = arp::parse(frame).map(|arp| (arp.sender_mac, IpAddr::V4(arp.sender_ip)));
    let (mac, ip) = heard.or_else(|| {
        ndp::parse(frame).map(|ndp| match ndp {
            Ndp::Solicitation { sender_mac, sender_ip, .. } => (sender_mac, IpAddr::V6(sender_ip)),
            Ndp::Advertisement { sender_mac, target } => (sender_mac, IpAddr::V6(target)),
        })
    })?;
    (!ip.is_unspecified()).then_some(Speaker { mac, ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own {
        mac: [2, 0, 0, 0, 0, 1],
        ipv4: Ipv4Addr::new(192, 0, 2, 11),
        ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11),
    };
    const VIPS: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)),
    ];

    #[test]
    fn who_asks_or_announces_speaks_and_who_probes_does_not() {
        for vip in VIPS {
            let own = if vip.is_ipv4() { IpAddr::V4(OWN.ipv4) } else { IpAddr::V6(OWN.ipv6) };
            let asked = request(&OWN, vip);
            assert_eq!(speaker(asked.bytes()), Some(Speaker { mac: OWN.mac, ip: own }));
            assert_eq!(speaker(probe(OWN.mac, vip).bytes()), None);
            let mut count = 0;
            for frame in announcements(OWN.mac, vip) {
                assert_eq!(speaker(frame.bytes()), Some(Speaker { mac: OWN.mac, ip: vip }));
                count += 1;
            }
            assert_eq!(count, if vip.is_ipv4() { 2 } else { 1 });
        }
        assert_eq!(speaker(b"neither"), None);
    }
}
