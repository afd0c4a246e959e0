//! Userspace Ethernet for the harness: learning switches and direct cables between QEMU units and in-process hosts, with
//! faults and packet captures. Needs neither tap devices nor root. It forwards frames; it knows nothing of IP.
//!
//! ```text
//!  QEMU -netdev dgram ── unix datagram ──┐                       ┌── unix datagram ── QEMU
//!                          (reader       ├─▶ Segment (pure) ─────┤
//!  in-process host ── Plug::send ────────┘   learn, faults, pcap └── channel ── Plug::recv_timeout
//!                                            └─▶ delay thread (frames held back by `delay`)
//! ```
//!
//! One reader thread a unix port, one delay thread a segment. Frames are forwarded in the thread that received them, so
//! that the switch adds microseconds. The rules (`segment`, `fault`, `pcap`) have no clock and no IO.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "an IO crate of the test bench: reads the clock to stamp and delay frames"
)]

mod fault;
mod lan;
mod pcap;
mod segment;

pub use fault::{Faults, Randomness};
pub use lan::{Lan, LanError, Plug, UnixPort};
pub use pcap::{PcapError, PcapWriter};
pub use segment::{Counters, Egress, Kind, PortId, Segment};
