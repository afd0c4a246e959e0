//! Checks the settings against each other once a whole script is read: addresses and subnets, heartbeat links, intervals, the
//! factory password; virtual IPs in `virtual_ips`. Each finding names the variable to change.

use crate::cursor::Cursor;
use crate::error::{Problem, ScriptError};
use crate::ip_net::IpNet;
use crate::model::{Config, Domain, Heartbeat, INTERVAL_FAST_MAX};
use crate::service::RemoteKind;
use crate::value::{Host, Ipv6Net};
use crate::{storage, virtual_ips};
use std::net::IpAddr;
use twinpost_types::{ConfiguredMode, LinkId};

/// Heartbeats that must fit into one threshold: three missed intervals are silence (`spec/ha.md` section 5).
const INTERVALS_A_THRESHOLD_MIN: u32 = 3;

/// Two settings that do not fit.
#[derive(Debug)]
pub(crate) struct Conflict {
    variable: &'static str,
    entry: String,
    why: String,
    allowed: String,
}

/// Checks everything; the first finding counts.
pub(crate) fn check(config: &Config) -> Result<(), Conflict> {
    addresses(config)?;
    route(config)?;
    virtual_ips::check(config)?;
    relays(config)?;
    intervals(config)?;
    links(config)?;
    neighbours(config)?;
    synchronised(config)?;
    storage::check(config)?;
    services(config)?;
    password(config)
}

impl Conflict {
    pub(crate) fn new(variable: &'static str, entry: &str, why: String, allowed: impl Into<String>) -> Self {
        Self { variable, entry: entry.into(), why, allowed: allowed.into() }
    }

    /// Puts the finding where the variable was set.
    pub fn locate(self, cursor: &Cursor<'_>) -> ScriptError {
        let (line, column) = cursor.place(self.variable, &self.entry);
        let Self { variable, why, allowed, .. } = self;
        ScriptError { line, column, problem: Problem::Conflict { variable: variable.into(), why, allowed } }
    }
}

fn addresses(config: &Config) -> Result<(), Conflict> {
    let each = "a subnet of its own for each port";
    let all: Vec<_> = config.interfaces().collect();
    for (index, (port, net)) in all.iter().enumerate() {
        if let Some((other, taken)) = all[..index].iter().find(|(_, other)| other.overlaps(*net)) {
            let why = format!("{net} of {port} overlaps {taken} of {other}");
            return Err(Conflict::new("ip", port.as_str(), why, each));
        }
    }
    let all: Vec<_> = config.interfaces6().collect();
    for (index, (port, net)) in all.iter().enumerate() {
        if let Some((other, taken)) = all[..index].iter().find(|(_, other)| other.overlaps(*net)) {
            let why = format!("{net} of {port} overlaps {taken} of {other}");
            return Err(Conflict::new("ip6", port.as_str(), why, each));
        }
    }
    Ok(())
}

/// A gateway is another host of a port's subnet.
fn route(config: &Config) -> Result<(), Conflict> {
    let ipv4: Vec<_> = config.interfaces().map(|(port, net)| (port, IpNet::V4(net))).collect();
    let ipv6: Vec<_> = config.interfaces6().map(|(port, net)| (port, IpNet::V6(net))).collect();
    let gateways = [
        ("gateway", config.gateway.map(IpAddr::V4), ipv4, "port"),
        ("gateway6", config.gateway6.map(IpAddr::V6), ipv6, "port's IPv6"),
    ];
    for (variable, gateway, own, address) in gateways {
        let Some(gateway) = gateway else { continue };
        match own.iter().find(|(_, net)| net.is_host(gateway)) {
            Some((port, net)) if net.address() == gateway => {
                let why = format!("{gateway} is this unit's own address on {port}");
                return Err(Conflict::new(variable, "1", why, format!("another host of {net}")));
            }
            Some(_) => {}
            None => {
                let why = format!("{gateway} is in no subnet of a port");
                let subnets: Vec<_> = own.iter().map(|(_, net)| net.to_string()).collect();
                let allowed = if subnets.is_empty() {
                    format!("a {address} address first")
                } else {
                    format!("a host of {}", subnets.join(", "))
                };
                return Err(Conflict::new(variable, "1", why, allowed));
            }
        }
    }
    Ok(())
}

/// A next hop that is this unit itself would send mail round in circles.
fn relays(config: &Config) -> Result<(), Conflict> {
    for (name, domain) in &config.domains {
        let Domain::Relay { host: Host::Address(host), .. } = domain else { continue };
        let own = config.interfaces().any(|(_, net)| net.address() == *host);
        if own || config.vips().any(|vip| vip.address == *host) {
            let why = format!("{host} is this appliance itself: mail would go round in circles");
            return Err(Conflict::new("relay-host", name.as_str(), why, "the next mail server"));
        }
    }
    Ok(())
}

fn intervals(config: &Config) -> Result<(), Conflict> {
    let ha = &config.ha;
    let Some(interval) = ha.interval else { return Ok(()) };
    let max = ha.threshold / INTERVALS_A_THRESHOLD_MIN;
    if interval > max {
        let why = format!("{} ms is more than a third of hb-lost-threshold", interval.as_millis());
        return Err(Conflict::new("hb-interval", "", why, format!("10 to {} milliseconds", max.as_millis())));
    }
    if ha.fast_detect && interval > INTERVAL_FAST_MAX {
        let why = format!("{} ms is too slow for fast-detect", interval.as_millis());
        let allowed =
            format!("10 to {} milliseconds, or set fast-detect disable", INTERVAL_FAST_MAX.as_millis());
        return Err(Conflict::new("hb-interval", "", why, allowed));
    }
    Ok(())
}

/// Replication of one volume tells each unit whether the other one went on without it; with none nobody could tell.
fn synchronised(config: &Config) -> Result<(), Conflict> {
    if config.ha.mail_data_sync || config.ha.mailqueue_data_sync {
        return Ok(());
    }
    let why = "mailqueue-data-sync is disabled as well: one of the two volumes has to be replicated";
    Err(Conflict::new("mail-data-sync", "", why.into(), "enable, or set mailqueue-data-sync enable"))
}

const INTERFACE: [&str; 2] = ["heartbeat-1-interface", "heartbeat-2-interface"];
const IP: [&str; 2] = ["heartbeat-1-ip", "heartbeat-2-ip"];
const PEER: [&str; 2] = ["heartbeat-1-peer", "heartbeat-2-peer"];
const IP6: [&str; 2] = ["heartbeat-1-ip6", "heartbeat-2-ip6"];
const PEER6: [&str; 2] = ["heartbeat-1-peer6", "heartbeat-2-peer6"];

/// Heartbeat links. With HA off only what was set is checked, so that settings can be typed in any order before the mode.
fn links(config: &Config) -> Result<(), Conflict> {
    let ha_on = config.ha.mode != ConfiguredMode::Off;
    let mut seen: Vec<Heartbeat> = Vec::new();
    for link in LinkId::ALL {
        let index = link.index();
        let set = &config.ha.links[index];
        let touched = set.interface.is_some() || set.has_ipv4() || set.has_ipv6();
        if !(touched || ha_on && index == 0) {
            continue;
        }
        if set.has_ipv4() && set.has_ipv6() {
            let why = format!("{link} has addresses of both kinds");
            let allowed = "IPv4 or IPv6 on each link: unset the addresses of the other kind";
            return Err(Conflict::new(IP6[index], "", why, allowed));
        }
        let Some(heartbeat) = config.heartbeat(link) else {
            let (ip, peer) = names(index, set.has_ipv6());
            let (variable, what) = if set.interface.is_none() && (index > 0 || !set.has_ipv6()) {
                (INTERFACE[index], "port")
            } else if set.peer.is_none() && set.peer6.is_none() {
                (peer, "address of the peer")
            } else {
                (ip, "own address")
            };
            let why = format!("{link} has no {what}");
            return Err(Conflict::new(variable, "", why, "interface, ip and peer together, or none of them"));
        };
        link_alone(config, index, &heartbeat)?;
        if let Some(first) = seen.first() {
            link_pair(index, first, &heartbeat)?;
        }
        seen.push(heartbeat);
    }
    Ok(())
}

/// Own address and the peer's, in the words of the settings.
fn names(index: usize, ipv6: bool) -> (&'static str, &'static str) {
    if ipv6 { (IP6[index], PEER6[index]) } else { (IP[index], PEER[index]) }
}

fn link_alone(config: &Config, index: usize, heartbeat: &Heartbeat) -> Result<(), Conflict> {
    let Heartbeat { port, ip, peer } = heartbeat;
    let (ip_name, peer_name) = names(index, peer.is_ipv6());
    if config.service_port() == Some(port) {
        let why = format!("{port} carries the service");
        return Err(Conflict::new(
            INTERFACE[index],
            port.as_str(),
            why,
            "a port that is not on the service network",
        ));
    }
    if !ip.is_host(*peer) || *peer == ip.address() {
        let why = format!("{peer} cannot be the peer of {ip}");
        let subnet = format!("another host of {}/{}", ip.network(), ip.prefix());
        return Err(Conflict::new(peer_name, port.as_str(), why, subnet));
    }
    let ipv4 = config.interfaces().map(|(port, net)| (port, IpNet::V4(net)));
    let all = ipv4.chain(config.interfaces6().map(|(port, net)| (port, IpNet::V6(net))));
    let mut overlapping = all.filter(|(other, net)| net.overlaps(*ip) && (*other != port || net != ip));
    match overlapping.next() {
        Some((other, net)) if other != port => {
            let why = format!("{ip} overlaps {net} of {other}");
            Err(Conflict::new(ip_name, port.as_str(), why, "a subnet of its own for each port"))
        }
        Some((_, own)) => {
            let why = format!("{ip} overlaps {own}, which {port} has in config system interface");
            Err(Conflict::new(ip_name, port.as_str(), why, "the same address or another subnet"))
        }
        _ => Ok(()),
    }
}

fn link_pair(index: usize, first: &Heartbeat, second: &Heartbeat) -> Result<(), Conflict> {
    if first.port == second.port {
        let why = format!("{} already is the other heartbeat link", first.port);
        return Err(Conflict::new(INTERFACE[index], second.port.as_str(), why, "another port for each link"));
    }
    if first.ip.overlaps(second.ip) {
        let why = format!("{} overlaps {} of the other link", second.ip, first.ip);
        let ip = names(index, second.peer.is_ipv6()).0;
        return Err(Conflict::new(ip, second.port.as_str(), why, "a subnet of its own for each link"));
    }
    Ok(())
}

/// A neighbour that local-ports asks is a third one, directly behind a port that the check watches.
fn neighbours(config: &Config) -> Result<(), Conflict> {
    for (port, neighbour) in config.neighbours() {
        let at = |why: String, allowed: String| {
            Err(Conflict::new("monitor-neighbour", port.as_str(), why, allowed))
        };
        if virtual_ips::heartbeat(config, port).is_some() {
            let why = format!("behind {port}, a heartbeat port, is the peer only");
            return at(why, "ports of the service and management networks".into());
        }
        if !config.monitored_ports().any(|watched| watched == port) {
            let why = format!("{port} is not watched by local-ports");
            return at(why, "port-monitor enable, or a virtual IP on the port".into());
        }
        let (own, behind, subnet) = match neighbour {
            IpAddr::V4(ip) => {
                let net = config.interface(port.as_str());
                (
                    config.interfaces().any(|(_, net)| net.address() == ip),
                    net.is_some_and(|net| net.is_host(ip)),
                    net.map(|net| format!("{}/{}", net.network(), net.prefix())),
                )
            }
            IpAddr::V6(ip) => {
                let net = config.interface6(port.as_str());
                (
                    config.interfaces6().any(|(_, net)| net.address() == ip),
                    net.zip(Ipv6Net::new(ip, 128)).is_some_and(|(net, host)| net.overlaps(host)),
                    net.map(|net| format!("{}/{}", net.network(), net.prefix())),
                )
            }
        };
        if own || config.vips().any(|vip| vip.address == neighbour) {
            return at(format!("{neighbour} is this appliance itself"), "another host of the subnet".into());
        }
        if !behind {
            let allowed = subnet.map_or_else(
                || format!("an address of the same kind for {port} in config system interface first"),
                |subnet| format!("another host of {subnet}"),
            );
            return at(format!("{neighbour} is not in the subnet of {port}"), allowed);
        }
    }
    Ok(())
}

/// TCP ports of HTTP and HTTPS (RFC 9110).
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// A check needs somebody to ask, and a heartbeat by services needs a check.
fn services(config: &Config) -> Result<(), Conflict> {
    let services = &config.ha.services;
    for (kind, service) in services.enabled() {
        if service.ip.is_unspecified() {
            let why = format!("{} is enabled but has no address", kind.name());
            return Err(Conflict::new("ip", kind.name(), why, "the address where the service answers"));
        }
        // Each would fail for ever and take the peer its role.
        let (own, allowed) = match (kind, service.port, service.tls) {
            (RemoteKind::Http, HTTPS, false) => {
                ("https", "protocol https (short form: https), or another port")
            }
            (RemoteKind::Http, HTTP, true) => {
                ("http", "protocol http (short form: http), or another port such as 443")
            }
            _ => continue,
        };
        let why = format!("port {} answers {own}", service.port);
        return Err(Conflict::new("port", kind.name(), why, allowed));
    }
    if services.as_heartbeat && services.enabled().next().is_none() {
        let why = "no remote service is enabled that could answer".into();
        let allowed = "an enabled remote service in config service first";
        return Err(Conflict::new("remote-services-as-heartbeat", "", why, allowed));
    }
    Ok(())
}

fn password(config: &Config) -> Result<(), Conflict> {
    let ha = &config.ha;
    if ha.mode == ConfiguredMode::Off || ha.allow_default_password || !ha.has_default_password() {
        return Ok(());
    }
    let why = "HA is on while the password is still the factory's".into();
    Err(Conflict::new("password", "", why, "another password, or set allow-default-password enable"))
}
