//! Variables of `spec/ha.md` section 2 that this release knows but does not act on. Their values are checked, then refused
//! unless they are the default: a setting that is accepted and not acted on would be a lie. A variable leaves this file when
//! the appliance acts on it.

use crate::cursor::Line;
use crate::error::{Problem, ScriptError};
use crate::variable::{Bad, Later, Values};

const SWITCH: &str = "enable, disable";

/// Of `config system ha`.
pub(crate) const HA: &[Later] = &[
    Later { name: "mail-data-sync", allowed: SWITCH, check: switch, default: &["enable"] },
    Later { name: "mailqueue-data-sync", allowed: SWITCH, check: switch, default: &["enable"] },
];

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
