//! The client that sends mail at a steady rate through the virtual IP and keeps the ledger. Open loop with bounded sessions: a
//! tick that finds no free session is skipped and counted, never saved up.

use super::book::AttemptId;
use super::ledger::Ledger;
use super::probe::Outages;
use super::smtp::{Outcome, Session, Stage};
use crate::clock::Micros;
use crate::host::{Application, Connection, Net};
use smoltcp::wire::Ipv4Address;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use twinpost_scenario::{Destination, LoadOrder};

/// SMTP (RFC 5321).
const PORT: u16 = 25;
/// Sessions that move at once. Each needs a process on the unit, which costs an emulated one a second to start.
const LIVELY_MAX: usize = 4;
/// All sessions, those included that hang on a unit that died.
const SESSIONS_MAX: usize = 12;
/// A session without progress for this long no longer counts as lively. An emulated unit that is busy takes seconds.
const HANGING_AFTER: Duration = Duration::from_secs(3);
/// A session without progress for this long is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
/// A connection that is not there after this long is given up, before TCP sends its request again (see `probe`).
const CONNECT_WITHIN: Duration = Duration::from_millis(600);
/// Shortest time between two attempts to connect.
const CONNECT_EVERY: Duration = Duration::from_millis(200);
/// Lateness after which ticks are dropped instead of caught up.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// The order in force, changed by the scenario while the load runs. `None` sends nothing.
#[derive(Clone, Default)]
pub struct LoadSettings(Arc<Mutex<Option<LoadOrder>>>);

impl LoadSettings {
    /// Gives a new order.
    pub fn set(&self, order: Option<LoadOrder>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = order;
    }

    /// The order in force.
    #[must_use]
    pub fn get(&self) -> Option<LoadOrder> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session on its connection.
struct Line {
    connection: Connection,
    session: Session,
    attempt: Option<Letter>,
    opened: Micros,
    progress: Micros,
    was_established: bool,
}

struct Letter {
    id: AttemptId,
    text: Vec<u8>,
    sent: Micros,
}

/// The application.
pub struct Load {
    target: Ipv4Address,
    ledger: Ledger,
    settings: LoadSettings,
    outages: Outages,
    lines: Vec<Line>,
    closing: Vec<(Connection, Micros)>,
    next_tick: Micros,
    next_connect: Micros,
}

impl Load {
    /// A client that sends to `target` as `settings` say. Its greetings count as answers of the service too.
    #[must_use]
    pub fn new(target: Ipv4Address, ledger: Ledger, settings: LoadSettings, outages: Outages) -> Self {
        let now = Micros::now();
        Self {
            target,
            ledger,
            settings,
            outages,
            lines: Vec::new(),
            closing: Vec::new(),
            next_tick: now,
            next_connect: now,
        }
    }

    /// Begins the messages that are due, on idle sessions; opens sessions when there are too few.
    fn tick(&mut self, now: Micros, net: &mut Net<'_>) {
        let Some(order) = self.settings.get() else {
            self.next_tick = now;
            return;
        };
        let period = Duration::from_secs_f64(1.0 / order.rate.clamp(0.01, 10_000.0));
        if now.since(self.next_tick) > CATCH_UP_MAX {
            self.next_tick = now;
        }
        while self.next_tick <= now {
            let idle = self.lines.iter_mut().find(|line| line.session.stage() == Stage::Idle);
            let Some(line) = idle else {
                self.open_line(now, net);
                return;
            };
            let recipient = order.to.recipient();
            let mailbox = order.to == Destination::Mailbox;
            let Some((id, text)) = self.ledger.open(mailbox, recipient, order.size) else { return };
            line.session.begin("ledger@client.test", recipient);
            line.attempt = Some(Letter { id, text, sent: now });
            line.progress = now;
            self.next_tick = self.next_tick + period;
        }
    }

    fn open_line(&mut self, now: Micros, net: &mut Net<'_>) {
        let lively = self.lines.iter().filter(|line| now.since(line.progress) < HANGING_AFTER).count();
        if now < self.next_connect || lively >= LIVELY_MAX || self.lines.len() >= SESSIONS_MAX {
            return;
        }
        self.next_connect = now + CONNECT_EVERY;
        let connection = Connection::connect(net, self.target, PORT);
        self.lines.push(Line {
            connection,
            session: Session::new(),
            attempt: None,
            opened: now,
            progress: now,
            was_established: false,
        });
    }

    fn sweep(&mut self, now: Micros, net: &mut Net<'_>) {
        let mut index = 0;
        while index < self.lines.len() {
            let line = &self.lines[index];
            let limit = if line.was_established { GIVE_UP_AFTER } else { CONNECT_WITHIN };
            let since = if line.was_established { line.progress } else { line.opened };
            let idle = line.session.stage() == Stage::Idle;
            let hanging = now.since(since) > limit && !idle;
            if hanging || line.connection.is_over(net) || line.session.stage() == Stage::Over {
                let mut line = self.lines.swap_remove(index);
                line.connection.close(net);
                self.closing.push((line.connection, now));
            } else {
                index += 1;
            }
        }
        sweep_closing(&mut self.closing, now, net);
    }
}

/// Gives back sockets that are closed, or that do not get closed within two seconds.
pub(super) fn sweep_closing(closing: &mut Vec<(Connection, Micros)>, now: Micros, net: &mut Net<'_>) {
    const LINGER: Duration = Duration::from_secs(2);
    // The last acknowledgement leaves only after the socket has seen the other side's end.
    const AT_LEAST: Duration = Duration::from_millis(50);
    let (done, open) = std::mem::take(closing).into_iter().partition(|(connection, since)| {
        let age = now.since(*since);
        (connection.is_gone(net) && age > AT_LEAST) || age > LINGER
    });
    *closing = open;
    let done: Vec<(Connection, Micros)> = done;
    for (connection, _) in done {
        connection.abandon(net);
    }
}

impl Line {
    fn advance(&mut self, now: Micros, net: &mut Net<'_>, ledger: &Ledger, outages: &Outages) {
        self.connection.pump(net);
        self.was_established |= self.connection.is_established(net);
        while let Some(text) = self.connection.line() {
            self.progress = now;
            if self.session.stage() == Stage::Greeting && text.starts_with(b"220") {
                outages.answered(now);
            }
            match self.session.handle(&text) {
                Outcome::None => {}
                Outcome::SendBody => {
                    if let Some(letter) = &mut self.attempt {
                        self.connection.say(&letter.text);
                        letter.sent = now;
                    }
                }
                Outcome::Acknowledged => {
                    if let Some(letter) = self.attempt.take() {
                        ledger.book().acknowledge(letter.id, letter.sent, now);
                    }
                }
                Outcome::Refused => self.attempt = None,
            }
        }
        let out = self.session.take_out();
        if !out.is_empty() {
            self.connection.say(&out);
        }
        self.connection.pump(net);
    }
}

impl Application for Load {
    fn poll(&mut self, now: Micros, net: &mut Net<'_>) {
        for line in &mut self.lines {
            line.advance(now, net, &self.ledger, &self.outages);
        }
        self.tick(now, net);
        for line in &mut self.lines {
            line.advance(now, net, &self.ledger, &self.outages);
        }
        self.sweep(now, net);
    }
}
