//! A turn of the heartbeat thread allocates nothing: sockets, carriers, probes, announcements, sealing and opening, on a
//! locked real-time thread. An allocation aborts this program. Needs root and iproute2; says SKIPPED otherwise.
#![allow(clippy::disallowed_methods, reason = "its namespaces are made with `ip`")]

mod namespace;

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use namespace::with_peer;
use twinpost_net::announce::Announcer;
use twinpost_net::lease::Pulse;
use twinpost_net::links::{Carrier, LinkWatch};
use twinpost_net::raw::{FRAME_BUF_BYTES, Filter, RawSocket};
use twinpost_net::{Port, rt};
use twinpost_types::{BootId, LinkId, Report, UnitId};
use twinpost_wire::frame::{self, FRAME_BYTES_MAX, Udp};
use twinpost_wire::neighbour::{self, Own};
use twinpost_wire::{DATAGRAM_BYTES_MAX, Drop, Keys, Session};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

const HB_PORT: u16 = 20000;
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);

/// One unit's end of the cable.
struct End {
    session: Session,
    port: Port,
    socket: RawSocket,
    accepted: u32,
    hellos: u32,
    heard: u32,
}

impl End {
    fn open(port: &str) -> (Port, RawSocket) {
        let port = Port::find(port).expect("made before");
        let socket = RawSocket::open(&port, Filter::Heartbeat { port: HB_PORT, ipv6: false }).expect("root");
        (port, socket)
    }

    fn new(keys: &Keys, unit: u64, (port, socket): (Port, RawSocket)) -> Self {
        let boot = BootId(rt::random_u128());
        let session = Session::new(keys.clone(), UnitId(unit), boot, rt::random_u64());
        Self { session, port, socket, accepted: 0, hellos: 0, heard: 0 }
    }

    fn send(&mut self, to_mac: [u8; 6]) {
        let (mut datagram, mut out) = ([0; DATAGRAM_BYTES_MAX], [0; FRAME_BYTES_MAX]);
        let length = self.session.seal(LinkId::ALL[0], &Report::default(), &mut datagram);
        let udp = Udp {
            src_mac: self.port.mac,
            dst_mac: to_mac,
            src_ip: HERE.into(),
            dst_ip: THERE.into(),
            src_port: HB_PORT,
            dst_port: HB_PORT,
            payload: &datagram[..length],
        };
        let length = frame::build(&udp, &mut out).expect("fits");
        self.socket.send(&out[..length]).expect("send");
    }

    fn receive(&mut self) {
        let mut buf = [0; FRAME_BUF_BYTES];
        while let Some(length) = self.socket.recv(&mut buf).expect("receive") {
            if let Some(speaker) = neighbour::speaker(&buf[..length]) {
                self.heard += u32::from(speaker.ip == IpAddr::V4(HERE));
                continue;
            }
            // Only probes pass the filter besides heartbeats; they claim nothing.
            let Some(udp) = frame::parse(&buf[..length]) else { continue };
            match self.session.open(LinkId::ALL[0], udp.payload, rt::random_u64()) {
                Ok(_) => self.accepted += 1,
                Err(Drop::Hello { must_answer: true }) => self.hellos += 1,
                Err(why) => panic!("dropped: {why}"),
            }
        }
    }
}

#[test]
fn the_heartbeat_thread_allocates_nothing() {
    with_peer(1, |peer| {
        let keys = Keys::derive("password", "group").expect("memory");
        let mut here = End::new(&keys, 1, End::open("p0"));
        let mut there = End::new(&keys, 2, peer.run(|| End::open("q0")));
        let mut watch = LinkWatch::open().expect("netlink");
        let carrier = Carrier::open("p0").expect("there");
        let (wake, pulse) = (rt::Wake::new().expect("fd"), Pulse::new());
        let own = Own { mac: here.port.mac, ipv4: HERE, ipv6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1) };
        let vips = [IpAddr::V4(HERE), IpAddr::V6(own.ipv6)];
        let mut announcer = Announcer::new(&here.port, &vips);
        rt::lock_memory().expect("root");
        rt::become_realtime(rt::Priority::Heartbeat).expect("root");
        rt::touch_stack();
        let mut carriers = 0;
        assert_no_alloc(|| {
            announcer.start(rt::now());
            for _ in 0..20 {
                let now = rt::now();
                pulse.beat(now);
                wake.notify();
                wake.drain();
                watch.read(|_| carriers += 1).expect("read");
                assert_eq!(carrier.read(), Some(true));
                let _sent = announcer.send_due(now, &here.socket).expect("sent");
                for ip in vips {
                    here.socket.send(neighbour::request(&own, ip).bytes()).expect("send");
                    here.socket.send(neighbour::probe(own.mac, ip).bytes()).expect("send");
                }
                here.send(there.port.mac);
                there.receive();
                there.send(here.port.mac);
                here.receive();
            }
        });
        assert!(here.accepted + there.accepted >= 38 && here.hellos + there.hellos <= 2);
        assert!(carriers >= 2, "lo and p0");
        assert!(there.heard >= 20, "{}", there.heard);
    });
}
