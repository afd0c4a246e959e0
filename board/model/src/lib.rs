//! The board model: what `board.toml` says about one kind of box, parsed into valid types, and the choice of a board
//! by DMI (`spec/appliance.md` section 7). Pure: reads no files and knows no Linux paths but names that a board
//! file quotes. Applying a board (loading modules, renaming ports) is `init`'s work.
//!
//! ```
//! let text = r#"
//! id = "example"
//! name = "Example box"
//! tier = "untested"
//! console = "ttyS0"
//! match = [{ product_name = "Example*" }]
//! ports = [{ label = "port1", address = "0000:00:03.0" }]
//! "#;
//! let board = twinpost_board::Board::parse(text).expect("valid");
//! assert_eq!(board.ports[0].label, "port1");
//! ```
#![forbid(unsafe_code)]

mod dmi;
mod modules;
mod parse;

pub use dmi::{Dmi, choose};
pub use modules::{Module, ROOT_DISK_MODULES, SYSTEM_MODULES};
pub use parse::BoardError;

/// Most ports of a board; the largest known box has eight.
pub const PORTS_MAX: usize = 8;
/// Most modules a board file may name.
pub const MODULES_MAX: usize = 64;
/// Most countdowns of a watchdog; chips have one or two.
pub const COUNTDOWNS_MAX: u32 = 2;
/// Longest board file, bytes.
pub const FILE_BYTES_MAX: usize = 16 * 1024;

/// One kind of box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Stable name: lower-case letters, digits, `-` and `_`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// How well it is tested.
    pub tier: Tier,
    /// Any of these makes the board fit; none = fits only as the last resort.
    pub matches: Vec<DmiMatch>,
    /// Ports that have a fixed place, in the order of the front panel. Empty = all in bus order.
    pub ports: Vec<Port>,
    /// Modules without which the root disk is not found; loaded in the initrd.
    pub disk_modules: Vec<String>,
    /// The other hardware modules; loaded after the root was switched.
    pub modules: Vec<String>,
    /// LED roles.
    pub leds: Vec<Led>,
    /// Hardware watchdogs, the best first: the first one that can be armed is used, without any a software one.
    pub watchdogs: Vec<Watchdog>,
    /// Operator's console, a name in `/dev`.
    pub console: String,
    /// A second operator's console on a screen and a keyboard, a name in `/dev`.
    pub screen: Option<String>,
    /// Machine console (harness), a name in `/dev`.
    pub machine_console: Option<String>,
    /// Named drive bays. Empty = the boot disk only.
    pub drives: Vec<Drive>,
}

/// How well a board is tested; never claims more than was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The project's own tests boot it in QEMU.
    Emulated,
    /// Tested on the hardware.
    Hardware,
    /// Written from documents only.
    Untested,
}

impl Tier {
    /// The word in `board.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Emulated => "emulated",
            Self::Hardware => "hardware",
            Self::Untested => "untested",
        }
    }
}

/// DMI strings that a board shows. Every given pattern must fit; `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DmiMatch {
    /// `/sys/class/dmi/id/sys_vendor`.
    pub sys_vendor: Option<String>,
    /// `/sys/class/dmi/id/product_name`.
    pub product_name: Option<String>,
    /// `/sys/class/dmi/id/board_name`.
    pub board_name: Option<String>,
}

/// A network port with a fixed place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Front-panel label, also the interface's name: `port1` to `port8`.
    pub label: String,
    /// Bus address as sysfs writes it, for instance `0000:00:10.0`.
    pub address: String,
}

/// An LED with a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// `status`, or another role that a board file defines.
    pub role: String,
    /// Name in `/sys/class/leds`; `*` stands for any text, the first in name order is taken.
    pub device: String,
}

/// A hardware watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Kernel modules in the order of loading, the driver last.
    pub modules: Vec<String>,
    /// What `/sys/class/watchdog/*/identity` says, `*` for any text; empty = the first one.
    pub identity: String,
    /// How many countdowns run out, one after the other, before it resets the box: 1 to [`COUNTDOWNS_MAX`].
    pub countdowns: u32,
}

/// A drive bay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Front-panel label.
    pub label: String,
    /// Bus address of the drive or its controller.
    pub address: String,
}

impl Board {
    /// Name in `/sys/class/leds` (with `*`) of the LED with this role.
    #[must_use]
    pub fn led(&self, role: &str) -> Option<&str> {
        self.leds.iter().find(|led| led.role == role).map(|led| led.device.as_str())
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text, also none.
#[must_use]
pub fn pattern_fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    if first.len() == pattern.len() {
        return rest.is_empty();
    }
    let tail = pattern.rsplit('*').next().unwrap_or("");
    let middle: Vec<&str> = parts.collect();
    for part in middle.iter().take(middle.len().saturating_sub(1)) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(pattern_fits("*", ""));
        assert!(pattern_fits("abc", "abc"));
        assert!(!pattern_fits("abc", "abcd"));
        assert!(pattern_fits("input*::scrolllock", "input0::scrolllock"));
        assert!(!pattern_fits("input*::scrolllock", "input0::numlock"));
        assert!(pattern_fits("Standard PC (Q35*", "Standard PC (Q35 + ICH9, 2009)"));
        assert!(pattern_fits("a*b*c", "a-b-b-c"));
        assert!(!pattern_fits("a*b*c", "a-c"));
        assert!(!pattern_fits("ab*ba", "aba"));
    }
}
