//! The network parts of a unit: raw sockets of the heartbeat links and the service port, virtual IPs, replication endpoints. A port
//! that is missing becomes an alarm; the rest goes on.

use crate::heartbeat::{LinkSetup, ServiceSetup};
use crate::host;
use crate::provision::chain;
use crate::shared::Shared;
use std::net::Ipv4Addr;
use twinpost_config::Config;
use twinpost_net::Port;
use twinpost_net::announce::Announcer;
use twinpost_net::lease::Vip;
use twinpost_net::links::Carrier;
use twinpost_net::raw::{Filter, RawSocket};
use twinpost_storage::drbd::Endpoint;
use twinpost_types::{LinkId, ServiceAddress, UnitId, VIPS_MAX};

/// One heartbeat link; `None` when it is not configured or not usable.
pub fn link_setup(config: &Config, link: LinkId, shared: &Shared) -> Option<LinkSetup> {
    let heartbeat = config.heartbeat(link)?;
    let open = || -> Result<LinkSetup, String> {
        let port = Port::find(heartbeat.port.as_str()).map_err(|e| chain(&e))?;
        let filter = Filter::Heartbeat { port: config.ha().base_port };
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

/// The service port; `None` when it has no address or is not usable.
pub fn service_setup(config: &Config, shared: &Shared) -> Option<ServiceSetup> {
    let name = config.service_port()?;
    let ip = config.interface(name.as_str())?;
    let vips: heapless::Vec<Ipv4Addr, VIPS_MAX> =
        config.vips().map(|vip| vip.address.address()).take(VIPS_MAX).collect();
    let open = || -> Result<ServiceSetup, String> {
        let port = Port::find(name.as_str()).map_err(|e| chain(&e))?;
        Ok(ServiceSetup {
            socket: RawSocket::open(&port, Filter::Arp).map_err(|e| chain(&e))?,
            carrier: Carrier::open(port.name()).map_err(|e| chain(&e))?,
            announcer: Announcer::new(&port, &vips),
            own: ServiceAddress { ipv4: ip.address().octets(), mac: port.mac },
            gateway: config.gateway(),
            vips,
        })
    };
    let opened = open();
    if let Err(why) = &opened {
        shared.alarm("service-port", &format!("the service port {name} is not usable: {why}"));
    }
    opened.ok()
}

/// Virtual IPs in the words of the lease.
pub fn leased_vips(config: &Config, shared: &Shared) -> Vec<Vip> {
    let one = |vip: &twinpost_config::Vip| -> Option<Vip> {
        let port = Port::find(vip.port.as_str()).ok()?;
        let own = config.interface(vip.port.as_str()).unwrap_or(vip.address);
        Some(Vip::beside(&port, host::cidr(own)?, host::cidr(vip.address)?))
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

/// Where replication of both volumes runs on this link (`spec/ha.md` section 2, `hb-base-port`).
pub fn endpoints(config: &Config, link: LinkId) -> Option<[Endpoint; 2]> {
    let heartbeat = config.heartbeat(link)?;
    let base = config.ha().base_port;
    let at = |port| Endpoint { local: heartbeat.ip.address(), peer: heartbeat.peer, port };
    Some([at(base + 3), at(base + 2)])
}

/// The unit's number: the MAC address of port1, or of the first port there is.
pub fn unit_id(config: &Config) -> UnitId {
    let mac =
        config.ports().iter().find_map(|port| Port::find(port.as_str()).ok()).map_or([0; 6], |port| port.mac);
    UnitId(mac.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)))
}
