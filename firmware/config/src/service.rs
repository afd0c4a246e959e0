//! The checks of a unit and of its peer: `config service` inside `config system ha`, and the short forms `local-service`,
//! `remote-service`, `hard-drives-check` and `network-intf-check` (`spec/ha.md` section 2). Runs nothing.

use crate::cursor::{Cursor, Line};
use crate::error::ScriptError;
use crate::model::Ha;
use crate::printer::Printer;
use crate::variable::{Bad, Fields, Shown, Values, Variable, block, number, table};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A remote service's names: in `config service`, and in the short form, where [`HTTPS`] is another one for the last.
const REMOTE_NAMES: [(&str, &str); 4] =
    [("remote-smtp", "smtp"), ("remote-imap", "imap"), ("remote-pop", "pop"), ("remote-http", "http")];
/// Short form of `remote-http` with `protocol https`.
const HTTPS: &str = "https";
/// Values of `protocol`: whether TLS is spoken.
const PROTOCOLS: [(&str, bool); 2] = [("http", false), (HTTPS, true)];
/// Ports of the protocols (RFC 5321, 3501, 1939, 9110).
const REMOTE_PORTS: [u16; 4] = [25, 143, 110, 80];
/// A local check's names, the same way.
const LOCAL_NAMES: [(&str, &str); 2] = [("local-ports", "PORTS"), ("local-hd", "HD")];

const INTERVAL_DEFAULT_S: u16 = 120;
const TIMEOUT_DEFAULT_S: u16 = 30;
const RETRIES_DEFAULT: u8 = 3;
/// Interval of a local check that runs by its short form.
const SHORT_INTERVAL_DEFAULT_S: u16 = 10;

/// Which service of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemoteKind {
    /// SMTP.
    Smtp,
    /// IMAP.
    Imap,
    /// POP3.
    Pop,
    /// HTTP, or HTTPS if so set.
    Http,
}

impl RemoteKind {
    /// All of them, in index order.
    pub const ALL: [RemoteKind; 4] = [Self::Smtp, Self::Imap, Self::Pop, Self::Http];

    /// Name in `config service`.
    #[must_use]
    pub fn name(self) -> &'static str {
        REMOTE_NAMES[self as usize].0
    }
}

/// All settings of the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// Services of the peer, in the order of [`RemoteKind::ALL`].
    pub remote: [RemoteService; 4],
    /// `local-ports`, as set in `config service`.
    pub ports: LocalService,
    /// `local-hd`, as set in `config service`.
    pub drives: LocalService,
    /// `network-intf-check`: local-ports runs with `ports_short`.
    pub ports_on: bool,
    /// `hard-drives-check`: local-hd runs with `drives_short`.
    pub drives_on: bool,
    /// `local-service PORTS`: interval and retries of the short form.
    pub ports_short: (u16, u8),
    /// `local-service HD`.
    pub drives_short: (u16, u8),
    /// `remote-services-as-heartbeat`.
    pub as_heartbeat: bool,
}

/// One service of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteService {
    /// Between two runs, 1–3600 s.
    pub interval_s: u16,
    /// Longest run, 1–300 s.
    pub timeout_s: u16,
    /// Where it listens; 0.0.0.0 = nowhere.
    pub ip: Ipv4Addr,
    /// Its TCP port.
    pub port: u16,
    /// Spoken inside of TLS; only [`RemoteKind::Http`] can be.
    pub tls: bool,
    /// Failures in a row, 1–100.
    pub retries: u8,
    /// It runs.
    pub enabled: bool,
}

/// One check of the own unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalService {
    /// Between two runs, 1–3600 s.
    pub interval_s: u16,
    /// Failures in a row, 1–100.
    pub retries: u8,
    /// It runs with these values.
    pub enabled: bool,
}

/// A local check in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRules {
    /// Between two runs.
    pub interval: Duration,
    /// Failures in a row.
    pub retries: u8,
}

impl Services {
    /// The local-ports check in effect; `None` when it is off. It is on by `config service` or by `network-intf-check`; the values
    /// of the former count if it is on there.
    #[must_use]
    pub fn local_ports(&self) -> Option<LocalRules> {
        effective(&self.ports, self.ports_on, self.ports_short)
    }

    /// The local-hd check in effect, the same way with `hard-drives-check`.
    #[must_use]
    pub fn local_drives(&self) -> Option<LocalRules> {
        effective(&self.drives, self.drives_on, self.drives_short)
    }

    /// The enabled services of the peer.
    pub fn enabled(&self) -> impl Iterator<Item = (RemoteKind, &RemoteService)> {
        RemoteKind::ALL.into_iter().zip(&self.remote).filter(|(_, service)| service.enabled)
    }
}

impl Default for Services {
    fn default() -> Self {
        let short = (SHORT_INTERVAL_DEFAULT_S, RETRIES_DEFAULT);
        let local = LocalService { interval_s: INTERVAL_DEFAULT_S, retries: RETRIES_DEFAULT, enabled: false };
        Self {
            remote: REMOTE_PORTS.map(|port| RemoteService {
                interval_s: INTERVAL_DEFAULT_S,
                timeout_s: TIMEOUT_DEFAULT_S,
                ip: Ipv4Addr::UNSPECIFIED,
                port,
                tls: false,
                retries: RETRIES_DEFAULT,
                enabled: false,
            }),
            ports: local.clone(),
            drives: local,
            ports_on: true,
            drives_on: false,
            ports_short: short,
            drives_short: short,
            as_heartbeat: false,
        }
    }
}

const REMOTE: Fields<RemoteService> = Fields { variables: &REMOTE_VARIABLES };
const WEB: Fields<RemoteService> = Fields { variables: WEB_VARIABLES };
const LOCAL: Fields<LocalService> = Fields { variables: LOCAL_VARIABLES };

/// `remote-http` has one variable more.
const WEB_VARIABLES: &[Variable<RemoteService>] = &{
    let [interval, timeout, ip, port, retries, status] = REMOTE_VARIABLES;
    [interval, timeout, ip, port, PROTOCOL, retries, status]
};

const PROTOCOL: Variable<RemoteService> = Variable {
    name: "protocol",
    allowed: "http, https",
    set: |service, values| values.choice(&PROTOCOLS).map(|value| service.tls = value),
    reset: |service, default| service.tls = default.tls,
    show: |service| Shown::Set(if service.tls { HTTPS } else { "http" }.to_string()),
};

const REMOTE_VARIABLES: [Variable<RemoteService>; 6] = [
    Variable {
        name: "check-interval",
        allowed: "1 to 3600 seconds",
        set: |service, values| values.number(1..=3600).map(|value| service.interval_s = value),
        reset: |service, default| service.interval_s = default.interval_s,
        show: |service| Shown::Set(service.interval_s.to_string()),
    },
    Variable {
        name: "check-timeout",
        allowed: "1 to 300 seconds",
        set: |service, values| values.number(1..=300).map(|value| service.timeout_s = value),
        reset: |service, default| service.timeout_s = default.timeout_s,
        show: |service| Shown::Set(service.timeout_s.to_string()),
    },
    Variable {
        name: "ip",
        allowed: "an IPv4 address of a host, 0.0.0.0 for none",
        set: |service, values| ip(values).map(|value| service.ip = value),
        reset: |service, default| service.ip = default.ip,
        show: |service| Shown::Set(service.ip.to_string()),
    },
    Variable {
        name: "port",
        allowed: "1 to 65535",
        set: |service, values| values.number(1..=u16::MAX).map(|value| service.port = value),
        reset: |service, default| service.port = default.port,
        show: |service| Shown::Set(service.port.to_string()),
    },
    Variable {
        name: "retries",
        allowed: "1 to 100",
        set: |service, values| values.number(1..=100).map(|value| service.retries = value),
        reset: |service, default| service.retries = default.retries,
        show: |service| Shown::Set(service.retries.to_string()),
    },
    Variable {
        name: "status",
        allowed: "enable, disable",
        set: |service, values| values.switch().map(|value| service.enabled = value),
        reset: |service, default| service.enabled = default.enabled,
        show: |service| crate::ha::switch(service.enabled),
    },
];

const LOCAL_VARIABLES: &[Variable<LocalService>] = &[
    Variable {
        name: "check-interval",
        allowed: "1 to 3600 seconds",
        set: |service, values| values.number(1..=3600).map(|value| service.interval_s = value),
        reset: |service, default| service.interval_s = default.interval_s,
        show: |service| Shown::Set(service.interval_s.to_string()),
    },
    Variable {
        name: "retries",
        allowed: "1 to 100",
        set: |service, values| values.number(1..=100).map(|value| service.retries = value),
        reset: |service, default| service.retries = default.retries,
        show: |service| Shown::Set(service.retries.to_string()),
    },
    Variable {
        name: "status",
        allowed: "enable, disable",
        set: |service, values| values.switch().map(|value| service.enabled = value),
        reset: |service, default| service.enabled = default.enabled,
        show: |service| crate::ha::switch(service.enabled),
    },
];

/// Reads the block behind `config service`.
pub(crate) fn read(ha: &mut Ha, cursor: &mut Cursor<'_>, open: &Line) -> Result<(), ScriptError> {
    open.no_more(2)?;
    let default = Services::default();
    table(cursor, open, &mut |cursor, line| {
        let name = line.text(1);
        let remote = REMOTE_NAMES.iter().position(|(known, _)| *known == name);
        let services = &mut ha.services;
        let none = |_: &mut _, _: &mut Cursor<'_>, _: &Line| Ok(false);
        if line.verb() == "delete" {
            return Err(line.unknown(0, "command", "edit, end"));
        }
        match (remote, name) {
            (Some(at), _) => {
                let (target, default) = (&mut services.remote[at], &default.remote[at]);
                block(cursor, line, fields(at), target, default, &mut |_, _, _| Ok(false))
            }
            (None, "local-ports") => {
                block(cursor, line, &LOCAL, &mut services.ports, &default.ports, &mut { none })
            }
            (None, "local-hd") => {
                block(cursor, line, &LOCAL, &mut services.drives, &default.drives, &mut { none })
            }
            (None, _) => {
                let names = REMOTE_NAMES.iter().chain(&LOCAL_NAMES).map(|(name, _)| *name);
                Err(line.unknown(1, "service", names.collect::<Vec<_>>().join(", ")))
            }
        }
    })
}

/// Writes `config service`.
pub(crate) fn print(services: &Services, printer: &mut Printer) {
    let (full, default) = (printer.full, Services::default());
    printer.block("config service", "end", false, |printer| {
        for (at, (name, _)) in REMOTE_NAMES.iter().enumerate() {
            let (service, default) = (&services.remote[at], &default.remote[at]);
            printer.entry(name, full, |printer| printer.fields(fields(at), service, default));
        }
        let local = [(&services.ports, &default.ports), (&services.drives, &default.drives)];
        for ((name, _), (service, default)) in LOCAL_NAMES.iter().zip(local) {
            printer.entry(name, full, |printer| printer.fields(&LOCAL, service, default));
        }
    });
}

/// The variables of a remote service, by its index.
fn fields(at: usize) -> &'static Fields<RemoteService> {
    if at == RemoteKind::Http as usize { &WEB } else { &REMOTE }
}

/// What `local-service` takes.
pub(crate) const LOCAL_ALLOWED: &str = "{PORTS|HD} <interval 1 to 3600 seconds> <retries 1 to 100>";
/// What `remote-service` takes.
pub(crate) const REMOTE_ALLOWED: &str = "{smtp|pop|imap|http|https} <ip> <port> <interval 1 to 3600 seconds> \
    <wait 1 to 300 seconds> <retries 1 to 100>, {smtp|pop|imap|http|https} 0";

/// `set local-service {PORTS|HD} <interval> <retries>`.
pub(crate) fn local_short(ha: &mut Ha, values: &Values<'_>) -> Result<(), Bad> {
    let [name, interval, retries] = values.words else { return Err(Bad::Refused) };
    let short = (number(&interval.text, 1..=3600)?, number(&retries.text, 1..=100)?);
    match name.text.as_str() {
        "PORTS" => ha.services.ports_short = short,
        "HD" => ha.services.drives_short = short,
        _ => return Err(Bad::Refused),
    }
    Ok(())
}

/// `set remote-service {smtp|pop|imap|http|https} <ip> <port> <interval> <wait> <retries>`; `0` alone disables.
pub(crate) fn remote_short(ha: &mut Ha, values: &Values<'_>) -> Result<(), Bad> {
    let [name, rest @ ..] = values.words else { return Err(Bad::Refused) };
    let tls = name.text == HTTPS;
    let known = if tls { "http" } else { name.text.as_str() };
    let at = REMOTE_NAMES.iter().position(|(_, short)| *short == known).ok_or(Bad::Refused)?;
    let service = &mut ha.services.remote[at];
    match rest {
        [zero] if zero.text == "0" => service.enabled = false,
        [_, port, interval, wait, retries] => {
            *service = RemoteService {
                interval_s: number(&interval.text, 1..=3600)?,
                timeout_s: number(&wait.text, 1..=300)?,
                ip: Values { words: &rest[..1], ports: values.ports }.address()?,
                port: number(&port.text, 1..=u16::MAX)?,
                tls,
                retries: number(&retries.text, 1..=100)?,
                enabled: true,
            }
        }
        _ => return Err(Bad::Refused),
    }
    Ok(())
}

/// A local check's short form as it is printed.
pub(crate) fn shown_short(name: &str, (interval, retries): (u16, u8)) -> Shown {
    Shown::Set(format!("{name} {interval} {retries}"))
}

fn effective(service: &LocalService, on: bool, short: (u16, u8)) -> Option<LocalRules> {
    let own = service.enabled.then_some((service.interval_s, service.retries));
    let (interval, retries) = own.or(on.then_some(short))?;
    Some(LocalRules { interval: Duration::from_secs(interval.into()), retries })
}

fn ip(values: &Values<'_>) -> Result<Ipv4Addr, Bad> {
    if values.one()? == "0.0.0.0" { Ok(Ipv4Addr::UNSPECIFIED) } else { values.address() }
}
