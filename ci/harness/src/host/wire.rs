//! A switch plug as a smoltcp device. Besides carrying frames it notes who speaks for which address, and turns
//! announcements (gratuitous ARP) into the form that smoltcp learns from: smoltcp takes only ARP that is aimed at itself, while
//! a real host updates its entry from any announcement (RFC 826, RFC 5227 section 3).

use super::HostSettings;
use crate::clock::Micros;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use twinpost_switch::Plug;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Largest frame without checksum, bytes: 1500 and the header.
const FRAME_BYTES_MAX: usize = 1514;
/// Frames taken from the plug in one go, so that applications get their turn.
const BATCH_MAX: usize = 64;
/// Addresses remembered at most.
const SEEN_MAX: usize = 256;

/// Who speaks for which address.
#[derive(Debug, Default)]
pub struct Seen(HashMap<IpAddr, (Mac, Micros)>);

impl Seen {
    /// The last speaker for `ip`.
    #[must_use]
    pub fn last(&self, ip: IpAddr) -> Option<(Mac, Micros)> {
        self.0.get(&ip).copied()
    }

    fn note(&mut self, ip: IpAddr, mac: Mac) {
        if !ip.is_unspecified() && (self.0.len() < SEEN_MAX || self.0.contains_key(&ip)) {
            self.0.insert(ip, (mac, Micros::now()));
        }
    }
}

/// The device.
pub(super) struct Wire {
    plug: Plug,
    settings: HostSettings,
    seen: Arc<Mutex<Seen>>,
    arrived: VecDeque<Vec<u8>>,
}

impl Wire {
    pub(super) fn new(plug: Plug, settings: HostSettings, seen: Arc<Mutex<Seen>>) -> Self {
        Self { plug, settings, seen, arrived: VecDeque::new() }
    }

    /// Waits for a frame, at most `limit`.
    pub(super) fn wait(&mut self, limit: Duration) {
        if !self.arrived.is_empty() {
            return;
        }
        let Some(frame) = self.plug.recv_timeout(limit) else { return };
        self.take(frame);
        for _ in 1..BATCH_MAX {
            let Some(frame) = self.plug.try_recv() else { return };
            self.take(frame);
        }
    }

    fn take(&mut self, mut frame: Vec<u8>) {
        if let Some((ip, mac)) = speaker(&frame)
            && let Ok(mut seen) = self.seen.lock()
        {
            seen.note(ip, mac);
        }
        aim_announcement(&mut frame, self.settings.mac, self.settings.ip.octets());
        self.arrived.push_back(frame);
    }
}

/// Who speaks in a frame: the sender of ARP (not of a probe), the source of an IPv4 packet, the target of a neighbour
/// advertisement or solicitation's sender in IPv6 (RFC 4861).
fn speaker(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    const ICMPV6: u8 = 58;
    const ADVERTISEMENT: u8 = 136;
    let ipv4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let ipv6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    let ip = match frame.get(12..14)? {
        [8, 6] => return Some((ipv4(28)?, frame.get(22..28)?.try_into().ok()?)),
        [8, 0] => ipv4(26)?,
        [0x86, 0xdd] if frame.get(20) == Some(&ICMPV6) && frame.get(54) == Some(&ADVERTISEMENT) => ipv6(62)?,
        [0x86, 0xdd] => ipv6(22)?,
        _ => return None,
    };
    Some((ip, frame.get(6..12)?.try_into().ok()?))
}

/// Rewrites an announcement (sender = target) into a reply to this host.
fn aim_announcement(frame: &mut [u8], mac: Mac, ip: [u8; 4]) {
    if frame.len() < 42 || frame[12..14] != [8, 6] || frame[28..32] != frame[38..42] || frame[28..32] == ip {
        return;
    }
    frame[..6].copy_from_slice(&mac);
    frame[20..22].copy_from_slice(&[0, 2]);
    frame[32..38].copy_from_slice(&mac);
    frame[38..42].copy_from_slice(&ip);
}

/// A received frame on its way into the stack.
pub(super) struct Arrival(Vec<u8>);

impl RxToken for Arrival {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// The right to send one frame.
pub(super) struct Departure<'a>(&'a Plug);

impl TxToken for Departure<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.send(&frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrival;
    type TxToken<'a> = Departure<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrival, Departure<'_>)> {
        let frame = self.arrived.pop_front()?;
        Some((Arrival(frame), Departure(&self.plug)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Departure<'_>> {
        Some(Departure(&self.plug))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0xFF; 6];
        frame.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 9]);
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    }

    #[test]
    fn only_announcements_are_rewritten() {
        let (mac, ip) = ([2, 0, 0, 0, 0, 1], [192, 0, 2, 1]);
        let vip = [192, 0, 2, 10];
        let mut announcement = arp(1, vip, vip);
        aim_announcement(&mut announcement, mac, ip);
        assert_eq!(&announcement[20..22], [0, 2]);
        assert_eq!(&announcement[38..42], ip);
        assert_eq!(speaker(&announcement), Some((IpAddr::from(vip), [2, 0, 0, 0, 0, 9])));
        for other in [arp(1, [0; 4], vip), arp(1, vip, ip), arp(2, vip, ip)] {
            let mut frame = other.clone();
            aim_announcement(&mut frame, mac, ip);
            assert_eq!(frame, other);
        }
        aim_announcement(&mut [], mac, ip);
    }

    #[test]
    fn an_advertisement_speaks_for_its_target() {
        let vip = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
        let mac = [2, 0, 0, 0, 0, 9];
        let frame = twinpost_wire::ndp::announce(mac, vip);
        assert_eq!(speaker(frame.bytes()), Some((IpAddr::V6(vip), mac)));
        let (probe, _) = speaker(twinpost_wire::ndp::probe(mac, vip).bytes()).unwrap();
        assert!(probe.is_unspecified(), "noted for nobody");
    }
}
