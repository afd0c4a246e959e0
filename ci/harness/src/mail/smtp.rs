//! The client's side of one SMTP session (RFC 5321, with PIPELINING of RFC 2920), as a machine without clock and sockets:
//! lines in, bytes and outcomes out.

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits for the greeting.
    Greeting,
    /// EHLO sent.
    Hello,
    /// Can take a message.
    Idle,
    /// MAIL, RCPT and DATA sent; this many of the three answers are in.
    Envelope(u8),
    /// Message sent; waits for the last answer.
    Body,
    /// QUIT sent.
    Quit,
    /// Nothing more to say; close.
    Over,
}

/// What came out of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to tell.
    None,
    /// The message text shall be sent now.
    SendBody,
    /// The message is acknowledged.
    Acknowledged,
    /// The message was refused and is certainly not accepted.
    Refused,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    stage: Stage,
    out: Vec<u8>,
    refused: bool,
    messages: u32,
}

/// Messages after which a session is ended in good order: connections come and go, as in the field.
const MESSAGES_MAX: u32 = 40;

impl Session {
    /// A session on a connection that is being opened.
    #[must_use]
    pub fn new() -> Self {
        Self { stage: Stage::Greeting, out: Vec::new(), refused: false, messages: 0 }
    }

    /// Takes one line of the server.
    pub fn handle(&mut self, line: &[u8]) -> Outcome {
        if line.get(3) == Some(&b'-') {
            return Outcome::None; // more lines of the same answer follow
        }
        let class = line.first().copied().unwrap_or(b'5');
        match (self.stage, class) {
            (Stage::Greeting, b'2') => self.go(Stage::Hello, "EHLO client.test\r\n"),
            (Stage::Hello, b'2') => self.go(Stage::Idle, ""),
            (Stage::Envelope(answers), _) => return self.envelope(answers, class),
            (Stage::Body, b'2') => {
                self.next_or_quit();
                return Outcome::Acknowledged;
            }
            (Stage::Body, _) => {
                self.next_or_quit();
                return Outcome::Refused;
            }
            _ => self.go(Stage::Over, ""),
        }
        Outcome::None
    }

    /// Begins a message in stage [`Stage::Idle`].
    pub fn begin(&mut self, from: &str, to: &str) {
        debug_assert_eq!(self.stage, Stage::Idle);
        self.refused = false;
        let envelope = format!("MAIL FROM:<{from}>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
        self.go(Stage::Envelope(0), &envelope);
    }

    /// Ends the session.
    pub fn quit(&mut self) {
        self.go(Stage::Quit, "QUIT\r\n");
    }

    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Bytes to be sent, once.
    pub fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn envelope(&mut self, answers: u8, class: u8) -> Outcome {
        self.refused |= !matches!(class, b'2' | b'3');
        match (answers, class, self.refused) {
            (0 | 1, ..) => {
                self.stage = Stage::Envelope(answers + 1);
                Outcome::None
            }
            (_, b'3', false) => {
                self.stage = Stage::Body;
                Outcome::SendBody
            }
            // DATA was accepted although the recipient was not: RFC 2920 section 3.1 asks for an empty message.
            (_, b'3', true) => {
                self.out.extend_from_slice(b".\r\n");
                self.stage = Stage::Body;
                Outcome::None
            }
            _ => {
                self.next_or_quit();
                Outcome::Refused
            }
        }
    }

    fn next_or_quit(&mut self) {
        self.messages += 1;
        if self.refused || self.messages >= MESSAGES_MAX { self.quit() } else { self.stage = Stage::Idle }
    }

    fn go(&mut self, stage: Stage, say: &str) {
        self.stage = stage;
        self.out.extend_from_slice(say.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Session {
        let mut session = Session::new();
        session.handle(b"220 mx ESMTP");
        session.handle(b"250-mx");
        session.handle(b"250 PIPELINING");
        session.take_out();
        assert_eq!(session.stage(), Stage::Idle);
        session
    }

    #[test]
    fn a_message_is_acknowledged_only_by_the_last_answer() {
        let mut session = idle();
        session.begin("a@x", "b@y");
        assert_eq!(session.take_out(), b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n");
        assert_eq!(session.handle(b"250 ok"), Outcome::None);
        assert_eq!(session.handle(b"250 ok"), Outcome::None);
        assert_eq!(session.handle(b"354 go"), Outcome::SendBody);
        assert_eq!(session.handle(b"250 queued"), Outcome::Acknowledged);
        assert_eq!(session.stage(), Stage::Idle);
    }

    #[test]
    fn a_refused_recipient_is_a_refused_message() {
        let mut session = idle();
        session.begin("a@x", "b@y");
        session.take_out();
        session.handle(b"250 ok");
        session.handle(b"450 later");
        assert_eq!(session.handle(b"354 go"), Outcome::None);
        assert_eq!(session.take_out(), b".\r\n");
        assert_eq!(session.handle(b"554 no valid recipients"), Outcome::Refused);
        assert_eq!(session.stage(), Stage::Quit);
    }

    #[test]
    fn a_refused_greeting_or_nonsense_ends_the_session() {
        for line in [&b"421 busy"[..], b"", b"x", b"\xFF\xFE"] {
            let mut session = Session::new();
            assert_eq!(session.handle(line), Outcome::None);
            assert_eq!(session.stage(), Stage::Over);
        }
    }
}
