//! `board.toml` into a valid [`Board`]: syntax by the toml crate, then every rule that the types cannot say. Unknown
//! keys are errors, so that a spelling mistake in a board file is found when the board is built, not in the field.

use crate::{
    Board, COUNTDOWNS_MAX, DmiMatch, Drive, FILE_BYTES_MAX, Led, MODULES_MAX, PORTS_MAX, Port, Tier, Watchdog,
};
use serde::Deserialize;

/// Why a board file is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// Longer than [`FILE_BYTES_MAX`].
    #[error("board file has {bytes} bytes, at most {FILE_BYTES_MAX} are read")]
    Long {
        /// Its length.
        bytes: usize,
    },
    /// Not TOML, an unknown key or a missing one; the text names line and column.
    #[error("board file does not parse: {message}")]
    Syntax {
        /// Where and why.
        message: String,
    },
    /// A value breaks a rule.
    #[error("board file: {key} = {value:?}: {rule}")]
    Value {
        /// Key.
        key: &'static str,
        /// What it said.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
}

impl Board {
    /// Parses a board file.
    ///
    /// # Errors
    /// [`BoardError`] names the key and what is allowed.
    pub fn parse(text: &str) -> Result<Self, BoardError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(BoardError::Long { bytes: text.len() });
        }
        let file: File =
            toml::from_str(text).map_err(|error| BoardError::Syntax { message: error.to_string() })?;
        file.check()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    name: String,
    tier: String,
    console: String,
    screen: Option<String>,
    machine_console: Option<String>,
    #[serde(default, rename = "match")]
    matches: Vec<MatchFile>,
    #[serde(default)]
    ports: Vec<PlaceFile>,
    #[serde(default)]
    disk_modules: Vec<String>,
    #[serde(default)]
    modules: Vec<String>,
    #[serde(default)]
    leds: Vec<LedFile>,
    #[serde(default)]
    watchdogs: Vec<WatchdogFile>,
    #[serde(default)]
    drives: Vec<PlaceFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchFile {
    sys_vendor: Option<String>,
    product_name: Option<String>,
    board_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceFile {
    label: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LedFile {
    role: String,
    device: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchdogFile {
    modules: Vec<String>,
    #[serde(default)]
    identity: String,
    countdowns: Option<u32>,
}

impl File {
    fn check(self) -> Result<Board, BoardError> {
        let tier = match self.tier.as_str() {
            "emulated" => Tier::Emulated,
            "hardware" => Tier::Hardware,
            "untested" => Tier::Untested,
            _ => return Err(value("tier", &self.tier, "emulated, hardware or untested")),
        };
        word("id", &self.id)?;
        device("console", &self.console)?;
        if let Some(name) = &self.screen {
            device("screen", name)?;
        }
        if let Some(name) = &self.machine_console {
            device("machine_console", name)?;
        }
        let of_watchdogs = self.watchdogs.iter().flat_map(|watchdog| &watchdog.modules);
        let modules = self.disk_modules.iter().chain(&self.modules).chain(of_watchdogs);
        for name in modules.clone() {
            word("modules", name)?;
        }
        let modules = modules.count();
        if modules > MODULES_MAX {
            return Err(value("modules", &modules.to_string(), "at most 64"));
        }
        let ports: Vec<Port> =
            self.ports.into_iter().map(|p| Port { label: p.label, address: p.address }).collect();
        check_ports(&ports)?;
        Ok(Board {
            id: self.id,
            name: self.name,
            tier,
            matches: self.matches.into_iter().map(MatchFile::check).collect::<Result<_, _>>()?,
            ports,
            disk_modules: self.disk_modules,
            modules: self.modules,
            leds: self.leds.into_iter().map(LedFile::check).collect::<Result<_, _>>()?,
            watchdogs: self.watchdogs.into_iter().map(WatchdogFile::check).collect::<Result<_, _>>()?,
            console: self.console,
            screen: self.screen,
            machine_console: self.machine_console,
            drives: self.drives.into_iter().map(|d| Drive { label: d.label, address: d.address }).collect(),
        })
    }
}

impl MatchFile {
    fn check(self) -> Result<DmiMatch, BoardError> {
        if self.sys_vendor.is_none() && self.product_name.is_none() && self.board_name.is_none() {
            return Err(value("match", "", "names at least one of sys_vendor, product_name, board_name"));
        }
        Ok(DmiMatch {
            sys_vendor: self.sys_vendor,
            product_name: self.product_name,
            board_name: self.board_name,
        })
    }
}

impl WatchdogFile {
    fn check(self) -> Result<Watchdog, BoardError> {
        if self.modules.is_empty() {
            return Err(value("watchdogs.modules", "", "names at least the driver"));
        }
        let countdowns = self.countdowns.unwrap_or(1);
        if !(1..=COUNTDOWNS_MAX).contains(&countdowns) {
            return Err(value("watchdogs.countdowns", &countdowns.to_string(), "1 or 2"));
        }
        Ok(Watchdog { modules: self.modules, identity: self.identity, countdowns })
    }
}

impl LedFile {
    fn check(self) -> Result<Led, BoardError> {
        word("leds.role", &self.role)?;
        if self.device.is_empty() || self.device.contains('/') {
            return Err(value("leds.device", &self.device, "a name in /sys/class/leds"));
        }
        Ok(Led { role: self.role, device: self.device })
    }
}

fn check_ports(ports: &[Port]) -> Result<(), BoardError> {
    if ports.len() > PORTS_MAX {
        return Err(value("ports", &ports.len().to_string(), "at most 8 ports"));
    }
    for (index, port) in ports.iter().enumerate() {
        if port.label != format!("port{}", index + 1) {
            return Err(value("ports.label", &port.label, "port1, port2 … in the order of the front panel"));
        }
        if port.address.is_empty() || port.address.contains('/') {
            return Err(value("ports.address", &port.address, "a bus address as sysfs writes it"));
        }
        if ports[..index].iter().any(|other| other.address == port.address) {
            return Err(value("ports.address", &port.address, "every port has an address of its own"));
        }
    }
    Ok(())
}

fn word(key: &'static str, text: &str) -> Result<(), BoardError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > 32 || !text.chars().all(good) {
        return Err(value(key, text, "1 to 32 letters, digits, - and _"));
    }
    Ok(())
}

fn device(key: &'static str, text: &str) -> Result<(), BoardError> {
    if text.is_empty() || text.len() > 32 || !text.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(value(key, text, "a device name in /dev, for instance ttyS0"));
    }
    Ok(())
}

fn value(key: &'static str, value: &str, rule: &'static str) -> BoardError {
    BoardError::Value { key, value: value.to_owned(), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "id = \"a\"\nname = \"A\"\ntier = \"untested\"\nconsole = \"ttyS0\"\n";

    #[test]
    fn bad_files_are_named() {
        let cases = [
            ("tier2 = 1\n", "unknown field"),
            ("ports = [{ label = \"port2\", address = \"x\" }]\n", "in the order of the front panel"),
            (
                "ports = [{label=\"port1\",address=\"x\"},{label=\"port2\",address=\"x\"}]\n",
                "an address of its own",
            ),
            ("match = [{}]\n", "at least one of"),
            ("leds = [{ role = \"status\", device = \"../x\" }]\n", "a name in /sys/class/leds"),
            ("machine_console = \"../sda\"\n", "a device name in /dev"),
            ("modules = [\"a b\"]\n", "letters, digits"),
            ("screen = \"tty 1\"\n", "a device name in /dev"),
            ("[[watchdogs]]\nmodules = []\n", "at least the driver"),
            ("[[watchdogs]]\nmodules = [\"x\"]\ncountdowns = 0\n", "1 or 2"),
            ("[[watchdogs]]\nmodules = [\"../x\"]\n", "letters, digits"),
        ];
        for (extra, expected) in cases {
            let error = Board::parse(&format!("{BASE}{extra}")).expect_err(extra).to_string();
            assert!(error.contains(expected), "{extra}: {error}");
        }
        assert!(Board::parse(BASE).is_ok());
        assert!(matches!(Board::parse(&"#".repeat(FILE_BYTES_MAX + 1)), Err(BoardError::Long { .. })));
    }
}
