//! What travels over the channel: a request to one service of the peer, or its answer. Only form: what a service makes of a
//! body is its own. Parsing refuses what is over its limits before anything is kept.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Longest body of a message, bytes: a batch of mail is cut to fit, and a unit never has to hold more than this of a peer's
/// unfinished message.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest reason of a refusal, bytes: one sentence for the log.
pub const REASON_BYTES_MAX: usize = 1024;
/// Kind, service, id, length.
pub(crate) const HEADER_BYTES: usize = 10;

/// What a peer can be asked for. Numbers are never used again for something else: neighbouring releases talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Is the channel alive? Answered with the same body.
    Ping = 0,
    /// Mail that the other unit does not have (`spec/ha.md` section 8).
    HandOver = 1,
    /// Public keys of the tunnels that replication runs through.
    Keys = 2,
    /// An operator's verb that concerns both units.
    Command = 3,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 4] = [Self::Ping, Self::HandOver, Self::Keys, Self::Command];

    /// The service with this number; `None` for one of another release.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Number on the wire, and index for arrays of all services.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ping => "ping",
            Self::HandOver => "hand-over of mail",
            Self::Keys => "tunnel keys",
            Self::Command => "command",
        })
    }
}

/// Request or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks.
    Request = 1,
    /// The service did it; the body is its answer.
    Done = 2,
    /// The service refused; the body is a sentence.
    Refused = 3,
    /// Nobody serves this there.
    NotServed = 4,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Request or answer.
    pub kind: Kind,
    /// Number of the service; perhaps one that only another release knows.
    pub service: u8,
    /// Chosen by who asks; the answer repeats it.
    pub id: u32,
    /// At most [`BODY_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}

impl Message {
    /// A request.
    #[must_use]
    pub fn request(service: Service, id: u32, body: Vec<u8>) -> Self {
        Self { kind: Kind::Request, service: service.number(), id, body }
    }

    /// The answer to this request.
    #[must_use]
    pub fn answer(&self, kind: Kind, body: Vec<u8>) -> Self {
        Self { kind, service: self.service, id: self.id, body }
    }

    /// The refusal of this request; the sentence is cut to its limit.
    #[must_use]
    pub fn refusal(&self, sentence: &str) -> Self {
        let end = sentence.floor_char_boundary(REASON_BYTES_MAX);
        self.answer(Kind::Refused, sentence.as_bytes()[..end].to_vec())
    }

    /// The sentence of a refusal, as far as it may be shown: control characters of a peer reach no terminal.
    #[must_use]
    pub fn reason(&self) -> String {
        let shown = self.body.get(..REASON_BYTES_MAX).unwrap_or(&self.body);
        String::from_utf8_lossy(shown).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// A message's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: Kind,
    pub service: u8,
    pub id: u32,
    pub length: usize,
}

impl Header {
    /// Of a message whose body is within its limit.
    pub(crate) fn of(message: &Message, length: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = message.kind as u8;
        bytes[1] = message.service;
        bytes[2..6].copy_from_slice(&message.id.to_le_bytes());
        bytes[6..].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// Header and what follows it; `None` when it makes no sense or announces too much.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let [kind, service, id @ .., _, _, _, _] = *header;
        let kind = [Kind::Request, Kind::Done, Kind::Refused, Kind::NotServed]
            .into_iter()
            .find(|known| *known as u8 == kind)?;
        let length = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
        let length = usize::try_from(length).ok().filter(|length| *length <= BODY_BYTES_MAX)?;
        Some((Self { kind, service, id: u32::from_le_bytes(id), length }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_of_services_stay() {
        let numbers: Vec<_> = Service::ALL.iter().map(|service| service.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert!(Service::ALL.iter().all(|service| Service::from_number(service.number()) == Some(*service)));
        assert_eq!(Service::from_number(4), None);
    }

    #[test]
    fn a_refusal_is_one_clean_sentence_within_its_limit() {
        let request = Message::request(Service::Command, 7, Vec::new());
        let refusal = request.refusal(&"ä".repeat(REASON_BYTES_MAX));
        assert_eq!((refusal.kind, refusal.id, refusal.body.len()), (Kind::Refused, 7, REASON_BYTES_MAX));
        assert_eq!(request.refusal("no\u{1b}[2Jroom\n").reason(), "no [2Jroom ");
        let bytes = request.answer(Kind::Refused, [0xff; 4096].to_vec());
        assert_eq!(bytes.reason().chars().count(), REASON_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn headers_come_back(service: u8, id: u32, length in 0..=BODY_BYTES_MAX) {
            let message = Message { kind: Kind::Done, service, id, body: Vec::new() };
            let bytes = Header::of(&message, u32::try_from(length).unwrap());
            let header = Header { kind: Kind::Done, service, id, length };
            prop_assert_eq!(Header::parse(&bytes), Some((header, &[][..])));
        }

        #[test]
        fn too_long_bodies_are_refused_at_their_header(length in BODY_BYTES_MAX as u32 + 1..) {
            let bytes = Header::of(&Message::request(Service::Ping, 1, Vec::new()), length);
            prop_assert_eq!(Header::parse(&bytes), None);
        }
    }
}
