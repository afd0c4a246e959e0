//! The next hop: an SMTP server that accepts everything at once and notes when it answered `250` (RFC 5321, 2920, 1870, 6152), or refuses
//! everything for now while a scenario wants mail to stay queued.
//! It stores nothing but the mark of each message.

use super::book::AttemptId;
use super::ledger::Ledger;
use crate::clock::Micros;
use crate::host::{Application, Connection, Net, serve_each};
use std::time::Duration;

/// SMTP.
const PORT: u16 = 25;
/// Connections served at once; Postfix opens at most 20 to one destination.
const CONNECTIONS: usize = 40;
/// A client that says nothing for this long is dropped (a unit whose power was cut never closes).
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The application.
pub struct NextHop {
    ledger: Ledger,
    desks: Vec<Desk>,
}

/// One connection and where its dialogue stands.
struct Desk {
    connection: Connection,
    dialogue: Dialogue,
    heard: Micros,
}

/// The server's side of one session, without sockets.
#[derive(Default)]
struct Dialogue {
    greeted: bool,
    in_data: bool,
    in_header: bool,
    mark: Option<AttemptId>,
    done: bool,
}

impl NextHop {
    /// A next hop that enters what arrives in `ledger`.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, desks: Vec::new() }
    }
}

impl Dialogue {
    /// Takes one line of the client and gives the answer.
    fn handle(&mut self, line: &[u8], ledger: &Ledger) -> &'static [u8] {
        if self.in_data {
            return self.data(line, ledger);
        }
        let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_slice() {
            b"EHLO" => b"250-nexthop.test\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n",
            b"MAIL" if ledger.next_hop_refuses() => b"451 not now\r\n",
            // Without a sender there are no recipients and no message.
            b"RCPT" | b"DATA" if ledger.next_hop_refuses() => b"503 no sender\r\n",
            b"HELO" | b"MAIL" | b"RCPT" | b"RSET" | b"NOOP" | b"VRFY" => b"250 ok\r\n",
            b"DATA" => {
                self.in_data = true;
                self.in_header = true;
                self.mark = None;
                b"354 end with a dot\r\n"
            }
            b"QUIT" => {
                self.done = true;
                b"221 bye\r\n"
            }
            _ => b"500 unknown command\r\n",
        }
    }

    fn data(&mut self, line: &[u8], ledger: &Ledger) -> &'static [u8] {
        match line {
            b"." => {
                self.in_data = false;
                ledger.arrived(self.mark.take());
                b"250 taken\r\n"
            }
            b"" => {
                self.in_header = false;
                b""
            }
            header if self.in_header && self.mark.is_none() => {
                self.mark = ledger.recognise(header);
                b""
            }
            _ => b"",
        }
    }
}

impl Application for NextHop {
    fn poll(&mut self, now: Micros, net: &mut Net<'_>) {
        while self.desks.len() < CONNECTIONS {
            let connection = Connection::listen(net, PORT);
            self.desks.push(Desk { connection, dialogue: Dialogue::default(), heard: now });
        }
        let ledger = &self.ledger;
        serve_each(&mut self.desks, net, |desk, net| desk.serve(now, net, ledger), |desk| desk.connection);
    }
}

impl Desk {
    /// Serves what is there; false when the connection has ended.
    fn serve(&mut self, now: Micros, net: &mut Net<'_>, ledger: &Ledger) -> bool {
        self.connection.pump(net);
        if !self.dialogue.greeted {
            self.heard = now;
            if self.connection.is_established(net) {
                self.dialogue.greeted = true;
                self.connection.say(b"220 nexthop.test ESMTP\r\n");
            }
        }
        while let Some(line) = self.connection.line() {
            self.heard = now;
            let answer = self.dialogue.handle(&line, ledger);
            self.connection.say(answer);
        }
        self.connection.pump(net);
        if self.dialogue.done && self.connection.unsent() == 0 {
            self.connection.close(net);
        }
        !(self.connection.is_over(net) && self.connection.unsent() == 0)
            && now.since(self.heard) < SILENCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_for_now_when_told_so() {
        let ledger = Ledger::new("run9");
        let mut dialogue = Dialogue::default();
        ledger.set_next_hop(false);
        assert!(dialogue.handle(b"MAIL FROM:<>", &ledger).starts_with(b"451"));
        assert!(dialogue.handle(b"DATA", &ledger).starts_with(b"503"));
        ledger.set_next_hop(true);
        assert!(dialogue.handle(b"MAIL FROM:<>", &ledger).starts_with(b"250"));
    }

    #[test]
    fn recognises_its_own_marks_only() {
        let ledger = Ledger::new("run7");
        let (id, text) = ledger.open(false, "user@example.test", 400).unwrap();
        let mut dialogue = Dialogue::default();
        let text = String::from_utf8(text).unwrap();
        for _ in 0..2 {
            dialogue.handle(b"DATA", &ledger);
            let answers: Vec<_> =
                text.lines().map(|line| dialogue.handle(line.as_bytes(), &ledger)).collect();
            assert_eq!(answers.last().unwrap(), b"250 taken\r\n");
        }
        assert_eq!(ledger.book().repeated(9).first().unwrap().0, id);
        let other = Ledger::new("run8");
        assert_eq!(other.recognise(format!("X-Twinpost-Id: run7-{id}").as_bytes()), None);
    }
}
