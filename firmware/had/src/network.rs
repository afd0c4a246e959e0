//! The network parts of a unit: raw sockets of the heartbeat links and the service ports, virtual IPs, replication endpoints. A port
//! that is missing becomes an alarm; the rest goes on.

use crate::heartbeat::{LinkSetup, ServicePort, ServiceSetup, ServiceVip};
use crate::host;
use crate::provision::chain;
use crate::shared::Shared;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use twinpost_config::{Config, PortName};
use twinpost_net::announce::Announcer;
use twinpost_net::lease::Vip;
use twinpost_net::links::Carrier;
use twinpost_net::raw::{Filter, RawSocket};
use twinpost_net::wireguard::Tunnel;
use twinpost_net::{Cidr, Port};
use twinpost_storage::drbd::Endpoint;
use twinpost_types::{LinkId, UnitId};
use twinpost_wire::neighbour::Own;

/// One heartbeat link; `None` when it is not configured or not usable.
pub fn link_setup(config: &Config, link: LinkId, shared: &Shared) -> Option<LinkSetup> {
    let heartbeat = config.heartbeat(link)?;
    let open = || -> Result<LinkSetup, String> {
        let port = Port::find(heartbeat.port.as_str()).map_err(|e| chain(&e))?;
        let ipv6 = heartbeat.peer.is_ipv6();
        let filter = Filter::Heartbeat { port: config.ha().base_port, ipv6 };
        Ok(LinkSetup {
            socket: RawSocket::open(&port, filter).map_err(|e| chain(&e))?,
            carrier: Carrier::open(port.name()).map_err(|e| chain(&e))?,
            mac: port.mac,
            ip: heartbeat.ip.address(),
            peer: heartbeat.peer,
        })
    };
    let opened = open();
    if let Err(why) = &opened {
        shared.alarm(
            &format!("link-{}", link.index()),
            &format!("{link} on {} is not usable: {why}", heartbeat.port),
        );
    }
    opened.ok()
}

/// The service port and every other port with a virtual IP; nothing when the service port has no address. A port that is not usable
/// is left out with its virtual IPs.
pub fn service_setup(config: &Config, shared: &Shared) -> ServiceSetup {
    let mut setup = ServiceSetup { gateway: config.gateway(), ..ServiceSetup::none() };
    let Some(service) = config.service_port().filter(|name| has_address(config, name)) else { return setup };
    let vips: Vec<_> = config.vips().collect();
    let mut names = vec![service];
    names.extend(vips.iter().map(|vip| &vip.port).filter(|name| *name != service));
    names.dedup();
    for name in names {
        let of_port: Vec<IpAddr> =
            vips.iter().filter(|vip| vip.port == *name).map(|vip| vip.address).collect();
        match service_port(config, name, &of_port) {
            Ok(port) => {
                let port_number = setup.ports.len();
                // Both bounds hold: the configuration has at most VIPS_MAX virtual IPs.
                if setup.ports.push(port).is_ok() {
                    setup.vips.extend(
                        of_port.iter().map(|address| ServiceVip { address: *address, port: port_number }),
                    );
                }
            }
            Err(why) => {
                shared.alarm(
                    &format!("service-{name}"),
                    &format!("the service port {name} is not usable: {why}"),
                );
                if name == service {
                    return ServiceSetup::none();
                }
            }
        }
    }
    setup
}

fn has_address(config: &Config, name: &PortName) -> bool {
    config.interface(name.as_str()).is_some() || config.interface6(name.as_str()).is_some()
}

fn service_port(config: &Config, name: &PortName, vips: &[IpAddr]) -> Result<ServicePort, String> {
    let port = Port::find(name.as_str()).map_err(|e| chain(&e))?;
    let filter = Filter::Neighbours { ipv6: vips.iter().any(IpAddr::is_ipv6) };
    let (ipv4, ipv6) = (config.interface(name.as_str()), config.interface6(name.as_str()));
    Ok(ServicePort {
        socket: RawSocket::open(&port, filter).map_err(|e| chain(&e))?,
        carrier: Carrier::open(port.name()).map_err(|e| chain(&e))?,
        announcer: Announcer::new(&port, vips),
        own: Own {
            mac: port.mac,
            ipv4: ipv4.map_or(Ipv4Addr::UNSPECIFIED, |net| net.address()),
            ipv6: ipv6.map_or(Ipv6Addr::UNSPECIFIED, |net| net.address()),
        },
    })
}

/// Virtual IPs in the words of the lease.
pub fn leased_vips(config: &Config, shared: &Shared) -> Vec<Vip> {
    let one = |vip: &twinpost_config::Vip| -> Option<Vip> {
        let port = Port::find(vip.port.as_str()).ok()?;
        let address = Cidr::new(vip.address, vip.prefix)?;
        Some(if vip.replaces {
            Vip::instead(&port, address)
        } else {
            Vip::beside(&port, own_beside(config, vip).unwrap_or(address), address)
        })
    };
    let wanted = config.vips().count();
    let vips: Vec<Vip> = config.vips().filter_map(|vip| one(&vip)).collect();
    if vips.len() != wanted {
        shared.alarm(
            "virtual-ip",
            "a virtual IP cannot be claimed because its port is missing; check config system ha",
        );
    }
    vips
}

/// The port's own address of the same kind; on a heartbeat port that of the link.
pub fn own_beside(config: &Config, vip: &twinpost_config::Vip) -> Option<Cidr> {
    let name = vip.port.as_str();
    let own = match vip.address {
        IpAddr::V4(_) => config.interface(name).and_then(host::cidr),
        IpAddr::V6(_) => config.interface6(name).and_then(host::cidr6),
    };
    let links = LinkId::ALL.into_iter().filter_map(|link| config.heartbeat(link));
    let mut links = links.filter(|link| link.peer.is_ipv6() == vip.address.is_ipv6());
    own.or_else(|| links.find(|link| link.port == vip.port).and_then(|link| host::link_cidr(link.ip)))
}

/// Where replication of both volumes runs on this link (`spec/ha.md` section 2, `hb-base-port`): inside of the tunnel when it is
/// to be encrypted.
pub fn endpoints(config: &Config, link: LinkId) -> Option<[Endpoint; 2]> {
    let heartbeat = config.heartbeat(link)?;
    let (local, peer) = match tunnel(config, link).filter(|_| config.ha().encryption) {
        Some(tunnel) => (tunnel.own.into(), tunnel.peer.into()),
        None => (heartbeat.ip.address(), heartbeat.peer),
    };
    let base = config.ha().base_port;
    let at = |port| Endpoint { local, peer, port };
    Some([at(base + 3), at(base + 2)])
}

/// The tunnel of a heartbeat link. Both units come to the same addresses without asking: link-local ones (RFC 3927), which no
/// operator gives to a port; the lower heartbeat address gets the lower one. Outside it is UDP on hb-base-port+1 for heartbeat 1 and
/// +2 for heartbeat 2.
pub fn tunnel(config: &Config, link: LinkId) -> Option<Tunnel> {
    let heartbeat = config.heartbeat(link)?;
    let (own, peer) = (heartbeat.ip.address(), heartbeat.peer);
    let number = u8::try_from(link.index()).ok()?;
    let inside = |place: u8| Ipv4Addr::new(169, 254, 77, 4 * number + place);
    let (low, high) = (inside(1), inside(2));
    let (own_inside, peer_inside) = if own < peer { (low, high) } else { (high, low) };
    let port = config.ha().base_port + 1 + u16::from(number);
    Some(Tunnel {
        name: ["tunnel1", "tunnel2"][link.index()],
        own: own_inside,
        peer: peer_inside,
        port,
        endpoint: SocketAddr::new(peer, port),
    })
}

/// The unit's number: the MAC address of port1, or of the first port there is.
pub fn unit_id(config: &Config) -> UnitId {
    let mac =
        config.ports().iter().find_map(|port| Port::find(port.as_str()).ok()).map_or([0; 6], |port| port.mac);
    UnitId(mac.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)))
}
