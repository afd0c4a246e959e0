//! A variable as a row of a table: its names, what it takes, how it is set, put back and shown. Reads the blocks that
//! consist of such variables. The tables themselves are in `system`, `domain`, `ha`, `ha_ports` and `service`.

use crate::cursor::{Closed, Cursor, Line};
use crate::error::{Problem, ScriptError, shown};
use crate::value::{Ipv4Net, Ipv6Net, PortName, is_usable};
use crate::words::Word;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// No IPv6 address, as `spec/ha.md` section 2 writes it.
pub(crate) const NO_IPV6: &str = "::/0";

/// One variable of a `T`.
pub(crate) struct Variable<T: 'static> {
    /// Name as printed.
    pub name: &'static str,
    /// What it takes, in words; `{ports}` stands for the board's ports.
    pub allowed: &'static str,
    /// Sets it.
    pub set: fn(&mut T, &Values<'_>) -> Result<(), Bad>,
    /// Puts it back to the default.
    pub reset: fn(&mut T, &T),
    /// How it is printed.
    pub show: fn(&T) -> Shown,
}

/// A block of variables.
pub(crate) struct Fields<T: 'static> {
    pub variables: &'static [Variable<T>],
}

/// How a variable is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// `set name value`; the value is written as it must be read, quotes included.
    Set(String),
    /// `unset name`, with the effective value as a comment; only in the full form.
    Unset(String),
    /// A short form of other variables; never printed.
    Never,
}

/// Why a value is refused; the words around it are added by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Not one of the allowed values.
    Refused,
    /// A good value that this release does not act on; what is allowed instead.
    NotAvailable(String),
}

/// The words behind the variable's name.
pub(crate) struct Values<'a> {
    pub words: &'a [Word],
    pub ports: &'a [PortName],
}

impl Values<'_> {
    /// The only value.
    pub fn one(&self) -> Result<&str, Bad> {
        match self.words {
            [word] => Ok(&word.text),
            _ => Err(Bad::Refused),
        }
    }

    /// The only value, parsed.
    pub fn parsed<V: FromStr>(&self) -> Result<V, Bad> {
        self.one()?.parse().map_err(|_| Bad::Refused)
    }

    /// A number in digits within a range.
    pub fn number<N: FromStr + PartialOrd>(&self, range: RangeInclusive<N>) -> Result<N, Bad> {
        number(self.one()?, range)
    }

    /// One of the names.
    pub fn choice<V: Copy>(&self, names: &[(&str, V)]) -> Result<V, Bad> {
        let given = self.one()?;
        names.iter().find(|(name, _)| *name == given).map(|(_, value)| *value).ok_or(Bad::Refused)
    }

    /// `enable` or `disable`.
    pub fn switch(&self) -> Result<bool, Bad> {
        self.choice(&[("enable", true), ("disable", false)])
    }

    /// A port of the board.
    pub fn port(&self) -> Result<PortName, Bad> {
        let given = self.one()?;
        self.ports.iter().find(|port| port.as_str() == given).cloned().ok_or(Bad::Refused)
    }

    /// An address that a host can have.
    pub fn address(&self) -> Result<Ipv4Addr, Bad> {
        self.parsed().and_then(|address| if is_usable(address) { Ok(address) } else { Err(Bad::Refused) })
    }

    /// An address with prefix length or dotted mask that a host can have in its subnet.
    pub fn network(&self) -> Result<Ipv4Net, Bad> {
        let net = match self.words {
            [one] => one.text.parse(),
            [address, mask] => Ipv4Net::from_mask(&address.text, &mask.text),
            _ => return Err(Bad::Refused),
        };
        net.ok().filter(|net| is_usable(net.address()) && net.is_host(net.address())).ok_or(Bad::Refused)
    }

    /// As [`Values::network`], where `0.0.0.0/0` means none.
    pub fn network_or_none(&self) -> Result<Option<Ipv4Net>, Bad> {
        let texts: Vec<_> = self.words.iter().map(|word| word.text.as_str()).collect();
        match texts[..] {
            ["0.0.0.0/0"] | ["0.0.0.0", "0.0.0.0"] => Ok(None),
            _ => self.network().map(Some),
        }
    }

    /// An IPv6 address with prefix length that a host can have in its subnet; `::/0` means none.
    pub fn network6_or_none(&self) -> Result<Option<Ipv6Net>, Bad> {
        if self.one()? == NO_IPV6 { Ok(None) } else { self.parsed().map(Some) }
    }

    /// An IPv6 address that a host can have; `::` means none.
    pub fn address6_or_none(&self) -> Result<Option<Ipv6Addr>, Bad> {
        let address: Ipv6Addr = self.parsed()?;
        if address.is_unspecified() {
            return Ok(None);
        }
        Ipv6Net::new(address, 128).map(|net| Some(net.address())).ok_or(Bad::Refused)
    }

    /// All words with single blanks.
    pub fn joined(&self) -> String {
        let texts: Vec<_> = self.words.iter().map(|word| word.text.as_str()).collect();
        texts.join(" ")
    }
}

/// A number in digits (no sign) within a range.
pub(crate) fn number<N: FromStr + PartialOrd>(text: &str, range: RangeInclusive<N>) -> Result<N, Bad> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|value| digits && range.contains(value));
    value.ok_or(Bad::Refused)
}

/// Reads `set` and `unset` lines up to `end` (or `next`, in an entry). `other` gets all other lines and says whether it knew
/// them.
pub(crate) fn block<T>(
    cursor: &mut Cursor<'_>,
    open: &Line,
    fields: &Fields<T>,
    target: &mut T,
    default: &T,
    other: &mut dyn FnMut(&mut T, &mut Cursor<'_>, &Line) -> Result<bool, ScriptError>,
) -> Result<Closed, ScriptError> {
    let entry = if open.verb() == "edit" { open.text(1) } else { "" };
    loop {
        let line = cursor.within(open)?;
        match line.verb() {
            "set" | "unset" => assign(cursor, &line, 1, entry, fields, target, default)?,
            "end" => return line.no_more(1).map(|()| Closed::End),
            "next" if open.verb() == "edit" => return line.no_more(1).map(|()| Closed::Next),
            _ if other(target, cursor, &line)? => {}
            _ if open.verb() == "edit" => {
                return Err(line.unknown(0, "command", "set, unset, config, next, end"));
            }
            _ => return Err(line.unknown(0, "command", "set, unset, config, edit, end")),
        }
    }
}

/// Reads `edit` and `delete` lines up to `end`; `entry` reads one entry or deletes it.
pub(crate) fn table(
    cursor: &mut Cursor<'_>,
    open: &Line,
    entry: &mut dyn FnMut(&mut Cursor<'_>, &Line) -> Result<Closed, ScriptError>,
) -> Result<(), ScriptError> {
    loop {
        let line = cursor.within(open)?;
        match line.verb() {
            "end" => return line.no_more(1),
            "edit" | "delete" => {
                line.no_more(2)?;
                if entry(cursor, &line)? == Closed::End {
                    return Ok(());
                }
            }
            _ => return Err(line.unknown(0, "command", "edit, delete, end")),
        }
    }
}

/// Carries out `set` or `unset`; the variable's name is the word with index `at`.
pub(crate) fn assign<T>(
    cursor: &mut Cursor<'_>,
    line: &Line,
    at: usize,
    entry: &str,
    fields: &Fields<T>,
    target: &mut T,
    default: &T,
) -> Result<(), ScriptError> {
    let name = line.text(at);
    let values = Values { words: line.words.get(at + 1..).unwrap_or_default(), ports: &cursor.ports };
    let (allowed, result) = if let Some(variable) = fields.variables.iter().find(|v| v.name == name) {
        if line.verb() == "unset" {
            (variable.reset)(target, default);
            return line.no_more(at + 1);
        }
        (variable.allowed, (variable.set)(target, &values))
    } else {
        return Err(line.unknown(at, "variable", fields.names()));
    };
    match result {
        Ok(()) => cursor.remember(name, entry, line, at + 1),
        Err(bad) => return Err(refusal(cursor, line, at, allowed, bad)),
    }
    Ok(())
}

fn refusal(cursor: &Cursor<'_>, line: &Line, at: usize, allowed: &str, bad: Bad) -> ScriptError {
    let variable = line.text(at).to_string();
    let values = Values { words: line.words.get(at + 1..).unwrap_or_default(), ports: &[] };
    let value = match () {
        () if values.words.is_empty() => "nothing".into(),
        () if variable == "password" => "the value (not shown)".into(),
        () => shown(&values.joined()),
    };
    let allowed = allowed.replace("{ports}", &cursor.port_names());
    let problem = match bad {
        Bad::Refused => Problem::Value { variable, value, allowed },
        Bad::NotAvailable(instead) => Problem::NotAvailable { variable, value, allowed: instead },
    };
    line.error(at + 1, problem)
}

impl<T> Fields<T> {
    /// All names, for the list of what is allowed.
    pub fn names(&self) -> String {
        let mut names: Vec<_> = self.variables.iter().map(|v| v.name).collect();
        // A variable that is printed on two lines has two rows.
        names.dedup();
        names.join(", ")
    }
}
