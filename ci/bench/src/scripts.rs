//! What the units are told: Twinpost's settings in the operator's syntax, keepalived's configuration. Settings that a case does not
//! name are each program's defaults.

use std::net::Ipv4Addr;
use std::time::Duration;

/// The virtual IP.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The client, which is also the default gateway: the third party on the service network.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Ports of a unit.
pub const PORTS: [&str; 3] = ["port1", "port3", "port4"];

/// A unit's addresses: service and both heartbeat links.
pub fn addresses(unit: usize) -> [(&'static str, String); 3] {
    let own = unit + 1;
    [
        (PORTS[0], format!("192.0.2.{}/24", 10 + own)),
        (PORTS[1], format!("10.0.0.{own}/24")),
        (PORTS[2], format!("10.0.1.{own}/24")),
    ]
}

/// Twinpost: unit 0 is the configured primary.
pub fn twinpost(unit: usize, interval: Option<Duration>) -> String {
    let mode = ["primary", "secondary"][unit];
    let (own, peer) = (unit + 1, 2 - unit);
    let interval =
        interval.map_or_else(String::new, |time| format!("    set hb-interval {}\n", time.as_millis()));
    format!(
        "config system interface
    edit port1
        set ip 192.0.2.{service}/24
    next
end
config system route
    edit 1
        set gateway {CLIENT}
    next
end
config system ha
    set mode {mode}
    set password measured
    set heartbeat-1-interface port3
    set heartbeat-1-ip 10.0.0.{own}/24
    set heartbeat-1-peer 10.0.0.{peer}
    set heartbeat-2-interface port4
    set heartbeat-2-ip 10.0.1.{own}/24
    set heartbeat-2-peer 10.0.1.{peer}
{interval}    config interface
        edit port1
            set action use-vip
            set virtual-ip {VIP}/24
        next
    end
end
",
        service = 10 + own,
    )
}

/// keepalived: VRRP on the service network. Version 3, because version 2 knows no interval below a second; its default
/// version where the interval is its default.
pub fn keepalived(unit: usize, interval: Option<Duration>) -> String {
    let (state, priority) = [("MASTER", 150), ("BACKUP", 100)][unit];
    let (version, interval) = match interval {
        None => (String::new(), String::new()),
        Some(time) => ("    vrrp_version 3\n".to_owned(), format!("    advert_int {}\n", time.as_secs_f64())),
    };
    format!(
        "global_defs {{
    router_id unit{unit}
{version}}}
vrrp_instance pair {{
    state {state}
    interface port1
    virtual_router_id 51
    priority {priority}
{interval}    virtual_ipaddress {{
        {VIP}/24
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_accepts_both_scripts() {
        for unit in 0..2 {
            let text = twinpost(unit, Some(Duration::from_millis(10)));
            let config =
                twinpost_config::parse(&text, &PORTS).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(config.vips().next().unwrap().address, VIP);
            assert_eq!(config.gateway(), Some(CLIENT));
            assert_eq!(config.hb_interval(), Duration::from_millis(10));
        }
    }

    #[test]
    fn keepalived_is_asked_for_fractions_of_seconds() {
        assert!(keepalived(1, Some(Duration::from_millis(10))).contains("advert_int 0.01\n"));
        assert!(!keepalived(1, None).contains("advert_int"));
    }
}
