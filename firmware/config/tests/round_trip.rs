//! Whatever is accepted is printed so that it reads back the same, in both forms; whatever is refused, is refused with a
//! short message. The body of the fuzz target is called here with generated and with damaged scripts.

use proptest::prelude::*;
use twinpost_config::{ScriptError, parse, parse_bytes, print, print_full};

const PORTS: [&str; 4] = ["port1", "port2", "port3", "port4"];
/// Longest message: a few lines of a console.
const MESSAGE_BYTES_MAX: usize = 1000;

/// The fuzz body: never panics, message bounded, accepted scripts round-trip.
fn fuzz(data: &[u8]) -> Result<(), ScriptError> {
    let config = parse_bytes(data, &PORTS).inspect_err(|error| {
        let text = error.to_string();
        assert!(text.len() <= MESSAGE_BYTES_MAX && text.chars().all(|c| !c.is_control()), "{text}");
        assert!(error.line >= 1 && error.column >= 1);
    })?;
    for text in [print(&config), print_full(&config)] {
        let again = parse(&text, &PORTS).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again, config, "{text}");
        assert_eq!(print(&again), print(&config));
    }
    Ok(())
}

fn ha_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "(off|restore-role|become-secondary|slave|restore)".prop_map(|v| format!("set on-failure {v}")),
        "[ -~]{1,64}".prop_map(|v| {
            format!("set password \"{}\"", v.replace('\\', "\\\\").replace('"', "\\\""))
        }),
        (1024_u32..=65_532).prop_map(|v| format!("set hb-base-port {v}")),
        (1_u32..=3599, 0_u32..=999).prop_map(|(s, ms)| format!("set hb-lost-threshold {s}.{ms:03}")),
        (10_u32..=200).prop_map(|v| format!("set hb-interval {v}")),
        "(enable|disable)".prop_map(|v| format!("set fast-detect {v}")),
        "(enable|disable)".prop_map(|v| format!("set encryption {v}")),
        "(enable|disable)".prop_map(|v| format!("set allow-default-password {v}")),
        (1_u32..=20).prop_map(|v| format!("set max-role-changes {v}")),
        Just("set reboot-action switchover".into()),
        ("(smtp|pop|imap|http|https)", 1_u16.., 1_u32..=3600, 1_u32..=300, 1_u32..=100)
            .prop_map(|(name, port, i, w, r)| format!("set remote-service {name} 192.0.2.9 {port} {i} {w} {r}")),
        "(smtp|pop|imap|http|https)".prop_map(|name| format!("set remote-service {name} 0")),
        ("(PORTS|HD)", 1_u32..=3600, 1_u32..=100).prop_map(|(n, i, r)| format!("set local-service {n} {i} {r}")),
        "(hard-drives-check|network-intf-check) (enable|disable)".prop_map(|v| format!("set {v}")),
        ("(local-ports|local-hd)", 1_u32..=3600, "(enable|disable)").prop_map(|(n, i, s)| {
            format!("config service\nedit {n}\nset check-interval {i}\nset status {s}\nnext\nend")
        }),
        "(enable|disable)".prop_map(|v| format!("config interface\nedit port2\nset port-monitor {v}\nend")),
        ("(add|set)", 2_u8..=254).prop_map(|(action, v)| format!("set failover port1 {action} 192.0.2.{v}/24")),
        ("(add|set)", 2_u16..).prop_map(|(action, v)| format!("set failover port1 {action} 2001:db8::{v:x}/64")),
        "(ignore|bridge)".prop_map(|action| format!("set failover port2 {action}")),
        (2_u8..=254).prop_map(|v| {
            format!("set failover port1 add 192.0.2.{v}/24\nset monitor-neighbour port1 2001:db8::1:{v:x}")
        }),
        (2_u8..=254).prop_map(|v| format!("set heartbeat-1-peer 10.0.0.{v}")),
        (3_u16..).prop_map(|v| {
            format!("set heartbeat-2-interface port2\nset heartbeat-2-ip6 fd00:{v:x}::1/64\nset heartbeat-2-peer6 fd00:{v:x}::2\n\
                     unset heartbeat-2-ip\nunset heartbeat-2-peer")
        }),
        Just("set heartbeat-1-interface port3".into()),
        Just("set heartbeat-1-ip 10.0.0.1/24".into()),
        (3_u8..=254).prop_map(|v| {
            format!("set heartbeat-2-interface port2\nset heartbeat-2-ip 10.0.{v}.1/24\nset heartbeat-2-peer 10.0.{v}.2\n\
                     unset heartbeat-2-ip6\nunset heartbeat-2-peer6")
        }),
    ]
}

/// Name and settings of a domain.
fn domain() -> impl Strategy<Value = (String, String)> {
    let user = ("[a-z][a-z0-9_-]{0,6}(\\.[a-z0-9]{1,5})?", "[!-~]{1,20}").prop_map(|(name, password)| {
        let password = password.replace('\\', "\\\\").replace('"', "\\\"");
        format!("edit {name}\nset password \"{password}\"\nnext\n")
    });
    let local = proptest::collection::vec(user, 0..4)
        .prop_map(|users| format!("set type local\nconfig user\n{}end\n", users.concat()));
    let relay = ("[a-z]{1,9}(\\.[a-z]{1,9})?", 1_u16..)
        .prop_map(|(h, p)| format!("set relay-host {h}\nset relay-port {p}\n"));
    ("[a-z]{1,9}\\.(test|example)", prop_oneof![local, relay])
}

/// Mail data on the unit, or on a server.
fn storage() -> impl Strategy<Value = String> {
    let export = (1_u16.., 1_u16.., "(/[a-z_.-]{1,5}x){1,3}").prop_map(|(host, port, folder)| {
        format!(
            "config mailsetting storage config\nset type remote\nset protocol nfs\nset host 2001:db8::2:{host:x}\nset folder {folder}\n\
             set port {port}\nend\nset system ha mail-data-sync disable\n"
        )
    });
    prop_oneof![
        Just(String::new()),
        Just("config mailsetting storage config\nset folder /x\nend\n".into()),
        export
    ]
}

fn script() -> impl Strategy<Value = String> {
    (
        storage(),
        proptest::collection::vec(ha_line(), 0..12),
        proptest::collection::vec(domain(), 0..4),
        "[a-z]{1,8}",
        any::<bool>(),
    )
        .prop_map(|(storage, ha, domains, host, on)| {
            // A name that comes twice with two types is refused, rightly; numbers keep them apart.
            let numbered = domains.into_iter().enumerate();
            let domains: String =
                numbered.map(|(n, (name, body))| format!("edit d{n}{name}\n{body}next\n")).collect();
            let mode = if on { "set mode primary\nset password x\n" } else { "" };
            format!(
                "config system global\nset hostname {host}\nend\n\
                 config system interface\nedit port1\nset ip 192.0.2.1/24\nset ip6 2001:db8::1/64\nnext\nend\n\
                 config system ha\n{mode}{}\nend\nconfig domain\n{}end\n{storage}",
                ha.join("\n"),
                domains
            )
        })
}

proptest! {
    #[test]
    fn accepted_scripts_read_back_the_same(script in script()) {
        if let Err(error) = fuzz(script.as_bytes()) {
            // Double names, intervals that do not fit the threshold and a bridge over a heartbeat port are generated now and then; nothing
            // else may fail.
            let text = error.to_string();
            let known = ["hb-interval", "answers http", "\"next\"", "port2 is a heartbeat port"];
            prop_assert!(known.iter().any(|known| text.contains(known)), "{text}\n{script}");
        }
    }

    #[test]
    fn damaged_scripts_are_refused_or_read_whole(
        script in script(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = script.into_bytes();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = fuzz(&bytes);
    }

    #[test]
    fn lines_may_be_lost_or_swapped(script in script(), first in any::<prop::sample::Index>(), second in any::<prop::sample::Index>()) {
        let mut lines: Vec<_> = script.lines().collect();
        let (first, second) = (first.index(lines.len()), second.index(lines.len()));
        lines.swap(first, second);
        let _ = fuzz(lines.join("\n").as_bytes());
        lines.remove(first);
        let _ = fuzz(lines.join("\r\n").as_bytes());
    }

    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let _ = fuzz(&bytes);
    }
}

#[test]
fn limits_hold() {
    let many = |count: usize| {
        let entries: String = (0..count).map(|n| format!("edit d{n}.test\nset type local\nnext\n")).collect();
        parse(&format!("config domain\n{entries}end"), &PORTS)
    };
    assert!(many(twinpost_config::DOMAINS_MAX).is_ok());
    assert!(many(twinpost_config::DOMAINS_MAX + 1).unwrap_err().to_string().contains("too many domains"));

    let users = |count: usize| {
        let entries: String = (0..count).map(|n| format!("edit u{n}\nset password x\nnext\n")).collect();
        let half = "edit b.test\nset type local\nconfig user\nedit one\nset password x\nnext\nend\nnext\n";
        parse(
            &format!(
                "config domain\n{half}edit a.test\nset type local\nconfig user\n{entries}end\nnext\nend"
            ),
            &PORTS,
        )
    };
    assert!(users(twinpost_config::USERS_MAX - 1).is_ok());
    assert!(users(twinpost_config::USERS_MAX).unwrap_err().to_string().contains("too many users"));

    let long = "#".repeat(twinpost_config::SCRIPT_BYTES_MAX);
    assert!(parse(&long, &PORTS).is_ok());
    assert!(parse(&format!("{long}#"), &PORTS).unwrap_err().to_string().contains("too many bytes"));
}

#[test]
fn the_example_in_the_documents_is_accepted() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/example.conf");
    let text = std::fs::read_to_string(path).unwrap();
    let config = parse(&text, &PORTS).unwrap();
    assert_eq!(config.vips().count(), 1);
    fuzz(text.as_bytes()).unwrap();
}
