//! Starts, stops and checks the mail servers. Start is on the way of every takeover, so everything that can be done before
//! is done in [`Mail::prepare`] and [`Mail::warm`].

use crate::drain::{self, DrainError};
use crate::handover::settle::{Deliveries, Marked};
use crate::handover::wake;
use crate::init_client::{self, InitError};
use crate::render::{self, DOVECOT_ETC, MAILBOXES, POSTFIX_ETC, SPOOL};
use crate::settings::MailSettings;
use crate::spool;
use crate::stored::{self, Settled};
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// SMTP (RFC 5321) and IMAP (RFC 3501).
const SMTP: u16 = 25;
const IMAP: u16 = 143;
/// How long Postfix may take until it greets. Measured: below 0.3 s; slow machines get their time.
const START_LIMIT: Duration = Duration::from_secs(30);
/// SIGTERM: Postfix ends in order, and init starts it again.
const TERM: u8 = 15;
/// Between two looks whether it greets.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A service that does not greet within this is not well.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// Postfix waits when main.cf is younger than two seconds; rendered files are made to look older.
const LOOK_OLDER_BY: Duration = Duration::from_secs(60);
/// Dovecot takes mail here (`render`).
const LMTP_SOCKET: &str = "/run/dovecot/lmtp";
/// What `postqueue -f` tells the queue manager: forget dead destinations, scan everything, also what was deferred (qmgr(8)).
const FLUSH: &[u8] = b"FAD";
/// The user as which Dovecot reads the password file.
const DOVECOT: u32 = 104;
/// Most bytes that warming reads, all files together.
const WARM_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why settings could not be written.
#[derive(Debug, Error)]
#[error("{path} cannot be written")]
pub struct PrepareError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Why the mail servers did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The volume refuses folders.
    #[error("the mail volumes cannot be written to")]
    Spool(#[source] std::io::Error),
    /// init refused.
    #[error("{service} was not started")]
    Init {
        /// Which.
        service: &'static str,
        /// Why.
        #[source]
        source: InitError,
    },
    /// Started but silent.
    #[error("Postfix runs but sent no 220 within {} s; read its messages: diagnose system log", START_LIMIT.as_secs())]
    Silent,
    /// Started but no LMTP socket.
    #[error("Dovecot runs but does not take mail within {} s; read its messages: diagnose system log", START_LIMIT.as_secs())]
    NoMailboxes,
}

/// Why the mail servers did not stop.
#[derive(Debug, Error)]
#[error("{service} was not stopped")]
pub struct StopError {
    service: &'static str,
    #[source]
    source: InitError,
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailHealth {
    /// Postfix greets.
    pub smtp: bool,
    /// Dovecot greets.
    pub imap: bool,
}

/// Where rendered settings go.
#[derive(Clone, Debug)]
pub struct MailPaths {
    /// Postfix.
    pub postfix: PathBuf,
    /// Dovecot.
    pub dovecot: PathBuf,
}

impl Default for MailPaths {
    fn default() -> Self {
        Self { postfix: POSTFIX_ETC.into(), dovecot: DOVECOT_ETC.into() }
    }
}

/// The mail servers of this unit.
#[derive(Debug)]
pub struct Mail {
    paths: MailPaths,
    /// Ports of the next hops, by which deliveries under way are recognised.
    next_hop_ports: Mutex<Vec<u16>>,
    /// Domains whose mail is stored here, in lower case.
    local_domains: Mutex<BTreeSet<String>>,
    /// Deliveries were ended by [`Mail::drain`]; none has begun since.
    drained: AtomicBool,
}

impl Mail {
    /// Steers the servers whose settings are in `paths`.
    #[must_use]
    pub fn new(paths: MailPaths) -> Self {
        Self {
            paths,
            next_hop_ports: Mutex::default(),
            local_domains: Mutex::default(),
            drained: AtomicBool::new(false),
        }
    }

    /// Writes all settings. At boot, never at a takeover.
    ///
    /// # Errors
    /// The first file that cannot be written.
    pub fn prepare(&self, settings: &MailSettings) -> Result<(), PrepareError> {
        let ports = settings.relays.iter().map(|relay| relay.port).collect();
        *self.next_hop_ports.lock().unwrap_or_else(PoisonError::into_inner) = ports;
        let domains = settings.local_domains.iter().map(|domain| domain.to_lowercase()).collect();
        *self.local_domains.lock().unwrap_or_else(PoisonError::into_inner) = domains;
        let (postfix, dovecot) = (&self.paths.postfix, &self.paths.dovecot);
        for folder in [postfix, dovecot] {
            std::fs::create_dir_all(folder)
                .map_err(|source| PrepareError { path: folder.clone(), source })?;
        }
        write(&postfix.join("main.cf"), &render::main_cf(settings), 0o644)?;
        write(&postfix.join("master.cf"), &render::master_cf(), 0o644)?;
        write(&postfix.join("transport"), &render::transport(settings), 0o644)?;
        write(&postfix.join("mailboxes"), &render::mailboxes(settings), 0o644)?;
        write(&dovecot.join("dovecot.conf"), &render::dovecot_conf(settings), 0o644)?;
        let users = dovecot.join("users");
        write(&users, &render::users(settings), 0o600)?;
        rustix::fs::chown(&users, Some(Uid::from_raw(DOVECOT)), Some(Gid::from_raw(0)))
            .map_err(|errno| PrepareError { path: users, source: errno.into() })
    }

    /// Settles what the last primary left ([`stored`]), starts Postfix and waits until it greets: that is what a virtual IP waits
    /// for. Dovecot is started by [`Mail::start_mailboxes`]. The volumes are mounted.
    ///
    /// # Errors
    /// See [`StartError`]. What was started keeps running until [`Mail::stop`].
    pub async fn start(&self) -> Result<Settled, StartError> {
        let domains = self.local_domains.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let made = tokio::task::spawn_blocking(move || {
            spool::make()?;
            spool::remove_stale_locks();
            spool::settle_times()?;
            stored::settle(Path::new(SPOOL), Path::new(MAILBOXES), &domains)
        });
        let settled =
            made.await.map_err(std::io::Error::other).and_then(|result| result).map_err(StartError::Spool)?;
        init_client::start("postfix")
            .await
            .map_err(|source| StartError::Init { service: "postfix", source })?;
        // One that still runs may have been held back for a stop that did not come.
        self.drained.store(false, Ordering::Relaxed);
        drain::go_on();
        let greets = async {
            while !greets(SMTP, "220").await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(START_LIMIT, greets).await.map_err(|_| StartError::Silent)?;
        Ok(settled)
    }

    /// Starts Dovecot, which nothing waits for. Postfix may have tried to deliver into mailboxes before and would try again after
    /// five minutes (`minimal_backoff_time`), so it is told when the mailboxes can be reached.
    ///
    /// # Errors
    /// init refuses, or Dovecot does not open its socket; mail for local mailboxes stays queued.
    pub async fn start_mailboxes(&self) -> Result<(), StartError> {
        let started = init_client::start("dovecot").await;
        started.map_err(|source| StartError::Init { service: "dovecot", source })?;
        let opens = async {
            while UnixStream::connect(LMTP_SOCKET).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(START_LIMIT, opens).await.map_err(|_| StartError::NoMailboxes)?;
        let flushed = tokio::time::timeout(GREETING_LIMIT, async {
            UnixStream::connect(Path::new(SPOOL).join("public/qmgr")).await?.write_all(FLUSH).await
        });
        // A Postfix that is just stopping flushes at its next start.
        let _ = flushed.await;
        Ok(())
    }

    /// Before an orderly stop: begins no new deliveries, lets those under way end, within a limit, and waits until their records are
    /// durable. [`Mail::stop`] follows; if it does not, [`Mail::start`] lets deliveries go on.
    ///
    /// # Errors
    /// What was delivered cannot be recorded now. Deliveries go on as before; try again when writes go on.
    pub async fn drain(&self) -> Result<(), DrainError> {
        drain::recorded(&self.ports(), Path::new(SPOOL)).await?;
        self.drained.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Lets deliveries under way end, within a limit and unless [`Mail::drain`] did, then stops both. Also tries the second when the first
    /// fails.
    ///
    /// # Errors
    /// A server that still runs.
    pub async fn stop(&self) -> Result<(), StopError> {
        // A Postfix that init started again since then delivers anew.
        if !self.drained.swap(false, Ordering::Relaxed) || !drain::is_held() {
            // What has not ended by then is delivered twice at worst, which SMTP allows; the stop does not wait for it.
            let _ = drain::deliveries_end(&self.ports()).await;
        }
        let (postfix, dovecot) = tokio::join!(init_client::stop("postfix"), init_client::stop("dovecot"));
        postfix.map_err(|source| StopError { service: "postfix", source })?;
        dovecot.map(drop).map_err(|source| StopError { service: "dovecot", source })
    }

    fn ports(&self) -> Vec<u16> {
        self.next_hop_ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops Postfix alone, at an operator's wish: deliveries under way end before, within a limit, so that none is made twice.
    ///
    /// # Errors
    /// It still runs.
    pub async fn stop_postfix(&self) -> Result<(), StopError> {
        let _ = drain::deliveries_end(&self.ports()).await;
        let stopped = init_client::stop("postfix").await;
        stopped.map(drop).map_err(|source| StopError { service: "postfix", source })
    }

    /// Stops Postfix and starts it again, after a check failed: without waiting for deliveries, which may be what hangs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn restart(&self) -> Result<(), StartError> {
        self.drained.store(false, Ordering::Relaxed);
        let init = |source| StartError::Init { service: "postfix", source };
        init_client::stop("postfix").await.map_err(init)?;
        init_client::start("postfix").await.map(drop).map_err(init)
    }

    /// Starts Postfix anew after the clock was put back: its timers count with the wall clock and would wait for the old time.
    /// A Postfix that is not wanted stays stopped.
    ///
    /// # Errors
    /// init refuses.
    pub async fn restart_after_clock(&self) -> Result<(), StopError> {
        let _ = drain::deliveries_end(&self.ports()).await;
        // What cannot be set is delivered late, not lost.
        let _ = tokio::task::spawn_blocking(spool::settle_times).await;
        let ended = init_client::signal("postfix", TERM).await;
        ended.map(drop).map_err(|source| StopError { service: "postfix", source })
    }

    /// Whether both greet.
    pub async fn check(&self) -> MailHealth {
        let (smtp, imap) = tokio::join!(greets(SMTP, "220"), greets(IMAP, "* OK"));
        MailHealth { smtp, imap }
    }

    /// Queued messages; 0 while the volume is not mounted.
    #[must_use]
    pub fn queue_count(&self) -> u64 {
        spool::count()
    }

    /// Reads the servers' programs and libraries, so that their start does not wait for the disk. Returns the bytes read.
    #[must_use]
    pub fn warm(&self) -> u64 {
        let folders =
            ["/usr/lib/postfix", "/usr/lib/postfix/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/dovecot"];
        let mut total = 0;
        for folder in folders {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let is_file = entry.metadata().is_ok_and(|data| data.is_file());
                if is_file && total < WARM_BYTES_MAX {
                    let copied = std::fs::File::open(entry.path())
                        .and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
                    total += copied.unwrap_or(0);
                }
            }
        }
        total
    }
}

impl Deliveries for Arc<Mail> {
    /// Blocks: call it from a thread of the runtime that may.
    fn hold_back(&self, work: &mut dyn FnMut() -> std::io::Result<Marked>) -> std::io::Result<Marked> {
        let held = tokio::runtime::Handle::current().block_on(drain::Held::begin(&self.ports()));
        let done = work();
        drop(held);
        wake(Path::new(SPOOL));
        done
    }

    fn local_domains(&self) -> BTreeSet<String> {
        self.local_domains.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PrepareError> {
    let at = |source| PrepareError { path: path.to_path_buf(), source };
    std::fs::write(path, text).map_err(at)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(|errno| at(errno.into()))?;
    let old = SystemTime::now() - LOOK_OLDER_BY;
    let seconds = old.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())
        .map_err(|errno| at(errno.into()))
}

/// Whether a local service sends this greeting within its limit.
async fn greets(port: u16, greeting: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.ok()?;
        let mut bytes = vec![0; greeting.len()];
        stream.read_exact(&mut bytes).await.ok()?;
        Some(bytes == greeting.as_bytes())
    };
    tokio::time::timeout(GREETING_LIMIT, ask).await.ok().flatten().unwrap_or(false)
}
