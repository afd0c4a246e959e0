//! Health checks as bounded state machines: talks with mail and web services ([`Dialogue`]), counting of failures in a row
//! ([`Schedule`]), a queue that does not move ([`QueueWatch`]), neighbours that no longer answer ([`Reach`]), file systems that became read-only ([`read_only_mount`]). Pure: bytes
//! and times come in, bytes and verdicts with words go out. Opens no connection and decides nothing about roles.
//!
//! Follows `spec/ha.md` sections 2 and 4, and "Health checks that mean something" of `spec/mail.md`.
//!
//! ```
//! use twinpost_check::{Dialogue, Input, Outcome, Protocol, Subject};
//!
//! let mut talk = Dialogue::new(Protocol::Pop3, Subject::default());
//! for answer in ["+OK ready\r\n", "+OK\r\nUIDL\r\n.\r\n", "+OK bye\r\n"] {
//!     talk.handle(Input::Bytes(answer.as_bytes()));
//!     let _send = talk.output();
//! }
//! assert_eq!(talk.verdict().map(|verdict| verdict.outcome), Some(Outcome::Passed));
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod dialogue;
mod line;
mod mounts;
mod protocol;
mod queue;
mod reach;
mod schedule;

pub use dialogue::{Dialogue, Input, LINES_A_REPLY_MAX, SEND_BYTES_MAX, Subject, TALK_BYTES_MAX, fuzz_bytes};
pub use line::LINE_BYTES_MAX;
pub use mounts::read_only_mount;
pub use protocol::Protocol;
pub use queue::{QueueView, QueueWatch};
pub use reach::{ASK_EVERY, Reach};
pub use schedule::{Rules, Run, Schedule, State};

/// Longest reason, bytes: one line of an event log.
pub const WORDS_MAX: usize = 200;

/// A reason in words, cut at its end if it is too long.
pub type Words = heapless::String<WORDS_MAX>;

/// How one run of a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps went as they should.
    Passed,
    /// The service is well, but its volume is full (SMTP 452): not a reason to change roles, the peer has the same volume.
    Full,
    /// A step failed.
    Failed,
}

/// The end of a run, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How.
    pub outcome: Outcome,
    /// Why, for people: printable ASCII.
    pub words: Words,
}

impl Verdict {
    /// A verdict whose words are cut to their limit.
    #[must_use]
    pub fn new(outcome: Outcome, words: core::fmt::Arguments<'_>) -> Self {
        let mut cut = Cut(Words::new());
        // `Cut` takes what fits and never fails.
        let _ = core::fmt::write(&mut cut, words);
        Self { outcome, words: cut.0 }
    }
}

/// Takes as many characters as fit.
struct Cut(Words);

impl core::fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for c in text.chars() {
            if self.0.push(c).is_err() {
                break;
            }
        }
        Ok(())
    }
}
