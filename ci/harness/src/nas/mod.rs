//! A server with an NFS export, as a host of the bench: what is stored on it outlives the units. An own one, since it has to live on the
//! bench's userspace network, where no kernel's or program's server has a socket.
//!
//! ```text
//!  Connection ─ records ─▶ xdr ─▶ protocol (NFS 3, mount service, port mapper) ─▶ tree (in memory)
//! ```

mod protocol;
mod tree;
mod xdr;

use crate::clock::Micros;
use crate::host::{Application, Connection, Net, serve_each};
use protocol::{MAPPER_PORT, PORT, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Connections waited for on each port; a unit's kernel uses one for each program, and a few may be left of units that died.
const CONNECTIONS: usize = 8;
/// A client that says nothing for this long is dropped: a unit whose power was cut never closes, and a kernel that is idle connects anew.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Answers that a client does not take are not piled up beyond this, bytes: it is asked no more until it has read.
const UNSENT_MAX: usize = 1 << 20;

/// The application.
pub struct Nas {
    server: Server,
    desks: Vec<Desk>,
    answers: Arc<AtomicBool>,
}

struct Desk {
    port: u16,
    connection: Connection,
    heard: Micros,
}

impl Nas {
    /// An empty export of this path. While `answers` is false, connections are taken and nothing is answered: what a server does that hangs.
    #[must_use]
    pub fn new(export: &str, answers: Arc<AtomicBool>) -> Self {
        Self { server: Server::new(export, wall_clock()), desks: Vec::new(), answers }
    }
}

impl Application for Nas {
    fn poll(&mut self, now: Micros, net: &mut Net<'_>) {
        for port in [PORT, MAPPER_PORT] {
            while self.desks.iter().filter(|desk| desk.port == port).count() < CONNECTIONS {
                self.desks.push(Desk { port, connection: Connection::listen(net, port), heard: now });
            }
        }
        let (server, answers) = (&mut self.server, self.answers.load(Ordering::Relaxed));
        let serve =
            |desk: &mut Desk, net: &mut Net<'_>| desk.serve(now, net, answers.then_some(&mut *server));
        serve_each(&mut self.desks, net, serve, |desk| desk.connection);
    }
}

impl Desk {
    /// False when the connection is over.
    fn serve(&mut self, now: Micros, net: &mut Net<'_>, server: Option<&mut Server>) -> bool {
        self.connection.pump(net);
        let Some(server) = server else {
            self.heard = now;
            return !self.connection.has_ended(net);
        };
        while self.connection.unsent() < UNSENT_MAX {
            let Ok(record) = xdr::take_record(self.connection.inbox()) else { return false };
            let Some(record) = record else { break };
            self.heard = now;
            match server.answer(&record, wall_clock()) {
                Some(reply) => self.connection.say(&reply),
                None => return false,
            }
        }
        self.connection.pump(net);
        if !self.connection.is_established(net) {
            // Nobody has come yet; or it has ended, which is looked at next.
            self.heard = now;
        }
        !self.connection.has_ended(net) && now.since(self.heard) < SILENCE_MAX
    }
}

/// What the units' clocks show as well.
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
