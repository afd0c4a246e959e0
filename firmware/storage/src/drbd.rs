//! The replicated volumes: DRBD 8.4 through `drbdsetup-84` and `drbdmeta`, each call with a hard time limit. Carries
//! out single verbs; which verb is right when is decided elsewhere (`spec/appliance.md` section 4, drbdsetup(8)).
//!
//! The module is loaded by init with `usermode_helper=/usr/lib/twinpost/drbd-helper`; one resource a volume.

mod arguments;
mod events;
mod monitor;
pub(crate) mod superblock;

use crate::partition::{self, Partition, PartitionError};
use crate::tool::{self, CommandError, Outcome};
use arguments::{Arguments, Call, drop_connection};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use twinpost_types::{DiskState, Replication, VOLUMES, VolumeId, VolumeReport};

/// Limit of a call that only talks to the kernel. Such calls take below 0.1 s under emulation.
const CALL: Duration = Duration::from_secs(5);
/// Limit of promotion: the fence question inside it may wait for a decision.
const PROMOTE: Duration = Duration::from_secs(30);
/// Limit of an orderly disconnect, which asks the peer; DRBD's own time limit is 0.9 s a message.
const DISCONNECT: Duration = Duration::from_secs(10);
/// Limit of writing metadata: a bitmap of 32 KiB a GiB.
const CREATE: Duration = Duration::from_secs(60);
/// Where the tools put their lock files; they do not make the folder.
const LOCKS: &str = "/var/lock";
/// Longest shared secret that DRBD takes, bytes (SHARED_SECRET_MAX is 64 with the terminating zero).
pub const SECRET_BYTES_MAX: usize = 63;

/// Where one volume's replication runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Own address on the heartbeat link.
    pub local: IpAddr,
    /// Peer's address there, of the same kind.
    pub peer: IpAddr,
    /// TCP port, the same on both units.
    pub port: u16,
}

impl Endpoint {
    /// Local and peer address as the tool takes them.
    fn addresses(self) -> (String, String) {
        let address = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => format!("ipv4:{ip}:{}", self.port),
            IpAddr::V6(ip) => format!("ipv6:[{ip}]:{}", self.port),
        };
        (address(self.local), address(self.peer))
    }
}

/// What is the same for both volumes.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Both units prove that they know it (HMAC-SHA-256) before they connect; at most [`SECRET_BYTES_MAX`] bytes, longer ones
    /// are cut. Derive it from the HA password; never the password itself.
    pub secret: Option<String>,
    /// Volumes that are not replicated: DRBD never sees them. They are promoted, demoted and connected by word only, and report
    /// what the replicated volume reports, since that one tells whether this unit may write. Not all of them.
    pub local: [bool; VOLUMES],
    /// Those of them that lie on a server: what is on their partition was left there, replicated or not, and is handed over.
    pub left: [bool; VOLUMES],
}

/// What [`Drbd::prepare`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Metadata was made now: the volume is new.
    pub created: bool,
}

/// The replicated volumes. Clones are the same volumes.
#[derive(Clone, Debug)]
pub struct Drbd {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    drbdsetup: PathBuf,
    drbdmeta: PathBuf,
    settings: Settings,
    /// This program asked for a connection and did not end it: a stopped one was stopped by DRBD.
    wanted: [AtomicBool; VOLUMES],
    /// The connection that this program made last: saves a call when it is to be cut.
    connections: [Mutex<Option<Endpoint>>; VOLUMES],
    /// The first MiB was zero when the volume was prepared, and nothing was received since.
    blank: [AtomicBool; VOLUMES],
    /// It could not be prepared: the kernel knows nothing of it, which must not look like "not told yet".
    unusable: [AtomicBool; VOLUMES],
}

impl Drbd {
    /// The volumes of this unit. Does nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let shared = Shared {
            drbdsetup: PathBuf::from("/usr/sbin/drbdsetup-84"),
            drbdmeta: PathBuf::from("/usr/sbin/drbdmeta"),
            settings,
            wanted: Default::default(),
            connections: Default::default(),
            blank: Default::default(),
            unusable: Default::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes metadata if the partition was never used, and attaches it. May be repeated after a restart of the supervisor.
    ///
    /// # Errors
    /// The partition is missing, carries foreign data, or cannot be read or attached; the text tells the operator what to do.
    pub async fn prepare(&self, volume: VolumeId) -> Result<Prepared, PrepareError> {
        let result = self.try_prepare(volume).await;
        self.shared.unusable[volume.index()].store(result.is_err(), Ordering::Relaxed);
        result
    }

    /// Whether this volume is not replicated.
    #[must_use]
    pub fn is_local(&self, volume: VolumeId) -> bool {
        self.shared.settings.local[volume.index()]
    }

    async fn try_prepare(&self, volume: VolumeId) -> Result<Prepared, PrepareError> {
        let Partition { device, .. } = partition::find(&format!("mail-{}", volume.name()))?;
        let looked_at = device.clone();
        let unreadable =
            |source| PrepareError::Unreadable { volume: volume.name(), device: device.clone(), source };
        // A drive that hangs holds a thread of the pool, not this task.
        let look = tokio::task::spawn_blocking(move || -> io::Result<_> {
            Ok((superblock::read(&looked_at)?, partition::is_fresh(&looked_at)?))
        });
        let (found, blank) = tokio::time::timeout(CALL, look)
            .await
            .map_err(|_| unreadable(io::Error::from(io::ErrorKind::TimedOut)))?
            .map_err(|error| unreadable(io::Error::other(error)))?
            .map_err(unreadable)?;
        if self.is_local(volume) {
            // Written to beside DRBD, its metadata would vouch for blocks that it has not seen.
            let left = self.shared.settings.left[volume.index()];
            let replicated = || PrepareError::Replicated { volume: volume.name(), device: device.clone() };
            return match found {
                Some(_) if !left => Err(replicated()),
                _ => Ok(Prepared { created: blank && !left }),
            };
        }
        let created = match found {
            Some(_) => false,
            None if blank => true,
            None => return Err(PrepareError::Foreign { volume: volume.name(), device }),
        };
        self.shared.blank[volume.index()].store(blank, Ordering::Relaxed);
        // A tool that misses it says so by itself.
        let _ = std::fs::create_dir_all(LOCKS);
        let arguments = Arguments::new(volume);
        if self.is_attached(volume).await? {
            return Ok(Prepared { created: false });
        }
        if created {
            self.drbdmeta(&arguments.create_metadata(&device), CREATE).await?;
        }
        self.drbdmeta(&arguments.apply_log(&device), CREATE).await?;
        self.drbdsetup(&arguments.new_resource(), CALL).await?;
        self.drbdsetup(&arguments.new_minor(), CALL).await?;
        self.drbdsetup(&arguments.attach(&device), CREATE).await?;
        Ok(Prepared { created })
    }

    /// Connects to the peer over `endpoint`; another connection of this volume is dropped first. Returns when DRBD began to
    /// try, not when the peer answered. A volume that is connected over `endpoint` already is left alone: when only the other volume
    /// has to be connected again, a promoted peer must not stall for this one.
    ///
    /// # Errors
    /// The tool's; see [`CommandError`].
    pub async fn connect(&self, volume: VolumeId, endpoint: Endpoint) -> Result<(), CommandError> {
        let call = Arguments::new(volume).connect(endpoint, self.shared.settings.secret.as_deref());
        self.connect_by(volume, endpoint, &call).await
    }

    /// As [`Drbd::connect`], but what only the own copy holds is given up if the copies have diverged. The volume must not be
    /// promoted.
    ///
    /// # Errors
    /// The tool's; see [`CommandError`].
    pub async fn connect_discarding(&self, volume: VolumeId, endpoint: Endpoint) -> Result<(), CommandError> {
        let call =
            Arguments::new(volume).connect_discarding(endpoint, self.shared.settings.secret.as_deref());
        self.connect_by(volume, endpoint, &call).await
    }

    /// Ends the connection in order: DRBD agrees with the peer, and a promoted side outdates the other one.
    ///
    /// # Errors
    /// The tool's; see [`CommandError`].
    pub async fn disconnect(&self, volume: VolumeId) -> Result<(), CommandError> {
        self.shared.wanted[volume.index()].store(false, Ordering::Relaxed);
        self.drop_connections(volume, false).await
    }

    /// Cuts the connection at once and agrees nothing: a promoted peer that still runs freezes its writes and asks its own
    /// supervisor. This is what fences a peer out of the data.
    ///
    /// # Errors
    /// The tool's; see [`CommandError`].
    pub async fn cut(&self, volume: VolumeId) -> Result<(), CommandError> {
        self.shared.wanted[volume.index()].store(false, Ordering::Relaxed);
        self.drop_connections(volume, true).await
    }

    /// Makes this side the one that may write. Without a connection DRBD first asks what became of the peer: answer the
    /// fence question while this waits.
    ///
    /// # Errors
    /// `refused()` when the data is not good enough, the peer is promoted, or the peer's fate is undecided.
    pub async fn promote(&self, volume: VolumeId) -> Result<(), CommandError> {
        if self.is_local(volume) {
            return Ok(());
        }
        self.drbdsetup(&Arguments::new(volume).primary(false), PROMOTE).await
    }

    /// As [`Drbd::promote`], with data that may be old or incomplete: only for an operator's `force-primary`.
    ///
    /// # Errors
    /// As [`Drbd::promote`].
    pub async fn promote_force(&self, volume: VolumeId) -> Result<(), CommandError> {
        if self.is_local(volume) {
            return Ok(());
        }
        self.drbdsetup(&Arguments::new(volume).primary(true), PROMOTE).await
    }

    /// Gives the right to write up. The volume must be unmounted.
    ///
    /// # Errors
    /// `refused()` while something holds the volume open.
    pub async fn demote(&self, volume: VolumeId) -> Result<(), CommandError> {
        if self.is_local(volume) {
            return Ok(());
        }
        self.drbdsetup(&Arguments::new(volume).verb("secondary"), CALL).await
    }

    /// Marks the own data as outdated; it is then not promoted until it was resynchronised.
    ///
    /// # Errors
    /// `refused()` while promoted, connected or not consistent.
    pub async fn outdate(&self, volume: VolumeId) -> Result<(), CommandError> {
        if self.is_local(volume) {
            return Ok(());
        }
        self.drbdsetup(&Arguments::new(volume).verb("outdate"), CALL).await
    }

    /// Lets frozen writes go on without the peer. The peer is *not* marked outdated by this: prefer to answer the fence question.
    ///
    /// # Errors
    /// The tool's; see [`CommandError`].
    pub async fn resume(&self, volume: VolumeId) -> Result<(), CommandError> {
        if self.is_local(volume) {
            return Ok(());
        }
        self.drbdsetup(&Arguments::new(volume).verb("resume-io"), CALL).await
    }

    /// Declares both copies equal and up to date without copying. Both must be fresh and connected; run it on one unit.
    ///
    /// # Errors
    /// `refused()` when a volume is not fresh or not connected; the tool's.
    pub async fn initialise_pair(&self, volume: VolumeId) -> Result<(), CommandError> {
        if self.is_local(volume) {
            return Ok(());
        }
        let what = format!("declaring both copies of volume {} equal", volume.name());
        let report = self.status().await?[volume.index()];
        if (report.local, report.peer) == (DiskState::UpToDate, DiskState::UpToDate) {
            // Done before, perhaps by an attempt that did not get as far as the other volume.
            return Ok(());
        }
        if !report.fresh || report.replication != Replication::Connected {
            let complaint = format!("the volume is not both fresh and connected ({report:?})");
            return Err(CommandError::Refused { what, code: 0, complaint });
        }
        self.drbdsetup(&Arguments::new(volume).initialise(), CALL).await?;
        // The bits are cleared on both sides by one message; from here the volume is no longer fresh.
        self.shared.blank[volume.index()].store(false, Ordering::Relaxed);
        Ok(())
    }

    /// One snapshot of both volumes.
    ///
    /// # Errors
    /// The tool's; see [`CommandError`].
    pub async fn status(&self) -> Result<[VolumeReport; VOLUMES], CommandError> {
        let arguments = arguments::snapshot();
        let outcome = self.setup(&arguments, CALL).await?;
        let mut state = events::State::default();
        outcome.stdout.lines().for_each(|line| {
            state.apply(line);
        });
        Ok(self.report(&state).await)
    }

    /// Follows the state of both volumes in a background task, for as long as a receiver exists. Needs a tokio runtime.
    #[must_use]
    pub fn monitor(&self) -> watch::Receiver<[VolumeReport; VOLUMES]> {
        monitor::spawn(self.clone())
    }

    async fn report(&self, state: &events::State) -> [VolumeReport; VOLUMES] {
        let mut reports = [VolumeReport::default(); VOLUMES];
        for volume in VolumeId::ALL {
            let index = volume.index();
            let shared = &self.shared;
            let mut report = state.report(volume, shared.wanted[index].load(Ordering::Relaxed));
            if report.local == DiskState::Unknown && shared.unusable[index].load(Ordering::Relaxed) {
                report.local = DiskState::Diskless;
            }
            if report.replication == Replication::SyncTarget {
                shared.blank[index].store(false, Ordering::Relaxed);
            }
            let blank = shared.blank[index].load(Ordering::Relaxed);
            reports[index] =
                VolumeReport { fresh: blank && self.just_created(volume, &report).await, ..report };
        }
        mirror(&mut reports, self.shared.settings.local);
        reports
    }

    /// True while the data generation is the one that new metadata starts with.
    async fn just_created(&self, volume: VolumeId, report: &VolumeReport) -> bool {
        if report.local != DiskState::Inconsistent {
            return false;
        }
        let arguments = Arguments::new(volume).verb("get-gi");
        let outcome = self.setup(&arguments, CALL).await;
        outcome.is_ok_and(|outcome| superblock::is_just_created(&outcome.stdout))
    }

    async fn connect_by(
        &self,
        volume: VolumeId,
        endpoint: Endpoint,
        call: &Call,
    ) -> Result<(), CommandError> {
        if self.is_local(volume) {
            return Ok(());
        }
        let same = *self.connection(volume) == Some(endpoint);
        if same && self.status().await?[volume.index()].replication.is_connected() {
            return Ok(());
        }
        self.shared.wanted[volume.index()].store(false, Ordering::Relaxed);
        self.drop_connections(volume, true).await?;
        self.drbdsetup(call, CALL).await?;
        *self.connection(volume) = Some(endpoint);
        self.shared.wanted[volume.index()].store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn is_attached(&self, volume: VolumeId) -> Result<bool, CommandError> {
        let arguments = arguments::snapshot();
        let outcome = self.setup(&arguments, CALL).await?;
        Ok(outcome.stdout.lines().any(|line| events::is_attached(line, volume)))
    }

    async fn drop_connections(&self, volume: VolumeId, force: bool) -> Result<(), CommandError> {
        if self.is_local(volume) {
            return Ok(());
        }
        let known = self.connection(volume).take();
        if let Some((local, peer)) = known.map(Endpoint::addresses)
            && self.drbdsetup(&drop_connection(volume, &local, &peer, force), DISCONNECT).await.is_ok()
        {
            return Ok(());
        }
        // Not known, or DRBD dropped it by itself: ask what there is.
        let show = Arguments::new(volume).show();
        let outcome = tool::run(&self.shared.drbdsetup, &show.args, &show.what, CALL).await?;
        if outcome.complaint.contains("No such") {
            // Never set up: nothing is connected.
            return Ok(());
        }
        let outcome = check(outcome, &show.what)?;
        let Some((local, peer)) = arguments::shown_connection(&outcome.stdout) else { return Ok(()) };
        self.drbdsetup(&drop_connection(volume, &local, &peer, force), DISCONNECT).await
    }

    fn connection(&self, volume: VolumeId) -> MutexGuard<'_, Option<Endpoint>> {
        self.shared.connections[volume.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn setup(&self, call: &Call, limit: Duration) -> Result<Outcome, CommandError> {
        check(tool::run(&self.shared.drbdsetup, &call.args, &call.what, limit).await?, &call.what)
    }

    async fn drbdsetup(&self, call: &Call, limit: Duration) -> Result<(), CommandError> {
        self.setup(call, limit).await.map(drop)
    }

    async fn drbdmeta(&self, call: &Call, limit: Duration) -> Result<(), CommandError> {
        check(tool::run(&self.shared.drbdmeta, &call.args, &call.what, limit).await?, &call.what).map(drop)
    }
}

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// No partition, or several.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// The drive does not answer.
    #[error(
        "volume {volume} on {device} cannot be read: check or replace the drive; the other unit keeps the mail"
    )]
    Unreadable {
        /// Volume.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// Neither empty nor ours.
    #[error(
        "volume {volume} on {device} holds data that is not a mail volume, it was left untouched: if nothing on it is needed, erase its first and last MiB and reboot; the volume is then filled from the other unit"
    )]
    Foreign {
        /// Volume.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
    },
    /// Not to be replicated, but it was.
    #[error(
        "volume {volume} on {device} was replicated before and is not to be any more, it was left untouched: enable its synchronisation again, \
         or, if nothing on it is needed, erase its first and last MiB and reboot"
    )]
    Replicated {
        /// Volume.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
    },
    /// DRBD did not take it.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// A volume that is not replicated follows the one that is: the unit that may write to that one may write to its own.
fn mirror(reports: &mut [VolumeReport; VOLUMES], local: [bool; VOLUMES]) {
    let replicated = (0..VOLUMES).find(|index| !local[*index]).map(|index| reports[index]);
    for (report, local) in reports.iter_mut().zip(local) {
        if let (true, Some(replicated)) = (local, replicated) {
            *report = replicated;
        }
    }
}

/// Exit codes of `drbdsetup-84` (recorded): 10 the kernel refused the call, 11 and 17 a state change was refused.
fn check(outcome: Outcome, what: &str) -> Result<Outcome, CommandError> {
    let Outcome { code, complaint, stdout } = outcome;
    let what = what.to_owned();
    match code {
        0 => Ok(Outcome { code, stdout, complaint }),
        10 | 11 | 17 => Err(CommandError::Refused { what, code, complaint }),
        _ => Err(CommandError::Failed { what, code, complaint }),
    }
}
