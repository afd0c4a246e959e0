//! Connections of `/run/init.sock`: at most [`CONNECTIONS_MAX`], one request each, bounded in length and time. What a
//! request means is in `control.rs` and `run.rs`.

use crate::control::LINE_BYTES_MAX;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

/// Where it is.
pub const PATH: &str = "/run/init.sock";
/// Connections at a time; had, cli and a person.
pub const CONNECTIONS_MAX: usize = 16;
/// A client that sends no line in this time is dropped.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
    until: Duration,
    /// The request was read; the answer is awaited.
    pub asked: bool,
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The line is not complete.
    More,
    /// A line.
    Line(String),
    /// Drop the connection.
    Closed,
}

impl Connection {
    /// Reads what is there.
    pub fn read(&mut self) -> Read {
        let mut bytes = [0; LINE_BYTES_MAX];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Read::Closed,
            Ok(count) => self.line.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::More,
            Err(_) => return Read::Closed,
        }
        if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            self.asked = true;
            return Read::Line(String::from_utf8_lossy(&self.line[..end]).into_owned());
        }
        if self.line.len() > LINE_BYTES_MAX { Read::Closed } else { Read::More }
    }

    /// Whether the client took too long to ask.
    #[must_use]
    pub fn late(&self, now: Duration) -> bool {
        !self.asked && now >= self.until
    }

    /// Answers and ends the connection. The answer fits into the socket's buffer; a client that does not read gets
    /// what fits.
    pub fn answer(mut self, text: &str) {
        let _ = self.stream.write_all(format!("{text}\n").as_bytes());
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Opens the socket, for root only.
///
/// # Errors
/// When the path cannot be bound.
pub fn listen() -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(PATH);
    let listener = UnixListener::bind(PATH)?;
    std::fs::set_permissions(PATH, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Takes one new connection; `None` if there is none.
#[must_use]
pub fn accept(listener: &UnixListener, now: Duration) -> Option<Connection> {
    let (stream, _) = listener.accept().ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(Connection { stream, line: Vec::new(), until: now + REQUEST_TIME, asked: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixStream, Connection) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        theirs.set_nonblocking(true).expect("nonblocking");
        (ours, Connection { stream: theirs, line: Vec::new(), until: Duration::from_secs(5), asked: false })
    }

    #[test]
    fn lines_arrive_in_pieces_and_are_bounded() {
        let (mut ours, mut connection) = pair();
        assert_eq!(connection.read(), Read::More);
        ours.write_all(b"sta").expect("writes");
        assert_eq!(connection.read(), Read::More);
        ours.write_all(b"tus\nrest").expect("writes");
        assert_eq!(connection.read(), Read::Line("status".into()));
        let (mut ours, mut connection) = pair();
        ours.write_all(&[b'x'; 4 * LINE_BYTES_MAX]).expect("writes");
        assert_eq!(connection.read(), Read::More);
        assert_eq!(connection.read(), Read::Closed);
        assert!(connection.late(Duration::from_secs(5)));
    }
}
