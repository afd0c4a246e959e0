//! Turns the notes of the decisions into the words of the event log: a stable event name and one line with the
//! evidence. Decides nothing. `spec/ha.md` sections 5 and 10.

use crate::checks;
use twinpost_ha::{Command, Evidence, Failure, FenceAnswer, Note, Reason, Stay, Step, Verdict};
use twinpost_types::LinkId;

/// The event's stable name and its line.
#[must_use]
pub fn note(note: &Note) -> (&'static str, String) {
    match note {
        Note::ModeChanged { from, to, reason: why } => ("mode", format!("{from} -> {to}: {}", reason(*why))),
        Note::Verdict { verdict, evidence: known } => ("verdict", format!("peer is {}: {}", verdict_word(*verdict), evidence(known))),
        Note::Link { link, up: true } => ("heartbeat-up", format!("{link}: heartbeats arrive")),
        Note::Link { link, up: false } => ("heartbeat-down", format!("{link}: no heartbeat for three intervals")),
        Note::ReplicationMoved(link) => ("replication-moved", format!("replication runs over {link} from now on")),
        Note::ViewsDiffer => (
            "replication-anew",
            "both units are connected and see different states of the same copy: replication is connected anew".to_string(),
        ),
        Note::TakeoverCancelled => (
            "takeover-cancelled",
            "no heartbeat arrives, but the peer still answers and serves mail on the virtual IP: the links are broken, not the peer; \
             check the heartbeat cables"
                .to_string(),
        ),
        Note::VipHeldByStranger { mac } => (
            "virtual-ip-conflict",
            format!("another host answers for a virtual IP ({}); remove the address there", mac_words(*mac)),
        ),
        Note::StepFailed { step, fault } => ("step-failed", format!("{} failed ({fault:?})", step_words(*step))),
        Note::FenceAnswered(answer) => ("fence", fence_words(*answer).to_string()),
        Note::SwitchEnded { done: true } => ("switch-done", "the peer is PRIMARY; the orderly switch is complete".to_string()),
        Note::SwitchEnded { done: false } => ("switch-failed", "the peer did not take the role; this unit takes it again".to_string()),
        Note::Refused { command, why } => ("refused", format!("{} refused, nothing was changed: {}", command_words(*command), stay(*why))),
        Note::Waiting(why) => ("waiting", stay(*why).to_string()),
        Note::Arbitrated { stays: true } => ("arbitration", "both units were PRIMARY: this one stays".to_string()),
        Note::SteppingDown(failure) => ("stepping-down", format!("this unit gives up the role: {}", failure_words(*failure))),
        Note::AskingToStepDown(check) => (
            "asking-to-step-down",
            format!("{} fails on the PRIMARY, seen from here: the PRIMARY is asked to step down", checks::name(*check)),
        ),
        Note::FailureKept(check) => (
            "failure-kept",
            format!("critical: {} fails, and the role cannot be given away; this unit stays PRIMARY. Mend it, and see in get system ha status \
                 why the peer cannot take over; after too many role changes: diagnose system ha restart", checks::name(*check)),
        ),
        Note::HeartbeatLostPeerServes => (
            "heartbeat-lost",
            "heartbeat lost, peer alive on the service network: a service of the peer answers, nothing is taken over; check the heartbeat cables"
                .to_string(),
        ),
        Note::HoldOff(true) => ("hold-off", "the peer reboots as planned; this unit waits for it for at most 300 s".to_string()),
        Note::HoldOff(false) => ("hold-off", "the peer is not back after 300 s; this unit decides again".to_string()),
        Note::HandingOver => (
            "hand-over",
            "both units accepted mail while they were apart: what only this unit holds is passed to the PRIMARY before its copy follows again"
                .to_string(),
        ),
        Note::HandedOver => ("hand-over-done", "the PRIMARY holds all mail of this unit; its copy follows the PRIMARY's again".to_string()),
        Note::Arbitrated { stays: false } => ("arbitration", "both units were PRIMARY: this one gives way to the peer".to_string()),
    }
}

/// Evidence of a verdict in one line.
#[must_use]
pub fn evidence(e: &Evidence) -> String {
    let mut line = String::new();
    for link in LinkId::ALL {
        let i = link.index();
        let carrier = if e.carrier[i] { "carrier" } else { "no carrier" };
        let silence = e.silence_ms[i];
        if silence == u32::MAX {
            line.push_str(&format!("{link}: never heard, {carrier}; "));
        } else {
            line.push_str(&format!("{link}: silent {silence} ms, {carrier}; "));
        }
    }
    line.push_str(&format!("{} of {} kernel probes answered; ", e.probes_answered, e.probes_sent));
    line.push_str(if e.service_carrier {
        "own service port has carrier"
    } else {
        "own service port has no carrier"
    });
    line.push_str(if e.third_party {
        ", a third party answers there"
    } else {
        ", no third party answered there"
    });
    if let Some(late) = e.late_ms.filter(|late| *late > 0) {
        line.push_str(&format!("; its heartbeats had been up to {late} ms late"));
    }
    if e.gasp {
        line.push_str("; the peer said that it was leaving");
    }
    line
}

/// The verdict as status views print it.
#[must_use]
pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "unknown",
        Verdict::Alive => "alive",
        Verdict::Silent => "silent",
        Verdict::Gone => "gone",
        Verdict::Unresponsive => "unresponsive",
    }
}

/// A reason in words.
#[must_use]
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Boot => "started",
        Reason::AsConfigured => "as configured, and the peer is not PRIMARY",
        Reason::PeerIsPrimary => "the peer is PRIMARY",
        Reason::Takeover => "took over from the peer",
        Reason::HandedOver => "the peer handed over",
        Reason::Switch => "orderly switch",
        Reason::GaveWay => "both units were PRIMARY and the peer stays",
        Reason::OwnFailure => "own failure",
        Reason::Operator => "operator's command",
        Reason::TookBack => "the peer did not take the role",
        Reason::PeerReboots => "the peer reboots as planned",
        Reason::HoldOffEnded => "the peer did not come back from its planned reboot",
    }
}

/// Why nothing is done, with what the operator can do about it.
#[must_use]
pub fn stay(why: Stay) -> &'static str {
    match why {
        Stay::LookingForPeer => "looking for the peer on the heartbeat links",
        Stay::DataMayBeStale => {
            "the mail on this unit may be older than the peer's; waiting for the peer. If the peer is lost for good: execute ha force-primary"
        }
        Stay::DataInconsistent => {
            "the mail volumes are not synchronised yet; waiting for the resynchronisation to end"
        }
        Stay::DataOutdated => {
            "the mail on this unit is older than the peer's; waiting for the peer. If the peer is lost for good: execute ha force-primary"
        }
        Stay::PeerNotCurrent => {
            "the peer's mail volumes are not up to date; wait until get system ha status shows both as UpToDate"
        }
        Stay::NoPeer => {
            "no peer is heard on any heartbeat link; check cables, addresses and the HA password on both units"
        }
        Stay::VolumeMissing => {
            "a mail volume is missing or unreadable; see the alarms in get system ha status"
        }
        Stay::Diverged => {
            "both units hold mail that the other one lacks; nothing is discarded, the other one passes its mail on first"
        }
        Stay::SwitchWaits => {
            "the switch waits until replication is whole again, so that the other unit knows what was delivered; it is given up after 15 s"
        }
        Stay::HandingOver => "passing the mail that only this unit holds to the PRIMARY",
        Stay::CheckFails => {
            "a check of this unit fails, or failed less than 30 s ago, here or seen from the peer; see the checks and alarms in get system ha status"
        }
        Stay::HoldOff => "the peer reboots as planned; waiting for it for at most 300 s",
        Stay::StoppedByFailure => {
            "stopped by on-failure after an own failure; diagnose system ha restart rejoins"
        }
        Stay::Latched => "too many role changes within an hour; diagnose system ha restart clears this",
        Stay::Busy => "another role change is under way; try again when it has ended",
        Stay::WrongMode => "not possible in the present mode",
        Stay::PeerServes => {
            "the peer still serves mail although no heartbeat arrives; check the heartbeat cables"
        }
        Stay::CutOff => {
            "this unit's own service port is cut off, the peer may well serve there; check the cable of the service port"
        }
        Stay::HaOff => "HA is off; set mode primary or secondary in config system ha",
    }
}

/// A command as the operator types it.
#[must_use]
pub fn command_words(command: Command) -> &'static str {
    match command {
        Command::Failover => "diagnose system ha failover",
        Command::Restore => "diagnose system ha restore",
        Command::Restart => "diagnose system ha restart",
        Command::ForcePrimary => "execute ha force-primary",
        Command::Reboot => "execute reboot",
        Command::Shutdown => "execute shutdown",
    }
}

/// A step as the log names it.
#[must_use]
pub fn step_words(step: Step) -> String {
    match step {
        Step::StoreEpoch(epoch) => format!("storing epoch {}", epoch.0),
        Step::Fence => "fencing the peer's data".to_string(),
        Step::Promote => "promoting the mail volumes".to_string(),
        Step::PromoteForced => "promoting the mail volumes although they may be stale".to_string(),
        Step::Mount => "mounting the mail volumes".to_string(),
        Step::StartMail => "starting mail services".to_string(),
        Step::ClaimVips => "claiming the virtual IPs".to_string(),
        Step::DrainMail => "letting deliveries end and be recorded".to_string(),
        Step::StopMail => "stopping mail services".to_string(),
        Step::ReleaseVips => "releasing the virtual IPs".to_string(),
        Step::Unmount => "unmounting the mail volumes".to_string(),
        Step::Demote => "demoting the mail volumes".to_string(),
        Step::Initialise => "declaring the new pair's empty volumes equal".to_string(),
        Step::Connect(link) => format!("connecting replication over {link}"),
        Step::PassMail => "passing mail to the PRIMARY".to_string(),
        Step::ConnectDiscarding(link) => {
            format!("connecting replication over {link}, giving up the own copy")
        }
        Step::Disconnect => "ending replication in order".to_string(),
        Step::Outdate => "marking own data outdated".to_string(),
        Step::Reboot => "rebooting".to_string(),
        Step::PowerOff => "switching off".to_string(),
        Step::Reset => "resetting the machine".to_string(),
    }
}

fn failure_words(failure: Failure) -> String {
    match failure {
        Failure::Check(check) => format!("its check {} fails", checks::name(check)),
        Failure::AskedByPeer => "a service of it fails its check, seen from the peer".to_string(),
    }
}

fn mac_words(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn fence_words(answer: FenceAnswer) -> &'static str {
    match answer {
        FenceAnswer::PeerOutdated => "the peer has marked its data outdated: writes go on here alone",
        FenceAnswer::PeerDown => "the peer is down: writes go on here alone, its data counts as outdated",
        FenceAnswer::PeerPrimary => "the peer is PRIMARY with a newer epoch: writes stay frozen here",
        FenceAnswer::Undecided => "not decided: writes stay frozen until replication is connected again",
    }
}
