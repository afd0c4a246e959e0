//! Properties of the frames around heartbeats.

use core::net::Ipv4Addr;
use proptest::prelude::*;
use twinpost_wire::DATAGRAM_BYTES_MAX;
use twinpost_wire::frame::{FRAME_BYTES_MAX, OVERHEAD_BYTES, Udp, build, parse};

fn udp(payload: &[u8]) -> Udp<'_> {
    Udp {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: [2, 0, 0, 0, 0, 2],
        src_ip: Ipv4Addr::new(10, 0, 0, 1),
        dst_ip: Ipv4Addr::new(10, 0, 0, 2),
        src_port: 20000,
        dst_port: 20000,
        payload,
    }
}

proptest! {
    #[test]
    fn frames_are_read_as_they_were_built(payload in prop::collection::vec(any::<u8>(), 0..=DATAGRAM_BYTES_MAX)) {
        let mut buf = [0xee; FRAME_BYTES_MAX];
        let length = build(&udp(&payload), &mut buf).expect("fits");
        prop_assert_eq!(parse(&buf[..length]), Some(udp(&payload)));
    }

    #[test]
    fn damage_behind_the_addresses_of_the_frame_is_noticed(
        payload in prop::collection::vec(any::<u8>(), 30..100), at: prop::sample::Index, bit in 0_u8..8
    ) {
        let mut buf = [0; FRAME_BYTES_MAX];
        let length = build(&udp(&payload), &mut buf).expect("fits");
        // MAC addresses have no checksum but the Ethernet one.
        let at = 12 + at.index(length - 12);
        buf[at] ^= 1 << bit;
        prop_assert_eq!(parse(&buf[..length]), None);
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
