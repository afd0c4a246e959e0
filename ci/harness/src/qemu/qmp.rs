//! QEMU's control socket: the few commands that the bench needs, one JSON object a line (QEMU's qmp-spec). Asynchronous events are
//! skipped.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A command that is not answered within this time has failed; QEMU answers within milliseconds unless the host is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// QEMU has made its socket by then.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket did not appear, or the conversation broke off.
    #[error("QEMU's control socket does not answer")]
    Broken(#[source] std::io::Error),
    /// QEMU refused.
    #[error("QEMU refused `{command}`: {answer}")]
    Refused {
        /// The command.
        command: String,
        /// What QEMU said.
        answer: String,
    },
}

/// An open control connection.
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and negotiates. `alive` is asked while the socket is not there yet, to give up early when QEMU has ended.
    ///
    /// # Errors
    /// No connection within 30 s, or QEMU ended.
    pub fn connect(path: &Path, mut alive: impl FnMut() -> bool) -> Result<Self, QmpError> {
        let end = Instant::now() + START_WITHIN;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= end || !alive() => return Err(QmpError::Broken(error)),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(QmpError::Broken)?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.read()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and waits for its answer.
    ///
    /// # Errors
    /// QEMU refused, or the conversation broke off.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.reader.get_mut().write_all(line.as_bytes()).map_err(QmpError::Broken)?;
        let end = Instant::now() + ANSWER_WITHIN;
        while Instant::now() < end {
            let answer = self.read()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                return Err(QmpError::Refused { command: command.to_owned(), answer: error.to_string() });
            }
        }
        Err(QmpError::Broken(std::io::ErrorKind::TimedOut.into()))
    }

    /// Pulls or plugs the cable of a network port.
    ///
    /// # Errors
    /// See [`Qmp::execute`].
    pub fn set_link(&mut self, port: usize, up: bool) -> Result<(), QmpError> {
        self.execute("set_link", json!({ "name": format!("port{port}"), "up": up })).map(|_| ())
    }

    fn read(&mut self) -> Result<Value, QmpError> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).map_err(QmpError::Broken)?;
        if length == 0 {
            return Err(QmpError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&line).map_err(|error| QmpError::Broken(std::io::Error::other(error)))
    }
}
