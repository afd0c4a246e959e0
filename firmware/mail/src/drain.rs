//! Lets deliveries that are under way end before Postfix is stopped in order, or its queue files are changed. A delivery that is killed between the next hop's
//! `250` and its record in the queue file is made a second time by the other unit; one that may end is not. Postfix has no
//! verb for it: the queue manager is frozen, so that it hands out nothing new, and the delivery agents' connections are waited
//! for. Bounded: what does not end in time is SMTP's own window (`spec/ha.md` section 8).

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Longest wait. A next hop that answers at all answers within it; one that does not is not worth a longer switch.
const LIMIT: Duration = Duration::from_millis(2000);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Looks in a row without a delivery, a quarter of a second: an agent between taking a message and connecting is not seen, and on a
/// busy processor it waits for its turn longer than the supervisor, which runs before it.
const QUIET_LOOKS: u32 = 25;
/// Processes of the service, as init groups them.
const PROCESSES: &str = "/sys/fs/cgroup/postfix/cgroup.procs";
/// `ESTABLISHED`, `SYN_SENT`, `CLOSE_WAIT`, in /proc/net/tcp (`include/net/tcp_states.h`). The last: the next hop has answered and hung up, the
/// agent still writes down what it answered.
const OPEN_STATES: [&str; 3] = ["01", "02", "08"];
/// A flush of the queue volume that takes longer waits for a lost replication or for a drive; measured are milliseconds.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Why deliveries could not be ended in order. They go on as before.
#[derive(Debug, Error)]
pub enum DrainError {
    /// Replication is lost and nobody has decided yet, or the drive hangs.
    #[error(
        "writes to the mail queue wait, so what next hops answer cannot be recorded: deliveries go on, nothing was stopped"
    )]
    WritesWait,
    /// The medium is broken.
    #[error("the mail queue cannot be flushed, check the drive: deliveries go on, nothing was stopped")]
    Flush(#[source] std::io::Error),
}

/// Deliveries held back in order to stop. Dropped before that, they go on.
struct Stopping {
    keep: bool,
}

impl Drop for Stopping {
    fn drop(&mut self) {
        if !self.keep {
            go_on();
        }
    }
}

/// Begins no new deliveries, lets those under way end, and waits until their records are durable, on both units while both are in
/// sync. An agent whose record waits for a frozen volume would be killed with it by an orderly stop, and the other unit would deliver again.
pub async fn recorded(ports: &[u16], spool: &Path) -> Result<(), DrainError> {
    let mut stopping = Stopping { keep: false };
    // A next hop that is too slow is not waited for, but records are.
    let _ = deliveries_end(ports).await;
    let spool = spool.to_path_buf();
    // A flush that hangs keeps its thread until the volume goes on; the switch is tried again a few times at most.
    let flush = tokio::task::spawn_blocking(move || flush(&spool));
    match tokio::time::timeout(FLUSH_LIMIT, flush).await {
        Err(_) => return Err(DrainError::WritesWait),
        Ok(Err(ended)) => return Err(DrainError::Flush(std::io::Error::other(ended))),
        Ok(Ok(flushed)) => flushed.map_err(DrainError::Flush)?,
    }
    stopping.keep = true;
    Ok(())
}

/// Lets a queue manager that was held back go on.
pub fn go_on() {
    signal_queue_manager(Signal::CONT);
}

/// Nothing hands out messages: a Postfix that was started again since it was held back has a queue manager that does.
#[must_use]
pub fn is_held() -> bool {
    queue_managers().all(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.map_or(true, |stat| !is_running(&stat))
    })
}

/// `proc_pid_stat(5)`: the state follows the name in parentheses; `T` is stopped, `Z` and `X` are dead.
fn is_running(stat: &str) -> bool {
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, Some('T' | 'Z' | 'X'))
}

/// A volume that is not mounted has nothing to record.
fn flush(spool: &Path) -> std::io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(spool, flags, Mode::empty()) {
        Ok(folder) => Ok(rustix::fs::syncfs(folder)?),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Holds deliveries back until it is dropped; a new queue manager then reads the queue from its files.
#[must_use]
pub struct Held {
    _private: (),
}

impl Held {
    /// As [`deliveries_end`]; what has not ended in time goes on by itself.
    pub async fn begin(ports: &[u16]) -> Self {
        let held = Self { _private: () };
        deliveries_end(ports).await;
        held
    }
}

impl Drop for Held {
    /// Postfix stands a kill of any of its programs; master starts this one again when it is next called for.
    fn drop(&mut self) {
        signal_queue_manager(Signal::KILL);
    }
}

/// Waits until no delivery to one of these ports, and no local one, is under way. True when that was reached in time.
pub async fn deliveries_end(ports: &[u16]) -> bool {
    // It is killed afterwards, alone or with the whole service; nothing has to thaw it.
    signal_queue_manager(Signal::STOP);
    let began = Instant::now();
    let mut quiet = 0;
    while began.elapsed() < LIMIT {
        let tcp = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let unix = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        quiet = if is_delivering(&tcp, &unix, ports) { 0 } else { quiet + 1 };
        if quiet == QUIET_LOOKS {
            return true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    false
}

fn signal_queue_manager(signal: Signal) {
    for pid in queue_managers() {
        // One that has just ended hands out nothing either.
        let _ = kill_process(pid, signal);
    }
}

fn queue_managers() -> impl Iterator<Item = Pid> {
    let pids = std::fs::read_to_string(PROCESSES).unwrap_or_default();
    let pids: Vec<Pid> =
        pids.lines().filter_map(|line| line.parse::<i32>().ok()).filter_map(Pid::from_raw).collect();
    pids.into_iter().filter(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
        name.is_ok_and(|name| name.trim_end() == "qmgr")
    })
}

/// Whether a connection to a next hop's port, or one to Dovecot's LMTP socket, is open.
fn is_delivering(tcp: &str, unix: &str, ports: &[u16]) -> bool {
    let to_next_hop = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
        let [_, local, remote, state] = words[..] else { return false };
        let port =
            |address: &str| address.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
        OPEN_STATES.contains(&state)
            && port(remote).is_some_and(|port| ports.contains(&port))
            && port(local).is_some_and(|port| !ports.contains(&port))
    };
    // Connected stream sockets have state 03 and, at Dovecot's end, the name of the listener.
    let to_mailbox = |line: &str| {
        line.ends_with("/run/dovecot/lmtp") && line.split_ascii_whitespace().nth(5) == Some("03")
    };
    tcp.lines().any(to_next_hop) || unix.lines().any(to_mailbox)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n";

    #[test]
    fn only_own_connections_to_a_next_hop_are_deliveries() {
        let out = "   0: 0B0200C0:9C40 190200C0:0019 01 00000000:00000000\n";
        let connecting = "   0: 0B0200C0:9C40 190200C0:0019 02 00000000:00000000\n";
        let recording = "   0: 0B0200C0:9C40 190200C0:0019 08 00000000:00000000\n";
        let client = "   1: 0A0200C0:0019 010200C0:8123 01 00000000:00000000\n";
        let closing = "   2: 0B0200C0:9C41 190200C0:0019 06 00000000:00000000\n";
        for (line, expected) in
            [(out, true), (connecting, true), (recording, true), (client, false), (closing, false)]
        {
            assert_eq!(is_delivering(&format!("{HEAD}{line}"), "", &[25]), expected, "{line}");
        }
        assert!(!is_delivering("garbage", "more of it", &[25]));
    }

    #[test]
    fn a_connection_to_the_mailbox_server_is_a_delivery() {
        let listening = "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/dovecot/lmtp\n";
        let connected = "0000000000000000: 00000003 00000000 00000000 0001 03 12346 /run/dovecot/lmtp\n";
        assert!(!is_delivering("", listening, &[]));
        assert!(is_delivering("", connected, &[]));
    }

    #[test]
    fn a_queue_manager_that_is_stopped_or_gone_is_held() {
        assert!(is_running("812 (qmgr) S 800 800 800 0"));
        assert!(is_running("812 (qmgr) R 800 800 800 0"));
        assert!(!is_running("812 (qmgr) T 800 800 800 0"));
        assert!(!is_running("812 (q) S (qmgr) Z 800 800"));
    }

    #[test]
    fn a_volume_that_is_not_mounted_is_flushed_already() {
        flush(Path::new("/nonexistent/spool")).unwrap();
        assert!(flush(Path::new("/proc/version")).is_err());
    }
}
