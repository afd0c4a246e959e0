//! The boot as data: phases in order, what each does and what happens when it fails (`spec/appliance.md` section 3).
//! `init --plan` prints it. Pure; the executors are `initrd.rs` and `boot.rs`.

use core::fmt;

/// One step of the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What the executor does.
    pub step: Step,
    /// Short name on the console.
    pub name: &'static str,
    /// What it does, for people.
    pub does: &'static str,
    /// What happens when it fails.
    pub on_failure: OnFailure,
}

/// Steps that the executors know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// proc, sys, dev of the initrd.
    KernelTrees,
    /// Kernel command line.
    CommandLine,
    /// Drivers of the disk and the root.
    DiskModules,
    /// Root partition of the slot and its hash tree.
    Verity,
    /// Mount, move, exec.
    SwitchRoot,
    /// tmpfs and folders.
    Mounts,
    /// Board by DMI.
    Board,
    /// Kernel settings.
    Settings,
    /// Hardware watchdog.
    Watchdog,
    /// Other modules.
    Modules,
    /// Partitions of the first boot.
    Partitions,
    /// State partition.
    State,
    /// Log partition.
    Log,
    /// Ports.
    Network,
    /// Supervision.
    Services,
}

/// What a failed phase leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// One line on the console, reboot after 10 s; the boot loader's try counter moves on to the other slot.
    OtherSlot,
    /// One line on the console and an alarm of this name for the operator; the boot goes on.
    Alarm(&'static str),
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherSlot => f.write_str("reboot after 10 s, the boot loader tries the other slot"),
            Self::Alarm(name) => write!(f, "alarm {name}, go on"),
        }
    }
}

const fn phase(step: Step, name: &'static str, does: &'static str, on_failure: OnFailure) -> Phase {
    Phase { step, name, does, on_failure }
}

/// In the initrd.
pub const INITRD: &[Phase] = &[
    phase(Step::KernelTrees, "kernel-trees", "mount proc, sys and dev", OnFailure::OtherSlot),
    phase(Step::CommandLine, "command-line", "slot and root hash from the boot loader", OnFailure::OtherSlot),
    phase(Step::DiskModules, "disk-modules", "drivers of the board's disks, dm-verity", OnFailure::OtherSlot),
    phase(Step::Verity, "verity", "find root-<slot>, check its hash tree, map it", OnFailure::OtherSlot),
    phase(Step::SwitchRoot, "switch-root", "mount the root, free the initrd", OnFailure::OtherSlot),
];

/// As PID 1 of the verified root.
pub const ROOT: &[Phase] = &[
    phase(Step::Mounts, "mounts", "run, tmp, var, cgroups", OnFailure::OtherSlot),
    phase(Step::Board, "board", "choose the board by DMI", OnFailure::OtherSlot),
    phase(Step::Settings, "settings", "kernel and network settings", OnFailure::Alarm("settings")),
    phase(Step::Watchdog, "watchdog", "arm the hardware watchdog, 30 s", OnFailure::Alarm("watchdog")),
    phase(Step::Modules, "modules", "file system, replication, board's devices", OnFailure::Alarm("modules")),
    phase(Step::Partitions, "partitions", "make what the first boot makes", OnFailure::Alarm("partitions")),
    phase(Step::State, "state", "mount /state, made on the first boot", OnFailure::Alarm("state")),
    phase(Step::Log, "log", "mount /log, made on the first boot", OnFailure::Alarm("log")),
    phase(Step::Network, "network", "lo, port names from the board", OnFailure::Alarm("ports")),
    phase(Step::Services, "services", "start and supervise", OnFailure::OtherSlot),
];

/// The printed plan.
#[must_use]
pub fn text() -> String {
    let mut text = String::new();
    for (title, phases) in [("initrd", INITRD), ("root", ROOT)] {
        text += &format!("{title}\n");
        for (number, phase) in phases.iter().enumerate() {
            text += &format!(
                "  {:2} {:<13} {:<46} if it fails: {}\n",
                number + 1,
                phase.name,
                phase.does,
                phase.on_failure
            );
        }
    }
    text += "services\n";
    for service in crate::service::TABLE {
        text += &format!(
            "     {:<13} {:<46} if it dies: again after 0.1 s doubling to 30 s\n",
            service.name, service.program
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_phase_is_printed() {
        let text = text();
        let all: Vec<_> = INITRD.iter().chain(ROOT).collect();
        for (index, phase) in all.iter().enumerate() {
            assert!(text.contains(phase.does), "{}", phase.name);
            assert!(all[..index].iter().all(|other| other.name != phase.name && other.step != phase.step));
        }
    }

    #[test]
    fn nothing_before_the_verified_root_is_forgiven_and_no_data_partition_stops_the_boot() {
        assert!(INITRD.iter().all(|phase| phase.on_failure == OnFailure::OtherSlot));
        for step in [Step::Partitions, Step::State, Step::Log, Step::Network, Step::Watchdog] {
            let phase = ROOT.iter().find(|phase| phase.step == step).expect("in the plan");
            assert!(matches!(phase.on_failure, OnFailure::Alarm(_)));
        }
    }
}
