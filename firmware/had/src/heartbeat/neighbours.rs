//! The service network as the heartbeat thread sees it: neighbour probes, the probe of the virtual IPs before they are
//! claimed, their announcements and their defence, on the service port and on every other port with a virtual IP.
//! `spec/ha.md` sections 5 and 6; RFC 826, RFC 5227, RFC 4861, RFC 4862. Allocates nothing.
//!
//! The peer is known by the MAC address of its service port. On another port it cannot be told from a stranger.

use rustix::fd::{AsFd, BorrowedFd};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use twinpost_ha::{Event, ProbeTarget, VipAnswer};
use twinpost_net::announce::Announcer;
use twinpost_net::links::Carrier;
use twinpost_net::raw::{FRAME_BUF_BYTES, RawSocket};
use twinpost_types::{Instant, ServiceAddress, VIPS_MAX};
use twinpost_wire::neighbour::{self, Own, Speaker};

/// Most ports: the service port, and one for each virtual IP.
pub const SERVICE_PORTS_MAX: usize = VIPS_MAX + 1;
/// Probes of each virtual IP before it is claimed.
const VIP_PROBES: u8 = 3;
/// Time between them, and after the last one.
const VIP_PROBE_SPACING: Duration = Duration::from_millis(100);

/// A port with neighbours.
pub struct ServicePort {
    /// Raw socket that hears ARP, and neighbour discovery if a virtual IP here needs it.
    pub socket: RawSocket,
    /// Its carrier.
    pub carrier: Carrier,
    /// Announcements of the virtual IPs on this port.
    pub announcer: Announcer,
    /// Own addresses.
    pub own: Own,
}

/// A virtual IP and where it lives.
#[derive(Clone, Copy, Debug)]
pub struct ServiceVip {
    /// Address.
    pub address: IpAddr,
    /// Which of the ports.
    pub port: usize,
}

/// The ports of the service network.
pub struct ServiceSetup {
    /// The service port first.
    pub ports: heapless::Vec<ServicePort, SERVICE_PORTS_MAX>,
    /// Default gateway, behind the service port.
    pub gateway: Option<Ipv4Addr>,
    /// All virtual IPs on these ports.
    pub vips: heapless::Vec<ServiceVip, VIPS_MAX>,
}

/// State of the service network.
pub struct Neighbours {
    setup: ServiceSetup,
    peer: ServiceAddress,
    held: bool,
    vip_probe: Option<VipProbe>,
}

/// A probe of the virtual IPs under way.
struct VipProbe {
    sent: u8,
    next: Instant,
    answer: VipAnswer,
}

impl ServiceSetup {
    /// Nothing: nothing is probed and nothing announced.
    #[must_use]
    pub fn none() -> Self {
        Self { ports: heapless::Vec::new(), gateway: None, vips: heapless::Vec::new() }
    }

    /// Own address on the service network, as the peer is told.
    #[must_use]
    pub fn address(&self) -> ServiceAddress {
        self.ports.first().map_or_else(ServiceAddress::default, |port| ServiceAddress {
            ipv4: port.own.ipv4.octets(),
            mac: port.own.mac,
        })
    }
}

impl Neighbours {
    /// The service network behind these ports.
    #[must_use]
    pub fn new(setup: ServiceSetup) -> Self {
        Self { setup, peer: ServiceAddress::default(), held: false, vip_probe: None }
    }

    /// What to poll; the number of each is what [`Neighbours::receive`] takes.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.setup.ports.iter().map(|port| port.socket.as_fd())
    }

    /// Carrier of the service port; `None` without one or while it cannot be read.
    #[must_use]
    pub fn carrier(&self) -> Option<bool> {
        self.setup.ports.first()?.carrier.read()
    }

    /// When [`Neighbours::expire`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let probe = self.vip_probe.as_ref().map(|probe| probe.next);
        self.setup.ports.iter().filter_map(|port| port.announcer.next_deadline()).chain(probe).min()
    }

    /// Where the peer's own address is.
    pub fn peer_is(&mut self, peer: ServiceAddress) {
        self.peer = peer;
    }

    /// The virtual IPs are held from now on, or no more.
    pub fn hold(&mut self, now: Instant, held: bool) {
        self.held = held;
        if held {
            self.announce_again(now);
        } else {
            self.setup.ports.iter_mut().for_each(|port| port.announcer.stop());
        }
    }

    /// Announces from the beginning of the schedule, if there is something to announce.
    pub fn announce_again(&mut self, now: Instant) {
        if self.held {
            self.setup.ports.iter_mut().for_each(|port| port.announcer.start(now));
            self.announce_due(now);
        }
    }

    /// Sends one probe.
    pub fn probe(&self, target: ProbeTarget) {
        let (port, ip) = match target {
            ProbeTarget::PeerService => (0, IpAddr::V4(self.peer.ipv4.into())),
            ProbeTarget::Vip(index) => match self.setup.vips.get(usize::from(index)) {
                Some(vip) => (vip.port, vip.address),
                None => return,
            },
            ProbeTarget::ThirdParty => match self.setup.gateway {
                Some(gateway) => (0, IpAddr::V4(gateway)),
                None => return,
            },
            ProbeTarget::PeerHeartbeat(_) => return,
        };
        if let Some(port) = self.setup.ports.get(port).filter(|_| !ip.is_unspecified()) {
            let _ = port.socket.send(neighbour::request(&port.own, ip).bytes());
        }
    }

    /// Begins the probe of all virtual IPs.
    pub fn probe_vips(&mut self, now: Instant) {
        self.vip_probe = Some(VipProbe { sent: 0, next: now, answer: VipAnswer::Nobody });
    }

    /// Does what is due; returns the answer of a virtual IP probe that has ended.
    pub fn expire(&mut self, now: Instant) -> Option<VipAnswer> {
        self.announce_due(now);
        let setup = &self.setup;
        let probe = self.vip_probe.as_mut().filter(|probe| probe.next <= now)?;
        if probe.sent < VIP_PROBES && !setup.vips.is_empty() {
            probe.sent += 1;
            probe.next = now + VIP_PROBE_SPACING;
            for vip in &setup.vips {
                if let Some(port) = setup.ports.get(vip.port) {
                    let _ = port.socket.send(neighbour::probe(port.own.mac, vip.address).bytes());
                }
            }
            return None;
        }
        self.vip_probe.take().map(|probe| probe.answer)
    }

    /// Takes one frame from the port of this number: outer `None` when there is none, inner `None` when it means nothing to the
    /// decisions.
    pub fn receive(&mut self, port: usize) -> Option<Option<Event>> {
        let mut bytes = [0u8; FRAME_BUF_BYTES];
        let length = self.setup.ports.get(port)?.socket.recv(&mut bytes).ok()??;
        Some(neighbour::speaker(&bytes[..length]).and_then(|speaker| self.understand(port, speaker)))
    }

    fn understand(&mut self, port: usize, Speaker { mac, ip }: Speaker) -> Option<Event> {
        let setup = &self.setup;
        if setup.ports.get(port).is_none_or(|port| port.own.mac == mac) {
            return None;
        }
        let by_peer = mac == self.peer.mac;
        if let Some(index) = setup.vips.iter().position(|vip| vip.address == ip && vip.port == port) {
            if self.held {
                return Some(Event::VipContested { by_peer });
            }
            if let Some(probe) = &mut self.vip_probe {
                probe.answer = match (by_peer, probe.answer) {
                    (true, _) => VipAnswer::Peer { mail: false },
                    (false, peer @ VipAnswer::Peer { .. }) => peer,
                    (false, _) => VipAnswer::Stranger(mac),
                };
            }
            // Only the peer's own kernel proves that the peer lives.
            return by_peer.then(|| Event::ProbeAnswered {
                target: ProbeTarget::Vip(u8::try_from(index).unwrap_or(u8::MAX)),
            });
        }
        if port != 0 {
            return None;
        }
        if by_peer && ip == IpAddr::V4(self.peer.ipv4.into()) {
            return Some(Event::ProbeAnswered { target: ProbeTarget::PeerService });
        }
        (Some(ip) == setup.gateway.map(IpAddr::V4))
            .then_some(Event::ProbeAnswered { target: ProbeTarget::ThirdParty })
    }

    fn announce_due(&mut self, now: Instant) {
        for port in &mut self.setup.ports {
            // A full device queue loses an announcement; the schedule repeats it.
            let _ = port.announcer.send_due(now, &port.socket);
        }
    }
}
