//! Reads the mailbox on the pair through the virtual IP (IMAP4rev1, RFC 3501) and counts the copies of each message. Only what
//! the ledger needs: LOGIN, SELECT, FETCH of one header, LOGOUT.

use super::ledger::Ledger;
use crate::clock::Micros;
use crate::host::{Application, Connection, Net};
use smoltcp::wire::Ipv4Address;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// IMAP.
const PORT: u16 = 143;
/// One reading ends within this time or has failed.
const READ_WITHIN: Duration = Duration::from_secs(60);
/// Pause after a failed reading.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who reads.
#[derive(Clone, Debug)]
pub struct MailboxLogin {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

/// What was asked for and how often it was done.
#[derive(Debug, Default)]
struct Orders {
    wanted: bool,
    readings: u64,
    trouble: Option<String>,
}

/// The bench's handle: asks for readings.
#[derive(Clone, Default)]
pub struct MailboxOrders(Arc<Mutex<Orders>>);

impl MailboxOrders {
    /// Asks for one reading.
    pub fn ask(&self) {
        self.lock().wanted = true;
    }

    /// Readings done so far.
    #[must_use]
    pub fn readings(&self) -> u64 {
        self.lock().readings
    }

    /// Why the last reading failed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reading {
    connection: Connection,
    began: Micros,
    step: usize,
    copies: HashMap<usize, usize>,
}

/// The application.
pub struct Mailbox {
    target: Ipv4Address,
    ledger: Ledger,
    login: MailboxLogin,
    orders: MailboxOrders,
    reading: Option<Reading>,
    not_before: Micros,
}

impl Mailbox {
    /// A reader of the mailbox behind `target`.
    #[must_use]
    pub fn new(target: Ipv4Address, ledger: Ledger, login: MailboxLogin, orders: MailboxOrders) -> Self {
        Self { target, ledger, login, orders, reading: None, not_before: Micros::default() }
    }

    /// The command of a step; each is answered by a line that begins with its tag `t<step>`. Step 0 is the greeting.
    fn command(&self, step: usize) -> Option<String> {
        let MailboxLogin { user, password } = &self.login;
        match step {
            1 => Some(format!("t1 LOGIN \"{user}\" \"{password}\"\r\n")),
            2 => Some("t2 EXAMINE INBOX\r\n".to_owned()),
            3 => Some("t3 UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (X-Twinpost-Id)])\r\n".to_owned()),
            4 => Some("t4 LOGOUT\r\n".to_owned()),
            _ => None,
        }
    }

    /// Goes on with a reading; `Some` when it has ended.
    fn advance(&self, reading: &mut Reading, now: Micros, net: &mut Net<'_>) -> Option<Result<(), String>> {
        reading.connection.pump(net);
        while let Some(line) = reading.connection.line() {
            if let Some(id) = self.ledger.recognise(&line) {
                *reading.copies.entry(id).or_default() += 1;
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            let tag = format!("t{}", reading.step);
            let mut words = text.split(' ');
            let answered = words.next() == Some(if reading.step == 0 { "*" } else { tag.as_str() });
            if !answered {
                continue;
            }
            if words.next() != Some("OK") {
                return Some(Err(format!("IMAP step {} was answered: {text}", reading.step)));
            }
            reading.step += 1;
            match self.command(reading.step) {
                Some(command) => reading.connection.say(command.as_bytes()),
                None => return Some(Ok(())),
            }
        }
        reading.connection.pump(net);
        if reading.connection.is_over(net) {
            return Some(Err(format!("the IMAP connection ended in step {}", reading.step)));
        }
        (now.since(reading.began) > READ_WITHIN)
            .then(|| Err(format!("IMAP step {} was not answered in time", reading.step)))
    }
}

impl Application for Mailbox {
    fn poll(&mut self, now: Micros, net: &mut Net<'_>) {
        let Some(mut reading) = self.reading.take() else {
            if now >= self.not_before && self.orders.lock().wanted {
                let connection = Connection::connect(net, self.target, PORT);
                self.reading = Some(Reading { connection, began: now, step: 0, copies: HashMap::new() });
            }
            return;
        };
        match self.advance(&mut reading, now, net) {
            None => self.reading = Some(reading),
            Some(result) => {
                let mut orders = self.orders.lock();
                match result {
                    Ok(()) => {
                        self.ledger.mailbox_holds(&reading.copies);
                        orders.wanted = false;
                        orders.readings += 1;
                        orders.trouble = None;
                    }
                    Err(why) => orders.trouble = Some(why),
                }
                self.not_before = now + RETRY_AFTER;
                reading.connection.abandon(net);
            }
        }
    }
}
