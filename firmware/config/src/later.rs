//! Variables of `spec/ha.md` section 2 that this release knows but does not act on. Their values are checked, then refused
//! unless they are the default: a setting that is accepted and not acted on would be a lie. A variable leaves this file when
//! the appliance acts on it.

use crate::cursor::Line;
use crate::error::{Problem, ScriptError};
use crate::variable::{Bad, Later, NO_IPV6, Values, number};
use std::net::Ipv6Addr;

const SWITCH: &str = "enable, disable";

/// Of `config system ha`.
pub(crate) const HA: &[Later] = &[
    Later {
        name: "heartbeat-1-ip6",
        allowed: "an IPv6 address with prefix",
        check: ipv6_prefix,
        default: &[NO_IPV6],
    },
    Later { name: "heartbeat-1-peer6", allowed: "an IPv6 address", check: ipv6, default: &["::"] },
    Later {
        name: "heartbeat-2-ip6",
        allowed: "an IPv6 address with prefix",
        check: ipv6_prefix,
        default: &[NO_IPV6],
    },
    Later { name: "heartbeat-2-peer6", allowed: "an IPv6 address", check: ipv6, default: &["::"] },
    Later { name: "mail-data-sync", allowed: SWITCH, check: switch, default: &["enable"] },
    Later { name: "mailqueue-data-sync", allowed: SWITCH, check: switch, default: &["enable"] },
];

/// Of `config interface` / `edit <port>`.
pub(crate) const HA_PORT: &[Later] =
    &[Later { name: "peer-ip6", allowed: "an IPv6 address", check: ipv6, default: &["::"] }];

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
