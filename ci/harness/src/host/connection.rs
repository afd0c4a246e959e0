//! One TCP connection of an application: bounded buffers, CRLF lines or bytes in, bytes out. Knows no protocol above TCP.

use super::Net;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::Ipv4Address;

/// Longest line that is accepted, bytes; RFC 5321 section 4.5.3.1.6 asks for 1000. More ends the connection.
pub const LINE_BYTES_MAX: usize = 4096;
/// Socket buffer in each direction, bytes.
const WINDOW_BYTES: usize = 32 * 1024;

/// One connection.
pub struct Connection {
    handle: SocketHandle,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    overrun: bool,
}

impl Connection {
    /// Begins to connect to `ip`:`port`. Whether it worked is seen by [`Connection::is_established`].
    pub fn connect(net: &mut Net<'_>, ip: Ipv4Address, port: u16) -> Self {
        let mut socket = new_socket();
        let local = net.ephemeral_port();
        // Fails only for a port 0 or a socket in use; neither can be: the socket is new, the ports are constants.
        let _ = socket.connect(net.iface.context(), (ip, port), local);
        Self::new(net.sockets.add(socket))
    }

    /// Waits for one connection on `port`.
    pub fn listen(net: &mut Net<'_>, port: u16) -> Self {
        let mut socket = new_socket();
        // Fails only for port 0 or a socket in use, see above.
        let _ = socket.listen(port);
        Self::new(net.sockets.add(socket))
    }

    fn new(handle: SocketHandle) -> Self {
        Self { handle, inbox: Vec::new(), outbox: Vec::new(), overrun: false }
    }

    /// Moves bytes between the socket and the buffers.
    pub fn pump(&mut self, net: &mut Net<'_>) {
        let socket = net.sockets.get_mut::<Socket<'_>>(self.handle);
        if !self.outbox.is_empty()
            && socket.can_send()
            && let Ok(sent) = socket.send_slice(&self.outbox)
        {
            self.outbox.drain(..sent);
        }
        while socket.can_recv() && self.inbox.len() < WINDOW_BYTES {
            let inbox = &mut self.inbox;
            let took = socket.recv(|bytes| {
                inbox.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            if !matches!(took, Ok(1..)) {
                break;
            }
        }
    }

    /// The next whole line without its CRLF.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') else {
            self.overrun |= self.inbox.len() > LINE_BYTES_MAX;
            return None;
        };
        let mut line: Vec<u8> = self.inbox.drain(..=end).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }

    /// Queues bytes; they leave at the next [`Connection::pump`].
    pub fn say(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Bytes not yet handed to the socket.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// True once the handshake is done and until the other side has closed.
    #[must_use]
    pub fn is_established(&self, net: &Net<'_>) -> bool {
        net.sockets.get::<Socket<'_>>(self.handle).state() == State::Established
    }

    /// True when nothing can come any more: refused, reset, closed by the other side and read empty, or too long a line.
    #[must_use]
    pub fn is_over(&self, net: &Net<'_>) -> bool {
        self.overrun || (self.has_ended(net) && !self.inbox.contains(&b'\n'))
    }

    /// True when the socket gives nothing any more.
    #[must_use]
    pub fn has_ended(&self, net: &Net<'_>) -> bool {
        let socket = net.sockets.get::<Socket<'_>>(self.handle);
        let ended = matches!(
            socket.state(),
            State::Closed | State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        ended && !socket.can_recv()
    }

    /// What has come and was not taken, for protocols that are not made of lines.
    pub fn inbox(&mut self) -> &mut Vec<u8> {
        &mut self.inbox
    }

    /// Closes in good order; the socket lingers until [`Connection::is_gone`].
    pub fn close(&mut self, net: &mut Net<'_>) {
        net.sockets.get_mut::<Socket<'_>>(self.handle).close();
    }

    /// True when a closed connection needs no socket any more.
    #[must_use]
    pub fn is_gone(&self, net: &Net<'_>) -> bool {
        let state = net.sockets.get::<Socket<'_>>(self.handle).state();
        matches!(state, State::Closed | State::TimeWait)
    }

    /// Gives the socket back. If the connection was open, the stack answers what still comes with a reset.
    pub fn abandon(self, net: &mut Net<'_>) {
        net.sockets.remove(self.handle);
    }
}

/// Serves each of a server's connections once, kept in its `desks`; what `serve` says has ended gives its socket back.
pub fn serve_each<D>(
    desks: &mut Vec<D>,
    net: &mut Net<'_>,
    mut serve: impl FnMut(&mut D, &mut Net<'_>) -> bool,
    connection: impl Fn(D) -> Connection,
) {
    let mut index = 0;
    while index < desks.len() {
        if serve(&mut desks[index], net) {
            index += 1;
        } else {
            connection(desks.swap_remove(index)).abandon(net);
        }
    }
}

fn new_socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; WINDOW_BYTES]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(Some(Duration::from_millis(2)));
    socket
}
