//! Configured and effective modes and the settings that are closed sets (`spec/ha.md` sections 1, 2 and 4).
//! Old names (master, slave) are accepted by the grammar in `config` and never printed.

use serde::{Deserialize, Serialize};

/// What the operator set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConfiguredMode {
    /// No HA.
    #[default]
    Off,
    /// Active-passive, preferred owner of the service.
    Primary,
    /// Active-passive, standby.
    Secondary,
    /// Config-only group, source of the configuration.
    ConfigPrimary,
    /// Config-only group, receiver of the configuration.
    ConfigSecondary,
}

impl ConfiguredMode {
    /// The name in the operator's syntax.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::ConfigPrimary => "config-primary",
            Self::ConfigSecondary => "config-secondary",
        }
    }
}

/// What the unit is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EffectiveMode {
    /// Takes no part.
    #[default]
    Off,
    /// Carries the service.
    Primary,
    /// Follows the primary, ready to take over.
    Secondary,
    /// Has failed and waits to be well again.
    Failed,
    /// Waits for a peer that reboots as planned.
    HoldOff,
    /// Gives its configuration to a config-only group.
    ConfigPrimary,
    /// Takes its configuration from a config-only group.
    ConfigSecondary,
}

impl EffectiveMode {
    /// The name as every status view prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Primary => "PRIMARY",
            Self::Secondary => "SECONDARY",
            Self::Failed => "FAILED",
            Self::HoldOff => "HOLD-OFF",
            Self::ConfigPrimary => "CONFIG-PRIMARY",
            Self::ConfigSecondary => "CONFIG-SECONDARY",
        }
    }
}

impl core::fmt::Display for EffectiveMode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a unit does after its own failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnFailure {
    /// Goes to `OFF`.
    Off,
    /// Recovers and takes its configured role back.
    RestoreRole,
    /// Recovers and stays secondary.
    #[default]
    BecomeSecondary,
}

/// What a planned reboot of the primary does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RebootAction {
    /// Orderly switch first.
    #[default]
    Switchover,
    /// The peer waits for the unit to come back.
    HoldOff,
}
