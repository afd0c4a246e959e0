//! HA settings of a scenario (`set <variable> <value>`) as the decisions take them. Knows the variables of `spec/ha.md` section 2 that
//! change decisions; others are refused, since they would silently do nothing here.

use std::time::Duration;
use twinpost_ha::{Check, Settings};
use twinpost_types::{ConfiguredMode, LINKS, OnFailure, RebootAction, UnitId};

/// Settings of the pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairSettings {
    /// Both units.
    pub units: [Settings; 2],
    /// What the shells' own checks do, in the order of `Check::ALL`.
    pub checks: Checks,
}

/// How long a check must fail before it is told, in the order of `Check::ALL`; `None` = the check is off.
pub type Checks = [Option<Duration>; Check::ALL.len()];

/// A setting that the simulator does not know, or a value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulator does not understand `set {variable} {value}`; allowed: {allowed}")]
pub struct SettingError {
    /// Variable.
    pub variable: String,
    /// Value.
    pub value: String,
    /// What would be right.
    pub allowed: &'static str,
}

const VARIABLES: &str = "hb-lost-threshold 0.15-3600, hb-interval 10-1000, fast-detect enable|disable, on-failure off|restore-role|\
become-secondary, reboot-action switchover|hold-off, max-role-changes 1-20, hard-drives-check enable|disable, \
remote-services-as-heartbeat enable|disable, network-intf-check enable|disable, local-service PORTS|HD <interval> <retries>, \
remote-service smtp|pop|imap|http|https <ip> <port> <interval> <wait> <retries>";
/// The own mail service is told to have failed this long after it began to, a restart included.
const MAIL_LIMIT: Duration = Duration::from_secs(20);
/// A check that the short form enables: 10 s, 3 retries.
const SHORT_LIMIT: Duration = Duration::from_secs(30);

impl PairSettings {
    /// Reads `set` lines.
    ///
    /// # Errors
    /// [`SettingError`] for the first line that is not understood.
    pub fn read(lines: &[(String, String)]) -> Result<Self, SettingError> {
        let modes = [(1, ConfiguredMode::Primary), (2, ConfiguredMode::Secondary)];
        let mut pair =
            Self { units: modes.map(|(unit, mode)| defaults(unit, mode)), checks: [None; Check::ALL.len()] };
        pair.checks[Check::LocalMail as usize] = Some(MAIL_LIMIT);
        let mut interval = None;
        for (variable, value) in lines {
            let refuse =
                || SettingError { variable: variable.clone(), value: value.clone(), allowed: VARIABLES };
            let mut seen = *pair.units.first().ok_or_else(refuse)?;
            match variable.as_str() {
                "hb-lost-threshold" => seen.threshold = seconds(value).ok_or_else(refuse)?,
                "hb-interval" => interval = Some(number(value, 10, 1000).ok_or_else(refuse)?),
                "fast-detect" => seen.fast_detect = switch(value).ok_or_else(refuse)?,
                "hard-drives-check" => {
                    pair.set(Check::LocalDrives, switch(value).ok_or_else(refuse)?.then_some(SHORT_LIMIT));
                }
                "network-intf-check" => {
                    // Only what a line of its own enables is checked: local-ports is off by default.
                    if !switch(value).ok_or_else(refuse)? {
                        pair.set(Check::LocalPorts, None);
                    }
                }
                "local-service" => {
                    let (check, limit) = local_service(value).ok_or_else(refuse)?;
                    pair.set(check, limit);
                }
                "remote-service" => {
                    let (check, limit) = remote_service(value).ok_or_else(refuse)?;
                    pair.set(check, limit);
                }
                "remote-services-as-heartbeat" => seen.remote_heartbeat = switch(value).ok_or_else(refuse)?,
                "max-role-changes" => {
                    seen.max_role_changes =
                        number(value, 1, 20).and_then(|n| u8::try_from(n).ok()).ok_or_else(refuse)?;
                }
                "on-failure" => {
                    seen.on_failure = match value.as_str() {
                        "off" => OnFailure::Off,
                        "restore-role" => OnFailure::RestoreRole,
                        "become-secondary" => OnFailure::BecomeSecondary,
                        _ => return Err(refuse()),
                    };
                }
                "reboot-action" => {
                    seen.reboot_action = match value.as_str() {
                        "switchover" => RebootAction::Switchover,
                        "hold-off" => RebootAction::HoldOff,
                        _ => return Err(refuse()),
                    };
                }
                _ => return Err(refuse()),
            }
            for unit in &mut pair.units {
                *unit = Settings { unit: unit.unit, mode: unit.mode, ..seen };
            }
        }
        for unit in &mut pair.units {
            unit.interval = interval.map_or_else(|| default_interval(unit), Duration::from_millis);
        }
        Ok(pair)
    }

    fn set(&mut self, check: Check, limit: Option<Duration>) {
        self.checks[check as usize] = limit;
    }
}

/// Defaults of `spec/ha.md` section 2 with both links and a gateway.
fn defaults(unit: u64, mode: ConfiguredMode) -> Settings {
    Settings {
        unit: UnitId(unit),
        mode,
        on_failure: OnFailure::default(),
        reboot_action: RebootAction::default(),
        threshold: Duration::from_secs(15),
        interval: Duration::from_millis(200),
        fast_detect: true,
        links: [true; LINKS],
        vips: 1,
        third_party: true,
        max_role_changes: 4,
        remote_heartbeat: false,
    }
}

/// min(1000 ms, threshold / 5), never over 200 ms with fast-detect.
fn default_interval(settings: &Settings) -> Duration {
    let most = Duration::from_millis(if settings.fast_detect { 200 } else { 1000 });
    (settings.threshold / 5).clamp(Duration::from_millis(10), most)
}

fn seconds(value: &str) -> Option<Duration> {
    let seconds: f64 = value.parse().ok()?;
    (0.15..=3600.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

fn number(value: &str, from: u64, to: u64) -> Option<u64> {
    value.parse().ok().filter(|number| (from..=to).contains(number))
}

/// `{PORTS|HD} <interval> <retries>`
fn local_service(value: &str) -> Option<(Check, Option<Duration>)> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let [service, interval, retries] = words.as_slice() else { return None };
    let check = match *service {
        "PORTS" => Check::LocalPorts,
        "HD" => Check::LocalDrives,
        _ => return None,
    };
    Some((check, limit(interval, retries)?))
}

/// `{smtp|pop|imap|http} <ip> <port> <interval> <wait> <retries>`
fn remote_service(value: &str) -> Option<(Check, Option<Duration>)> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let [service, _ip, _port, interval, _wait, retries] = words.as_slice() else { return None };
    let check = match *service {
        "smtp" => Check::RemoteSmtp,
        "imap" => Check::RemoteImap,
        "pop" => Check::RemotePop,
        "http" | "https" => Check::RemoteHttp,
        _ => return None,
    };
    Some((check, limit(interval, retries)?))
}

/// An interval of 0 disables.
fn limit(interval: &str, retries: &str) -> Option<Option<Duration>> {
    let seconds = number(interval, 0, 3600)? * number(retries, 1, 100)?;
    Some((seconds > 0).then(|| Duration::from_secs(seconds)))
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "enable" => Some(true),
        "disable" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Result<PairSettings, SettingError> {
        let lines: Vec<_> = lines.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        PairSettings::read(&lines)
    }

    #[test]
    fn the_interval_follows_the_threshold_unless_it_is_set() {
        let of = |lines: &[(&str, &str)]| read(lines).unwrap().units[1].interval.as_millis();
        assert_eq!(of(&[]), 200);
        assert_eq!(of(&[("hb-lost-threshold", "0.5")]), 100);
        assert_eq!(of(&[("fast-detect", "disable")]), 1000);
        assert_eq!(of(&[("hb-interval", "10"), ("hb-lost-threshold", "3")]), 10);
    }

    #[test]
    fn both_units_get_it_and_nonsense_is_refused() {
        let pair = read(&[("on-failure", "off"), ("hard-drives-check", "enable")]).unwrap();
        assert!(
            pair.units.iter().all(|unit| unit.on_failure == OnFailure::Off)
                && pair.checks[Check::LocalDrives as usize].is_some()
        );
        assert_ne!(pair.units[0].unit, pair.units[1].unit);
        for line in [("snmp", "x"), ("hb-interval", "5"), ("on-failure", "maybe"), ("fast-detect", "1")] {
            assert!(read(&[line]).is_err(), "{line:?}");
        }
    }
}
