//! Variables of `spec/ha.md` section 2 that this release knows but does not act on. Their values are checked, then refused
//! unless they are the default: a setting that is accepted and not acted on would be a lie. A variable leaves this file when
//! the appliance acts on it.
//!
//! `encryption` is refused whatever its value: its default in the reference is `enable`, and this release does not encrypt
//! replication yet. To accept the word and send mail in clear over the heartbeat cables would be the worse lie.

use crate::cursor::{Cursor, Line};
use crate::error::{Problem, ScriptError};
use crate::variable::{Bad, Fields, Later, Values, block, number, table};
use std::net::{Ipv4Addr, Ipv6Addr};

const SWITCH: &str = "enable, disable";
const NONE_IPV6: &str = "::/0";

/// Of `config system ha`.
pub(crate) const HA: &[Later] = &[
    Later {
        name: "heartbeat-1-ip6",
        allowed: "an IPv6 address with prefix",
        check: ipv6_prefix,
        default: &[NONE_IPV6],
    },
    Later { name: "heartbeat-1-peer6", allowed: "an IPv6 address", check: ipv6, default: &["::"] },
    Later {
        name: "heartbeat-2-ip6",
        allowed: "an IPv6 address with prefix",
        check: ipv6_prefix,
        default: &[NONE_IPV6],
    },
    Later { name: "heartbeat-2-peer6", allowed: "an IPv6 address", check: ipv6, default: &["::"] },
    Later { name: "mail-data-sync", allowed: SWITCH, check: switch, default: &["enable"] },
    Later { name: "mailqueue-data-sync", allowed: SWITCH, check: switch, default: &["enable"] },
    Later { name: "remote-services-as-heartbeat", allowed: SWITCH, check: switch, default: &["disable"] },
    Later { name: "hard-drives-check", allowed: SWITCH, check: switch, default: &["disable"] },
    Later { name: "network-intf-check", allowed: SWITCH, check: switch, default: &["enable"] },
    Later {
        name: "encryption",
        allowed: SWITCH,
        check: |values| {
            values.switch()?;
            Err(Bad::NotAvailable(
                "leaving it out; replication is not encrypted yet, use direct cables".into(),
            ))
        },
        default: &[],
    },
    Later {
        name: "local-service",
        allowed: "PORTS <interval 1 to 3600> <retries 1 to 100>, HD <interval> <retries>",
        check: local_service,
        default: &["PORTS 10 3", "HD 10 3"],
    },
    Later {
        name: "remote-service",
        allowed: "{smtp|pop|imap|http} <ip> <port> <interval> <wait> <retries>, {smtp|pop|imap|http} 0",
        check: remote_service,
        default: &["smtp 0", "imap 0", "pop 0", "http 0"],
    },
];

/// Of `config interface` / `edit <port>`.
pub(crate) const HA_PORT: &[Later] = &[
    Later { name: "peer-ip6", allowed: "an IPv6 address", check: ipv6, default: &["::"] },
    Later { name: "port-monitor", allowed: SWITCH, check: switch, default: &["disable"] },
    Later {
        name: "virtual-ip6",
        allowed: "an IPv6 address with prefix",
        check: ipv6_prefix,
        default: &[NONE_IPV6],
    },
];

const INTERVAL: Later = Later {
    name: "check-interval",
    allowed: "1 to 3600 seconds",
    check: |values| values.number(1..=3600_u16).map(|_| ()),
    default: &["120"],
};
const TIMEOUT: Later = Later {
    name: "check-timeout",
    allowed: "1 to 300 seconds",
    check: |values| values.number(1..=300_u16).map(|_| ()),
    default: &["30"],
};
const ADDRESS: Later = Later {
    name: "ip",
    allowed: "an IPv4 address, 0.0.0.0 for none",
    check: |values| values.parsed::<Ipv4Addr>().map(|_| ()),
    default: &["0.0.0.0"],
};
const RETRIES: Later = Later {
    name: "retries",
    allowed: "1 to 100",
    check: |values| values.number(1..=100_u8).map(|_| ()),
    default: &["3"],
};
const STATUS: Later = Later { name: "status", allowed: SWITCH, check: switch, default: &["disable"] };

/// Of `config service` / `edit <service>`: each service with its variables.
const SERVICES: &[(&str, &[Later])] = &[
    ("remote-smtp", &[INTERVAL, TIMEOUT, ADDRESS, port(&["25"]), RETRIES, STATUS]),
    ("remote-imap", &[INTERVAL, TIMEOUT, ADDRESS, port(&["143"]), RETRIES, STATUS]),
    ("remote-pop", &[INTERVAL, TIMEOUT, ADDRESS, port(&["110"]), RETRIES, STATUS]),
    ("remote-http", &[INTERVAL, TIMEOUT, ADDRESS, port(&["80"]), RETRIES, STATUS]),
    ("local-ports", &[INTERVAL, RETRIES, STATUS]),
    ("local-hd", &[INTERVAL, RETRIES, STATUS]),
];

/// Reads the block behind `config service`.
pub(crate) fn service(cursor: &mut Cursor<'_>, open: &Line) -> Result<(), ScriptError> {
    open.no_more(2)?;
    table(cursor, open, &mut |cursor, line| {
        let Some((_, later)) = SERVICES.iter().find(|(name, _)| *name == line.text(1)) else {
            let names: Vec<_> = SERVICES.iter().map(|(name, _)| *name).collect();
            return Err(line.unknown(1, "service", names.join(", ")));
        };
        if line.verb() == "delete" {
            return Err(line.unknown(0, "command", "edit, end"));
        }
        block(cursor, line, &Fields { variables: &[], later }, &mut (), &(), &mut |(), _, _| Ok(false))
    })
}

/// `config member`: the list of a config-only group.
pub(crate) fn member(line: &Line) -> ScriptError {
    line.error(
        1,
        Problem::NotAvailable {
            variable: "config".into(),
            value: "\"member\"".into(),
            allowed: "interface, service; config-only groups come in a later release".into(),
        },
    )
}

const fn port(default: &'static [&'static str]) -> Later {
    Later {
        name: "port",
        allowed: "1 to 65535",
        check: |values| values.number(1..=u16::MAX).map(|_| ()),
        default,
    }
}

fn switch(values: &Values<'_>) -> Result<(), Bad> {
    values.switch().map(|_| ())
}

fn ipv6(values: &Values<'_>) -> Result<(), Bad> {
    values.parsed::<Ipv6Addr>().map(|_| ())
}

fn ipv6_prefix(values: &Values<'_>) -> Result<(), Bad> {
    let (address, prefix) = values.one()?.split_once('/').ok_or(Bad::Refused)?;
    address.parse::<Ipv6Addr>().map_err(|_| Bad::Refused)?;
    number(prefix, 0..=128_u8).map(|_| ())
}

fn local_service(values: &Values<'_>) -> Result<(), Bad> {
    let [name, interval, retries] = values.words else { return Err(Bad::Refused) };
    number(&interval.text, 1..=3600_u16)?;
    number(&retries.text, 1..=100_u8)?;
    if ["PORTS", "HD"].contains(&name.text.as_str()) { Ok(()) } else { Err(Bad::Refused) }
}

fn remote_service(values: &Values<'_>) -> Result<(), Bad> {
    let [name, rest @ ..] = values.words else { return Err(Bad::Refused) };
    if !["smtp", "pop", "imap", "http"].contains(&name.text.as_str()) {
        return Err(Bad::Refused);
    }
    match rest {
        [zero] if zero.text == "0" => Ok(()),
        [ip, port, interval, wait, retries] => {
            ip.text.parse::<Ipv4Addr>().map_err(|_| Bad::Refused)?;
            number(&port.text, 1..=u16::MAX)?;
            number(&interval.text, 1..=3600_u16)?;
            number(&wait.text, 1..=300_u16)?;
            number(&retries.text, 1..=100_u8).map(|_| ())
        }
        _ => Err(Bad::Refused),
    }
}
