//! The program that the DRBD module runs (`usermode_helper`): asks the supervisor and exits with its answer. Decides
//! nothing; without a supervisor it exits with "not decided", and writes stay frozen rather than go on alone.

use super::{FENCE_SOCKET, UNDECIDED};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a supervisor may be away (init restarts it within 2 s) before a question stays undecided.
const SUPERVISOR_AWAY: Duration = Duration::from_secs(10);
/// Between attempts.
const STEP: Duration = Duration::from_millis(100);
/// How long a decision may take: the longest heartbeat threshold and a little.
const DECISION: Duration = Duration::from_secs(3700);
/// How long a notice may hold DRBD up.
const NOTICE: Duration = Duration::from_secs(1);

/// Carries `drbd-helper <event> <resource>` to the supervisor; returns the exit code. Blocks until there is an answer.
pub fn helper_main(args: impl Iterator<Item = OsString>) -> u8 {
    let mut args = args.map(|argument| argument.to_string_lossy().into_owned());
    let event = args.next().unwrap_or_default();
    let resource = args.next().unwrap_or_default();
    ask(Path::new(FENCE_SOCKET), &event, &resource, SUPERVISOR_AWAY)
}

/// Asks on `socket`; `away` is how long nobody may listen.
pub(super) fn ask(socket: &Path, event: &str, resource: &str, away: Duration) -> u8 {
    if event != "fence-peer" {
        // A notice: whether somebody heard it or not, DRBD shall go on.
        let _ = ask_once(socket, event, resource, NOTICE);
        return 0;
    }
    let began = Instant::now();
    let mut last_heard = began;
    while last_heard.elapsed() < away && began.elapsed() < DECISION {
        let asked = Instant::now();
        match ask_once(socket, event, resource, DECISION) {
            Ok(code) => return code,
            // Connected and cut off without an answer: the supervisor was restarted. Ask the new one.
            Err(Broken::WhileWaiting) if asked.elapsed() > STEP => last_heard = Instant::now(),
            Err(Broken::WhileWaiting | Broken::NotConnected) => {}
        }
        std::thread::sleep(STEP);
    }
    UNDECIDED
}

enum Broken {
    NotConnected,
    WhileWaiting,
}

fn ask_once(socket: &Path, event: &str, resource: &str, limit: Duration) -> Result<u8, Broken> {
    let mut stream = UnixStream::connect(socket).map_err(|_| Broken::NotConnected)?;
    let talk = |stream: &mut UnixStream| -> io::Result<String> {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(NOTICE))?;
        stream.write_all(format!("{event} {resource}\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(16).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = talk(&mut stream).map_err(|_| Broken::WhileWaiting)?;
    answer.trim().parse().map_err(|_| Broken::WhileWaiting)
}
