//! The client of a unit's console: one command line in the operator's syntax, one JSON line back (ARCHITECTURE, "Machine console"). A
//! unit without a machine console is asked on the operator's, where `--json` before a command asks for such an answer. The line is a serial port of a machine that boots, dies and comes back: commands may be lost,
//! and kernel messages may stand between answers. What is no answer is skipped; what got no answer is an error, and the
//! caller decides whether asking again is harmless.

use crate::qemu::Layout;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use twinpost_api::{EventRecord, LINE_BYTES_MAX, LOG_LINES_MAX, Reply, Status};
use twinpost_scenario::MachineKind;

/// Time in which leftovers of an earlier, late answer arrive after a new connection.
const SETTLE: Duration = Duration::from_millis(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The unit is off, or QEMU closed the line.
    #[error("the machine console is not there")]
    Gone(#[source] std::io::Error),
    /// Nothing that is an answer came in time.
    #[error("`{command}` was not answered within {limit:?}")]
    Silent {
        /// What was asked.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// An answer of another kind came.
    #[error("`{command}` was answered: {answer}")]
    Refused {
        /// What was asked.
        command: String,
        /// The answer in words.
        answer: String,
    },
}

/// The line to one unit. Connects when it is first needed, and again after the unit was off.
pub struct Console {
    path: PathBuf,
    /// What asks for an answer in JSON.
    prefix: &'static str,
    stream: Option<UnixStream>,
    heard: Vec<u8>,
}

impl Console {
    /// The line to the unit with these files and this hardware; nothing is opened yet.
    #[must_use]
    pub fn of(layout: &Layout, kind: MachineKind) -> Self {
        match kind {
            MachineKind::Q35 => Self::new(layout.machine(), ""),
            MachineKind::Pc | MachineKind::Express => Self::new(layout.console(), "--json "),
        }
    }

    fn new(path: PathBuf, prefix: &'static str) -> Self {
        Self { path, prefix, stream: None, heard: Vec::new() }
    }

    /// The status.
    ///
    /// # Errors
    /// See [`ConsoleError`]. Asking again is harmless.
    pub fn status(&mut self, limit: Duration) -> Result<Status, ConsoleError> {
        let command = "get system ha status";
        match self.ask(command, limit, |reply| matches!(reply, Reply::Status(_)))? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected(command, &other)),
        }
    }

    /// Events after number `after`.
    ///
    /// # Errors
    /// See [`ConsoleError`]. Asking again is harmless.
    pub fn events(&mut self, after: u64, limit: Duration) -> Result<Vec<EventRecord>, ConsoleError> {
        let command = format!("diagnose system event list {after}");
        match self.ask(&command, limit, |reply| matches!(reply, Reply::Events { .. }))? {
            Reply::Events { events } => Ok(events),
            other => Err(unexpected(&command, &other)),
        }
    }

    /// The last lines that the services printed.
    ///
    /// # Errors
    /// See [`ConsoleError`]. Asking again is harmless.
    pub fn log(&mut self, limit: Duration) -> Result<Vec<String>, ConsoleError> {
        let command = format!("diagnose system log {LOG_LINES_MAX}");
        match self.ask(&command, limit, |reply| matches!(reply, Reply::Log { .. }))? {
            Reply::Log { lines } => Ok(lines),
            other => Err(unexpected(&command, &other)),
        }
    }

    /// An operator's command; the answer in words.
    ///
    /// # Errors
    /// See [`ConsoleError`]. After [`ConsoleError::Silent`] the command may have been carried out.
    pub fn command(&mut self, command: &str, limit: Duration) -> Result<String, ConsoleError> {
        match self.ask(command, limit, |_| true)? {
            Reply::Accepted { message } => Ok(message),
            Reply::Status(status) => Ok(format!("{} is {}", status.host, status.effective)),
            Reply::Events { events } => Ok(format!("{} events", events.len())),
            Reply::Log { lines } => Ok(format!("{} lines", lines.len())),
            Reply::Queue(leftovers) => Ok(leftovers.state),
            Reply::Report(report) => Ok(format!("{} messages were queued", report.queued)),
            refused @ Reply::Refused { .. } => Err(unexpected(command, &refused)),
        }
    }

    /// Forgets the connection: the unit was switched off.
    pub fn hang_up(&mut self) {
        self.stream = None;
    }

    fn ask(
        &mut self,
        command: &str,
        limit: Duration,
        wanted: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, ConsoleError> {
        let end = Instant::now() + limit;
        let result = self.exchange(command, end, wanted);
        if matches!(result, Err(ConsoleError::Gone(_))) {
            self.stream = None;
        }
        result.map_err(|error| match error {
            ConsoleError::Silent { command, .. } => ConsoleError::Silent { command, limit },
            other => other,
        })
    }

    fn exchange(
        &mut self,
        command: &str,
        end: Instant,
        wanted: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, ConsoleError> {
        if self.stream.is_none() {
            let mut stream = UnixStream::connect(&self.path).map_err(ConsoleError::Gone)?;
            // Ends whatever half a line the guest's terminal may hold.
            stream.write_all(b"\n").map_err(ConsoleError::Gone)?;
            self.stream = Some(stream);
            while self.fill(Instant::now() + SETTLE)? {}
        }
        while self.fill(Instant::now())? {}
        self.heard.clear();
        if let Some(stream) = &mut self.stream {
            let line = format!("{}{command}\n", self.prefix);
            stream.write_all(line.as_bytes()).map_err(ConsoleError::Gone)?;
        }
        loop {
            while let Some(line) = self.take_line() {
                if let Some(reply) = parse(&line).filter(&wanted) {
                    return Ok(reply);
                }
            }
            if !self.fill(end)? {
                return Err(ConsoleError::Silent { command: command.to_owned(), limit: Duration::ZERO });
            }
        }
    }

    /// Reads what is there, waiting until `end` at most; false when nothing came.
    fn fill(&mut self, end: Instant) -> Result<bool, ConsoleError> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        // A limit of zero would mean "wait for ever" to the system.
        let limit = end.saturating_duration_since(Instant::now()).max(Duration::from_micros(100));
        stream.set_read_timeout(Some(limit)).map_err(ConsoleError::Gone)?;
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => Err(ConsoleError::Gone(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                if self.heard.len() > LINE_BYTES_MAX {
                    self.heard.clear();
                }
                self.heard.extend_from_slice(piece.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(ConsoleError::Gone(error)),
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        Some(self.heard.drain(..=end).collect())
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// An answer may follow an echo or a prompt on the same line.
fn parse(line: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(line).ok()?;
    serde_json::from_str(text.get(text.find('{')?..)?.trim_end()).ok()
}

fn unexpected(command: &str, reply: &Reply) -> ConsoleError {
    let answer = match reply {
        Reply::Refused { message } | Reply::Accepted { message } => message.clone(),
        Reply::Queue(_) => "a list of leftovers".to_owned(),
        Reply::Report(_) => "a report of mail".to_owned(),
        Reply::Status(_) => "a status".to_owned(),
        Reply::Events { .. } => "events".to_owned(),
        Reply::Log { .. } => "a service log".to_owned(),
    };
    ConsoleError::Refused { command: command.to_owned(), answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    #[test]
    fn skips_garbage_and_late_answers_and_survives_a_hang_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        let listener = UnixListener::bind(&path).unwrap();
        let unit = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for line in lines.map_while(Result::ok).filter(|line| !line.is_empty()).take(2) {
                    let event = r#"{"reply":"events","events":[]}"#;
                    let accepted = r#"{"reply":"accepted","message":"done"}"#;
                    let answer = if line.starts_with("diagnose system event") { event } else { accepted };
                    let noise = format!("[  1.2] kernel {{ noise\nlogin: {line}\n{accepted}\n# {answer}\n");
                    stream.write_all(noise.as_bytes()).unwrap();
                }
            }
        });
        let mut console = Console::new(path, "");
        let limit = Duration::from_secs(5);
        for _ in 0..2 {
            assert_eq!(console.events(0, limit).unwrap(), []);
            assert_eq!(console.command("execute reboot", limit).unwrap(), "done");
            let gone = console.status(limit);
            assert!(matches!(gone, Err(ConsoleError::Gone(_))), "{gone:?}");
        }
        unit.join().unwrap();
    }
}
