//! What the decisions say about themselves: notes for the event log, reasons of modes, why something is not done. Only data; the
//! shell has the words.

use crate::{Check, Command, Evidence, Fault, FenceAnswer, Step, Verdict};
use twinpost_types::{EffectiveMode, LinkId};

/// What the event log is told. The shell renders the words; everything needed is in here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Note {
    /// Effective mode changed.
    ModeChanged {
        /// Before.
        from: EffectiveMode,
        /// After.
        to: EffectiveMode,
        /// Why.
        reason: Reason,
    },
    /// The verdict on the peer changed.
    Verdict {
        /// The new verdict.
        verdict: Verdict,
        /// What was known.
        evidence: Evidence,
    },
    /// A heartbeat link came up or went down.
    Link {
        /// Which.
        link: LinkId,
        /// Heartbeats arrive.
        up: bool,
    },
    /// Replication is moved to this link.
    ReplicationMoved(LinkId),
    /// Both units are connected and say different things of one copy: replication is connected anew.
    ViewsDiffer,
    /// A takeover was cancelled: the peer still serves the virtual IP.
    TakeoverCancelled,
    /// A stranger answers for a virtual IP that is about to be claimed; it is claimed all the same.
    VipHeldByStranger {
        /// Whose address to look for.
        mac: [u8; 6],
    },
    /// A step failed.
    StepFailed {
        /// Which.
        step: Step,
        /// How.
        fault: Fault,
    },
    /// Fence question answered.
    FenceAnswered(FenceAnswer),
    /// An orderly switch ended.
    SwitchEnded {
        /// The peer is PRIMARY.
        done: bool,
    },
    /// Operator's verb refused.
    Refused {
        /// Which.
        command: Command,
        /// Why.
        why: Stay,
    },
    /// Waiting instead of acting.
    Waiting(Stay),
    /// Both units were PRIMARY; this one stays or gives way.
    Arbitrated {
        /// This unit stays PRIMARY.
        stays: bool,
    },
    /// A service of the PRIMARY fails its check: it is asked to step down.
    AskingToStepDown(Check),
    /// This unit steps down because of a failure.
    SteppingDown(Failure),
    /// A local check failed, but nobody could take over: this unit stays PRIMARY. Critical.
    FailureKept(Check),
    /// No heartbeat arrives, but a service of the peer answers: nothing is taken over.
    HeartbeatLostPeerServes,
    /// The peer reboots as planned, and this unit waits for it; `false` when that time is over.
    HoldOff(bool),
    /// The copies diverged: what only this unit holds is passed on before replication may overwrite it.
    HandingOver,
    /// All of it was confirmed; the own copy follows the PRIMARY's again.
    HandedOver,
}

/// Why a unit gives up the role for its own failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An own check failed.
    Check(Check),
    /// The peer asked: a service of this unit failed its check, seen from there.
    AskedByPeer,
}

/// Why a unit does not (yet) take or leave a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Looks for its peer for one threshold after boot.
    LookingForPeer,
    /// Own data may be stale; waits for the peer or `force-primary`.
    DataMayBeStale,
    /// Own data is Inconsistent (resynchronisation not finished) or never was synchronised.
    DataInconsistent,
    /// Own data is Outdated.
    DataOutdated,
    /// Peer's data is not up to date: a switch would lose mail.
    PeerNotCurrent,
    /// No peer is heard.
    NoPeer,
    /// A volume is missing or unreadable.
    VolumeMissing,
    /// The volumes of the two units diverged; an operator must decide.
    Diverged,
    /// Too many role changes in an hour.
    Latched,
    /// Another plan is running.
    Busy,
    /// Not in the right mode for this verb.
    WrongMode,
    /// The primary still serves the virtual IP although no heartbeat arrives.
    PeerServes,
    /// This unit itself is cut off from the service network: the peer may well serve there.
    CutOff,
    /// HA is off.
    HaOff,
    /// Went to `OFF` by on-failure; an operator restarts it.
    StoppedByFailure,
    /// An own check fails.
    CheckFails,
    /// Waits for the peer's planned reboot.
    HoldOff,
    /// Passes its mail on before its copy is overwritten.
    HandingOver,
    /// A switch waits until replication is whole again, so that what was delivered can be recorded for the other unit.
    SwitchWaits,
}

/// Why the effective mode changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Boot.
    Boot,
    /// As configured, the peer is not PRIMARY.
    AsConfigured,
    /// The peer is PRIMARY.
    PeerIsPrimary,
    /// Takeover after a verdict.
    Takeover,
    /// The peer handed over.
    HandedOver,
    /// An orderly switch by an operator.
    Switch,
    /// Lost the arbitration.
    GaveWay,
    /// An own failure.
    OwnFailure,
    /// An operator's verb.
    Operator,
    /// The other unit failed to take over; the role was taken again.
    TookBack,
    /// The peer reboots as planned and asked this unit to wait.
    PeerReboots,
    /// The peer did not come back from its planned reboot in time.
    HoldOffEnded,
}
