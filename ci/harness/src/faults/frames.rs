//! Heartbeat frames that a unit must count and forget, made from real ones. Pure. The layout of a datagram is that of `wire`
//! (magic 4, version 1, link 1, group 8, unit 8, boot 16, sequence 8, sealed body, tag 16); only what is in clear text is touched
//! by name, so that this bench needs no keys.

use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, UdpPacket};
use twinpost_switch::Randomness;

/// Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;
/// Where the group begins in a datagram.
const GROUP_AT: usize = 6;
/// Longer than any heartbeat, within an Ethernet frame.
const OVERSIZED_BYTES: usize = 1400;
/// Shorter than any heartbeat.
const TRUNCATED_BYTES: usize = 40;

/// The name of each kind in a unit's counters.
pub const KINDS: [&str; 7] =
    ["truncated", "oversized", "magic", "version", "foreign-group", "forged", "replayed"];

/// The datagram of a frame, if the frame is a heartbeat in clear text.
pub fn heartbeat(frame: &[u8]) -> Option<&[u8]> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ipv4 = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let is_udp = ethernet.ethertype() == EthernetProtocol::Ipv4 && ipv4.next_header() == IpProtocol::Udp;
    let length = usize::from(UdpPacket::new_checked(ipv4.payload()).ok()?.len()).checked_sub(8)?;
    let datagram = frame.get(HEADERS..HEADERS + length)?;
    (is_udp && datagram.starts_with(b"TwHb")).then_some(datagram)
}

/// One bad frame of each of [`KINDS`] from a real heartbeat, and one frame of noise.
pub fn bad(real: &[u8], random: &mut Randomness) -> Vec<Vec<u8>> {
    let Some(datagram) = heartbeat(real) else { return Vec::new() };
    let changed = |at: usize| {
        let mut bytes = datagram.to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x55;
        }
        reframe(real, &bytes)
    };
    let oversized: Vec<u8> = datagram.iter().copied().chain(noise(random)).take(OVERSIZED_BYTES).collect();
    let garbage: Vec<u8> = noise(random).take(datagram.len()).collect();
    let unit = real.get(..12).unwrap_or_default().iter().copied();
    vec![
        reframe(real, datagram.get(..TRUNCATED_BYTES).unwrap_or_default()),
        reframe(real, &oversized),
        reframe(real, &garbage),
        changed(4),
        changed(GROUP_AT),
        changed(datagram.len() - 1),
        real.to_vec(),
        unit.chain(noise(random)).take(200).collect(),
    ]
}

/// The same frame around another datagram, with good lengths and checksums.
fn reframe(real: &[u8], datagram: &[u8]) -> Vec<u8> {
    let mut frame = real.get(..HEADERS).unwrap_or_default().to_vec();
    frame.extend_from_slice(datagram);
    let udp_bytes = u16::try_from(8 + datagram.len()).unwrap_or(u16::MAX);
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
    let mut ipv4 = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    ipv4.set_total_len(20 + udp_bytes);
    ipv4.fill_checksum();
    let (from, to) = (ipv4.src_addr().into(), ipv4.dst_addr().into());
    let mut udp = UdpPacket::new_unchecked(ipv4.payload_mut());
    udp.set_len(udp_bytes);
    udp.fill_checksum(&from, &to);
    frame
}

fn noise(random: &mut Randomness) -> impl Iterator<Item = u8> + '_ {
    std::iter::from_fn(|| Some(random.next_u64().to_le_bytes())).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use twinpost_types::{BootId, LinkId, Report, UnitId};
    use twinpost_wire::{DATAGRAM_BYTES_MAX, Keys, Session, frame};

    #[test]
    fn each_kind_is_counted_under_its_own_name() {
        let keys = Keys::derive("bench", "twinpost").unwrap();
        let mut a = Session::new(keys.clone(), UnitId(1), BootId(1), 11);
        let mut b = Session::new(keys, UnitId(2), BootId(2), 22);
        let link = LinkId::ALL[0];
        let mut real = Vec::new();
        // Until both know each other; the last frame of a is the recording.
        for round in 0..4u64 {
            let mut bytes = [0; DATAGRAM_BYTES_MAX];
            let n = b.seal(link, &Report::default(), &mut bytes);
            let _ = a.open(link, &bytes[..n], 100 + round);
            let n = a.seal(link, &Report::default(), &mut bytes);
            let _ = b.open(link, &bytes[..n], 200 + round);
            let udp = frame::Udp {
                src_mac: [2, 0, 0, 0, 0, 1],
                dst_mac: [2, 0, 0, 0, 0, 2],
                src_ip: Ipv4Addr::new(10, 0, 0, 1).into(),
                dst_ip: Ipv4Addr::new(10, 0, 0, 2).into(),
                src_port: 20000,
                dst_port: 20000,
                payload: &bytes[..n],
            };
            let mut room = [0; frame::FRAME_BYTES_MAX];
            let length = frame::build(&udp, &mut room).unwrap();
            real = room[..length].to_vec();
        }
        assert!(b.counters().accepted > 0);
        let mut random = Randomness::new(1);
        for bytes in bad(&real, &mut random) {
            if let Some(udp) = frame::parse(&bytes) {
                assert!(b.open(link, udp.payload, 300).is_err());
            }
        }
        let counted: Vec<(&str, u64)> = b.counters().dropped().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, KINDS.map(|kind| (kind, 1)));
    }
}
