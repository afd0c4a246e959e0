//! The control channel between the two units: TCP on hb-base-port+1 on every heartbeat link, sealed by crate `control`. Each
//! unit serves and calls; requests that this unit makes go over one connection, one after the other. Carries, and knows
//! nothing of what is said. `spec/ha.md` sections 2 and 8.
//!
//! ```text
//! call(service, request) ─▶ line (one, kept, either link) ─▶ peer: server ─▶ handler ─▶ answer
//! keeper    every 5 s (1 s while it is down) an own call of `ping`: keeps the line, notices its end, tells the state
//! servers   one listener a link, bound to its device ─▶ one connection in service at a time
//! ```
//!
//! To serve something: `control.serve(Service::HandOver, |request| async move { Ok(answer) })`. The handler gets requests one
//! at a time, also across connections; it is dropped when it takes longer than [`limit`]. A `String` as its error becomes
//! [`CallError::Refused`] on the other unit. A caller that got another error does not know whether the request was carried out: requests are
//! made so that they can be repeated. Work that blocks belongs into `spawn_blocking`: handlers run on the supervisor's event loop.

mod client;
mod open;
mod server;
mod stream;
#[cfg(test)]
mod tests;

pub use open::{open, replication_secret, start};

use client::Line;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpSocket;
use twinpost_control::{BODY_BYTES_MAX, ControlKey, Greeting, Service};
use twinpost_types::LinkId;

/// Pause between two pings. The other side gives a silent connection up after [`server::IDLE`].
const PING_EVERY: Duration = Duration::from_secs(5);
/// Pause before the next try to connect: a peer that boots is reached soon after it listens.
const CONNECT_EVERY: Duration = Duration::from_secs(1);

/// How long a service may take for one request, transport and waiting for its turn included.
#[must_use]
pub fn limit(service: Service) -> Duration {
    Duration::from_secs(match service {
        Service::Ping | Service::Keys => 5,
        Service::Command => 10,
        // A batch of mail becomes durable on both drives before it is confirmed.
        Service::HandOver => 60,
    })
}

/// One heartbeat link as the channel uses it.
#[derive(Clone, Debug)]
pub struct Way {
    /// Which one.
    pub link: LinkId,
    /// Its port, to which sockets are bound; `None` in tests on the loopback interface.
    pub device: Option<String>,
    /// Own address and control port.
    pub own: SocketAddr,
    /// The peer's, of the same kind.
    pub peer: SocketAddr,
}

impl Way {
    /// A socket of its kind.
    fn socket(&self) -> std::io::Result<TcpSocket> {
        if self.own.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
    }
}

/// What the channel needs to know.
pub struct Setup {
    /// From the HA password.
    pub key: ControlKey,
    /// Who this unit is.
    pub own: Greeting,
    /// At most one a link.
    pub ways: Vec<Way>,
}

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// The request is too long; nothing was sent.
    #[error("a request of {0} bytes is over the limit of {BODY_BYTES_MAX} bytes")]
    TooLarge(usize),
    /// No connection to the other unit; nothing was sent.
    #[error("the other unit is not reached over the control channel: {0}")]
    Unreachable(String),
    /// The connection ended before the answer; the request may have been carried out.
    #[error("the control channel broke before the answer: {0}")]
    Broken(String),
    /// No answer in time; the request may have been carried out.
    #[error("no answer from the other unit within {} s", limit(*.0).as_secs())]
    TimedOut(Service),
    /// The other unit's service refused it.
    #[error("the other unit refused: {0}")]
    Refused(String),
    /// The other unit does not serve this now: another release, or HA is not that far there.
    #[error("the other unit does not serve this ({0})")]
    NotServed(Service),
}

/// The channel as status views show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The link that the last answer came over; `None` while there is no connection.
    pub link: Option<LinkId>,
    /// Why there is none.
    pub why: String,
}

/// What came in and was dropped, since start.
#[derive(Debug, Default)]
pub struct Counters {
    /// The first message did not open: another password, or noise.
    pub wrong_key: AtomicU64,
    /// A forged, replayed or senseless piece.
    pub malformed: AtomicU64,
    /// A handshake or message was not finished in time.
    pub slow: AtomicU64,
    /// Too many unfinished handshakes at once.
    pub crowded: AtomicU64,
    /// From an address that is not the peer's.
    pub stranger: AtomicU64,
}

impl Counters {
    /// Names and numbers.
    pub fn all(&self) -> [(&'static str, u64); 5] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("control-wrong-key", get(&self.wrong_key)),
            ("control-malformed", get(&self.malformed)),
            ("control-slow", get(&self.slow)),
            ("control-crowded", get(&self.crowded)),
            ("control-stranger", get(&self.stranger)),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a handler gives back.
type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;
type Handler = Arc<dyn Fn(Vec<u8>) -> Answer + Send + Sync>;

/// Both directions of the channel.
pub struct Control {
    setup: Setup,
    handlers: Mutex<[Option<Handler>; Service::ALL.len()]>,
    /// Held while a service works: its requests come one at a time.
    turns: [tokio::sync::Mutex<()>; Service::ALL.len()],
    line: tokio::sync::Mutex<Option<Line>>,
    state: tokio::sync::watch::Sender<State>,
    /// The connection that is served; older ones end when it grows.
    served: tokio::sync::watch::Sender<u64>,
    /// Dropped input.
    pub counters: Counters,
}

impl Control {
    /// A channel that serves nothing but pings yet, and does not listen.
    #[must_use]
    pub fn new(setup: Setup) -> Arc<Self> {
        let why = "not connected yet".to_string();
        let control = Self {
            setup,
            handlers: Mutex::default(),
            turns: Default::default(),
            line: tokio::sync::Mutex::default(),
            state: tokio::sync::watch::Sender::new(State { link: None, why }),
            served: tokio::sync::watch::Sender::new(0),
            counters: Counters::default(),
        };
        control.serve(Service::Ping, |body| async move { Ok(body) });
        Arc::new(control)
    }

    /// From now on requests to `service` are answered by `handler`; an earlier one is replaced.
    pub fn serve<F, A>(&self, service: Service, handler: F)
    where
        F: Fn(Vec<u8>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Vec<u8>, String>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        self.handlers()[usize::from(service.number())] = Some(handler);
    }

    /// Asks the other unit and waits for its answer, at most [`limit`]. Never repeats a request by itself.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, service: Service, request: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let answer = tokio::time::timeout(limit(service), client::call(self, service, request));
        let answer = answer.await.unwrap_or(Err(CallError::TimedOut(service)));
        if let Err(error @ (CallError::Unreachable(_) | CallError::Broken(_) | CallError::TimedOut(_))) =
            &answer
        {
            self.tell(State { link: None, why: error.to_string() });
        }
        answer
    }

    /// The channel's state, and word when it changes.
    #[must_use]
    pub fn state(&self) -> tokio::sync::watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Starts to serve and to keep the own connection. `trouble` hears of a link on which nobody can be served, and of its end.
    pub fn start(self: &Arc<Self>, trouble: impl Fn(LinkId, Option<String>) + Send + Sync + 'static) {
        let trouble = Arc::new(trouble);
        for way in self.setup.ways.clone() {
            tokio::spawn(server::listen(Arc::clone(self), way, Arc::clone(&trouble)));
        }
        tokio::spawn(keep(Arc::clone(self)));
    }

    fn handlers(&self) -> MutexGuard<'_, [Option<Handler>; Service::ALL.len()]> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: State) {
        self.state.send_if_modified(|last| {
            let changed = *last != state;
            *last = state;
            changed
        });
    }
}

async fn keep(control: Arc<Control>) {
    loop {
        let idle = control.line.try_lock().is_ok();
        if idle {
            // What fails is told as the state.
            let _ = control.call(Service::Ping, Vec::new()).await;
        }
        let up = control.state.borrow().link.is_some();
        tokio::time::sleep(if up { PING_EVERY } else { CONNECT_EVERY }).await;
    }
}

/// Fresh random bytes for one handshake.
fn entropy() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&twinpost_net::rt::random_u128().to_le_bytes());
    bytes[16..].copy_from_slice(&twinpost_net::rt::random_u128().to_le_bytes());
    bytes
}
