//! The configuration that the bench gives each unit, in the operator's syntax, and the addresses of the bench's network
//! (ARCHITECTURE, "Harness network").

use std::net::{Ipv4Addr, Ipv6Addr};

/// Virtual IP.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The IPv6 one, carried only where a scenario asks for it (`set failover port1 …`).
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// Mail client and default gateway.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Next hop.
pub const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 25);
/// The NFS server, in scenarios whose mail data is on it.
pub const NAS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 30);
/// What it exports.
pub const NAS_EXPORT: &str = "/export/mail";
/// The one mailbox.
pub const MAILBOX_USER: &str = "user";
/// Its domain.
pub const MAILBOX_DOMAIN: &str = "local.test";
/// Its password.
pub const MAILBOX_PASSWORD: &str = "bench mailbox 1";
/// The group's password.
pub const HA_PASSWORD: &str = "bench group 1";

/// An HA setting that a scenario makes before the start.
pub type Setting = (String, String);

/// The script of unit `index` (0 is a, the primary; 1 is b); with `nfs` mail data is on the bench's server.
#[must_use]
pub fn script(index: usize, settings: &[Setting], nfs: bool) -> String {
    let (storage, sync) = if nfs { storage() } else { Default::default() };
    let (name, mode) = if index == 0 { ("a", "primary") } else { ("b", "secondary") };
    let (own, peer) = if index == 0 { (1, 2) } else { (2, 1) };
    let extra: String = settings.iter().map(|setting| line(setting, own, peer)).collect();
    // A scenario that says what becomes of a port takes the place of what the bench would set there.
    let failover = |port: &str| {
        settings.iter().any(|(variable, value)| variable == "failover" && value.starts_with(port))
    };
    let vip = if failover("port1 ") {
        String::new()
    } else {
        format!(
            "    config interface\n        edit port1\n            set action use-vip\n            set virtual-ip {VIP}/24\n        \
             next\n    end\n"
        )
    };
    let management = if failover("port2 bridge") {
        String::new()
    } else {
        format!("    edit port2\n        set ip 198.51.100.{}/24\n    next\n", 10 + own)
    };
    format!(
        "config system global
    set hostname {name}
end
config system interface
    edit port1
        set ip 192.0.2.{service}/24
        set ip6 2001:db8::{service}/64
    next
{management}end
config system route
    edit 1
        set gateway {CLIENT}
    next
end
config domain
    edit example.test
        set relay-host {NEXT_HOP}
    next
    edit {MAILBOX_DOMAIN}
        set type local
        config user
            edit {MAILBOX_USER}
                set password \"{MAILBOX_PASSWORD}\"
            next
        end
    next
end
{storage}config system ha
    set mode {mode}
    set password \"{HA_PASSWORD}\"
    set heartbeat-1-interface port3
{link1}    set heartbeat-2-interface port4
{link2}{sync}{extra}{vip}end
",
        service = 10 + own,
        link1 = link(1, settings, own, peer),
        link2 = link(2, settings, own, peer),
    )
}

/// Mail data on the server, and what the group's settings say to it.
fn storage() -> (String, &'static str) {
    let storage = format!(
        "config mailsetting storage config\n    set type remote\n    set protocol nfs\n    set host {NAS}\n    set folder {NAS_EXPORT}\nend\n"
    );
    (storage, "    set mail-data-sync disable\n")
}

/// A setting of a scenario; `{own}` and `{peer}` stand for the last part of the addresses of heartbeat links.
fn line((variable, value): &Setting, own: u8, peer: u8) -> String {
    let value = value.replace("{own}", &own.to_string()).replace("{peer}", &peer.to_string());
    format!("    set {variable} {value}\n")
}

/// The addresses of a heartbeat link, unless the scenario gives it others.
fn link(number: u8, settings: &[Setting], own: u8, peer: u8) -> String {
    let ipv6 = format!("heartbeat-{number}-ip6");
    if settings.iter().any(|(variable, _)| *variable == ipv6) {
        return String::new();
    }
    let net = number - 1;
    format!(
        "    set heartbeat-{number}-ip 10.0.{net}.{own}/24\n    set heartbeat-{number}-peer 10.0.{net}.{peer}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_accepts_both_scripts() {
        let ports = ["port1", "port2", "port3", "port4"];
        let settings = [("hb-lost-threshold".to_owned(), "5".to_owned())];
        for index in 0..2 {
            let text = script(index, &settings, false);
            let config =
                twinpost_config::parse(&text, &ports).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(config.vips().next().unwrap().address, VIP);
            assert_eq!(config.gateway(), Some(CLIENT));
            let failover = |value: &str| ("failover".to_owned(), value.to_owned());
            let settings =
                ["port1 set 192.0.2.10/24", "port1 set 2001:db8::10/64", "port2 bridge"].map(failover);
            let text = script(index, &settings, false);
            let config =
                twinpost_config::parse(&text, &ports).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let vips: Vec<_> = config.vips().map(|vip| (vip.address, vip.replaces)).collect();
            assert_eq!(vips, [(VIP.into(), true), (VIP6.into(), true)]);
            assert_eq!(config.bridge_ports().count(), 1);
        }
    }

    #[test]
    fn mail_data_is_on_the_server_where_a_scenario_wants_it() {
        let ports = ["port1", "port2", "port3", "port4"];
        for index in 0..2 {
            let text = script(index, &[], true);
            let config =
                twinpost_config::parse(&text, &ports).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let export = config.mail_export().unwrap();
            assert_eq!((export.host, export.folder.to_string()), (NAS.into(), NAS_EXPORT.to_owned()));
        }
    }

    #[test]
    fn a_link_has_the_addresses_of_each_unit() {
        let set = |variable: &str, value: &str| (variable.to_owned(), value.to_owned());
        let settings =
            [set("heartbeat-1-ip6", "fd00:0:0:1::{own}/64"), set("heartbeat-1-peer6", "fd00:0:0:1::{peer}")];
        for (index, own, peer) in
            [(0, "fd00:0:0:1::1/64", "fd00:0:0:1::2"), (1, "fd00:0:0:1::2/64", "fd00:0:0:1::1")]
        {
            let text = script(index, &settings, false);
            let config = twinpost_config::parse(&text, &["port1", "port2", "port3", "port4"])
                .unwrap_or_else(|error| panic!("{error}\n{text}"));
            let link = config.heartbeat(twinpost_types::LinkId::ALL[0]).unwrap();
            assert_eq!((link.ip.to_string(), link.peer.to_string()), (own.into(), peer.into()));
            assert!(config.heartbeat(twinpost_types::LinkId::ALL[1]).unwrap().peer.is_ipv4());
        }
    }
}
