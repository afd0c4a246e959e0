//! What the two units say to each other while mail is handed over, as postcard bytes (postcard.jamesmunns.com, "wire format").
//! Pure and bounded: what does not fit is refused before it is used. The control channel authenticates and encrypts.

use super::item::{Item, Key};
use serde::{Deserialize, Serialize};

/// Version of this language; another one is refused, so that neighbouring releases notice.
pub const VERSION: u8 = 3;
/// Longest message, bytes: half of what the control channel carries.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Most keys of one offer.
pub const OFFER_MAX: usize = 4096;
/// Most pieces of one request.
pub const PIECES_MAX: usize = 1024;
/// Most items between two confirmations.
pub const UNCONFIRMED_MAX: usize = 4096;
/// Longest sentence that is sent.
const SENTENCE_BYTES_MAX: usize = 1024;

/// The loser asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A hand-over begins or begins again.
    Begin {
        /// [`VERSION`].
        version: u8,
    },
    /// Which of these messages does the primary lack?
    Offer(Vec<Key>),
    /// Which messages of its queue did the primary have when the copies parted? The next ones behind this key, in order.
    Common {
        /// `None` = from the first one.
        after: Option<Key>,
    },
    /// Recipients of such messages that the loser finished: mark them as done.
    Settle {
        /// Who is done.
        finished: Vec<Finished>,
        /// Also those whose mailbox is on the primary: every mailbox message was confirmed before.
        mailboxes: bool,
    },
    /// Parts of messages, in order. Nothing is confirmed by the answer.
    Store(Vec<Piece>),
    /// Make everything that was stored durable and take it over.
    Confirm,
    /// Nothing is left.
    Finish(Counts),
}

/// A message that both units had, and what the loser has done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Key of the message.
    pub key: Key,
    /// Who needs it no more.
    pub recipients: Recipients,
}

/// Recipients of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recipients {
    /// Every one: the message has left the loser's queue.
    All,
    /// Offset of the record in the queue file, bytes, and address: both must be those of the primary's file.
    Some(Vec<(u64, String)>),
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// What it is.
    pub item: Item,
    /// Where it begins, bytes. The first piece of a file has 0, each other one follows its predecessor.
    pub offset: u64,
    /// Length of the whole file, bytes.
    pub length: u64,
    /// The content.
    #[serde(with = "run")]
    pub bytes: Vec<u8>,
}

/// Content as one run of bytes: the same on the wire as a list of them, without a step for each.
mod run {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_bytes(Run)
    }

    struct Run;

    impl Visitor<'_> for Run {
        type Value = Vec<u8>;

        fn expecting(&self, out: &mut core::fmt::Formatter) -> core::fmt::Result {
            out.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
}

/// The primary answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To `Begin`: go on.
    Ready {
        /// The primary's epoch.
        epoch: u64,
        /// The primary, as its manifests have it.
        unit: u64,
    },
    /// To `Offer`: one answer a key, in order.
    Wanted(Vec<bool>),
    /// To `Common`: keys in order, none when there are no more.
    Common {
        /// True = the message was also on the copy that the primary took over, as far as the primary knows.
        keys: Vec<(Key, bool)>,
        /// That copy, as manifests name it ([`super::manifest::Manifest::parted`]).
        parted: Option<(u64, u64)>,
    },
    /// To `Settle`: durable now.
    Settled {
        /// Messages of which at least one recipient was marked.
        messages: u64,
        /// Recipients marked.
        recipients: u64,
    },
    /// To `Store`.
    Stored,
    /// To `Confirm`: what is durable now, with the SHA-256 of each file as the primary has it.
    Confirmed(Vec<(Key, [u8; 32])>),
    /// To `Finish`.
    Finished,
    /// Not now: ask again later.
    NotNow(String),
    /// Never: the sentence says why.
    Refused(String),
}

/// Totals of a hand-over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Queue messages found on the loser's copy.
    pub queue_found: u64,
    /// Of these, passed and confirmed by this run.
    pub queue_passed: u64,
    /// Mailbox messages found.
    pub mail_found: u64,
    /// Of these, passed and confirmed by this run.
    pub mail_passed: u64,
    /// Bytes passed.
    pub bytes: u64,
    /// Messages that both had and the loser finished for recipients for whom the primary had not.
    pub settled_messages: u64,
    /// These recipients, marked as done at the primary.
    pub settled_recipients: u64,
}

/// Bytes that are not a message of this language.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a hand-over message of {0} bytes is over the limit of {MESSAGE_BYTES_MAX}")]
    Long(usize),
    /// Not postcard, or with a rest.
    #[error("not a hand-over message")]
    Format,
    /// A name, a list or an offset that no unit sends.
    #[error("a hand-over message with {0}")]
    Content(&'static str),
}

impl Request {
    /// Bytes for the channel.
    ///
    /// # Errors
    /// It is too long.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        encode(self)
    }

    /// # Errors
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let request: Self = decode(bytes)?;
        match &request {
            Self::Begin { version } if *version != VERSION => {
                Err(MessageError::Content("another version: bring both units to the same release"))
            }
            Self::Offer(keys) if keys.len() > OFFER_MAX => Err(MessageError::Content("too many keys")),
            Self::Settle { finished, .. } if finished.len() > OFFER_MAX => {
                Err(MessageError::Content("too many messages"))
            }
            Self::Store(pieces) if pieces.len() > PIECES_MAX => Err(MessageError::Content("too many pieces")),
            Self::Store(pieces) if pieces.iter().any(|piece| !piece.item.is_valid()) => {
                Err(MessageError::Content("a name that is not allowed"))
            }
            Self::Store(pieces) if !pieces.iter().all(Piece::fits) => {
                Err(MessageError::Content("a piece beyond its file"))
            }
            _ => Ok(request),
        }
    }
}

impl Piece {
    fn fits(&self) -> bool {
        let length = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        self.offset.checked_add(length).is_some_and(|end| end <= self.length)
    }

    /// It ends its file.
    #[must_use]
    pub fn is_last(&self) -> bool {
        u64::try_from(self.bytes.len()).is_ok_and(|length| self.offset + length == self.length)
    }
}

impl Response {
    /// Bytes for the channel. Every answer fits: lists are bounded by the requests.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self).unwrap_or_else(|error| {
            let refused = Self::Refused(error.to_string());
            postcard::to_allocvec(&refused).expect("a short sentence serialises into memory")
        })
    }

    /// # Errors
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut response: Self = decode(bytes)?;
        match &mut response {
            Self::Wanted(answers) if answers.len() > OFFER_MAX => {
                return Err(MessageError::Content("too many answers"));
            }
            Self::Common { keys, .. } if keys.len() > OFFER_MAX => {
                return Err(MessageError::Content("too many keys"));
            }
            Self::NotNow(sentence) | Self::Refused(sentence) => {
                sentence.truncate(sentence.floor_char_boundary(SENTENCE_BYTES_MAX));
            }
            _ => {}
        }
        Ok(response)
    }
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let bytes = postcard::to_allocvec(message).map_err(|_| MessageError::Format)?;
    if bytes.len() > MESSAGE_BYTES_MAX { Err(MessageError::Long(bytes.len())) } else { Ok(bytes) }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MessageError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::Long(bytes.len()));
    }
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(MessageError::Format),
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::QueueFolder;
    use super::*;
    use proptest::prelude::*;

    fn piece(id: &str, offset: u64, length: u64, bytes: &[u8]) -> Piece {
        let item = Item::Queue { folder: QueueFolder::Incoming, id: id.into() };
        Piece { item, offset, length, bytes: bytes.to_vec() }
    }

    #[test]
    fn requests_and_responses_come_back() {
        let requests = [
            Request::Begin { version: VERSION },
            Request::Offer(vec![[7; 16]; 3]),
            Request::Common { after: Some([9; 16]) },
            Request::Settle {
                finished: vec![
                    Finished { key: [1; 16], recipients: Recipients::All },
                    Finished { key: [2; 16], recipients: Recipients::Some(vec![(7, "a@b".into())]) },
                ],
                mailboxes: true,
            },
            Request::Store(vec![piece("4abc", 0, 5, b"hel"), piece("4abc", 3, 5, b"lo")]),
            Request::Confirm,
            Request::Finish(Counts { queue_found: 3, ..Counts::default() }),
        ];
        for request in requests {
            assert_eq!(Request::decode(&request.encode().unwrap()), Ok(request));
        }
        let response = Response::Confirmed(vec![([1; 16], [2; 32])]);
        assert_eq!(Response::decode(&response.encode()), Ok(response));
        assert!(piece("4abc", 3, 5, b"lo").is_last() && !piece("4abc", 0, 5, b"hel").is_last());
    }

    #[test]
    fn what_no_unit_sends_is_refused() {
        let bad = [
            Request::Begin { version: VERSION + 1 },
            Request::Store(vec![piece("../x", 0, 1, b"x")]),
            Request::Store(vec![piece("4abc", 1, 1, b"x")]),
            Request::Store(vec![piece("4abc", u64::MAX, 1, b"x")]),
            Request::Offer(vec![[0; 16]; OFFER_MAX + 1]),
            Request::Settle {
                finished: vec![Finished { key: [0; 16], recipients: Recipients::All }; OFFER_MAX + 1],
                mailboxes: false,
            },
        ];
        for request in bad {
            assert!(matches!(Request::decode(&request.encode().unwrap()), Err(MessageError::Content(_))));
        }
        let long = Request::Store(vec![piece("4abc", 0, 1 << 20, &vec![0; MESSAGE_BYTES_MAX])]);
        assert!(matches!(long.encode(), Err(MessageError::Long(_))));
        let rest = [Request::Confirm.encode().unwrap(), vec![0]].concat();
        assert_eq!(Request::decode(&rest), Err(MessageError::Format), "a rest");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            if let Ok(request) = Request::decode(&bytes) {
                prop_assert!(request.encode().is_ok());
            }
            let _ = Response::decode(&bytes);
        }
    }
}
