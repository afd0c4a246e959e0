//! QEMU's control socket: the few commands that the bench needs, one JSON object a line (QEMU's qmp-spec). Asynchronous events are
//! skipped.

use super::command::{SYSTEM_DEVICE, SYSTEM_DISK, SYSTEM_NODE};
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

    /// Lets the drive answer no more, or again. QEMU has no switch for it; at one byte a second the first request goes through
    /// and the next one waits for more than an hour. Requests that wait are carried out when the drive answers again.
    ///
    /// # Errors
    /// See [`Qmp::execute`].
    pub fn hang_drive(&mut self, hang: bool) -> Result<(), QmpError> {
        let limits = json!({
            "device": SYSTEM_DISK, "bps": u8::from(hang), "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0
        });
        self.execute("block_set_io_throttle", limits).map(drop)
    }

    /// Lets the drive answer every read, write and flush with an error, or work again: a layer that fails everything is put
    /// between the guest and the image, or taken away.
    ///
    /// # Errors
    /// See [`Qmp::execute`].
    pub fn fail_drive(&mut self, fail: bool) -> Result<(), QmpError> {
        /// Name of the layer.
        const LAYER: &str = "system-failing";
        /// EIO.
        const ERROR: u8 = 5;
        let attach = |node: &str| json!({ "path": format!("/machine/peripheral/{SYSTEM_DEVICE}"), "property": "drive", "value": node });
        if !fail {
            self.execute("qom-set", attach(SYSTEM_NODE))?;
            return self.execute("blockdev-del", json!({ "node-name": LAYER })).map(drop);
        }
        let rule = |kind| json!({ "event": "none", "errno": ERROR, "iotype": kind });
        let layer = json!({
            "driver": "blkdebug", "node-name": LAYER, "image": SYSTEM_NODE,
            "inject-error": [rule("read"), rule("write"), rule("flush")]
        });
        self.execute("blockdev-add", layer)?;
        self.execute("qom-set", attach(LAYER)).map(drop)
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
