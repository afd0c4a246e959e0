//! Neighbour probes: whom to ask where, and which answer belongs to whom. Asks with ARP, which the neighbour's *kernel* answers
//! even when its programs hang. When to ask and what silence means is `ha`'s decision. `spec/ha.md` section 5; the
//! probes for virtual IPs before a claim are [`twinpost_wire::arp::probe`] (RFC 5227).

use core::net::Ipv4Addr;
use twinpost_wire::arp::{Arp, ArpFrame, request};

/// Most targets: the peer's service address, two heartbeat addresses, a third party, and every virtual IP.
pub const TARGETS_MAX: usize = 4 + twinpost_types::VIPS_MAX;

/// The targets of one unit, each with the port where it lives. `T` names a target (`ha::ProbeTarget`).
#[derive(Clone, Debug)]
pub struct Targets<T> {
    targets: heapless::Vec<Target<T>, TARGETS_MAX>,
}

#[derive(Clone, Copy, Debug)]
struct Target<T> {
    name: T,
    port: u32,
    ip: Ipv4Addr,
    mac: Option<[u8; 6]>,
}

/// What an ARP packet tells about the targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// Nothing.
    Nothing,
    /// This target's kernel is alive: it answered, or spoke by itself.
    Answer {
        /// Who.
        target: T,
        /// With which MAC address.
        mac: [u8; 6],
    },
}

impl<T: Copy + PartialEq> Targets<T> {
    /// No targets.
    #[must_use]
    pub fn new() -> Self {
        Self { targets: heapless::Vec::new() }
    }

    /// Says where `name` lives: `ip` on the port with index `port`; `None` or 0.0.0.0 = not known (it is not asked any more).
    /// Cheap enough to be called at every heartbeat. False when there are [`TARGETS_MAX`] others already.
    pub fn set(&mut self, name: T, port: u32, ip: Option<Ipv4Addr>) -> bool {
        let place = self.targets.iter().position(|target| target.name == name);
        let Some(ip) = ip.filter(|ip| !ip.is_unspecified()) else {
            if let Some(place) = place {
                self.targets.swap_remove(place);
            }
            return true;
        };
        let target = Target { name, port, ip, mac: None };
        match place {
            // The MAC address is kept while the address stays.
            Some(place) if self.targets[place].ip == ip && self.targets[place].port == port => true,
            Some(place) => {
                self.targets[place] = target;
                true
            }
            None => self.targets.push(target).is_ok(),
        }
    }

    /// The frame that asks `name`, and the index of the port to send it on. `own_ip` is the own address on that port; it must
    /// not be a virtual IP. To everybody, so that an answer comes whatever MAC address the target has now. `None` when
    /// it is not known where `name` lives.
    #[must_use]
    pub fn request(&self, name: T, own_mac: [u8; 6], own_ip: Ipv4Addr) -> Option<(u32, ArpFrame)> {
        let target = self.targets.iter().find(|target| target.name == name)?;
        Some((target.port, request(own_mac, own_ip, target.ip, None)))
    }

    /// Which target spoke in `arp`, received on the port with index `port`. Call it for every ARP packet: requests and
    /// announcements of a target are as good as an answer. Probes (sender 0.0.0.0) tell nothing.
    pub fn heard(&mut self, port: u32, arp: &Arp) -> Heard<T> {
        let speaker =
            self.targets.iter_mut().find(|target| target.port == port && target.ip == arp.sender_ip);
        match speaker {
            Some(target) => {
                target.mac = Some(arp.sender_mac);
                Heard::Answer { target: target.name, mac: arp.sender_mac }
            }
            None => Heard::Nothing,
        }
    }

    /// The MAC address that `name` last spoke with.
    #[must_use]
    pub fn mac(&self, name: T) -> Option<[u8; 6]> {
        self.targets.iter().find(|target| target.name == name)?.mac
    }
}

impl<T: Copy + PartialEq> Default for Targets<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_wire::arp;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const OWN_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
    const PEER_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);

    #[test]
    fn an_answer_belongs_to_its_address_on_its_port() {
        let mut targets = Targets::new();
        assert!(targets.set("peer", 3, Some(PEER_IP)));
        let (port, frame) = targets.request("peer", OWN, OWN_IP).expect("known");
        assert_eq!((port, arp::parse(&frame).expect("own").target_ip), (3, PEER_IP));
        let answer = arp::parse(&arp::reply(PEER, PEER_IP, OWN, OWN_IP)).expect("own");
        assert_eq!(targets.heard(4, &answer), Heard::Nothing, "another port");
        assert_eq!(targets.heard(3, &answer), Heard::Answer { target: "peer", mac: PEER });
        assert_eq!(targets.mac("peer"), Some(PEER));
        assert!(targets.set("peer", 3, Some(PEER_IP)));
        assert_eq!(targets.mac("peer"), Some(PEER), "kept while the address stays");
        assert!(targets.set("peer", 3, Some(OWN_IP)));
        assert_eq!(targets.mac("peer"), None);
    }

    #[test]
    fn probes_of_others_prove_nothing_about_a_target() {
        let mut targets = Targets::new();
        targets.set("vip", 3, Some(PEER_IP));
        let probe = arp::parse(&arp::probe(PEER, PEER_IP)).expect("own");
        assert_eq!(targets.heard(3, &probe), Heard::Nothing);
    }

    #[test]
    fn unknown_addresses_are_not_asked_and_the_table_is_bounded() {
        let mut targets = Targets::new();
        targets.set(0, 3, Some(PEER_IP));
        targets.set(0, 3, Some(Ipv4Addr::UNSPECIFIED));
        assert_eq!(targets.request(0, OWN, OWN_IP), None);
        for number in 0..TARGETS_MAX {
            assert!(targets.set(number, 3, Some(PEER_IP)));
        }
        assert!(!targets.set(TARGETS_MAX, 3, Some(PEER_IP)));
    }
}
