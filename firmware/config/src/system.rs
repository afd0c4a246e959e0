//! `config system global`, `interface`, `route` and `dns`: what a unit needs besides HA. The only routes are the default
//! routes of IPv4 and IPv6; name servers are asked over IPv4.

use crate::cursor::{Closed, Cursor, Line};
use crate::error::ScriptError;
use crate::model::{Config, Dns};
use crate::printer::Printer;
use crate::value::{HostName, Ipv4Net, Ipv6Net, PortName};
use crate::variable::{Bad, Fields, NO_IPV6, Shown, Variable, assign, block, table};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

const GLOBAL: Fields<HostName> = Fields {
    variables: &[Variable {
        name: "hostname",
        allowed: "1 to 64 letters, digits, hyphens and dots, no label longer than 63",
        set: |name, values| values.parsed().map(|value| *name = value),
        reset: HostName::clone_from,
        show: |name| Shown::Set(name.to_string()),
    }],
};

/// One port's own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Addresses {
    ipv4: Option<Ipv4Net>,
    ipv6: Option<Ipv6Net>,
}

const INTERFACE: Fields<Addresses> = Fields {
    variables: &[
        Variable {
            name: "ip",
            allowed: "an IPv4 address of a host with its mask, such as 192.0.2.11/24, or 0.0.0.0/0 for none",
            set: |own, values| values.network_or_none().map(|net| own.ipv4 = net),
            reset: |own, _| own.ipv4 = None,
            show: |own| Shown::Set(own.ipv4.map_or("0.0.0.0/0".into(), |net| net.to_string())),
        },
        Variable {
            name: "ip6",
            allowed: "an IPv6 address of a host with prefix, such as 2001:db8::11/64, or ::/0 for none",
            set: |own, values| values.network6_or_none().map(|net| own.ipv6 = net),
            reset: |own, _| own.ipv6 = None,
            show: |own| Shown::Set(own.ipv6.map_or(NO_IPV6.into(), |net| net.to_string())),
        },
    ],
};

/// The default routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gateways {
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

const ROUTE: Fields<Gateways> = Fields {
    variables: &[
        Variable {
            name: "destination",
            allowed: "0.0.0.0/0, the default route",
            set: |_, values| match values.joined().as_str() {
                "0.0.0.0/0" | "0.0.0.0 0.0.0.0" => Ok(()),
                _ if values.network().is_ok() => {
                    Err(Bad::NotAvailable("0.0.0.0/0, the default route".into()))
                }
                _ => Err(Bad::Refused),
            },
            reset: |_, _| (),
            show: |_| Shown::Never,
        },
        Variable {
            name: "gateway",
            allowed: "an IPv4 address of a host",
            set: |gateways, values| values.address().map(|value| gateways.ipv4 = Some(value)),
            reset: |gateways, _| gateways.ipv4 = None,
            show: |gateways| address(gateways.ipv4),
        },
        Variable {
            name: "gateway6",
            allowed: "an IPv6 address of a host, or :: for none",
            set: |gateways, values| values.address6_or_none().map(|value| gateways.ipv6 = value),
            reset: |gateways, _| gateways.ipv6 = None,
            show: |gateways| Shown::Set(gateways.ipv6.map_or("::".into(), |gateway| gateway.to_string())),
        },
    ],
};

const DNS: Fields<Dns> = Fields {
    variables: &[
        Variable {
            name: "primary",
            allowed: "an IPv4 address of a host",
            set: |dns, values| values.address().map(|value| dns.primary = Some(value)),
            reset: |dns, _| dns.primary = None,
            show: |dns| address(dns.primary),
        },
        Variable {
            name: "secondary",
            allowed: "an IPv4 address of a host",
            set: |dns, values| values.address().map(|value| dns.secondary = Some(value)),
            reset: |dns, _| dns.secondary = None,
            show: |dns| address(dns.secondary),
        },
    ],
};

/// Number of the only route.
const ROUTE_ENTRY: &str = "1";

/// Reads the block behind `config system <section>`; false when it is not one of this module.
pub(crate) fn read(draft: &mut Config, cursor: &mut Cursor<'_>, open: &Line) -> Result<bool, ScriptError> {
    match open.text(2) {
        "global" => {
            let default = Config::default().host_name;
            block(cursor, open, &GLOBAL, &mut draft.host_name, &default, &mut |_, _, _| Ok(false))?;
        }
        "dns" => {
            block(cursor, open, &DNS, &mut draft.dns, &Dns::default(), &mut |_, _, _| Ok(false))?;
        }
        "interface" => table(cursor, open, &mut |cursor, line| interface(draft, cursor, line))?,
        "route" => {
            let mut gateways = Gateways::of(draft);
            block(
                cursor,
                open,
                &ROUTE,
                &mut gateways,
                &Gateways::default(),
                &mut |gateways, cursor, line| route_entry(gateways, cursor, line),
            )?;
            gateways.put(draft);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Reads the one-line form `set system <section> <variable> …`; false when it is not one of this module.
pub(crate) fn read_line(
    draft: &mut Config,
    cursor: &mut Cursor<'_>,
    line: &Line,
) -> Result<bool, ScriptError> {
    match line.text(2) {
        "global" => {
            assign(cursor, line, 3, "", &GLOBAL, &mut draft.host_name, &Config::default().host_name)?;
        }
        "dns" => assign(cursor, line, 3, "", &DNS, &mut draft.dns, &Dns::default())?,
        "route" => {
            let mut gateways = Gateways::of(draft);
            assign(cursor, line, 3, "", &ROUTE, &mut gateways, &Gateways::default())?;
            gateways.put(draft);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Writes the blocks that belong to this unit alone: host name and port addresses.
pub(crate) fn print_own(config: &Config, printer: &mut Printer) {
    printer.block("config system global", "end", false, |printer| {
        printer.fields(&GLOBAL, &config.host_name, &Config::default().host_name);
    });
    let full = printer.full;
    printer.block("config system interface", "end", false, |printer| {
        for port in &config.ports {
            let own = Addresses {
                ipv4: config.interfaces.get(port).copied(),
                ipv6: config.interfaces6.get(port).copied(),
            };
            let none = Addresses::default();
            printer.entry(port.as_str(), full, |printer| printer.fields(&INTERFACE, &own, &none));
        }
    });
}

/// Writes the blocks that both units share: route and name servers.
pub(crate) fn print_shared(config: &Config, printer: &mut Printer) {
    printer.block("config system route", "end", false, |printer| {
        let (gateways, none) = (Gateways::of(config), Gateways::default());
        printer.entry(ROUTE_ENTRY, false, |printer| printer.fields(&ROUTE, &gateways, &none));
    });
    printer.block("config system dns", "end", false, |printer| {
        printer.fields(&DNS, &config.dns, &Dns::default());
    });
}

impl Gateways {
    fn of(config: &Config) -> Self {
        Self { ipv4: config.gateway, ipv6: config.gateway6 }
    }

    fn put(self, config: &mut Config) {
        (config.gateway, config.gateway6) = (self.ipv4, self.ipv6);
    }
}

fn interface(draft: &mut Config, cursor: &mut Cursor<'_>, line: &Line) -> Result<Closed, ScriptError> {
    let name = cursor.ports.iter().find(|port| port.as_str() == line.text(1)).cloned();
    let name = name.ok_or_else(|| line.unknown(1, "port", cursor.port_names()))?;
    if line.verb() == "delete" {
        return Err(line.unknown(0, "command", "edit, end"));
    }
    let mut own =
        Addresses { ipv4: draft.interfaces.get(&name).copied(), ipv6: draft.interfaces6.get(&name).copied() };
    let none = Addresses::default();
    let closed = block(cursor, line, &INTERFACE, &mut own, &none, &mut |_, _, _| Ok(false))?;
    put(&mut draft.interfaces, &name, own.ipv4);
    put(&mut draft.interfaces6, &name, own.ipv6);
    Ok(closed)
}

/// Keeps a map of ports without those that have nothing.
fn put<V>(map: &mut BTreeMap<PortName, V>, name: &PortName, value: Option<V>) {
    match value {
        Some(value) => map.insert(name.clone(), value),
        None => map.remove(name),
    };
}

/// `edit 1` … `next` inside `config system route`. The variables may also stand in the section itself.
fn route_entry(gateways: &mut Gateways, cursor: &mut Cursor<'_>, line: &Line) -> Result<bool, ScriptError> {
    if !["edit", "delete"].contains(&line.verb()) {
        return Ok(false);
    }
    if line.text(1) != ROUTE_ENTRY {
        return Err(line.unknown(1, "route", "1: one entry, the default routes"));
    }
    line.no_more(2)?;
    if line.verb() == "delete" {
        *gateways = Gateways::default();
        return Ok(true);
    }
    match block(cursor, line, &ROUTE, gateways, &Gateways::default(), &mut |_, _, _| Ok(false))? {
        Closed::Next => Ok(true),
        Closed::End => Err(line.error(
            0,
            crate::Problem::Syntax {
                what: "route 1 is not closed".into(),
                allowed: "\"next\" before \"end\"".into(),
            },
        )),
    }
}

fn address(value: Option<Ipv4Addr>) -> Shown {
    value.map_or_else(|| Shown::Unset("none".into()), |address| Shown::Set(address.to_string()))
}
