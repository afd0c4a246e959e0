//! `config system ha`: the variables of `spec/ha.md` section 2 with their allowed values and old names, and the block
//! that holds them. Settings seen per port are in `ha_ports`, checks in `service`.

use crate::cursor::{Cursor, Line};
use crate::error::{Problem, ScriptError};
use crate::model::{Config, Ha, LinkSettings};
use crate::printer::Printer;
use crate::value::PortName;
use crate::variable::{Bad, Fields, NO_IPV6, Shown, Values, Variable, assign, block, number};
use crate::words::quoted;
use crate::{ha_ports, service};
use std::time::Duration;
use twinpost_types::{ConfiguredMode, OnFailure, RebootAction};

/// All variables of `config system ha`.
pub(crate) const FIELDS: Fields<Ha> = Fields { variables: VARIABLES };

const MODES: &[(&str, ConfiguredMode)] = &[
    ("off", ConfiguredMode::Off),
    ("primary", ConfiguredMode::Primary),
    ("secondary", ConfiguredMode::Secondary),
    ("master", ConfiguredMode::Primary),
    ("slave", ConfiguredMode::Secondary),
    ("config-primary", ConfiguredMode::ConfigPrimary),
    ("config-secondary", ConfiguredMode::ConfigSecondary),
    ("config-master", ConfiguredMode::ConfigPrimary),
    ("config-slave", ConfiguredMode::ConfigSecondary),
];

const ON_FAILURE: &[(&str, OnFailure)] = &[
    ("off", OnFailure::Off),
    ("restore-role", OnFailure::RestoreRole),
    ("become-secondary", OnFailure::BecomeSecondary),
    ("restore", OnFailure::RestoreRole),
    ("slave", OnFailure::BecomeSecondary),
];

const REBOOT_ACTION: &[(&str, RebootAction)] =
    &[("switchover", RebootAction::Switchover), ("hold-off", RebootAction::HoldOff)];

const VARIABLES: &[Variable<Ha>] = &[
    Variable {
        name: "mode",
        allowed: "off, primary, secondary, config-primary, config-secondary",
        set: |ha, values| set_mode(ha, values),
        reset: |ha, default| ha.mode = default.mode,
        show: |ha| Shown::Set(ha.mode.name().into()),
    },
    Variable {
        name: "on-failure",
        allowed: "off, restore-role, become-secondary",
        set: |ha, values| values.choice(ON_FAILURE).map(|value| ha.on_failure = value),
        reset: |ha, default| ha.on_failure = default.on_failure,
        show: |ha| name_of(ON_FAILURE, ha.on_failure),
    },
    Variable {
        name: "password",
        allowed: "1 to 64 printable ASCII characters",
        set: |ha, values| values.parsed().map(|value| ha.password = value),
        reset: |ha, default| ha.password = default.password.clone(),
        show: |ha| Shown::Set(quoted(ha.password.expose())),
    },
    Variable {
        name: "allow-default-password",
        allowed: "enable, disable",
        set: |ha, values| values.switch().map(|value| ha.allow_default_password = value),
        reset: |ha, default| ha.allow_default_password = default.allow_default_password,
        show: |ha| switch(ha.allow_default_password),
    },
    Variable {
        name: "hb-base-port",
        allowed: "1024 to 65532",
        set: |ha, values| values.number(1024..=65_532).map(|value| ha.base_port = value),
        reset: |ha, default| ha.base_port = default.base_port,
        show: |ha| Shown::Set(ha.base_port.to_string()),
    },
    Variable {
        name: "hb-lost-threshold",
        allowed: "0.15 to 3600 seconds, at most three digits behind the point",
        set: |ha, values| seconds(values.one()?).map(|value| ha.threshold = value),
        reset: |ha, default| ha.threshold = default.threshold,
        show: |ha| Shown::Set(seconds_text(ha.threshold)),
    },
    Variable {
        name: "hb-interval",
        allowed: "10 to 1000 milliseconds",
        set: |ha, values| {
            values.number(10..=1000).map(|value| ha.interval = Some(Duration::from_millis(value)))
        },
        reset: |ha, default| ha.interval = default.interval,
        show: |ha| match ha.interval {
            Some(interval) => Shown::Set(interval.as_millis().to_string()),
            None => Shown::Unset(format!("{} ms", ha.hb_interval().as_millis())),
        },
    },
    Variable {
        name: "fast-detect",
        allowed: "enable, disable",
        set: |ha, values| values.switch().map(|value| ha.fast_detect = value),
        reset: |ha, default| ha.fast_detect = default.fast_detect,
        show: |ha| switch(ha.fast_detect),
    },
    link_interface::<0>("heartbeat-1-interface"),
    link_ip::<0>("heartbeat-1-ip"),
    link_peer::<0>("heartbeat-1-peer"),
    link_ip6::<0>("heartbeat-1-ip6"),
    link_peer6::<0>("heartbeat-1-peer6"),
    link_interface::<1>("heartbeat-2-interface"),
    link_ip::<1>("heartbeat-2-ip"),
    link_peer::<1>("heartbeat-2-peer"),
    link_ip6::<1>("heartbeat-2-ip6"),
    link_peer6::<1>("heartbeat-2-peer6"),
    Variable {
        name: "failover",
        allowed: ha_ports::FAILOVER,
        set: ha_ports::failover,
        reset: |ha, default| ha.ports.clone_from(&default.ports),
        show: |_| Shown::Never,
    },
    Variable {
        name: "monitor-neighbour",
        allowed: ha_ports::NEIGHBOUR,
        set: ha_ports::neighbour,
        reset: |ha, _| ha_ports::no_neighbours(ha),
        show: |_| Shown::Never,
    },
    Variable {
        name: "reboot-action",
        allowed: "switchover, hold-off",
        set: |ha, values| values.choice(REBOOT_ACTION).map(|action| ha.reboot_action = action),
        reset: |ha, default| ha.reboot_action = default.reboot_action,
        show: |ha| name_of(REBOOT_ACTION, ha.reboot_action),
    },
    Variable {
        name: "mail-data-sync",
        allowed: "enable, disable",
        set: |ha, values| values.switch().map(|value| ha.mail_data_sync = value),
        reset: |ha, default| ha.mail_data_sync = default.mail_data_sync,
        show: |ha| switch(ha.mail_data_sync),
    },
    Variable {
        name: "mailqueue-data-sync",
        allowed: "enable, disable",
        set: |ha, values| values.switch().map(|value| ha.mailqueue_data_sync = value),
        reset: |ha, default| ha.mailqueue_data_sync = default.mailqueue_data_sync,
        show: |ha| switch(ha.mailqueue_data_sync),
    },
    Variable {
        name: "encryption",
        allowed: "enable, disable",
        set: |ha, values| values.switch().map(|value| ha.encryption = value),
        reset: |ha, default| ha.encryption = default.encryption,
        show: |ha| switch(ha.encryption),
    },
    Variable {
        name: "max-role-changes",
        allowed: "1 to 20 an hour",
        set: |ha, values| values.number(1..=20).map(|value| ha.max_role_changes = value),
        reset: |ha, default| ha.max_role_changes = default.max_role_changes,
        show: |ha| Shown::Set(ha.max_role_changes.to_string()),
    },
    Variable {
        name: "remote-services-as-heartbeat",
        allowed: "enable, disable",
        set: |ha, values| values.switch().map(|value| ha.services.as_heartbeat = value),
        reset: |ha, default| ha.services.as_heartbeat = default.services.as_heartbeat,
        show: |ha| switch(ha.services.as_heartbeat),
    },
    Variable {
        name: "hard-drives-check",
        allowed: "enable, disable",
        set: |ha, values| values.switch().map(|value| ha.services.drives_on = value),
        reset: |ha, default| ha.services.drives_on = default.services.drives_on,
        show: |ha| switch(ha.services.drives_on),
    },
    Variable {
        name: "network-intf-check",
        allowed: "enable, disable",
        set: |ha, values| values.switch().map(|value| ha.services.ports_on = value),
        reset: |ha, default| ha.services.ports_on = default.services.ports_on,
        show: |ha| switch(ha.services.ports_on),
    },
    // Two rows of one name: each line of the short form is printed for itself, whichever row reads it.
    Variable {
        name: "local-service",
        allowed: service::LOCAL_ALLOWED,
        set: service::local_short,
        reset: |ha, default| {
            ha.services.ports_short = default.services.ports_short;
            ha.services.drives_short = default.services.drives_short;
        },
        show: |ha| service::shown_short("PORTS", ha.services.ports_short),
    },
    Variable {
        name: "local-service",
        allowed: service::LOCAL_ALLOWED,
        set: service::local_short,
        reset: |_, _| (),
        show: |ha| service::shown_short("HD", ha.services.drives_short),
    },
    Variable {
        name: "remote-service",
        allowed: service::REMOTE_ALLOWED,
        set: service::remote_short,
        reset: |ha, default| ha.services.remote.clone_from(&default.services.remote),
        show: |_| Shown::Never,
    },
];

/// Reads the block behind `config system ha`.
pub(crate) fn read(draft: &mut Config, cursor: &mut Cursor<'_>, open: &Line) -> Result<(), ScriptError> {
    let default = Ha::default();
    block(cursor, open, &FIELDS, &mut draft.ha, &default, &mut |ha, cursor, line| {
        if line.verb() != "config" {
            return Ok(false);
        }
        match line.text(1) {
            "interface" => ha_ports::read(ha, cursor, line)?,
            "service" => service::read(ha, cursor, line)?,
            "member" => return Err(member(line)),
            _ => return Err(line.unknown(1, "section", "interface, service")),
        }
        Ok(true)
    })
    .map(|_| ())
}

/// Reads the older one-line form; the variable's name is the word with index 3.
pub(crate) fn read_line(draft: &mut Config, cursor: &mut Cursor<'_>, line: &Line) -> Result<(), ScriptError> {
    assign(cursor, line, 3, "", &FIELDS, &mut draft.ha, &Ha::default())
}

/// Writes `config system ha`.
pub(crate) fn print(config: &Config, printer: &mut Printer) {
    printer.block("config system ha", "end", false, |printer| {
        printer.fields(&FIELDS, &config.ha, &Ha::default());
        ha_ports::print(config, printer);
        service::print(&config.ha.services, printer);
    });
}

fn set_mode(ha: &mut Ha, values: &Values<'_>) -> Result<(), Bad> {
    match values.choice(MODES)? {
        ConfiguredMode::ConfigPrimary | ConfiguredMode::ConfigSecondary => {
            Err(Bad::NotAvailable("off, primary, secondary".into()))
        }
        mode => {
            ha.mode = mode;
            Ok(())
        }
    }
}

const fn link_interface<const LINK: usize>(name: &'static str) -> Variable<Ha> {
    Variable {
        name,
        allowed: "one of {ports}",
        set: |ha, values| values.port().map(|port| ha.links[LINK].interface = Some(port)),
        reset: |ha, _| ha.links[LINK].interface = None,
        show: |ha| {
            link_text(
                LINK,
                &ha.links[LINK],
                |l| l.interface.as_ref().map(PortName::to_string),
                "highest port",
            )
        },
    }
}

const fn link_ip<const LINK: usize>(name: &'static str) -> Variable<Ha> {
    Variable {
        name,
        allowed: "an IPv4 address of a host with its mask, such as 10.0.0.1/24",
        set: |ha, values| values.network().map(|net| ha.links[LINK].ip = Some(net)),
        reset: |ha, _| ha.links[LINK].ip = None,
        show: |ha| {
            let fallback = "the port's own address, else 10.0.0.1/24";
            link_text(LINK, &ha.links[LINK], |l| l.ip.map(|ip| ip.to_string()), fallback)
        },
    }
}

const fn link_peer<const LINK: usize>(name: &'static str) -> Variable<Ha> {
    Variable {
        name,
        allowed: "an IPv4 address of a host",
        set: |ha, values| values.address().map(|peer| ha.links[LINK].peer = Some(peer)),
        reset: |ha, _| ha.links[LINK].peer = None,
        show: |ha| link_text(LINK, &ha.links[LINK], |l| l.peer.map(|p| p.to_string()), "10.0.0.2"),
    }
}

const fn link_ip6<const LINK: usize>(name: &'static str) -> Variable<Ha> {
    Variable {
        name,
        allowed: "an IPv6 address of a host with prefix, such as fd00::1/64, or ::/0 for none",
        set: |ha, values| values.network6_or_none().map(|net| ha.links[LINK].ip6 = net),
        reset: |ha, _| ha.links[LINK].ip6 = None,
        show: |ha| Shown::Set(ha.links[LINK].ip6.map_or(NO_IPV6.into(), |net| net.to_string())),
    }
}

const fn link_peer6<const LINK: usize>(name: &'static str) -> Variable<Ha> {
    Variable {
        name,
        allowed: "an IPv6 address of a host, or :: for none",
        set: |ha, values| values.address6_or_none().map(|peer| ha.links[LINK].peer6 = peer),
        reset: |ha, _| ha.links[LINK].peer6 = None,
        show: |ha| Shown::Set(ha.links[LINK].peer6.map_or("::".into(), |peer| peer.to_string())),
    }
}

fn link_text(
    link: usize,
    settings: &LinkSettings,
    value: impl Fn(&LinkSettings) -> Option<String>,
    fallback: &str,
) -> Shown {
    let fallback = if link == 0 { fallback } else { "not used" };
    value(settings).map_or_else(|| Shown::Unset(fallback.into()), Shown::Set)
}

/// The first name of a value: the canonical one.
pub(crate) fn name_of<V: PartialEq>(names: &[(&str, V)], value: V) -> Shown {
    let name = names.iter().find(|(_, v)| *v == value).map(|(name, _)| *name);
    Shown::Set(name.unwrap_or_default().into())
}

pub(crate) fn switch(on: bool) -> Shown {
    Shown::Set(if on { "enable" } else { "disable" }.into())
}

/// Seconds with up to three digits behind the point, 0.15–3600.
fn seconds(text: &str) -> Result<Duration, Bad> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 3 {
        return Err(Bad::Refused);
    }
    let seconds: u64 = number(whole, 0..=3600)?;
    let millis: u64 = number(&format!("{fraction:0<3}"), 0..=999)?;
    let value = Duration::from_millis(seconds * 1000 + millis);
    let range = Duration::from_millis(150)..=Duration::from_secs(3600);
    if range.contains(&value) { Ok(value) } else { Err(Bad::Refused) }
}

fn seconds_text(value: Duration) -> String {
    let text = format!("{}.{:03}", value.as_secs(), value.subsec_millis());
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// `config member`: the list of a config-only group.
fn member(line: &Line) -> ScriptError {
    line.error(
        1,
        Problem::NotAvailable {
            variable: "config".into(),
            value: "\"member\"".into(),
            allowed: "interface, service; config-only groups come in a later release".into(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_their_fraction() {
        for (text, millis) in
            [("0.15", 150), ("15", 15_000), ("2.5", 2_500), ("3600", 3_600_000), ("1.001", 1001)]
        {
            let value = seconds(text).unwrap();
            assert_eq!((value.as_millis(), seconds_text(value).as_str()), (millis, text));
        }
        for bad in
            ["", ".5", "1.", "0.149", "3600.001", "1.2345", "-1", "+1", "1e3", "1,5", "99999999999999999999"]
        {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
