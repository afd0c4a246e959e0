//! Checks what a PRIMARY does with each port against the other settings: virtual IPs lie in their port's subnet and are used once,
//! heartbeat ports take `ignore` or `add` only, a port of the bridge has no address. `spec/ha.md` section 6.

use crate::check::Conflict;
use crate::ip_net::IpNet;
use crate::model::{Config, PortAction, Vip};
use crate::value::PortName;
use std::net::IpAddr;
use twinpost_types::{ConfiguredMode, LinkId, VIPS_MAX};

const IP: &str = "virtual-ip";
const IP6: &str = "virtual-ip6";
const ONCE: &str = "an address that is used once";

/// Checks all ports; the first finding counts.
pub(crate) fn check(config: &Config) -> Result<(), Conflict> {
    for name in &config.ports {
        action(config, name)?;
    }
    // Those that are not carried too: they must not be in anybody's way later.
    let mut seen: Vec<Vip> = Vec::new();
    for name in &config.ports {
        let Some(set) = config.ha.ports.get(name) else { continue };
        for vip in set.virtual_ips(name) {
            if set.action.carries() {
                in_subnet(config, &vip)?;
            }
            used_once(config, &vip, &seen)?;
            seen.push(vip);
        }
    }
    let count = config.vips().count();
    if count > VIPS_MAX {
        let why = format!("{count} virtual IPs");
        return Err(Conflict::new(IP, "", why, format!("at most {VIPS_MAX}")));
    }
    Ok(())
}

/// What the action asks of its port.
fn action(config: &Config, name: &PortName) -> Result<(), Conflict> {
    let Some(port) = config.ha.ports.get(name) else { return Ok(()) };
    let none = port.virtual_ip.is_none() && port.virtual_ip6.is_none();
    if port.action.carries() && none {
        let why = format!("{name} uses a virtual IP but none is set");
        return Err(Conflict::new(IP, name.as_str(), why, "an address of the port's subnet"));
    }
    let at = |why: String, allowed: &str| Err(Conflict::new("action", name.as_str(), why, allowed));
    let heartbeat = heartbeat(config, name).is_some();
    match port.action {
        PortAction::Set | PortAction::Bridge if heartbeat => {
            at(format!("{name} is a heartbeat port"), "ignore-vip or use-vip on heartbeat ports")
        }
        PortAction::Bridge
            if config.interfaces.contains_key(name) || config.interfaces6.contains_key(name) =>
        {
            at(format!("{name} has an address of its own"), "bridge on ports without an address")
        }
        _ => Ok(()),
    }
}

fn in_subnet(config: &Config, vip: &Vip) -> Result<(), Conflict> {
    let name = &vip.port;
    let (variable, subnet) = match vip.address {
        IpAddr::V4(address) => {
            let own = config.interfaces.get(name).copied().or(match heartbeat(config, name) {
                Some(IpNet::V4(net)) => Some(net),
                _ => None,
            });
            let fits = own.map(|own| own.is_host(address) && own.prefix() == vip.prefix);
            (IP, own.zip(fits).map(|(own, fits)| (format!("{}/{}", own.network(), own.prefix()), fits)))
        }
        IpAddr::V6(address) => {
            let own = config.interfaces6.get(name).copied().or(match heartbeat(config, name) {
                Some(IpNet::V6(net)) => Some(net),
                _ => None,
            });
            let same = |own: &crate::Ipv6Net| {
                crate::Ipv6Net::new(address, own.prefix()).is_some_and(|vip| vip.network() == own.network())
            };
            let fits = own.map(|own| own.prefix() == vip.prefix && same(&own));
            (IP6, own.zip(fits).map(|(own, fits)| (format!("{}/{}", own.network(), own.prefix()), fits)))
        }
    };
    let at = |why: String, allowed: String| Err(Conflict::new(variable, name.as_str(), why, allowed));
    match subnet {
        None => at(
            format!("{name} has no address of its own"),
            format!("an address for {name} in config system interface first"),
        ),
        Some((subnet, false)) => {
            at(format!("{vip} is not in the subnet of {name}"), format!("a host of {subnet}"))
        }
        Some((_, true)) => Ok(()),
    }
}

fn used_once(config: &Config, vip: &Vip, others: &[Vip]) -> Result<(), Conflict> {
    let address = vip.address;
    let at = |why: String| {
        let variable = if address.is_ipv4() { IP } else { IP6 };
        Err(Conflict::new(variable, vip.port.as_str(), why, ONCE))
    };
    let own = config.interfaces().find(|(_, net)| net.address() == address).map(|(port, _)| port);
    let own6 = config.interfaces6().find(|(_, net)| net.address() == address).map(|(port, _)| port);
    let twice = others.iter().find(|other| other.address == address).map(|other| &other.port);
    if let Some(port) = own.or(own6).or(twice) {
        return at(format!("{address} is already used on {port}"));
    }
    let link = LinkId::ALL.into_iter().find(|link| {
        let set = &config.ha.links[link.index()];
        let own = [set.ip.map(|ip| IpAddr::V4(ip.address())), set.ip6.map(|ip| IpAddr::V6(ip.address()))];
        let peer = [set.peer.map(IpAddr::V4), set.peer6.map(IpAddr::V6)];
        own.contains(&Some(address)) || peer.contains(&Some(address))
    });
    if let Some(link) = link {
        return at(format!("{address} is already used on {link}"));
    }
    if config.gateway.is_some_and(|gateway| gateway == address)
        || config.gateway6.is_some_and(|gateway| gateway == address)
    {
        return at(format!("{address} is the default gateway"));
    }
    Ok(())
}

/// The address of the heartbeat link on this port. With HA off only a link that was set counts.
pub(crate) fn heartbeat(config: &Config, name: &PortName) -> Option<IpNet> {
    let on = |link: &LinkId| {
        config.ha.mode != ConfiguredMode::Off || config.ha.links[link.index()].interface.is_some()
    };
    let mut links = LinkId::ALL.into_iter().filter(on).filter_map(|link| config.heartbeat(link));
    links.find(|heartbeat| heartbeat.port == *name).map(|heartbeat| heartbeat.ip)
}
