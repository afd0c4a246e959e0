//! Properties of heartbeat sessions: round trips, damage, replays, reordering, convergence under loss, and what recordings of
//! old boots can (not) do.

use proptest::prelude::*;
use twinpost_types::{BootId, EffectiveMode, Epoch, LinkId, Report, UnitId};
use twinpost_wire::{Accepted, DATAGRAM_BYTES_MAX, Drop, Keys, Session, fuzz_open};

const A: UnitId = UnitId(0x0200_0000_0001);
const B: UnitId = UnitId(0x0200_0000_0002);
const LINK: LinkId = LinkId::ALL[0];
const OTHER_LINK: LinkId = LinkId::ALL[1];

fn keys() -> Keys {
    Keys::from_master([42; 32], "group")
}

/// A unit and its source of "random" challenges, which never repeat.
struct Unit {
    session: Session,
    entropy: u64,
}

impl Unit {
    fn boot(unit: UnitId, boot: u128) -> Self {
        let entropy = u64::try_from(boot).expect("small in tests") << 32;
        Self { session: Session::new(keys(), unit, BootId(boot), entropy), entropy }
    }

    fn send(&mut self, link: LinkId) -> Vec<u8> {
        self.send_report(link, &Report::default())
    }

    fn send_report(&mut self, link: LinkId, report: &Report) -> Vec<u8> {
        let mut bytes = [0; DATAGRAM_BYTES_MAX];
        let length = self.session.seal(link, report, &mut bytes);
        bytes[..length].to_vec()
    }

    fn hear(&mut self, link: LinkId, datagram: &[u8]) -> Result<Accepted, Drop> {
        self.entropy += 1;
        self.session.open(link, datagram, self.entropy)
    }
}

/// Two units that believe each other.
fn pair() -> (Unit, Unit) {
    let (mut a, mut b) = (Unit::boot(A, 1), Unit::boot(B, 2));
    introduce(&mut a, &mut b);
    (a, b)
}

fn introduce(a: &mut Unit, b: &mut Unit) {
    let hello = b.send(LINK);
    assert_eq!(a.hear(LINK, &hello), Err(Drop::Hello { must_answer: true }));
    let answer = a.send(LINK);
    assert!(b.hear(LINK, &answer).expect("echoes the challenge").introduced);
    let proof = b.send(LINK);
    assert!(a.hear(LINK, &proof).expect("echoes the challenge").introduced);
}

#[test]
fn a_restarted_peer_is_believed_after_one_answer() {
    let (mut a, b) = pair();
    drop(b);
    let mut b = Unit::boot(B, 3);
    assert_eq!(a.hear(LINK, &b.send(LINK)), Err(Drop::Hello { must_answer: true }));
    assert!(b.hear(LINK, &a.send(LINK)).is_ok());
    let accepted = a.hear(LINK, &b.send(LINK)).expect("proved");
    assert!(accepted.rebooted && accepted.introduced);
    assert!(!a.hear(LINK, &b.send(LINK)).expect("goes on").rebooted);
}

#[test]
fn recordings_of_an_older_boot_prove_nothing_ever_again() {
    let (mut a, mut b) = pair();
    let old: Vec<_> = (0..20).map(|_| b.send(LINK)).collect();
    let old_other: Vec<_> = (0..20).map(|_| b.send(OTHER_LINK)).collect();
    let mut b = Unit::boot(B, 3);
    introduce(&mut a, &mut b);
    for (datagram, link) in old.iter().map(|d| (d, LINK)).chain(old_other.iter().map(|d| (d, OTHER_LINK))) {
        assert_eq!(a.hear(link, datagram), Err(Drop::Replayed));
        assert_eq!(a.session.peer(), Some((B, BootId(3))));
        assert!(a.hear(LINK, &b.send(LINK)).is_ok());
    }
    // After its own restart the receiver knows no boots at all: the recordings are hellos at most.
    let mut a = Unit::boot(A, 4);
    for datagram in &old {
        assert!(matches!(a.hear(LINK, datagram), Err(Drop::Hello { .. })));
        assert_eq!(a.hear(LINK, datagram), Err(Drop::Replayed), "the same one is answered once");
    }
    assert_eq!(a.session.peer(), None);
    introduce(&mut a, &mut Unit::boot(B, 5));
}

#[test]
fn what_was_sent_before_the_introduction_is_no_news_on_any_link() {
    let mut b = Unit::boot(B, 2);
    // The peer talked for long while this unit was off; somebody recorded it.
    let recorded: Vec<_> = (0..10).map(|_| b.send(OTHER_LINK)).collect();
    let mut a = Unit::boot(A, 1);
    introduce(&mut a, &mut b);
    for datagram in &recorded {
        assert_eq!(a.hear(OTHER_LINK, datagram), Err(Drop::Replayed));
    }
    assert_eq!(a.hear(OTHER_LINK, &b.send(OTHER_LINK)).map(|accepted| accepted.missed), Ok(0));
}

#[test]
fn recordings_cannot_keep_a_live_pair_from_meeting() {
    let mut ghost = Unit::boot(B, 99);
    let (mut a, mut b) = (Unit::boot(A, 1), Unit::boot(B, 2));
    // Between any two genuine datagrams an attacker plays a recording to both sides.
    let mut met = false;
    for _ in 0..3 {
        let genuine = b.send(LINK);
        let _hello = a.hear(LINK, &genuine);
        let answer = a.send(LINK);
        let _ghost = a.hear(LINK, &ghost.send(LINK));
        let _ghost = b.hear(LINK, &ghost.send(LINK));
        met |= b.hear(LINK, &answer).is_ok();
    }
    assert!(met);
    assert!(a.hear(LINK, &b.send(LINK)).is_ok());
}

#[test]
fn a_wrong_password_and_a_foreign_group_are_told_apart() {
    let report = Report::default();
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    let mut other_password = Session::new(Keys::from_master([1; 32], "group"), B, BootId(2), 1);
    let mut other_group = Session::new(Keys::from_master([42; 32], "other"), B, BootId(2), 1);
    let mut a = Unit::boot(A, 1);
    let length = other_password.seal(LINK, &report, &mut bytes);
    assert_eq!(a.hear(LINK, &bytes[..length]), Err(Drop::Forged));
    let length = other_group.seal(LINK, &report, &mut bytes);
    assert_eq!(a.hear(LINK, &bytes[..length]), Err(Drop::ForeignGroup));
    // Both sides say so.
    assert_eq!(other_password.open(LINK, &a.send(LINK), 9), Err(Drop::Forged));
    assert_eq!(other_group.open(LINK, &a.send(LINK), 9), Err(Drop::ForeignGroup));
    assert_eq!((a.session.counters().forged, a.session.counters().foreign_group), (1, 1));
}

#[test]
fn reflections_swapped_cables_and_garbage_are_counted_by_name() {
    let (mut a, mut b) = pair();
    let own = a.send(LINK);
    assert_eq!(a.hear(LINK, &own), Err(Drop::Reflected));
    assert_eq!(a.hear(OTHER_LINK, &b.send(LINK)), Err(Drop::WrongLink));
    assert_eq!(a.hear(LINK, &[]), Err(Drop::Truncated));
    assert_eq!(a.hear(LINK, &[0; DATAGRAM_BYTES_MAX]), Err(Drop::Magic));
    assert_eq!(a.hear(LINK, &[0; DATAGRAM_BYTES_MAX + 1]), Err(Drop::Oversized));
    let mut next_version = b.send(LINK);
    next_version[4] += 1;
    assert_eq!(a.hear(LINK, &next_version), Err(Drop::Version));
    let counted: Vec<_> = a.session.counters().dropped().filter(|(_, count)| *count > 0).collect();
    let expected = ["truncated", "oversized", "magic", "version", "reflected", "wrong-link"];
    assert_eq!(counted, expected.map(|name| (name, 1)));
}

#[test]
fn derivation_depends_on_the_password_and_only_on_it_within_a_group() {
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    let mut seal = |password| {
        let keys = Keys::derive(password, "group").expect("memory");
        let mut session = Session::new(keys, B, BootId(2), 1);
        let length = session.seal(LINK, &Report::default(), &mut bytes);
        bytes[..length].to_vec()
    };
    let (first, same, other) = (seal("one"), seal("one"), seal("two"));
    assert_eq!(first, same);
    assert_eq!(first[..46], other[..46], "the cleartext header tells nothing of the password");
    assert_ne!(first, other);
}

proptest! {
    #[test]
    fn reports_arrive_as_they_were_sent(epoch: u64, revision: u64, checksum: u32, primary: bool, sequence_gap in 0_u64..50) {
        let (mut a, mut b) = pair();
        let report = Report {
            epoch: Epoch(epoch),
            config_revision: revision,
            config_checksum: checksum,
            effective: if primary { EffectiveMode::Primary } else { EffectiveMode::Secondary },
            ..Report::default()
        };
        for _ in 0..sequence_gap {
            let _lost = b.send(LINK);
        }
        let accepted = a.hear(LINK, &b.send_report(LINK, &report)).expect("valid");
        prop_assert_eq!((accepted.from, accepted.report, accepted.missed), (B, report, sequence_gap));
        prop_assert_eq!(a.session.link(LINK).missed, sequence_gap);
    }

    #[test]
    fn any_damage_is_refused_and_harms_nothing(at: prop::sample::Index, bit in 0_u8..8) {
        let (mut a, mut b) = pair();
        let good = b.send(LINK);
        let mut bad = good.clone();
        bad[at.index(good.len())] ^= 1 << bit;
        prop_assert!(a.hear(LINK, &bad).is_err());
        prop_assert!(a.hear(LINK, &good).is_ok());
    }

    #[test]
    fn bytes_that_nobody_sealed_are_never_accepted(data in prop::collection::vec(any::<u8>(), 0..700)) {
        fuzz_open(&data);
    }

    #[test]
    fn each_datagram_is_accepted_at_most_once_in_any_order(order in prop::collection::vec(0_usize..20, 0..80)) {
        let (mut a, mut b) = pair();
        let sent: Vec<_> = (0..20).map(|_| b.send(LINK)).collect();
        let mut newest = None;
        for pick in order {
            let accepted = a.hear(LINK, &sent[pick]);
            if newest.is_none_or(|newest| pick > newest) {
                prop_assert!(accepted.is_ok());
                newest = Some(pick);
            } else {
                prop_assert_eq!(accepted, Err(Drop::Replayed));
            }
        }
    }

    /// Whatever is lost, and whoever restarts meanwhile: two datagrams each way that arrive in turn are enough.
    #[test]
    fn units_meet_whatever_was_lost(steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u8..20), 0..60)) {
        let (mut a, mut b) = (Unit::boot(A, 1), Unit::boot(B, 2));
        let mut boots = 2;
        for (from_a, lost, restart) in steps {
            boots += 1;
            match restart {
                0 => a = Unit::boot(A, boots),
                1 => b = Unit::boot(B, boots),
                _ => {}
            }
            let (from, to) = if from_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
            let datagram = from.send(LINK);
            if !lost {
                let _any = to.hear(LINK, &datagram);
            }
        }
        for _ in 0..2 {
            let _any = b.hear(LINK, &a.send(LINK));
            let _any = a.hear(LINK, &b.send(LINK));
        }
        prop_assert!(b.hear(LINK, &a.send(LINK)).is_ok());
        prop_assert!(a.hear(LINK, &b.send(LINK)).is_ok());
    }
}

#[test]
fn every_truncation_is_refused() {
    let (mut a, mut b) = pair();
    let good = b.send(LINK);
    for length in 0..good.len() {
        let expected = if length < 62 { Drop::Truncated } else { Drop::Forged };
        assert_eq!(a.hear(LINK, &good[..length]), Err(expected), "{length} bytes");
    }
    assert!(a.hear(LINK, &good).is_ok());
}
