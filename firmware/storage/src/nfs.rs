//! Mail data on a server: NFS version 3 over TCP (RFC 1813), mounted by mount(2) alone. Looks before whether the server answers, and
//! behind whether it lets this unit do what mail needs, so that a refusal tells what to change. Decides nothing about who may mount.
//!
//! Hard mounts: a write waits for its server, so nothing that Dovecot acknowledged is lost with it. Locks stay on this unit: it is the only
//! one that mounts. All calls block; [`mount`] gives up within [`MOUNT_LIMIT`] unless the kernel itself waits for the server.

use rustix::fs::{Gid, Uid};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take until it answers: a restart of its programs fits, and the step has 60 s for all of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// One attempt, and the pause before the next.
const ATTEMPT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);
/// A mount that is done later than this comes after the decisions gave it up (60 s): it is taken back.
const MOUNT_LIMIT: Duration = Duration::from_secs(55);
/// Program and version of NFS (RFC 1813 section 5.1), of RPC (RFC 5531 section 9).
const NFS: (u32, u32) = (100_003, 3);
const RPC_VERSION: u32 = 2;
/// `accept_stat` (RFC 5531 section 9).
const SUCCESS: u32 = 0;
/// A request without arguments has ten words, its answer without results six.
const CALL_BYTES: u32 = 40;
const REPLY_WORDS: usize = 6;
/// Last fragment of a record (RFC 5531 section 11).
const LAST_FRAGMENT: u32 = 1 << 31;
/// The user of mailboxes in the image.
const VMAIL: u32 = 106;
/// A file that belongs to nobody else.
const PROBE: &str = ".write-check";

/// A server's export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The server.
    pub host: IpAddr,
    /// What it exports.
    pub folder: String,
    /// TCP port of NFS.
    pub port: u16,
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            IpAddr::V4(host) => write!(f, "{host}:{}", self.folder),
            IpAddr::V6(host) => write!(f, "[{host}]:{}", self.folder),
        }
    }
}

/// Why an export was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum NfsError {
    /// The kernel cannot speak NFS.
    #[error("NFS is not in the kernel: install the firmware again")]
    Module(#[source] io::Error),
    /// An earlier attempt waits in the kernel.
    #[error("an earlier attempt to mount {export} still waits for the server")]
    Waiting {
        /// Which.
        export: Export,
    },
    /// No answer.
    #[error(
        "the NFS server {} gave no answer at TCP port {} within {} s, so {export} cannot be mounted: check the server and the way to it",
        export.host, export.port, ANSWER_WITHIN.as_secs()
    )]
    Silent {
        /// Which.
        export: Export,
        /// The last attempt.
        #[source]
        source: io::Error,
    },
    /// The server or the kernel refused.
    #[error("{export} cannot be mounted: {advice}")]
    Refused {
        /// Which.
        export: Export,
        /// What to do.
        advice: &'static str,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// Mounted, and not writable as mail needs it.
    #[error(
        "{export} does not let this unit store mail and give it to the mailbox user: export it for reading and writing to the own addresses of \
         both units and to the virtual IPs, without squashing root"
    )]
    NotWritable {
        /// Which.
        export: Export,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// After the step was given up.
    #[error("{export} was mounted after more than {} s, too late: it was unmounted again", MOUNT_LIMIT.as_secs())]
    TooLate {
        /// Which.
        export: Export,
    },
}

/// One attempt at a time: what waits in the kernel cannot be called back.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Mounts `export` on `target`.
///
/// # Errors
/// See [`NfsError`]; nothing is mounted then.
pub fn mount(export: &Export, target: &Path) -> Result<(), NfsError> {
    if UNDER_WAY.swap(true, Ordering::SeqCst) {
        return Err(NfsError::Waiting { export: export.clone() });
    }
    let result = try_mount(export, target);
    UNDER_WAY.store(false, Ordering::SeqCst);
    result
}

fn try_mount(export: &Export, target: &Path) -> Result<(), NfsError> {
    let began = Instant::now();
    load_module().map_err(NfsError::Module)?;
    await_server(export, began)?;
    let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    let mounted = rustix::mount::mount(export.to_string(), target, c"nfs", flags, options(export).as_deref());
    mounted.map_err(|errno| refusal(export, errno))?;
    let checked = match began.elapsed() > MOUNT_LIMIT {
        true => Err(NfsError::TooLate { export: export.clone() }),
        false => probe(target).map_err(|source| NfsError::NotWritable { export: export.clone(), source }),
    };
    if checked.is_err() {
        // What cannot be unmounted is seen by whoever looks at the mounts, and forced when the role is given up.
        let _ = rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::FORCE);
    }
    checked
}

/// Text options of the kernel (nfs(5)); there is no mount.nfs that would add to them. `nolock`: one unit mounts, so locks are its own, and no
/// lock of a dead unit stays at the server. A request is repeated over a new connection after 15 s.
fn options(export: &Export) -> Option<CString> {
    let Export { host, port, .. } = export;
    let protocol = if host.is_ipv6() { "tcp6" } else { "tcp" };
    CString::new(format!(
        "vers=3,proto={protocol},port={port},addr={host},mountvers=3,mountproto={protocol},nolock,noacl,hard,timeo=150,retrans=2"
    ))
    .ok()
}

fn refusal(export: &Export, errno: rustix::io::Errno) -> NfsError {
    use rustix::io::Errno;
    let advice = match errno {
        Errno::ACCESS | Errno::PERM => {
            "the server refuses it to this unit; allow the own addresses of both units and the virtual IPs"
        }
        Errno::NOENT | Errno::NOTDIR => {
            "the server has no such folder; check folder in config mailsetting storage config"
        }
        Errno::PROTONOSUPPORT | Errno::OPNOTSUPP => "the server does not offer NFS version 3 over TCP",
        Errno::CONNREFUSED | Errno::TIMEDOUT | Errno::HOSTUNREACH => {
            "the server's mount service does not answer; NFS version 3 needs it (TCP, found through port 111)"
        }
        _ => "see the reason",
    };
    NfsError::Refused { export: export.clone(), advice, source: errno.into() }
}

/// Only a unit that needs NFS has it in its kernel. There is no modprobe that the kernel could call by itself.
fn load_module() -> io::Result<()> {
    if Path::new("/sys/module/nfsv3").exists() {
        return Ok(());
    }
    let output = Command::new("/usr/bin/busybox")
        .env_clear()
        .args(["modprobe", "nfsv3"])
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().chars().take(200).collect::<String>();
    Err(io::Error::other(complaint))
}

/// Asks until the server answers. Without it mount(2) would wait in the kernel, where nobody can end it.
fn await_server(export: &Export, began: Instant) -> Result<(), NfsError> {
    loop {
        match ask(SocketAddr::new(export.host, export.port), ATTEMPT) {
            Ok(()) => return Ok(()),
            Err(source) if began.elapsed() > ANSWER_WITHIN => {
                return Err(NfsError::Silent { export: export.clone(), source });
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Calls procedure 0 of NFS version 3, which does nothing.
fn ask(server: SocketAddr, limit: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let (program, version) = NFS;
    let id = 1;
    let call = [LAST_FRAGMENT | CALL_BYTES, id, 0, RPC_VERSION, program, version, 0, 0, 0, 0, 0];
    stream.write_all(&call.map(u32::to_be_bytes).concat())?;
    let mut reply = [0; 4 + 4 * REPLY_WORDS];
    stream.read_exact(&mut reply).map_err(|error| match error.kind() {
        // What a socket says whose limit has passed.
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "it takes connections and does not answer")
        }
        _ => error,
    })?;
    let (words, _) = reply.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    // Record mark, id, reply, accepted, verifier of nobody, its length, result.
    match words[..] {
        [_, got, 1, 0, _, 0, SUCCESS] if got == id => Ok(()),
        _ => Err(io::Error::other("it does not speak NFS version 3")),
    }
}

/// Stores a file and gives it to the mailbox user, as every delivery does.
fn probe(target: &Path) -> io::Result<()> {
    let path = target.join(PROBE);
    let mut file = File::create(&path)?;
    file.write_all(b"check\n")?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(VMAIL)), Some(Gid::from_raw(VMAIL)))?;
    file.sync_all()?;
    drop(file);
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn export(host: &str, port: u16) -> Export {
        Export { host: host.parse().unwrap(), folder: "/export/mail".into(), port }
    }

    #[test]
    fn options_are_whole_for_both_kinds_of_address() {
        let text = |host| options(&export(host, 2049)).unwrap().into_string().unwrap();
        let ipv4 = text("192.0.2.30");
        assert!(
            ipv4.contains("proto=tcp,") && ipv4.contains("addr=192.0.2.30,") && ipv4.contains(",hard,"),
            "{ipv4}"
        );
        let ipv6 = text("2001:db8::30");
        assert!(ipv6.contains("proto=tcp6,") && ipv6.contains("mountproto=tcp6,"), "{ipv6}");
        assert_eq!(export("2001:db8::30", 1).to_string(), "[2001:db8::30]:/export/mail");
    }

    /// A server that answers one call with `words` behind the record mark and the id.
    fn server(words: &'static [u32]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut call = [0; 44];
            stream.read_exact(&mut call).unwrap();
            assert_eq!(call[12..16], 2_u32.to_be_bytes());
            assert_eq!(call[16..20], 100_003_u32.to_be_bytes());
            let mark = LAST_FRAGMENT | u32::try_from(4 + 4 * words.len()).unwrap();
            let mut reply = mark.to_be_bytes().to_vec();
            reply.extend_from_slice(&call[4..8]);
            reply.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            stream.write_all(&reply).unwrap();
        });
        address
    }

    #[test]
    fn a_server_is_well_only_if_it_carries_out_a_call_of_version_3() {
        let limit = Duration::from_secs(5);
        ask(server(&[1, 0, 0, 0, 0]), limit).unwrap();
        // Another version only; then from 4 to 4.
        assert!(ask(server(&[1, 0, 0, 0, 2, 4, 4]), limit).unwrap_err().to_string().contains("version 3"));
        // Denied.
        assert!(ask(server(&[1, 1, 1, 5, 0]), limit).is_err());
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(ask(nobody, limit).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_server_that_only_accepts_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = ask(listener.local_addr().unwrap(), Duration::from_millis(50)).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().contains("does not answer")),
            (io::ErrorKind::TimedOut, true)
        );
    }

    #[test]
    fn refusals_say_what_to_change() {
        let told = refusal(&export("192.0.2.30", 2049), rustix::io::Errno::ACCESS).to_string();
        assert!(
            told.contains("192.0.2.30:/export/mail") && told.contains("allow the own addresses"),
            "{told}"
        );
        let silent =
            NfsError::Silent { export: export("192.0.2.30", 2049), source: io::ErrorKind::TimedOut.into() };
        assert!(silent.to_string().contains("192.0.2.30 gave no answer at TCP port 2049"), "{silent}");
    }

    #[test]
    fn a_folder_is_probed_by_storing_and_giving_away() {
        let dir = tempfile::tempdir().unwrap();
        // Only root may give away.
        let expected = rustix::process::geteuid().is_root();
        assert_eq!(probe(dir.path()).is_ok(), expected);
        assert!(probe(&dir.path().join("nothing")).is_err());
    }
}
