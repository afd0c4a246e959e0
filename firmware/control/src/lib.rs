//! The control channel as bytes: one connection between two units on TCP port hb-base-port+1, over which requests and answers
//! of any kind travel in secret. Handshake ([`Handshake`]), sealed messages of at most 1 MiB ([`Channel`]) and what they
//! carry ([`Message`]). Pure, `no_std` with an allocator: it opens no socket, reads no clock and draws no random numbers.
//! Connections, time limits and who serves what are `had`'s. `spec/ha.md` sections 2 and 8; the Noise Protocol Framework,
//! revision 34.
//!
//! # What protects it
//!
//! `Noise_NNpsk0_25519_ChaChaPoly_SHA256`: both sides prove with their first bytes that they know a key derived from the HA
//! password ([`ControlKey`], never the password), and both add a fresh X25519 key, so recordings stay closed when the password
//! becomes known later. Each direction has its own key and counter: a replayed, reflected, cut or reordered piece does not
//! open. A replayed first message gets an answer that nobody can use; the side that answers therefore believes nobody before
//! the first sealed message has opened. Both say in the handshake who they are ([`Greeting`]), so that a unit that is
//! connected with itself notices.
//!
//! Rejected: static keys a unit (XX): they would have to be handed out and pinned, and the password is what an operator has.
//!
//! ```text
//! handshake  caller ── length (2) │ psk, e, greeting ─▶ answerer
//!            caller ◀─ length (2) │ e, ee, greeting ─── answerer
//! then       either ── length (2) │ sealed piece, at most 65535 bytes ─▶      a message is one or more pieces:
//!            first piece: kind (1) │ service (1) │ id (4) │ body length (4) │ body …      further pieces: body …
//! ```
//! Lengths in front of pieces are big-endian as is usual with Noise; all else is little-endian.
//!
//! # Example
//!
//! ```
//! use twinpost_control::{Channel, ControlKey, Greeting, Handshake, Message, PREFIX_BYTES, Service};
//! use twinpost_types::{BootId, UnitId};
//!
//! let key = || ControlKey::new([7; 32]);
//! let a = Greeting { unit: UnitId(1), boot: BootId(10) };
//! let b = Greeting { unit: UnitId(2), boot: BootId(20) };
//! let (caller, first) = Handshake::call(&key(), a, [1; 32]);
//! let (mut answerer, second, from) = Handshake::answer(&key(), b, [2; 32], &first).expect("same password");
//! let (mut caller, to) = caller.finish(&second).expect("same password");
//! assert_eq!((from, to), (a, b));
//!
//! let question = Message::request(Service::Ping, 1, b"hello".to_vec());
//! let mut bytes = Vec::new();
//! caller.seal(&question, &mut bytes).expect("small enough");
//! assert_eq!(answerer.open(&bytes[PREFIX_BYTES..]), Ok(Some(question)));
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod channel;
mod handshake;
mod message;
mod resolver;

pub use channel::{Channel, OpenError, SealError};
pub use handshake::{ControlKey, GREETING_MESSAGE_BYTES, Greeting, Handshake, HandshakeError};
pub use message::{BODY_BYTES_MAX, Kind, Message, REASON_BYTES_MAX, Service};

/// Bytes of the length in front of every piece and handshake message.
pub const PREFIX_BYTES: usize = 2;
/// Longest sealed piece, bytes (Noise, section 3).
pub const PIECE_BYTES_MAX: usize = 65535;

/// Body of the fuzz target: any bytes as handshake messages of both sides, as a sealed piece, and as the content of pieces from a
/// peer that knows the password. Must never panic, never accept a forgery, and never give out a message over its limit.
///
/// # Panics
///
/// When bytes that no unit sealed are accepted: that is the bug that fuzzing looks for.
pub fn fuzz(data: &[u8]) {
    use twinpost_types::{BootId, UnitId};
    let key = || ControlKey::new([7; 32]);
    let who = |unit| Greeting { unit: UnitId(unit), boot: BootId(9) };
    assert!(Handshake::answer(&key(), who(2), [2; 32], data).is_err(), "a forged call was answered");
    let (caller, first) = Handshake::call(&key(), who(1), [1; 32]);
    assert!(caller.finish(data).is_err(), "a forged answer was believed");
    let (caller, _) = Handshake::call(&key(), who(1), [1; 32]);
    let Ok((mut answerer, second, _)) = Handshake::answer(&key(), who(2), [2; 32], &first) else {
        unreachable!("both sides have the same key");
    };
    let Ok((mut caller, _)) = caller.finish(&second) else {
        unreachable!("both sides have the same key");
    };
    assert!(caller.open(data).is_err(), "a forged piece was opened");
    // The first byte of the rest says how long the next piece is.
    let mut rest = data;
    while let Some((length, more)) = rest.split_first() {
        let (content, more) = more.split_at(usize::from(*length).min(more.len()));
        rest = more;
        let piece = caller.sealed(content);
        match answerer.open(&piece) {
            Ok(Some(message)) => assert!(message.body.len() <= BODY_BYTES_MAX, "a message over its limit"),
            Ok(None) => {}
            Err(_) => return,
        }
    }
}
