//! Applies the plain settings of a unit to its kernel and its files: host name, name servers, port addresses, route. No HA.

use crate::provision::chain;
use crate::shared::Shared;
use std::fmt::Write as _;
use std::path::Path;
use twinpost_config::Config;
use twinpost_mail::{MailSettings, Mailbox, Relay};
use twinpost_net::Port;
use twinpost_net::address::{Addresses, Cidr};
use twinpost_types::LinkId;

/// Where the writable part of /etc is (ARCHITECTURE.md, "Root file system").
const ETC: &str = "/run/etc";

/// Names of the board's ports that exist, in front-panel order.
#[must_use]
pub fn ports() -> Vec<String> {
    (1..=64)
        .map(|n| format!("port{n}"))
        .filter(|name| Path::new("/sys/class/net").join(name).exists())
        .collect()
}

/// Host name and name servers. A failure is an alarm: mail for fixed next hops goes on.
pub fn names(config: &Config, shared: &Shared) {
    let host = config.host_name().to_string();
    let mut resolv = String::new();
    for server in [config.dns().primary, config.dns().secondary].into_iter().flatten() {
        let _ = writeln!(resolv, "nameserver {server}");
    }
    let own: Vec<String> = config.interfaces().map(|(_, net)| net.address().to_string()).collect();
    let hosts =
        format!("127.0.0.1 localhost\n{}", own.iter().map(|ip| format!("{ip} {host}\n")).collect::<String>());
    let result = rustix::system::sethostname(host.as_bytes())
        .map_err(std::io::Error::from)
        .and_then(|()| std::fs::create_dir_all(ETC))
        .and_then(|()| std::fs::write(format!("{ETC}/hostname"), format!("{host}\n")))
        .and_then(|()| std::fs::write(format!("{ETC}/hosts"), hosts))
        .and_then(|()| std::fs::write(format!("{ETC}/resolv.conf"), resolv));
    if let Err(error) = result {
        shared.alarm("names", &format!("host name or name servers are not in force: {error}"));
    }
}

/// Addresses of all ports, heartbeat links included, and the default route. Each failure is an alarm of its own.
pub async fn addresses(config: &Config, shared: &Shared) {
    if let Err(error) = twinpost_net::address::strict_arp() {
        shared.alarm(
            "arp",
            &format!("strict ARP is not in force, another port may answer for an address: {}", chain(&error)),
        );
    }
    let addresses = match Addresses::connect() {
        Ok(addresses) => addresses,
        Err(error) => {
            return shared.alarm("addresses", &format!("no port has an address: {}", chain(&error)));
        }
    };
    let heartbeat = LinkId::ALL.iter().filter_map(|link| config.heartbeat(*link));
    let heartbeat: Vec<_> = heartbeat.map(|link| (link.port.to_string(), link_cidr(link.ip))).collect();
    let service: Vec<_> = config.interfaces().map(|(port, net)| (port.to_string(), cidr(net))).collect();
    let service6: Vec<_> = config.interfaces6().map(|(port, net)| (port.to_string(), cidr6(net))).collect();
    let bare = config.ports().iter().map(|port| (port.to_string(), None));
    let cable = heartbeat.into_iter().map(|(name, net)| (name, net, true));
    let all =
        cable.chain(service.into_iter().chain(service6).chain(bare).map(|(name, net)| (name, net, false)));
    for (name, net, on_cable) in all {
        if let Err(why) = one_port(&addresses, &name, net, on_cable).await {
            shared.alarm(&format!("address-{name}"), &format!("{name} is not usable as configured: {why}"));
        }
    }
    for gateway in config.gateways() {
        if let Err(error) = addresses.default_route(gateway).await {
            let key = if gateway.is_ipv4() { "route" } else { "route6" };
            shared.alarm(key, &format!("no default route through {gateway}: {}", chain(&error)));
        }
    }
}

async fn one_port(
    addresses: &Addresses,
    name: &str,
    net: Option<Cidr>,
    on_cable: bool,
) -> Result<(), String> {
    let port = Port::find(name).map_err(|e| chain(&e))?;
    addresses.link_up(&port).await.map_err(|e| chain(&e))?;
    match net {
        Some(net) if on_cable => addresses.set_address_on_cable(&port, net).await.map_err(|e| chain(&e)),
        Some(net) => addresses.set_address(&port, net).await.map_err(|e| chain(&e)),
        None => Ok(()),
    }
}

/// The same network in the words of `net`.
#[must_use]
pub fn cidr(net: twinpost_config::Ipv4Net) -> Option<Cidr> {
    Cidr::new(net.address().into(), net.prefix())
}

/// Likewise.
#[must_use]
pub fn link_cidr(net: twinpost_config::IpNet) -> Option<Cidr> {
    Cidr::new(net.address(), net.prefix())
}

/// Likewise.
#[must_use]
pub fn cidr6(net: twinpost_config::Ipv6Net) -> Option<Cidr> {
    Cidr::new(net.address().into(), net.prefix())
}

/// What the mail servers need to know.
#[must_use]
pub fn mail_settings(config: &Config) -> MailSettings {
    let mut settings = MailSettings {
        hostname: config.host_name().to_string(),
        virtual_ips: config.vips().map(|vip| vip.address).collect(),
        nfs: config.mail_export().is_some(),
        ..MailSettings::default()
    };
    for (name, domain) in config.domains() {
        match domain {
            twinpost_config::Domain::Relay { host, port } => {
                settings.relays.push(Relay {
                    domain: name.to_string(),
                    next_hop: host.to_string(),
                    port: *port,
                });
            }
            twinpost_config::Domain::Local { users } => {
                settings.local_domains.push(name.to_string());
                settings.mailboxes.extend(users.iter().map(|(user, password)| Mailbox {
                    address: format!("{user}@{name}"),
                    password: password.expose().into(),
                }));
            }
        }
    }
    settings
}
