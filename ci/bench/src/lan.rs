//! The network between the units, in the namespace of the bench itself: the switch of the service network with the client on it, and
//! the heartbeat links, either direct cables or through switches that keep a dead unit's carrier up.

use crate::enclose::run;
use crate::scripts::{CLIENT, PORTS, addresses};
use crate::unit::Unit;

/// Bridges: the service network, and one for each heartbeat link.
const BRIDGES: [&str; 3] = ["service", "beat1", "beat2"];
const CLIENT_PORT: &str = "port1";

/// How heartbeat links are laid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cables {
    /// From unit to unit: a dead unit takes the carrier along.
    Direct,
    /// Through a switch: the carrier stays.
    Switched,
}

/// Makes the switches; for the whole life of the bench.
pub fn make_switches() -> anyhow::Result<()> {
    for bridge in BRIDGES {
        // Ports forward at once, and multicasts (VRRP) go everywhere.
        let words = ["link", "add", bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0"];
        run("ip", &words)?;
        run("ip", &["link", "set", bridge, "type", "bridge", "mcast_snooping", "0"])?;
        run("ip", &["link", "set", bridge, "up"])?;
    }
    Ok(())
}

/// The client on the service network, probing.
pub fn connect_client() -> anyhow::Result<Unit> {
    let mut client = Unit::enclose()?;
    plug(BRIDGES[0], "client", &client.pid(), CLIENT_PORT)?;
    client.order(&format!("ip addr add {CLIENT}/24 dev {CLIENT_PORT}"))?;
    client.order(&format!("ip link set {CLIENT_PORT} up"))?;
    Ok(client)
}

/// Both units with all their cables and addresses; nothing runs in them yet.
pub fn connect_units(cables: Cables) -> anyhow::Result<[Unit; 2]> {
    let mut units = [Unit::enclose()?, Unit::enclose()?];
    let pids = [units[0].pid(), units[1].pid()];
    for (unit, pid) in pids.iter().enumerate() {
        // Their namespaces end by and by: names of their own keep the next pair from waiting for it.
        plug(BRIDGES[0], &format!("s{pid}"), pid, PORTS[0])?;
        for (bridge, port) in BRIDGES[1..].iter().zip(&PORTS[1..]).filter(|_| cables == Cables::Switched) {
            plug(bridge, &format!("{}{pid}", &port[4..]), pid, port)?;
        }
        for port in PORTS[1..].iter().filter(|_| cables == Cables::Direct && unit == 0) {
            let words = [
                "link", "add", port, "netns", &pids[0], "type", "veth", "peer", "name", port, "netns",
                &pids[1],
            ];
            run("ip", &words)?;
        }
    }
    for (index, unit) in units.iter_mut().enumerate() {
        for (port, address) in addresses(index) {
            unit.order(&format!("ip addr add {address} dev {port}"))?;
            unit.order(&format!("ip link set {port} up"))?;
        }
        unit.order(&format!("ip route add default via {CLIENT}"))?;
    }
    Ok(units)
}

/// A cable from a bridge to a port in the namespace of a process.
fn plug(bridge: &str, here: &str, pid: &str, port: &str) -> anyhow::Result<()> {
    run("ip", &["link", "add", here, "type", "veth", "peer", "name", port, "netns", pid])?;
    run("ip", &["link", "set", here, "master", bridge, "up"])
}
