//! The whole script: what stands at the top level, all or none, and the way back to text.
//!
//! A script is read into a copy of the settings in force; the copy is checked as a whole (module `check`) and given back only
//! if every line and every relation is good.

use crate::cursor::{Cursor, Line};
use crate::error::{Problem, ScriptError};
use crate::model::{Config, LinkSettings};
use crate::printer::Printer;
use crate::{check, domain, ha, storage, system};

/// What may follow `config`.
const SECTIONS: &str = "system global, system interface, system route, system dns, system ha, domain, mailsetting storage config";
/// What may follow `set` at the top level.
const LINE_SECTIONS: &str = "system global, system route, system dns, system ha";

/// Reads a whole script on top of the factory settings of a board with these ports (front-panel order).
///
/// # Errors
/// The first thing that is wrong, with its place; nothing is applied then.
pub fn parse(script: &str, ports: &[&str]) -> Result<Config, ScriptError> {
    apply(&Config::for_board(ports), script)
}

/// As [`parse`], for bytes as they lie on a disk: what is not UTF-8 is refused with its place.
///
/// # Errors
/// As [`parse`].
pub fn parse_bytes(script: &[u8], ports: &[&str]) -> Result<Config, ScriptError> {
    match std::str::from_utf8(script) {
        Ok(script) => parse(script, ports),
        Err(error) => {
            let good = String::from_utf8_lossy(&script[..error.valid_up_to()]);
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let line = count(good.matches('\n').count()).saturating_add(1);
            let column = count(good.chars().rev().take_while(|c| *c != '\n').count()).saturating_add(1);
            let what = "this byte is not UTF-8 text; is this a configuration script?".into();
            Err(ScriptError { line, column, problem: Problem::Syntax { what, allowed: "UTF-8 text".into() } })
        }
    }
}

/// Reads a script on top of settings in force: what it does not mention stays.
///
/// # Errors
/// As [`parse`]; `base` stays in force then.
pub fn apply(base: &Config, script: &str) -> Result<Config, ScriptError> {
    let mut draft = base.clone();
    let ports: Vec<_> = base.ports.iter().map(AsRef::as_ref).collect();
    let mut cursor = Cursor::new(script, &ports)?;
    while let Some(line) = cursor.next()? {
        statement(&mut draft, &mut cursor, &line)?;
    }
    check::check(&draft).map_err(|conflict| conflict.locate(&cursor))?;
    Ok(draft)
}

/// The canonical script of what differs from the factory settings. Passwords are in it as they are.
#[must_use]
pub fn print(config: &Config) -> String {
    text(config, false)
}

/// As [`print`], defaults too.
#[must_use]
pub fn print_full(config: &Config) -> String {
    text(config, true)
}

/// CRC-32 of the part that is synchronised to the peer (`spec/ha.md` section 9): without configured mode, host name, port
/// addresses, heartbeat settings, service monitoring and the group's password.
#[must_use]
pub fn synchronised_checksum(config: &Config) -> u32 {
    let mut shared = config.clone();
    let own = crate::Ha::default();
    shared.ha.mode = own.mode;
    shared.ha.password = own.password;
    shared.ha.allow_default_password = own.allow_default_password;
    shared.ha.base_port = own.base_port;
    shared.ha.threshold = own.threshold;
    shared.ha.interval = own.interval;
    shared.ha.fast_detect = own.fast_detect;
    shared.ha.encryption = own.encryption;
    shared.ha.services = own.services;
    for port in shared.ha.ports.values_mut() {
        (port.monitor, port.neighbour) = (false, None);
    }
    shared.ha.links = [LinkSettings::default(), LinkSettings::default()];
    let mut printer = Printer::new(false);
    system::print_shared(&shared, &mut printer);
    domain::print(&shared, &mut printer);
    storage::print(&shared, &mut printer);
    ha::print(&shared, &mut printer);
    crc32fast::hash(printer.out.as_bytes())
}

fn text(config: &Config, full: bool) -> String {
    let mut printer = Printer::new(full);
    system::print_own(config, &mut printer);
    system::print_shared(config, &mut printer);
    domain::print(config, &mut printer);
    storage::print(config, &mut printer);
    ha::print(config, &mut printer);
    printer.out
}

/// One statement of the top level with all lines of its block.
fn statement(draft: &mut Config, cursor: &mut Cursor<'_>, line: &Line) -> Result<(), ScriptError> {
    let known = match (line.verb(), line.text(1), line.text(2)) {
        ("config", "domain", _) => domain::read(draft, cursor, line).map(|()| true)?,
        ("config", "mailsetting", _) => storage::read(draft, cursor, line).map(|()| true)?,
        ("config", "system", "ha") => {
            line.no_more(3)?;
            ha::read(draft, cursor, line).map(|()| true)?
        }
        ("config", "system", _) => {
            line.no_more(3)?;
            system::read(draft, cursor, line)?
        }
        ("set" | "unset", "system", "ha") => ha::read_line(draft, cursor, line).map(|()| true)?,
        ("set" | "unset", "system", _) => system::read_line(draft, cursor, line)?,
        ("config" | "set" | "unset", _, _) => false,
        _ => return Err(line.unknown(0, "command", "config, set, unset")),
    };
    let sections = if line.verb() == "config" { SECTIONS } else { LINE_SECTIONS };
    let index = if line.text(1) == "system" { 2 } else { 1 };
    if known { Ok(()) } else { Err(line.unknown(index, "section", sections)) }
}
