//! `config domain`: protected domains with their next hop, local domains with their mailboxes.

use crate::cursor::{Closed, Cursor, Line};
use crate::error::{Problem, ScriptError, shown};
use crate::model::{Config, DOMAINS_MAX, Domain, RELAY_PORT_DEFAULT, USERS_MAX};
use crate::printer::Printer;
use crate::value::{DomainName, Host, Password, UserName};
use crate::variable::{Fields, Shown, Variable, block, table};
use crate::words::quoted;
use std::collections::BTreeMap;

/// One domain while its entry is read; becomes a [`Domain`] at its end or is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    local: bool,
    host: Option<Host>,
    port: u16,
    users: BTreeMap<UserName, Password>,
}

const FIELDS: Fields<Draft> = Fields {
    variables: &[
        Variable {
            name: "type",
            allowed: "relay, local",
            set: |draft, values| {
                values.choice(&[("relay", false), ("local", true)]).map(|local| draft.local = local)
            },
            reset: |draft, default| draft.local = default.local,
            show: |draft| Shown::Set(if draft.local { "local" } else { "relay" }.into()),
        },
        Variable {
            name: "relay-host",
            allowed: "an IPv4 address or a host name",
            set: |draft, values| values.parsed().map(|host| draft.host = Some(host)),
            reset: |draft, _| draft.host = None,
            show: |draft| {
                draft.host.as_ref().map_or(Shown::Unset("none".into()), |host| Shown::Set(host.to_string()))
            },
        },
        Variable {
            name: "relay-port",
            allowed: "1 to 65535",
            set: |draft, values| values.number(1..=u16::MAX).map(|port| draft.port = port),
            reset: |draft, default| draft.port = default.port,
            show: |draft| Shown::Set(draft.port.to_string()),
        },
    ],
};

const USER: Fields<Option<Password>> = Fields {
    variables: &[Variable {
        name: "password",
        allowed: "1 to 64 printable ASCII characters",
        set: |password, values| values.parsed().map(|value| *password = Some(value)),
        reset: |password, _| *password = None,
        show: |password| {
            let text = password.as_ref().map(|password| quoted(password.expose()));
            text.map_or(Shown::Unset("none".into()), Shown::Set)
        },
    }],
};

/// Reads the block behind `config domain`.
pub(crate) fn read(config: &mut Config, cursor: &mut Cursor<'_>, open: &Line) -> Result<(), ScriptError> {
    open.no_more(2)?;
    table(cursor, open, &mut |cursor, line| {
        let name: DomainName = line
            .text(1)
            .parse()
            .map_err(|_| bad_name(line, "letters, digits, hyphens and dots, such as example.test"))?;
        if line.verb() == "delete" {
            let known = config.domains.remove(&name).is_some();
            return if known { Ok(Closed::Next) } else { Err(line.unknown(1, "domain", names(config))) };
        }
        if config.domains.len() >= DOMAINS_MAX && !config.domains.contains_key(&name) {
            return Err(line.error(1, Problem::Limit { what: "domains", max: DOMAINS_MAX }));
        }
        let others: usize = config.domains.iter().filter(|(n, _)| **n != name).map(|(_, d)| users(d)).sum();
        let mut draft = config.domains.get(&name).map_or_else(Draft::default, Draft::from);
        let closed =
            block(cursor, line, &FIELDS, &mut draft, &Draft::default(), &mut |draft, cursor, line| {
                sub(draft, others, cursor, line)
            })?;
        let domain = draft.finish().map_err(|problem| line.error(1, problem))?;
        config.domains.insert(name, domain);
        Ok(closed)
    })
}

/// Writes `config domain`.
pub(crate) fn print(config: &Config, printer: &mut Printer) {
    printer.block("config domain", "end", false, |printer| {
        for (name, domain) in &config.domains {
            let draft = Draft::from(domain);
            printer.entry(name.as_str(), true, |printer| {
                printer.fields(&FIELDS, &draft, &Draft::default());
                printer.block("config user", "end", false, |printer| {
                    for (user, password) in &draft.users {
                        let password = Some(password.clone());
                        printer.entry(user.as_str(), true, |printer| printer.fields(&USER, &password, &None));
                    }
                });
            });
        }
    });
}

/// `config user` inside a domain.
fn sub(draft: &mut Draft, others: usize, cursor: &mut Cursor<'_>, open: &Line) -> Result<bool, ScriptError> {
    if open.verb() != "config" {
        return Ok(false);
    }
    if open.text(1) != "user" {
        return Err(open.unknown(1, "section", "user"));
    }
    open.no_more(2)?;
    table(cursor, open, &mut |cursor, line| {
        let name: UserName = line.text(1).parse().map_err(|_| {
            bad_name(line, "1 to 64 letters, digits, hyphens, underscores, and dots between them")
        })?;
        if line.verb() == "delete" {
            let known = draft.users.remove(&name).is_some();
            return if known {
                Ok(Closed::Next)
            } else {
                Err(line.unknown(1, "user", "users of this domain"))
            };
        }
        if others + draft.users.len() >= USERS_MAX && !draft.users.contains_key(&name) {
            return Err(line.error(1, Problem::Limit { what: "users", max: USERS_MAX }));
        }
        let mut password = draft.users.get(&name).cloned();
        let closed = block(cursor, line, &USER, &mut password, &None, &mut |_, _, _| Ok(false))?;
        let password = password.ok_or_else(|| {
            let why = format!("user {name} has no password");
            line.error(1, conflict("password", why, "set password with 1 to 64 printable ASCII characters"))
        })?;
        draft.users.insert(name, password);
        Ok(closed)
    })?;
    Ok(true)
}

fn users(domain: &Domain) -> usize {
    match domain {
        Domain::Relay { .. } => 0,
        Domain::Local { users } => users.len(),
    }
}

/// The first few domains: messages stay short.
fn names(config: &Config) -> String {
    let names: Vec<_> = config.domains.keys().map(DomainName::as_str).take(3).collect();
    match config.domains.len() {
        0 => "none is configured".into(),
        all if all > names.len() => format!("{} and {} more", names.join(", "), all - names.len()),
        _ => names.join(", "),
    }
}

fn bad_name(line: &Line, allowed: &str) -> ScriptError {
    let (variable, value) = (line.verb().to_string(), shown(line.text(1)));
    line.error(1, Problem::Value { variable, value, allowed: allowed.into() })
}

fn conflict(variable: &str, why: String, allowed: &str) -> Problem {
    Problem::Conflict { variable: variable.into(), why, allowed: allowed.into() }
}

impl Draft {
    fn finish(self) -> Result<Domain, Problem> {
        match (self.local, self.host) {
            (false, Some(host)) if self.users.is_empty() => Ok(Domain::Relay { host, port: self.port }),
            (false, Some(_)) => {
                Err(conflict("type", "users are for local domains".into(), "type local, or no users"))
            }
            (false, None) => Err(conflict(
                "relay-host",
                "a relayed domain needs its next hop".into(),
                "set relay-host, or set type local",
            )),
            (true, None) if self.port == RELAY_PORT_DEFAULT => Ok(Domain::Local { users: self.users }),
            (true, None) => {
                Err(conflict("relay-port", "a local domain has no next hop".into(), "unset relay-port"))
            }
            (true, Some(_)) => {
                Err(conflict("relay-host", "a local domain has no next hop".into(), "unset relay-host"))
            }
        }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self { local: false, host: None, port: RELAY_PORT_DEFAULT, users: BTreeMap::new() }
    }
}

impl From<&Domain> for Draft {
    fn from(domain: &Domain) -> Self {
        match domain {
            Domain::Relay { host, port } => Self { host: Some(host.clone()), port: *port, ..Self::default() },
            Domain::Local { users } => Self { local: true, users: users.clone(), ..Self::default() },
        }
    }
}
