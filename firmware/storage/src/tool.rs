//! Runs a program with a hard time limit and bounded output. A child that hangs in the kernel cannot be killed: it is
//! left behind and reaped when it ends, and the caller goes on. Knows nothing of what the programs do.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Most output that is kept of a program, bytes: about 100 times what the longest answer needs.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;
/// How much of a program's complaint goes into an error, characters.
const COMPLAINT_CHARS_MAX: usize = 400;

/// Why a program did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Could not be started.
    #[error("{program} could not be started: the image is damaged or memory is short")]
    Start {
        /// Program.
        program: String,
        /// From the kernel.
        #[source]
        source: std::io::Error,
    },
    /// Did not end in time. What it asked for may still happen.
    #[error("{what} did not end within {limit_ms} ms: a drive or the replication link hangs")]
    TimedOut {
        /// What was asked.
        what: String,
        /// The limit.
        limit_ms: u64,
    },
    /// The state does not allow it; nothing changed.
    #[error("{what} was refused: {complaint}")]
    Refused {
        /// What was asked.
        what: String,
        /// Exit code.
        code: i32,
        /// The program's words.
        complaint: String,
    },
    /// Failed.
    #[error("{what} failed with exit code {code}: {complaint}")]
    Failed {
        /// What was asked.
        what: String,
        /// Exit code; -1 when it was killed by a signal.
        code: i32,
        /// The program's words.
        complaint: String,
    },
}

impl CommandError {
    /// True when it may still happen later.
    #[must_use]
    pub fn fault_is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// True when the lower layer refused and nothing changed.
    #[must_use]
    pub fn refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code; -1 when it was killed by a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error, shortened to one line.
    pub complaint: String,
}

/// Runs `program` and waits at most `limit`.
pub(crate) async fn run<S: AsRef<OsStr>>(
    program: &Path,
    args: &[S],
    what: &str,
    limit: Duration,
) -> Result<Outcome, CommandError> {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| CommandError::Start { program: program.display().to_string(), source })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::join!(read_bounded(stdout), read_bounded(stderr), child.wait()) };
    // On a timeout the child is dropped: killed, and reaped by the runtime whenever the kernel lets go of it.
    let Ok((stdout, stderr, status)) = tokio::time::timeout(limit, all).await else {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        return Err(CommandError::TimedOut { what: what.to_owned(), limit_ms });
    };
    let status =
        status.map_err(|source| CommandError::Start { program: program.display().to_string(), source })?;
    Ok(Outcome { code: status.code().unwrap_or(-1), stdout, complaint: one_line(&stderr) })
}

async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut limited = pipe.take(OUTPUT_BYTES_MAX);
        // A broken pipe ends the output; the exit code tells the rest.
        let _ = limited.read_to_end(&mut bytes).await;
        // What comes after the bound is read and thrown away, so that the child is not stopped by a full pipe.
        let _ = tokio::io::copy(&mut limited.into_inner(), &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(COMPLAINT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn returns_code_output_and_complaint() {
        let outcome = runtime()
            .block_on(run(
                Path::new("/bin/sh"),
                &["-c", "echo out; echo a  b >&2; echo c >&2; exit 7"],
                "test",
                Duration::from_secs(20),
            ))
            .unwrap();
        assert_eq!(
            (outcome.code, outcome.stdout.as_str(), outcome.complaint.as_str()),
            (7, "out\n", "a b c")
        );
    }

    #[test]
    fn a_child_that_hangs_does_not_block() {
        let began = std::time::Instant::now();
        let error = runtime()
            .block_on(run(Path::new("/bin/sleep"), &["60"], "sleeping", Duration::from_millis(100)))
            .unwrap_err();
        assert!(error.fault_is_timeout() && error.to_string().contains("100 ms"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn endless_output_is_bounded() {
        let script = "i=0; while [ $i -lt 3000 ]; do printf '%0200d\\n' $i; i=$((i+1)); done";
        let outcome = runtime()
            .block_on(run(Path::new("/bin/sh"), &["-c", script], "test", Duration::from_secs(60)))
            .unwrap();
        assert_eq!(outcome.stdout.len() as u64, OUTPUT_BYTES_MAX);
        assert_eq!(outcome.code, 0);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = runtime()
            .block_on(run(Path::new("/nonexistent/tool"), &["x"], "x", Duration::from_secs(1)))
            .unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/tool could not be started"));
    }
}
