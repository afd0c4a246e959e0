//! What units say to each other on the heartbeat links, as bytes: sealing and opening of heartbeat datagrams
//! ([`Session`]), the Ethernet/IPv4/UDP frames around them ([`frame`]) and the packets of probes and announcements ([`arp`] for
//! IPv4, [`ndp`] for IPv6, [`neighbour`] for both). Pure, `no_std`; allocates nothing after [`Keys::derive`]. It opens no socket, reads no clock and draws no
//! random numbers: time plays no part, entropy is passed in. `spec/ha.md` section 3.
//!
//! # How replays are told from life without a clock
//!
//! Every boot of a unit has its own key, derived from the master key, the unit and the boot id; the nonce is link and
//! sequence number. Every datagram carries the sender's *challenge* (random) and the *echo* of the challenge that it
//! last heard. A boot that is not known yet is believed only when it echoes the current challenge of the receiver,
//! which then takes a fresh one: recordings of any earlier boot echo challenges that are no longer current, and can never
//! displace the live one. Within a boot, sequence numbers only grow.
//!
//! ```text
//! A (up)                                  B (boots)
//!    <── challenge b, echo nothing ──────    Hello: not proof of life, must be answered
//!    ─── challenge a, echo b ───────────>    A is alive: accepted, B takes a fresh challenge
//!    <── challenge b', echo a ───────────    B is alive: accepted, A takes a fresh challenge
//! ```
//!
//! What it cannot exclude: whoever can hold datagrams back in the cable can deliver them later, once each, in order.
//!
//! # Example
//!
//! ```
//! use twinpost_types::{BootId, LinkId, Report, UnitId};
//! use twinpost_wire::{DATAGRAM_BYTES_MAX, Drop, Keys, Session};
//!
//! let keys = Keys::derive("correct horse", "group").expect("memory");
//! let mut a = Session::new(keys.clone(), UnitId(1), BootId(10), 111);
//! let mut b = Session::new(keys, UnitId(2), BootId(20), 222);
//! let (link, mut bytes) = (LinkId::ALL[0], [0; DATAGRAM_BYTES_MAX]);
//!
//! let n = b.seal(link, &Report::default(), &mut bytes);
//! assert_eq!(a.open(link, &bytes[..n], 333), Err(Drop::Hello { must_answer: true }));
//! let n = a.seal(link, &Report::default(), &mut bytes);
//! assert!(b.open(link, &bytes[..n], 444).is_ok());
//! let n = b.seal(link, &Report::default(), &mut bytes);
//! assert_eq!(a.open(link, &bytes[..n], 555).map(|accepted| accepted.from), Ok(UnitId(2)));
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
mod counters;
mod datagram;
pub mod frame;
mod keys;
pub mod ndp;
pub mod neighbour;
mod session;

pub use counters::{Counters, Drop};
pub use datagram::DATAGRAM_BYTES_MAX;
pub use keys::{DeriveError, Keys, Purpose};
pub use session::{Accepted, LinkState, Session};

/// Body of the fuzz target: opens any bytes as a datagram and as frames. Must never panic and never accept.
///
/// # Panics
///
/// When bytes that no session sealed are accepted: that is the bug that fuzzing looks for.
pub fn fuzz_open(data: &[u8]) {
    use twinpost_types::{BootId, LinkId, UnitId};
    let mut session = Session::new(Keys::from_master([7; 32], "fuzz"), UnitId(1), BootId(1), 1);
    for link in LinkId::ALL {
        assert!(session.open(link, data, 2).is_err(), "a datagram that nobody sealed was accepted");
    }
    // A prefix that passes the cleartext checks lets the fuzzer reach the key check without guessing it.
    let mut prefixed = [0; DATAGRAM_BYTES_MAX];
    let n = datagram::fuzz_prefix(session.keys(), data, &mut prefixed);
    assert!(session.open(LinkId::ALL[0], &prefixed[..n], 2).is_err(), "a forgery was accepted");
    let _ = datagram::decode_body(data);
    let _ = frame::parse(data);
    let _ = neighbour::speaker(data);
}
