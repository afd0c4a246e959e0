//! The crate against the real kernel: sockets, filters, carriers and own addresses between two network namespaces; virtual IPs are
//! in `virtual_ips.rs`. Needs root and iproute2; says SKIPPED otherwise.
#![allow(clippy::disallowed_methods, reason = "tests wait for the kernel and run `ip`")]

#[path = "namespace/frames.rs"]
mod frames;
mod namespace;
#[path = "namespace/tools.rs"]
mod tools;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use frames::next_frame;
use namespace::{ip, with_peer};
use std::collections::HashMap;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tools::{port, until};
use twinpost_net::links::{Carrier, LinkEvent, LinkWatch};
use twinpost_net::raw::{FRAME_BUF_BYTES, Filter, RawSocket, UdpSink};
use twinpost_net::{Cidr, Port, PortError, address};
use twinpost_wire::frame::{self, FRAME_BYTES_MAX, Udp};
use twinpost_wire::neighbour::{self, Own, Speaker};
use twinpost_wire::{arp, ndp};

const HB_PORT: u16 = 20000;
const ARP: Filter = Filter::Neighbours { ipv6: false };
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
const HERE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const THERE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

fn cidr(address: Ipv4Addr) -> Cidr {
    Cidr::new(IpAddr::V4(address), 24).expect("valid")
}

fn holds(address: Ipv4Addr) -> bool {
    ip(&["-4", "-o", "addr"]).contains(&format!("inet {address}/"))
}

fn set_address(name: &str, address: Ipv4Addr) {
    ip(&["addr", "add", &format!("{address}/24"), "dev", name]);
}

fn heartbeat_frame(from: &Port, to: &Port, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    frame_between([HERE.into(), THERE.into()], from, to, dst_port, payload)
}

fn frame_between(ips: [IpAddr; 2], from: &Port, to: &Port, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut buf = [0; FRAME_BYTES_MAX];
    let udp = Udp {
        src_mac: from.mac,
        dst_mac: to.mac,
        src_ip: ips[0],
        dst_ip: ips[1],
        src_port: HB_PORT,
        dst_port,
        payload,
    };
    let length = frame::build(&udp, &mut buf).expect("fits");
    buf[..length].to_vec()
}

#[test]
fn ports_are_found_by_name() {
    with_peer(1, |_| {
        let found = port("p0");
        let shown = ip(&["-o", "link", "show", "p0"]);
        let mac = found.mac.map(|byte| format!("{byte:02x}")).join(":");
        assert!(shown.starts_with(&format!("{}:", found.index)) && shown.contains(&mac), "{shown} {found:?}");
        assert!(matches!(Port::find("p9"), Err(PortError::Missing { .. })));
        assert!(matches!(Port::find("lo"), Err(PortError::NotEthernet { .. })));
        assert!(matches!(Port::find("../../etc"), Err(PortError::Name { .. })));
    });
}

#[test]
fn heartbeats_cross_the_cable_and_the_filter_stops_the_rest() {
    with_peer(1, |peer| {
        let (here, there) = (port("p0"), peer.run(|| port("q0")));
        let filter = Filter::Heartbeat { port: HB_PORT, ipv6: false };
        let socket = RawSocket::open(&here, filter).expect("root");
        let peers = Arc::new(peer.run(move || RawSocket::open(&port("q0"), filter).expect("root")));
        let other_port = heartbeat_frame(&here, &there, HB_PORT + 1, b"no");
        let mut fragment = heartbeat_frame(&here, &there, HB_PORT, b"no");
        fragment[20] |= 0x20;
        let good = heartbeat_frame(&here, &there, HB_PORT, b"heartbeat");
        let asked = arp::request(here.mac, HERE, THERE, None);
        for frame in [&other_port[..], &fragment[..], &good[..], &asked[..]] {
            socket.send(frame).expect("send");
        }
        let heard = next_frame(&peers);
        assert_eq!(frame::parse(&heard).expect("whole").payload, b"heartbeat");
        assert_eq!(arp::parse(&next_frame(&peers)).expect("ARP").target_ip, THERE);
        let nothing_else = peers.recv(&mut [0; FRAME_BUF_BYTES]).expect("receive");
        assert_eq!(nothing_else, None);
        // What is sent here is not heard here; kernels' own multicasts do not pass either.
        assert_eq!(socket.recv(&mut [0; FRAME_BUF_BYTES]).expect("receive"), None);
    });
}

#[test]
fn heartbeats_cross_with_ipv6_too_and_the_peers_kernel_answers_probes() {
    with_peer(1, |peer| {
        let (here, there) = (port("p0"), peer.run(|| port("q0")));
        let filter = Filter::Heartbeat { port: HB_PORT, ipv6: true };
        let socket = RawSocket::open(&here, filter).expect("root");
        let peers = Arc::new(peer.run(move || RawSocket::open(&port("q0"), filter).expect("root")));
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        // On a cable an address is there at once, without waiting for duplicates.
        peer.run(move || {
            runtime().block_on(async {
                let addresses = address::Addresses::connect().expect("netlink");
                addresses
                    .set_address_on_cable(&port("q0"), Cidr::new(THERE6.into(), 64).expect("valid"))
                    .await
                    .expect("set");
            });
            let shown = ip(&["-6", "-o", "addr", "show", "dev", "q0"]);
            assert!(
                shown.lines().any(|line| line.contains("fd00::2/64") && !line.contains("tentative")),
                "{shown}"
            );
            // The kernel joins the group that is asked for this address a moment later.
            until(2000, || ip(&["-6", "maddr", "show", "dev", "q0"]).contains("ff02::1:ff00:2"));
        });
        let ips = [HERE6.into(), THERE6.into()];
        let other_port = frame_between(ips, &here, &there, HB_PORT + 1, b"no");
        let other_kind = heartbeat_frame(&here, &there, HB_PORT, b"no");
        let good = frame_between(ips, &here, &there, HB_PORT, b"heartbeat");
        for frame in [&other_port[..], &other_kind[..], &good[..]] {
            socket.send(frame).expect("send");
        }
        // Kernels discover each other meanwhile: that passes this filter, for probes are answered so.
        let heard = std::iter::repeat_with(|| next_frame(&peers))
            .take(20)
            .find_map(|heard| frame::parse(&heard).map(|udp| (udp.src_ip, udp.payload.to_vec())));
        assert_eq!(heard, Some((HERE6.into(), b"heartbeat".to_vec())));
        let own = Own { mac: here.mac, ipv4: Ipv4Addr::UNSPECIFIED, ipv6: HERE6 };
        socket.send(neighbour::request(&own, THERE6.into()).bytes()).expect("send");
        let speaks =
            |heard: &[u8]| neighbour::speaker(heard) == Some(Speaker { mac: there.mac, ip: THERE6.into() });
        assert!(std::iter::repeat_with(|| next_frame(&socket)).take(20).any(|heard| speaks(&heard)));
    });
}

#[test]
fn the_service_socket_hears_arp_only_and_survives_a_port_that_goes_down() {
    with_peer(1, |peer| {
        let (here, there) = (port("p0"), peer.run(|| port("q0")));
        let socket = RawSocket::open(&here, ARP).expect("root");
        let peers = peer.run(|| RawSocket::open(&port("q0"), ARP).expect("root"));
        peers.send(&heartbeat_frame(&there, &here, HB_PORT, b"no")).expect("send");
        peers.send(ndp::announce(there.mac, THERE.to_ipv6_mapped()).bytes()).expect("send");
        peers.send(&arp::announce_request(there.mac, THERE)).expect("send");
        assert_eq!(arp::parse(&next_frame(&socket)).expect("ARP").sender_ip, THERE);
        ip(&["link", "set", "p0", "down"]);
        assert_eq!(socket.recv(&mut [0; FRAME_BUF_BYTES]).expect("no error"), None);
        assert_eq!(socket.send(&arp::probe(here.mac, VIP)), Err(rustix::io::Errno::NETDOWN));
        ip(&["link", "set", "p0", "up"]);
        until(2000, || peers.send(&arp::announce_request(there.mac, THERE)).is_ok());
        until(2000, || socket.recv(&mut [0; FRAME_BUF_BYTES]).expect("receive").is_some());
    });
}

#[test]
fn the_sink_keeps_the_kernel_silent() {
    with_peer(1, |peer| {
        set_address("p0", HERE);
        peer.run(|| set_address("q0", THERE));
        let refused = || {
            let socket = UdpSocket::bind((HERE, 0)).expect("bind");
            socket.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
            socket.connect((THERE, HB_PORT)).expect("connect");
            socket.send(b"heartbeat").expect("send");
            let error = socket.recv(&mut [0; 8]).expect_err("nobody answers");
            error.kind() == std::io::ErrorKind::ConnectionRefused
        };
        assert!(refused(), "the kernel answers for a closed port");
        let _sink = peer.run(|| UdpSink::open(HB_PORT).expect("free"));
        assert!(!refused());
        assert!(peer.run(|| UdpSink::open(HB_PORT).is_err()), "a second supervisor is told");
    });
}

#[test]
fn carriers_are_told_and_can_be_asked() {
    with_peer(2, |peer| {
        let (first, second) = (port("p0"), port("p1"));
        let mut watch = LinkWatch::open().expect("netlink");
        let carriers = ["p0", "p1"].map(|name| Carrier::open(name).expect("there"));
        let mut last = HashMap::new();
        let mut heard = |wanted: &Port, carrier: bool| {
            until(3000, || {
                watch.read(|LinkEvent { index, carrier }| _ = last.insert(index, carrier)).expect("read");
                last.get(&wanted.index) == Some(&carrier)
            })
        };
        heard(&first, true);
        let carriers_were = carriers.each_ref().map(Carrier::read);
        assert_eq!(carriers_were, [Some(true), Some(true)]);
        // Both at once, as when the peer loses power: one of them may be told late, both can be asked at once.
        peer.run(|| {
            ip(&["link", "set", "q0", "down"]);
            ip(&["link", "set", "q1", "down"]);
        });
        assert_eq!(carriers.each_ref().map(Carrier::read), [Some(false), Some(false)]);
        let told = heard(&first, false);
        let second_told = heard(&second, false);
        println!("told after {told:?} and {second_told:?} more");
        peer.run(|| ip(&["link", "set", "q0", "up"]));
        heard(&first, true);
        assert_eq!(carriers[0].read(), Some(true));
        ip(&["link", "set", "p0", "down"]);
        assert_eq!(carriers[0].read(), Some(false));
        ip(&["link", "del", "p0"]);
        assert_eq!(carriers[0].read(), None, "the port is gone");
        heard(&first, false);
    });
}

#[test]
fn an_overrun_of_the_watch_loses_nothing_for_good() {
    with_peer(1, |_| {
        let mut watch = LinkWatch::open().expect("netlink");
        watch.read(|_| {}).expect("read");
        let target = port("p0").index;
        // Far more messages than the socket holds, then the one that matters.
        let flood: String =
            (0..4000).map(|number| format!("link set p0 mtu {}\n", 1000 + number % 400)).collect();
        let mut batch = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
        std::io::Write::write_all(&mut batch.stdin.take().expect("piped"), flood.as_bytes()).expect("write");
        assert!(batch.wait().expect("ends").success());
        ip(&["link", "set", "p0", "down"]);
        let mut last = None;
        until(5000, || {
            watch
                .read(|event| {
                    if event.index == target {
                        last = Some(event.carrier);
                    }
                })
                .expect("read");
            last == Some(false)
        });
    });
}

#[test]
fn addresses_and_routes_are_set_and_replaced() {
    with_peer(2, |peer| {
        ip(&["addr", "add", "203.0.113.7/24", "dev", "p1"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            ip(&["link", "set", "p0", "down"]);
            let addresses = address::Addresses::connect().expect("netlink");
            let p0 = port("p0");
            addresses.link_up(&p0).await.expect("up");
            addresses.set_address(&p0, cidr(THERE)).await.expect("set");
            addresses.set_address(&p0, cidr(HERE)).await.expect("replaced");
            addresses.set_address(&p0, cidr(HERE)).await.expect("the same again");
            assert!(holds(HERE) && !holds(THERE));
            let gateways = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
            for gateway in gateways {
                addresses.default_route(gateway.into()).await.expect("in the network");
            }
            let routes = ip(&["route"]);
            assert!(routes.contains("default via 192.0.2.2") && !routes.contains("192.0.2.1 "), "{routes}");
            let unreachable = addresses.default_route(Ipv4Addr::new(198, 51, 100, 1).into()).await;
            assert!(unreachable.is_err(), "no own address there");
            addresses.set_address(&p0, Cidr::new(HERE6.into(), 64).expect("valid")).await.expect("set");
            for last in [3, 2] {
                let gateway = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
                addresses.default_route(gateway.into()).await.expect("in the network");
            }
            let routes = ip(&["-6", "route"]);
            assert!(routes.contains("default via fd00::2") && !routes.contains("fd00::3"), "{routes}");
            assert!(
                ip(&["-4", "addr", "show", "p1"]).contains("203.0.113.7/24"),
                "other ports are left alone"
            );
        });
        address::strict_arp().expect("root");
        // The weak host model would answer for p1's address on p0.
        peer.run(|| set_address("q0", THERE));
        let socket = peer.run(|| RawSocket::open(&port("q0"), ARP).expect("root"));
        let (asker, own) = (peer.run(|| port("q0")), port("p0"));
        for (asked, answered) in [(Ipv4Addr::new(203, 0, 113, 7), false), (HERE, true)] {
            socket.send(&arp::request(asker.mac, THERE, asked, None)).expect("send");
            std::thread::sleep(Duration::from_millis(100));
            let mut buf = [0; FRAME_BUF_BYTES];
            let answer =
                socket.recv(&mut buf).expect("receive").and_then(|length| arp::parse(&buf[..length]));
            assert_eq!(answer.map(|arp| arp.sender_mac), answered.then_some(own.mac), "{asked}");
        }
    });
}
