//! The forwarding rules of one switch or one direct cable. Pure: time is passed in, frames come in by [`Segment::accept`]
//! and the caller carries out the [`Egress`] it returns.
//!
//! Learning follows IEEE 802.1D clause 7: the table is bounded and aged, unknown and group addresses are flooded.

use crate::fault::{Faults, Randomness};
use std::collections::HashMap;
use std::time::Duration;

/// Learned addresses at most: sixteen times what a bench with 25 units needs.
const MACS_MAX: usize = 1024;
/// A learned address is forgotten after this long without a frame (802.1D default).
const MAC_AGE_MAX: Duration = Duration::from_secs(300);
/// Shortest frame that has both addresses and a type, bytes.
const HEADER_BYTES: usize = 14;

/// Number of a port of one segment, in the order in which ports were added.
pub type PortId = usize;

/// Switch or cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Learns addresses and forwards to where they live.
    Switch,
    /// Joins exactly two ports; whatever enters at one leaves at the other.
    Cable,
}

/// What became of frames at one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames accepted from the attached host.
    pub received: u64,
    /// Frames handed to the attached host.
    pub sent: u64,
    /// Frames dropped by a fault of this port.
    pub faulted: u64,
    /// Frames dropped because the attached host did not take them (off, or its queue full), or malformed.
    pub dropped: u64,
}

/// Where a frame goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Ports that shall get it.
    pub ports: Vec<PortId>,
    /// Hold it back this long first.
    pub delay: Duration,
}

#[derive(Default)]
struct Port {
    faults: Faults,
    counters: Counters,
}

/// One switch or cable.
pub struct Segment {
    kind: Kind,
    ports: Vec<Port>,
    table: HashMap<[u8; 6], (PortId, Duration)>,
    random: Randomness,
}

impl Segment {
    /// An empty segment whose losses are drawn from `seed`.
    #[must_use]
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, ports: Vec::new(), table: HashMap::new(), random: Randomness::new(seed) }
    }

    /// Takes a frame that the host at `port` sent at time `now` and tells where it goes.
    pub fn accept(&mut self, now: Duration, port: PortId, frame: &[u8]) -> Egress {
        let Some(ingress) = self.ports.get_mut(port) else { return Egress::default() };
        let (Some(to), Some(from)) = (mac_at(frame, 0), mac_at(frame, 6)) else {
            ingress.counters.dropped += 1;
            return Egress::default();
        };
        if frame.len() < HEADER_BYTES || ingress.faults.drops_ingress(&mut self.random) {
            ingress.counters.faulted += 1;
            return Egress::default();
        }
        ingress.counters.received += 1;
        let delay = ingress.faults.bounded_delay();
        let candidates = match self.kind {
            Kind::Cable => self.others(port),
            Kind::Switch => {
                self.learn(now, from, port);
                self.lookup(now, to, port)
            }
        };
        let ports = candidates.into_iter().filter(|port| self.passes_egress(*port)).collect();
        Egress { ports, delay }
    }

    /// Adds a port without faults.
    pub fn add_port(&mut self) -> PortId {
        self.ports.push(Port::default());
        self.ports.len() - 1
    }

    /// Changes the faults of a port; unknown ports are ignored.
    pub fn set_faults(&mut self, port: PortId, change: impl FnOnce(&mut Faults)) {
        if let Some(port) = self.ports.get_mut(port) {
            change(&mut port.faults);
        }
    }

    /// Faults of a port.
    #[must_use]
    pub fn faults(&self, port: PortId) -> Faults {
        self.ports.get(port).map(|port| port.faults).unwrap_or_default()
    }

    /// Notes whether the host at `port` took a frame.
    pub fn delivered(&mut self, port: PortId, taken: bool) {
        if let Some(port) = self.ports.get_mut(port) {
            if taken {
                port.counters.sent += 1;
            } else {
                port.counters.dropped += 1;
            }
        }
    }

    /// Takes back a `delivered`: the host did not take the frame after all.
    pub fn refused(&mut self, port: PortId) {
        if let Some(port) = self.ports.get_mut(port) {
            port.counters.sent = port.counters.sent.saturating_sub(1);
            port.counters.dropped += 1;
        }
    }

    /// Counters of a port.
    #[must_use]
    pub fn counters(&self, port: PortId) -> Counters {
        self.ports.get(port).map(|port| port.counters).unwrap_or_default()
    }

    fn learn(&mut self, now: Duration, mac: [u8; 6], port: PortId) {
        if mac[0] & 1 != 0 {
            return; // a group address is no source
        }
        if self.table.len() >= MACS_MAX && !self.table.contains_key(&mac) {
            self.table.retain(|_, (_, seen)| now.saturating_sub(*seen) < MAC_AGE_MAX);
            if self.table.len() >= MACS_MAX {
                return; // full of living addresses: this one is flooded
            }
        }
        self.table.insert(mac, (port, now));
    }

    fn lookup(&self, now: Duration, mac: [u8; 6], from: PortId) -> Vec<PortId> {
        if mac[0] & 1 == 0
            && let Some((port, seen)) = self.table.get(&mac)
            && now.saturating_sub(*seen) < MAC_AGE_MAX
        {
            return if *port == from { Vec::new() } else { vec![*port] };
        }
        self.others(from)
    }

    fn others(&self, from: PortId) -> Vec<PortId> {
        (0..self.ports.len()).filter(|port| *port != from).collect()
    }

    fn passes_egress(&mut self, port: PortId) -> bool {
        let Some(egress) = self.ports.get_mut(port) else { return false };
        let dropped = egress.faults.drops_egress(&mut self.random);
        egress.counters.faulted += u64::from(dropped);
        !dropped
    }
}

fn mac_at(frame: &[u8], at: usize) -> Option<[u8; 6]> {
    frame.get(at..at + 6)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xA];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xB];
    const ALL: [u8; 6] = [0xFF; 6];

    fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        [&to[..], &from[..], &[8, 0], &[0; 46]].concat()
    }

    fn bench(kind: Kind, ports: usize) -> Segment {
        let mut segment = Segment::new(kind, 1);
        for _ in 0..ports {
            segment.add_port();
        }
        segment
    }

    #[test]
    fn floods_until_learned_then_forwards() {
        let mut switch = bench(Kind::Switch, 3);
        let now = Duration::ZERO;
        assert_eq!(switch.accept(now, 0, &frame(B, A)).ports, [1, 2]);
        assert_eq!(switch.accept(now, 1, &frame(A, B)).ports, [0]);
        assert_eq!(switch.accept(now, 0, &frame(B, A)).ports, [1]);
        assert_eq!(switch.accept(now, 0, &frame(ALL, A)).ports, [1, 2]);
    }

    #[test]
    fn forgets_after_the_age_and_follows_a_move() {
        let mut switch = bench(Kind::Switch, 3);
        switch.accept(Duration::ZERO, 0, &frame(B, A));
        assert_eq!(switch.accept(MAC_AGE_MAX, 1, &frame(A, B)).ports, [0, 2]);
        switch.accept(MAC_AGE_MAX, 2, &frame(ALL, A));
        assert_eq!(switch.accept(MAC_AGE_MAX, 1, &frame(A, B)).ports, [2]);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut switch = bench(Kind::Switch, 2);
        for n in 0..10_000u32 {
            let mac = [2, 1, n.to_be_bytes()[0], n.to_be_bytes()[1], n.to_be_bytes()[2], n.to_be_bytes()[3]];
            switch.accept(Duration::ZERO, 0, &frame(ALL, mac));
        }
        assert_eq!(switch.table.len(), MACS_MAX);
    }

    #[test]
    fn faults_cut_mute_and_delay() {
        let mut cable = bench(Kind::Cable, 2);
        let now = Duration::ZERO;
        assert_eq!(cable.accept(now, 0, &frame(B, A)).ports, [1]);
        cable.set_faults(0, |faults| faults.mute = true);
        assert!(cable.accept(now, 0, &frame(B, A)).ports.is_empty());
        assert_eq!(cable.accept(now, 1, &frame(A, B)).ports, [0]);
        cable.set_faults(0, |faults| *faults = Faults { cut: true, ..Faults::default() });
        assert!(cable.accept(now, 0, &frame(B, A)).ports.is_empty());
        assert!(cable.accept(now, 1, &frame(A, B)).ports.is_empty());
        let delay = Duration::from_millis(40);
        cable.set_faults(0, |faults| *faults = Faults { delay, ..Faults::default() });
        assert_eq!(cable.accept(now, 0, &frame(B, A)), Egress { ports: vec![1], delay });
        assert_eq!(cable.counters(0).faulted, 3);
    }

    proptest! {
        #[test]
        fn never_sends_a_frame_back_and_never_panics(frames in prop::collection::vec((0usize..5, prop::collection::vec(any::<u8>(), 0..70)), 0..60)) {
            let mut switch = bench(Kind::Switch, 4);
            for (port, bytes) in frames {
                let egress = switch.accept(Duration::ZERO, port, &bytes);
                prop_assert!(!egress.ports.contains(&port));
                prop_assert!(egress.ports.len() <= 3);
            }
        }
    }
}
