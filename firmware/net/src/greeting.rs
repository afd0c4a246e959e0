//! Does a mail service greet at an address? One TCP connection, one line, one hard limit. RFC 5321 section 3.1. Says nothing
//! about whether mail would be accepted.

use core::net::SocketAddr;
use core::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of a greeting that are looked at.
const PREFIX: &[u8] = b"220";

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// A `220` greeting within the limit.
    Ready,
    /// Something answered, but not with `220`: refused, closed, another code.
    Other,
    /// Nothing within the limit, or no way to the address.
    Silent,
}

/// Connects to `address` and waits for its greeting, `limit` for both together. Needs a tokio runtime with IO and time.
pub async fn greets(address: SocketAddr, limit: Duration) -> Greeting {
    timeout(limit, connect_and_read(address)).await.unwrap_or(Greeting::Silent)
}

async fn connect_and_read(address: SocketAddr) -> Greeting {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Greeting::Other,
        Err(_) => return Greeting::Silent,
    };
    let mut start = [0; PREFIX.len()];
    match stream.read_exact(&mut start).await {
        Ok(_) if start == PREFIX => Greeting::Ready,
        Ok(_) | Err(_) => Greeting::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn ask(address: SocketAddr, limit_ms: u64) -> Greeting {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(greets(address, Duration::from_millis(limit_ms)))
    }

    fn server(says: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked once");
            stream.write_all(says).expect("short");
            if !says.is_empty() {
                return;
            }
            // A service that hangs: holds the connection until the other side gives up.
            let _ended = std::io::Read::read(&mut stream, &mut [0]);
        });
        address
    }

    #[test]
    fn a_greeting_is_told_from_anything_else() {
        assert_eq!(ask(server(b"220 mail.example.test ESMTP\r\n"), 5000), Greeting::Ready);
        assert_eq!(ask(server(b"554 no\r\n"), 5000), Greeting::Other);
        assert_eq!(ask(server(b"22"), 5000), Greeting::Other);
        assert_eq!(ask(server(b""), 100), Greeting::Silent);
        let closed = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
        assert_eq!(ask(closed, 5000), Greeting::Other);
    }
}
