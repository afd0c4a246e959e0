//! What an operator does to the box itself: reads its log, sets its clock, puts it under load. Nothing here takes part in a decision: heartbeats
//! and leases count with the monotonic clock. The work is done by programs of busybox, which the image has anyway.

use crate::main_unit::Unit;
use crate::provision::chain;
use crate::shared::Shared;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Semaphore;
use twinpost_api::{LINE_BYTES_MAX, LOG_LINES_MAX, Reply, STRESS_SECONDS_MAX, Stress};
use twinpost_types::EffectiveMode;

/// Sets the hardware clock from the system's, so that the next boot knows the time.
const HARDWARE_CLOCK: [&str; 3] = ["/usr/sbin/hwclock", "-u", "-w"];
/// A hardware clock answers within a second; a broken one must not hold the operator's console.
const HARDWARE_CLOCK_LIMIT: Duration = Duration::from_secs(3);
/// Postfix is started anew when the clock goes back by more than this; less only makes it retry that much later. Seconds.
const BACK_MAX_S: i64 = 60;
/// Where the io load writes: the drive that the mail volumes are on, too.
const SCRATCH: &str = "/log/stress";
/// How long after its time a load may need to be gone (a write on a slow drive).
const AFTER: Duration = Duration::from_secs(10);
/// What the memory load leaves to everybody else, MiB. Less, and the kernel kills it at once.
const MEMORY_LEFT_MIB: u64 = 24;
/// What the services printed, in memory: two generations that init keeps, the older one first.
const SERVICE_LOG: [&str; 2] = ["/run/twinpost/service.log.1", "/run/twinpost/service.log"];
/// Most bytes of lines in an answer: quoted, they stay below what a face takes.
const LOG_ANSWER_BYTES_MAX: usize = LINE_BYTES_MAX * 3 / 8;
/// One load at a time.
static RUNNING: Semaphore = Semaphore::const_new(1);

/// The last lines of the service log; a generation that is not there is no line.
pub async fn log(lines: u32) -> Reply {
    let read = || SERVICE_LOG.map(|path| std::fs::read(path).unwrap_or_default());
    let generations = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    Reply::Log { lines: last_lines(&generations, lines.min(LOG_LINES_MAX)) }
}

fn last_lines(generations: &[Vec<u8>], count: u32) -> Vec<String> {
    let text: Vec<_> = generations.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    let mut bytes = 0;
    let fits = |line: &&str| {
        bytes += line.len();
        bytes <= LOG_ANSWER_BYTES_MAX
    };
    let newest_first = text.iter().rev().flat_map(|text| text.lines().rev());
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut lines: Vec<&str> = newest_first.take(count).take_while(fits).collect();
    lines.reverse();
    let plain = |line: &str| line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    lines.into_iter().map(plain).collect()
}

/// Sets the wall clock and the hardware clock.
pub async fn set_clock(unit: &Unit, unix_s: u64) -> Reply {
    let shared = &unit.shared;
    let before = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let time = rustix::time::Timespec { tv_sec: i64::try_from(unix_s).unwrap_or(i64::MAX), tv_nsec: 0 };
    if let Err(error) = rustix::time::clock_settime(rustix::time::ClockId::Realtime, time) {
        return Reply::Refused {
            message: format!("the kernel refuses this time ({error}); nothing was changed"),
        };
    }
    shared.event("operator", "the clock of this unit was set");
    let primary = shared.view().ha.is_some_and(|ha| ha.effective == EffectiveMode::Primary);
    if primary
        && before - time.tv_sec > BACK_MAX_S
        && let Err(error) = unit.executor.mail.restart_after_clock().await
    {
        shared.event("service", &format!("Postfix still waits for the old time: {}", chain(&error)));
    }
    let [program, arguments @ ..] = HARDWARE_CLOCK;
    let write = quiet(program).args(arguments).status();
    let message = match tokio::time::timeout(HARDWARE_CLOCK_LIMIT, write).await {
        Ok(Ok(status)) if status.success() => "the clock is set".to_string(),
        _ => "the clock is set until the next boot; the hardware clock could not be written".to_string(),
    };
    Reply::Accepted { message }
}

/// Starts a load that ends by itself.
pub fn stress(shared: &Arc<Shared>, kind: Stress, seconds: u32) -> Reply {
    if !(1..=STRESS_SECONDS_MAX).contains(&seconds) {
        return Reply::Refused {
            message: format!("{seconds} seconds are refused; allowed: 1 to {STRESS_SECONDS_MAX}"),
        };
    }
    let Ok(place) = RUNNING.try_acquire() else {
        return Reply::Refused { message: "a load runs already; wait until it has ended".to_string() };
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let free_mib = free_mib(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let script = script(kind, seconds, processors, free_mib);
    let load = quiet("/usr/bin/timeout").args([&seconds.to_string(), "/usr/bin/sh", "-c", &script]).spawn();
    let mut load = match load {
        Ok(load) => load,
        Err(error) => return Reply::Refused { message: format!("no load was started: {error}") },
    };
    shared.event("operator", &format!("stress {kind:?} for {seconds} s"));
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let limit = Duration::from_secs(seconds.into()) + AFTER;
        // Whatever ended it: the program is dropped, and killed with that, and the scratch file goes.
        let _ = tokio::time::timeout(limit, load.wait()).await;
        drop(load);
        let _ = tokio::task::spawn_blocking(|| std::fs::remove_file(SCRATCH)).await;
        shared.event("operator", &format!("stress {kind:?} ended"));
        drop(place);
    });
    Reply::Accepted { message: format!("under load for {seconds} s; the event log tells when it has ended") }
}

/// The shell's words for a load. All of it dies first when memory runs out, and runs at ordinary priority, as mail
/// does, and not at that of the supervisor, which it would inherit.
fn script(kind: Stress, seconds: u32, processors: usize, free_mib: u64) -> String {
    let load = match kind {
        Stress::Cpu => {
            // Each ends by itself: the end of the shell is not theirs.
            let one = format!("timeout {seconds} yes > /dev/null &\n");
            format!("{}wait\n", one.repeat(2 * processors))
        }
        Stress::Io => format!(
            "while :; do\n\
             dd if=/dev/zero of={SCRATCH} bs=64k count=256 conv=fsync\n\
             dd if={SCRATCH} of=/dev/null bs=64k iflag=direct\n\
             done\n"
        ),
        // Fills its buffer again and again: pages that are always in use.
        Stress::Memory => {
            format!(
                "exec dd if=/dev/zero of=/dev/null bs={}M\n",
                free_mib.saturating_sub(MEMORY_LEFT_MIB).max(1)
            )
        }
    };
    format!("echo 1000 > /proc/self/oom_score_adj\nrenice 0 $$\n{load}")
}

/// `MemAvailable` of /proc/meminfo.
fn free_mib(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// A program without input and output that ends with its handle.
fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_cross_generations() {
        let generations = [b"1 had: a\n2 had: b\n".to_vec(), b"3 postfix: c\n4 had: \xff\n".to_vec()];
        assert_eq!(last_lines(&generations, 3), ["2 had: b", "3 postfix: c", "4 had: \u{fffd}"]);
        assert_eq!(last_lines(&generations, 9).len(), 4);
        assert!(last_lines(&[vec![], vec![]], 9).is_empty());
        let quotes = vec![[[b'"'; 1023].as_slice(), b"\n"].concat().repeat(256)];
        let reply = Reply::Log { lines: last_lines(&quotes, LOG_LINES_MAX) };
        let bytes = serde_json::to_vec(&reply).unwrap().len();
        assert!((LINE_BYTES_MAX / 2..LINE_BYTES_MAX).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_load_is_as_large_as_the_machine() {
        assert_eq!(script(Stress::Cpu, 60, 2, 0).matches("timeout 60 yes").count(), 4);
        assert!(script(Stress::Memory, 60, 1, 300).contains("bs=276M"));
        assert!(script(Stress::Memory, 60, 1, 3).contains("bs=1M"), "never nothing: dd refuses a size of 0");
        assert!(script(Stress::Io, 60, 1, 0).contains(SCRATCH));
    }

    #[test]
    fn free_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:         761856 kB\nMemFree:  1024 kB\nMemAvailable:     307200 kB\n";
        assert_eq!(free_mib(text), 300);
        assert_eq!(free_mib("nonsense"), 0);
    }
}
