//! Length-prefixed pieces on a TCP stream, each read and write within a limit, and the options that make a dead peer known within
//! seconds.

use rustix::net::sockopt;
use std::io;
use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use twinpost_control::{Channel, HandshakeError, Message, OpenError, PIECE_BYTES_MAX, PREFIX_BYTES};

/// How long a whole message may take from its first piece on, and how long sending one may take: 1 MiB in clear takes 0.1 s on
/// the slowest cable.
const MESSAGE: Duration = Duration::from_secs(10);
/// Bytes that were sent and not acknowledged for this long end the connection, ms: the cable was cut, or the peer is gone.
const UNACKNOWLEDGED_MS: u32 = 3000;
/// A silent peer is asked after this long, and that often a second apart, before the connection ends.
const PROBE_AFTER: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer closed the connection between two messages.
    #[error("the other unit closed the connection")]
    Closed,
    /// Not finished in time.
    #[error("a message was not finished in time")]
    Slow,
    /// The socket's.
    #[error("{0}")]
    Io(io::Error),
    /// The piece's.
    #[error("{0}")]
    Open(OpenError),
    /// The handshake's.
    #[error("{0}")]
    Handshake(HandshakeError),
}

/// Sets the socket up.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
}

/// Reads one piece or handshake message of at most `bytes_max` bytes. No limit of time of its own.
pub async fn read_piece(stream: &mut TcpStream, bytes_max: usize) -> Result<Vec<u8>, StreamError> {
    let mut length = [0; PREFIX_BYTES];
    match stream.read_exact(&mut length).await {
        Err(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset) => {
            return Err(StreamError::Closed);
        }
        result => result.map_err(StreamError::Io)?,
    };
    let length = usize::from(u16::from_be_bytes(length));
    if length > bytes_max {
        return Err(StreamError::Open(OpenError::Malformed));
    }
    let mut piece = vec![0; length];
    stream.read_exact(&mut piece).await.map_err(StreamError::Io)?;
    Ok(piece)
}

/// Writes a handshake message with its length.
pub async fn write_piece(stream: &mut TcpStream, piece: &[u8]) -> io::Result<()> {
    let length = u16::try_from(piece.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), piece].concat()).await
}

/// Reads and opens the first piece of a message. No limit of time of its own.
pub async fn read_first(
    stream: &mut TcpStream,
    channel: &mut Channel,
) -> Result<Option<Message>, StreamError> {
    let piece = read_piece(stream, PIECE_BYTES_MAX).await?;
    channel.open(&piece).map_err(StreamError::Open)
}

/// Reads the rest of a message, in time.
pub async fn read_rest(
    stream: &mut TcpStream,
    channel: &mut Channel,
    mut begun: Option<Message>,
) -> Result<Message, StreamError> {
    let rest = async {
        loop {
            match begun {
                Some(message) => return Ok(message),
                None => begun = read_first(stream, channel).await?,
            }
        }
    };
    tokio::time::timeout(MESSAGE, rest).await.unwrap_or(Err(StreamError::Slow))
}

/// Writes one message that is within its limit.
pub async fn write_message(
    stream: &mut TcpStream,
    channel: &mut Channel,
    message: &Message,
) -> Result<(), StreamError> {
    let mut bytes = Vec::new();
    channel.seal(message, &mut bytes).map_err(|error| StreamError::Io(io::Error::other(error)))?;
    match tokio::time::timeout(MESSAGE, stream.write_all(&bytes)).await {
        Ok(written) => written.map_err(StreamError::Io),
        Err(_) => Err(StreamError::Slow),
    }
}
