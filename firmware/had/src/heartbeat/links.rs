//! The heartbeat links of the thread: sealed heartbeats out, opened heartbeats and neighbours in. Allocates nothing.

use rustix::fd::{AsFd, BorrowedFd};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use twinpost_ha::ProbeTarget;
use twinpost_net::links::Carrier;
use twinpost_net::raw::{FRAME_BUF_BYTES, RawSocket};
use twinpost_types::{Heard as LastHeard, Instant, LINKS, LinkId, Report};
use twinpost_wire::neighbour::{self, Own};
use twinpost_wire::{Accepted, Counters, DATAGRAM_BYTES_MAX, Drop, LinkState, Session, frame};

const BROADCAST: [u8; 6] = [0xff; 6];

/// One heartbeat link.
pub struct LinkSetup {
    /// Raw socket on its port.
    pub socket: RawSocket,
    /// Its carrier.
    pub carrier: Carrier,
    /// Own MAC address.
    pub mac: [u8; 6],
    /// Own address.
    pub ip: IpAddr,
    /// The peer's address, of the same kind.
    pub peer: IpAddr,
}

/// All heartbeat links and the session over them.
pub struct Links {
    links: [Option<LinkSetup>; LINKS],
    /// The peer's MAC on each link, from its last valid heartbeat.
    peer_mac: [Option<[u8; 6]>; LINKS],
    heard_at: [Option<Instant>; LINKS],
    session: Session,
    /// UDP port of heartbeats.
    port: u16,
    /// Random numbers for challenges, drawn before the thread began and stirred with each use.
    entropy: u64,
}

/// What one frame was.
pub enum Heard {
    /// A valid heartbeat.
    Accepted(Accepted),
    /// A greeting that must be answered at once.
    MustAnswer,
    /// A packet of ARP or neighbour discovery of this address.
    Neighbour(IpAddr),
    /// Something that was counted and forgotten.
    Nothing,
}

impl LinkSetup {
    fn own(&self) -> Own {
        let (ipv4, ipv6) = match self.ip {
            IpAddr::V4(ip) => (ip, Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(ip) => (Ipv4Addr::UNSPECIFIED, ip),
        };
        Own { mac: self.mac, ipv4, ipv6 }
    }
}

impl Links {
    /// Links of one unit. `entropy` is drawn at random.
    #[must_use]
    pub fn new(links: [Option<LinkSetup>; LINKS], session: Session, port: u16, entropy: u64) -> Self {
        Self { links, peer_mac: [None; LINKS], heard_at: [None; LINKS], session, port, entropy }
    }

    /// What to poll.
    #[must_use]
    pub fn fds(&self) -> [Option<BorrowedFd<'_>>; LINKS] {
        [0, 1].map(|i| self.links[i].as_ref().map(|link| link.socket.as_fd()))
    }

    /// Carrier of a link; `None` without such a link or while its port cannot be read.
    #[must_use]
    pub fn carrier(&self, link: LinkId) -> Option<bool> {
        self.links[link.index()].as_ref()?.carrier.read()
    }

    /// Counters of the session.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.session.counters()
    }

    /// What was heard on a link.
    #[must_use]
    pub fn state(&self, link: LinkId) -> LinkState {
        self.session.link(link)
    }

    /// Seals and sends `report` on every link.
    pub fn send(&mut self, now: Instant, report: &mut Report) {
        for link in LinkId::ALL {
            let state = self.session.link(link);
            let age = self.heard_at[link.index()].map_or(u128::MAX, |at| now.since(at).as_millis());
            report.heard[link.index()] = LastHeard {
                sequence: state.sequence,
                age_ms: u16::try_from(age).unwrap_or(u16::MAX),
                lost: u16::try_from(state.missed & 0xffff).unwrap_or(u16::MAX),
            };
        }
        for link in LinkId::ALL {
            let Some(setup) = &self.links[link.index()] else { continue };
            let mut datagram = [0u8; DATAGRAM_BYTES_MAX];
            let length = self.session.seal(link, report, &mut datagram);
            let udp = frame::Udp {
                src_mac: setup.mac,
                dst_mac: self.peer_mac[link.index()].unwrap_or(BROADCAST),
                src_ip: setup.ip,
                dst_ip: setup.peer,
                src_port: self.port,
                dst_port: self.port,
                payload: &datagram[..length],
            };
            let mut bytes = [0u8; frame::FRAME_BYTES_MAX];
            if let Some(length) = frame::build(&udp, &mut bytes) {
                // A link without carrier or with a full queue loses a heartbeat; the next one follows.
                let _ = setup.socket.send(&bytes[..length]);
            }
        }
    }

    /// Asks the peer's kernel on this link.
    pub fn probe(&self, link: LinkId) {
        if let Some(setup) = &self.links[link.index()] {
            let _ = setup.socket.send(neighbour::request(&setup.own(), setup.peer).bytes());
        }
    }

    /// The probe that an answer from `ip` on this link answers.
    #[must_use]
    pub fn probe_target(&self, link: LinkId, ip: IpAddr) -> Option<ProbeTarget> {
        let setup = self.links[link.index()].as_ref()?;
        (setup.peer == ip).then_some(ProbeTarget::PeerHeartbeat(link))
    }

    /// Takes one frame; `None` when there is none now.
    pub fn receive(&mut self, link: LinkId) -> Option<Heard> {
        let mut bytes = [0u8; FRAME_BUF_BYTES];
        let length = self.links[link.index()].as_ref()?.socket.recv(&mut bytes).ok()??;
        Some(self.open(link, &bytes[..length]))
    }

    fn open(&mut self, link: LinkId, bytes: &[u8]) -> Heard {
        let Some(udp) = frame::parse(bytes) else {
            return neighbour::speaker(bytes).map_or(Heard::Nothing, |speaker| Heard::Neighbour(speaker.ip));
        };
        if udp.dst_port != self.port {
            return Heard::Nothing;
        }
        // SplitMix64: a challenge must not repeat and not be guessed by who never saw the seed.
        self.entropy = self.entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.entropy;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        match self.session.open(link, udp.payload, z ^ (z >> 31)) {
            Ok(accepted) => {
                self.peer_mac[link.index()] = Some(udp.src_mac);
                self.heard_at[link.index()] = Some(twinpost_net::rt::now());
                Heard::Accepted(accepted)
            }
            Err(Drop::Hello { must_answer: true }) => Heard::MustAnswer,
            Err(_) => Heard::Nothing,
        }
    }
}
