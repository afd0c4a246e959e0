//! The HA settings seen per port: `config interface` / `edit <port>` inside `config system ha`, and the short forms
//! `failover <port> …` and `monitor-neighbour <port> …`. All write the same model as the `heartbeat-N-…` variables (`spec/ha.md` section 2).

use crate::cursor::{Cursor, Line};
use crate::error::{Problem, ScriptError};
use crate::ha::name_of;
use crate::model::{Config, Ha, HaPort, LinkSettings, PortAction};
use crate::printer::Printer;
use crate::value::PortName;
use crate::variable::{Bad, Fields, NO_IPV6, Shown, Values, Variable, block, table};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use twinpost_types::LINKS;

/// One port's settings while its entry is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PortView {
    port: HaPort,
    /// Index of the heartbeat link that uses the port.
    link: Option<usize>,
    peer: Option<Ipv4Addr>,
    peer6: Option<Ipv6Addr>,
}

/// What `failover` takes.
pub(crate) const FAILOVER: &str =
    "<port> {ignore | set <address/prefix> | add <address/prefix> | bridge}, port: one of {ports}";

/// What the short form of `monitor-neighbour` takes.
pub(crate) const NEIGHBOUR: &str =
    "<port> <address of a host behind it>, <port> 0.0.0.0 for none, port: one of {ports}";

/// Names of the actions; those behind the first two are the words of `failover`.
const ACTIONS: &[(&str, PortAction)] = &[
    ("ignore-vip", PortAction::Ignore),
    ("use-vip", PortAction::Add),
    ("set", PortAction::Set),
    ("bridge", PortAction::Bridge),
    ("ignore", PortAction::Ignore),
    ("add", PortAction::Add),
];

const FIELDS: Fields<PortView> = Fields { variables: VARIABLES };

const VARIABLES: &[Variable<PortView>] = &[
    Variable {
        name: "action",
        allowed: "ignore-vip, use-vip, set, bridge",
        set: |view, values| values.choice(ACTIONS).map(|action| view.port.action = action),
        reset: |view, _| view.port.action = PortAction::Ignore,
        show: |view| name_of(ACTIONS, view.port.action),
    },
    Variable {
        name: "virtual-ip",
        allowed: "an IPv4 address of a host with its mask, such as 192.0.2.10/24, or 0.0.0.0/0 for none",
        set: |view, values| values.network_or_none().map(|net| view.port.virtual_ip = net),
        reset: |view, _| view.port.virtual_ip = None,
        show: |view| Shown::Set(view.port.virtual_ip.map_or("0.0.0.0/0".into(), |net| net.to_string())),
    },
    Variable {
        name: "virtual-ip6",
        allowed: "an IPv6 address of a host with prefix, such as 2001:db8::10/64, or ::/0 for none",
        set: |view, values| values.network6_or_none().map(|net| view.port.virtual_ip6 = net),
        reset: |view, _| view.port.virtual_ip6 = None,
        show: |view| Shown::Set(view.port.virtual_ip6.map_or(NO_IPV6.into(), |net| net.to_string())),
    },
    Variable {
        name: "heartbeat-status",
        allowed: "disable, primary, secondary",
        set: |view, values| {
            let names = [
                ("disable", None),
                ("primary", Some(0)),
                ("secondary", Some(1)),
                ("master", Some(0)),
                ("slave", Some(1)),
            ];
            values.choice(&names).map(|link| view.link = link)
        },
        reset: |view, _| view.link = None,
        show: |_| Shown::Never,
    },
    Variable {
        name: "peer-ip",
        allowed: "an IPv4 address of a host",
        set: |view, values| values.address().map(|peer| view.peer = Some(peer)),
        reset: |view, _| view.peer = None,
        show: |_| Shown::Never,
    },
    Variable {
        name: "peer-ip6",
        allowed: "an IPv6 address of a host, or :: for none",
        set: |view, values| values.address6_or_none().map(|peer| view.peer6 = peer),
        reset: |view, _| view.peer6 = None,
        show: |_| Shown::Never,
    },
    Variable {
        name: "port-monitor",
        allowed: "enable, disable",
        set: |view, values| values.switch().map(|value| view.port.monitor = value),
        reset: |view, _| view.port.monitor = false,
        show: |view| crate::ha::switch(view.port.monitor),
    },
    Variable {
        name: "monitor-neighbour",
        allowed: "an IPv4 or IPv6 address of a host, such as the default gateway, or 0.0.0.0 for none",
        set: |view, values| neighbour_of(values).map(|neighbour| view.port.neighbour = neighbour),
        reset: |view, _| view.port.neighbour = None,
        show: |view| Shown::Set(view.port.neighbour.map_or("0.0.0.0".into(), |ip| ip.to_string())),
    },
];

/// Reads the block behind `config interface`.
pub(crate) fn read(ha: &mut Ha, cursor: &mut Cursor<'_>, open: &Line) -> Result<(), ScriptError> {
    open.no_more(2)?;
    table(cursor, open, &mut |cursor, line| {
        let name = cursor.ports.iter().find(|port| port.as_str() == line.text(1)).cloned();
        let name = name.ok_or_else(|| line.unknown(1, "port", cursor.port_names()))?;
        if line.verb() == "delete" {
            return Err(line.unknown(0, "command", "edit, end"));
        }
        let mut view = view(ha, &name);
        let closed = block(cursor, line, &FIELDS, &mut view, &PortView::default(), &mut |_, _, _| Ok(false))?;
        let view_has_ipv4 = view.peer.is_some();
        write_back(ha, &name, view).map_err(|problem| {
            let variable = if view_has_ipv4 { "peer-ip" } else { "peer-ip6" };
            let (line, column) = cursor.place(variable, name.as_str());
            ScriptError { line, column, problem }
        })?;
        Ok(closed)
    })
}

/// Writes `config interface`; heartbeat settings are written by their own variables.
pub(crate) fn print(config: &Config, printer: &mut Printer) {
    let full = printer.full;
    printer.block("config interface", "end", false, |printer| {
        for name in &config.ports {
            let view = PortView {
                port: config.ha.ports.get(name).cloned().unwrap_or_default(),
                ..PortView::default()
            };
            printer
                .entry(name.as_str(), full, |printer| printer.fields(&FIELDS, &view, &PortView::default()));
        }
    });
}

/// `set failover <port> {ignore|set|add|bridge} <address>`.
pub(crate) fn failover(ha: &mut Ha, values: &Values<'_>) -> Result<(), Bad> {
    let part = |range: std::ops::Range<usize>| Values {
        words: values.words.get(range).unwrap_or_default(),
        ports: values.ports,
    };
    let rest = part(2..values.words.len());
    let port = part(0..1).port()?;
    let action = part(1..2).choice(&ACTIONS[2..])?;
    let (monitor, neighbour) =
        ha.ports.get(&port).map_or((false, None), |port| (port.monitor, port.neighbour));
    if !action.carries() {
        let bare = rest.words.is_empty();
        return if bare {
            put(ha, port, HaPort { action, monitor, neighbour, ..HaPort::default() });
            Ok(())
        } else {
            Err(Bad::Refused)
        };
    }
    // An address of the other kind that was set for the same action stays: a port may have both.
    let before = ha.ports.get(&port).filter(|before| before.action == action);
    let mut set = HaPort { action, monitor, neighbour, ..before.cloned().unwrap_or_default() };
    match rest.parsed() {
        Ok(net) => set.virtual_ip6 = Some(net),
        Err(_) => set.virtual_ip = Some(rest.network()?),
    }
    put(ha, port, set);
    Ok(())
}

/// `set monitor-neighbour <port> <address>`.
pub(crate) fn neighbour(ha: &mut Ha, values: &Values<'_>) -> Result<(), Bad> {
    let [_, address] = values.words else { return Err(Bad::Refused) };
    let part = |words| Values { words, ports: values.ports };
    let name = part(&values.words[..1]).port()?;
    let neighbour = neighbour_of(&part(std::slice::from_ref(address)))?;
    let port = ha.ports.get(&name).cloned().unwrap_or_default();
    put(ha, name, HaPort { neighbour, ..port });
    Ok(())
}

/// `unset monitor-neighbour`: nobody is asked on any port.
pub(crate) fn no_neighbours(ha: &mut Ha) {
    ha.ports.values_mut().for_each(|port| port.neighbour = None);
    ha.ports.retain(|_, port| *port != HaPort::default());
}

fn neighbour_of(values: &Values<'_>) -> Result<Option<IpAddr>, Bad> {
    match values.parsed()? {
        IpAddr::V4(address) if address.is_unspecified() => Ok(None),
        IpAddr::V4(_) => values.address().map(|address| Some(IpAddr::V4(address))),
        IpAddr::V6(_) => values.address6_or_none().map(|address| address.map(IpAddr::V6)),
    }
}

fn view(ha: &Ha, name: &PortName) -> PortView {
    let link = (0..LINKS).find(|link| ha.links[*link].interface.as_ref() == Some(name));
    let port = ha.ports.get(name).cloned().unwrap_or_default();
    let set = link.map(|link| &ha.links[link]);
    PortView { port, link, peer: set.and_then(|set| set.peer), peer6: set.and_then(|set| set.peer6) }
}

fn write_back(ha: &mut Ha, name: &PortName, view: PortView) -> Result<(), Problem> {
    put(ha, name.clone(), view.port);
    for (index, link) in ha.links.iter_mut().enumerate() {
        let used = link.interface.as_ref() == Some(name);
        if view.link == Some(index) {
            link.interface = Some(name.clone());
            link.peer = if used { view.peer } else { view.peer.or(link.peer) };
            link.peer6 = if used { view.peer6 } else { view.peer6.or(link.peer6) };
        } else if used {
            *link = LinkSettings::default();
        }
    }
    let variable = match (view.peer, view.peer6) {
        (Some(_), _) => "peer-ip",
        (None, Some(_)) => "peer-ip6",
        (None, None) => return Ok(()),
    };
    if view.link.is_some() {
        return Ok(());
    }
    Err(Problem::Conflict {
        variable: variable.into(),
        why: format!("{name} is not a heartbeat port"),
        allowed: format!("{variable} together with heartbeat-status primary or secondary"),
    })
}

/// Keeps the map canonical: ports at their defaults are absent.
fn put(ha: &mut Ha, name: PortName, port: HaPort) {
    if port == HaPort::default() {
        ha.ports.remove(&name);
    } else {
        ha.ports.insert(name, port);
    }
}
