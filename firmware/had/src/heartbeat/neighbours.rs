//! The service network as the heartbeat thread sees it: neighbour probes, the probe of the virtual IPs before they are
//! claimed, their announcements and their defence. `spec/ha.md` sections 5 and 6, RFC 826, RFC 5227. Allocates nothing.

use rustix::fd::{AsFd, BorrowedFd};
use std::net::Ipv4Addr;
use std::time::Duration;
use twinpost_ha::{Event, ProbeTarget, VipAnswer};
use twinpost_net::announce::Announcer;
use twinpost_net::links::Carrier;
use twinpost_net::raw::{FRAME_BUF_BYTES, RawSocket};
use twinpost_types::{Instant, ServiceAddress, VIPS_MAX};
use twinpost_wire::arp;

/// Probes of each virtual IP before it is claimed.
const VIP_PROBES: u8 = 3;
/// Time between them, and after the last one.
const VIP_PROBE_SPACING: Duration = Duration::from_millis(100);

/// The service port.
pub struct ServiceSetup {
    /// Raw ARP socket.
    pub socket: RawSocket,
    /// Its carrier.
    pub carrier: Carrier,
    /// Announcements of the virtual IPs.
    pub announcer: Announcer,
    /// Own address.
    pub own: ServiceAddress,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Virtual IPs on this port, in the order of the configuration.
    pub vips: heapless::Vec<Ipv4Addr, VIPS_MAX>,
}

/// State of the service network.
pub struct Neighbours {
    setup: Option<ServiceSetup>,
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

impl Neighbours {
    /// The service network behind this port; without one nothing is probed and nothing announced.
    #[must_use]
    pub fn new(setup: Option<ServiceSetup>) -> Self {
        Self { setup, peer: ServiceAddress::default(), held: false, vip_probe: None }
    }

    /// What to poll.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.setup.as_ref().map(|setup| setup.socket.as_fd())
    }

    /// Carrier of the service port; `None` without one or while it cannot be read.
    #[must_use]
    pub fn carrier(&self) -> Option<bool> {
        self.setup.as_ref()?.carrier.read()
    }

    /// When [`Neighbours::expire`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let probe = self.vip_probe.as_ref().map(|probe| probe.next);
        [self.setup.as_ref().and_then(|setup| setup.announcer.next_deadline()), probe]
            .into_iter()
            .flatten()
            .min()
    }

    /// Where the peer's own address is.
    pub fn peer_is(&mut self, peer: ServiceAddress) {
        self.peer = peer;
    }

    /// The virtual IPs are held from now on, or no more.
    pub fn hold(&mut self, now: Instant, held: bool) {
        self.held = held;
        match (&mut self.setup, held) {
            (Some(_), true) => self.announce_again(now),
            (Some(setup), false) => setup.announcer.stop(),
            (None, _) => {}
        }
    }

    /// Announces from the beginning of the schedule, if there is something to announce.
    pub fn announce_again(&mut self, now: Instant) {
        if let Some(setup) = self.setup.as_mut().filter(|_| self.held) {
            setup.announcer.start(now);
            self.announce_due(now);
        }
    }

    /// Sends one probe.
    pub fn probe(&self, target: ProbeTarget) {
        let Some(setup) = &self.setup else { return };
        let own = Ipv4Addr::from(setup.own.ipv4);
        let ip = match target {
            ProbeTarget::PeerService => Ipv4Addr::from(self.peer.ipv4),
            ProbeTarget::Vip(index) => match setup.vips.get(usize::from(index)) {
                Some(vip) => *vip,
                None => return,
            },
            ProbeTarget::ThirdParty => match setup.gateway {
                Some(gateway) => gateway,
                None => return,
            },
            ProbeTarget::PeerHeartbeat(_) => return,
        };
        if !ip.is_unspecified() {
            let _ = setup.socket.send(&arp::request(setup.own.mac, own, ip, None));
        }
    }

    /// Begins the probe of all virtual IPs.
    pub fn probe_vips(&mut self, now: Instant) {
        self.vip_probe = Some(VipProbe { sent: 0, next: now, answer: VipAnswer::Nobody });
    }

    /// Does what is due; returns the answer of a virtual IP probe that has ended.
    pub fn expire(&mut self, now: Instant) -> Option<VipAnswer> {
        self.announce_due(now);
        let probe = self.vip_probe.as_mut().filter(|probe| probe.next <= now)?;
        let vips = self.setup.as_ref().map_or(&[][..], |setup| &setup.vips[..]);
        if probe.sent < VIP_PROBES && !vips.is_empty() {
            probe.sent += 1;
            probe.next = now + VIP_PROBE_SPACING;
            if let Some(setup) = &self.setup {
                for vip in vips {
                    let _ = setup.socket.send(&arp::probe(setup.own.mac, *vip));
                }
            }
            return None;
        }
        self.vip_probe.take().map(|probe| probe.answer)
    }

    /// Takes one ARP frame: outer `None` when there is none, inner `None` when it means nothing to the decisions.
    pub fn receive(&mut self) -> Option<Option<Event>> {
        let mut bytes = [0u8; FRAME_BUF_BYTES];
        let length = self.setup.as_ref()?.socket.recv(&mut bytes).ok()??;
        Some(arp::parse(&bytes[..length]).and_then(|arp| self.understand(&arp)))
    }

    fn understand(&mut self, arp: &arp::Arp) -> Option<Event> {
        let setup = self.setup.as_ref()?;
        if arp.sender_mac == setup.own.mac {
            return None;
        }
        let by_peer = arp.sender_mac == self.peer.mac;
        if let Some(index) = setup.vips.iter().position(|vip| *vip == arp.sender_ip) {
            if self.held {
                return Some(Event::VipContested { by_peer });
            }
            if let Some(probe) = &mut self.vip_probe {
                probe.answer = if by_peer {
                    VipAnswer::Peer { mail: false }
                } else {
                    VipAnswer::Stranger(arp.sender_mac)
                };
            }
            // Only the peer's own kernel proves that the peer lives.
            return by_peer.then(|| Event::ProbeAnswered {
                target: ProbeTarget::Vip(u8::try_from(index).unwrap_or(u8::MAX)),
            });
        }
        if by_peer && arp.sender_ip == Ipv4Addr::from(self.peer.ipv4) {
            return Some(Event::ProbeAnswered { target: ProbeTarget::PeerService });
        }
        (Some(arp.sender_ip) == setup.gateway)
            .then_some(Event::ProbeAnswered { target: ProbeTarget::ThirdParty })
    }

    fn announce_due(&mut self, now: Instant) {
        if let Some(setup) = &mut self.setup {
            // A full device queue loses an announcement; the schedule repeats it.
            let _ = setup.announcer.send_due(now, &setup.socket);
        }
    }
}
