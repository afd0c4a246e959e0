//! One talk with a service: bytes in, bytes and a verdict out. Every buffer and every loop has a limit; a service that talks
//! without end, in too long lines or nonsense has failed. No sockets and no clock: the caller says when time is up.

use crate::line::{Head, LINE_BYTES_MAX, Line};
use crate::protocol::{Judged, Protocol, Step};
use crate::{Outcome, Verdict};

/// Most bytes that one command has.
pub const SEND_BYTES_MAX: usize = 512;
/// Most lines of one answer: a server's capabilities are a dozen or two.
pub const LINES_A_REPLY_MAX: u16 = 100;
/// Most bytes that a service may send in one talk.
pub const TALK_BYTES_MAX: usize = 64 * 1024;
/// Longest word of a subject: an address is a host name and a user name.
const WORD_MAX: usize = 320;

/// Who is talked to. Only printable ASCII is kept, so that nothing breaks out of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    host: heapless::String<WORD_MAX>,
    to: heapless::String<WORD_MAX>,
}

impl Subject {
    /// `host`: for SMTP the name that this side gives, for HTTP the one that is asked for. `to`: recipient of
    /// [`Protocol::SmtpOwn`], empty for none.
    #[must_use]
    pub fn new(host: &str, to: &str) -> Self {
        let word = |text: &str| {
            let graphic = text.chars().filter(|c| c.is_ascii_graphic() && !"<>".contains(*c));
            graphic.take(WORD_MAX).collect()
        };
        Self { host: word(host), to: word(to) }
    }
}

/// What happens to a talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// The service sent this.
    Bytes(&'a [u8]),
    /// The service closed the connection, or it broke.
    Closed,
    /// The time for this run is up.
    Late,
}

/// One talk.
#[derive(Clone, Debug)]
pub struct Dialogue {
    protocol: Protocol,
    subject: Subject,
    at: usize,
    line: Line,
    /// Lines of this answer so far, and bytes of the talk.
    lines: u16,
    bytes: usize,
    memory: u16,
    greeting: Head,
    out: heapless::Vec<u8, SEND_BYTES_MAX>,
    verdict: Option<Verdict>,
}

impl Dialogue {
    /// Begins; look at [`Dialogue::output`] at once, for some protocols this side speaks first.
    #[must_use]
    pub fn new(protocol: Protocol, subject: Subject) -> Self {
        let mut talk = Self {
            protocol,
            subject,
            at: 0,
            line: Line::default(),
            lines: 0,
            bytes: 0,
            memory: 0,
            greeting: Head::new(),
            out: heapless::Vec::new(),
            verdict: None,
        };
        talk.ask();
        talk
    }

    /// Takes what happened. After the verdict nothing changes it.
    pub fn handle(&mut self, input: Input<'_>) {
        match input {
            Input::Bytes(bytes) => self.take(bytes),
            Input::Closed if self.is_last() && self.at > 0 => self.pass(),
            Input::Closed if self.line.head().is_empty() => {
                self.fail(format_args!("the connection was closed"))
            }
            Input::Closed => {
                let head = Head::try_from(self.line.head()).unwrap_or_default();
                self.fail(format_args!("the connection was closed in the middle of \"{head}\""));
            }
            Input::Late => self.fail(format_args!("no answer within the limit")),
        }
    }

    /// What is to be sent now; empty when nothing is.
    pub fn output(&mut self) -> heapless::Vec<u8, SEND_BYTES_MAX> {
        core::mem::take(&mut self.out)
    }

    /// The end of the talk, once it is known.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The step that waits for its answer, for people.
    #[must_use]
    pub fn step(&self) -> &'static str {
        self.now().name
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.verdict.is_some() {
                return;
            }
            self.bytes += 1;
            if self.bytes > TALK_BYTES_MAX {
                return self.fail(format_args!("more than {TALK_BYTES_MAX} bytes of answers"));
            }
            match self.line.push(*byte) {
                None => {}
                Some(Err(_)) => self.fail(format_args!("a line of more than {LINE_BYTES_MAX} bytes")),
                Some(Ok(line)) => self.judge(&line),
            }
        }
    }

    fn judge(&mut self, line: &Head) {
        self.lines += 1;
        match (self.now().judge)(&mut self.memory, line) {
            Judged::More if self.lines >= LINES_A_REPLY_MAX => {
                self.fail(format_args!("an answer of more than {LINES_A_REPLY_MAX} lines"));
            }
            Judged::More => {}
            Judged::Bad => self.fail(format_args!("answered \"{line}\"")),
            Judged::Full => {
                let (name, step) = (self.protocol.name(), self.now().name);
                self.end(Verdict::new(
                    Outcome::Full,
                    format_args!("{name} {step}: no room on the volume, answered \"{line}\""),
                ));
            }
            Judged::Good => {
                if self.at == 0 {
                    self.greeting = line.clone();
                }
                if self.is_last() {
                    return self.pass();
                }
                self.at += 1;
                self.ask();
            }
        }
    }

    /// Sends the command of this step.
    fn ask(&mut self) {
        if self.protocol == Protocol::SmtpOwn && self.now().name == "RCPT" && self.subject.to.is_empty() {
            self.at += 1;
        }
        (self.lines, self.memory) = (0, 0);
        self.out.clear();
        let mut rest = self.now().send;
        let mut fits = true;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after.split_once('}').unwrap_or((after, ""));
            let word = if word == "to" { &self.subject.to } else { &self.subject.host };
            fits &= self.out.extend_from_slice(before.as_bytes()).is_ok();
            fits &= self.out.extend_from_slice(word.as_bytes()).is_ok();
            rest = after;
        }
        fits &= self.out.extend_from_slice(rest.as_bytes()).is_ok();
        assert!(fits, "the longest command with the longest word is below the limit, see the test");
    }

    fn pass(&mut self) {
        let name = self.protocol.name();
        let greeting = self.greeting.clone();
        self.end(Verdict::new(Outcome::Passed, format_args!("{name} answers: {greeting}")));
    }

    fn fail(&mut self, why: core::fmt::Arguments<'_>) {
        let (name, step) = (self.protocol.name(), self.now().name);
        self.end(Verdict::new(Outcome::Failed, format_args!("{name} {step}: {why}")));
    }

    fn end(&mut self, verdict: Verdict) {
        if self.verdict.is_none() {
            self.out.clear();
            self.verdict = Some(verdict);
        }
    }

    fn now(&self) -> &'static Step {
        &self.protocol.steps()[self.at]
    }

    fn is_last(&self) -> bool {
        self.at + 1 == self.protocol.steps().len()
    }
}

/// Body of the fuzz target: whatever a service sends, in whatever pieces, the talk ends within its limits, its words are
/// printable, and nothing changes a verdict. The first byte chooses the protocol, the second the size of the pieces.
///
/// # Panics
/// When one of these does not hold.
pub fn fuzz_bytes(data: &[u8]) {
    let [choice, size, rest @ ..] = data else { return };
    let protocol = Protocol::ALL[usize::from(*choice) % Protocol::ALL.len()];
    let mut talk = Dialogue::new(protocol, Subject::new("mail.example.test", "postmaster@example.test"));
    let mut sent = 0;
    let mut first = None;
    for piece in rest.chunks(usize::from(*size).max(1)) {
        sent += talk.output().len();
        talk.handle(Input::Bytes(piece));
        first = first.or_else(|| talk.verdict().cloned());
    }
    sent += talk.output().len();
    assert!(sent <= protocol.steps().len() * SEND_BYTES_MAX, "sends a command for each step at most");
    assert!(rest.len() <= TALK_BYTES_MAX || first.is_some(), "a talk has an end");
    talk.handle(Input::Closed);
    talk.handle(Input::Late);
    talk.handle(Input::Bytes(b"250 late\r\n"));
    let last = talk.verdict().expect("a closed talk has a verdict");
    assert!(first.is_none_or(|first| first == *last), "a verdict stays");
    assert!(!last.words.is_empty() && last.words.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(talk.output().is_empty(), "nothing is sent after the end");
}
