//! The defaults and allowed ranges of `spec/ha.md` section 2, one assertion each, through the operator's syntax.

use std::time::Duration;
use twinpost_config::{Config, LocalRules, PortAction, RemoteKind, apply, parse};
use twinpost_types::{ConfiguredMode, LinkId, OnFailure, RebootAction};

const PORTS: [&str; 4] = ["port1", "port2", "port3", "port4"];

fn line(text: &str) -> Result<Config, twinpost_config::ScriptError> {
    parse(&format!("set system ha {text}"), &PORTS)
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = Config::for_board(&PORTS);
    let ha = config.ha();
    assert_eq!(ha.mode, ConfiguredMode::Off);
    assert_eq!(ha.on_failure, OnFailure::BecomeSecondary);
    assert_eq!(ha.password.expose(), "change_me");
    assert_eq!(ha.base_port, 20_000);
    assert_eq!(ha.threshold, Duration::from_secs(15));
    assert_eq!(config.hb_interval(), Duration::from_millis(200));
    assert!(ha.fast_detect);
    assert_eq!(ha.reboot_action, RebootAction::Switchover);
    assert_eq!(ha.max_role_changes, 4);
    assert!(!ha.allow_default_password);
    assert_eq!(config.vips().count(), 0);
    assert!(ha.ports.values().all(|port| port.action == PortAction::Ignore && port.virtual_ip.is_none()));
    assert_eq!(config.bridge_ports().count(), 0);

    let first = config.heartbeat(LinkId::ALL[0]).unwrap();
    assert_eq!((first.port.as_str(), first.ip.to_string().as_str()), ("port4", "10.0.0.1/24"));
    assert_eq!(first.peer.to_string(), "10.0.0.2");
    assert_eq!(config.heartbeat(LinkId::ALL[1]), None);
}

#[test]
fn the_interval_follows_threshold_and_fast_detect() {
    let interval = |script: &str| parse(script, &PORTS).unwrap().hb_interval().as_millis();
    assert_eq!(interval("set system ha hb-lost-threshold 0.15"), 30);
    assert_eq!(interval("set system ha hb-lost-threshold 0.5"), 100);
    assert_eq!(interval("set system ha hb-lost-threshold 3600"), 200);
    assert_eq!(interval("set system ha fast-detect disable"), 1000);
    assert_eq!(interval("config system ha\nset fast-detect disable\nset hb-lost-threshold 2\nend"), 400);
    assert_eq!(interval("set system ha hb-interval 10"), 10);
}

#[test]
fn ranges_end_where_the_reference_says() {
    for good in [
        "hb-base-port 1024",
        "hb-base-port 65532",
        "hb-lost-threshold 0.15",
        "hb-lost-threshold 3600",
        "hb-interval 10",
        "hb-interval 200",
        "max-role-changes 1",
        "max-role-changes 20",
        "password x",
    ] {
        line(good).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for bad in [
        "hb-base-port 1023",
        "hb-base-port 65533",
        "hb-lost-threshold 0.149",
        "hb-lost-threshold 3600.001",
        "hb-interval 9",
        "hb-interval 1001",
        "hb-interval 201",
        "max-role-changes 0",
        "max-role-changes 21",
        "password \"\"",
    ] {
        assert!(line(bad).is_err(), "{bad}");
    }
    line(&format!("password {}", "x".repeat(64))).unwrap();
    assert!(line(&format!("password {}", "x".repeat(65))).is_err());
}

#[test]
fn old_names_are_accepted_and_never_printed() {
    for (old, new) in [
        ("on-failure slave", ""),
        ("on-failure restore", "set on-failure restore-role"),
        ("mode master", "set mode primary"),
        ("mode slave", "set mode secondary"),
    ] {
        let config = apply(&line("password s3cret").unwrap(), &format!("set system ha {old}")).unwrap();
        let text = twinpost_config::print(&config);
        assert!(text.contains(new) && !text.contains("slave") && !text.contains("master"), "{text}");
    }
}

#[test]
fn both_spellings_of_a_heartbeat_port_mean_the_same() {
    let by_port = "config system ha\nconfig interface\nedit port3\nset peer-ip 10.0.0.2\n\
                   set heartbeat-status primary\nnext\nend\nset heartbeat-1-ip 10.0.0.1/24\nend";
    let by_link = "config system ha\nset heartbeat-1-interface port3\nset heartbeat-1-ip 10.0.0.1 255.255.255.0\n\
                   set heartbeat-1-peer 10.0.0.2\nend";
    let by_port = parse(by_port, &PORTS).unwrap();
    assert_eq!(by_port, parse(by_link, &PORTS).unwrap());
    let off = "config system ha\nconfig interface\nedit port3\nset heartbeat-status disable\nunset peer-ip\nend\nend";
    assert_eq!(apply(&by_port, off).unwrap(), Config::for_board(&PORTS));
}

#[test]
fn a_heartbeat_link_falls_back_to_the_address_of_its_port() {
    let script = "config system interface\nedit port4\nset ip 10.9.0.1/30\nnext\nend\n\
                  set system ha heartbeat-1-peer 10.9.0.2";
    let config = parse(script, &PORTS).unwrap();
    assert_eq!(config.heartbeat(LinkId::ALL[0]).unwrap().ip.to_string(), "10.9.0.1/30");
}

#[test]
fn a_heartbeat_link_has_addresses_of_one_kind() {
    for none in
        ["heartbeat-1-ip6 ::/0", "heartbeat-2-ip6 ::/0", "heartbeat-1-peer6 ::", "heartbeat-2-peer6 ::"]
    {
        assert_eq!(line(none).unwrap(), Config::for_board(&PORTS), "{none}");
    }
    let set = |lines: &str| {
        let lines = lines.split(", ").map(|l| format!("set {l}\n")).collect::<String>();
        parse(&format!("config system ha\n{lines}end"), &PORTS)
    };
    let first = set("heartbeat-1-ip6 fd00::1/64, heartbeat-1-peer6 fd00::2").unwrap();
    let link = first.heartbeat(LinkId::ALL[0]).unwrap();
    assert_eq!(
        (link.port.as_str(), link.ip.to_string(), link.peer.to_string()),
        ("port4", "fd00::1/64".into(), "fd00::2".into())
    );
    let by_port = "config system ha\nset heartbeat-1-ip6 fd00::1/64\nconfig interface\nedit port3\n\
                   set heartbeat-status primary\nset peer-ip6 fd00::2\nend\nend";
    let by_link =
        set("heartbeat-1-interface port3, heartbeat-1-ip6 fd00::1/64, heartbeat-1-peer6 fd00::2").unwrap();
    assert_eq!(parse(by_port, &PORTS).unwrap(), by_link);
    let own = "config system interface\nedit port4\nset ip6 fd00::1/64\nend\nset system ha heartbeat-1-peer6 fd00::2";
    assert_eq!(parse(own, &PORTS).unwrap().heartbeat(LinkId::ALL[0]).unwrap().ip, link.ip);
    assert!(set("heartbeat-1-ip6 fd00::1/64, heartbeat-1-peer6 fd00::2, heartbeat-2-interface port3, heartbeat-2-ip 10.0.1.1/24, heartbeat-2-peer 10.0.1.2").is_ok(), "each link its own kind");
    for (bad, why) in [
        ("heartbeat-1-ip6 fd00::1/64", "heartbeat-1-peer6: heartbeat 1 has no address of the peer"),
        ("heartbeat-1-peer6 fd00::2", "heartbeat-1-ip6: heartbeat 1 has no own address"),
        ("heartbeat-1-ip6 fd00::1/64, heartbeat-1-peer6 fd01::2", "allowed: another host of fd00::/64"),
        ("heartbeat-1-ip6 fd00::1/64, heartbeat-1-peer6 fd00::1", "cannot be the peer"),
        (
            "heartbeat-1-ip6 fd00::1/64, heartbeat-1-peer6 fd00::2, heartbeat-1-peer 10.0.0.2",
            "addresses of both kinds",
        ),
        ("heartbeat-1-ip6 fe80::1/64", "allowed: an IPv6 address"),
        (
            "heartbeat-1-ip6 fd00::1/64, heartbeat-1-peer6 fd00::2, heartbeat-2-interface port3, heartbeat-2-ip6 fd00::5/64, \
             heartbeat-2-peer6 fd00::6",
            "a subnet of its own for each link",
        ),
    ] {
        let error = set(bad).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn each_kind_has_a_default_gateway_behind_a_port() {
    let base =
        "config system interface\nedit port1\nset ip 192.0.2.11/24\nset ip6 2001:db8::11/64\nnext\nend\n";
    let with = |gateway: &str| {
        parse(
            &format!(
                "{base}config system route\nedit 1\nset gateway 192.0.2.1\nset gateway6 {gateway}\nnext\nend"
            ),
            &PORTS,
        )
    };
    let config = with("2001:db8::1").unwrap();
    assert_eq!(config.gateways().map(|ip| ip.to_string()).collect::<Vec<_>>(), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(with("::").unwrap(), apply(&config, "unset system route gateway6").unwrap());
    assert_eq!(apply(&config, "config system route\ndelete 1\nend").unwrap().gateways().count(), 0);
    for (bad, why) in [
        (
            "2001:db8:1::1",
            "gateway6: 2001:db8:1::1 is in no subnet of a port; allowed: a host of 2001:db8::11/64",
        ),
        ("2001:db8::11", "this unit's own address on port1"),
        ("ff02::1", "allowed: an IPv6 address of a host"),
    ] {
        let error = with(bad).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
    let vip = apply(&config, "set system ha failover port1 add 2001:db8::1/64").unwrap_err().to_string();
    assert!(vip.contains("is the default gateway"), "{vip}");
}

#[test]
fn synchronisation_and_encryption_are_switches_and_group_modes_are_not_available() {
    for never in ["mode config-master", "mode config-secondary"] {
        assert!(line(never).unwrap_err().to_string().contains("not available in this release"), "{never}");
    }
    assert!(
        line("encryption enable").unwrap().ha().encryption
            && !line("encryption disable").unwrap().ha().encryption
    );
    for (name, value) in [("mail-data-sync", [false, true]), ("mailqueue-data-sync", [true, false])] {
        let config = line(&format!("{name} disable")).unwrap();
        assert_eq!([config.ha().mail_data_sync, config.ha().mailqueue_data_sync], value, "{name}");
    }
    assert!(line("encryption maybe").unwrap_err().to_string().contains("allowed: enable, disable"));
}

fn block(service: &str, lines: &str) -> Result<Config, twinpost_config::ScriptError> {
    let lines = lines.split(", ").map(|l| format!("set {l}\n")).collect::<String>();
    parse(&format!("config system ha\nconfig service\nedit {service}\n{lines}next\nend\nend"), &PORTS)
}

#[test]
fn services_have_the_defaults_of_the_reference() {
    for (service, port) in
        [("remote-smtp", 25), ("remote-imap", 143), ("remote-pop", 110), ("remote-http", 80)]
    {
        let lines = format!(
            "check-interval 120, check-timeout 30, ip 0.0.0.0, port {port}, retries 3, status disable"
        );
        assert_eq!(block(service, &lines).unwrap(), Config::for_board(&PORTS));
    }
    for service in ["local-ports", "local-hd"] {
        let lines = "check-interval 120, retries 3, status disable";
        assert_eq!(block(service, lines).unwrap(), Config::for_board(&PORTS));
        assert!(block(service, "check-timeout 30").is_err());
    }
    for default in [
        "remote-services-as-heartbeat disable",
        "hard-drives-check disable",
        "network-intf-check enable",
        "local-service PORTS 10 3",
        "local-service HD 10 3",
        "remote-service smtp 0",
        "remote-service pop 0",
        "remote-service imap 0",
        "remote-service http 0",
    ] {
        assert_eq!(line(default).unwrap(), Config::for_board(&PORTS), "{default}");
    }
    let config = Config::for_board(&PORTS);
    let services = &config.ha().services;
    let rules = |interval: u64| Some(LocalRules { interval: Duration::from_secs(interval), retries: 3 });
    assert_eq!((services.local_ports(), services.local_drives()), (rules(10), None));
    let both = line("hard-drives-check enable").unwrap();
    assert_eq!(both.ha().services.local_drives(), rules(10));
    let own = block("local-hd", "status enable").unwrap();
    assert_eq!(own.ha().services.local_drives(), rules(120), "the block's own values count");
    assert_eq!(line("network-intf-check disable").unwrap().ha().services.local_ports(), None);
}

#[test]
fn ranges_of_checks_end_where_the_reference_says() {
    for (good, bad) in [
        ("check-interval 1", "check-interval 0"),
        ("check-interval 3600", "check-interval 3601"),
        ("check-timeout 1", "check-timeout 0"),
        ("check-timeout 300", "check-timeout 301"),
        ("port 1", "port 0"),
        ("port 65535", "port 65536"),
        ("retries 1", "retries 0"),
        ("retries 100", "retries 101"),
        ("ip 192.0.2.10", "ip 224.0.0.1"),
        ("status disable", "status on"),
    ] {
        block("remote-smtp", good).unwrap_or_else(|error| panic!("{good}: {error}"));
        let error = block("remote-smtp", bad).unwrap_err().to_string();
        assert!(error.contains("line 4, column") && error.contains("allowed"), "{error}");
    }
    for bad in [
        "local-service PORTS 0 3",
        "local-service HD 3601 3",
        "local-service HD 10 101",
        "local-service DISKS 10 3",
        "local-service PORTS 10",
        "remote-service smtp 192.0.2.10 25 120 30",
        "remote-service smtp 0.0.0.0 25 120 30 3",
        "remote-service smtp 192.0.2.10 25 120 301 3",
        "remote-service ftp 0",
        "remote-service smtp 1",
    ] {
        assert!(line(bad).is_err(), "{bad}");
    }
}

#[test]
fn short_and_long_forms_of_a_check_mean_the_same() {
    let short = line("remote-service pop 192.0.2.10 995 5 4 2").unwrap();
    let long = "ip 192.0.2.10, port 995, check-interval 5, check-timeout 4, retries 2, status enable";
    assert_eq!(short, block("remote-pop", long).unwrap());
    let (kind, service) = short.ha().services.enabled().next().unwrap();
    assert_eq!((kind, service.port, service.timeout_s), (RemoteKind::Pop, 995, 4));
    let off = apply(&short, "set system ha remote-service pop 0").unwrap();
    assert_eq!(off.ha().services.enabled().count(), 0);
    assert_eq!(off.ha().services.remote[2].port, 995, "the other values are kept");
}

#[test]
fn only_the_web_service_is_asked_over_tls() {
    let short = line("remote-service https 192.0.2.10 443 120 30 3").unwrap();
    let long = "ip 192.0.2.10, port 443, protocol https, status enable";
    assert_eq!(short, block("remote-http", long).unwrap());
    assert!(short.ha().services.enabled().all(|(kind, service)| kind == RemoteKind::Http && service.tls));
    let plain = apply(&short, "set system ha remote-service http 192.0.2.10 8080 120 30 3").unwrap();
    assert!(!plain.ha().services.remote[3].tls, "the short form sets all");
    let off = apply(&short, "set system ha remote-service https 0").unwrap();
    assert_eq!(off.ha().services.enabled().count(), 0);
    let error = block("remote-http", "protocol tls").unwrap_err().to_string();
    assert!(error.contains("allowed: http, https"), "{error}");
    let error = block("remote-http", "ip 192.0.2.10, status enable, protocol https").unwrap_err().to_string();
    assert!(error.contains("port 80 answers http; allowed: protocol http"), "{error}");
    let error = block("remote-imap", "protocol https").unwrap_err().to_string();
    assert!(error.contains("unknown variable \"protocol\""), "{error}");
    for never in ["https 192.0.2.10 80 120 30 3", "smtps 192.0.2.10 465 120 30 3"] {
        assert!(line(&format!("remote-service {never}")).is_err(), "{never}");
    }
}

#[test]
fn services_are_a_heartbeat_only_where_one_is_asked() {
    let error = line("remote-services-as-heartbeat enable").unwrap_err().to_string();
    assert!(error.contains("no remote service is enabled"), "{error}");
    let error = line("remote-service http 192.0.2.10 443 120 30 3").unwrap_err().to_string();
    assert!(error.contains("port 443 answers https; allowed: protocol https"), "{error}");
    let error = block("remote-smtp", "status enable").unwrap_err().to_string();
    assert!(error.contains("remote-smtp is enabled but has no address"), "{error}");
    let both = "config system ha\nset remote-services-as-heartbeat enable\n\
                set remote-service smtp 192.0.2.10 25 120 30 3\nend";
    let config = parse(both, &PORTS).unwrap();
    assert!(config.ha().services.as_heartbeat);
    assert!(apply(&config, "set system ha remote-service smtp 0").is_err());
}

#[test]
fn ports_with_a_virtual_ip_or_a_monitor_are_watched() {
    let script = "config system interface\nedit port1\nset ip 192.0.2.11/24\nnext\nend\nconfig system ha\n\
        set failover port1 add 192.0.2.10/24\nconfig interface\nedit port2\nset port-monitor enable\nnext\nend\nend";
    let config = parse(script, &PORTS).unwrap();
    let watched: Vec<_> = config.monitored_ports().map(|port| port.as_str()).collect();
    assert_eq!(watched, ["port1", "port2"]);
    let ignored = apply(&config, "set system ha failover port2 ignore").unwrap();
    assert_eq!(ignored, config, "the short form leaves port-monitor alone");
}

#[test]
fn a_neighbour_is_asked_behind_a_watched_port_only() {
    let base = parse(
        "config system interface\nedit port1\nset ip 192.0.2.11/24\nset ip6 2001:db8::11/64\nnext\nedit port2\n\
         set ip 198.51.100.11/24\nnext\nend\nset system ha failover port1 add 192.0.2.10/24",
        &PORTS,
    )
    .unwrap();
    let short = |value: &str| apply(&base, &format!("set system ha monitor-neighbour {value}"));
    let long = "config system ha\nconfig interface\nedit port1\nset monitor-neighbour 192.0.2.1\nend\nend";
    let config = apply(&base, long).unwrap();
    assert_eq!(config, short("port1 192.0.2.1").unwrap());
    assert_eq!(config.neighbours().count(), 1);
    let kept = apply(&config, "set system ha failover port1 set 192.0.2.10/24").unwrap();
    assert_eq!(kept.neighbours().count(), 1, "failover leaves it alone");
    for none in ["set system ha monitor-neighbour port1 0.0.0.0", "unset system ha monitor-neighbour"] {
        assert_eq!(apply(&config, none).unwrap(), base, "{none}");
    }
    assert!(short("port1 2001:db8::1").is_ok());
    for (bad, why) in [
        ("port2 198.51.100.1", "port2 is not watched by local-ports"),
        ("port1 198.51.100.1", "not in the subnet of port1; allowed: another host of 192.0.2.0/24"),
        ("port1 192.0.2.11", "this appliance itself"),
        ("port1 192.0.2.10", "this appliance itself"),
        ("port1 2001:db8:1::1", "another host of 2001:db8::/64"),
        ("port1 224.0.0.1", "allowed: <port> <address"),
        ("port1", "allowed: <port> <address"),
    ] {
        let error = short(bad).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
    let both = "config system ha\nset heartbeat-1-interface port2\nset heartbeat-1-peer 198.51.100.12\n\
                set monitor-neighbour port2 198.51.100.12\nend";
    let error = apply(&base, both).unwrap_err().to_string();
    assert!(error.contains("the peer only"), "{error}");
}

#[test]
fn a_refused_script_changes_nothing_and_a_good_one_keeps_the_rest() {
    let base = parse("set system ha hb-base-port 3000\nset system global hostname mail-a", &PORTS).unwrap();
    assert!(apply(&base, "set system ha hb-base-port 4000\nset system ha hb-base-port 1").is_err());
    let next = apply(&base, "set system ha fast-detect disable").unwrap();
    assert_eq!((next.ha().base_port, next.host_name().as_str()), (3000, "mail-a"));
    let back = apply(&next, "config system ha\nunset hb-base-port\nunset fast-detect\nend").unwrap();
    assert_eq!(back.ha(), Config::default().ha());
}

#[test]
fn only_shared_settings_change_the_checksum() {
    let sum = |script: &str| twinpost_config::synchronised_checksum(&parse(script, &PORTS).unwrap());
    let none = sum("");
    for own in [
        "set system global hostname other",
        "config system interface\nedit port1\nset ip 192.0.2.11/24\nnext\nend",
        "config system ha\nset password x\nset mode primary\nend",
        "set system ha hb-lost-threshold 3",
        "set system ha heartbeat-1-peer 10.0.0.3",
        "set system ha remote-service smtp 192.0.2.10 25 120 30 3",
        "set system ha hard-drives-check enable",
        "config system ha\nconfig interface\nedit port2\nset port-monitor enable\nend\nend",
    ] {
        assert_eq!(sum(own), none, "{own}");
    }
    for shared in [
        "set system dns primary 192.0.2.1",
        "config domain\nedit example.test\nset relay-host 192.0.2.25\nnext\nend",
        "set system ha on-failure off",
        "config system interface\nedit port1\nset ip 192.0.2.11/24\nnext\nend\nset system ha failover port1 add 192.0.2.10/24",
    ] {
        assert_ne!(sum(shared), none, "{shared}");
    }
}

#[test]
fn a_unit_without_ports_says_so() {
    let script = "config system interface\n    edit port1\n    next\nend\n";
    let told = twinpost_config::parse(script, &[]).unwrap_err().to_string();
    assert!(told.contains("unknown port \"port1\"") && told.contains("check its network cards"), "{told}");
}
