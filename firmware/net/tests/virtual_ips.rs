//! Virtual IPs against the real kernel, IPv4 and IPv6: leases, their expiry, announcements, probes before a claim, the action
//! `set`, between two network namespaces. Needs root and iproute2; says SKIPPED otherwise.
#![allow(clippy::disallowed_methods, reason = "tests wait for the kernel and run `ip`")]

#[path = "namespace/beating.rs"]
mod beating;
#[path = "namespace/frames.rs"]
mod frames;
mod namespace;
#[path = "namespace/tools.rs"]
mod tools;

use beating::Beating;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use frames::next_frame;
use namespace::{ip, with_peer};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tools::{port, until};
use twinpost_net::lease::{LeaseError, LeaseKeeper, LeaseState, Vip};
use twinpost_net::raw::{FRAME_BUF_BYTES, Filter, RawSocket};
use twinpost_net::{Cidr, address, announce, rt};
use twinpost_wire::neighbour::{self, Own, Speaker};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 12));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
const HERE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11));
const THERE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x12));
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
/// Own address, the peer's, and the virtual IP, of either kind.
const KINDS: [[IpAddr; 3]; 2] = [[HERE, THERE, VIP], [HERE6, THERE6, VIP6]];
const BOTH: Filter = Filter::Neighbours { ipv6: true };

fn cidr(address: IpAddr) -> Cidr {
    Cidr::new(address, if address.is_ipv4() { 24 } else { 64 }).expect("valid")
}

fn beside(own: IpAddr, vip: IpAddr) -> Vip {
    Vip::beside(&port("p0"), cidr(own), cidr(vip))
}

fn holds(address: IpAddr) -> bool {
    ip(&["-o", "addr"]).contains(&format!(" {address}/"))
}

fn set_address(name: &str, address: IpAddr) {
    ip(&["addr", "add", &cidr(address).to_string(), "dev", name]);
    let tentative = || ip(&["-6", "-o", "addr", "show", "dev", name]).contains("tentative");
    until(5000, || !tentative());
}

fn routes() -> String {
    ip(&["-4", "route"]) + &ip(&["-6", "route", "show", "exact", "2001:db8::/64"])
}

fn claimed(beating: &Beating) -> LeaseKeeper {
    let keeper = LeaseKeeper::start(Arc::clone(&beating.pulse)).expect("root");
    keeper.claim(&[beside(HERE, VIP), beside(HERE6, VIP6)]).expect("claimed");
    keeper
}

fn holds_both() -> bool {
    holds(VIP) && holds(VIP6)
}

fn holds_none() -> bool {
    !holds(VIP) && !holds(VIP6)
}

#[test]
fn a_lease_is_renewed_released_and_leaves_the_ports_own_address_alone() {
    with_peer(1, |_| {
        set_address("p0", HERE);
        set_address("p0", HERE6);
        let routes_before = routes();
        let beating = Beating::start();
        let keeper = claimed(&beating);
        for _ in 0..30 {
            assert!(holds_both() && keeper.state() == LeaseState::Held);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(routes(), routes_before, "no second route to the subnet");
        keeper.claim(&[beside(HERE, VIP), beside(HERE6, VIP6)]).expect("again");
        keeper.release().expect("released");
        assert!(holds_none() && holds(HERE) && holds(HERE6) && keeper.state() == LeaseState::Free);
        keeper.release().expect("nothing held is no error");
        assert_eq!(routes(), routes_before);
        std::thread::sleep(Duration::from_millis(600));
        assert!(holds_none(), "not renewed after the release");
    });
}

#[test]
fn a_stalled_heartbeat_thread_loses_the_lease_for_good() {
    with_peer(1, |_| {
        set_address("p0", HERE);
        set_address("p0", HERE6);
        let beating = Beating::start();
        let keeper = claimed(&beating);
        let pulse = Arc::clone(&beating.pulse);
        drop(beating);
        let gone = until(2000, holds_none);
        until(500, || keeper.state() == LeaseState::Lost);
        println!("gone {gone:?} after the heartbeat thread stalled");
        // It lives again, but somebody else may have the address by now.
        pulse.beat(rt::now());
        std::thread::sleep(Duration::from_millis(400));
        assert!(holds_none() && keeper.state() == LeaseState::Lost);
        let vips = [beside(HERE, VIP), beside(HERE6, VIP6)];
        std::thread::sleep(Duration::from_millis(200));
        assert!(matches!(keeper.claim(&vips), Err(LeaseError::NoPulse)));
        pulse.beat(rt::now());
        keeper.claim(&vips).expect("a new decision may claim it again");
        assert!(holds_both());
    });
}

#[test]
fn a_claim_is_all_or_nothing() {
    with_peer(1, |_| {
        set_address("p0", HERE);
        set_address("p0", HERE6);
        let beating = Beating::start();
        let keeper = LeaseKeeper::start(Arc::clone(&beating.pulse)).expect("root");
        let mut no_such_port = port("p0");
        no_such_port.index = 9999;
        let vip = beside(HERE, VIP);
        let impossible = Vip::beside(&no_such_port, cidr(HERE), cidr(THERE));
        let refused = keeper.claim(&[vip, impossible]).expect_err("there is no such port");
        assert!(matches!(refused, LeaseError::Refused { what: "claim", address: THERE, .. }), "{refused:?}");
        assert!(!holds(VIP) && keeper.state() == LeaseState::Free);
        let foreign = beside(HERE, IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9)));
        keeper.claim(&[vip, foreign]).expect("two, one of them in another subnet");
        assert!(ip(&["route"]).contains("198.51.100.0/24"), "it brings its own route");
        keeper.claim(&[vip]).expect("less");
        assert!(holds(VIP) && !holds(foreign.address()));
    });
}

/// Not a test by itself: the program that is killed by the test below.
#[test]
fn lease_child() {
    if std::env::var_os("TWINPOST_LEASE_CHILD").is_none() {
        return;
    }
    let beating = Beating::start();
    let _keeper = claimed(&beating);
    loop {
        std::thread::park();
    }
}

#[test]
fn addresses_vanish_when_the_supervisor_is_killed_or_stopped() {
    with_peer(1, |_| {
        set_address("p0", HERE);
        set_address("p0", HERE6);
        for signal in ["-KILL", "-STOP"] {
            let mut child = Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", "lease_child", "--nocapture"])
                .env("TWINPOST_LEASE_CHILD", "1")
                .stdout(Stdio::null())
                .spawn()
                .expect("spawn");
            until(10_000, holds_both);
            std::thread::sleep(Duration::from_millis(1500));
            assert!(holds_both(), "renewed while the supervisor lives");
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
            assert!(sent.success());
            let gone = until(2000, holds_none);
            println!("gone {gone:?} after {signal}");
            assert!(holds(HERE) && holds(HERE6));
            child.kill().expect("still a child");
            child.wait().expect("killed");
        }
    });
}

#[test]
fn announcements_reach_the_other_end_in_all_forms() {
    with_peer(1, |peer| {
        let here = port("p0");
        let socket = RawSocket::open(&here, BOTH).expect("root");
        let peers = peer.run(|| RawSocket::open(&port("q0"), BOTH).expect("root"));
        let mut announcer = announce::Announcer::new(&here, &[VIP, VIP6]);
        assert!(!announcer.send_due(rt::now(), &socket).expect("nothing to send"));
        announcer.start(rt::now());
        assert!(announcer.send_due(rt::now(), &socket).expect("sent"));
        for vip in [VIP, VIP, VIP6] {
            assert_eq!(neighbour::speaker(&next_frame(&peers)), Some(Speaker { mac: here.mac, ip: vip }));
        }
        let next = announcer.next_deadline().expect("goes on");
        assert!(next <= rt::now() + Duration::from_millis(50));
    });
}

#[test]
fn an_announcement_moves_the_address_in_the_tables_of_others() {
    with_peer(1, |peer| {
        for kind in KINDS {
            set_address("p0", kind[0]);
            peer.run(move || set_address("q0", kind[1]));
        }
        let here = port("p0");
        let socket = RawSocket::open(&here, BOTH).expect("root");
        let known = |vip: IpAddr| peer.run(move || ip(&["neigh", "show", &vip.to_string()]));
        let mac = here.mac.map(|byte| format!("{byte:02x}")).join(":");
        for vip in [VIP, VIP6] {
            peer.run(move || {
                ip(&[
                    "neigh",
                    "add",
                    &vip.to_string(),
                    "lladdr",
                    "02:00:00:00:00:99",
                    "dev",
                    "q0",
                    "nud",
                    "stale",
                ])
            });
            // ARP and neighbour discovery keep what they learned for a second or so against flapping.
            std::thread::sleep(Duration::from_millis(1500));
            for frame in neighbour::announcements(here.mac, vip) {
                socket.send(frame.bytes()).expect("send");
            }
            until(2000, || known(vip).contains(&mac));
        }
    });
}

#[test]
fn the_peers_kernel_answers_requests_and_probes_before_a_claim() {
    with_peer(1, |peer| {
        let (here, there) = (port("p0"), peer.run(|| port("q0")));
        let socket = RawSocket::open(&here, BOTH).expect("root");
        for [own, theirs, vip] in KINDS {
            set_address("p0", own);
            peer.run(move || set_address("q0", theirs));
            let mut of_port = Own { mac: here.mac, ipv4: Ipv4Addr::UNSPECIFIED, ipv6: Ipv6Addr::UNSPECIFIED };
            match own {
                IpAddr::V4(ip) => of_port.ipv4 = ip,
                IpAddr::V6(ip) => of_port.ipv6 = ip,
            }
            let answer = Speaker { mac: there.mac, ip: theirs };
            for frame in [neighbour::request(&of_port, theirs), neighbour::probe(here.mac, theirs)] {
                socket.send(frame.bytes()).expect("send");
                until(2000, || neighbour::speaker(&next_frame(&socket)) == Some(answer));
            }
            socket.send(neighbour::probe(here.mac, vip).bytes()).expect("send");
            std::thread::sleep(Duration::from_millis(300));
            let mut buf = [0; FRAME_BUF_BYTES];
            while let Some(length) = socket.recv(&mut buf).expect("receive") {
                let speaker = neighbour::speaker(&buf[..length]);
                assert!(speaker.is_none_or(|speaker| speaker.ip != vip), "nobody has it: {speaker:?}");
            }
        }
    });
}

#[test]
fn a_second_owner_is_heard_by_the_first() {
    with_peer(1, |peer| {
        set_address("p0", HERE);
        set_address("p0", HERE6);
        let beating = Beating::start();
        let _keeper = claimed(&beating);
        let socket = RawSocket::open(&port("p0"), BOTH).expect("root");
        let there = peer.run(|| port("q0"));
        let peers = peer.run(|| RawSocket::open(&port("q0"), BOTH).expect("root"));
        for vip in [VIP, VIP6] {
            // The kernel defends the lease against a probe, though it skipped its own.
            peers.send(neighbour::probe(there.mac, vip).bytes()).expect("send");
            let ours = Speaker { mac: port("p0").mac, ip: vip };
            until(2000, || neighbour::speaker(&next_frame(&peers)) == Some(ours));
            for frame in neighbour::announcements(there.mac, vip) {
                peers.send(frame.bytes()).expect("send");
            }
            let second = Speaker { mac: there.mac, ip: vip };
            until(2000, || neighbour::speaker(&next_frame(&socket)) == Some(second));
        }
    });
}

#[test]
fn an_address_is_replaced_while_the_lease_holds_and_comes_back() {
    with_peer(1, |_| {
        address::strict_arp().expect("root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let _entered = runtime.enter();
        let addresses = address::Addresses::connect().expect("netlink");
        let p0 = port("p0");
        let own_is_set = || {
            for own in [HERE, HERE6] {
                runtime.block_on(addresses.set_address(&p0, cidr(own))).expect("set");
            }
            runtime.block_on(addresses.default_route(Ipv4Addr::new(192, 0, 2, 1).into())).expect("route");
        };
        own_is_set();
        let beating = Beating::start();
        let keeper = LeaseKeeper::start(Arc::clone(&beating.pulse)).expect("root");
        let instead = [VIP, VIP6].map(|vip| Vip::instead(&p0, cidr(vip)));
        let replace = || {
            keeper.claim(&instead).expect("claimed");
            for own in [HERE, HERE6] {
                runtime.block_on(addresses.remove_address(&p0, own)).expect("removed");
            }
        };
        replace();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(holds_both() && !holds(HERE) && !holds(HERE6));
        let now = routes();
        assert!(now.contains("default via 192.0.2.1") && now.contains("192.0.2.0/24"), "{now}");
        assert!(now.contains("2001:db8::/64"), "{now}");
        // Released in order: the own address first, so that the port is never without one.
        own_is_set();
        keeper.release().expect("released");
        assert!(holds_none() && holds(HERE) && holds(HERE6));
        let now = routes();
        assert!(now.contains("default via 192.0.2.1") && now.contains("192.0.2.0/24"), "{now}");
        // The lease dies: nothing is left, and the own address can be set again.
        replace();
        drop(beating);
        until(2000, || holds_none() && keeper.state() == LeaseState::Lost);
        own_is_set();
        until(3000, || holds(HERE) && holds(HERE6) && routes().contains("default via 192.0.2.1"));
    });
}
