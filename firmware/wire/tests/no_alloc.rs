//! The heartbeat path allocates nothing: sealing, opening (good and bad), frames, ARP and neighbour discovery. An allocation aborts this program.

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use twinpost_types::{BootId, LinkId, Report, UnitId};
use twinpost_wire::frame::{self, FRAME_BYTES_MAX, Udp};
use twinpost_wire::{DATAGRAM_BYTES_MAX, Keys, Session, neighbour};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

#[test]
fn the_heartbeat_path_allocates_nothing() {
    let keys = Keys::derive("password", "group").expect("memory");
    let mut a = Session::new(keys.clone(), UnitId(1), BootId(1), 1);
    let mut b = Session::new(keys, UnitId(2), BootId(2), 2);
    let (mut accepted, mut spoken) = (0_u64, 0_u64);
    assert_no_alloc(|| {
        let (mut datagram, mut buf) = ([0; DATAGRAM_BYTES_MAX], [0; FRAME_BYTES_MAX]);
        for turn in 0..50_u64 {
            let (from, to) = if turn % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
            for link in LinkId::ALL {
                let length = from.seal(link, &Report::default(), &mut datagram);
                let udp = Udp {
                    src_mac: [2; 6],
                    dst_mac: [4; 6],
                    src_ip: Ipv4Addr::new(10, 0, 0, 1).into(),
                    dst_ip: Ipv4Addr::new(10, 0, 0, 2).into(),
                    src_port: 20000,
                    dst_port: 20000,
                    payload: &datagram[..length],
                };
                let length = frame::build(&udp, &mut buf).expect("fits");
                let parsed = frame::parse(&buf[..length]).expect("own frame");
                accepted += u64::from(to.open(link, parsed.payload, turn + 3).is_ok());
                let _replayed = to.open(link, parsed.payload, turn + 3);
                let _damaged = to.open(link, &parsed.payload[1..], turn + 3);
            }
            for ip in [
                IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
            ] {
                for frame in neighbour::announcements([2; 6], ip) {
                    spoken +=
                        u64::from(neighbour::speaker(frame.bytes()).is_some_and(|speaker| speaker.ip == ip));
                }
                let probe = neighbour::probe([2; 6], ip);
                assert!(neighbour::speaker(probe.bytes()).is_none());
            }
        }
    });
    assert!(accepted > 80, "{accepted}");
    assert_eq!(spoken, 50 * 3);
}
