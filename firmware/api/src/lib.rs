//! The one typed interface between the supervisor and its faces: requests, replies, status and events. Pure; the
//! transport is one JSON value a line over the unix socket [`SOCKET`]. Faces know nothing else of the supervisor.
#![forbid(unsafe_code)]

pub mod date;

use serde::{Deserialize, Serialize};
use twinpost_types::{ConfiguredMode, EffectiveMode, Epoch, VolumeReport};

/// Where `had` listens. Requests up to [`LINE_BYTES_MAX`], one reply a request.
pub const SOCKET: &str = "/run/twinpost/api.sock";
/// Longest line in either direction, bytes.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// Longest burn-in, seconds; a longer one is asked for again.
pub const STRESS_SECONDS_MAX: u32 = 3600;

/// Most lines of the service log in one answer.
pub const LOG_LINES_MAX: u32 = 500;

/// What a face asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// Everything that `get system ha status` shows.
    Status,
    /// Event records with a number above `after`, oldest first, at most 500.
    Events {
        /// Last number already seen; 0 = from the oldest kept.
        after: u64,
    },
    /// The last lines that the services printed, the mail log among them (`diagnose system log`).
    Log {
        /// How many, 1–[`LOG_LINES_MAX`].
        lines: u32,
    },
    /// Orderly switch to the other unit (`diagnose system ha failover`).
    Failover,
    /// Both units back to their configured modes (`diagnose system ha restore`).
    Restore,
    /// Rejoin as configured (`diagnose system ha restart`).
    Restart,
    /// Take the role with data that may be stale (`execute ha force-primary`).
    ForcePrimary,
    /// Everything written so far onto the drives of both units (`diagnose system ha sync`).
    Sync,
    /// What was left behind, handed over or is being handed over (`diagnose system ha queue list`).
    QueueList,
    /// What became of the mail since this unit took the role (`diagnose system ha queue report`).
    QueueReport,
    /// Pass leftovers to the primary now (`diagnose system ha queue adopt`).
    QueueAdopt,
    /// Give leftovers up (`diagnose system ha queue discard confirm`).
    QueueDiscard {
        /// The operator said `confirm`.
        confirmed: bool,
    },
    /// Planned reboot.
    Reboot,
    /// Planned power-off.
    Shutdown,
    /// Set the wall clock of this unit (`execute date`); no decision depends on it.
    SetClock {
        /// Seconds since 1970, UTC.
        unix_s: u64,
    },
    /// Load this unit as a burn-in does (`diagnose debug stress`). One at a time; refused while one runs.
    Stress {
        /// What is loaded.
        kind: Stress,
        /// For how long, 1–[`STRESS_SECONDS_MAX`].
        seconds: u32,
    },
    /// Signal a service (`diagnose system process kill <service> <signal>`).
    Kill {
        /// Service name as init knows it.
        service: String,
        /// Signal number, 1–31.
        signal: u8,
    },
    /// Start or stop a service.
    Service {
        /// Service name as init knows it.
        service: String,
        /// True starts, false stops.
        start: bool,
    },
}

/// What a burn-in loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stress {
    /// Every processor, twice over.
    Cpu,
    /// The drive: writes, flushes and reads on the log partition.
    Io,
    /// Nearly all memory that is free.
    Memory,
}

/// What the supervisor answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum Reply {
    /// Status.
    Status(Box<Status>),
    /// Events.
    Events {
        /// Records in order.
        events: Vec<EventRecord>,
    },
    /// The service log.
    Log {
        /// Lines, oldest first: seconds since kernel start, service, text.
        lines: Vec<String>,
    },
    /// Leftovers.
    Queue(Box<Leftovers>),
    /// What became of the mail.
    Report(Box<MailReport>),
    /// Accepted; the outcome is in the event log.
    Accepted {
        /// One sentence for the operator.
        message: String,
    },
    /// Refused; nothing was changed.
    Refused {
        /// What was wrong and what is allowed.
        message: String,
    },
}

/// One record of the durable event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Number, grows by one, kept over reboots.
    pub seq: u64,
    /// Boot count of the unit when it happened.
    pub boot: u64,
    /// Microseconds since that boot.
    pub at_us: u64,
    /// Milliseconds since 1970 by the wall clock, for people only.
    pub wall_ms: u64,
    /// Stable name, for instance `takeover`, `heartbeat-down`, `verdict`.
    pub name: String,
    /// One line with the evidence.
    pub text: String,
}

/// Status of one unit and of what it knows of its peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Host name.
    pub host: String,
    /// Firmware version.
    pub version: String,
    /// Board id.
    pub board: String,
    /// Microseconds since boot when this was made.
    pub now_us: u64,
    /// Configured mode.
    pub configured: ConfiguredMode,
    /// Effective mode.
    pub effective: EffectiveMode,
    /// Since when, microseconds since boot.
    pub since_us: u64,
    /// Why: the last reason in words, or what is being waited for.
    pub why: String,
    /// Stored epoch.
    pub epoch: Epoch,
    /// Peer as last heard; `None` before the first valid heartbeat.
    pub peer: Option<PeerStatus>,
    /// Heartbeat links.
    pub links: Vec<LinkStatus>,
    /// Configuration of both units.
    #[serde(default)]
    pub config: ConfigStatus,
    /// The control channel to the other unit.
    #[serde(default)]
    pub control: ControlStatus,
    /// Encryption of replication.
    #[serde(default)]
    pub encryption: EncryptionStatus,
    /// Volumes in the order queue, data.
    pub volumes: Vec<VolumeReport>,
    /// Names of the volumes whose synchronisation is switched off: what is stored there is on one unit only.
    #[serde(default)]
    pub unsynchronised: Vec<String>,
    /// The server that mail data is on, instead of this unit; `None` while it is on the unit.
    #[serde(default)]
    pub nfs: Option<NfsStatus>,
    /// Virtual IPs and whether this unit holds them now.
    pub vips: Vec<VipStatus>,
    /// Mail services.
    pub mail: MailStatus,
    /// Checks that are configured, of this unit and of its peer.
    #[serde(default)]
    pub checks: Vec<CheckStatus>,
    /// Alarms in force, each one sentence that says what to do.
    pub alarms: Vec<String>,
    /// The last takeover on this unit.
    pub takeover: Option<Timeline>,
    /// Services as init reports them.
    pub services: Vec<ServiceStatus>,
    /// Heartbeat thread: worst lateness since start, microseconds.
    pub lateness_us_max: u64,
    /// Datagrams dropped by reason, since start.
    pub dropped: Vec<(String, u64)>,
    /// Resident memory of the supervisor and of init, KiB.
    pub memory_kib: (u64, u64),
    /// Microseconds from kernel start until the unit was ready for service; 0 = not yet.
    pub ready_us: u64,
}

/// Mail data on a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NfsStatus {
    /// The export, as `host:/folder`.
    pub export: String,
    /// This unit has it mounted: only the PRIMARY has.
    pub mounted: bool,
}

/// What is known of the peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its effective mode.
    pub effective: EffectiveMode,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its firmware.
    pub version: String,
    /// Milliseconds since the last valid heartbeat on any link.
    pub age_ms: u64,
    /// `alive`, `silent`, `gone`, `unresponsive`.
    pub verdict: String,
}

/// One heartbeat link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Port name.
    pub port: String,
    /// Valid heartbeats arrive within three intervals.
    pub up: bool,
    /// Carrier.
    pub carrier: bool,
    /// Heartbeats accepted.
    pub received: u64,
    /// Heartbeats missed.
    pub lost: u64,
    /// Replication runs over this link.
    pub replication: bool,
}

/// Revision and checksum of the configuration; the checksum covers what both units must have alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Of this unit; 0 = factory settings.
    pub revision: u64,
    /// Of this unit.
    pub checksum: u32,
    /// Revision and checksum that the other unit told last.
    pub peer: Option<(u64, u32)>,
}

/// The control channel to the other unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStatus {
    /// Heartbeat link that the last answer came over, counted from 1; `None` while there is no connection, or HA is off.
    pub link: Option<u8>,
    /// Why there is none.
    pub why: String,
}

/// Encryption of replication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionStatus {
    /// As configured. When on, nothing is replicated in clear.
    pub enabled: bool,
    /// For each configured heartbeat link, in order, while it is on: the other unit's key is in force.
    pub keyed: Vec<bool>,
}

/// One virtual IP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VipStatus {
    /// Address with prefix length.
    pub address: String,
    /// Port.
    pub port: String,
    /// This unit holds it.
    pub held: bool,
}

/// Mail services as the supervisor knows them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MailStatus {
    /// Postfix answers.
    pub smtp: bool,
    /// Dovecot answers.
    pub imap: bool,
    /// Files in the queue (incoming, active, deferred, hold); 0 while not mounted.
    pub queued: u64,
}

/// One check of this unit or of its peer (`spec/ha.md` sections 2 and 4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// `local-ports`, `local-hd`, `local-mail`, `remote-smtp`, `remote-imap`, `remote-pop`, `remote-http`.
    pub name: String,
    /// `good`, `failed`, `hung`.
    pub state: String,
    /// It runs in the present mode.
    pub runs: bool,
    /// The last result in words; empty before the first.
    pub last: String,
    /// When it was, microseconds since boot; 0 = never.
    pub last_us: u64,
    /// When the next run begins, microseconds since boot; 0 = one is under way, or it does not run.
    pub next_us: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Failures in a row that make it fail.
    pub retries: u8,
}

/// Phase times of one takeover, microseconds since boot; 0 = not reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Epoch taken.
    pub epoch: Epoch,
    /// Evidence in words.
    pub evidence: String,
    /// Verdict on the peer, or hand-over received.
    pub verdict_us: u64,
    /// Peer fenced (epoch durable, replication cut).
    pub fenced_us: u64,
    /// Volumes promoted.
    pub promoted_us: u64,
    /// Volumes mounted.
    pub mounted_us: u64,
    /// Mail services listening.
    pub services_us: u64,
    /// Virtual IPs claimed and announced.
    pub claimed_us: u64,
}

/// Mail that only one copy holds, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftovers {
    /// What can be said now, one sentence.
    pub state: String,
    /// Messages on this unit's copy that the primary may lack; 0 where the copy cannot be looked at.
    pub found: u64,
    /// The first of them, at most [`LEFTOVERS_MAX`].
    pub items: Vec<String>,
    /// The hand-over that goes on, or the last one: found and confirmed.
    pub passing: (u64, u64),
    /// Files taken from the other unit since this one is primary.
    pub taken: u64,
}

/// Most leftovers that are named.
pub const LEFTOVERS_MAX: usize = 200;

/// Reconciliation of mail since this unit took the role (`spec/ha.md` section 8): what was queued, handed over, delivered, at risk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailReport {
    /// Epoch of the role.
    pub epoch: u64,
    /// Messages in the queue when the role was taken.
    pub queued: u64,
    /// Of these, still queued now; the others were delivered or returned to their senders.
    pub still_queued: u64,
    /// Of `queued`, those that may have been under way to their next hop when the other unit ended: their delivery may have succeeded
    /// without a record, so that they may be delivered a second time.
    pub at_risk: u64,
    /// Of these, still queued now.
    pub at_risk_queued: u64,
    /// The first of them by name, at most [`AT_RISK_MAX`].
    pub listed: Vec<AtRisk>,
    /// Deliveries into mailboxes that were made but not recorded: recognised, and not repeated.
    pub recognised: u64,
    /// Messages of an interrupted hand-over that were completed with the takeover.
    pub completed: u64,
    /// Hand-overs that ended since.
    pub hand_overs: u64,
    /// Queue messages that were handed over by them.
    pub handed_queue: u64,
    /// Mailbox messages that were handed over.
    pub handed_mail: u64,
    /// Of all handed-over queue messages in the ledger, those still queued now.
    pub handed_queued: u64,
    /// Recipients of messages that both units held, marked as done because the other one had finished them.
    pub settled: u64,
}

/// A message that may be delivered a second time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtRisk {
    /// Queue id, the same in the logs of both units.
    pub id: String,
    /// Sender; empty for a bounce, or when the file could not be read.
    pub sender: String,
    /// Recipients that were open, the first ones, shortened.
    pub recipients: Vec<String>,
    /// Recipients that were open.
    pub open: u64,
    /// Still queued now.
    pub queued: bool,
}

/// Most messages at risk that are named.
pub const AT_RISK_MAX: usize = 200;

/// One supervised service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Name.
    pub name: String,
    /// `running`, `stopped`, `backing-off`, `failed`.
    pub state: String,
    /// Process id; 0 = none.
    pub pid: u32,
    /// Restarts since boot.
    pub restarts: u32,
}
