//! The bridge and its gate against the real kernel: frames pass between two ports only while the lease is held, and not when the
//! supervisor is killed, stopped or stuck. Needs root and iproute2; says SKIPPED otherwise.
#![allow(clippy::disallowed_methods, reason = "tests wait for the kernel and run `ip`")]

#[path = "namespace/beating.rs"]
mod beating;
mod namespace;
#[path = "namespace/tools.rs"]
mod tools;

use beating::Beating;
use core::net::Ipv4Addr;
use core::time::Duration;
use namespace::{Peer, ip, with_peer};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tools::{port, until};
use twinpost_net::address::Addresses;
use twinpost_net::gate::Gate;
use twinpost_net::lease::LeaseKeeper;
use twinpost_net::raw::{FRAME_BUF_BYTES, Filter, RawSocket};
use twinpost_wire::arp;

const CHILD: &str = "TWINPOST_BRIDGE_CHILD";
const ARP: Filter = Filter::Neighbours { ipv6: false };

/// Both ports in the bridge, each behind the gate, which `keeper` moves.
fn bridged(keeper: &LeaseKeeper) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let addresses = Addresses::connect().expect("netlink");
        let gate = Gate::new().expect("root");
        let bridge = addresses.bridge().await.expect("made");
        assert_eq!(addresses.bridge().await.expect("there already"), bridge);
        for name in ["p0", "p1"] {
            gate.put_before(&port(name)).expect("put");
            addresses.join(&bridge, &port(name)).await.expect("joined");
        }
        keeper.guard(gate);
    });
}

fn leave() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let addresses = Addresses::connect().expect("netlink");
        for name in ["p0", "p1"] {
            addresses.leave(&port(name)).await.expect("left");
            addresses.leave(&port(name)).await.expect("nothing to leave is no error");
            Gate::take_from(&port(name)).expect("taken");
            Gate::take_from(&port(name)).expect("nothing to take is no error");
        }
    });
}

/// True when a frame that the peer sends into `p0` comes out of `p1`.
fn passes(peer: &Peer) -> bool {
    peer.run(|| {
        let [from, to] = ["q0", "q1"].map(|name| RawSocket::open(&port(name), ARP).expect("root"));
        let frame = arp::announce_request(port("q0").mac, Ipv4Addr::new(192, 0, 2, 99));
        from.send(&frame).expect("send");
        std::thread::sleep(Duration::from_millis(30));
        to.recv(&mut [0; FRAME_BUF_BYTES]).expect("receive").is_some()
    })
}

#[test]
fn frames_pass_only_while_the_lease_is_held() {
    with_peer(2, |peer| {
        let beating = Beating::start();
        let keeper = LeaseKeeper::start(Arc::clone(&beating.pulse)).expect("root");
        bridged(&keeper);
        assert!(ip(&["-d", "link", "show", "br0"]).contains("stp_state 0"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!passes(peer), "in the bridge, but nothing is claimed");
        keeper.claim(&[]).expect("claimed");
        until(1000, || passes(peer));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(passes(peer), "renewed");
        keeper.release().expect("released");
        assert!(!passes(peer), "at once");
        keeper.claim(&[]).expect("claimed");
        assert!(passes(peer));
        drop(beating);
        let shut = until(2000, || !passes(peer));
        println!("shut {shut:?} after the heartbeat thread stalled");
        leave();
        assert!(!ip(&["link", "show", "p0"]).contains("br0") && !passes(peer));
    });
}

/// Not a test by itself: the program that is killed by the test below.
#[test]
fn bridge_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let beating = Beating::start();
    let keeper = LeaseKeeper::start(Arc::clone(&beating.pulse)).expect("root");
    bridged(&keeper);
    keeper.claim(&[]).expect("claimed");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_or_stopped_supervisor_bridges_nothing() {
    with_peer(2, |peer| {
        for signal in ["-KILL", "-STOP"] {
            let mut child = Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", "bridge_child", "--nocapture"])
                .env(CHILD, "1")
                .stdout(Stdio::null())
                .spawn()
                .expect("spawn");
            until(10_000, || passes(peer));
            std::thread::sleep(Duration::from_millis(1500));
            assert!(passes(peer), "renewed while the supervisor lives");
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
            assert!(sent.success());
            let shut = until(2000, || !passes(peer));
            println!("shut {shut:?} after {signal}");
            assert!(ip(&["link", "show", "p0"]).contains("br0"), "it is the gate that holds");
            child.kill().expect("still a child");
            child.wait().expect("killed");
            leave();
        }
    });
}
