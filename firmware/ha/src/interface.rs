//! What goes into the decisions and what comes out: settings, events, actions. Only data.

use crate::{Note, Reason, Stay};
use core::time::Duration;
use twinpost_types::{
    ConfiguredMode, EffectiveMode, Epoch, Health, Instant, LinkId, OnFailure, RebootAction, Report, UnitId,
    VOLUMES, VolumeId, VolumeReport,
};

/// The settings that decisions depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This unit.
    pub unit: UnitId,
    /// Configured mode.
    pub mode: ConfiguredMode,
    /// What to do after an own failure.
    pub on_failure: OnFailure,
    /// What a planned reboot of the primary does.
    pub reboot_action: RebootAction,
    /// Silence on every link for this long = unresponsive; 0.15–3600 s.
    pub threshold: Duration,
    /// Time between heartbeats; 10–1000 ms.
    pub interval: Duration,
    /// Act on proof of death before the threshold.
    pub fast_detect: bool,
    /// Which heartbeat links are configured.
    pub links: [bool; twinpost_types::LINKS],
    /// Number of virtual IPs, at most `VIPS_MAX`.
    pub vips: usize,
    /// A third party (default gateway) is configured on the service network. Without one, condition (c) of fast-detect asks
    /// for the carrier of the service port only.
    pub third_party: bool,
    /// Role changes an hour before the unit latches.
    pub max_role_changes: u8,
    /// An answering remote service counts as a sign of life (`remote-services-as-heartbeat`). Only set when one is enabled.
    pub remote_heartbeat: bool,
}

/// A check of this unit or of its peer (`spec/ha.md` section 4). The shell runs it and counts; the decisions hear changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Carrier and neighbours of the monitored ports.
    LocalPorts,
    /// The drives under the volumes.
    LocalDrives,
    /// The own mail service; run while PRIMARY, after a restart of the service did not help.
    LocalMail,
    /// The peer's SMTP service.
    RemoteSmtp,
    /// The peer's IMAP service.
    RemoteImap,
    /// The peer's POP3 service.
    RemotePop,
    /// The peer's web service.
    RemoteHttp,
}

impl Check {
    /// All of them, in index order.
    pub const ALL: [Check; 7] = [
        Check::LocalPorts,
        Check::LocalDrives,
        Check::LocalMail,
        Check::RemoteSmtp,
        Check::RemoteImap,
        Check::RemotePop,
        Check::RemoteHttp,
    ];

    /// It looks at the peer.
    #[must_use]
    pub fn is_remote(self) -> bool {
        matches!(self, Self::RemoteSmtp | Self::RemoteImap | Self::RemotePop | Self::RemoteHttp)
    }
}

/// What a check has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CheckState {
    /// Passed, or not failed often enough, or not run.
    #[default]
    Good,
    /// Failed `retries` times in a row; good again only after as many passes.
    Failed,
    /// A drive does not answer at all: what waits for it may wait for ever.
    Hung,
}

/// Whom a neighbour probe asks. Probes go out on the port where the target lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeTarget {
    /// The peer's own address on the service network (from its heartbeats).
    PeerService,
    /// Virtual IP by index.
    Vip(u8),
    /// The peer's address on a heartbeat link.
    PeerHeartbeat(LinkId),
    /// The default gateway.
    ThirdParty,
}

/// Who answered for a virtual IP before it is claimed (RFC 5227).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipAnswer {
    /// Nobody answered for any of them.
    Nobody,
    /// The peer's MAC answers; `mail` tells whether its SMTP service sends a greeting there.
    Peer {
        /// SMTP greeting received on the virtual IP.
        mail: bool,
    },
    /// A stranger's MAC answers.
    Stranger([u8; 6]),
}

/// Operator's verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Orderly switch, on either unit.
    Failover,
    /// Both units back to their configured modes.
    Restore,
    /// Rejoin as configured.
    Restart,
    /// Take the role although the data may be stale.
    ForcePrimary,
    /// Planned reboot.
    Reboot,
    /// Planned power-off.
    Shutdown,
}

/// What the decisions are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The supervisor is up; durable state as read. `epoch` is the highest epoch ever stored here.
    Started {
        /// Stored epoch.
        epoch: Epoch,
    },
    /// Nothing new; a deadline has passed.
    Tick,
    /// A valid heartbeat was accepted on `link`.
    Heartbeat {
        /// Where.
        link: LinkId,
        /// From whom (for the tie break).
        from: UnitId,
        /// The boot of the sender is another one than before.
        rebooted: bool,
        /// What it says.
        report: Report,
    },
    /// Carrier of a heartbeat port changed (also told once at start).
    Carrier {
        /// Which link.
        link: LinkId,
        /// Carrier present.
        up: bool,
    },
    /// Carrier of the service port changed (also told once at start).
    ServiceCarrier {
        /// Carrier present.
        up: bool,
    },
    /// A neighbour answered a probe, or was heard by itself.
    ProbeAnswered {
        /// Who.
        target: ProbeTarget,
    },
    /// The answer to [`Action::ProbeVips`].
    VipsProbed(VipAnswer),
    /// Another host claims a virtual IP that this unit holds (ARP conflict).
    VipContested {
        /// True when it is the peer's MAC.
        by_peer: bool,
    },
    /// The lease of the virtual IPs ran out because this unit stalled: the kernel has taken them away.
    LeaseLost,
    /// The state of the volumes as the replication reports it; also once at start.
    Volumes([VolumeReport; VOLUMES]),
    /// Own health changed.
    Health(Health),
    /// A step has ended. Steps are run one at a time, in the order in which they were asked for.
    StepDone {
        /// Which.
        step: Step,
        /// How.
        result: Result<(), Fault>,
    },
    /// Replication lost its peer while promoted, or is about to be promoted alone, and asks what became of it; writes stall until
    /// [`Action::AnswerFence`].
    FenceAsked {
        /// Which volume.
        volume: VolumeId,
    },
    /// An operator's verb.
    Operator(Command),
    /// A check came to another state. `Good` is assumed at the start.
    Checked {
        /// Which.
        check: Check,
        /// How it is now.
        state: CheckState,
    },
    /// The answer to [`Action::AskRemote`]: a service of the peer passed its check.
    RemoteAnswered(bool),
    /// Replication found that both copies were written to while they were apart, and refuses to connect.
    SplitBrain,
}

/// Why a step failed. The words are in the shell's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused by the lower layer; nothing changed.
    Refused,
    /// Not done within its limit; it may still happen.
    TimedOut,
    /// Tried and failed.
    Failed,
    /// A part was done within the time; asked again, the step goes on from there.
    Unfinished,
}

/// One step of a plan. The shell runs it off the heartbeat path and answers with [`Event::StepDone`]. The decisions ask for one
/// step at a time. Every step is idempotent: what is already so is done, for a restarted supervisor asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Store this epoch durably.
    StoreEpoch(Epoch),
    /// Cut replication to the peer so that nothing more of it is accepted; the peer counts as outdated from here on.
    Fence,
    /// Promote both volumes. Fence questions asked meanwhile are answered by the decisions.
    Promote,
    /// Promote both volumes although their data may be old (operator's `force-primary`); Inconsistent data is refused here too.
    PromoteForced,
    /// Mount both volumes (made on them first if they are fresh).
    Mount,
    /// Start mail services and wait until they listen.
    StartMail,
    /// Claim all virtual IPs with a lease and announce them; repeat announcements until released.
    ClaimVips,
    /// Before an orderly switch: begin no new deliveries, and wait until what next hops answered is recorded where the other unit will read it.
    /// `Unfinished` = writes wait; deliveries go on as before.
    DrainMail,
    /// Stop mail services.
    StopMail,
    /// Release all virtual IPs.
    ReleaseVips,
    /// Flush and unmount.
    Unmount,
    /// Demote both volumes.
    Demote,
    /// First use of a new pair: declare both empty copies equal (both fresh and connected), so that no full resync is needed.
    Initialise,
    /// (Re)connect replication over this link.
    Connect(LinkId),
    /// End replication in order: a promoted peer goes on alone, and the own data counts as old from then on.
    Disconnect,
    /// Hand over: pass on every message of the own copy that the PRIMARY does not have, until all are confirmed durable there
    /// (`spec/ha.md` section 8). May end as `Unfinished` after a minute of progress.
    PassMail,
    /// (Re)connect replication over this link and give up what only the own copy holds.
    ConnectDiscarding(LinkId),
    /// Mark the own data outdated (the peer goes on alone).
    Outdate,
    /// Restart the machine, after the steps before it.
    Reboot,
    /// Switch the machine off, after the steps before it.
    PowerOff,
    /// Reset the machine at once, by the watchdog or the kernel: what it holds cannot be given up otherwise.
    Reset,
}

/// The answer to a fence question, as DRBD's exit codes mean it (drbd.conf(5), `fence-peer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceAnswer {
    /// 4: the peer's data was outdated successfully.
    PeerOutdated,
    /// 5: the peer is down or can never act; go on alone.
    PeerDown,
    /// 6: the peer is primary itself; this side must not go on.
    PeerPrimary,
    /// Any other: not decided; stay frozen until replication is connected again.
    Undecided,
}

/// What the shell shall do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Send a heartbeat on every link now, besides the regular ones.
    HeartbeatNow,
    /// Send one neighbour probe.
    Probe(ProbeTarget),
    /// Probe all virtual IPs for an owner: three ARP probes each, 100 ms apart; then, if the peer's MAC answered, its SMTP
    /// greeting with a limit of 2 s. Ends with [`Event::VipsProbed`].
    ProbeVips,
    /// Run every enabled remote check once, at most 5 s. Ends with [`Event::RemoteAnswered`].
    AskRemote,
    /// Run a step.
    Run(Step),
    /// Answer all fence questions that are open.
    AnswerFence(FenceAnswer),
    /// Announce the virtual IPs again at once.
    Announce,
    /// The effective mode changed: show it on the LED.
    Mode(EffectiveMode),
    /// Something to be written down, with its evidence (taken from [`crate::Ha`] by the shell when it writes).
    Note(Note),
}

/// The verdict on the peer (`spec/ha.md` section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Never heard since start.
    #[default]
    Unknown,
    /// A valid heartbeat on some link within three intervals.
    Alive,
    /// No heartbeat for three intervals, not yet decided.
    Silent,
    /// Proof of death (fast-detect), or a dying gasp.
    Gone,
    /// Silence for the threshold.
    Unresponsive,
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Silence on each link, ms.
    pub silence_ms: [u32; twinpost_types::LINKS],
    /// Carrier of each link.
    pub carrier: [bool; twinpost_types::LINKS],
    /// Probes sent to the peer's kernel, and how many were answered.
    pub probes_sent: u16,
    /// Answers of the peer's kernel.
    pub probes_answered: u16,
    /// Own service port has carrier.
    pub service_carrier: bool,
    /// The third party answered since the silence began.
    pub third_party: bool,
    /// Worst lateness of its heartbeats in the last minute, ms; `None` while too few have come.
    pub late_ms: Option<u32>,
    /// A dying gasp was received.
    pub gasp: bool,
}

/// Times of one way into the role, by the clock of the shell. `None` = not reached, or no step of this plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Epoch taken.
    pub epoch: Epoch,
    /// The verdict on the peer when the plan began.
    pub verdict: Verdict,
    /// What that verdict rested on.
    pub evidence: Evidence,
    /// Last heartbeat of the peer before the plan began.
    pub heard: Option<Instant>,
    /// Plan begun: the verdict was passed, or the hand-over was received.
    pub begun: Instant,
    /// Epoch durable.
    pub stored: Option<Instant>,
    /// Replication cut.
    pub fenced: Option<Instant>,
    /// Volumes promoted.
    pub promoted: Option<Instant>,
    /// Volumes mounted.
    pub mounted: Option<Instant>,
    /// Mail services listen.
    pub services: Option<Instant>,
    /// Virtual IPs claimed and announced: the plan is done.
    pub claimed: Option<Instant>,
}

/// What a status view shows of the decisions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Effective mode.
    pub effective: EffectiveMode,
    /// Since when.
    pub since: Instant,
    /// Why.
    pub reason: Reason,
    /// The verdict on the peer.
    pub verdict: Verdict,
    /// What it rests on, as of the last event.
    pub evidence: Evidence,
    /// What is being waited for, if anything.
    pub waiting: Option<Stay>,
    /// Highest epoch stored.
    pub epoch: Epoch,
    /// What the peer said last; `None` before the first heartbeat.
    pub peer: Option<Report>,
    /// Heartbeats arrive on this link.
    pub link_up: [bool; twinpost_types::LINKS],
    /// The link that replication uses or shall use.
    pub replication_link: Option<LinkId>,
    /// The last way into the role on this unit.
    pub takeover: Option<Timeline>,
    /// A plan (takeover, switch, giving up) is running.
    pub busy: bool,
    /// Too many role changes; automatic changes wait for `execute ha restart`.
    pub latched: bool,
}
