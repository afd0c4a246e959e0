//! The two messages with which a connection begins (Noise NNpsk0). Who calls sends the first, who answers the second; both
//! carry who the sender is. No time limits and no sockets: `had`'s.

use crate::channel::Channel;
use crate::resolver::Resolver;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use snow::{Builder, HandshakeState};
use twinpost_types::{BootId, UnitId};
use zeroize::Zeroizing;

/// Protocol name; the hash of the handshake begins with it.
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// What both sides must agree on before the first byte: a later, incompatible protocol changes it.
const PROLOGUE: &[u8] = b"twinpost control v1";
/// Unit and boot.
const GREETING_BYTES: usize = 24;
/// X25519 public key and tag around the greeting: every handshake message has this many bytes.
pub const GREETING_MESSAGE_BYTES: usize = 32 + GREETING_BYTES + 16;

/// What both units know: a key derived from the HA password for this purpose alone. Wiped from memory when dropped.
#[derive(Clone)]
pub struct ControlKey(Zeroizing<[u8; 32]>);

impl ControlKey {
    /// This key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }
}

/// Who speaks. Authentic once the handshake is over and, on the answering side, the first sealed message has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The unit.
    pub unit: UnitId,
    /// Its boot.
    pub boot: BootId,
}

impl Greeting {
    fn encode(self) -> [u8; GREETING_BYTES] {
        let mut bytes = [0; GREETING_BYTES];
        bytes[..8].copy_from_slice(&self.unit.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.boot.0.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (unit, boot) = bytes.split_first_chunk::<8>()?;
        let boot = boot.try_into().ok()?;
        Some(Self { unit: UnitId(u64::from_le_bytes(*unit)), boot: BootId(u128::from_le_bytes(boot)) })
    }
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It has not the length of a handshake message.
    #[error("a handshake message has {0} bytes, not {GREETING_MESSAGE_BYTES}")]
    Length(usize),
    /// It does not open: another password, another protocol, a recording or noise.
    #[error("the other side does not know the HA password")]
    WrongKey,
    /// Both ends of the connection are the same unit.
    #[error("the connection leads back to this unit")]
    Reflected,
}

/// The calling side, between the two messages.
pub struct Handshake {
    noise: HandshakeState,
    own: UnitId,
}

impl Handshake {
    /// Begins as the calling side; `entropy` is 32 fresh random bytes. Send the bytes with their length in front.
    #[must_use]
    pub fn call(key: &ControlKey, own: Greeting, entropy: [u8; 32]) -> (Self, Vec<u8>) {
        let mut noise = builder(key, entropy)
            .build_initiator()
            .expect("the resolver has all parts of the pattern, and NN asks for no static keys");
        let first = write(&mut noise, own);
        (Self { noise, own: own.unit }, first)
    }

    /// Answers the first message of a caller; `entropy` is 32 fresh random bytes. Send the bytes back with their length in front,
    /// and believe the greeting when the first sealed message has opened.
    ///
    /// # Errors
    /// See [`HandshakeError`]; close the connection without a word then.
    pub fn answer(
        key: &ControlKey,
        own: Greeting,
        entropy: [u8; 32],
        first: &[u8],
    ) -> Result<(Channel, Vec<u8>, Greeting), HandshakeError> {
        let mut noise = builder(key, entropy)
            .build_responder()
            .expect("the resolver has all parts of the pattern, and NN asks for no static keys");
        let caller = read(&mut noise, own.unit, first)?;
        let second = write(&mut noise, own);
        Ok((finished(noise), second, caller))
    }

    /// Ends the handshake on the calling side with the answer.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn finish(mut self, second: &[u8]) -> Result<(Channel, Greeting), HandshakeError> {
        let answerer = read(&mut self.noise, self.own, second)?;
        Ok((finished(self.noise), answerer))
    }
}

fn builder(key: &ControlKey, entropy: [u8; 32]) -> Builder<'_> {
    let pattern = PATTERN.parse().expect("a constant that the tests parse");
    Builder::with_resolver(pattern, Box::new(Resolver::new(entropy)))
        .psk(0, &key.0)
        .and_then(|builder| builder.prologue(PROLOGUE))
        .expect("NNpsk0 has place 0, and each is set once")
}

fn write(noise: &mut HandshakeState, own: Greeting) -> Vec<u8> {
    let mut message = vec![0; GREETING_MESSAGE_BYTES];
    let n = noise
        .write_message(&own.encode(), &mut message)
        .expect("it is this side's turn and the buffer has the message's exact size");
    message.truncate(n);
    message
}

fn read(noise: &mut HandshakeState, own: UnitId, message: &[u8]) -> Result<Greeting, HandshakeError> {
    if message.len() != GREETING_MESSAGE_BYTES {
        return Err(HandshakeError::Length(message.len()));
    }
    let mut payload = [0; GREETING_MESSAGE_BYTES];
    let n = noise.read_message(message, &mut payload).map_err(|_| HandshakeError::WrongKey)?;
    let greeting = Greeting::decode(&payload[..n]).ok_or(HandshakeError::Length(n))?;
    if greeting.unit == own { Err(HandshakeError::Reflected) } else { Ok(greeting) }
}

fn finished(noise: HandshakeState) -> Channel {
    Channel::new(noise.into_transport_mode().expect("both messages of NN were exchanged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Greeting = Greeting { unit: UnitId(1), boot: BootId(10) };
    const B: Greeting = Greeting { unit: UnitId(2), boot: BootId(20) };

    fn key(byte: u8) -> ControlKey {
        ControlKey::new([byte; 32])
    }

    #[test]
    fn another_password_opens_nothing() {
        let (caller, first) = Handshake::call(&key(7), A, [1; 32]);
        assert_eq!(first.len(), GREETING_MESSAGE_BYTES);
        assert_eq!(Handshake::answer(&key(8), B, [2; 32], &first).err(), Some(HandshakeError::WrongKey));
        let (_, second, _) = Handshake::answer(&key(7), B, [2; 32], &first).unwrap();
        let (other, _) = Handshake::call(&key(7), A, [3; 32]);
        assert_eq!(other.finish(&second).err(), Some(HandshakeError::WrongKey), "an answer to another call");
        assert!(caller.finish(&second).is_ok());
    }

    #[test]
    fn a_unit_notices_that_it_talks_to_itself() {
        let (caller, first) = Handshake::call(&key(7), A, [1; 32]);
        assert_eq!(Handshake::answer(&key(7), A, [2; 32], &first).err(), Some(HandshakeError::Reflected));
        assert_eq!(caller.finish(&first).err(), Some(HandshakeError::WrongKey), "its own bytes sent back");
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let (_, first) = Handshake::call(&key(7), A, [1; 32]);
        for length in 0..first.len() {
            let error = Handshake::answer(&key(7), B, [2; 32], &first[..length]).err();
            assert_eq!(error, Some(HandshakeError::Length(length)));
        }
        for at in 0..first.len() {
            let mut changed = first.clone();
            changed[at] ^= 0x40;
            let error = Handshake::answer(&key(7), B, [2; 32], &changed).err();
            assert_eq!(error, Some(HandshakeError::WrongKey), "byte {at}");
        }
    }
}
