//! Properties of the frames around heartbeats.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use twinpost_wire::DATAGRAM_BYTES_MAX;
use twinpost_wire::frame::{FRAME_BYTES_MAX, OVERHEAD_BYTES, OVERHEAD6_BYTES, Udp, build, parse};

fn udp(payload: &[u8]) -> Udp<'_> {
    Udp {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: [2, 0, 0, 0, 0, 2],
        src_ip: Ipv4Addr::new(10, 0, 0, 1).into(),
        dst_ip: Ipv4Addr::new(10, 0, 0, 2).into(),
        src_port: 20000,
        dst_port: 20000,
        payload,
    }
}

fn udp6(payload: &[u8]) -> Udp<'_> {
    let ip = |last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
    Udp { src_ip: ip(1), dst_ip: ip(2), ..udp(payload) }
}

/// The same datagram in frames of both kinds.
const KINDS: [fn(&[u8]) -> Udp<'_>; 2] = [udp, udp6];

proptest! {
    #[test]
    fn frames_are_read_as_they_were_built(payload in prop::collection::vec(any::<u8>(), 0..=DATAGRAM_BYTES_MAX)) {
        for kind in KINDS {
            let mut buf = [0xee; FRAME_BYTES_MAX];
            let length = build(&kind(&payload), &mut buf).expect("fits");
            prop_assert_eq!(parse(&buf[..length]), Some(kind(&payload)));
        }
    }

    #[test]
    fn damage_behind_the_addresses_of_the_frame_is_noticed(
        payload in prop::collection::vec(any::<u8>(), 30..100), at: prop::sample::Index, bit in 0_u8..8
    ) {
        for kind in KINDS {
            let mut buf = [0; FRAME_BYTES_MAX];
            let length = build(&kind(&payload), &mut buf).expect("fits");
            // MAC addresses have no checksum but the Ethernet one.
            let at = 12 + at.index(length - 12);
            buf[at] ^= 1 << bit;
            prop_assert_eq!(parse(&buf[..length]), None);
        }
    }

    #[test]
    fn any_bytes_are_parsed_without_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let _any = parse(&data);
        let _any = twinpost_wire::arp::parse(&data);
    }
}

#[test]
fn too_long_payloads_and_port_zero_are_not_built() {
    let mut buf = [0; FRAME_BYTES_MAX];
    assert_eq!(build(&udp(&[0; DATAGRAM_BYTES_MAX + 1]), &mut buf), None);
    assert_eq!(build(&Udp { dst_port: 0, ..udp(&[]) }, &mut buf), None);
    assert_eq!(
        build(&Udp { dst_ip: udp6(&[]).dst_ip, ..udp(&[]) }, &mut buf),
        None,
        "addresses of two kinds"
    );
}

#[test]
fn truncated_and_routed_frames_are_refused() {
    let payload = [7; 100];
    let mut buf = [0; FRAME_BYTES_MAX];
    let length = build(&udp(&payload), &mut buf).expect("fits");
    for cut in 0..length {
        assert_eq!(parse(&buf[..cut]), None, "{cut}");
    }
    assert_eq!(length, OVERHEAD_BYTES + payload.len());
    // A router takes one from the TTL and mends the checksum.
    buf[22] = 254;
    let sum = u16::from_be_bytes([buf[24], buf[25]]) + 0x0100;
    buf[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(parse(&buf[..length]), None);
}

#[test]
fn truncated_routed_and_marked_frames_with_ipv6_are_refused() {
    let payload = [7; 100];
    let mut buf = [0; FRAME_BYTES_MAX];
    let length = build(&udp6(&payload), &mut buf).expect("fits");
    assert_eq!(length, OVERHEAD6_BYTES + payload.len());
    for cut in 0..length {
        assert_eq!(parse(&buf[..cut]), None, "{cut}");
    }
    // IPv6 has no checksum of its own that a router would have to mend.
    for (at, byte) in [(21, 254), (20, 6), (15, 0x10)] {
        let mut other = buf;
        other[at] = byte;
        assert_eq!(parse(&other[..length]), None, "byte {at}");
    }
    assert!(parse(&buf[..length]).is_some());
}
