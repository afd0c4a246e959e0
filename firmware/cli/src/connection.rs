//! One request and one reply over the supervisor's socket, with limits of time and size. A new connection each time: the
//! supervisor may have been restarted since the last command.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use twinpost_api::{LINE_BYTES_MAX, Reply, Request, SOCKET};

/// The supervisor answers within milliseconds; verbs are only accepted, not carried out, before the answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What init keeps in memory of what the services printed, and the last of it that a message shows. Read here because the supervisor, which
/// shows it otherwise, is what is missing.
const SERVICE_LOG: &str = "/run/twinpost/service.log";
const LAST_WORDS: usize = 8;

/// Why the supervisor gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("the supervisor cannot be reached at {SOCKET}")]
    Connect(#[source] std::io::Error),
    /// The request could not be sent or the answer not be read within the limit.
    #[error("the supervisor did not answer within {} s", ANSWER_LIMIT.as_secs())]
    Answer(#[source] std::io::Error),
    /// The answer is not one of the api.
    #[error("the supervisor's answer is not understood; are both of one release?")]
    Garbled(#[source] serde_json::Error),
}

/// Asks the supervisor.
///
/// # Errors
/// No supervisor, no answer in time, or an answer of another release.
pub fn ask(request: &Request) -> Result<Reply, AskError> {
    ask_at(Path::new(SOCKET), request)
}

/// What the operator is told when there is no answer, and where to look.
pub fn explain(error: &AskError) -> String {
    let mut causes = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        causes.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let printed = std::fs::read(SERVICE_LOG).unwrap_or_default();
    format!(
        "{error}{causes}. init restarts it by itself; the other unit takes over when this one is silent. {}",
        last_words(&String::from_utf8_lossy(&printed))
    )
}

/// The last lines of the supervisor among those of all services (`seconds name: text`).
pub(crate) fn last_words(log: &str) -> String {
    let of_had = |line: &&str| line.split_once(' ').is_some_and(|(_, rest)| rest.starts_with("had:"));
    let mut lines: Vec<&str> = log.lines().rev().filter(of_had).take(LAST_WORDS).collect();
    if lines.is_empty() {
        return format!("It printed nothing that is kept in {SERVICE_LOG}");
    }
    lines.reverse();
    let plain = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
    format!("Its last lines, in seconds since the start:\n{}", lines.join("\n")).chars().map(plain).collect()
}

pub(crate) fn ask_at(socket: &Path, request: &Request) -> Result<Reply, AskError> {
    let mut stream = UnixStream::connect(socket).map_err(AskError::Connect)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(AskError::Answer)?;
    stream.set_write_timeout(Some(ANSWER_LIMIT)).map_err(AskError::Answer)?;
    let mut line = serde_json::to_string(request).map_err(AskError::Garbled)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(AskError::Answer)?;
    let mut answer = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    BufReader::new(stream).take(limit).read_until(b'\n', &mut answer).map_err(AskError::Answer)?;
    if answer.is_empty() {
        return Err(AskError::Answer(std::io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&answer).map_err(AskError::Garbled)
}
