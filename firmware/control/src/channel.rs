//! A connection after its handshake: messages into sealed pieces and back. Keeps at most one unfinished message of the peer, which
//! grows only with bytes that have arrived. After any error the channel is of no more use: close the connection.

use crate::message::{BODY_BYTES_MAX, HEADER_BYTES, Header, Message};
use crate::{PIECE_BYTES_MAX, PREFIX_BYTES};
use alloc::vec;
use alloc::vec::Vec;
use snow::TransportState;

/// Poly1305 tag of a piece.
const TAG_BYTES: usize = 16;
/// Longest content of a piece.
const CONTENT_BYTES_MAX: usize = PIECE_BYTES_MAX - TAG_BYTES;

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes is over the limit of {BODY_BYTES_MAX}")]
pub struct SealError(pub usize);

/// Why a piece is refused. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was not sealed by the peer of this connection, or not as the next one.
    #[error("a piece is forged, replayed, cut or out of order")]
    Forged,
    /// It opens, but is no part of a message: unknown kind, over the limit, or of the wrong length.
    #[error("a piece makes no sense as part of a message")]
    Malformed,
}

/// Seals and opens. Two channels from one handshake belong together.
pub struct Channel {
    noise: TransportState,
    unfinished: Option<(Header, Vec<u8>)>,
}

impl Channel {
    pub(crate) fn new(noise: TransportState) -> Self {
        Self { noise, unfinished: None }
    }

    /// Appends the message as pieces with their lengths to `out`, ready to be sent.
    ///
    /// # Errors
    /// The body is over its limit; nothing was appended and the channel is as before.
    pub fn seal(&mut self, message: &Message, out: &mut Vec<u8>) -> Result<(), SealError> {
        let length = message.body.len();
        let announced =
            u32::try_from(length).ok().filter(|_| length <= BODY_BYTES_MAX).ok_or(SealError(length))?;
        let mut first = Vec::with_capacity((HEADER_BYTES + length).min(CONTENT_BYTES_MAX));
        first.extend_from_slice(&Header::of(message, announced));
        let (begin, rest) = message.body.split_at(length.min(CONTENT_BYTES_MAX - HEADER_BYTES));
        first.extend_from_slice(begin);
        self.piece(&first, out);
        rest.chunks(CONTENT_BYTES_MAX).for_each(|content| self.piece(content, out));
        Ok(())
    }

    /// Takes one piece, without its length. A message when it was the last piece of one.
    ///
    /// # Errors
    /// See [`OpenError`]: close the connection.
    pub fn open(&mut self, piece: &[u8]) -> Result<Option<Message>, OpenError> {
        let mut content = vec![0; piece.len()];
        let n = self.noise.read_message(piece, &mut content).map_err(|_| OpenError::Forged)?;
        content.truncate(n);
        let (header, body) = match self.unfinished.take() {
            None => {
                let (header, begin) = Header::parse(&content).ok_or(OpenError::Malformed)?;
                (header, begin.to_vec())
            }
            Some((header, mut body)) => {
                body.extend_from_slice(&content);
                (header, body)
            }
        };
        match body.len().cmp(&header.length) {
            core::cmp::Ordering::Greater => Err(OpenError::Malformed),
            // Only the last piece is not full: a message has a bounded number of pieces.
            core::cmp::Ordering::Less if content.len() < CONTENT_BYTES_MAX => Err(OpenError::Malformed),
            core::cmp::Ordering::Less => {
                self.unfinished = Some((header, body));
                Ok(None)
            }
            core::cmp::Ordering::Equal => {
                let Header { kind, service, id, .. } = header;
                Ok(Some(Message { kind, service, id, body }))
            }
        }
    }

    fn piece(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let sealed = self.sealed(content);
        let length = u16::try_from(sealed.len()).expect("content is at most CONTENT_BYTES_MAX");
        out.reserve(PREFIX_BYTES + sealed.len());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&sealed);
    }

    /// One piece with any content: what a peer that knows the password can send at worst.
    pub(crate) fn sealed(&mut self, content: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; content.len() + TAG_BYTES];
        let n = self
            .noise
            .write_message(content, &mut sealed)
            .expect("the content fits one piece, and 2^64 pieces are not sent");
        sealed.truncate(n);
        sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ControlKey, Greeting, Handshake, Kind, Service};
    use proptest::prelude::*;
    use twinpost_types::{BootId, UnitId};

    fn pair(entropy: u8) -> (Channel, Channel) {
        let key = ControlKey::new([7; 32]);
        let who = |unit| Greeting { unit: UnitId(unit), boot: BootId(1) };
        let (caller, first) = Handshake::call(&key, who(1), [entropy; 32]);
        let (answerer, second, _) = Handshake::answer(&key, who(2), [entropy + 1; 32], &first).unwrap();
        (caller.finish(&second).unwrap().0, answerer)
    }

    fn pieces(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() {
            let (piece, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
            pieces.push(piece.to_vec());
            bytes = rest;
        }
        pieces
    }

    fn sealed(channel: &mut Channel, message: &Message) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        channel.seal(message, &mut bytes).unwrap();
        pieces(&bytes)
    }

    #[test]
    fn messages_of_all_sizes_come_through() {
        let (mut a, mut b) = pair(1);
        let edge = CONTENT_BYTES_MAX - HEADER_BYTES;
        for size in [0, 1, edge - 1, edge, edge + 1, edge + CONTENT_BYTES_MAX, BODY_BYTES_MAX] {
            let request = Message::request(Service::HandOver, 3, vec![0xA5; size]);
            let sent = sealed(&mut a, &request);
            let (last, before) = sent.split_last().unwrap();
            assert!(before.iter().all(|piece| b.open(piece) == Ok(None)));
            assert_eq!(b.open(last), Ok(Some(request.clone())), "{size} bytes");
            let answer = request.answer(Kind::Done, vec![1]);
            let back = sealed(&mut b, &answer);
            assert_eq!(a.open(&back[0]), Ok(Some(answer)));
        }
    }

    #[test]
    fn too_large_is_refused_and_changes_nothing() {
        let (mut a, mut b) = pair(1);
        let mut bytes = Vec::new();
        let large = Message::request(Service::HandOver, 1, vec![0; BODY_BYTES_MAX + 1]);
        assert_eq!(a.seal(&large, &mut bytes), Err(SealError(BODY_BYTES_MAX + 1)));
        assert!(bytes.is_empty());
        let small = Message::request(Service::Ping, 2, vec![]);
        let sent = sealed(&mut a, &small);
        assert_eq!(b.open(&sent[0]), Ok(Some(small)));
    }

    #[test]
    fn recordings_reflections_and_cuts_do_not_open() {
        let (mut a, mut b) = pair(1);
        let first = sealed(&mut a, &Message::request(Service::Ping, 1, vec![1]));
        let second = sealed(&mut a, &Message::request(Service::Ping, 2, vec![2]));
        assert_eq!(a.open(&first[0]), Err(OpenError::Forged), "its own piece sent back");
        assert_eq!(b.open(&second[0]), Err(OpenError::Forged), "out of order");
        assert_eq!(b.open(&first[0][..first[0].len() - 1]), Err(OpenError::Forged), "cut");
        assert!(b.open(&first[0]).is_ok());
        assert_eq!(b.open(&first[0]), Err(OpenError::Forged), "twice");
        let (_, mut other) = pair(5);
        assert_eq!(other.open(&first[0]), Err(OpenError::Forged), "recorded on another connection");
    }

    #[test]
    fn a_peer_that_cannot_count_is_refused() {
        let header = |length| Header::of(&Message::request(Service::Ping, 1, vec![]), length).to_vec();
        let longer = [header(1), vec![0; 2]].concat();
        let shorter = [header(9), vec![0; 2]].concat();
        let endless = header(u32::MAX);
        let unknown = [vec![9], header(0)[1..].to_vec()].concat();
        for content in [longer, shorter, endless, unknown, vec![1; HEADER_BYTES - 1], vec![]] {
            let (mut a, mut b) = pair(1);
            let piece = a.sealed(&content);
            assert_eq!(b.open(&piece), Err(OpenError::Malformed), "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data: Vec<u8>) {
            crate::fuzz(&data);
        }

        #[test]
        fn any_message_comes_back(service: u8, id: u32, body: Vec<u8>) {
            let (mut a, mut b) = pair(1);
            let message = Message { kind: Kind::Done, service, id, body };
            let sent = sealed(&mut a, &message);
            prop_assert_eq!(b.open(&sent[0]), Ok(Some(message)));
        }
    }
}
